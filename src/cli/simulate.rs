//! `apollo-bench simulate`: a scenario in virtual time.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum, value_parser};
use serde::Serialize;
use tokio::runtime;

use super::{
    arguments::PrintArgs,
    error::CliError,
    print::{print_run, verdict},
    processor_flags::ProcessorFlags,
    scenario_flags::ScenarioFlags,
};
use crate::{
    clock,
    deploy::{StartError, check, simulation, simulation::Simulated},
    environment::memory_bytes,
    experiment::{Manifest, ManifestFacts, Plan, scenario_needs, simulate},
    network::{PeerAddress, peer_id},
    node::{NodeConfig, SharedWorkload, UsageError, Workload},
    paths::as_text_if_given,
    report::{BracketRow, RunFolder, RunSummary, SimulationFacts, agreement_bands, bytes, extrapolations, figures},
    scenario::{LinkPlan, Protocol, Scenario, Transport, to_toml},
    signals::Interrupts,
    simulation::{Interrupt, Simulation, network::Discipline, processor::Processor},
    terminal::tell,
};

/// Port of every node, each of which has a host of its own.
const PORT: u16 = 10_000;

/// Begin of virtual time, in nanoseconds since the Unix epoch: 2026-01-01.
const START: u64 = 1_767_225_600_000_000_000;

/// Order of service between the connections of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    /// In turns of about a millisecond
    #[default]
    Fair,
    /// In the order in which their segments were ready, as one queue
    Fifo,
}

impl From<Order> for Discipline {
    fn from(order: Order) -> Self {
        match order {
            Order::Fair => Self::Fair,
            Order::Fifo => Self::Fifo,
        }
    }
}

/// A scenario in virtual time.
#[derive(Clone, Debug, Args, Serialize)]
pub(super) struct SimulateArgs {
    /// Scenario file; the same as --scenario
    #[arg(value_name = "SCENARIO", conflicts_with = "scenario")]
    #[serde(serialize_with = "as_text_if_given")]
    file: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    scenario: ScenarioFlags,
    /// Order of service between the connections of a host whose interface is limited
    #[arg(long, value_enum, default_value = "fair")]
    discipline: Order,
    /// Simulate under both orders of service, and print the figures of both
    #[arg(long)]
    bracket: bool,
    /// Threads that simulate, which run apart for the least latency of any link; the result depends on their number, so it
    /// does not follow the machine [default: 2 for 64 nodes or more and a latency, less its jitter, of at least 1 ms;
    /// otherwise 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=MOST_THREADS))]
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<u16>,
    #[command(flatten)]
    #[serde(flatten)]
    processor: ProcessorFlags,
    /// Folder for the results; must be empty or new [default: /tmp/broadcast-network-stress-test-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "as_text_if_given")]
    output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    print: PrintArgs,
}

/// Maximum number of threads.
const MOST_THREADS: i64 = 64;

/// Nodes and milliseconds of latency, less its jitter, from which on two threads are faster than one.
const THREADS_FROM: (u64, f64) = (64, 1.0);

/// Number of threads that simulate these nodes, if no flag says it.
fn threads_for(nodes: u64, links: &LinkPlan) -> u16 {
    let (few, short) = THREADS_FROM;
    if nodes >= few && links.least_latency_millis(nodes) >= short { 2 } else { 1 }
}

/// A simulation that can start.
struct Prepared {
    plan: Plan,
    workload: Arc<SharedWorkload>,
    facts: SimulationFacts,
    discipline: Discipline,
    processor: Processor,
}

/// Addresses of a node's host.
fn addresses(id: u64) -> [IpAddr; 2] {
    let number = u32::try_from(id).unwrap_or(u32::MAX).saturating_add(1);
    let v4 = Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]).saturating_add(number));
    [v4.into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, (number >> 16) as u16, number as u16).into()]
}

/// Refuses scenarios that the model does not have.
fn check_model(scenario: &Scenario, plan: &LinkPlan) -> Result<(), CliError> {
    let refused = |line: String| Err(CliError::Usage(line));
    if scenario.network.transport == Transport::Quic {
        return refused("a simulation has TCP only: leave --quic out".into());
    }
    match scenario.links.congestion_control.as_deref() {
        None | Some("cubic") => {}
        Some(other) => return refused(format!("--congestion-control {other}: a simulation has cubic only")),
    }
    if plan.shapes().any(|shape| shape.duplicate_percent > 0.0 || shape.reorder_percent > 0.0) {
        return refused(
            "a simulation has no duplicated and no reordered packets: leave duplicate and reorder out".into(),
        );
    }
    Ok(())
}

