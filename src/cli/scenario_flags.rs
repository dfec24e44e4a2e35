//! Flags that describe an experiment: each replaces one value of a scenario.

use std::path::{Path, PathBuf};

use clap::{Args, builder::TypedValueParser};
use serde::Serialize;

use super::{
    error::CliError,
    scenario_file::{Source, read_links, read_scenario},
};
use crate::{
    paths::{as_text_if_given, read_text},
    scenario::{
        Explore, Fault, MessageSize, Mode, Objective, Protocol, Scenario, ScenarioError, SendPhase, Senders, Shape,
        ShapePatch, Step, TrafficClass, Transport,
    },
    shaping::ShapeFlags,
};

/// Maximum size of a file of faults, in bytes: some thousand lines.
const FAULTS_LIMIT: u64 = 64 << 10;

/// Parser of a whole number within a range that clap names in its error.
fn within(range: std::ops::RangeInclusive<u64>) -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(range)
}

/// Scenario and measurement.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub(super) struct ScenarioFlags {
    /// Scenario to start from; flags replace single values of it
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) scenario: Option<PathBuf>,
    /// Replace a value of the scenario, by its key: network.gossipsub.mesh_n=8, traffic.votes.deadline_millis=500; may
    /// be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Number of nodes [default: 3]
    #[arg(long, env = "APOLLO_NUM_NODES", value_name = "N")]
    pub(super) num_nodes: Option<u64>,
    /// Senders [default: all]
    #[arg(long, env = "APOLLO_MODE", value_enum)]
    pub(super) mode: Option<Mode>,
    /// Protocol of a broadcast [default: gossipsub]
    #[arg(long, env = "APOLLO_NETWORK_PROTOCOL", value_name = "PROTOCOL", value_enum)]
    pub(super) network_protocol: Option<Protocol>,
    /// Maximum number of messages in each queue between the schedule, the network and a peer [default: 100000]
    #[arg(long, env = "APOLLO_BUFFER_SIZE", value_name = "MESSAGES", value_parser = within(1..=10_000_000))]
    pub(super) buffer_size: Option<u64>,
    /// Log level of the nodes: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace [default: 2]
    #[arg(long, env = "APOLLO_VERBOSITY", value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=5))]
    pub(super) verbosity: Option<u8>,
    /// Threads that carry the network in each node [default: the nodes share the processors, at least 1 each]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) worker_threads: Option<u16>,
    /// Bound that a figure of the result must keep, such as 'delivery_ratio >= 0.999' or 'votes.reach_2_3_p99 <= 300ms';
    /// may be given several times. A valid run that misses one ends with exit code 3
    #[arg(long, value_name = "OBJECTIVE")]
    pub(super) expect: Vec<Objective>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) measurement: MeasurementFlags,
    #[command(flatten)]
    pub(super) workload: WorkloadFlags,
    #[command(flatten)]
    pub(super) network: NetworkFlags,
    #[command(flatten)]
    pub(super) gossip: GossipFlags,
    #[command(flatten)]
    pub(super) propeller: PropellerFlags,
    #[command(flatten)]
    pub(super) links: LinkFlags,
    #[command(flatten)]
    pub(super) faults: FaultFlags,
}

