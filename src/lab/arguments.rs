//! The command line of `apollo-bench local`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{backend::Backend, docker::DockerArgs, observe::ObserveArgs, run::DEFAULT_QUIET};
use crate::{
    network::Protocol,
    node::{Mode, NetworkArgs, ProfileMode, WorkloadArgs},
    paths::as_text_if_given,
    report::{MESSAGE_PERCENT, Tolerance},
    scenario::Fault,
    shaping::ShapeFlags,
};

/// A network of nodes on this machine.
#[derive(Clone, Debug, Args, Serialize)]
pub struct LocalArgs {
    /// Number of nodes
    #[arg(long, env = "APOLLO_NUM_NODES", value_name = "N", default_value_t = 3)]
    pub num_nodes: u64,
    /// Who broadcasts when
    #[arg(long, env = "APOLLO_MODE", value_enum, default_value = "all")]
    pub mode: Mode,
    /// How a broadcast travels
    #[arg(long, env = "APOLLO_NETWORK_PROTOCOL", value_name = "PROTOCOL", value_enum, default_value = "gossipsub")]
    pub network_protocol: Protocol,
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
    /// Longest wait for all nodes to be ready, in seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub ready_timeout_seconds: u64,
    /// A node that does not answer for this long fails the run, in seconds
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub hang_timeout_seconds: u64,
    /// Most messages in each queue between the schedule, the network and a peer
    #[arg(
        long,
        env = "APOLLO_BUFFER_SIZE",
        value_name = "MESSAGES",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    pub buffer_size: u64,
    /// Log level of the nodes: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace
    #[arg(
        long,
        env = "APOLLO_VERBOSITY",
        value_name = "LEVEL",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(0..=5)
    )]
    pub verbosity: u8,
    /// Node i listens for HTTP on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 2000)]
    pub base_metric_port: u16,
    /// Node i listens for peers on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    pub base_p2p_port: u16,
    /// Threads that carry the network in each node [default: the processors shared out, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub worker_threads: Option<u16>,
    /// Where the nodes live
    #[arg(long, value_enum, default_value = "process")]
    pub backend: Backend,
    /// Run the nodes in Docker containers; the same as --backend docker
    #[arg(long, conflicts_with = "backend")]
    pub docker: bool,
    /// Program to run as a node, in place of the one built into this one
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "as_text_if_given")]
    pub node_binary: Option<PathBuf>,
    /// Congestion control of the nodes' TCP connections, such as cubic or bbr (backends netns and docker) [default: the
    /// kernel's]
    #[arg(long, help_heading = "Links", value_name = "NAME")]
    pub congestion_control: Option<String>,
    /// Let the nodes speak IPv6 to one another (backend netns)
    #[arg(long, help_heading = "Links")]
    pub ipv6: bool,
    /// Folder for logs and results; must be empty or new [default: /tmp/broadcast-network-stress-test-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "as_text_if_given")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub print: PrintArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub seeing: SeeingArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub network: NetworkArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub shape: ShapeFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub links: LinkArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub containers: DockerArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub faults: FaultArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub profile: ProfileArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub observe: ObserveArgs,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, Args, Serialize)]
pub struct PrintArgs {
    /// Print a line for each link that was shaped: what was asked for, what was measured
    #[arg(long)]
    pub per_link: bool,
    /// Print a line for each node too
    #[arg(long)]
    pub per_node: bool,
    /// Print the result as JSON (the same as summary.json)
    #[arg(long)]
    pub json: bool,
}

/// Where the nodes' time and memory go.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Profiles")]
pub struct ProfileArgs {
    /// Profile every node; the profiles are in the folder of the run
    #[arg(long)]
    pub profile: bool,
    /// What is profiled
    #[arg(long, value_enum, default_value = "cpu", requires = "profile")]
    pub profile_mode: ProfileMode,
}

/// How a run is watched.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Watching")]
pub struct SeeingArgs {
    /// Show the run on a page of its own while it goes, on 127.0.0.1
    #[arg(long)]
    pub live: bool,
    /// Port of that page; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080, requires = "live")]
    pub live_port: u16,
    /// Keep what shows the run, of --live and --observe, up after it, until Ctrl-C
    #[arg(long)]
    pub keep_open: bool,
}

/// What is done to the network while it is measured.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Faults")]
pub struct FaultArgs {
    /// Do this at that time after the opening of the measured window; may be given several times: '5s kill 2',
    /// '8s restart 2', '5s pause 1', '7s resume 1', '5s partition 0-1 | 2-4', '10s heal', '5s degrade 0:1 latency=200',
    /// '9s restore 0:1'
    #[arg(id = "fault", long = "fault", value_name = "FAULT")]
    pub given: Vec<Fault>,
    /// File with such a fault on each line
    #[arg(id = "faults", long = "faults", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub file: Option<PathBuf>,
}

/// How links differ, and how they are measured.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Links")]
pub struct LinkArgs {
    /// File that says how single links differ, by node or region (TOML; see the README)
    #[arg(id = "links", long = "links", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub file: Option<PathBuf>,
    /// Seconds for which each shaped link is measured, before the window and after it
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub certificate_seconds: u64,
    /// A link's median latency may differ by this many percent, and by --tolerance-millis more
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    pub tolerance_percent: f64,
    /// A link's median latency may differ by this many milliseconds, and by --tolerance-percent more
    #[arg(long, value_name = "MS", default_value_t = 1.0)]
    pub tolerance_millis: f64,
    /// A link's throughput may differ by this many percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub throughput_tolerance_percent: f64,
}

impl LinkArgs {
    /// How far from its shape a link may be.
    pub(super) fn tolerance(&self) -> Tolerance {
        Tolerance {
            latency_percent: self.tolerance_percent,
            latency_millis: self.tolerance_millis,
            throughput_percent: self.throughput_tolerance_percent,
            message_percent: MESSAGE_PERCENT,
        }
    }
}
