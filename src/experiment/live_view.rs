//! The live page's view of a run and its nodes.

use std::{collections::BTreeMap, time::Duration};

use super::{client::NodeClient, faults::Faults, plan::Plan};
use crate::{
    clock::Instant,
    live::{Live, NodeCondition, NodeState, RunInfo},
    network::ReadinessReport,
    node::{Load, NodeConfig, NodeSummary},
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
        NodeState { node: client.id, state, connected_peers, sent: 0, received: 0, delay_p99_micros: None }
    };
    clients.iter().map(line).collect()
}

/// State of the nodes.
pub(crate) struct NodeStatuses<'a> {
    pub(crate) clients: &'a [NodeClient],
    /// Last report of each node, and the time of its last answer.
    pub(crate) latest: &'a BTreeMap<u64, NodeSummary>,
    pub(crate) answered: &'a BTreeMap<u64, Instant>,
    pub(crate) faults: &'a Faults,
}

impl NodeStatuses<'_> {
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
                received: known.map_or(0, |node| node.measured.received),
                delay_p99_micros: p99_of.get(&id).copied(),
            }
        };
        self.clients.iter().map(line).collect()
    }
}