/// Shortcuts that make a simulation cheaper, and differ from a network with the settings of all others.
fn shortcuts(scenario: &Scenario) -> Vec<String> {
    let network = &scenario.network;
    let unsigned = network.protocol == Protocol::Gossipsub && !network.gossipsub.signing;
    unsigned
        .then(|| "messages are not signed: nobody checks signatures, and each copy is smaller by one".into())
        .into_iter()
        .collect()
}

impl Prepared {
    fn new(args: &SimulateArgs, folder: RunFolder, discipline: Order) -> Result<Self, CliError> {
        let processor = args.processor.model()?;
        let mut flags = args.scenario.clone();
        flags.scenario = flags.scenario.or_else(|| args.file.clone());
        let mut scenario = flags.resolve()?;
        scenario.nodes.worker_threads = Some(1);
        let workload = Workload::of(&scenario)?;
        let links = scenario.link_plan().map_err(|error| CliError::Usage(error.to_string()))?;
        let faults = scenario.fault_schedule().map_err(|error| CliError::Usage(error.to_string()))?;
        check_model(&scenario, &links)?;
        check(&simulation::CAPABILITIES, scenario_needs(&scenario, &links, &faults))?;
        let count = scenario.nodes.count;
        let peer = |id: u64| -> Result<PeerAddress, UsageError> {
            let [ip, _] = addresses(id);
            let text = format!("/ip4/{ip}/tcp/{PORT}/p2p/{}", peer_id(id));
            text.parse().map_err(|error| UsageError(format!("{error}")))
        };
        let peers: Vec<PeerAddress> = (0..count).map(peer).collect::<Result<_, _>>()?;
        let mut nodes = vec![];
        for id in 0..count {
            // A node knows its neighbours alone, because a list of all at all nodes grows with the square.
            let bootstrap = match workload.neighbours.as_ref().and_then(|all| all.get(usize::try_from(id).ok()?)) {
                Some(near) => near.iter().filter_map(|id| peers.get(usize::try_from(*id).ok()?)).cloned().collect(),
                None => peers.clone(),
            };
            nodes.push(NodeConfig {
                p2p_address: addresses(id)[0],
                bootstrap,
                lifetime_seconds: u64::MAX,
                controlled: true,
                run_id: scenario.seed.max(1),
                ..NodeConfig::new(id, PORT - 1, PORT, scenario.clone())
            });
        }
        folder.write_scenario(&to_toml(&scenario).map_err(CliError::Failed)?)?;
        let facts = SimulationFacts {
            seed: scenario.seed,
            threads: args
                .threads
                .unwrap_or_else(|| threads_for(count, &links))
                .min(u16::try_from(count).unwrap_or(u16::MAX)),
            discipline: if discipline == Order::Fifo { "fifo".into() } else { "fair".into() },
            congestion_control: "cubic".into(),
            processors: processor.to_string(),
            shortcuts: shortcuts(&scenario),
            agreement: agreement_bands(),
            extrapolated: extrapolations(&scenario, &links),
            ..SimulationFacts::default()
        };
        let shared = Arc::new(SharedWorkload::new(workload.clone()));
        let manifest = ManifestFacts {
            backend: "simulation".into(),
            image: None,
            arguments: serde_json::to_value(args).map_err(|error| UsageError(error.to_string()))?,
            remote: None,
        };
        let plan = Plan {
            faults,
            addresses: (0..count).map(addresses).collect(),
            ..Plan::new(scenario, workload, links, nodes, folder, manifest)
        };
        Ok(Self { plan, workload: shared, facts, discipline: discipline.into(), processor })
    }

    /// Bytes of memory that the simulation will take, roughly.
    fn memory_estimate(&self) -> u64 {
        let nodes = self.plan.num_nodes;
        let degree = match &self.plan.workload.neighbours {
            Some(all) => all.iter().map(|near| near.len() as u64).sum::<u64>() / nodes.max(1),
            None => nodes.saturating_sub(1),
        };
        let message = self.plan.workload.first_message_size() as u64;
        let heartbeats = self.plan.scenario.network.gossipsub.heartbeat_millis.saturating_mul(HEARTBEATS_KEPT);
        let per_second = self.plan.workload.offered_bytes_per_second().unwrap_or_default();
        let kept = (per_second * heartbeats as f64 / 1e3) as u64;
        let messages = kept.saturating_add(message.saturating_mul(degree.min(COPIES_UNDER_WAY)));
        nodes.saturating_mul((BYTES_PER_NODE + degree * BYTES_PER_PEER).saturating_add(messages))
    }

