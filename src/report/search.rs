//! Search for the highest load that meets objectives: bracket, bisect, repeat.
//!
//! A network has no knee of its own: only an objective makes a load too high (N. Gunther, "Guerrilla Capacity
//! Planning", 2007). The load is doubled until it fails and halved until it holds, then the ratio of the two is halved
//! until it is within the precision. The two last loads are repeated, and the majority of its runs decides for a load.
//! The next step is a pure function of the results so far, so that a search can be continued.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cause::{CauseKind, Effect},
    layout::empty_table,
    quantiles::DelaySummary,
    summary::{NodeRow, RunSummary},
    units::{NONE, bytes, time},
};
use crate::scenario::LinkPlan;

/// Version of [`Search`]'s JSON; raised when a field changes its meaning or is removed.
pub const SEARCH_SCHEMA_VERSION: u32 = 1;

/// Share of a link's throughput from which it limits the load. Headers take 6 % of it, and are not counted here.
const LINK_FULL: f64 = 0.8;

/// Share of the delay's 99th percentile that the sender itself may cause before it counts as starved.
const LAG_SHARE: f64 = 0.5;

/// Load that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Messages of each sender in a second.
    Rate,
    /// Bytes of a message.
    Size,
}

/// Part of the system that gave way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// The limited throughput of a node's interface.
    Link,
    /// The processors of the machine, taken by the nodes and the runner themselves.
    Processor,
    /// The senders, which did not keep their schedule though processors were free: the network is not to blame.
    Generator,
    /// A queue to a peer, of the sender or of a node that forwards.
    Queue,
    /// Other programs on the machine, or its hypervisor: the trial shows nothing of the network.
    Machine,
    /// The run was invalid.
    Invalid,
    /// Nothing that was measured explains it.
    Unknown,
}

/// A limit with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// Part that gave way.
    pub limit: LimitKind,
    /// Measured facts that show it, in one line.
    pub evidence: String,
}

/// A trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchTrial {
    /// Folder of the run, in the folder of the search.
    pub folder: String,
    /// Load, in the unit of the axis; of several classes, as a multiple of the scenario's own.
    pub load: f64,
    /// True if the run is valid and met all objectives.
    pub holds: bool,
    /// True if other programs disturbed it: it is repeated, and does not count.
    pub disturbed: bool,
    /// Objectives that it missed.
    pub missed: Vec<String>,
    /// Delivered divided by expected deliveries.
    pub delivery_ratio: Option<f64>,
    /// Median of the delay, in microseconds; none if it is unknown or lies among values that never arrived.
    pub delay_p50_micros: Option<u64>,
    /// 99th percentile of the delay.
    pub delay_p99_micros: Option<u64>,
    /// 99th percentile of the time until all of the weight had a message.
    pub reach_all_p99_micros: Option<u64>,
    /// Bytes delivered in a second, over all receivers.
    pub delivered_bytes_per_second: f64,
    /// Parts that gave way, the most likely first; empty for a trial that holds.
    pub limits: Vec<Limit>,
}

/// Result of a search: `search.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Search {
    /// [`SEARCH_SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Load that was varied.
    pub axis: Axis,
    /// Unit of the load, for people.
    pub unit: String,
    /// Objectives.
    pub objectives: Vec<String>,
    /// Ratio of the two ends of the interval at which the search ends, as a percentage above 1.
    pub precision_percent: f64,
    /// Highest load that holds; none if even the lowest fails.
    pub holds: Option<f64>,
    /// Lowest load that fails; none if even the highest holds.
    pub fails: Option<f64>,
    /// True if the search ended: the interval is as narrow as requested, or at an end of the permitted loads.
    pub done: bool,
    /// Parts that gave way at the lowest load that fails.
    pub limits: Vec<Limit>,
    /// All trials, in their order.
    pub trials: Vec<SearchTrial>,
}

/// Loads that a search may try, and its effort.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchRange {
    /// First load.
    pub start: f64,
    /// Lowest load.
    pub least: f64,
    /// Highest load.
    pub most: f64,
    /// Ratio of the two ends of the interval at which the search ends: 1.05 for 5 %.
    pub ratio: f64,
    /// Runs of each end of the interval.
    pub runs: usize,
    /// Maximum number of trials.
    pub trials: usize,
}

