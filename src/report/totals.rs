//! The counts of all nodes in one window, with the messages that nobody reports: those of nodes that were away.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{
    lives::{add_parts, add_thirds, merge_histograms, sum, sum_if_all},
    merge::ratio,
    observed::PlannedWindow,
    quantiles::{DelaySummary, Missing},
    summary::Totals,
    sustained,
};
use crate::node::{HistogramText, WINDOW_PARTS, WindowSummary, WindowUsage};

/// A node's counts and usage of one window.
pub(super) type Part<'a> = (&'a WindowSummary, WindowUsage);

/// A window, and how much of it passed.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    pub(super) num_nodes: u64,
    /// The schedule and the window as they were planned; none if the start was never given.
    pub(super) planned: Option<&'a PlannedWindow>,
    /// End of the part of the window that passed, in nanoseconds since the Unix epoch.
    pub(super) passed_unix_nanos: u64,
    /// When the run stopped to wait for messages, in nanoseconds since the Unix epoch.
    pub(super) observed_unix_nanos: u64,
    /// The wait for late messages was as long as it was to be.
    pub(super) drained: bool,
    /// Whole message, in bytes, if all have one size.
    pub(super) message_size: Option<usize>,
}

/// The messages of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    pub(super) intended: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

impl Sending {
    /// Messages that are intended by the schedule or by the node's own word, and those that it sent or dropped. The three
    /// kinds add up whatever the node reports.
    pub(super) fn new(scheduled: u64, intended: u64, sent: u64, dropped: u64) -> Self {
        let intended = intended.max(scheduled).max(sent);
        Self { intended, sent, dropped: dropped.min(intended - sent) }
    }

    pub(super) fn missed(self) -> u64 {
        self.intended - self.sent - self.dropped
    }
}

impl Frame<'_> {
    pub(super) fn receivers(&self) -> u64 {
        self.num_nodes.saturating_sub(1)
    }

    /// Messages that a node was to send from `from` to `to`, as far as that time passed; 0 where nothing is planned.
    pub(super) fn scheduled(&self, node: u64, from: u64, to: u64) -> u64 {
        self.planned.map_or(0, |planned| planned.plan.count(node, from, to.min(self.passed_unix_nanos)))
    }

    /// The messages of a node in the whole window.
    pub(super) fn sending(&self, node: u64, window: Option<&WindowSummary>) -> Sending {
        let scheduled =
            self.planned.map_or(0, |planned| self.scheduled(node, planned.from_unix_nanos, planned.to_unix_nanos));
        let (intended, sent, dropped) = window.map_or((0, 0, 0), |w| (w.intended, w.sent, w.dropped));
        Sending::new(scheduled, intended, sent, dropped)
    }

    /// Ids of the nodes that may have sent: those that were heard, and, once there was a start, all.
    fn senders(&self, parts: &BTreeMap<u64, Part<'_>>) -> Vec<u64> {
        let all = self.planned.map_or(0, |planned| planned.plan.num_nodes.min(self.num_nodes));
        (0..all).chain(parts.keys().copied().filter(|node| *node >= all)).collect()
    }

    /// Microseconds from a time to the end of the observation.
    pub(super) fn age_micros(&self, time: u64) -> u64 {
        self.observed_unix_nanos.saturating_sub(time) / 1000
    }

    /// Missing values by age: `scheduled` less `came` of each part of the window.
    fn missing(&self, total: u64, scheduled: impl Fn(u64, u64) -> u64, came: &[u64]) -> Missing {
        let Some(planned) = self.planned.filter(|_| total > 0) else { return Missing::new(total, []) };
        let length = u128::from(planned.to_unix_nanos.saturating_sub(planned.from_unix_nanos));
        let edge = |part: usize| planned.from_unix_nanos + (length * part as u128 / WINDOW_PARTS as u128) as u64;
        let ages = (0..WINDOW_PARTS).map(|part| {
            let (from, to) = (edge(part), edge(part + 1));
            let missing = scheduled(from, to).saturating_sub(came.get(part).copied().unwrap_or(0));
            (self.age_micros(to), missing)
        });
        Missing::new(total, ages)
    }

    /// Delays of deliveries to a node, or to all: `total` of them never came, those of `senders` to `receivers` each.
    pub(super) fn missing_deliveries(&self, total: u64, senders: &[u64], receivers: u64, came: &[u64]) -> Missing {
        let scheduled = |from, to| {
            let messages = sum(senders.iter().map(|node| self.scheduled(*node, from, to)));
            messages.saturating_mul(receivers)
        };
        self.missing(total, scheduled, came)
    }

    /// Lags of messages of `senders` that were never sent.
    pub(super) fn missing_messages(&self, total: u64, senders: &[u64], came: &[u64]) -> Missing {
        self.missing_deliveries(total, senders, 1, came)
    }
}

