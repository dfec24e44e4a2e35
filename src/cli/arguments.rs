//! The command line of `apollo-bench local`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    deploy::docker::DockerArgs,
    experiment::{DEFAULT_QUIET, LinkProbe},
    monitoring::ObserveArgs,
    network::Protocol,
    node::{Mode, NetworkArgs, ProfileMode, UsageError, WorkloadArgs},
    paths::as_text_if_given,
    report::{MESSAGE_PERCENT, Tolerance},
    scenario::Fault,
    shaping::ShapeFlags,
};

/// Where the nodes of a run live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Backend {
    /// Processes on this host's loopback
    #[default]
    Process,
    /// Processes in network namespaces of their own, joined by a bridge; links can be shaped
    Netns,
    /// Docker containers on a network of their own; links can be shaped
    Docker,
}

/// A network of nodes on this machine.
#[derive(Clone, Debug, Args, Serialize)]
pub(super) struct LocalArgs {
    /// Number of nodes
    #[arg(long, env = "APOLLO_NUM_NODES", value_name = "N", default_value_t = 3)]
    pub(super) num_nodes: u64,
    /// Who broadcasts when
    #[arg(long, env = "APOLLO_MODE", value_enum, default_value = "all")]
    pub(super) mode: Mode,
    /// How a broadcast travels
    #[arg(long, env = "APOLLO_NETWORK_PROTOCOL", value_name = "PROTOCOL", value_enum, default_value = "gossipsub")]
    pub(super) network_protocol: Protocol,
    /// Length of the measured window, in seconds [default: 20; in mode explore until all trials are done]
    #[arg(long, alias = "timeout-seconds", env = "APOLLO_TIMEOUT", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub(super) timeout: Option<u64>,
    /// Traffic before the measured window that is not counted, in seconds; mode explore has none
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(super) warm_up_seconds: u64,
    /// Maximum time to wait for late messages after the window, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(super) drain_seconds: u64,
    /// The wait ends earlier when nothing came for this long and no queue, session, socket or connection attempt of any
    /// node is pending, in seconds
    #[arg(long, value_name = "S", default_value_t = DEFAULT_QUIET, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(super) drain_quiet_seconds: u64,
    /// Longest wait for all nodes to be ready, in seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) ready_timeout_seconds: u64,
    /// A node that does not answer for this long fails the run, in seconds
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) hang_timeout_seconds: u64,
    /// Most messages in each queue between the schedule, the network and a peer
    #[arg(
        long,
        env = "APOLLO_BUFFER_SIZE",
        value_name = "MESSAGES",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    pub(super) buffer_size: u64,
    /// Log level of the nodes: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace
    #[arg(
        long,
        env = "APOLLO_VERBOSITY",
        value_name = "LEVEL",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(0..=5)
    )]
    pub(super) verbosity: u8,
    /// Node i listens for HTTP on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 2000)]
    pub(super) base_metric_port: u16,
    /// Node i listens for peers on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    pub(super) base_p2p_port: u16,
    /// Threads that carry the network in each node [default: the processors shared out, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) worker_threads: Option<u16>,
    /// Where the nodes live
    #[arg(long, value_enum, default_value = "process")]
    pub(super) backend: Backend,
    /// Run the nodes in Docker containers; the same as --backend docker
    #[arg(long, conflicts_with = "backend")]
    pub(super) docker: bool,
    /// Program to run as a node, in place of the one built into this one
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) node_binary: Option<PathBuf>,
    /// Congestion control of the nodes' TCP connections, such as cubic or bbr (backends netns and docker) [default: the
    /// kernel's]
    #[arg(long, help_heading = "Links", value_name = "NAME")]
    pub(super) congestion_control: Option<String>,
    /// Let the nodes speak IPv6 to one another (backend netns)
    #[arg(long, help_heading = "Links")]
    pub(super) ipv6: bool,
    /// Folder for logs and results; must be empty or new [default: /tmp/broadcast-network-stress-test-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) print: PrintArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) live: LiveArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) workload: WorkloadArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) shape: ShapeFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) links: LinkArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) containers: DockerArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) faults: FaultArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) profile: ProfileArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) observe: ObserveArgs,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, Args, Serialize)]