/// Next step of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SearchStep {
    /// Run a trial at this load.
    Try(f64),
    /// The search has ended with these ends of the interval.
    Done(Option<f64>, Option<f64>),
    /// The trials were not enough.
    Exhausted(Option<f64>, Option<f64>),
}

/// Verdicts of one load.
#[derive(Clone, Copy, Debug)]
struct Tally {
    load: f64,
    holds: usize,
    fails: usize,
}

impl SearchRange {
    /// Next step after these results, each a load and whether it held.
    pub fn next(&self, results: &[(f64, bool)]) -> SearchStep {
        let mut tallies: Vec<Tally> = vec![];
        for (load, holds) in results {
            let (own, other) = (usize::from(*holds), usize::from(!*holds));
            match tallies.iter_mut().find(|tally| tally.load == *load) {
                Some(tally) => (tally.holds, tally.fails) = (tally.holds + own, tally.fails + other),
                None => tallies.push(Tally { load: *load, holds: own, fails: other }),
            }
        }
        // A load that held in half of its runs is not one that holds.
        let failing = tallies.iter().filter(|tally| tally.fails >= tally.holds);
        let fails = failing.min_by(|one, other| one.load.total_cmp(&other.load)).copied();
        let below = |tally: &&Tally| tally.holds > tally.fails && fails.is_none_or(|fails| tally.load < fails.load);
        let holds = tallies.iter().filter(below).max_by(|one, other| one.load.total_cmp(&other.load)).copied();
        let ends = (holds.map(|tally| tally.load), fails.map(|tally| tally.load));
        if results.len() >= self.trials {
            return SearchStep::Exhausted(ends.0, ends.1);
        }
        let try_or_repeat = |load: f64, known: Option<Tally>| match known {
            Some(tally) if tally.load == load => self.repeat(&[known]).unwrap_or(SearchStep::Done(ends.0, ends.1)),
            _ => SearchStep::Try(load),
        };
        match (holds, fails) {
            (None, None) => SearchStep::Try(self.start.clamp(self.least, self.most)),
            (Some(held), None) => try_or_repeat((held.load * 2.0).min(self.most), holds),
            (None, Some(failed)) => try_or_repeat((failed.load / 2.0).max(self.least), fails),
            (Some(held), Some(failed)) if failed.load / held.load > self.ratio => {
                SearchStep::Try((held.load * failed.load).sqrt())
            }
            (Some(_), Some(_)) => self.repeat(&[holds, fails]).unwrap_or(SearchStep::Done(ends.0, ends.1)),
        }
    }

    /// Repetition of the end of the interval with the fewest runs, until each has enough.
    fn repeat(&self, ends: &[Option<Tally>]) -> Option<SearchStep> {
        let fewest = ends.iter().flatten().min_by_key(|tally| tally.holds + tally.fails)?;
        (fewest.holds + fewest.fails < self.runs).then_some(SearchStep::Try(fewest.load))
    }
}

/// Largest share of its throughput that an interface used, with the node and the direction.
fn busiest_link(nodes: &[NodeRow], links: &LinkPlan, seconds: f64) -> Option<(f64, String)> {
    let used = nodes.iter().flat_map(|node| {
        let share = |count: Option<u64>, limit: Option<u64>, direction: &str| {
            let (count, limit) = (count?, limit?);
            let share = count as f64 / seconds / (limit as f64 * 1000.0);
            let rate = bytes(count as f64 / seconds);
            Some((share, format!("node {} {direction} {rate}/s of {limit} KB/s ({:.0} %)", node.node, share * 100.0)))
        };
        [
            share(node.socket_bytes_sent, links.upload(node.node), "sent"),
            share(node.socket_bytes_received, links.download(node.node), "received"),
        ]
    });
    used.flatten().max_by(|one, other| one.0.total_cmp(&other.0))
}