    /// Simulates on a thread of its own, until the end or an interruption.
    fn run(self, interrupt: &Interrupt) -> Result<(RunSummary, RunFolder), CliError> {
        let Self { plan, workload, facts, discipline, processor } = self;
        let manifest = plan.folder.write_json(&plan.folder.manifest(), &Manifest::new(&plan));
        manifest.map_err(|error| CliError::Failed(error.to_string()))?;
        let simulation = Simulation {
            seed: facts.seed,
            start_unix_nanos: START,
            threads: facts.threads.into(),
            discipline,
            processor,
            interrupt: interrupt.clone(),
        };
        let interrupt = interrupt.clone();
        let ended = crate::simulation::run(simulation, move || async move {
            let launch = || {
                let interface = |id| plan.interface(&plan.links, None, id);
                let keeps = !plan.faults.is_empty();
                Simulated::start(plan.nodes.clone(), plan.addresses.clone(), workload, interface, keeps)
            };
            let run = simulate(&plan, launch, facts, &interrupt).await;
            (run, plan.folder)
        });
        let (run, folder) = ended.map_err(CliError::Failed)?;
        Ok((run.map_err(|error: StartError| CliError::from(error))?, folder))
    }
}

/// Memory of a node and of each of its peers, measured with gossipsub, in bytes.
const BYTES_PER_NODE: u64 = 700_000;
const BYTES_PER_PEER: u64 = 45_000;

/// Heartbeats for which gossipsub keeps every message at every node.
const HEARTBEATS_KEPT: u64 = 6;

/// Copies of a message under way to and from a node at once, at most: whole ones in queues and parts of them in buffers.
const COPIES_UNDER_WAY: u64 = 16;

/// Figures of the bracket.
const BRACKET: [&str; 6] = ["delay_p50", "delay_p90", "delay_p99", "reach_2_3_p50", "reach_all_p50", "reach_all_p99"];

/// The figures of a run under the other order of service.
fn bracket(other: &RunSummary) -> Vec<BracketRow> {
    let known = figures(other).into_iter().filter(|figure| BRACKET.contains(&figure.name.as_str()));
    known.map(|figure| BracketRow { other_micros: figure.number(), figure: figure.name }).collect()
}

/// Ends a simulation at Ctrl-C, SIGTERM or SIGHUP.
fn watch_signals(interrupt: &Interrupt) -> Result<(), CliError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("the runtime does not start: {error}")))?;
    let mut interrupts = {
        let _inside = runtime.enter();
        Interrupts::new().map_err(|error| CliError::Failed(error.to_string()))?
    };
    let interrupt = interrupt.clone();
    let watching = std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(interrupts.next());
        interrupt.ask();
    });
    watching.map(drop).map_err(|error| CliError::Failed(error.to_string()))
}

/// Simulates a network, and prints its result.
///
/// # Errors
/// Fails if it can't be simulated, is invalid, or missed an objective.
pub(super) fn simulate_command(args: &SimulateArgs) -> Result<(), CliError> {
    clock::machine_elapsed();
    let folder = RunFolder::create(args.output.as_deref()).map_err(|error| UsageError(error.to_string()))?;
    let root = folder.root().to_owned();
    let discard = || RunFolder::at(&root).discard();
    let mut prepared = Prepared::new(args, folder, args.discipline).inspect_err(|_| discard())?;
    let estimate = prepared.memory_estimate();
    let there = memory_bytes().map_or_else(String::new, |there| format!(" of {}", bytes(there as f64)));
    let nodes = prepared.plan.num_nodes;
    let them = if nodes == 1 { "node" } else { "nodes" };
    tell(&format!("Simulates {nodes} {them} in about {} of memory{there}", bytes(estimate as f64)));
    let interrupt = Interrupt::default();
    watch_signals(&interrupt)?;
    if args.bracket {
        let (order, name) = match args.discipline {
            Order::Fair => (Order::Fifo, "fifo"),
            Order::Fifo => (Order::Fair, "fair"),
        };
        let inner = RunFolder::create(Some(&root.join(name))).map_err(|error| UsageError(error.to_string()))?;
        tell(&format!("Simulates {name} order first, for the bracket"));
        let (other, _) = Prepared::new(args, inner, order)?.run(&interrupt)?;
        prepared.facts.bracket = bracket(&other);
    }
    let (run, folder) = prepared.run(&interrupt)?;
    print_run(&run, &folder, &args.print)?;
    verdict(&run)
}
