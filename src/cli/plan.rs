//! The plan of a run on this machine, made of its arguments.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{
    arguments::{Backend, LocalArgs},
    error::CliError,
    run_args::DEFAULTS,
};
use crate::{
    access::RunToken,
    deploy::{Capabilities, Need, StartError, check, check_ports, docker, docker::DockerArgs, netns, process, swept},
    environment::congestion_controls,
    experiment::{
        DEFAULT_WINDOW, ManifestFacts, Plan, Profiler, Timing, fault_needs, find_profiler, longest_link_probe_seconds,
        read_faults, read_link_plan, profile_of_node, workload_summary,
    },
    monitoring::Monitoring,
    network::{PeerAddress, peer_id},
    node::{Bootstrap, ControlArgs, Load, NodeArgs, UsageError, Workload, unix_nanos, value_name},
    report::RunFolder,
    scenario::{FaultSchedule, LinkPlan, check_degradations},
};

/// Most nodes on one machine: their connections grow with the square, and the list of peers must fit a command line.
const MOST_NODES: u64 = 1000;

/// Time that a node lives beyond the longest run: only an orphan that escaped every other end meets it.
const NODE_SLACK: u64 = 120;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where a node with addresses of its own answers measurements of its links (UDP).
const PROBE_PORT: u16 = 9999;

impl Backend {
    fn capabilities(self) -> &'static Capabilities {
        match self {
            Self::Process => &process::CAPABILITIES,
            Self::Netns => &netns::CAPABILITIES,
            Self::Docker => &docker::CAPABILITIES,
        }
    }
}

/// A run on this machine that can start.
pub(super) struct LocalRun {
    pub(super) plan: Plan,
    pub(super) backend: Backend,
    /// The nodes' program; this one by default.
    pub(super) program: Option<PathBuf>,
    /// How containers are made.
    pub(super) containers: DockerArgs,
}

