//! Plan of a run on this machine, made of its arguments.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{
    arguments::{Backend, LocalArgs},
    error::CliError,
};
use crate::{
    access::RunToken,
    clock::unix_nanos,
    deploy::{Capabilities, Need, StartError, check, check_ports, docker, docker::DockerArgs, netns, process, swept},
    environment::{self, congestion_controls},
    experiment::{
        ManifestFacts, Plan, Profiler, fault_needs, find_profiler, longest_link_probe_seconds, profile_of_node,
    },
    monitoring::Monitoring,
    network::{PeerAddress, peer_id},
    node::{NodeConfig, UsageError, Workload, value_name},
    report::{RunFolder, bytes},
    scenario::{FaultSchedule, LinkPlan, Scenario, Transport, to_toml},
    terminal::tell,
};

/// Maximum number of nodes on one machine: their connections grow with the square, and the list of peers must fit a
/// command line.
const MOST_NODES: u64 = 1000;

/// Lifetime of a node beyond the longest run: only an orphan that escaped every other end reaches it.
const NODE_SLACK: u64 = 120;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// UDP port at which a node with addresses of its own answers measurements of its links.
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
    /// Program of the nodes; by default this one.
    pub(super) program: Option<PathBuf>,
    /// Flags for the creation of containers.
    pub(super) containers: DockerArgs,
}