/// Lengths of the phases of a run.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub(super) struct MeasurementFlags {
    /// Length of the measured window, in seconds [default: 20; in mode explore until all trials are done]
    #[arg(long, alias = "timeout-seconds", env = "APOLLO_TIMEOUT", value_name = "S", value_parser = within(1..=31_622_400))]
    pub(super) timeout: Option<u64>,
    /// Length of the traffic before the measured window that is not counted, in seconds; mode explore has none
    /// [default: 2]
    #[arg(long, value_name = "S", value_parser = within(0..=86_400))]
    pub(super) warm_up_seconds: Option<u64>,
    /// Maximum time to wait for late messages after the window, in seconds [default: 10]
    #[arg(long, value_name = "S", value_parser = within(0..=86_400))]
    pub(super) drain_seconds: Option<u64>,
    /// Time without any arrival, and without pending work at any node, after which the wait for late messages ends
    /// early, in seconds [default: 2]
    #[arg(long, value_name = "S", value_parser = within(0..=86_400))]
    pub(super) drain_quiet_seconds: Option<u64>,
    /// Maximum time to wait until all nodes are ready, in seconds [default: 60]
    #[arg(long, value_name = "S", value_parser = within(1..=86_400))]
    pub(super) ready_timeout_seconds: Option<u64>,
    /// Time without an answer after which a node fails the run, in seconds [default: 15]
    #[arg(long, value_name = "S", value_parser = within(1..=86_400))]
    pub(super) hang_timeout_seconds: Option<u64>,
}

/// Messages: size, heartbeat, trials.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkloadFlags {
    /// Node that broadcasts, in modes one and explore [default: 0; a node alone has none]
    #[arg(long, env = "APOLLO_BROADCASTER", value_name = "ID")]
    pub(super) broadcaster: Option<u64>,
    /// Size of a whole message, its 36-byte header included, in modes all, one and rr [default: 1024; a node alone has
    /// none]
    #[arg(long, env = "APOLLO_MESSAGE_SIZE_BYTES", value_name = "BYTES")]
    pub(super) message_size_bytes: Option<usize>,
    /// Interval between the messages of a sender, in milliseconds, in modes all, one and rr [default: 100; a node alone
    /// has none]
    #[arg(long, env = "APOLLO_HEARTBEAT_MILLIS", value_name = "MS")]
    pub(super) heartbeat_millis: Option<u64>,
    /// Offset of each node's schedule in mode all: none, or a seeded fraction of the heartbeat [default: spread]
    #[arg(long, env = "APOLLO_SEND_PHASE", value_enum)]
    pub(super) send_phase: Option<SendPhase>,
    /// Seed of every random choice, such as the offsets of --send-phase spread; the same for all nodes [default: 0]
    #[arg(long, alias = "send-phase-seed", env = "APOLLO_SEND_PHASE_SEED", value_name = "NUMBER")]
    pub(super) seed: Option<u64>,
    /// Length of a node's turn in mode rr, in seconds [default: 3; a node alone has none]
    #[arg(long, env = "APOLLO_ROUND_DURATION_SECONDS", value_name = "S")]
    pub(super) round_duration_seconds: Option<u64>,
    /// Pause before each trial of mode explore, in which the network is rebuilt, in seconds [default: 100]
    #[arg(long, env = "APOLLO_EXPLORE_COOL_DOWN_DURATION_SECONDS", value_name = "S")]
    pub(super) explore_cool_down_duration_seconds: Option<u64>,
    /// Length of each trial of mode explore, in seconds [default: 100]
    #[arg(long, env = "APOLLO_EXPLORE_RUN_DURATION_SECONDS", value_name = "S")]
    pub(super) explore_run_duration_seconds: Option<u64>,
    /// Minimum throughput of a trial of mode explore, in bytes per second; trials below it are left out [default:
    /// 102400]
    #[arg(long, env = "APOLLO_EXPLORE_MIN_THROUGHPUT_BYTE_PER_SECONDS", value_name = "BYTES/S")]
    pub(super) explore_min_throughput_byte_per_seconds: Option<f64>,
    /// Minimum message size of a trial of mode explore, in bytes; trials below it are left out [default: 1024]
    #[arg(long, env = "APOLLO_EXPLORE_MIN_MESSAGE_SIZE_BYTES", value_name = "BYTES")]
    pub(super) explore_min_message_size_bytes: Option<usize>,
}

