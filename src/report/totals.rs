//! Counts of all nodes in one window, with the messages that nobody reports: those of absent nodes.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{
    frame::{Frame, Part, Sending},
    lives::{add_histogram, add_parts, add_thirds, empty_histogram, merge_histograms, ratio, sum, sum_if_all},
    quantiles::{DelaySummary, Missing},
    summary::{ClassRow, Totals},
    sustained::{self, Sustained},
};
use crate::{
    node::{ClassPlan, HistogramText, THIRDS, Turn, WindowSummary, WindowUsage},
    scenario::Protocol,
};

/// Account of one traffic class, or of several together: every intended message is sent, dropped or missed, and every
/// expected delivery is delivered or lost.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// Messages by sender; for several classes, those of all classes.
    pub(super) sendings: BTreeMap<u64, Sending>,
    /// Messages that each sender was scheduled to send in each part of the window; empty for several classes.
    pub(super) messages_by_part: BTreeMap<u64, Vec<u64>>,
    pub(super) intended: u64,
    sent: u64,
    dropped: u64,
    missed: u64,
    expected: u64,
    delivered: u64,
    lost: u64,
    /// Deliveries before the window closed.
    in_time: u64,
    late: u64,
    dropped_copies: u64,
    duplicates: u64,
    reordered: u64,
    undecided: u64,
    negative_delays: u64,
    sent_bytes: u64,
    arrived: u64,
    arrived_bytes: u64,
    /// Bytes of all expected deliveries, by the mean size; none if no size is known.
    offered_bytes: Option<f64>,
    /// Deliveries after the deadline and those that never arrived; none without a deadline.
    deadline_misses: Option<u64>,
    delays: Histogram<u64>,
    network_delays: Histogram<u64>,
    send_lags: Histogram<u64>,
    /// Deliveries that never arrived, and messages that were never sent.
    missing: Missing,
    missing_on_network: Missing,
    never_sent: Missing,
    offered_micros: [u64; THIRDS],
    arrived_micros: [u64; THIRDS],
}

impl Account {
    /// Adds up the counts of one class; problems with the nodes' data are added to `problems`.
    pub(super) fn of_class(
        class: u16,
        parts: &BTreeMap<u64, Part<'_>>,
        frame: &Frame<'_>,
        problems: &mut Vec<String>,
    ) -> Self {
        let place = usize::from(class);
        let window = |node: &u64| parts.get(node).and_then(|(windows, _)| windows.get(place).copied());
        let windows: Vec<(u64, &WindowSummary)> =
            parts.keys().filter_map(|node| Some((*node, window(node)?))).collect();
        let sum_of = |field: fn(&WindowSummary) -> u64| sum(windows.iter().map(|(_, window)| field(window)));
        let mut merged = |field: fn(&WindowSummary) -> &HistogramText| {
            merge_histograms(windows.iter().map(|(node, window)| (*node, field(window))), problems)
        };
        let (delays, network_delays, send_lags) =
            (merged(|w| &w.delay_micros), merged(|w| &w.network_delay_micros), merged(|w| &w.send_lag_micros));
        let senders = frame.senders(parts);
        let sendings: BTreeMap<u64, Sending> =
            senders.iter().map(|node| (*node, frame.sending(class, *node, window(node)))).collect();
        let of_all = |field: fn(&Sending) -> u64| sum(sendings.values().map(field));
        let intended = of_all(|one| one.intended);
        let receivers = |sender: u64| frame.traffic.receivers(class, sender);
        let expected = sum(sendings.iter().map(|(node, one)| one.intended.saturating_mul(receivers(*node))));
        // More deliveries than expected arrive only in a network whose senders do not report all messages that they
        // sent.
        let delivered = sum_of(|w| w.received);
        let lost = expected.saturating_sub(delivered);
        let messages_by_part: BTreeMap<u64, Vec<u64>> =
            senders.iter().map(|node| (*node, frame.messages_by_part(class, *node, window(node)))).collect();
        let deliveries = messages_by_part.iter().map(|(node, messages)| {
            messages.iter().map(|count| count.saturating_mul(receivers(*node))).collect::<Vec<u64>>()
        });
        let deliveries = add_parts(deliveries.collect::<Vec<_>>().iter());
        let came = add_parts(windows.iter().map(|(_, window)| &window.received_by_part));
        let missing = frame.missing(lost, &deliveries, &came);
        let missing_on_network =
            if network_delays.is_empty() && delivered > 0 { Missing::default() } else { missing.clone() };
        let sent_by_part = add_parts(windows.iter().map(|(_, window)| &window.sent_by_part));
        let never_sent = intended.saturating_sub(send_lags.len());
        let never_sent = frame.missing(never_sent, &add_parts(messages_by_part.values()), &sent_by_part);
        let plan = frame.traffic.class(class);
        let mean_size = plan.map_or(0.0, |plan| plan.message_size.mean());
        let deadline = plan.and_then(|plan| plan.deadline_millis);
        let offered = windows
            .iter()
            .map(|(node, window)| window.offered_micros.map(|micros| micros.saturating_mul(receivers(*node))));
        Self {
            intended,
            sent: of_all(|one| one.sent),
            dropped: of_all(|one| one.dropped),
            missed: of_all(|one| one.missed()),
            expected,
            delivered,
            lost,
            in_time: delivered.saturating_sub(sum_of(|w| w.received_after_end)),
            late: sum_of(|w| w.late),
            dropped_copies: sum_of(|w| w.dropped_copies),
            duplicates: sum_of(|w| w.duplicates),
            reordered: sum_of(|w| w.reordered),
            undecided: sum_of(|w| w.undecided),
            negative_delays: sum_of(|w| w.negative_delays),
            sent_bytes: sum_of(|w| w.sent_bytes),
            arrived: sum_of(|w| w.arrivals.count),
            arrived_bytes: sum_of(|w| w.arrivals.bytes),
            offered_bytes: (mean_size > 0.0).then_some(expected as f64 * mean_size),
            deadline_misses: deadline.map(|_| sum_of(|w| w.after_deadline).saturating_add(lost)),
            offered_micros: add_thirds(offered),
            arrived_micros: add_thirds(windows.iter().map(|(_, window)| window.arrived_micros)),
            sendings,
            messages_by_part,
            delays,
            network_delays,
            send_lags,
            missing,
            missing_on_network,
            never_sent,
        }
    }