/// Parts that gave way in a trial that failed, the most likely first.
pub fn limits(run: &RunSummary, links: &LinkPlan) -> Vec<Limit> {
    let mut all = vec![];
    let mut add = |limit, evidence: String| all.push(Limit { limit, evidence });
    if !run.verdict.valid {
        add(LimitKind::Invalid, run.verdict.reasons.join("; "));
    }
    for machine in run.processor_use.iter().filter(|machine| machine.is_disturbed()) {
        add(
            LimitKind::Machine,
            format!("other programs had {:.2} of {:.0} processors", machine.others, machine.processors),
        );
    }
    let Some(totals) = &run.totals else { return all };
    if let Some((share, line)) = busiest_link(&run.nodes, links, totals.window_seconds)
        && share >= LINK_FULL
    {
        add(LimitKind::Link, line);
    }
    let full = run.processor_use.iter().find(|machine| machine.is_full());
    if let Some(machine) = full {
        let line = format!("the nodes and the runner had {:.2} of {:.0} processors", machine.own, machine.processors);
        add(LimitKind::Processor, line);
    }
    let p99 = |delay: &DelaySummary| {
        delay.quantile(0.99).map_or(0, |p99| p99.value_micros.or(p99.at_least_micros).unwrap_or(0))
    };
    let (lag, delay) = (p99(&totals.send_lag), p99(&totals.delay));
    let lags = lag as f64 > LAG_SHARE * delay as f64 && lag > 1000;
    if totals.missed > 0 || lags {
        let line = format!(
            "{} of {} messages were never sent; the send lag has p99 {}, the delay {}",
            totals.missed,
            totals.intended,
            time(Some(lag)),
            time(Some(delay))
        );
        add(LimitKind::Generator, line);
    }
    let queues = run.causes.iter().filter(|cause| {
        cause.effect == Effect::Lost && matches!(cause.cause, CauseKind::Forwarding | CauseKind::Sending)
    });
    queues.for_each(|cause| add(LimitKind::Queue, cause.evidence.clone()));
    let dropped = totals.dropped.saturating_add(totals.dropped_copies);
    if dropped > 0 {
        add(LimitKind::Queue, format!("the senders' own queues dropped {dropped} messages and copies"));
    }
    if all.is_empty() {
        let evidence = "no link, processor, sender or queue was at its limit".into();
        all.push(Limit { limit: LimitKind::Unknown, evidence });
    }
    all
}

impl SearchTrial {
    /// A trial at this load.
    pub fn of(folder: String, load: f64, run: &RunSummary, links: &LinkPlan) -> Self {
        let holds = run.verdict.valid && run.meets_objectives();
        let totals = run.totals.as_ref();
        let missed = run.objectives.iter().filter(|row| !row.passed);
        Self {
            folder,
            load,
            holds,
            disturbed: run.is_disturbed(),
            missed: missed.map(|row| format!("{}: it is {}", row.objective, row.shown)).collect(),
            delivery_ratio: totals.and_then(|totals| totals.delivery_ratio),
            delay_p50_micros: totals.and_then(|totals| totals.delay.p50_micros),
            delay_p99_micros: totals.and_then(|totals| totals.delay.p99_micros),
            reach_all_p99_micros: totals.and_then(|totals| totals.reach_all.as_ref()?.p99_micros),
            delivered_bytes_per_second: totals.map_or(0.0, |totals| totals.delivered_bytes_per_second),
            limits: if holds { vec![] } else { limits(run, links) },
        }
    }
}

/// Width of the bars of the plot, in characters.
const BAR: usize = 24;

/// A bar whose length follows the logarithm of a time between 100 us and 100 s.
fn bar(micros: Option<u64>) -> String {
    let Some(micros) = micros else { return format!("{} never", "█".repeat(BAR)) };
    let part = ((micros.max(100) as f64 / 100.0).log10() / 6.0).clamp(0.0, 1.0);
    "█".repeat(((part * BAR as f64).round() as usize).max(1))
}

/// Name of a limit for people.
pub(super) fn limit_name(limit: LimitKind) -> &'static str {
    match limit {
        LimitKind::Link => "link",
        LimitKind::Processor => "processor",
        LimitKind::Generator => "generator",
        LimitKind::Queue => "queue",
        LimitKind::Machine => "other programs",
        LimitKind::Invalid => "invalid run",
        LimitKind::Unknown => "unknown",
    }
}

/// Load for people.
pub(super) fn load_text(axis: Axis, load: f64) -> String {
    match axis {
        Axis::Rate if load < 10.0 => format!("{load:.3}"),
        Axis::Rate => format!("{load:.1}"),
        Axis::Size => format!("{load:.0}"),
    }
}

