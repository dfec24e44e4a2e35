//! Command line of the node. The environment can also set each flag: `APOLLO_` and its name in capitals.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::{
    error::CliError,
    scenario_file::Source,
    scenario_flags::{GossipFlags, MeasurementFlags, NetworkFlags, PropellerFlags, ScenarioFlags, WorkloadFlags},
};
use crate::{
    network::{PeerAddress, PeerAddressError},
    node::{NodeConfig, ProfileMode},
    paths::read_text,
    scenario::{Mode, Protocol, Scenario},
};

/// Maximum size of a configuration, in bytes: the addresses of 100,000 peers are about 10 MB.
const FILE_LIMIT: u64 = 64 << 20;

/// The arguments of one node.
#[derive(Clone, Debug, Args)]
pub(super) struct NodeFlags {
    /// Configuration of this node (TOML): its scenario, id, ports and peers; flags replace single values of it
    #[arg(long, env = "APOLLO_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Text of such a configuration, for containers, which receive it by the environment
    #[arg(
        long,
        env = "APOLLO_CONFIG_TEXT",
        value_name = "TOML",
        hide = true,
        hide_env_values = true,
        conflicts_with = "config"
    )]
    pub(super) config_text: Option<String>,
    /// Id of this node, from 0, which determines its identity
    #[arg(long, short_alias = 'i', env = "APOLLO_ID", required_unless_present_any = ["config", "config_text"])]
    pub(super) id: Option<u64>,
    /// Number of nodes in the whole network
    #[arg(long, env = "APOLLO_NUM_NODES", value_name = "N", required_unless_present_any = ["config", "config_text"])]
    pub(super) num_nodes: Option<u64>,
    /// TCP port of the HTTP endpoint: /metrics, /healthz, /readyz, /summary
    #[arg(long, env = "APOLLO_METRIC_PORT", value_name = "PORT", required_unless_present_any = ["config", "config_text"], value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) metric_port: Option<u16>,
    /// Port of the p2p network
    #[arg(long, short_alias = 'p', env = "APOLLO_P2P_PORT", value_name = "PORT", required_unless_present_any = ["config", "config_text"], value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) p2p_port: Option<u16>,
    #[command(flatten)]
    pub(super) bootstrap: Bootstrap,
    /// Senders
    #[arg(long, env = "APOLLO_MODE", value_enum, required_unless_present_any = ["config", "config_text"])]
    pub(super) mode: Option<Mode>,
    /// Protocol of a broadcast
    #[arg(long, env = "APOLLO_NETWORK_PROTOCOL", value_name = "PROTOCOL", value_enum, required_unless_present_any = ["config", "config_text"])]
    pub(super) network_protocol: Option<Protocol>,
    /// Maximum number of messages in each queue between the schedule, the network and a peer
    #[arg(long, env = "APOLLO_BUFFER_SIZE", value_name = "MESSAGES", required_unless_present_any = ["config", "config_text"], value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) buffer_size: Option<u64>,
    /// Seconds after which the node ends by itself, with exit code 0
    #[arg(long, alias = "timeout-seconds", env = "APOLLO_TIMEOUT", value_name = "S", required_unless_present_any = ["config", "config_text"], value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub(super) timeout: Option<u64>,
    /// Log level: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace
    #[arg(long, short_alias = 'v', env = "APOLLO_VERBOSITY", value_name = "LEVEL", required_unless_present_any = ["config", "config_text"], value_parser = clap::value_parser!(u8).range(0..=5))]
    pub(super) verbosity: Option<u8>,
    #[command(flatten)]
    pub(super) workload: WorkloadFlags,
    #[command(flatten)]
    pub(super) network: NetworkFlags,
    #[command(flatten)]
    pub(super) gossip: GossipFlags,
    #[command(flatten)]
    pub(super) propeller: PropellerFlags,
    #[command(flatten)]
    pub(super) control: ControlFlags,
}

