//! Specification of a run over existing nodes, up to a plan.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{net::lookup_host, sync::watch};

use super::{
    clocks,
    discovery::{DiscoveredNode, Discovery, discover},
    network::{RemoteError, RemoteNetwork, refused},
};
use crate::{
    access::RunToken,
    deploy::remote::Endpoint,
    experiment::{ManifestFacts, NodeClient, Plan, Progress, RemoteFacts, unless_interrupted},
    http,
    monitoring::{Monitoring, ObserveArgs, Observers, RunStatus},
    network::peer_id,
    node::{StartOrder, Workload},
    report::RunFolder,
    scenario::{Group, Links, Measurement, Scenario, to_toml},
};

/// Parameters of a run over existing nodes. The nodes decide their own traffic.
#[derive(Clone, Debug)]
pub(crate) struct RemoteRun {
    /// Lengths of the phases.
    pub(crate) measurement: Measurement,
    /// Shapes that the links should have, and their measurement.
    pub(crate) links: Links,
    /// Groups that `links` may name.
    pub(crate) groups: Vec<Group>,
    /// Scenario that the nodes should have been started with; none for any.
    pub(crate) expected: Option<Box<Scenario>>,
    /// Port of the live page, if there is one.
    pub(crate) live_port: Option<u16>,
    /// True if the live page and the monitoring stay up after the run.
    pub(crate) keep_open: bool,
    /// Monitoring by Prometheus and Grafana.
    pub(crate) observe: ObserveArgs,
}

impl RemoteRun {
    /// Maximum time to wait until all nodes are ready.
    pub(crate) fn ready(&self) -> Duration {
        Duration::from_secs(self.measurement.ready_timeout_seconds)
    }
}

/// Specification of a run over existing nodes.
pub(crate) struct RemoteSpec {
    /// Operator of the nodes: `backend` of the manifest.
    pub(crate) backend: String,
    /// Every node's endpoint, in any order: the nodes report their ids.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Secret that the nodes were started with.
    pub(crate) token: Option<RunToken>,
    /// Parameters of the run.
    pub(crate) run: RemoteRun,
    /// Run folder; the caller writes the nodes' logs into it.
    pub(crate) folder: RunFolder,
    /// Arguments of the user: `arguments` of the manifest.
    pub(crate) arguments: Value,
    /// More fields of the manifest.
    pub(crate) more: Map<String, Value>,
    /// Warnings of the caller for a reader of the result.
    pub(crate) warnings: Vec<String>,
    /// Reports a dead node and its reason in one line, if a watcher exists; that ends the run. Without it, an ended
    /// node is a node that does not answer.
    pub(crate) died: Option<watch::Receiver<Option<String>>>,
}

impl RemoteSpec {
    /// Finds every node, and checks that they make one network that has a start or can receive one from this program.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] in one line that names the nodes; [`RemoteError::Interrupted`].
    pub(crate) async fn attach(self) -> Result<RemoteNetwork, RemoteError> {
        let http = http::client(self.token.as_ref()).map_err(refused)?;
        let limit = self.run.ready();
        let mut progress = Progress::new(None, RunStatus::default());
        let found = unless_interrupted(discover(&http, &self.endpoints, limit, &mut progress)).await;
        progress.finish();
        let found = found?.map_err(refused)?;
        let clients: Vec<NodeClient> = found
            .nodes
            .iter()
            .map(|(id, node)| NodeClient::new(*id, format!("http://{}", node.endpoint), &http))
            .collect();
        let mut clocks = BTreeMap::new();
        for (id, clock) in unless_interrupted(clocks::measure(&clients)).await? {
            match clock {
                Ok(clock) => drop(clocks.insert(id, clock)),
                Err(error) if found.start.is_none() => {
                    return Err(RemoteError::Refused(format!("node {id} does not report its clock: {error}")));
                }
                Err(_) => {}
            }
        }
        let Discovery { nodes, start, lost, mut warnings } = found;
        warnings.extend(self.warnings.iter().cloned());
        let died = self.died.clone();
        let plan = self.plan(&nodes, start.as_ref(), clocks::groups(&clocks)).await?;
        let known = nodes.into_iter().map(|(id, node)| (id, node.summary));
        let known = known.filter(|(_, summary)| start.is_some() && summary.start == start).collect();
        let (observers, live) = (Observers::default(), None);
        Ok(RemoteNetwork { plan, clients, died, start, lost, known, clocks, warnings, observers, live })
    }