impl LocalRun {
    /// Checks the arguments, the ports and the folder.
    pub(super) fn new(args: &LocalArgs) -> Result<Self, CliError> {
        let mut args = args.clone();
        if args.docker {
            args.backend = Backend::Docker;
        }
        if args.backend == Backend::Docker {
            args.containers.memory_limit = Some(args.containers.memory());
        }
        let mut scenario = args.scenario.resolve()?;
        let num_nodes = scenario.nodes.count;
        if num_nodes > MOST_NODES {
            return Err(CliError::Usage(format!(
                "--num-nodes {num_nodes}: one machine runs at most {MOST_NODES} nodes, each with a connection to every other"
            )));
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let share = u16::try_from((processors / num_nodes).clamp(1, 1024)).unwrap_or(1);
        scenario.nodes.worker_threads.get_or_insert(share);
        let workload = Workload::of(&scenario)?;
        announce_memory(&scenario, &workload);
        let links = scenario.link_plan().map_err(|error| CliError::Usage(error.to_string()))?;
        let faults = scenario.fault_schedule().map_err(|error| CliError::Usage(error.to_string()))?;
        check(args.backend.capabilities(), needs(&args, &scenario, &links, &faults))?;
        check_congestion_control(&scenario)?;
        let profile = &args.profile;
        let profiler = profile.profile.then(|| find_profiler(profile.profile_mode, args.node_binary.is_some()));
        let profiler = profiler.transpose()?;
        let places = places(&args, &scenario)?;
        if let Some(binary) = &mut args.node_binary {
            // A bare name would be looked up in PATH at the start.
            *binary = std::fs::canonicalize(&*binary)
                .map_err(|error| UsageError(format!("--node-binary {}: {error}", binary.display())))?;
        }
        // Different from other runs on this machine, and never 0.
        let run_id = unix_nanos().max(1);
        let peers: Vec<PeerAddress> = places.iter().map(|place| place.peer.clone()).collect();
        let longest = workload.longest_seconds(&scenario)
            + scenario.measurement.ready_timeout_seconds
            + 2 * longest_link_probe_seconds(scenario.links.certificate.probe_seconds, num_nodes)
            + NODE_SLACK;
        let mut nodes: Vec<NodeConfig> = places
            .iter()
            .map(|place| NodeConfig {
                // Docker forwards the port of the host's loopback to another address of the container.
                metric_address: if args.backend == Backend::Docker { Ipv4Addr::UNSPECIFIED.into() } else { LOOPBACK },
                p2p_address: place.ip,
                bootstrap: peers.clone(),
                lifetime_seconds: longest,
                controlled: true,
                run_id,
                // A node with addresses of its own has all ports to itself.
                probe_port: place
                    .addresses
                    .map(|_| if place.p2p_port == PROBE_PORT { PROBE_PORT + 1 } else { PROBE_PORT }),
                ..NodeConfig::new(place.id, place.metric_port, place.p2p_port, scenario.clone())
            })
            .collect();
        for node in &nodes {
            node.validate()?;
        }
        let live_port = args.live.port(&args.observe)?;
        // A token in the environment is also known to other programs that send requests to the nodes.
        let token = match RunToken::given(None).map_err(UsageError)? {
            Some(token) => token,
            None => RunToken::random().map_err(|error| UsageError(format!("no random numbers: {error}")))?,
        };
        let monitoring = swept(|| {
            nodes.iter().try_for_each(|node| check_ports(node, args.backend == Backend::Process))?;
            Monitoring::new(&args.observe, &nodes)
        })?;
        let folder = RunFolder::create(args.output.as_deref()).map_err(|error| UsageError(error.to_string()))?;
        let prepared = prepare_folder(&folder, &scenario, monitoring.as_ref(), profiler.is_some());
        prepared.inspect_err(|_| folder.discard())?;
        for node in &mut nodes {
            // A container does not see the folder.
            node.summary = (args.backend != Backend::Docker).then(|| folder.node_summary(node.id));
            if let Some(Profiler::BuiltIn(mode)) = profiler {
                node.profile_mode = Some(mode);
                node.profile_output = Some(profile_of_node(&folder.profiles(), mode, node.id));
            }
        }
        let manifest = ManifestFacts {
            backend: value_name(&args.backend),
            image: None,
            arguments: serde_json::to_value(&args).map_err(|error| UsageError(error.to_string()))?,
            remote: None,
        };
        let plan = Plan {
            faults,
            addresses: places.iter().filter_map(|place| place.addresses).collect(),
            congestion_control: scenario.links.congestion_control.clone(),
            endpoints: nodes.iter().map(|node| (node.id, format!("127.0.0.1:{}", node.metric_port))).collect(),
            probe_targets: nodes.iter().filter_map(|node| Some((node.id, probe_target(node)?))).collect(),
            profiler,
            monitoring,
            live_port,
            keep_open: args.live.keep_open,
            token: Some(token),
            ..Plan::new(scenario, workload, links, nodes, folder, manifest)
        };
        Ok(Self { plan, backend: args.backend, program: args.node_binary, containers: args.containers })
    }

    /// Sets every node's addresses, IPv4 and IPv6, before anything has started. The nodes use IPv4.
    pub(super) fn move_to(&mut self, addresses: &[[IpAddr; 2]]) -> Result<(), UsageError> {
        let plan = &mut self.plan;
        let peers = plan.nodes.iter().zip(addresses);
        let peers = peers.map(|(node, [ip, _])| peer_address(*ip, node.p2p_port, node.is_quic(), node.id));
        let peers: Vec<PeerAddress> = peers.collect::<Result<_, _>>()?;
        for (node, [ip, _]) in plan.nodes.iter_mut().zip(addresses) {
            node.p2p_address = *ip;
            node.bootstrap.clone_from(&peers);
        }
        plan.probe_targets = plan.nodes.iter().filter_map(|node| Some((node.id, probe_target(node)?))).collect();
        plan.addresses = addresses.to_vec();
        Ok(())
    }

    /// Error of a run whose nodes did not start. If nothing was started, the folder is removed.
    pub(super) fn not_started(&self, error: StartError) -> CliError {
        if matches!(error, StartError::Usage(_)) {
            self.plan.folder.discard();
        }
        error.into()
    }
}

/// Size of messages above which the memory of the nodes is reported before a run, in bytes.
const LARGE_MESSAGE: usize = 4 << 20;

/// Reports the maximum memory of the nodes' buffers, if messages are large.
fn announce_memory(scenario: &Scenario, workload: &Workload) {
    if workload.first_message_size() <= LARGE_MESSAGE {
        return;
    }
    let all = workload.buffer_bytes(scenario).saturating_mul(scenario.nodes.count);
    let there = environment::memory_bytes().map_or_else(String::new, |there| format!(" of {}", bytes(there as f64)));
    tell(&format!(
        "Message buffers of the {} nodes may take up to {}{there}; gossipsub keeps messages of 5 s beside them",
        scenario.nodes.count,
        bytes(all as f64)
    ));
}

/// Writes the files that repeat the run into its folder, and makes the folders that others write to.
fn prepare_folder(
    folder: &RunFolder,
    scenario: &Scenario,
    monitoring: Option<&Monitoring>,
    profiled: bool,
) -> Result<(), CliError> {
    if monitoring.is_some_and(|monitoring| monitoring.grafana.is_some()) && folder.root().to_str().is_none() {
        let path = folder.root().display();
        return Err(CliError::Usage(format!("{path}: Grafana takes only a path that is UTF-8: give another --output")));
    }
    folder.write_scenario(&to_toml(scenario).map_err(CliError::Failed)?)?;
    if profiled {
        std::fs::create_dir_all(folder.profiles()).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    Ok(())
}

/// Capabilities that the run needs.
fn needs<'a>(
    args: &'a LocalArgs,
    scenario: &'a Scenario,
    links: &LinkPlan,
    faults: &'a FaultSchedule,
) -> impl Iterator<Item = Need<'a>> {
    let mut needs: Vec<Need<'a>> = args.containers.given().map(Need::Image).collect();
    needs.extend(args.node_binary.is_some().then_some(Need::HostProgram));
    needs.extend(links.shapes().any(|shape| shape.needs_netem()).then_some(Need::Delays));
    needs.extend((!links.is_unshaped()).then_some(Need::Rates));
    needs.extend(scenario.links.congestion_control.as_deref().map(Need::CongestionControl));
    needs.extend(fault_needs(faults));
    needs.extend(args.profile.profile.then_some(Need::Profiles));
    needs.extend(scenario.links.ipv6.then_some(Need::Ipv6));
    needs.into_iter()
}