    /// Account of several classes: counts are added, and distributions are merged.
    pub(super) fn of_all(classes: &[Self]) -> Self {
        let count = |field: fn(&Self) -> u64| sum(classes.iter().map(field));
        let missing = |field: fn(&Self) -> &Missing| Missing::of_all(classes.iter().map(field));
        let merged = |field: fn(&Self) -> &Histogram<u64>| {
            let mut merged = empty_histogram();
            classes.iter().for_each(|class| add_histogram(&mut merged, field(class)));
            merged
        };
        let mut sendings: BTreeMap<u64, Sending> = BTreeMap::new();
        for class in classes {
            for (node, one) in &class.sendings {
                let all = sendings.entry(*node).or_default();
                all.intended = all.intended.saturating_add(one.intended);
                all.sent = all.sent.saturating_add(one.sent);
                all.dropped = all.dropped.saturating_add(one.dropped);
            }
        }
        let some = |values: Vec<Option<u64>>| {
            let any = values.iter().any(Option::is_some);
            any.then(|| sum(values.into_iter().flatten()))
        };
        let offered: Vec<f64> = classes.iter().filter_map(|class| class.offered_bytes).collect();
        Self {
            sendings,
            messages_by_part: BTreeMap::new(),
            intended: count(|class| class.intended),
            sent: count(|class| class.sent),
            dropped: count(|class| class.dropped),
            missed: count(|class| class.missed),
            expected: count(|class| class.expected),
            delivered: count(|class| class.delivered),
            lost: count(|class| class.lost),
            in_time: count(|class| class.in_time),
            late: count(|class| class.late),
            dropped_copies: count(|class| class.dropped_copies),
            duplicates: count(|class| class.duplicates),
            reordered: count(|class| class.reordered),
            undecided: count(|class| class.undecided),
            negative_delays: count(|class| class.negative_delays),
            sent_bytes: count(|class| class.sent_bytes),
            arrived: count(|class| class.arrived),
            arrived_bytes: count(|class| class.arrived_bytes),
            offered_bytes: (!offered.is_empty()).then(|| offered.iter().sum()),
            deadline_misses: some(classes.iter().map(|class| class.deadline_misses).collect()),
            delays: merged(|class| &class.delays),
            network_delays: merged(|class| &class.network_delays),
            send_lags: merged(|class| &class.send_lags),
            missing: missing(|class| &class.missing),
            missing_on_network: missing(|class| &class.missing_on_network),
            never_sent: missing(|class| &class.never_sent),
            offered_micros: add_thirds(classes.iter().map(|class| class.offered_micros)),
            arrived_micros: add_thirds(classes.iter().map(|class| class.arrived_micros)),
        }
    }