    async fn plan(
        self,
        nodes: &BTreeMap<u64, DiscoveredNode>,
        start: Option<&StartOrder>,
        clock_of: BTreeMap<u64, u64>,
    ) -> Result<Plan, RemoteError> {
        let Some(first) = nodes.values().next().map(|node| &node.args) else {
            return Err(RemoteError::Refused("there are no nodes".into()));
        };
        if let Some(expected) = &self.run.expected
            && let Some(line) = first.scenario.traffic_difference(expected)
        {
            return Err(RemoteError::Refused(format!("the nodes were started with another scenario: {line}")));
        }
        let run = self.run;
        let mut scenario = first.scenario.clone();
        (scenario.measurement, scenario.links) = (run.measurement, run.links);
        if !run.groups.is_empty() {
            scenario.groups = run.groups;
        }
        // The nodes' own threads and logs do not matter here.
        let scenario = scenario.resolve().map_err(|error| RemoteError::Refused(error.to_string()))?;
        let workload = Workload::of(&scenario)?;
        let window = match start.and_then(|start| start.measure_millis) {
            Some(millis) => Some(Duration::from_millis(millis)),
            None => scenario.measurement.window_seconds.map(Duration::from_secs),
        };
        let links = scenario.link_plan().map_err(|error| RemoteError::Refused(error.to_string()))?;
        let text = to_toml(&scenario).map_err(RemoteError::Refused)?;
        self.folder.write_scenario(&text).map_err(refused)?;
        let probe_targets = if links.is_unshaped() { BTreeMap::new() } else { probe_targets(nodes).await? };
        let manifest = ManifestFacts {
            backend: self.backend,
            image: None,
            arguments: self.arguments,
            remote: Some(RemoteFacts {
                configurations: nodes.values().map(|node| node.summary.configuration.clone()).collect(),
                more: self.more,
            }),
        };
        let configurations = nodes.values().map(|node| node.args.clone()).collect();
        Ok(Plan {
            window,
            endpoints: nodes.iter().map(|(id, node)| (*id, node.endpoint.address().to_owned())).collect(),
            probe_targets,
            clock_of: Some(clock_of),
            monitoring: Monitoring::new(&run.observe, &[])?,
            live_port: run.live_port,
            keep_open: run.keep_open,
            token: self.token,
            ..Plan::new(scenario, workload, links, configurations, self.folder, manifest)
        })
    }
}

/// Addresses at which the nodes answer measurements of their links.
async fn probe_targets(nodes: &BTreeMap<u64, DiscoveredNode>) -> Result<BTreeMap<u64, SocketAddr>, RemoteError> {
    let mut targets = BTreeMap::new();
    for (id, node) in nodes {
        let Some(port) = node.args.probe_port else {
            return Err(RemoteError::Refused(format!(
                "node {id} ({}) answers no measurements of its links: run it with --probe-port, or leave out the flags \
                 that say what the links should be",
                node.endpoint
            )));
        };
        let Some(ip) = peer_ip(nodes, node).await else {
            return Err(RemoteError::Refused(format!(
                "node {id} ({}) has no address that its links could be measured to: give it its own as --p2p-address",
                node.endpoint
            )));
        };
        targets.insert(*id, SocketAddr::new(ip, port));
    }
    Ok(targets)
}

/// Address of a node as its peers know it.
async fn peer_ip(nodes: &BTreeMap<u64, DiscoveredNode>, node: &DiscoveredNode) -> Option<IpAddr> {
    let own = node.args.p2p_address;
    if !own.is_unspecified() {
        return Some(own);
    }
    let peer = peer_id(node.args.id);
    let known: Vec<_> = nodes.values().flat_map(|n| &n.args.bootstrap).filter(|entry| entry.peer == peer).collect();
    if let Some(ip) = known.iter().find_map(|entry| entry.ip()) {
        return Some(ip);
    }
    for name in known.iter().filter_map(|entry| entry.name()) {
        if let Some(found) = lookup_host((name.as_str(), 0)).await.ok().and_then(|mut found| found.next()) {
            return Some(found.ip());
        }
    }
    node.endpoint.ip().filter(|ip| !ip.is_loopback())
}
