//! Sum of a node's lives, and the sums that all merging consists of. The counts come from other programs, so no sum may
//! overflow.

use std::{borrow::Cow, collections::BTreeMap};

use hdrhistogram::Histogram;

use crate::{
    metrics::Usage,
    node::{
        ArrivalSummary, ClassSummary, HistogramText, NodeSummary, PhaseSender, PhaseSummary, THIRDS, WINDOW_PARTS,
        WindowSummary, WindowUsage,
    },
};

/// A sum that saturates at the largest number.
pub(super) fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// The same sum; none if one of the counts is none.
pub(super) fn sum_if_all(counts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    counts.into_iter().try_fold(0, |sum: u64, count| Some(sum.saturating_add(count?)))
}

pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

pub(super) fn add_all(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (key, count) in from {
        let sum = into.entry(key.clone()).or_default();
        *sum = u64::saturating_add(*sum, *count);
    }
}

/// Problem text for a histogram of a node that can't be read.
pub(super) fn unreadable(node: u64, error: &str) -> String {
    format!("a histogram of node {node} can't be read: {error}")
}

#[allow(clippy::expect_used, reason = "3 significant digits are always a valid precision")]
pub(super) fn empty_histogram() -> Histogram<u64> {
    Histogram::new(3).expect("precision")
}

/// Adds another histogram's values; they always fit, because a histogram grows to every u64.
pub(super) fn add_histogram(histogram: &mut Histogram<u64>, other: &Histogram<u64>) {
    let _ = histogram.add(other);
}

pub(super) fn merge_histograms<'a>(
    texts: impl Iterator<Item = (u64, &'a HistogramText)>,
    problems: &mut Vec<String>,
) -> Histogram<u64> {
    let mut merged = empty_histogram();
    for (node, text) in texts {
        match text.decode() {
            Ok(histogram) => {
                if let Err(error) = merged.add(histogram) {
                    problems.push(unreadable(node, &error.to_string()));
                }
            }
            Err(error) => problems.push(unreadable(node, &error)),
        }
    }
    merged
}

/// Joins several counted windows into one, with their histograms.
pub(super) fn join_windows(windows: &[&WindowSummary], node: u64, problems: &mut Vec<String>) -> WindowSummary {
    let sum = |field: fn(&WindowSummary) -> u64| sum(windows.iter().map(|window| field(window)));
    let parts = |field: fn(&WindowSummary) -> &Vec<u64>| add_parts(windows.iter().map(|window| field(window)));
    let thirds = |field: fn(&WindowSummary) -> [u64; THIRDS]| add_thirds(windows.iter().map(|window| field(window)));
    let mut histogram = |field: fn(&WindowSummary) -> &HistogramText| {
        HistogramText::encode(&merge_histograms(windows.iter().map(|window| (node, field(window))), problems))
    };
    WindowSummary {
        intended: sum(|w| w.intended),
        sent: sum(|w| w.sent),
        dropped: sum(|w| w.dropped),
        dropped_copies: sum(|w| w.dropped_copies),
        late: sum(|w| w.late),
        sent_bytes: sum(|w| w.sent_bytes),
        received: sum(|w| w.received),
        received_bytes: sum(|w| w.received_bytes),
        received_after_end: sum(|w| w.received_after_end),
        arrivals: ArrivalSummary { count: sum(|w| w.arrivals.count), bytes: sum(|w| w.arrivals.bytes) },
        received_by_part: parts(|w| &w.received_by_part),
        sent_by_part: parts(|w| &w.sent_by_part),
        offered_micros: thirds(|w| w.offered_micros),
        arrived_micros: thirds(|w| w.arrived_micros),
        duplicates: sum(|w| w.duplicates),
        reordered: sum(|w| w.reordered),
        undecided: sum(|w| w.undecided),
        negative_delays: sum(|w| w.negative_delays),
        after_deadline: sum(|w| w.after_deadline),
        delay_micros: histogram(|w| &w.delay_micros),
        network_delay_micros: histogram(|w| &w.network_delay_micros),
        send_lag_micros: histogram(|w| &w.send_lag_micros),
    }
}