impl LocalRun {
    /// Checks the arguments, the ports and the folder.
    pub(super) fn new(args: &LocalArgs) -> Result<Self, UsageError> {
        let mut args = args.clone();
        let workload = Workload::resolve(args.mode, args.num_nodes, &args.workload, Some(&DEFAULTS))?;
        if args.num_nodes > MOST_NODES {
            return Err(UsageError(format!(
                "--num-nodes {}: one machine runs at most {MOST_NODES} nodes, each with a connection to every other",
                args.num_nodes
            )));
        }
        let explore = matches!(workload.load, Load::Explore { .. });
        let window = args.timeout.or((!explore).then_some(DEFAULT_WINDOW)).map(Duration::from_secs);
        if args.docker {
            args.backend = Backend::Docker;
        }
        let links = links(&args)?;
        let link_probe = args.links.probe()?;
        let faults = faults(&args, &links, window.filter(|_| !explore))?;
        check(args.backend.capabilities(), needs(&args, &links, &faults))?;
        check_congestion_control(&args)?;
        fill_in(&mut args, &workload);
        let profile = &args.profile;
        let profiler = profile.profile.then(|| find_profiler(profile.profile_mode, args.node_binary.is_some()));
        let profiler = profiler.transpose()?;
        let places = places(&args)?;
        if let Some(binary) = &mut args.node_binary {
            // A bare name would be looked for in PATH when it is started.
            *binary = std::fs::canonicalize(&*binary)
                .map_err(|error| UsageError(format!("--node-binary {}: {error}", binary.display())))?;
        }
        // Different from other runs on this machine, and never 0.
        let run_id = unix_nanos().max(1);
        let mut nodes: Vec<NodeArgs> =
            places.iter().map(|place| node(&args, &workload, &places, place, run_id, window)).collect();
        for node in &nodes {
            node.validate()?;
        }
        let live_port = args.live.port(&args.observe)?;
        // One in the environment is for whoever wants to ask the nodes, too.
        let token = match RunToken::given(None).map_err(UsageError)? {
            Some(token) => token,
            None => RunToken::random().map_err(|error| UsageError(format!("no random numbers: {error}")))?,
        };
        let monitoring = swept(|| {
            nodes.iter().try_for_each(|node| check_ports(node, args.backend == Backend::Process))?;
            Monitoring::new(&args.observe, &nodes)
        })?;
        let folder = RunFolder::create(args.output.as_deref()).map_err(|error| UsageError(error.to_string()))?;
        if monitoring.as_ref().is_some_and(|monitoring| monitoring.grafana.is_some())
            && folder.root().to_str().is_none()
        {
            folder.discard();
            return Err(UsageError(format!(
                "{}: Grafana takes only a path that is UTF-8: give another --output",
                folder.root().display()
            )));
        }
        if profiler.is_some() {
            std::fs::create_dir_all(folder.profiles()).map_err(|error| UsageError(error.to_string()))?;
        }
        for node in &mut nodes {
            // A container does not see the folder.
            node.control.summary = (args.backend != Backend::Docker).then(|| folder.node_summary(node.id));
            if let Some(Profiler::BuiltIn(mode)) = profiler {
                node.control.profile_mode = Some(mode);
                node.control.profile_output = Some(profile_of_node(&folder.profiles(), mode, node.id));
            }
        }
        let plan = Plan {
            num_nodes: args.num_nodes,
            summary: workload_summary(args.num_nodes, args.mode, args.network_protocol, args.network.quic, &workload),
            workload,
            window,
            timing: Timing {
                warm_up: Duration::from_secs(args.warm_up_seconds),
                drain: Duration::from_secs(args.drain_seconds),
                drain_quiet: Duration::from_secs(args.drain_quiet_seconds),
                ready: Duration::from_secs(args.ready_timeout_seconds),
                hang: Duration::from_secs(args.hang_timeout_seconds),
            },
            folder,
            links,
            link_probe,
            faults,
            addresses: places.iter().filter_map(|place| place.addresses).collect(),
            congestion_control: args.congestion_control.clone(),
            // Wherever a backend puts a node, its endpoint is to be had here.
            endpoints: nodes.iter().map(|node| (node.id, format!("127.0.0.1:{}", node.metric_port))).collect(),
            probe_targets: nodes.iter().filter_map(|node| Some((node.id, probe_target(node)?))).collect(),
            clock_of: None,
            profiler,
            monitoring,
            live_port,
            keep_open: args.live.keep_open,
            token: Some(token),
            manifest: ManifestFacts {
                backend: value_name(&args.backend),
                image: None,
                arguments: serde_json::to_value(&args).map_err(|error| UsageError(error.to_string()))?,
                remote: None,
            },
            nodes,
        };
        Ok(Self { plan, backend: args.backend, program: args.node_binary, containers: args.containers })
    }

    /// Gives every node other addresses, IPv4 and IPv6, before anything has started. The nodes speak IPv4.
    pub(super) fn move_to(&mut self, addresses: &[[IpAddr; 2]]) -> Result<(), UsageError> {
        let plan = &mut self.plan;
        let peers = plan.nodes.iter().zip(addresses);
        let peers = peers.map(|(node, [ip, _])| peer_address(*ip, node.p2p_port, node.network.quic, node.id));
        let peers: Vec<PeerAddress> = peers.collect::<Result<_, _>>()?;
        for (node, [ip, _]) in plan.nodes.iter_mut().zip(addresses) {
            node.control.p2p_address = *ip;
            node.bootstrap = Bootstrap(peers.clone());
        }
        plan.probe_targets = plan.nodes.iter().filter_map(|node| Some((node.id, probe_target(node)?))).collect();
        plan.addresses = addresses.to_vec();
        Ok(())
    }

    /// The error of a run whose nodes did not start. Where nothing was started, the folder is not left behind.
    pub(super) fn not_started(&self, error: StartError) -> CliError {
        if matches!(error, StartError::Usage(_)) {
            self.plan.folder.discard();
        }
        error.into()
    }
}

