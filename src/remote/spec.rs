//! What a run over existing nodes is made of, up to a plan.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
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
    experiment::{
        DEFAULT_WINDOW, LinkProbe, ManifestFacts, NodeClient, Plan, Progress, RemoteFacts, Timing, read_link_plan,
        unless_interrupted, workload_summary,
    },
    http,
    monitoring::{Monitoring, ObserveArgs, Observers},
    network::peer_id,
    node::{Mode, StartOrder},
    report::RunFolder,
    scenario::{FaultSchedule, LinkPlan, Shape},
};

/// How a run over existing nodes goes. What they send is theirs to say.
#[derive(Clone, Debug)]
pub(crate) struct RemoteRun {
    /// Length of the measured window, in seconds; in mode explore none until all trials are done.
    pub(crate) window_seconds: Option<u64>,
    pub(crate) timing: Timing,
    /// What every link should be like.
    pub(crate) shape: Shape,
    /// File that says how single links differ.
    pub(crate) links_file: Option<PathBuf>,
    pub(crate) link_probe: LinkProbe,
    /// Port of the live page, if there is one.
    pub(crate) live_port: Option<u16>,
    /// What shows the run stays up after it.
    pub(crate) keep_open: bool,
    /// Whether Prometheus and Grafana watch it.
    pub(crate) observe: ObserveArgs,
}

/// What a run over existing nodes is made of.
pub(crate) struct RemoteSpec {
    /// Who runs the nodes: `backend` of the manifest.
    pub(crate) backend: String,
    /// Every node's endpoint, in any order: they say themselves who they are.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The secret that the nodes were started with.
    pub(crate) token: Option<RunToken>,
    /// How the run goes.
    pub(crate) run: RemoteRun,
    /// Where it is written; logs of the nodes are for the caller to write there.
    pub(crate) folder: RunFolder,
    /// What the user asked for: `arguments` of the manifest.
    pub(crate) arguments: Value,
    /// More fields of the manifest.
    pub(crate) more: Map<String, Value>,
    /// What a reader of the result must know, from the caller.
    pub(crate) warnings: Vec<String>,
    /// Says which node has died and how, in one line, where somebody looks after them; that ends the run. Without it, a node
    /// that is gone is one that does not answer.
    pub(crate) died: Option<watch::Receiver<Option<String>>>,
}

impl RemoteSpec {
    /// Finds every node, and checks that they make one network that this program can give a start to, or that has one.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] in one line that names the nodes; [`RemoteError::Interrupted`].
    pub(crate) async fn attach(self) -> Result<RemoteNetwork, RemoteError> {
        let http = http::client(self.token.as_ref()).map_err(refused)?;
        let limit = self.run.timing.ready;
        let mut progress = Progress::new(None);
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
                    return Err(RemoteError::Refused(format!("node {id} does not tell its clock: {error}")));
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
        let workload = first.validate()?;
        let explore = first.mode == Mode::Explore;
        let window = match start.and_then(|start| start.measure_millis) {
            Some(millis) => Some(Duration::from_millis(millis)),
            None => self.run.window_seconds.or((!explore).then_some(DEFAULT_WINDOW)).map(Duration::from_secs),
        };
        let (num_nodes, run) = (first.num_nodes, self.run);
        let links = match &run.links_file {
            Some(path) => read_link_plan(path, run.shape, num_nodes).map_err(refused)?,
            None => LinkPlan::uniform(run.shape),
        };
        let probe_targets = if links.is_unshaped() { BTreeMap::new() } else { probe_targets(nodes).await? };
        Ok(Plan {
            num_nodes,
            summary: workload_summary(num_nodes, first.mode, first.network_protocol, first.network.quic, &workload),
            workload,
            nodes: nodes.values().map(|node| node.args.clone()).collect(),
            window,
            timing: run.timing,
            folder: self.folder,
            links,
            link_probe: run.link_probe,
            faults: FaultSchedule::default(),
            addresses: vec![],
            congestion_control: None,
            endpoints: nodes.iter().map(|(id, node)| (*id, node.endpoint.address().to_owned())).collect(),
            probe_targets,
            clock_of: Some(clock_of),
            profiler: None,
            monitoring: Monitoring::new(&run.observe, &[])?,
            live_port: run.live_port,
            keep_open: run.keep_open,
            token: self.token,
            manifest: ManifestFacts {
                backend: self.backend,
                image: None,
                arguments: self.arguments,
                remote: Some(RemoteFacts {
                    configurations: nodes.values().map(|node| node.summary.configuration.clone()).collect(),
                    more: self.more,
                }),
            },
        })
    }
}

/// Where each node answers measurements of its links.
async fn probe_targets(nodes: &BTreeMap<u64, DiscoveredNode>) -> Result<BTreeMap<u64, SocketAddr>, RemoteError> {
    let mut targets = BTreeMap::new();
    for (id, node) in nodes {
        let Some(port) = node.args.control.probe_port else {
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

/// A node's address as its peers know it.
async fn peer_ip(nodes: &BTreeMap<u64, DiscoveredNode>, node: &DiscoveredNode) -> Option<IpAddr> {
    let own = node.args.control.p2p_address;
    if !own.is_unspecified() {
        return Some(own);
    }
    let peer = peer_id(node.args.id);
    let known: Vec<_> = nodes.values().flat_map(|n| &n.args.bootstrap.0).filter(|entry| entry.peer == peer).collect();
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
