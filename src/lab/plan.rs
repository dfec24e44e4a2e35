//! What a run will do, checked as a whole before anything starts.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    arguments::{LinkArgs, LocalArgs},
    backend::Backend,
    docker, links, netns,
    observe::Observation,
    profile::{self, Means},
    remote::Elsewhere,
    run::{DEFAULT_WINDOW, DEFAULTS},
    runner::kill_orphans,
    schedule::{Action, Groups, Schedule},
};
use crate::{
    access::RunToken,
    environment::congestion_controls,
    network::{PeerAddress, peer_id},
    node::{Bootstrap, ControlArgs, Load, NodeArgs, UsageError, Workload, unix_nanos, value_name},
    report::{RunFolder, WorkloadSummary},
    shaping::{InterfacePlan, LinkPlan, PeerRule, Shape, ShapeFlags},
    terminal::tell,
};

/// Most nodes on one machine: their connections grow with the square, and the list of peers must fit a command line.
const MOST_NODES: u64 = 1000;

/// Time that a node lives beyond the longest run: only an orphan that escaped every other end meets it.
const NODE_SLACK: u64 = 120;

/// Longest wait for Docker to remove what killed runs have left.
const SWEEP_LIMIT: Duration = Duration::from_secs(40);

/// Longest wait for the kernel to close the ports of a process that was killed just now, and the pace of the looks.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
const CLOSE_POLL: Duration = Duration::from_millis(20);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where a node with addresses of its own answers measurements of its links (UDP).
const PROBE_PORT: u16 = 9999;

/// A run that can start.
pub(super) struct Plan {
    pub(super) args: LocalArgs,
    pub(super) workload: Workload,
    pub(super) nodes: Vec<NodeArgs>,
    pub(super) folder: RunFolder,
    /// What every link is to be like.
    pub(super) links: LinkPlan,
    /// What is done to the network while it is measured.
    pub(super) schedule: Schedule,
    /// Addresses of each node in the p2p network; empty where links can't be shaped.
    pub(super) addresses: Vec<[IpAddr; 2]>,
    /// What was made ready in Docker, for that backend.
    pub(super) docker: Option<Arc<docker::Prepared>>,
    /// How the nodes are profiled, if they are.
    pub(super) profile: Option<Means>,
    /// Who watches the run.
    pub(super) observation: Option<Observation>,
    /// What is known of nodes that run elsewhere.
    pub(super) elsewhere: Option<Elsewhere>,
    /// The secret that the nodes take orders with; none for nodes that run elsewhere where no one has given it.
    pub(super) token: Option<RunToken>,
    /// Measured window; none in explore mode, where it is the longest time for all trials, if there is one.
    pub(super) window: Option<Duration>,
}