/// Transport and queues.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkFlags {
    /// Use QUIC instead of TCP, noise and yamux
    #[arg(long, env = "APOLLO_QUIC")]
    pub(super) quic: bool,
    /// Maximum number of bytes that wait for one peer; with --buffer-size it bounds the send queues [default: 67108864]
    #[arg(long, env = "APOLLO_QUEUE_BYTES", value_name = "BYTES", value_parser = within(1 << 16..=1 << 34))]
    pub(super) queue_bytes: Option<u64>,
    /// Export the metrics of libp2p's own gossipsub too; this costs a copy of each message
    #[arg(long, env = "APOLLO_GOSSIPSUB_METRICS")]
    pub(super) gossipsub_metrics: bool,
    /// Export the metrics of the network's tokio runtime too
    #[arg(long, env = "APOLLO_TOKIO_METRICS")]
    pub(super) tokio_metrics: bool,
}

/// Settings of gossipsub.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Gossipsub")]
pub(super) struct GossipFlags {
    /// Number of mesh peers that a node aims for (D) [default: 6]
    #[arg(long, env = "APOLLO_GOSSIPSUB_MESH_N", value_name = "PEERS")]
    pub(super) gossipsub_mesh_n: Option<usize>,
    /// Number of mesh peers below which a node adds peers (D_low) [default: 5]
    #[arg(long, env = "APOLLO_GOSSIPSUB_MESH_N_LOW", value_name = "PEERS")]
    pub(super) gossipsub_mesh_n_low: Option<usize>,
    /// Number of mesh peers above which a node prunes peers (D_high) [default: 12]
    #[arg(long, env = "APOLLO_GOSSIPSUB_MESH_N_HIGH", value_name = "PEERS")]
    pub(super) gossipsub_mesh_n_high: Option<usize>,
    /// Minimum number of mesh peers that this node dialled (D_out); at most half of D [default: 2]
    #[arg(long, env = "APOLLO_GOSSIPSUB_MESH_OUTBOUND_MIN", value_name = "PEERS")]
    pub(super) gossipsub_mesh_outbound_min: Option<usize>,
    /// Interval of gossipsub's own heartbeats, in milliseconds: mesh upkeep and gossip, not the sending schedule
    /// [default: 1000]
    #[arg(long, env = "APOLLO_GOSSIPSUB_HEARTBEAT_MILLIS", value_name = "MS", value_parser = within(1..=3_600_000))]
    pub(super) gossipsub_heartbeat_millis: Option<u64>,
    /// Send published messages to every subscribed peer, not only to the mesh [default: true]
    #[arg(long, env = "APOLLO_GOSSIPSUB_FLOOD_PUBLISH", value_name = "BOOL")]
    pub(super) gossipsub_flood_publish: Option<bool>,
    /// Sign messages, and verify every received copy [default: true]
    #[arg(long, env = "APOLLO_GOSSIPSUB_SIGNING", value_name = "BOOL")]
    pub(super) gossipsub_signing: Option<bool>,
    /// Size above which a node announces a message by IDONTWANT, so that peers need not send another copy, in bytes
    /// [default: 1000]
    #[arg(long, env = "APOLLO_GOSSIPSUB_IDONTWANT_THRESHOLD_BYTES", value_name = "BYTES")]
    pub(super) gossipsub_idontwant_threshold_bytes: Option<usize>,
}

/// Settings of propeller.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Propeller")]
pub(super) struct PropellerFlags {
    /// Time from the first unit of a message to the moment at which a node gives it up, in seconds [default: 120]
    #[arg(long, env = "APOLLO_PROPELLER_STALE_SECONDS", value_name = "S", value_parser = within(1..=3600))]
    pub(super) propeller_stale_seconds: Option<u64>,
}