/// All trials by load, a plot of the delay against the load, and the interval with its limits.
pub fn search_table(search: &Search) -> String {
    let mut table = empty_table();
    table.set_header([search.unit.as_str(), "result", "delivery", "delay p99", "throughput", "delay p99, logarithmic"]);
    let mut trials: Vec<&SearchTrial> = search.trials.iter().collect();
    trials.sort_by(|one, other| one.load.total_cmp(&other.load));
    for trial in trials {
        let result = match (trial.disturbed, trial.holds) {
            (true, _) => "disturbed".to_owned(),
            (false, true) => "holds".to_owned(),
            (false, false) => {
                let first = trial.limits.first().map_or("unknown", |limit| limit_name(limit.limit));
                format!("fails ({first})")
            }
        };
        table.add_row([
            load_text(search.axis, trial.load),
            result,
            trial.delivery_ratio.map_or_else(|| NONE.into(), |ratio| format!("{ratio:.6}")),
            time(trial.delay_p99_micros),
            format!("{}/s", bytes(trial.delivered_bytes_per_second)),
            bar(trial.delay_p99_micros),
        ]);
    }
    let unit = &search.unit;
    let at = |load: f64| format!("{} {unit}", load_text(search.axis, load));
    let end = if search.done { "" } else { "; the search ended before the interval was as narrow as requested" };
    let line = match (search.holds, search.fails) {
        (Some(holds), Some(fails)) => format!("It holds {}, and fails {}{end}.", at(holds), at(fails)),
        (Some(holds), None) => format!("It holds {}, the highest load of the search{end}.", at(holds)),
        (None, Some(fails)) => format!("It fails {}, the lowest load of the search{end}.", at(fails)),
        (None, None) => "No trial has a result.".into(),
    };
    let mut text = format!("{table}\n{line}\n");
    for limit in &search.limits {
        text.push_str(&format!("gave way: {}: {}\n", limit_name(limit.limit), limit.evidence));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGE: SearchRange =
        SearchRange { start: 10.0, least: 1.0, most: 10_000.0, ratio: 1.05, runs: 3, trials: 60 };

    /// Searches a network that holds loads up to `limit`.
    fn search(range: SearchRange, limit: f64) -> (SearchStep, Vec<(f64, bool)>) {
        let mut results = vec![];
        loop {
            match range.next(&results) {
                SearchStep::Try(load) => results.push((load, load <= limit)),
                end => return (end, results),
            }
        }
    }

    proptest! {
        #[test]
        fn the_interval_contains_the_limit_and_is_as_narrow_as_requested(limit in 1.0..9_999.0_f64, start in 1.0..10_000.0_f64) {
            let (end, results) = search(SearchRange { start, ..RANGE }, limit);
            let SearchStep::Done(Some(holds), Some(fails)) = end else { panic!("{end:?}") };
            prop_assert!(holds <= limit && limit < fails && fails / holds <= RANGE.ratio);
            for end in [holds, fails] {
                prop_assert_eq!(results.iter().filter(|(load, _)| *load == end).count(), RANGE.runs);
            }
        }

        #[test]
        fn a_search_ends_even_if_results_are_random(verdicts in prop::collection::vec(any::<bool>(), 60)) {
            let mut results: Vec<(f64, bool)> = vec![];
            for verdict in verdicts {
                let SearchStep::Try(load) = RANGE.next(&results) else { return Ok(()) };
                prop_assert!((RANGE.least..=RANGE.most).contains(&load));
                results.push((load, verdict));
            }
            prop_assert!(!matches!(RANGE.next(&results), SearchStep::Try(_)));
        }
    }

    #[test]
    fn a_search_ends_at_the_ends_of_its_range() {
        assert_eq!(search(RANGE, 1e9).0, SearchStep::Done(Some(10_000.0), None));
        assert_eq!(search(RANGE, 0.0).0, SearchStep::Done(None, Some(1.0)));
    }

    #[test]
    fn a_load_that_holds_by_luck_is_found_out_by_its_repetitions() {
        // 99 held once and failed once, and fails the third time.
        let results = [(95.0, true), (95.0, true), (95.0, true), (99.0, true), (103.0, false), (99.0, false)];
        assert!(matches!(RANGE.next(&results), SearchStep::Try(load) if (load - 99.0).abs() < 1e-9));
        let more = [&results[..], &[(99.0, false)]].concat();
        assert_eq!(RANGE.next(&more), SearchStep::Done(Some(95.0), Some(99.0)));
    }
}