impl Plan {
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
        fill_in(&mut args, &workload);
        if args.docker {
            args.backend = Backend::Docker;
        }
        docker::complete(&mut args)?;
        let links = links(&args)?;
        check_congestion_control(&args)?;
        let schedule = schedule(&args, &links, window.filter(|_| !explore))?;
        let profile = profile::means(&args)?;
        let places = places(&args)?;
        if let Some(binary) = &mut args.node_binary {
            // A bare name would be looked for in PATH when it is started.
            *binary = std::fs::canonicalize(&*binary)
                .map_err(|error| UsageError(format!("--node-binary {}: {error}", binary.display())))?;
        }
        // Different from other runs on this machine, and never 0.
        let run_id = unix_nanos().max(1);
        let nodes: Vec<NodeArgs> =
            places.iter().map(|place| node(&args, &workload, &places, place, run_id, window)).collect();
        for node in &nodes {
            node.validate()?;
        }
        check_seeing(&args)?;
        // One in the environment is for whoever wants to ask the nodes, too.
        let token = match RunToken::given(None).map_err(UsageError)? {
            Some(token) => token,
            None => RunToken::random().map_err(|error| UsageError(format!("no random numbers: {error}")))?,
        };
        let observation = swept(|| {
            nodes.iter().try_for_each(|node| check_ports(node, args.backend))?;
            Observation::new(&args.observe, &nodes)
        })?;
        let addresses = places.iter().filter_map(|place| place.addresses).collect();
        let folder = RunFolder::create(args.output.as_deref()).map_err(|error| UsageError(error.to_string()))?;
        if let (Some(observation), None) = (&observation, folder.root().to_str())
            && observation.grafana.is_some()
        {
            folder.discard();
            return Err(UsageError(format!(
                "{}: Grafana takes only a path that is UTF-8: give another --output",
                folder.root().display()
            )));
        }
        if profile.is_some() {
            std::fs::create_dir_all(folder.profiles()).map_err(|error| UsageError(error.to_string()))?;
        }
        let nodes = nodes
            .into_iter()
            .map(|mut node| {
                // A container does not see the folder.
                node.control.summary = (args.backend != Backend::Docker).then(|| folder.node_summary(node.id));
                if let Some(Means::BuiltIn(mode)) = profile {
                    node.control.profile_mode = Some(mode);
                    node.control.profile_output = Some(profile::node_file(&folder.profiles(), mode, node.id));
                }
                node
            })
            .collect();
        Ok(Self {
            args,
            workload,
            nodes,
            folder,
            links,
            schedule,
            addresses,
            docker: None,
            profile,
            observation,
            elsewhere: None,
            token: Some(token),
            window,
        })
    }

    /// Gives every node other addresses, IPv4 and IPv6, before anything has started.
    pub(super) fn move_to(&mut self, addresses: Vec<[IpAddr; 2]>) -> Result<(), UsageError> {
        let family = usize::from(self.args.ipv6);
        let peers =
            self.nodes.iter().zip(&addresses).map(|(node, addresses)| {
                peer_address(addresses[family], node.p2p_port, self.args.network.quic, node.id)
            });
        let peers: Vec<PeerAddress> = peers.collect::<Result<_, _>>()?;
        for (node, addresses) in self.nodes.iter_mut().zip(&addresses) {
            node.control.p2p_address = addresses[family];
            node.bootstrap = Bootstrap(peers.clone());
        }
        self.addresses = addresses;
        Ok(())
    }

    /// The endpoint of a node: host and port.
    pub(super) fn endpoint(&self, node: &NodeArgs) -> String {
        let elsewhere = self.elsewhere.as_ref().and_then(|elsewhere| elsewhere.endpoints.get(&node.id));
        // Wherever a backend has put the node, its endpoint is to be had here.
        elsewhere.map_or_else(|| format!("127.0.0.1:{}", node.metric_port), |endpoint| endpoint.address().to_owned())
    }

    /// Where a node answers measurements of its links.
    pub(super) fn probe_target(&self, id: u64) -> Option<SocketAddr> {
        if let Some(elsewhere) = &self.elsewhere {
            return elsewhere.probe_targets.get(&id).copied();
        }
        let node = self.nodes.iter().find(|node| node.id == id)?;
        Some(SocketAddr::new(node.control.p2p_address, node.control.probe_port?))
    }

    /// Whether two nodes have the same clock.
    pub(super) fn share_a_clock(&self, one: u64, other: u64) -> bool {
        self.elsewhere.as_ref().is_none_or(|elsewhere| elsewhere.share_a_clock(one, other))
    }

    /// Whether the run is one of trials.
    pub(super) fn is_explore(&self) -> bool {
        matches!(self.workload.load, Load::Explore { .. })
    }

    /// What is done at each node's interface.
    pub(super) fn interfaces(&self) -> Vec<InterfacePlan> {
        (0..self.args.num_nodes).map(|id| self.interface(&self.links, None, id)).collect()
    }

    /// What is done at a node's interface to make `links`, and to cut it off from the groups that it is not in.
    pub(super) fn interface(&self, links: &LinkPlan, groups: Option<&Groups>, id: u64) -> InterfacePlan {
        let rate = Shape { throughput_kilobytes_per_second: links.interface(id), ..Shape::default() };
        let egress = Shape { throughput_kilobytes_per_second: links.interface(id), ..links.default };
        let degradations: Vec<Shape> = self.schedule.degradations().collect();
        let mut plan = InterfacePlan {
            egress,
            ingress: rate,
            congestion_control: self.args.congestion_control.clone(),
            blockable: self.schedule.cuts(),
            adjustable_delay: degradations.iter().any(Shape::needs_netem),
            adjustable_rate: degradations.iter().any(|shape| shape.throughput_kilobytes_per_second.is_some()),
            ..InterfacePlan::default()
        };
        let others = || (0..).zip(&self.addresses).filter(|(other, _)| *other != id);
        let apart =
            |other: &u64| groups.is_some_and(|groups| !groups.iter().any(|g| g.contains(&id) && g.contains(other)));
        plan.blocked = others().filter(|(other, _)| apart(other)).flat_map(|(_, addresses)| *addresses).collect();
        if links.differs_by_link() || !degradations.is_empty() {
            plan.peers = others()
                .map(|(other, addresses)| PeerRule { addresses: addresses.to_vec(), shape: links.link(id, other) })
                .collect();
        }
        plan
    }

    /// The workload in a few words.
    pub(super) fn summary(&self) -> WorkloadSummary {
        let (message_size_bytes, heartbeat_millis) = self.workload.single_pace();
        WorkloadSummary {
            num_nodes: self.args.num_nodes,
            mode: value_name(&self.args.mode),
            network_protocol: value_name(&self.args.network_protocol),
            transport: if self.args.network.quic { "quic" } else { "tcp" }.into(),
            message_size_bytes,
            heartbeat_millis,
        }
    }
}

