//! A network of nodes that run elsewhere, from its endpoints to the result of its run.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::{net::lookup_host, sync::watch};

use super::{
    clocks::{self, Clock},
    endpoint::Endpoint,
    find::{Found, FoundAll, find},
    nodes::RemoteNodes,
};
use crate::{
    command_line::read_text,
    lab::{
        arguments::{FaultArgs, LinkArgs, LocalArgs, PrintArgs, ProfileArgs, SeeingArgs},
        backend::Backend,
        client::NodeClient,
        docker::DockerArgs,
        experiment::{self, Failed, Interrupted, unless_interrupted},
        manifest::Manifest,
        observe::{Observation, ObserveArgs},
        observers::Observers,
        plan::{self, Plan},
        progress::Progress,
        schedule::Schedule,
        seen,
    },
    live::Live,
    network::peer_id,
    node::{Mode, NodeSummary, ProfileMode, StartOrder, UsageError},
    report::{ClockOffset, ClockRow, Clocks, LinkMeasured, RunFolder, RunSummary},
    shaping::ShapeFlags,
};

/// Largest file of a run's beginning, in bytes: every link of a network of 100 nodes is a tenth of it.
const BEGUN_LIMIT: u64 = 64 << 20;

/// How a run over nodes that run elsewhere goes. What they send is theirs to say.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RunArgs {
    /// Length of the measured window, in seconds [default: 20; in mode explore until all trials are done]
    #[arg(long, env = "APOLLO_TIMEOUT", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub timeout: Option<u64>,
    /// Traffic before the measured window that is not counted, in seconds; mode explore has none
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub warm_up_seconds: u64,
    /// Longest wait for late messages after the window, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain_seconds: u64,
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

/// Why there is no result of a whole run.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// It can't be done with these nodes, or here; nothing was begun, and nothing was written.
    #[error("{0}")]
    Refused(String),
    /// Ctrl-C or SIGTERM. The nodes go on, and what was written stays.
    #[error("interrupted")]
    Interrupted,
    /// It went wrong before the start was given; the result that says so is in the folder.
    #[error("the run is not valid")]
    Invalid(Box<RunSummary>),
}

impl From<UsageError> for RemoteError {
    fn from(error: UsageError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<Interrupted> for RemoteError {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

fn refused(error: impl ToString) -> RemoteError {
    RemoteError::Refused(error.to_string())
}

/// What was measured of a link before the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredLink {
    /// Sender.
    pub from: u64,
    /// Receiver.
    pub to: u64,
    /// What was measured.
    pub measured: LinkMeasured,
}

/// A run that has begun: what whoever collects it must know, and the nodes don't. It is `begun.json` of the folder, and may
/// be kept elsewhere as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The start that every node has.
    pub start: StartOrder,
    /// Seconds until the last node was ready.
    pub ready_seconds: Option<f64>,
    /// The links, if they were measured.
    pub links: Vec<MeasuredLink>,
    /// How far each node's clock was ahead of that of whoever began the run.
    pub clocks: BTreeMap<u64, ClockOffset>,
}

/// What a plan knows of nodes that run elsewhere.
pub(in crate::lab) struct Elsewhere {
    pub(in crate::lab) backend: String,
    pub(in crate::lab) arguments: Value,
    pub(in crate::lab) more: Map<String, Value>,
    pub(in crate::lab) endpoints: BTreeMap<u64, Endpoint>,
    /// As the nodes told them.
    pub(in crate::lab) configurations: Vec<Value>,
    pub(in crate::lab) probe_targets: BTreeMap<u64, SocketAddr>,
    /// For each node the lowest one with the same clock.
    clock_of: BTreeMap<u64, u64>,
}

impl Elsewhere {
    pub(in crate::lab) fn share_a_clock(&self, one: u64, other: u64) -> bool {
        let of = |node| self.clock_of.get(&node);
        of(one).is_some() && of(one) == of(other)
    }
}

/// A network of nodes that run elsewhere, all of which were found and fit together.
pub struct Attached {
    plan: Plan,
    clients: Vec<NodeClient>,
    died: Option<watch::Receiver<Option<String>>>,
    start: Option<StartOrder>,
    lost: Option<String>,
    known: BTreeMap<u64, NodeSummary>,
    clocks: BTreeMap<u64, Clock>,
    warnings: Vec<String>,
    observers: Observers,
    live: Option<Live>,
}

impl Attachment {
    /// Finds every node, and checks that they make one network that this program can give a start to, or that has one.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] in one line that names the nodes; [`RemoteError::Interrupted`].
    pub async fn attach(self) -> Result<Attached, RemoteError> {
        let http = NodeClient::http().map_err(refused)?;
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
            None => self.run.timeout.or((!explore).then_some(plan::DEFAULT_WINDOW)).map(Duration::from_secs),
        };
        let args = LocalArgs {
            num_nodes: first.num_nodes,
            mode: first.mode,
            network_protocol: first.network_protocol,
            timeout: self.run.timeout,
            warm_up_seconds: self.run.warm_up_seconds,
            drain_seconds: self.run.drain_seconds,
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
            output: None,
            print: PrintArgs::default(),
            seeing: self.run.seeing.clone(),
            workload: first.workload.clone(),
            network: first.network.clone(),
            shape: self.run.shape.clone(),
            links: self.run.links.clone(),
            containers: DockerArgs { image: None, fast_docker: false, memory_limit: None },
            faults: FaultArgs::default(),
            profile: ProfileArgs { profile: false, profile_mode: ProfileMode::Cpu },
            observe: self.run.observe.clone(),
        };
        plan::check_seeing(&args)?;
        let links = plan::asked_links(&args.shape, &args.links, args.num_nodes)?;
        let probe_targets = if links.is_free() { BTreeMap::new() } else { probe_targets(nodes).await? };
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
            schedule: Schedule::default(),
            addresses: vec![],
            docker: None,
            profile: None,
            observation,
            elsewhere: Some(elsewhere),
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

impl Attached {
    /// The start that the nodes have, if their run has begun.
    pub fn start(&self) -> Option<&StartOrder> {
        self.start.as_ref()
    }