/// Shapes of the links, and their measurement.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Links")]
pub(super) struct LinkFlags {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) shape: ShapeFlags,
    /// File with the shapes of single links, by node or region (TOML; see docs/links.md)
    #[arg(id = "links", long = "links", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) file: Option<PathBuf>,
    /// Congestion control of the nodes' TCP connections, such as cubic or bbr (netns and docker) [default: the
    /// kernel's]
    #[arg(long, value_name = "NAME")]
    pub(super) congestion_control: Option<String>,
    /// Use IPv6 between the nodes (netns)
    #[arg(long)]
    pub ipv6: bool,
    /// Time for which each shaped link is measured, before the window and after it, in seconds [default: 3]
    #[arg(long, alias = "certificate-seconds", value_name = "S", value_parser = within(1..=300))]
    pub(super) link_probe_seconds: Option<u64>,
    /// Tolerance of a link's median latency, in percent; --tolerance-millis is added [default: 2]
    #[arg(long, alias = "tolerance-percent", value_name = "PERCENT")]
    pub(super) latency_tolerance_percent: Option<f64>,
    /// Tolerance of a link's median latency, in milliseconds; --latency-tolerance-percent is added [default: 1]
    #[arg(long, value_name = "MS")]
    pub(super) tolerance_millis: Option<f64>,
    /// Tolerance of a link's throughput, in percent [default: 5]
    #[arg(long, value_name = "PERCENT")]
    pub(super) throughput_tolerance_percent: Option<f64>,
}

/// Faults during the measurement.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Faults")]
pub(super) struct FaultFlags {
    /// Fault, at a time after the opening of the measured window; may be given several times: '5s kill 2', '8s restart
    /// 2', '5s pause 1', '7s resume 1', '5s partition 0-1 | 2-4', '10s heal', '5s degrade 0:1 latency=200', '9s restore
    /// 0:1', 'every 10s restart random 20%', '2s flaky 3 up=4s down=1s'
    #[arg(id = "fault", long = "fault", value_name = "FAULT")]
    pub(super) given: Vec<Fault>,
    /// File with such a fault on each line
    #[arg(id = "faults", long = "faults", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) file: Option<PathBuf>,
}