/// Adds up what the nodes counted in a window; problems with their data are added to `problems`.
pub(super) fn totals(
    parts: &BTreeMap<u64, Part<'_>>,
    frame: &Frame<'_>,
    window_seconds: f64,
    problems: &mut Vec<String>,
) -> Totals {
    let sum_of = |field: fn(&WindowSummary) -> u64| sum(parts.values().map(|(window, _)| field(window)));
    let mut merged = |field: fn(&WindowSummary) -> &HistogramText| -> Histogram<u64> {
        merge_histograms(parts.iter().map(|(node, (window, _))| (*node, field(window))), problems)
    };
    let (delays, network_delays, send_lags) =
        (merged(|w| &w.delay_micros), merged(|w| &w.network_delay_micros), merged(|w| &w.send_lag_micros));
    let senders = frame.senders(parts);
    let sendings: Vec<Sending> =
        senders.iter().map(|node| frame.sending(*node, parts.get(node).map(|(window, _)| *window))).collect();
    let of_all = |field: fn(&Sending) -> u64| sum(sendings.iter().map(field));
    let (intended, sent, dropped) = (of_all(|one| one.intended), of_all(|one| one.sent), of_all(|one| one.dropped));
    let missed = of_all(|one| one.missed());
    let receivers = frame.receivers();
    let expected = intended.saturating_mul(receivers);
    // More than expected came only of a network whose senders do not report all that they sent.
    let delivered = sum_of(|w| w.received);
    let lost = expected.saturating_sub(delivered);
    let came = add_parts(parts.values().map(|(window, _)| &window.received_by_part));
    let missing = frame.missing_deliveries(lost, &senders, receivers, &came);
    let on_network = if network_delays.is_empty() && delivered > 0 { Missing::default() } else { missing.clone() };
    let sent_by_part = add_parts(parts.values().map(|(window, _)| &window.sent_by_part));
    let never_sent = frame.missing_messages(intended.saturating_sub(send_lags.len()), &senders, &sent_by_part);
    let in_time = delivered.saturating_sub(sum_of(|w| w.received_after_end));
    let per_second = |count: u64| if window_seconds > 0.0 { count as f64 / window_seconds } else { 0.0 };
    let (arrived, arrived_bytes) = (sum_of(|w| w.arrivals.count), sum_of(|w| w.arrivals.bytes));
    let offered_bytes_per_second = frame.message_size.map(|size| per_second(expected.saturating_mul(size as u64)));
    let dropped_copies = sum_of(|w| w.dropped_copies);
    let sustained = sustained::Load {
        whole: frame.planned.is_some_and(|planned| frame.passed_unix_nanos >= planned.to_unix_nanos),
        window_seconds,
        expected,
        dropped,
        dropped_copies,
        missed,
        missing: &missing,
        lost,
        max_micros: delays.max(),
        drained: frame.drained,
        offered_micros: add_thirds(parts.values().map(|(window, _)| window.offered_micros))
            .map(|micros| micros.saturating_mul(receivers)),
        arrived_micros: add_thirds(parts.values().map(|(window, _)| window.arrived_micros)),
        offered_bytes_per_second,
        delivered_bytes_per_second: per_second(arrived_bytes),
    };
    // A sum of nothing is -0.0.
    let cpu_seconds = parts.values().map(|(_, usage)| usage.cpu_seconds).sum::<f64>() + 0.0;
    let socket_bytes = sum_if_all(parts.values().map(|(_, usage)| usage.socket_bytes_sent));
    Totals {
        window_seconds,
        intended,
        sent,
        late: sum_of(|w| w.late),
        dropped,
        missed,
        dropped_copies,
        expected,
        delivered,
        lost,
        delivery_ratio: ratio(delivered, expected),
        backlog_at_end: expected.saturating_sub(in_time),
        sustained: sustained.judge(),
        duplicates: sum_of(|w| w.duplicates),
        reordered: sum_of(|w| w.reordered),
        undecided: sum_of(|w| w.undecided),
        negative_delays: sum_of(|w| w.negative_delays),
        sent_per_second: per_second(sent),
        sent_bytes_per_second: per_second(sum_of(|w| w.sent_bytes)),
        offered_bytes_per_second,
        delivered_in_window: arrived,
        delivered_bytes_per_second: per_second(arrived_bytes),
        delay: DelaySummary::of(&delays, &missing),
        network_delay: DelaySummary::of(&network_delays, &on_network),
        send_lag: DelaySummary::of(&send_lags, &never_sent),
        cpu_seconds,
        cpu_seconds_per_million_deliveries: (arrived > 0).then(|| cpu_seconds * 1e6 / arrived as f64),
        socket_bytes_per_delivered_byte: socket_bytes.and_then(|bytes| ratio(bytes, arrived_bytes)),
    }
}