    /// The folder of the run.
    pub fn folder(&self) -> &RunFolder {
        &self.plan.folder
    }

    /// Nodes of the network.
    pub fn num_nodes(&self) -> u64 {
        self.plan.args.num_nodes
    }

    /// Shows the run on its page and starts Prometheus and Grafana, as far as [`RunArgs`] asks for them.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn watch(&mut self) -> Result<(), RemoteError> {
        self.live = seen::live(&self.plan).map_err(refused)?;
        if let Some(live) = &self.live {
            eprintln!("Watch this run at {live}");
        }
        let Self { plan, observers, live, .. } = self;
        let mut progress = Progress::new(live.as_ref().map(Live::feed));
        unless_interrupted(observers.start(plan, &mut progress)).await?.map_err(refused)
    }

    /// Begins the run: waits until the nodes are ready, measures the links, gives all of them one start. Writes
    /// `manifest.json` and `begun.json`.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] where the nodes have a start already or a clock is off; [`RemoteError::Invalid`] with what
    /// there is of a result, also in the folder. Nodes that may have been given a start then are ended, if they answer.
    pub async fn begin(&mut self) -> Result<Begun, RemoteError> {
        if self.start.is_some() {
            return Err(RemoteError::Refused("the nodes have a start already: collect their run first".into()));
        }
        if let Some(line) = clocks::objection(&self.clocks) {
            return Err(RemoteError::Refused(line));
        }
        self.write_manifest()?;
        let nodes = RemoteNodes::new(self.died.clone());
        match experiment::begin(&self.plan, nodes, &mut self.observers, self.live.as_ref()).await {
            Ok(begun) => {
                let clocks = self.clocks.iter().map(|(id, clock)| (*id, clock.offset)).collect();
                let begun = Begun { clocks, ..begun };
                let folder = &self.plan.folder;
                folder.write_json(&folder.begun(), &begun).map_err(refused)?;
                self.start = Some(begun.start.clone());
                Ok(begun)
            }
            Err(Failed::Interrupted) => Err(RemoteError::Interrupted),
            Err(Failed::Invalid(mut run, given)) => {
                if given {
                    // Some wait for a start that others don't know: afresh, they can be given another.
                    self.end().await;
                }
                run.verdict.warnings.append(&mut self.warnings);
                self.write_summary(&mut run);
                Err(RemoteError::Invalid(run))
            }
        }
    }