/// Replaces a value by another, if there is one.
fn replace<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl ScenarioFlags {
    /// Resolved scenario: of the file if one is given, with the values of the flags.
    ///
    /// # Errors
    /// One line that names the flag, or the place in the file.
    pub(super) fn resolve(&self) -> Result<Scenario, CliError> {
        let source = match &self.scenario {
            Some(path) => read_scenario(path, &self.set)?,
            None => Source::of_flags(&self.set)?,
        };
        self.resolve_from(source)
    }

    /// Resolved scenario of `source` with the values of the flags.
    ///
    /// # Errors
    /// One line that names the flag, or the place in the file.
    pub(super) fn resolve_from(&self, source: Source) -> Result<Scenario, CliError> {
        let mut scenario = source.scenario.clone();
        self.apply(&mut scenario)?;
        finish(scenario, &source)
    }

    fn apply(&self, scenario: &mut Scenario) -> Result<(), CliError> {
        replace(&mut scenario.nodes.count, self.num_nodes);
        replace(&mut scenario.nodes.buffer_size, self.buffer_size);
        replace(&mut scenario.nodes.verbosity, self.verbosity);
        scenario.nodes.worker_threads = self.worker_threads.or(scenario.nodes.worker_threads);
        scenario.expect.extend(self.expect.iter().cloned());
        self.measurement.apply(scenario);
        replace(&mut scenario.seed, self.workload.seed);
        self.network.apply(scenario);
        self.gossip.apply(scenario);
        replace(&mut scenario.network.propeller.stale_seconds, self.propeller.propeller_stale_seconds);
        self.apply_workload(scenario)?;
        self.links.apply(scenario)?;
        self.faults.apply(scenario)
    }

    fn apply_workload(&self, scenario: &mut Scenario) -> Result<(), CliError> {
        let flags = &self.workload;
        let explores = match self.mode {
            Some(mode) => mode == Mode::Explore,
            None => scenario.explore.is_some(),
        };
        if explores {
            if scenario.traffic.len() > 1 {
                let classes = scenario.traffic.len();
                return Err(usage(format!(
                    "--mode explore has one kind of traffic, and the scenario has {classes} classes"
                )));
            }
            scenario.traffic.clear();
            flags.apply_explore(scenario.explore.get_or_insert_default());
            if let Some(protocol) = self.network_protocol {
                scenario.network.protocol = protocol;
            }
            return Ok(());
        }
        scenario.explore = None;
        let [class] = &mut scenario.traffic[..] else {
            if scenario.traffic.is_empty() {
                scenario.traffic.push(TrafficClass::default());
                return self.apply_workload(scenario);
            }
            return self.apply_to_all(scenario);
        };
        if let Some(protocol) = self.network_protocol {
            scenario.network.protocol = protocol;
            // A topic of the former protocol may be meaningless in the new one.
            class.protocol = None;
            class.topic = class.topic.take().filter(|_| protocol == Protocol::Gossipsub);
        }
        match self.mode {
            Some(Mode::All) => class.senders = Senders::All,
            Some(Mode::One) => class.senders = Senders::Nodes(flags.broadcaster.unwrap_or(0).into()),
            Some(Mode::Rr) => class.senders = Senders::Turns,
            Some(Mode::Explore) | None => {
                if let (Senders::Nodes(_), Some(broadcaster)) = (&class.senders, flags.broadcaster) {
                    class.senders = Senders::Nodes(broadcaster.into());
                }
            }
        }
        class.turn_seconds = match class.senders {
            Senders::Turns => flags.round_duration_seconds.or(class.turn_seconds),
            _ => None,
        };
        replace(&mut class.message_size_bytes, flags.message_size_bytes.map(MessageSize::Fixed));
        class.heartbeat_millis = flags.heartbeat_millis.or(class.heartbeat_millis);
        replace(&mut class.phase, flags.send_phase);
        Ok(())
    }

    /// Applies flags of a single kind of traffic to a scenario of several classes: only flags that can apply to all of
    /// them.
    fn apply_to_all(&self, scenario: &mut Scenario) -> Result<(), CliError> {
        let flags = &self.workload;
        let single = [
            ("--mode", self.mode.is_some()),
            ("--broadcaster", flags.broadcaster.is_some()),
            ("--message-size-bytes", flags.message_size_bytes.is_some()),
            ("--heartbeat-millis", flags.heartbeat_millis.is_some()),
            ("--round-duration-seconds", flags.round_duration_seconds.is_some()),
        ];
        if let Some((flag, _)) = single.iter().find(|(_, given)| *given) {
            let names: Vec<&str> = scenario.traffic.iter().map(|class| class.name.as_str()).collect();
            return Err(usage(format!(
                "{flag} is ambiguous between the classes {}: give --set traffic.NAME.KEY=VALUE",
                names.join(", ")
            )));
        }
        for class in &mut scenario.traffic {
            replace(&mut class.phase, flags.send_phase);
            if let Some(protocol) = self.network_protocol {
                class.protocol = Some(protocol);
                class.topic = class.topic.take().filter(|_| protocol == Protocol::Gossipsub);
            }
        }
        replace(&mut scenario.network.protocol, self.network_protocol);
        Ok(())
    }
}

impl MeasurementFlags {
    /// Writes the given values into a scenario.
    pub(super) fn apply(&self, scenario: &mut Scenario) {
        let measurement = &mut scenario.measurement;
        measurement.window_seconds = self.timeout.or(measurement.window_seconds);
        replace(&mut measurement.warm_up_seconds, self.warm_up_seconds);
        replace(&mut measurement.drain_seconds, self.drain_seconds);
        replace(&mut measurement.drain_quiet_seconds, self.drain_quiet_seconds);
        replace(&mut measurement.ready_timeout_seconds, self.ready_timeout_seconds);
        replace(&mut measurement.hang_timeout_seconds, self.hang_timeout_seconds);
    }
}

