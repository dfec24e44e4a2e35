//! Figures during a run: for the terminal, the time series, and the live page.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{live_view::NodeStatuses, state::Experiment};
use crate::{
    clock::timestamp,
    live::{NodeState, Sample},
    node::{Load, NodeSummary, StartOrder},
    report::{TimeSeriesPoint, Trials, merge_trials, trial_line},
};

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
        let recent = self.delays_since_last_point(delays.as_ref());
        let recent = |quantile| recent.as_ref().map(|recent| recent.value_at_quantile(quantile));
        let p99 = delays.filter(|delays| !delays.is_empty()).map(|delays| delays.value_at_quantile(0.99));
        let by_node =
            |field: fn(&NodeSummary) -> u64| self.latest.iter().map(|(id, node)| (*id, field(node))).collect();
        let point = TimeSeriesPoint {
            time: timestamp().to_string(),
            phase: phase.to_owned(),
            intended: self.sum(|node| node.measured.intended),
            sent: self.sum(|node| node.measured.sent),
            expected: self.expected(),
            delivered: self.sum(|node| node.measured.received),
            pending: self.sum(|node| node.pending),
            delay_p99_micros: p99,
            recent_p50_micros: recent(0.5),
            recent_p99_micros: recent(0.99),
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

    /// Delays of the deliveries since the last call, which had `delays` in part; none without any, and if some counts
    /// began again: with another trial, or another life of a node.
    fn delays_since_last_point(&mut self, delays: Option<&Histogram<u64>>) -> Option<Histogram<u64>> {
        let earlier = std::mem::replace(&mut self.earlier_delays, delays.cloned());
        let mut recent = delays?.clone();
        recent.subtract(earlier?).ok()?;
        (!recent.is_empty()).then_some(recent)
    }

    /// Row of each node for the live page.
    pub(super) fn node_lines(&self, p99_of: &BTreeMap<u64, u64>) -> Vec<NodeState> {
        let Self { clients, latest, answered, faults, .. } = self;
        let start = self.order.as_ref().map(|order| (order.start_unix_nanos, order.to_unix_nanos()));
        let plan = start.and_then(|(start, to)| self.plan.workload.traffic_plan(start, to, true));
        let broadcaster = match self.plan.workload.load {
            Load::Explore { broadcaster, .. } => Some(broadcaster),
            Load::Steady { .. } => None,
        };
        NodeStatuses { clients, latest, answered, faults, plan: plan.as_ref(), broadcaster }.lines(p99_of)
    }

    /// Shows the faults on the live page, and to Prometheus.
    pub(super) fn show_faults(&mut self) {
        let opening = self.order.as_ref().map_or(0, StartOrder::from_unix_nanos);
        for (number, (planned, row)) in self.plan.faults.faults().iter().zip(self.faults.rows()).enumerate() {
            let began = row.began_seconds.map(|seconds| opening.saturating_add((seconds * 1e9) as u64));
            let active = self.faults.is_active(number, &planned.action);
            self.progress.status().fault(number + 1, &row.fault, began, active);
        }
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
        self.progress.status().trials_finished(self.trials_told);
        if let Some(feed) = self.progress.feed() {
            feed.trials(&trials);
        }
    }
}