pub(super) struct PrintArgs {
    /// Print a line for each link that was shaped: what was asked for, what was measured
    #[arg(long)]
    pub(super) per_link: bool,
    /// Print a line for each node too
    #[arg(long)]
    pub(super) per_node: bool,
    /// Print the result as JSON (the same as summary.json)
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the nodes' time and memory go.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Profiles")]
pub(super) struct ProfileArgs {
    /// Profile every node; the profiles are in the folder of the run
    #[arg(long)]
    pub(super) profile: bool,
    /// What is profiled
    #[arg(long, value_enum, default_value = "cpu", requires = "profile")]
    pub(super) profile_mode: ProfileMode,
}

/// How a run is watched.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Watching")]
pub(super) struct LiveArgs {
    /// Show the run on a page of its own while it goes, on 127.0.0.1
    #[arg(long)]
    pub(super) live: bool,
    /// Port of that page; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080, requires = "live")]
    pub(super) live_port: u16,
    /// Keep what shows the run, of --live and --observe, up after it, until Ctrl-C
    #[arg(long)]
    pub(super) keep_open: bool,
}

/// What is done to the network while it is measured.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Faults")]
pub(super) struct FaultArgs {
    /// Do this at that time after the opening of the measured window; may be given several times: '5s kill 2',
    /// '8s restart 2', '5s pause 1', '7s resume 1', '5s partition 0-1 | 2-4', '10s heal', '5s degrade 0:1 latency=200',
    /// '9s restore 0:1'
    #[arg(id = "fault", long = "fault", value_name = "FAULT")]
    pub(super) given: Vec<Fault>,
    /// File with such a fault on each line
    #[arg(id = "faults", long = "faults", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) file: Option<PathBuf>,
}

/// How links differ, and how they are measured.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Links")]
pub(super) struct LinkArgs {
    /// File that says how single links differ, by node or region (TOML; see the README)
    #[arg(id = "links", long = "links", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) file: Option<PathBuf>,
    /// Seconds for which each shaped link is measured, before the window and after it
    #[arg(long, alias = "certificate-seconds", value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(super) link_probe_seconds: u64,
    /// A link's median latency may differ by this many percent, and by --tolerance-millis more
    #[arg(long, alias = "tolerance-percent", value_name = "PERCENT", default_value_t = 2.0)]
    pub(super) latency_tolerance_percent: f64,
    /// A link's median latency may differ by this many milliseconds, and by --latency-tolerance-percent more
    #[arg(long, value_name = "MS", default_value_t = 1.0)]
    pub(super) tolerance_millis: f64,
    /// A link's throughput may differ by this many percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub(super) throughput_tolerance_percent: f64,
}

impl LinkArgs {
    /// How the links are measured and judged.
    pub(super) fn probe(&self) -> Result<LinkProbe, UsageError> {
        for (name, value) in [
            ("--latency-tolerance-percent", self.latency_tolerance_percent),
            ("--tolerance-millis", self.tolerance_millis),
            ("--throughput-tolerance-percent", self.throughput_tolerance_percent),
        ] {
            if !(0.0..=1e6).contains(&value) {
                return Err(UsageError(format!("{name} {value}: give a number from 0 on")));
            }
        }
        let tolerance = Tolerance {
            latency_percent: self.latency_tolerance_percent,
            latency_millis: self.tolerance_millis,
            throughput_percent: self.throughput_tolerance_percent,
            message_percent: MESSAGE_PERCENT,
        };
        Ok(LinkProbe { seconds: self.link_probe_seconds, tolerance })
    }
}

impl LiveArgs {
    /// Port of the live page, if there is one. Checked against the flags of what else shows the run.
    pub(super) fn port(&self, observe: &ObserveArgs) -> Result<Option<u16>, UsageError> {
        if self.keep_open && !observe.observe && !self.live {
            return Err(UsageError("--keep-open needs something to keep open: add --live or --observe".into()));
        }
        if self.live && observe.observe && [observe.prometheus_port, observe.grafana_port].contains(&self.live_port) {
            return Err(UsageError(format!("--live-port {} is a port of --observe: choose another", self.live_port)));
        }
        Ok(self.live.then_some(self.live_port))
    }
}