    /// Collects the run that the nodes are in, or were in: waits for the end of its window and for what is under way, and
    /// writes the folder. `begun` is what [`Self::begin`] gave; without it, the folder's `begun.json` is taken if there is
    /// one, or else what the nodes say. The nodes go on: see [`Self::end`].
    ///
    /// # Errors
    /// [`RemoteError::Refused`] where there is no run, or another one; [`RemoteError::Interrupted`]. A run that is not
    /// valid is no error.
    pub async fn collect(&mut self, begun: Option<Begun>) -> Result<RunSummary, RemoteError> {
        let Some(start) = self.start.clone() else {
            return Err(RemoteError::Refused("the nodes have no start yet: there is no run to collect".into()));
        };
        let file = self.plan.folder.begun();
        let begun = match begun {
            Some(begun) => begun,
            None if file.is_file() => {
                let failed = |error: String| RemoteError::Refused(format!("{}: {error}", file.display()));
                let text = read_text(&file, BEGUN_LIMIT).map_err(failed)?;
                serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?
            }
            None => Begun { start: start.clone(), ready_seconds: None, links: vec![], clocks: BTreeMap::new() },
        };
        if begun.start != start {
            return Err(RemoteError::Refused(format!(
                "{} is of another run than the one that the nodes are in: give another --output",
                self.plan.folder.root().display()
            )));
        }
        match (begun.links.is_empty(), self.plan.links.is_free()) {
            (true, false) if self.plan.args.num_nodes > 1 => {
                return Err(refused(
                    "the links were not measured before the window: leave out the flags that say what they should be, or \
                     give the --output of whoever began the run",
                ));
            }
            (false, true) => {
                return Err(refused(
                    "the links were measured before the window: give the flags that say what they should be",
                ));
            }
            _ => {}
        }
        if !self.plan.folder.manifest().is_file() {
            self.write_manifest()?;
        }
        if !file.is_file() {
            // Whoever takes this folder again goes on with the same run.
            self.plan.folder.write_json(&file, &begun).map_err(refused)?;
        }
        let nodes = RemoteNodes::new(self.died.clone());
        let known = std::mem::take(&mut self.known);
        let Self { plan, lost, observers, live, .. } = self;
        let mut run = experiment::collect(plan, nodes, &begun, known, lost.clone(), observers, live.as_ref()).await?;
        let clocks = self.clocks_of(&begun).await;
        run.verdict.warnings.append(&mut self.warnings);
        run.verdict.warnings.extend(clocks.warning(&run));
        run.clocks = Some(clocks);
        self.write_summary(&mut run);
        Ok(run)
    }

    async fn clocks_of(&self, begun: &Begun) -> Clocks {
        let after = clocks::measure(&self.clients).await;
        let clock_of = self.plan.elsewhere.as_ref().map(|elsewhere| &elsewhere.clock_of);
        let row = |client: &NodeClient| ClockRow {
            node: client.id,
            clock_of: clock_of.and_then(|of| of.get(&client.id)).copied().unwrap_or(client.id),
            before: begun.clocks.get(&client.id).copied(),
            after: after.get(&client.id).and_then(|clock| Some(clock.as_ref().ok()?.offset)),
        };
        Clocks::new(self.clients.iter().map(row).collect())
    }

    fn write_manifest(&self) -> Result<(), RemoteError> {
        let folder = &self.plan.folder;
        folder.write_json(&folder.manifest(), &Manifest::new(&self.plan)).map_err(refused)
    }

    fn write_summary(&self, run: &mut RunSummary) {
        let folder = &self.plan.folder;
        if let Err(error) = folder.write_json(&folder.summary(), run) {
            run.verdict.reasons.push(error.to_string());
            run.verdict.valid = false;
        }
    }

    /// Ends all nodes in order, with exit code 0: their service manager may start them afresh, for the next run. Says which
    /// ones could not be told.
    pub async fn end(&self) -> Vec<String> {
        let ended = futures::future::join_all(self.clients.iter().map(NodeClient::end)).await;
        let lines = self.clients.iter().zip(ended);
        lines
            .filter_map(|(client, ended)| Some(format!("node {} can't be ended: {}", client.id, ended.err()?)))
            .collect()
    }

    /// Shows the result where the run is watched, leaves that up until Ctrl-C if it is asked for, and ends it.
    pub async fn close(mut self, run: Option<&RunSummary>) {
        if let (Some(live), Some(run)) = (&self.live, run) {
            live.end(run);
        }
        self.observers.end(&self.plan, run.is_some()).await;
        let Some(live) = self.live else { return };
        if let (true, Some(_), Ok(mut interrupt)) = (self.plan.args.seeing.keep_open, run, seen::Interrupt::new()) {
            eprintln!("The page stays at {live} until Ctrl-C");
            interrupt.over().await;
        }
        live.close();
    }
}
