//! The live page's view of a run and its nodes.

use std::{collections::BTreeMap, time::Duration};

use super::{client::NodeClient, faults::Faults, plan::Plan};
use crate::{
    clock::Instant,
    live::{Live, NodeCondition, NodeState, RunInfo},
    network::ReadinessReport,
    node::{Load, NodeConfig, NodeSummary, TrafficPlan},
};

/// Time without an answer after which a node, which is asked every second, is shown as silent.
const SILENT: Duration = Duration::from_millis(2500);

/// Starts the live page, if the plan requests one; `here` are nodes on this machine.
///
/// # Errors
/// Fails if its port can't be used.
pub(crate) fn start_live(plan: &Plan, here: &[NodeConfig]) -> Result<Option<Live>, String> {
    let Some(given) = plan.live_port else { return Ok(None) };
    let advice = "take another with --live-port, or a free one with --live-port 0";
    let live = Live::start(given, run_info(plan))
        .map_err(|error| format!("port {given} can't be used for the live page: {error}; {advice}"))?;
    let port = live.port();
    match here.iter().find(|node| [node.metric_port, node.p2p_port].contains(&port)) {
        Some(node) => Err(format!("port {port} can't be used for the live page: node {} needs it; {advice}", node.id)),
        None => Ok(Some(live)),
    }
}

/// Facts that are known before the run.
fn run_info(plan: &Plan) -> RunInfo {
    let links = (!plan.links.is_unshaped()).then_some("links");
    let traffic: &[&'static str] = if plan.is_explore() { &["explore"] } else { &["warm-up", "measure", "drain"] };
    let trials = match &plan.workload.load {
        Load::Explore { trials, .. } => trials.len(),
        Load::Steady { .. } => 0,
    };
    let before = ["connect"].into_iter().chain(links);
    RunInfo {
        version: env!("CARGO_PKG_VERSION"),
        workload: plan.summary.clone(),
        window_seconds: plan.window.map(|window| window.as_secs_f64()),
        stages: before.chain(traffic.iter().copied()).chain(links).chain(["collect"]).collect(),
        trials,
        folder: plan.folder.root().display().to_string(),
    }
}

/// Rows of all nodes while some are not ready.
pub(crate) fn unready(
    clients: &[NodeClient],
    missing: &[(NodeClient, Result<ReadinessReport, String>)],
) -> Vec<NodeState> {
    let missing: BTreeMap<u64, Option<usize>> = missing
        .iter()
        .map(|(client, answer)| (client.id, answer.as_ref().ok().map(|report| report.readiness.connected_peers)))
        .collect();
    let line = |client: &NodeClient| {
        let (state, connected_peers) = match missing.get(&client.id) {
            None => (NodeCondition::Ready, Some(clients.len().saturating_sub(1))),
            Some(None) => (NodeCondition::Starting, None),
            Some(connected) => (NodeCondition::Connecting, *connected),
        };
        NodeState {
            node: client.id,
            state,
            connected_peers,
            sent: 0,
            expected: None,
            received: 0,
            dropped: 0,
            cores: None,
            peak_memory_bytes: 0,
            send_lag_p99_micros: None,
            delay_p99_micros: None,
        }
    };
    clients.iter().map(line).collect()
}

/// 99th percentile of the send lag of a node in the window, in microseconds.
fn send_lag_p99_micros(node: &NodeSummary) -> Option<u64> {
    let histogram = node.measured.send_lag_micros.decode().ok()?;
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(0.99))
}

/// State of the nodes.
pub(crate) struct NodeStatuses<'a> {
    pub(crate) clients: &'a [NodeClient],
    /// Last report of each node, and the time of its last answer.
    pub(crate) latest: &'a BTreeMap<u64, NodeSummary>,
    pub(crate) answered: &'a BTreeMap<u64, Instant>,
    pub(crate) faults: &'a Faults,
    /// Schedules of the window; none in mode explore.
    pub(crate) plan: Option<&'a TrafficPlan>,
    /// The sender of mode explore.
    pub(crate) broadcaster: Option<u64>,
}

impl NodeStatuses<'_> {
    /// Messages of the window, or of the present trial, that a node should have received up to its last report.
    fn expected(&self, node: &NodeSummary) -> Option<u64> {
        if let Some(broadcaster) = self.broadcaster {
            let sender = self.latest.get(&broadcaster)?;
            return Some(if node.node == broadcaster { 0 } else { sender.measured.intended });
        }
        let (plan, order) = (self.plan?, node.start.as_ref()?);
        let from = order.from_unix_nanos().max(order.gone_since_unix_nanos.unwrap_or(0));
        let to = node.counted_unix_nanos.min(order.to_unix_nanos().unwrap_or(u64::MAX)).max(from);
        let of_class = |(class, _)| plan.expected_by(class, node.node, from, to);
        plan.numbered().map(of_class).try_fold(0_u64, |sum, one| Some(sum.saturating_add(one?)))
    }

    /// Rows of the nodes; `p99_of` has the known delays, in microseconds.
    pub(crate) fn lines(&self, p99_of: &BTreeMap<u64, u64>) -> Vec<NodeState> {
        let line = |client: &NodeClient| {
            let id = client.id;
            let known = self.latest.get(&id);
            let silent = self.answered.get(&id).is_some_and(|then| then.elapsed() >= SILENT);
            let here = if silent { NodeCondition::Silent } else { NodeCondition::Answering };
            let absence = self.faults.absence(id);
            NodeState {
                node: id,
                state: absence.unwrap_or(here),
                connected_peers: known.map(|node| node.readiness.connected_peers),
                sent: known.map_or(0, |node| node.measured.sent),
                expected: known.and_then(|node| self.expected(node)),
                received: known.map_or(0, |node| node.measured.received),
                dropped: known.map_or(0, |node| node.dropped.values().fold(0, |sum, one| sum.saturating_add(*one))),
                cores: None,
                peak_memory_bytes: known.map_or(0, |node| node.usage.peak_memory_bytes),
                send_lag_p99_micros: known.and_then(send_lag_p99_micros),
                delay_p99_micros: p99_of.get(&id).copied(),
            }
        };
        self.clients.iter().map(line).collect()
    }
}