/// Start and reports of a node.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Control")]
pub(super) struct ControlFlags {
    /// Wait for a start by POST /start on the metric port
    #[arg(long, env = "APOLLO_CONTROLLED", conflicts_with = "start_at_unix_millis")]
    pub(super) controlled: bool,
    /// File with the secret that a controlled node and its runner share, of 16 to 256 characters; without it, the
    /// environment variable APOLLO_TOKEN has the secret. Requests need it for everything except /metrics, /healthz and
    /// /readyz
    #[arg(long, env = "APOLLO_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Further host names that requests to a controlled node may use, separated by commas. Addresses, localhost, the
    /// machine's own name and the node's name in --bootstrap are always permitted
    #[arg(long, env = "APOLLO_HOST_NAMES", value_name = "NAMES", value_delimiter = ',')]
    pub(super) host_names: Option<Vec<String>>,
    /// Time of the start, in milliseconds since the Unix epoch; the same for all nodes. Without it and without
    /// --controlled the node starts as soon as it is ready, and turns and trials follow the wall clock
    #[arg(long, env = "APOLLO_START_AT_UNIX_MILLIS", value_name = "MS")]
    pub(super) start_at_unix_millis: Option<u64>,
    /// Maximum time to wait for the peers, in seconds; then traffic starts with a warning [default: 60]
    #[arg(long, env = "APOLLO_READY_TIMEOUT_SECONDS", value_name = "S")]
    pub(super) ready_timeout_seconds: Option<u64>,
    /// Number of the run, the same for all nodes: messages of another run are not counted. 0 accepts all messages
    /// [default: 0]
    #[arg(long, env = "APOLLO_RUN_ID", value_name = "NUMBER")]
    pub(super) run_id: Option<u64>,
    /// File for the summary, written every few seconds and at the end
    #[arg(long, env = "APOLLO_SUMMARY", value_name = "FILE")]
    pub(super) summary: Option<PathBuf>,
    /// Listening address of the metric port [default: 0.0.0.0]
    #[arg(long, env = "APOLLO_METRIC_ADDRESS", value_name = "IP")]
    pub(super) metric_address: Option<IpAddr>,
    /// Listening address of the p2p port [default: 0.0.0.0]
    #[arg(long, env = "APOLLO_P2P_ADDRESS", value_name = "IP")]
    pub(super) p2p_address: Option<IpAddr>,
    /// Profile this process; the build must contain the profiler (features profile-cpu, profile-mem, profile-dhat)
    #[arg(long, env = "APOLLO_PROFILE_MODE", value_enum, requires = "profile_output")]
    pub(super) profile_mode: Option<ProfileMode>,
    /// File for the profile: a flame graph as SVG, or JSON for DHAT's viewer
    #[arg(long, env = "APOLLO_PROFILE_OUTPUT", value_name = "FILE", requires = "profile_mode")]
    pub(super) profile_output: Option<PathBuf>,
    /// UDP port of --p2p-address for measurements of the links: the node answers them, and with --controlled makes them
    /// on request by POST /probe
    #[arg(long, env = "APOLLO_PROBE_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) probe_port: Option<u16>,
    /// Threads that carry the network [default: the number of processors]
    #[arg(long, env = "APOLLO_WORKER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) worker_threads: Option<u16>,
    /// Maximum size of the log, in MiB; afterwards the node stops logging [default: 256]
    #[arg(long, env = "APOLLO_LOG_LIMIT_MIB", value_name = "MIB")]
    pub(super) log_limit_mib: Option<u64>,
}

/// Peers of `--bootstrap`; none if the flag is not given.
#[derive(Clone, Debug, Default)]
pub(super) struct Bootstrap(Option<Vec<PeerAddress>>);

/// Addresses of one occurrence of the flag.
fn parse_bootstrap(text: &str) -> Result<Vec<PeerAddress>, String> {
    let parse = |entry: &str| entry.parse().map_err(|error: PeerAddressError| error.to_string());
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(parse).collect()
}