    /// Verdict on the load.
    fn sustained(&self, frame: &Frame<'_>, window_seconds: f64, wave: u64) -> Sustained {
        let per_second = |count: f64| if window_seconds > 0.0 { count / window_seconds } else { 0.0 };
        let load = sustained::Load {
            whole: frame.planned.is_some_and(|planned| frame.passed_unix_nanos >= planned.to_unix_nanos),
            window_seconds,
            expected: self.expected,
            wave,
            dropped: self.dropped,
            dropped_copies: self.dropped_copies,
            missed: self.missed,
            missing: &self.missing,
            lost: self.lost,
            max_micros: self.delays.max(),
            drained: frame.drained,
            offered_micros: self.offered_micros,
            arrived_micros: self.arrived_micros,
            offered_bytes_per_second: self.offered_bytes.map(per_second),
            delivered_bytes_per_second: per_second(self.arrived_bytes as f64),
        };
        load.judge()
    }

    /// The row of a class.
    fn row(&self, plan: &ClassPlan, frame: &Frame<'_>, window_seconds: f64) -> ClassRow {
        let per_second = |count: f64| if window_seconds > 0.0 { count / window_seconds } else { 0.0 };
        ClassRow {
            name: plan.name.clone(),
            protocol: plan.protocol.map(|protocol| protocol.to_string()),
            after: plan.answer().and_then(|answer| frame.traffic.class(answer.class)).map(|class| class.name.clone()),
            deadline_millis: plan.deadline_millis,
            intended: self.intended,
            sent: self.sent,
            late: self.late,
            dropped: self.dropped,
            missed: self.missed,
            dropped_copies: self.dropped_copies,
            expected: self.expected,
            delivered: self.delivered,
            lost: self.lost,
            delivery_ratio: ratio(self.delivered, self.expected),
            deadline_misses: self.deadline_misses,
            backlog_at_end: self.expected.saturating_sub(self.in_time),
            sustained: self.sustained(frame, window_seconds, wave(plan, frame.traffic.num_nodes, window_seconds)),
            duplicates: self.duplicates,
            reordered: self.reordered,
            undecided: self.undecided,
            negative_delays: self.negative_delays,
            sent_bytes_per_second: per_second(self.sent_bytes as f64),
            offered_bytes_per_second: self.offered_bytes.map(per_second),
            delivered_in_window: self.arrived,
            delivered_bytes_per_second: per_second(self.arrived_bytes as f64),
            delay: DelaySummary::of(&self.delays, &self.missing),
            network_delay: DelaySummary::of(&self.network_delays, &self.missing_on_network),
            send_lag: DelaySummary::of(&self.send_lags, &self.never_sent),
            reach_1_3: None,
            reach_2_3: None,
            reach_all: None,
            round: None,
            reach: None,
            phases: vec![],
        }
    }

    fn totals(&self, frame: &Frame<'_>, window_seconds: f64, usages: &[WindowUsage]) -> Totals {
        let per_second = |count: f64| if window_seconds > 0.0 { count / window_seconds } else { 0.0 };
        // An empty sum is -0.0.
        let cpu_seconds = usages.iter().map(|usage| usage.cpu_seconds).sum::<f64>() + 0.0;
        let socket_bytes = sum_if_all(usages.iter().map(|usage| usage.socket_bytes_sent));
        Totals {
            window_seconds,
            intended: self.intended,
            sent: self.sent,
            late: self.late,
            dropped: self.dropped,
            missed: self.missed,
            dropped_copies: self.dropped_copies,
            expected: self.expected,
            delivered: self.delivered,
            lost: self.lost,
            delivery_ratio: ratio(self.delivered, self.expected),
            deadline_misses: self.deadline_misses,
            backlog_at_end: self.expected.saturating_sub(self.in_time),
            sustained: self.sustained(frame, window_seconds, 0),
            duplicates: self.duplicates,
            reordered: self.reordered,
            undecided: self.undecided,
            negative_delays: self.negative_delays,
            sent_per_second: per_second(self.sent as f64),
            sent_bytes_per_second: per_second(self.sent_bytes as f64),
            offered_bytes_per_second: self.offered_bytes.map(per_second),
            delivered_in_window: self.arrived,
            delivered_bytes_per_second: per_second(self.arrived_bytes as f64),
            delay: DelaySummary::of(&self.delays, &self.missing),
            network_delay: DelaySummary::of(&self.network_delays, &self.missing_on_network),
            send_lag: DelaySummary::of(&self.send_lags, &self.never_sent),
            cpu_seconds: Some(cpu_seconds),
            cpu_seconds_per_million_deliveries: (self.arrived > 0).then(|| cpu_seconds * 1e6 / self.arrived as f64),
            socket_bytes_per_delivered_byte: socket_bytes.and_then(|bytes| ratio(bytes, self.arrived_bytes)),
            gossip_copies_per_delivery: None,
            reach_1_3: None,
            reach_2_3: None,
            reach_all: None,
            reach: None,
        }
    }
}