/// What the run asks of its deployment.
fn needs<'a>(args: &'a LocalArgs, links: &LinkPlan, faults: &'a FaultSchedule) -> impl Iterator<Item = Need<'a>> {
    let mut needs: Vec<Need<'a>> = args.containers.given().map(Need::Image).collect();
    needs.extend(args.node_binary.is_some().then_some(Need::HostProgram));
    needs.extend(links.shapes().any(|shape| shape.needs_netem()).then_some(Need::Delays));
    needs.extend((!links.is_unshaped()).then_some(Need::Rates));
    needs.extend(args.congestion_control.as_deref().map(Need::CongestionControl));
    needs.extend(fault_needs(&faults));
    needs.extend(args.profile.profile.then_some(Need::Profiles));
    needs.extend(args.ipv6.then_some(Need::Ipv6));
    needs.into_iter()
}

/// Where a node answers measurements of its links.
fn probe_target(node: &NodeArgs) -> Option<SocketAddr> {
    Some(SocketAddr::new(node.control.p2p_address, node.control.probe_port?))
}

/// Puts the defaults in effect into the arguments, which go to the nodes and into the manifest.
fn fill_in(args: &mut LocalArgs, workload: &Workload) {
    workload.fill_in(&mut args.workload);
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = u16::try_from((processors / args.num_nodes).clamp(1, 1024)).unwrap_or(1);
    args.worker_threads = args.worker_threads.or(Some(share));
    if args.backend == Backend::Docker {
        args.containers.memory_limit = Some(args.containers.memory());
    }
}

fn port(base: u16, id: u64, flag: &str, num_nodes: u64) -> Result<u16, UsageError> {
    match u16::try_from(u64::from(base) + id) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(UsageError(format!("{flag} {base}: {num_nodes} nodes need ports from 1 to 65535"))),
    }
}

/// Where a node is.
struct Place {
    id: u64,
    metric_port: u16,
    p2p_port: u16,
    /// IPv4 and IPv6, where the node has an interface of its own.
    addresses: Option<[IpAddr; 2]>,
    /// Where it listens for its peers.
    ip: IpAddr,
    peer: PeerAddress,
}

fn places(args: &LocalArgs) -> Result<Vec<Place>, UsageError> {
    let span = |base: u16| u64::from(base)..u64::from(base) + args.num_nodes;
    let (metric, p2p) = (span(args.base_metric_port), span(args.base_p2p_port));
    if metric.start < p2p.end && p2p.start < metric.end {
        return Err(UsageError(format!(
            "--base-metric-port {} and --base-p2p-port {} overlap for {} nodes",
            args.base_metric_port, args.base_p2p_port, args.num_nodes
        )));
    }
    (0..args.num_nodes)
        .map(|id| {
            let metric_port = port(args.base_metric_port, id, "--base-metric-port", args.num_nodes)?;
            let p2p_port = port(args.base_p2p_port, id, "--base-p2p-port", args.num_nodes)?;
            let addresses = match args.backend {
                Backend::Process => None,
                // Docker's are known only once there is a network; see `LocalRun::move_to`.
                Backend::Netns | Backend::Docker => Some(netns::addresses(id)),
            };
            let ip = addresses.map_or(LOOPBACK, |addresses| addresses[usize::from(args.ipv6)]);
            let peer = peer_address(ip, p2p_port, args.network.quic, id)?;
            Ok(Place { id, metric_port, p2p_port, addresses, ip, peer })
        })
        .collect()
}

fn peer_address(ip: IpAddr, port: u16, quic: bool, id: u64) -> Result<PeerAddress, UsageError> {
    let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
    let transport = if quic { format!("udp/{port}/quic-v1") } else { format!("tcp/{port}") };
    let text = format!("/{family}/{ip}/{transport}/p2p/{}", peer_id(id));
    text.parse().map_err(|error| UsageError(format!("{error}")))
}