/// Sums of counts by part of the window. A list that is too long is cut, because it came from another program.
pub(super) fn add_parts<'a>(lists: impl Iterator<Item = &'a Vec<u64>>) -> Vec<u64> {
    let mut sums = vec![];
    for list in lists {
        let length = list.len().min(WINDOW_PARTS);
        if sums.len() < length {
            sums.resize(length, 0_u64);
        }
        for (sum, count) in sums.iter_mut().zip(list) {
            *sum = sum.saturating_add(*count);
        }
    }
    sums
}

/// Sums of times by third of the window.
pub(super) fn add_thirds(lists: impl Iterator<Item = [u64; THIRDS]>) -> [u64; THIRDS] {
    lists.fold([0; THIRDS], |sums, list| std::array::from_fn(|third| sums[third].saturating_add(list[third])))
}

/// True if two summaries cut the window into the same phases.
pub(super) fn same_phases(one: &[PhaseSummary], other: &[PhaseSummary]) -> bool {
    let spans = |phases: &[PhaseSummary]| -> Vec<(u64, u64)> {
        phases.iter().map(|phase| (phase.from_unix_nanos, phase.to_unix_nanos)).collect()
    };
    spans(one) == spans(other)
}

/// Joins the same phase of several lives. The list of lives is not empty.
fn join_phase(lives: &[&PhaseSummary], node: u64, problems: &mut Vec<String>) -> PhaseSummary {
    let Some(first) = lives.first() else { return PhaseSummary::default() };
    let count = |field: fn(&PhaseSummary) -> u64| sum(lives.iter().map(|phase| field(phase)));
    let texts: Vec<_> = lives.iter().map(|phase| &phase.delay_micros).filter(|text| !text.is_empty()).collect();
    let delay_micros = match texts.as_slice() {
        [] => HistogramText::default(),
        [text] => (*text).clone(),
        texts => HistogramText::encode(&merge_histograms(texts.iter().map(|text| (node, *text)), problems)),
    };
    let mut by_sender: BTreeMap<u64, PhaseSender> = BTreeMap::new();
    for heard in lives.iter().flat_map(|phase| &phase.by_sender) {
        let sender =
            by_sender.entry(heard.sender).or_insert(PhaseSender { sender: heard.sender, ..Default::default() });
        sender.received = sender.received.saturating_add(heard.received);
        sender.received_after_end = sender.received_after_end.saturating_add(heard.received_after_end);
    }
    PhaseSummary {
        from_unix_nanos: first.from_unix_nanos,
        to_unix_nanos: first.to_unix_nanos,
        intended: count(|phase| phase.intended),
        sent: count(|phase| phase.sent),
        dropped: count(|phase| phase.dropped),
        received: count(|phase| phase.received),
        received_after_end: count(|phase| phase.received_after_end),
        delay_micros,
        by_sender: by_sender.into_values().collect(),
    }
}

/// Joins the phases of several lives, if they cut the window in the same way.
fn join_phases(lives: &[&[PhaseSummary]], node: u64, problems: &mut Vec<String>) -> Vec<PhaseSummary> {
    let first = lives.first().copied().unwrap_or_default();
    // Different phases are left out here, and then do not add up to the window.
    let alike: Vec<_> = lives.iter().filter(|phases| same_phases(phases, first)).collect();
    (0..first.len())
        .map(|number| {
            let lives: Vec<_> = alike.iter().filter_map(|phases| phases.get(number)).collect();
            join_phase(&lives, node, problems)
        })
        .collect()
}

/// Joins the same class of several lives.
fn join_class(lives: &[&ClassSummary], node: u64, problems: &mut Vec<String>) -> ClassSummary {
    let windows = |field: fn(&ClassSummary) -> &WindowSummary| lives.iter().map(|life| field(life)).collect::<Vec<_>>();
    let phases: Vec<&[PhaseSummary]> = lives.iter().map(|life| life.phases.as_slice()).collect();
    ClassSummary {
        name: lives.first().map(|life| life.name.clone()).unwrap_or_default(),
        measured: join_windows(&windows(|life| &life.measured), node, problems),
        outside: join_windows(&windows(|life| &life.outside), node, problems),
        phases: join_phases(&phases, node, problems),
        pending: lives.last().map_or(0, |life| life.pending),
    }
}