impl WorkloadFlags {
    fn apply_explore(&self, explore: &mut Explore) {
        replace(&mut explore.broadcaster, self.broadcaster);
        replace(&mut explore.cool_down_seconds, self.explore_cool_down_duration_seconds);
        replace(&mut explore.run_seconds, self.explore_run_duration_seconds);
        replace(&mut explore.min_throughput_bytes_per_second, self.explore_min_throughput_byte_per_seconds);
        replace(&mut explore.min_message_size_bytes, self.explore_min_message_size_bytes);
    }
}

impl NetworkFlags {
    fn apply(&self, scenario: &mut Scenario) {
        let network = &mut scenario.network;
        if self.quic {
            network.transport = Transport::Quic;
        }
        replace(&mut network.queue_bytes, self.queue_bytes);
        network.gossipsub_metrics |= self.gossipsub_metrics;
        network.tokio_metrics |= self.tokio_metrics;
    }
}

impl GossipFlags {
    fn apply(&self, scenario: &mut Scenario) {
        let gossip = &mut scenario.network.gossipsub;
        replace(&mut gossip.mesh_n, self.gossipsub_mesh_n);
        replace(&mut gossip.mesh_n_low, self.gossipsub_mesh_n_low);
        replace(&mut gossip.mesh_n_high, self.gossipsub_mesh_n_high);
        replace(&mut gossip.mesh_outbound_min, self.gossipsub_mesh_outbound_min);
        replace(&mut gossip.heartbeat_millis, self.gossipsub_heartbeat_millis);
        replace(&mut gossip.flood_publish, self.gossipsub_flood_publish);
        replace(&mut gossip.signing, self.gossipsub_signing);
        replace(&mut gossip.idontwant_threshold_bytes, self.gossipsub_idontwant_threshold_bytes);
    }
}

impl LinkFlags {
    /// Writes the given values into a scenario.
    ///
    /// # Errors
    /// One line that names the flag or the file.
    pub(super) fn apply(&self, scenario: &mut Scenario) -> Result<(), CliError> {
        let patch = self.shape.patch();
        if let Some(path) = &self.file {
            let links = read_links(path, scenario.nodes.count)?;
            if !links.default.is_unshaped() && patch != ShapePatch::default() {
                return Err(usage(format!(
                    "--links {}: both [default] and flags such as --latency set the shape of all links: give one",
                    path.display()
                )));
            }
            let before = std::mem::replace(&mut scenario.links, links);
            scenario.links.certificate = before.certificate;
            if scenario.links.default.is_unshaped() {
                scenario.links.default = before.default;
            }
        }
        let links = &mut scenario.links;
        links.default = flagged_shape(links.default, &patch)?;
        links.congestion_control = self.congestion_control.clone().or(links.congestion_control.take());
        links.ipv6 |= self.ipv6;
        let certificate = &mut links.certificate;
        replace(&mut certificate.probe_seconds, self.link_probe_seconds);
        replace(&mut certificate.latency_tolerance_percent, self.latency_tolerance_percent);
        replace(&mut certificate.latency_tolerance_millis, self.tolerance_millis);
        replace(&mut certificate.throughput_tolerance_percent, self.throughput_tolerance_percent);
        Ok(())
    }
}

/// A shape with the values of flags; a throughput of 0 is invalid.
fn flagged_shape(shape: Shape, patch: &ShapePatch) -> Result<Shape, CliError> {
    shape.with(patch).map_err(|error| usage(format!("--{error}")))
}

impl FaultFlags {
    /// Faults of flags follow those of the scenario.
    fn apply(&self, scenario: &mut Scenario) -> Result<(), CliError> {
        scenario.faults.extend(self.given.iter().cloned());
        if let Some(path) = &self.file {
            scenario.faults.extend(read_faults(path)?);
        }
        Ok(())
    }
}