// Implemented by hand, because an occurrence of the flag may contain no address, one, or several, and all of them make
// one list.
impl Args for Bootstrap {
    fn augment_args(command: Command) -> Command {
        let help = "Addresses of the peers, separated by commas or each with a flag of its own: \
                    /ip4/127.0.0.1/tcp/10001/p2p/12D3Koo... May be empty (then the others come to this node), and may \
                    contain this node itself";
        command.arg(
            Arg::new("bootstrap")
                .long("bootstrap")
                .env("APOLLO_BOOTSTRAP")
                .value_name("ADDRESSES")
                .required_unless_present_any(["config", "config_text"])
                .action(ArgAction::Append)
                .value_parser(parse_bootstrap)
                .help(help),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Bootstrap {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.get_many::<Vec<PeerAddress>>("bootstrap");
        Ok(Self(given.map(|given| given.flatten().cloned().collect())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl NodeFlags {
    /// Checked configuration of the node.
    ///
    /// # Errors
    /// One line that names the flag, or the file with line and column.
    pub(super) fn resolve(&self) -> Result<NodeConfig, CliError> {
        let mut config = match (&self.config, &self.config_text) {
            (Some(path), _) => read_config(path)?,
            (None, Some(text)) => parse_config("APOLLO_CONFIG_TEXT", text)?,
            (None, None) => {
                self.check_workload()?;
                NodeConfig::new(0, 0, 0, Scenario::default())
            }
        };
        self.apply(&mut config);
        config.scenario = self.scenario_flags().resolve_from(Source::of_scenario(config.scenario))?;
        config.validate().map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(config)
    }

    /// Flags that the contract requires in each mode.
    fn check_workload(&self) -> Result<(), CliError> {
        let Some(mode) = self.mode else { return Ok(()) };
        let workload = &self.workload;
        let steady = mode != Mode::Explore;
        for (flag, missing) in [
            ("--message-size-bytes", steady && workload.message_size_bytes.is_none()),
            ("--heartbeat-millis", steady && workload.heartbeat_millis.is_none()),
            ("--round-duration-seconds", mode == Mode::Rr && workload.round_duration_seconds.is_none()),
            ("--broadcaster", matches!(mode, Mode::One | Mode::Explore) && workload.broadcaster.is_none()),
        ] {
            if missing {
                return Err(CliError::Usage(format!("--mode {mode} needs {flag}")));
            }
        }
        Ok(())
    }

    fn scenario_flags(&self) -> ScenarioFlags {
        ScenarioFlags {
            num_nodes: self.num_nodes,
            mode: self.mode,
            network_protocol: self.network_protocol,
            buffer_size: self.buffer_size,
            verbosity: self.verbosity,
            worker_threads: self.control.worker_threads,
            measurement: MeasurementFlags {
                ready_timeout_seconds: self.control.ready_timeout_seconds,
                ..MeasurementFlags::default()
            },
            workload: self.workload.clone(),
            network: self.network.clone(),
            gossip: self.gossip.clone(),
            propeller: self.propeller.clone(),
            ..ScenarioFlags::default()
        }
    }

    fn apply(&self, config: &mut NodeConfig) {
        let control = &self.control;
        macro_rules! replace {
            ($($field:ident: $value:expr),* $(,)?) => {$( if let Some(value) = $value.clone() { config.$field = value; } )*};
        }
        macro_rules! replace_option {
            ($($field:ident),*) => {$( if control.$field.is_some() { config.$field = control.$field.clone(); } )*};
        }
        replace! {
            id: self.id,
            metric_port: self.metric_port,
            p2p_port: self.p2p_port,
            bootstrap: self.bootstrap.0,
            lifetime_seconds: self.timeout,
            host_names: control.host_names,
            run_id: control.run_id,
            metric_address: control.metric_address,
            p2p_address: control.p2p_address,
            log_limit_mib: control.log_limit_mib,
        }
        replace_option!(token_file, start_at_unix_millis, summary, profile_mode, profile_output, probe_port);
        config.controlled |= control.controlled;
    }
}

fn read_config(path: &Path) -> Result<NodeConfig, CliError> {
    let file = path.display().to_string();
    let text = read_text(path, FILE_LIMIT).map_err(|error| CliError::Usage(format!("--config {file}: {error}")))?;
    parse_config(&file, &text)
}

fn parse_config(name: &str, text: &str) -> Result<NodeConfig, CliError> {
    crate::scenario::read_toml(name, text).map_err(|error| CliError::Usage(format!("--config {error}")))
}