/// Accounts of a window: of each class, and of all together.
pub(super) struct Accounts {
    pub(super) classes: Vec<Account>,
    pub(super) all: Account,
}

impl Accounts {
    /// Adds up the counts of the nodes in a window; problems with their data are added to `problems`.
    pub(super) fn new(parts: &BTreeMap<u64, Part<'_>>, frame: &Frame<'_>, problems: &mut Vec<String>) -> Self {
        let classes: Vec<Account> =
            frame.traffic.numbered().map(|(number, _)| Account::of_class(number, parts, frame, problems)).collect();
        let all = Account::of_all(&classes);
        Self { classes, all }
    }

    /// Deliveries over gossipsub while the window was open.
    fn gossip_arrivals(&self, frame: &Frame<'_>) -> u64 {
        let classes = frame.traffic.classes.iter().zip(&self.classes);
        let gossips = |plan: &ClassPlan| matches!(plan.protocol, None | Some(Protocol::Gossipsub));
        classes.filter(|(plan, _)| gossips(plan)).map(|(_, class)| class.arrived).sum()
    }

    /// A row for each class.
    pub(super) fn rows(&self, frame: &Frame<'_>, window_seconds: f64) -> Vec<ClassRow> {
        let classes = frame.traffic.classes.iter().zip(&self.classes);
        classes.map(|(plan, account)| account.row(plan, frame, window_seconds)).collect()
    }

    /// Result of all classes together; the load of several classes is sustained if that of each is.
    pub(super) fn totals(&self, parts: &BTreeMap<u64, Part<'_>>, frame: &Frame<'_>, window_seconds: f64) -> Totals {
        let usages: Vec<WindowUsage> = parts.values().map(|(_, usage)| *usage).collect();
        let mut totals = self.all.totals(frame, window_seconds, &usages);
        if self.classes.len() > 1 {
            let named = frame.traffic.classes.iter().zip(&self.classes);
            let verdicts = named.map(|(plan, class)| {
                (
                    plan.name.as_str(),
                    class.sustained(frame, window_seconds, wave(plan, frame.traffic.num_nodes, window_seconds)),
                )
            });
            totals.sustained = Sustained::of_all(verdicts, totals.sustained.backlog_by_third);
        }
        let copies = sum_if_all(usages.iter().map(|usage| usage.gossip_copies));
        totals.gossip_copies_per_delivery = copies.and_then(|copies| ratio(copies, self.gossip_arrivals(frame)));
        totals
    }
}

/// Number of beats of a schedule from which its backlog can be compared by thirds of a window: three for each third.
const ENOUGH_BEATS: f64 = 9.0;

/// Deliveries that begin at one instant and say nothing of a backlog: those of all answers to one message, or of one beat of a
/// schedule with so few beats that their delays differ by chance.
fn wave(plan: &ClassPlan, num_nodes: u64, window_seconds: f64) -> u64 {
    if let Some(schedule) = plan.schedule()
        && window_seconds * 1e9 >= ENOUGH_BEATS * schedule.heartbeat_nanos as f64
    {
        return 0;
    }
    let senders = match plan.senders() {
        Turn::RoundRobin { .. } => 1,
        senders => senders.count(num_nodes),
    };
    senders.saturating_mul(plan.burst()).saturating_mul(num_nodes.saturating_sub(1))
}