/// Reads a file with a fault on each line.
fn read_faults(path: &Path) -> Result<Vec<Fault>, CliError> {
    let failed = |error: String| usage(format!("--faults {}: {error}", path.display()));
    let text = read_text(path, FAULTS_LIMIT).map_err(failed)?;
    let lines = (1..).zip(text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty());
    lines.map(|(number, line)| line.parse().map_err(|error| failed(format!("line {number}: {error}")))).collect()
}

fn usage(line: String) -> CliError {
    CliError::Usage(line)
}

/// Keys of a scenario and the flags that replace them.
const FLAGS: [(&str, &str); 36] = [
    ("nodes.count", "--num-nodes"),
    ("nodes.buffer_size", "--buffer-size"),
    ("nodes.verbosity", "--verbosity"),
    ("nodes.worker_threads", "--worker-threads"),
    ("network.queue_bytes", "--queue-bytes"),
    ("network.gossipsub.mesh_n", "--gossipsub-mesh-n"),
    ("network.gossipsub.mesh_n_low", "--gossipsub-mesh-n-low"),
    ("network.gossipsub.mesh_n_high", "--gossipsub-mesh-n-high"),
    ("network.gossipsub.mesh_outbound_min", "--gossipsub-mesh-outbound-min"),
    ("network.gossipsub.heartbeat_millis", "--gossipsub-heartbeat-millis"),
    ("network.propeller.stale_seconds", "--propeller-stale-seconds"),
    ("measurement.window_seconds", "--timeout"),
    ("measurement.warm_up_seconds", "--warm-up-seconds"),
    ("measurement.drain_seconds", "--drain-seconds"),
    ("measurement.drain_quiet_seconds", "--drain-quiet-seconds"),
    ("measurement.ready_timeout_seconds", "--ready-timeout-seconds"),
    ("measurement.hang_timeout_seconds", "--hang-timeout-seconds"),
    ("explore.broadcaster", "--broadcaster"),
    ("explore.cool_down_seconds", "--explore-cool-down-duration-seconds"),
    ("explore.run_seconds", "--explore-run-duration-seconds"),
    ("explore.min_throughput_bytes_per_second", "--explore-min-throughput-byte-per-seconds"),
    ("explore.min_message_size_bytes", "--explore-min-message-size-bytes"),
    ("traffic[0].senders", "--broadcaster"),
    ("traffic[0].message_size_bytes", "--message-size-bytes"),
    ("traffic[0].heartbeat_millis", "--heartbeat-millis"),
    ("traffic[0].turn_seconds", "--round-duration-seconds"),
    ("links.congestion_control", "--congestion-control"),
    ("links.certificate.probe_seconds", "--link-probe-seconds"),
    ("links.certificate.latency_tolerance_percent", "--latency-tolerance-percent"),
    ("links.certificate.latency_tolerance_millis", "--tolerance-millis"),
    ("links.certificate.throughput_tolerance_percent", "--throughput-tolerance-percent"),
    ("network.transport", "--quic"),
    ("network.protocol", "--network-protocol"),
    ("traffic[0].phase", "--send-phase"),
    ("seed", "--seed"),
    ("explore", "--mode explore"),
];

/// Resolves a scenario in which flags have replaced values.
///
/// # Errors
/// One line that names the place in the file, or the flag.
pub(super) fn finish(scenario: Scenario, source: &Source) -> Result<Scenario, CliError> {
    scenario.resolve().map_err(|error| match source.locate(&error) {
        Some(error) => usage(error.to_string()),
        None => usage(with_flag(&error)),
    })
}

/// An error of a scenario, with the flag in place of the key.
fn with_flag(error: &ScenarioError) -> String {
    if error.at.first() == Some(&Step::from("faults")) {
        return error.message.clone();
    }
    let place = error.place();
    match FLAGS.iter().find(|(key, _)| *key == place) {
        Some((_, flag)) => error.named(flag),
        None => error.to_string(),
    }
}