fn join_usage(lives: &[&NodeSummary]) -> Option<WindowUsage> {
    // A life that ended before the window opened used nothing in it.
    let used: Vec<WindowUsage> = lives.iter().filter_map(|life| life.window_usage).collect();
    (!used.is_empty()).then(|| WindowUsage {
        cpu_seconds: used.iter().map(|usage| usage.cpu_seconds).sum(),
        socket_bytes_sent: sum_if_all(used.iter().map(|usage| usage.socket_bytes_sent)),
        socket_bytes_received: sum_if_all(used.iter().map(|usage| usage.socket_bytes_received)),
        gossip_copies: sum_if_all(used.iter().map(|usage| usage.gossip_copies)),
    })
}

/// Joins the lives of a node. Fields that the result does not contain (`pending`, `senders`) come from the last life.
fn join_node(lives: &[&NodeSummary], last: &NodeSummary, problems: &mut Vec<String>) -> NodeSummary {
    let node = last.node;
    // A life that never received its start did not count by the window of the run.
    let started: Vec<&NodeSummary> = lives.iter().copied().filter(|life| life.start.is_some()).collect();
    let counted = if started.is_empty() { vec![last] } else { started };
    let windows =
        |field: fn(&NodeSummary) -> &WindowSummary| counted.iter().map(|life| field(life)).collect::<Vec<_>>();
    let of_lives: Vec<&[PhaseSummary]> = counted.iter().map(|life| life.phases.as_slice()).collect();
    let phases = join_phases(&of_lives, node, problems);
    // A report with another number of classes was refused.
    let classes = (0..counted.iter().map(|life| life.classes.len()).min().unwrap_or(0))
        .map(|number| {
            let lives: Vec<&ClassSummary> = counted.iter().filter_map(|life| life.classes.get(number)).collect();
            join_class(&lives, node, problems)
        })
        .collect();
    let labels = |field: fn(&NodeSummary) -> &BTreeMap<String, u64>| {
        let mut all = BTreeMap::new();
        lives.iter().for_each(|life| add_all(&mut all, field(life)));
        all
    };
    NodeSummary {
        measured: join_windows(&windows(|life| &life.measured), node, problems),
        outside: join_windows(&windows(|life| &life.outside), node, problems),
        phases,
        classes,
        start: counted.first().and_then(|life| life.start.clone()),
        trials: counted.iter().flat_map(|life| life.trials.clone()).collect(),
        window_usage: join_usage(&counted),
        usage: Usage {
            cpu_seconds: lives.iter().map(|life| life.usage.cpu_seconds).sum(),
            peak_memory_bytes: lives.iter().map(|life| life.usage.peak_memory_bytes).max().unwrap_or_default(),
        },
        dropped: labels(|life| &life.dropped),
        malformed: labels(|life| &life.malformed),
        events: labels(|life| &life.events),
        ..last.clone()
    }
}

/// Nodes by id, each once: the lives of a restarted node are added up.
pub(super) fn join_lives<'a>(
    nodes: impl Iterator<Item = &'a NodeSummary>,
    problems: &mut Vec<String>,
) -> Vec<Cow<'a, NodeSummary>> {
    let mut by_id: BTreeMap<u64, Vec<&'a NodeSummary>> = BTreeMap::new();
    for node in nodes {
        by_id.entry(node.node).or_default().push(node);
    }
    by_id
        .into_values()
        .filter_map(|lives| match lives.as_slice() {
            [] => None,
            [only] => Some(Cow::Borrowed(*only)),
            [.., last] => Some(Cow::Owned(join_node(&lives, last, problems))),
        })
        .collect()
}