/// Puts the defaults in effect into the arguments, which go to the nodes and into the manifest.
fn fill_in(args: &mut LocalArgs, workload: &Workload) {
    workload.fill_in(&mut args.workload);
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = u16::try_from((processors / args.num_nodes).clamp(1, 1024)).unwrap_or(1);
    args.worker_threads = args.worker_threads.or(Some(share));
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
    if args.ipv6 && args.backend != Backend::Netns {
        return Err(UsageError("--ipv6 needs --backend netns: elsewhere the nodes speak IPv4".into()));
    }
    (0..args.num_nodes)
        .map(|id| {
            let metric_port = port(args.base_metric_port, id, "--base-metric-port", args.num_nodes)?;
            let p2p_port = port(args.base_p2p_port, id, "--base-p2p-port", args.num_nodes)?;
            let addresses = match args.backend {
                Backend::Process => None,
                // Docker's are known only once there is a network; see `Plan::move_to`.
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
    let links = asked_links(&args.shape, &args.links, args.num_nodes)?;
    if args.backend == Backend::Process && !links.is_free() {
        return Err(UsageError(
            "processes on the loopback can't be shaped: add --backend netns or --docker, which give each node an \
             interface of its own"
                .into(),
        ));
    }
    Ok(links)
}

/// The congestion control, if it can be that of the nodes.
fn check_congestion_control(args: &LocalArgs) -> Result<(), UsageError> {
    let Some(name) = &args.congestion_control else { return Ok(()) };
    let refused = |why: &str| Err(UsageError(format!("--congestion-control {name}: {why}")));
    if args.network.quic {
        return refused("QUIC does not use the kernel's congestion control, only TCP does: leave --quic out");
    }
    if args.backend == Backend::Process {
        return refused(
            "processes on the loopback share the host's: add --backend netns or --docker, which give each node routes of \
             its own",
        );
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

/// What the flags and the file say of the links, wherever they are.
pub(super) fn asked_links(shape: &ShapeFlags, given: &LinkArgs, num_nodes: u64) -> Result<LinkPlan, UsageError> {
    let usage = |error: &dyn std::fmt::Display| UsageError(error.to_string());
    let shape = shape.shape().map_err(|error| usage(&error))?;
    let links = match &given.file {
        Some(path) => LinkPlan::read(path, shape, num_nodes).map_err(|error| usage(&error))?,
        None => LinkPlan::uniform(shape),
    };
    for (name, value) in [
        ("--tolerance-percent", given.tolerance_percent),
        ("--tolerance-millis", given.tolerance_millis),
        ("--throughput-tolerance-percent", given.throughput_tolerance_percent),
    ] {
        if !(0.0..=1e6).contains(&value) {
            return Err(UsageError(format!("{name} {value}: give a number from 0 on")));
        }
    }
    Ok(links)
}

/// The faults, checked against the run and its links.
fn schedule(args: &LocalArgs, links: &LinkPlan, window: Option<Duration>) -> Result<Schedule, UsageError> {
    let schedule = Schedule::new(&args.faults.given, args.faults.file.as_deref(), args.num_nodes, window)?;
    for fault in schedule.faults() {
        let shapes = matches!(fault.action, Action::Partition(_) | Action::Degrade(..));
        if shapes && args.backend == Backend::Process {
            return Err(UsageError(format!(
                "fault '{fault}' needs links of their own: add --backend netns or --docker"
            )));
        }
        if let Action::Degrade(directions, shape) = &fault.action {
            for (from, to) in directions {
                let with = links.link(*from, *to).with(shape);
                with.map_err(|error| UsageError(format!("fault '{fault}': {error}")))?;
            }
        }
    }
    let duplicates = |shape: &Shape| shape.duplicate_percent > 0.0;
    let differ = links.differs_by_link() || schedule.degradations().next().is_some();
    let any = schedule.degradations().any(|shape| duplicates(&shape)) || links.shapes().any(duplicates);
    if differ && any {
        return Err(UsageError(
            "duplicate has to be the same for every link, and no link may be degraded: kernels duplicate packets only where \
             one netem is all there is at an interface"
                .into(),
        ));
    }
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
    let measuring = 2 * links::longest(args);
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

/// The flags of what shows a run, checked against one another.
pub(super) fn check_seeing(args: &LocalArgs) -> Result<(), UsageError> {
    let (seeing, observe) = (&args.seeing, &args.observe);
    if seeing.keep_open && !observe.observe && !seeing.live {
        return Err(UsageError("--keep-open needs something to keep open: add --live or --observe".into()));
    }
    if seeing.live && observe.observe && [observe.prometheus_port, observe.grafana_port].contains(&seeing.live_port) {
        return Err(UsageError(format!("--live-port {} is a port of --observe: choose another", seeing.live_port)));
    }
    Ok(())
}

/// Checks ports. Where one is taken, what killed runs have left is removed, and it is checked again.
fn swept<T>(check: impl Fn() -> Result<T, UsageError>) -> Result<T, UsageError> {
    if let Ok(free) = check() {
        return Ok(free);
    }
    let killed = kill_orphans();
    if killed > 0 {
        tell(&format!("killed what a run that was killed has left: {killed} processes"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let removed = runtime.ok().and_then(|runtime| {
        let sweep = async { tokio::time::timeout(SWEEP_LIMIT, docker::sweep()).await };
        // Without Docker nothing is left in it.
        runtime.block_on(sweep).ok()?.ok()?
    });
    if let Some(line) = &removed {
        tell(line);
    }
    let since = Instant::now();
    loop {
        match check() {
            Err(_) if since.elapsed() < CLOSE_LIMIT => std::thread::sleep(CLOSE_POLL),
            checked => return checked,
        }
    }
}

/// A port that is taken is found before anything starts.
fn check_ports(node: &NodeArgs, backend: Backend) -> Result<(), UsageError> {
    let socket = |port| SocketAddr::new(LOOPBACK, port);
    let refused = |flag: &str, port: u16, error: std::io::Error| {
        UsageError(format!("port {port} of node {} can't be used: {error}; move the ports with {flag}", node.id))
    };
    TcpListener::bind(socket(node.metric_port))
        .map_err(|error| refused("--base-metric-port", node.metric_port, error))?;
    if backend != Backend::Process {
        return Ok(());
    }
    let p2p = socket(node.p2p_port);
    if node.network.quic { UdpSocket::bind(p2p).map(drop) } else { TcpListener::bind(p2p).map(drop) }
        .map_err(|error| refused("--base-p2p-port", node.p2p_port, error))
}
