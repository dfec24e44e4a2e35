//! What a run over nodes that run elsewhere is made of, up to a plan.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{net::lookup_host, sync::watch};

use super::{
    clocks,
    endpoint::Endpoint,
    find::{Found, FoundAll, find},
    network::{Attached, Elsewhere, RemoteError, refused},
};
use crate::{
    access::RunToken,
    lab::{
        arguments::{FaultArgs, LinkArgs, LocalArgs, PrintArgs, ProfileArgs, SeeingArgs},
        backend::Backend,
        client::NodeClient,
        docker::DockerArgs,
        experiment::unless_interrupted,
        observe::{Observation, ObserveArgs},
        observers::Observers,
        plan::{self, Plan},
        progress::Progress,
        run::{DEFAULT_QUIET, DEFAULT_WINDOW},
    },
    network::peer_id,
    node::{Mode, ProfileMode, StartOrder},
    report::RunFolder,
    scenario::FaultSchedule,
    shaping::ShapeFlags,
};

/// How a run over nodes that run elsewhere goes. What they send is theirs to say.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RunArgs {
    /// Length of the measured window, in seconds [default: 20; in mode explore until all trials are done]
    #[arg(long, alias = "timeout-seconds", env = "APOLLO_TIMEOUT", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub timeout: Option<u64>,
    /// Traffic before the measured window that is not counted, in seconds; mode explore has none
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub warm_up_seconds: u64,
    /// Maximum time to wait for late messages after the window, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain_seconds: u64,
    /// The wait ends earlier when nothing came for this long and no queue, session, socket or connection attempt of any
    /// node is pending, in seconds
    #[arg(long, value_name = "S", default_value_t = DEFAULT_QUIET, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain_quiet_seconds: u64,
    /// Longest wait for all nodes to answer, and then for them to be connected, in seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub ready_timeout_seconds: u64,
    /// A node that does not answer for this long fails the run, in seconds
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub hang_timeout_seconds: u64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub shape: ShapeFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub links: LinkArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub seeing: SeeingArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub observe: ObserveArgs,
}

/// What a run over nodes that run elsewhere is made of.
pub struct Attachment {
    /// Who runs the nodes: `backend` of the manifest.
    pub backend: String,
    /// Every node's endpoint, in any order: they say themselves who they are.
    pub endpoints: Vec<Endpoint>,
    /// The secret that the nodes were started with.
    pub token: Option<RunToken>,
    /// How the run goes.
    pub run: RunArgs,
    /// Where it is written; logs of the nodes are for the caller to write there.
    pub folder: RunFolder,
    /// What the user asked for: `arguments` of the manifest.
    pub arguments: Value,
    /// More fields of the manifest.
    pub more: Map<String, Value>,
    /// What a reader of the result must know, from the caller.
    pub warnings: Vec<String>,
    /// Says which node has died and how, in one line, where somebody looks after them; that ends the run. Without it, a node
    /// that is gone is one that does not answer.
    pub died: Option<watch::Receiver<Option<String>>>,
}

impl Attachment {
    /// Finds every node, and checks that they make one network that this program can give a start to, or that has one.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] in one line that names the nodes; [`RemoteError::Interrupted`].
    pub async fn attach(self) -> Result<Attached, RemoteError> {
        let http = NodeClient::http(self.token.as_ref()).map_err(refused)?;
        let limit = Duration::from_secs(self.run.ready_timeout_seconds);
        let mut progress = Progress::new(None);
        let found = unless_interrupted(find(&http, &self.endpoints, limit, &mut progress)).await;
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
        let FoundAll { nodes, start, lost, mut warnings } = found;
        warnings.extend(self.warnings.iter().cloned());
        let died = self.died.clone();
        let plan = self.plan(&nodes, start.as_ref(), clocks::groups(&clocks)).await?;
        let known = nodes.into_iter().map(|(id, node)| (id, node.summary));
        let known = known.filter(|(_, summary)| start.is_some() && summary.start == start).collect();
        let (observers, live) = (Observers::default(), None);
        Ok(Attached { plan, clients, died, start, lost, known, clocks, warnings, observers, live })
    }

    async fn plan(
        self,
        nodes: &BTreeMap<u64, Found>,
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
            None => self.run.timeout.or((!explore).then_some(DEFAULT_WINDOW)).map(Duration::from_secs),
        };
        let args = LocalArgs {
            num_nodes: first.num_nodes,
            mode: first.mode,
            network_protocol: first.network_protocol,
            timeout: self.run.timeout,
            warm_up_seconds: self.run.warm_up_seconds,
            drain_seconds: self.run.drain_seconds,
            drain_quiet_seconds: self.run.drain_quiet_seconds,
            ready_timeout_seconds: self.run.ready_timeout_seconds,
            hang_timeout_seconds: self.run.hang_timeout_seconds,
            buffer_size: first.buffer_size,
            verbosity: first.verbosity,
            base_metric_port: first.metric_port,
            base_p2p_port: first.p2p_port,
            worker_threads: first.control.worker_threads,
            // None of them: what is done with the nodes does not ask for it, and the manifest has the true one.
            backend: Backend::default(),
            docker: false,
            node_binary: None,
            ipv6: false,
            congestion_control: None,
            output: None,
            print: PrintArgs::default(),
            seeing: self.run.seeing.clone(),
            workload: first.workload.clone(),
            network: first.network.clone(),
            shape: self.run.shape.clone(),
            links: self.run.links.clone(),
            containers: DockerArgs { image: None, image_stream: None, fast_docker: false, memory_limit: None },
            faults: FaultArgs::default(),
            profile: ProfileArgs { profile: false, profile_mode: ProfileMode::Cpu },
            observe: self.run.observe.clone(),
        };
        plan::check_seeing(&args)?;
        let links = plan::asked_links(&args.shape, &args.links, args.num_nodes)?;
        let probe_targets = if links.is_unshaped() { BTreeMap::new() } else { probe_targets(nodes).await? };
        let observation = Observation::new(&args.observe, &[])?;
        let elsewhere = Elsewhere {
            backend: self.backend,
            arguments: self.arguments,
            more: self.more,
            endpoints: nodes.iter().map(|(id, node)| (*id, node.endpoint.clone())).collect(),
            configurations: nodes.values().map(|node| node.summary.configuration.clone()).collect(),
            probe_targets,
            clock_of,
        };
        Ok(Plan {
            args,
            workload,
            nodes: nodes.values().map(|node| node.args.clone()).collect(),
            folder: self.folder,
            links,
            schedule: FaultSchedule::default(),
            addresses: vec![],
            docker: None,
            profile: None,
            observation,
            elsewhere: Some(elsewhere),
            token: self.token,
            window,
        })
    }
}

/// Where each node answers measurements of its links.
async fn probe_targets(nodes: &BTreeMap<u64, Found>) -> Result<BTreeMap<u64, SocketAddr>, RemoteError> {
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
async fn peer_ip(nodes: &BTreeMap<u64, Found>, node: &Found) -> Option<IpAddr> {
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
