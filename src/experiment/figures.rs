//! Figures during a run: for the terminal, the time series, and the live page.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{live_view::NodeStatuses, state::Experiment};
use crate::{
    clock::timestamp,
    live::{NodeState, Sample},
    node::{Load, NodeSummary},
    report::{Trials, merge_trials, trial_line},
};

/// A line of `timeseries.jsonl`.
#[derive(Serialize)]
struct Point<'a> {
    time: String,
    phase: &'a str,
    intended: u64,
    sent: u64,
    expected: u64,
    delivered: u64,
    pending: u64,
    delay_p99_micros: Option<u64>,
    /// Messages sent in the measured window or trial, by node.
    sent_by_node: BTreeMap<u64, u64>,
    /// Deliveries in the measured window or trial, by node.
    delivered_by_node: BTreeMap<u64, u64>,
}

impl Experiment<'_> {
    /// Writes a point of the time series, and returns it as a line.
    pub(super) fn tell(&mut self, phase: &str) -> String {
        let mut delays = Histogram::<u64>::new(3).ok();
        let mut p99_of = BTreeMap::new();
        for node in self.latest.values() {
            if let (Some(delays), Ok(histogram)) = (&mut delays, node.measured.delay_micros.decode()) {
                if !histogram.is_empty() {
                    p99_of.insert(node.node, histogram.value_at_quantile(0.99));
                }
                // A histogram that does not fit is reported at the end, when all are merged.
                let _ = delays.add(histogram);
            }
        }
        let nodes = self.node_lines(&p99_of);
        if let Some(feed) = self.progress.feed() {
            feed.sample(Sample { latest: &self.latest, nodes, delays: delays.as_ref() });
        }
        let p99 = delays.filter(|delays| !delays.is_empty()).map(|delays| delays.value_at_quantile(0.99));
        let by_node =
            |field: fn(&NodeSummary) -> u64| self.latest.iter().map(|(id, node)| (*id, field(node))).collect();
        let point = Point {
            time: timestamp().to_string(),
            phase,
            intended: self.sum(|node| node.measured.intended),
            sent: self.sum(|node| node.measured.sent),
            expected: self.expected(),
            delivered: self.sum(|node| node.measured.received),
            pending: self.sum(|node| node.pending),
            delay_p99_micros: p99,
            sent_by_node: by_node(|node| node.measured.sent),
            delivered_by_node: by_node(|node| node.measured.received),
        };
        if let Err(error) = self.plan.folder.append_json(&self.plan.folder.time_series(), &point) {
            self.progress.line(&format!("warning: {error}"));
        }
        let delivery = match point.expected {
            0 => "-".to_owned(),
            expected => format!("{:.2} %", 100.0 * point.delivered as f64 / expected as f64),
        };
        let p99 = p99.map_or_else(|| "-".to_owned(), |micros| format!("{:.2} ms", micros as f64 / 1000.0));
        format!("sent {}, delivered {} ({delivery}), p99 {p99}", point.sent, point.delivered)
    }

    /// Row of each node for the live page.
    pub(super) fn node_lines(&self, p99_of: &BTreeMap<u64, u64>) -> Vec<NodeState> {
        let Self { clients, latest, answered, faults, .. } = self;
        NodeStatuses { clients, latest, answered, faults }.lines(p99_of)
    }

    pub(super) fn show_faults(&mut self) {
        let nodes = self.node_lines(&BTreeMap::new());
        if let Some(feed) = self.progress.feed() {
            feed.faults(self.faults.rows(), nodes);
        }
    }

    /// Writes and shows the trials that every node has finished since the last call.
    pub(super) fn tell_trials(&mut self) {
        if self.latest.len() < self.clients.len() {
            return;
        }
        let Load::Explore { broadcaster, .. } = self.plan.workload.load else { return };
        let nodes: Vec<&NodeSummary> = self.latest.values().collect();
        let trials = merge_trials(&nodes, Trials { num_nodes: self.plan.num_nodes, broadcaster }, &mut vec![]);
        if trials.len() == self.trials_told {
            return;
        }
        for trial in trials.iter().skip(self.trials_told) {
            if let Err(error) = self.plan.folder.append_json(&self.plan.folder.trials(), trial) {
                self.progress.line(&format!("warning: {error}"));
            }
            self.progress.line(&trial_line(trial));
        }
        self.trials_told = trials.len();
        if let Some(feed) = self.progress.feed() {
            feed.trials(&trials);
        }
    }
}