/// The links that the flags and the file ask for.
fn links(args: &LocalArgs) -> Result<LinkPlan, UsageError> {
    let shape = args.shape.shape().map_err(|error| UsageError(error.to_string()))?;
    match &args.links.file {
        Some(path) => read_link_plan(path, shape, args.num_nodes),
        None => Ok(LinkPlan::uniform(shape)),
    }
}

/// The congestion control, if it can be that of the nodes.
fn check_congestion_control(args: &LocalArgs) -> Result<(), UsageError> {
    let Some(name) = &args.congestion_control else { return Ok(()) };
    let refused = |why: &str| Err(UsageError(format!("--congestion-control {name}: {why}")));
    if args.network.quic {
        return refused("QUIC does not use the kernel's congestion control, only TCP does: leave --quic out");
    }
    let there = congestion_controls();
    // A kernel that does not list them says so when the nodes' routes are made.
    if there.is_empty() || there.contains(name) {
        return Ok(());
    }
    refused(&format!(
        "this kernel has {}; another one is in a module of its own (modprobe tcp_NAME, where the kernel has it)",
        there.join(", ")
    ))
}

/// The faults, checked against the run and its links.
fn faults(args: &LocalArgs, links: &LinkPlan, window: Option<Duration>) -> Result<FaultSchedule, UsageError> {
    let mut faults = args.faults.given.clone();
    if let Some(path) = &args.faults.file {
        faults.extend(read_faults(path)?);
    }
    let schedule = FaultSchedule::new(&faults, args.num_nodes, 0, window);
    let schedule = schedule.map_err(|error| UsageError(error.message))?;
    check_degradations(links, &schedule).map_err(|error| UsageError(error.message))?;
    Ok(schedule)
}

fn node(
    args: &LocalArgs,
    workload: &Workload,
    places: &[Place],
    place: &Place,
    run_id: u64,
    window: Option<Duration>,
) -> NodeArgs {
    let longest = match &workload.load {
        Load::Explore { cool_down, run, trials, .. } => {
            (cool_down.as_secs() + run.as_secs()).saturating_mul(trials.len() as u64) + cool_down.as_secs()
        }
        Load::Steady { .. } => args.warm_up_seconds + window.unwrap_or_default().as_secs() + args.drain_seconds,
    };
    let measuring = 2 * longest_link_probe_seconds(args.links.link_probe_seconds, args.num_nodes);
    NodeArgs {
        id: place.id,
        num_nodes: args.num_nodes,
        metric_port: place.metric_port,
        p2p_port: place.p2p_port,
        bootstrap: Bootstrap(places.iter().map(|place| place.peer.clone()).collect()),
        mode: args.mode,
        network_protocol: args.network_protocol,
        buffer_size: args.buffer_size,
        timeout: (args.ready_timeout_seconds + longest + measuring + NODE_SLACK).min(31_622_400),
        verbosity: args.verbosity,
        workload: args.workload.clone(),
        network: args.network.clone(),
        control: ControlArgs {
            controlled: true,
            // It is handed over by the environment.
            token_file: None,
            host_names: vec![],
            start_at_unix_millis: None,
            ready_timeout_seconds: args.ready_timeout_seconds,
            run_id,
            summary: None,
            // Docker hands on the port of the host's loopback to another address of the container.
            metric_address: if args.backend == Backend::Docker { Ipv4Addr::UNSPECIFIED.into() } else { LOOPBACK },
            p2p_address: place.ip,
            // A node with addresses of its own has all ports to itself.
            probe_port: place.addresses.map(|_| if place.p2p_port == PROBE_PORT { PROBE_PORT + 1 } else { PROBE_PORT }),
            profile_mode: None,
            profile_output: None,
            worker_threads: args.worker_threads,
            log_limit_mib: 256,
        },
    }
}