/// Address at which a node answers measurements of its links.
fn probe_target(node: &NodeConfig) -> Option<SocketAddr> {
    Some(SocketAddr::new(node.p2p_address, node.probe_port?))
}

fn port(base: u16, id: u64, flag: &str, num_nodes: u64) -> Result<u16, UsageError> {
    match u16::try_from(u64::from(base) + id) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(UsageError(format!("{flag} {base}: {num_nodes} nodes need ports from 1 to 65535"))),
    }
}

/// Addresses and ports of a node.
struct Place {
    id: u64,
    metric_port: u16,
    p2p_port: u16,
    /// IPv4 and IPv6, if the node has an interface of its own.
    addresses: Option<[IpAddr; 2]>,
    /// Listening address for its peers.
    ip: IpAddr,
    peer: PeerAddress,
}

fn places(args: &LocalArgs, scenario: &Scenario) -> Result<Vec<Place>, UsageError> {
    let num_nodes = scenario.nodes.count;
    let span = |base: u16| u64::from(base)..u64::from(base) + num_nodes;
    let (metric, p2p) = (span(args.base_metric_port), span(args.base_p2p_port));
    if metric.start < p2p.end && p2p.start < metric.end {
        return Err(UsageError(format!(
            "--base-metric-port {} and --base-p2p-port {} overlap for {num_nodes} nodes",
            args.base_metric_port, args.base_p2p_port
        )));
    }
    (0..num_nodes)
        .map(|id| {
            let metric_port = port(args.base_metric_port, id, "--base-metric-port", num_nodes)?;
            let p2p_port = port(args.base_p2p_port, id, "--base-p2p-port", num_nodes)?;
            let addresses = match args.backend {
                Backend::Process => None,
                // Docker's addresses are known only after its network exists; see `LocalRun::move_to`.
                Backend::Netns | Backend::Docker => Some(netns::addresses(id)),
            };
            let ip = addresses.map_or(LOOPBACK, |addresses| addresses[usize::from(scenario.links.ipv6)]);
            let peer = peer_address(ip, p2p_port, scenario.network.transport == Transport::Quic, id)?;
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

/// Congestion control, if the nodes can use it.
fn check_congestion_control(scenario: &Scenario) -> Result<(), UsageError> {
    let Some(name) = &scenario.links.congestion_control else { return Ok(()) };
    let refused = |why: &str| Err(UsageError(format!("--congestion-control {name}: {why}")));
    if scenario.network.transport == Transport::Quic {
        return refused("QUIC does not use the kernel's congestion control, only TCP does: leave --quic out");
    }
    let there = congestion_controls();
    // If a kernel does not list them, the error appears when the nodes' routes are made.
    if there.is_empty() || there.contains(name) {
        return Ok(());
    }
    refused(&format!(
        "this kernel has {}; another one is in a module of its own (modprobe tcp_NAME, where the kernel has it)",
        there.join(", ")
    ))
}
