//! The node's command line. Each argument can also be given by the environment: `APOLLO_` and its name in capitals.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    clock::unix_nanos,
    profile::ProfileMode,
    schedule::SendPhase,
    state::check_distance,
    workload::{Mode, Workload, value_name},
};
use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    network::{GossipSettings, PeerAddress, Protocol},
    paths::as_text_if_given,
};

/// The arguments do not make a run: one line that says which, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What is to be sent; shared by the node and the lab.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Workload")]
pub struct WorkloadArgs {
    /// Node that broadcasts, in modes one and explore
    #[arg(long, env = "APOLLO_BROADCASTER", value_name = "ID")]
    pub broadcaster: Option<u64>,
    /// Size of a whole message, its 36-byte header included, in modes all, one and rr
    #[arg(long, env = "APOLLO_MESSAGE_SIZE_BYTES", value_name = "BYTES")]
    pub message_size_bytes: Option<usize>,
    /// Time from one message of a sender to its next, in modes all, one and rr
    #[arg(long, env = "APOLLO_HEARTBEAT_MILLIS", value_name = "MS")]
    pub heartbeat_millis: Option<u64>,
    /// Offset of each node's schedule in mode all: none, or a seeded fraction of the heartbeat
    #[arg(long, env = "APOLLO_SEND_PHASE", value_enum, default_value = "spread")]
    pub send_phase: SendPhase,
    /// Seed of the offsets with --send-phase spread, the same for all nodes
    #[arg(long, env = "APOLLO_SEND_PHASE_SEED", value_name = "NUMBER", default_value_t = 0)]
    pub send_phase_seed: u64,
    /// Length of a node's turn, in mode rr
    #[arg(long, env = "APOLLO_ROUND_DURATION_SECONDS", value_name = "S")]
    pub round_duration_seconds: Option<u64>,
    /// Pause before each trial of mode explore, in which the network is rebuilt
    #[arg(long, env = "APOLLO_EXPLORE_COOL_DOWN_DURATION_SECONDS", value_name = "S", default_value_t = 100)]
    pub explore_cool_down_duration_seconds: u64,
    /// Length of each trial of mode explore
    #[arg(long, env = "APOLLO_EXPLORE_RUN_DURATION_SECONDS", value_name = "S", default_value_t = 100)]
    pub explore_run_duration_seconds: u64,
    /// Trials of mode explore below this throughput are left out
    #[arg(
        long,
        env = "APOLLO_EXPLORE_MIN_THROUGHPUT_BYTE_PER_SECONDS",
        value_name = "BYTES/S",
        default_value_t = 102_400.0
    )]
    pub explore_min_throughput_byte_per_seconds: f64,
    /// Trials of mode explore with smaller messages are left out
    #[arg(long, env = "APOLLO_EXPLORE_MIN_MESSAGE_SIZE_BYTES", value_name = "BYTES", default_value_t = 1024)]
    pub explore_min_message_size_bytes: usize,
}

/// How it travels; shared by the node and the lab.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Use QUIC in place of TCP, noise and yamux
    #[arg(long, env = "APOLLO_QUIC")]
    pub quic: bool,
    /// Most bytes that may wait for one peer; with --buffer-size it bounds the send queues
    #[arg(
        long,
        env = "APOLLO_QUEUE_BYTES",
        value_name = "BYTES",
        default_value_t = 64 << 20,
        value_parser = clap::value_parser!(u64).range(1 << 16..=1 << 34)
    )]
    pub queue_bytes: u64,
    /// Export the metrics of libp2p's own gossipsub too (costs a copy of each message)
    #[arg(long, env = "APOLLO_GOSSIPSUB_METRICS")]
    pub gossipsub_metrics: bool,
    /// Export the metrics of the network's tokio runtime too
    #[arg(long, env = "APOLLO_TOKIO_METRICS")]
    pub tokio_metrics: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub gossip: GossipSettings,
}

/// The arguments of one node.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct NodeArgs {
    /// Id of this node, from 0: its identity follows from it
    #[arg(long, short_alias = 'i', env = "APOLLO_ID")]
    pub id: u64,
    /// Number of nodes in the whole network
    #[arg(long, env = "APOLLO_NUM_NODES", value_name = "N")]
    pub num_nodes: u64,
    /// TCP port of the HTTP endpoint: /metrics, /healthz, /readyz, /summary
    #[arg(long, env = "APOLLO_METRIC_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub metric_port: u16,
    /// Port of the p2p network
    #[arg(long, short_alias = 'p', env = "APOLLO_P2P_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub p2p_port: u16,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub bootstrap: Bootstrap,
    /// Who broadcasts when
    #[arg(long, env = "APOLLO_MODE", value_enum)]
    pub mode: Mode,
    /// How a broadcast travels
    #[arg(long, env = "APOLLO_NETWORK_PROTOCOL", value_name = "PROTOCOL", value_enum)]
    pub network_protocol: Protocol,
    /// Most messages in each queue between the schedule, the network and a peer
    #[arg(long, env = "APOLLO_BUFFER_SIZE", value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub buffer_size: u64,
    /// Seconds after which the node ends by itself, with exit code 0
    #[arg(long, alias = "timeout-seconds", env = "APOLLO_TIMEOUT", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub timeout: u64,
    /// Log level: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace
    #[arg(long, short_alias = 'v', env = "APOLLO_VERBOSITY", value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=5))]
    pub verbosity: u8,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub network: NetworkArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub control: ControlArgs,
}

/// When the node starts, and where it reports.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Control")]
pub struct ControlArgs {
    /// Start only when told to, by POST /start at the metric port
    #[arg(long, env = "APOLLO_CONTROLLED", conflicts_with = "start_at_unix_millis")]
    pub controlled: bool,
    /// File with the secret that a controlled node and its runner share, of 16 to 256 characters; without it the environment
    /// variable APOLLO_TOKEN has the secret. All but /metrics, /healthz and /readyz is answered only to requests with it
    #[arg(long, env = "APOLLO_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Further names at which the endpoint of a controlled node may be asked, separated by commas. Addresses, localhost, the
    /// machine's own name and the node's name in --bootstrap always may
    #[arg(long, env = "APOLLO_HOST_NAMES", value_name = "NAMES", value_delimiter = ',')]
    #[serde(default)]
    pub host_names: Vec<String>,
    /// Start at this instant, in milliseconds since the Unix epoch; the same for all nodes. Without it and without
    /// --controlled the node starts as soon as it is ready, and turns and trials follow the wall clock
    #[arg(long, env = "APOLLO_START_AT_UNIX_MILLIS", value_name = "MS")]
    pub start_at_unix_millis: Option<u64>,
    /// Longest wait for the peers before traffic starts all the same, with a warning
    #[arg(long, env = "APOLLO_READY_TIMEOUT_SECONDS", value_name = "S", default_value_t = 60)]
    pub ready_timeout_seconds: u64,
    /// Number of the run, the same for all nodes: messages of another run are not counted. 0 takes all
    #[arg(long, env = "APOLLO_RUN_ID", value_name = "NUMBER", default_value_t = 0)]
    pub run_id: u64,
    /// Write the summary to this file, every few seconds and at the end
    #[arg(long, env = "APOLLO_SUMMARY", value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub summary: Option<PathBuf>,
    /// Address that the metric port listens on
    #[arg(long, env = "APOLLO_METRIC_ADDRESS", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub metric_address: IpAddr,
    /// Address that the p2p port listens on
    #[arg(long, env = "APOLLO_P2P_ADDRESS", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub p2p_address: IpAddr,
    /// Profile this process; the build must have the profiler (features profile-cpu, profile-mem, profile-dhat)
    #[arg(long, env = "APOLLO_PROFILE_MODE", value_enum, requires = "profile_output")]
    pub profile_mode: Option<ProfileMode>,
    /// File for the profile: a flame graph as SVG, or JSON for DHAT's viewer
    #[arg(long, env = "APOLLO_PROFILE_OUTPUT", value_name = "FILE", requires = "profile_mode")]
    #[serde(serialize_with = "as_text_if_given")]
    pub profile_output: Option<PathBuf>,
    /// Answer measurements of the links (UDP) at this port of --p2p-address; with --controlled, make them when asked to by
    /// POST /probe
    #[arg(long, env = "APOLLO_PROBE_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub probe_port: Option<u16>,
    /// Threads that carry the network; as many as there are processors by default
    #[arg(long, env = "APOLLO_WORKER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub worker_threads: Option<u16>,
    /// Stop logging after this many MiB
    #[arg(long, env = "APOLLO_LOG_LIMIT_MIB", value_name = "MIB", default_value_t = 256)]
    pub log_limit_mib: u64,
}

impl ControlArgs {
    /// Whether all nodes are given one start, so that they agree on every schedule.
    pub fn start_is_given(&self) -> bool {
        self.controlled || self.start_at_unix_millis.is_some()
    }
}

/// The peers of `--bootstrap`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bootstrap(pub Vec<PeerAddress>);

/// The addresses of one occurrence of the flag.
fn parse_bootstrap(text: &str) -> Result<Bootstrap, String> {
    let parse = |entry: &str| entry.parse().map_err(|error: crate::network::PeerAddressError| error.to_string());
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    Ok(Bootstrap(entries.map(parse).collect::<Result<_, _>>()?))
}

// Written out, since an occurrence of the flag may hold no address, one, or several, and all of them make one list.
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
                .required(true)
                .action(ArgAction::Append)
                .value_parser(parse_bootstrap)
                .help(help),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command).mut_arg("bootstrap", |arg| arg.required(false))
    }
}

impl FromArgMatches for Bootstrap {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.get_many::<Self>("bootstrap").into_iter().flatten();
        Ok(Self(given.flat_map(|given| given.0.iter().cloned()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl NodeArgs {
    /// Checks the arguments against each other.
    ///
    /// # Errors
    /// One line that names the argument and the way out.
    pub fn validate(&self) -> Result<Workload, UsageError> {
        let workload = Workload::resolve(self.mode, self.num_nodes, &self.workload, None)?;
        if self.id >= self.num_nodes {
            return Err(UsageError(format!(
                "--id {} is outside of the network: its {} nodes are 0 to {}",
                self.id,
                self.num_nodes,
                self.num_nodes - 1
            )));
        }
        let quic = self.network.quic;
        if let Some(entry) = self.bootstrap.0.iter().find(|entry| entry.is_quic() != quic) {
            return Err(UsageError(if quic {
                format!("--bootstrap {entry} is not an address of QUIC (/udp/PORT/quic-v1), which --quic asks for")
            } else {
                format!("--bootstrap {entry} is an address of QUIC: add --quic")
            }));
        }
        self.network.gossip.validate().map_err(UsageError)?;
        if let Some(millis) = self.control.start_at_unix_millis {
            // Seconds in place of milliseconds are in the year 1970.
            let start = millis.saturating_mul(1_000_000);
            check_distance(&format!("--start-at-unix-millis {millis}"), start, unix_nanos()).map_err(UsageError)?;
        }
        Ok(workload)
    }
}

impl NodeArgs {
    /// The token of a controlled node; none for a node that nobody controls.
    ///
    /// # Errors
    /// Where a controlled node has none: whoever reached its endpoint could end its run.
    pub fn token(&self) -> Result<Option<RunToken>, UsageError> {
        if !self.control.controlled {
            return Ok(None);
        }
        match RunToken::given(self.control.token_file.as_deref()).map_err(UsageError)? {
            Some(token) => Ok(Some(token)),
            None => Err(UsageError(format!(
                "--controlled needs the token that its runner has: give --token-file FILE, or {TOKEN_VARIABLE} in the \
                 environment (make one by: openssl rand -hex 32)"
            ))),
        }
    }

    /// The arguments as words of a command line, which parse to the same arguments again.
    pub fn to_command_line(&self) -> Vec<OsString> {
        let (workload, network, control) = (&self.workload, &self.network, &self.control);
        let gossip = &network.gossip;
        let mut words = vec![];
        let mut flag = |name: &str, value: Option<OsString>| {
            words.extend(value.map(|value| {
                let mut word = OsString::from(format!("--{name}="));
                word.push(value);
                word
            }));
        };
        macro_rules! always {
            ($($name:literal: $value:expr),* $(,)?) => {$( flag($name, Some($value.to_string().into())); )*};
        }
        macro_rules! if_given {
            ($($name:literal: $value:expr),* $(,)?) => {$( flag($name, $value.as_ref().map(|value| value.to_string().into())); )*};
        }
        let bootstrap: Vec<String> = self.bootstrap.0.iter().map(ToString::to_string).collect();
        always! {
            "id": self.id,
            "num-nodes": self.num_nodes,
            "metric-port": self.metric_port,
            "p2p-port": self.p2p_port,
            "bootstrap": bootstrap.join(","),
            "mode": value_name(&self.mode),
            "network-protocol": value_name(&self.network_protocol),
            "buffer-size": self.buffer_size,
            "timeout": self.timeout,
            "verbosity": self.verbosity,
            "send-phase": value_name(&workload.send_phase),
            "send-phase-seed": workload.send_phase_seed,
            "explore-cool-down-duration-seconds": workload.explore_cool_down_duration_seconds,
            "explore-run-duration-seconds": workload.explore_run_duration_seconds,
            "explore-min-throughput-byte-per-seconds": workload.explore_min_throughput_byte_per_seconds,
            "explore-min-message-size-bytes": workload.explore_min_message_size_bytes,
            "queue-bytes": network.queue_bytes,
            "gossipsub-mesh-n": gossip.mesh_n,
            "gossipsub-mesh-n-low": gossip.mesh_n_low,
            "gossipsub-mesh-n-high": gossip.mesh_n_high,
            "gossipsub-mesh-outbound-min": gossip.mesh_outbound_min,
            "gossipsub-heartbeat-millis": gossip.heartbeat_millis,
            "gossipsub-flood-publish": gossip.flood_publish,
            "gossipsub-signing": gossip.signing,
            "gossipsub-idontwant-threshold-bytes": gossip.idontwant_threshold_bytes,
            "ready-timeout-seconds": control.ready_timeout_seconds,
            "run-id": control.run_id,
            "metric-address": control.metric_address,
            "p2p-address": control.p2p_address,
            "log-limit-mib": control.log_limit_mib,
        }
        if_given! {
            "broadcaster": workload.broadcaster,
            "message-size-bytes": workload.message_size_bytes,
            "heartbeat-millis": workload.heartbeat_millis,
            "round-duration-seconds": workload.round_duration_seconds,
            "start-at-unix-millis": control.start_at_unix_millis,
            "host-names": Some(control.host_names.join(",")).filter(|names| !names.is_empty()),
            "probe-port": control.probe_port,
            "profile-mode": control.profile_mode.as_ref().map(value_name),
            "worker-threads": control.worker_threads,
        }
        // A path need not be text.
        flag("token-file", control.token_file.as_ref().map(Into::into));
        flag("summary", control.summary.as_ref().map(Into::into));
        flag("profile-output", control.profile_output.as_ref().map(Into::into));
        let switches = [
            ("--quic", network.quic),
            ("--gossipsub-metrics", network.gossipsub_metrics),
            ("--tokio-metrics", network.tokio_metrics),
            ("--controlled", control.controlled),
        ];
        words.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| name.into()));
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::network::peer_id;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        node: NodeArgs,
    }

    /// The arguments of a good node with `extra` appended; the last one given of two counts.
    fn parse(extra: &str) -> Result<Workload, String> {
        let good = "node --id 0 --num-nodes 3 --metric-port 2000 --p2p-port 10000 --bootstrap , --mode all \
                    --network-protocol gossipsub --message-size-bytes 1024 --heartbeat-millis 10 --buffer-size 10 \
                    --timeout 9 --verbosity 2";
        let mut words: Vec<&str> = good.split_whitespace().collect();
        let extra: Vec<&str> = extra.split_whitespace().collect();
        for flag in extra.iter().filter(|word| word.starts_with("--")) {
            if let Some(at) = words.iter().position(|word| word == flag) {
                words.drain(at..(at + 2).min(words.len()));
            }
        }
        words.extend(extra);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.node.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_command_line_is_taken() {
        assert!(parse("").is_ok());
        let list =
            format!("--bootstrap /ip4/127.0.0.1/tcp/1/p2p/{},,/ip4/127.0.0.1/tcp/2/p2p/{}", peer_id(0), peer_id(1));
        assert!(parse(&list).is_ok());
        assert!(parse("--mode explore --broadcaster 2").is_ok());
        assert!(parse("--mode rr --round-duration-seconds 1").is_ok());
    }

    #[test]
    fn the_peers_may_be_given_by_several_flags_and_the_flags_of_apollos_node_are_taken() {
        let address = |id: u64| format!("/ip4/127.0.0.1/tcp/1/p2p/{}", peer_id(id));
        let words = format!(
            "node -i 0 --num-nodes 4 --metric-port 2000 -p 10000 --bootstrap {} --bootstrap {},{} --bootstrap= --mode all \
             --network-protocol gossipsub --message-size-bytes 1024 --heartbeat-millis 10 --buffer-size 10 \
             --timeout-seconds 9 -v 2",
            address(1),
            address(2),
            address(3)
        );
        let node = Cli::try_parse_from(words.split_whitespace()).unwrap_or_else(|error| panic!("{error}")).node;
        let peers: Vec<String> = node.bootstrap.0.iter().map(ToString::to_string).collect();
        assert_eq!(peers, [address(1), address(2), address(3)]);
        assert_eq!((node.p2p_port, node.timeout, node.verbosity), (10_000, 9, 2));
        assert!(node.validate().is_ok());
    }

    #[test]
    fn a_command_line_that_is_written_parses_to_the_same_arguments() {
        let words = "node --id=1 --num-nodes=4 --metric-port=7 --p2p-port=8 --mode=one --network-protocol=reversed-sqmr \
                     --bootstrap=/ip4/127.0.0.1/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN \
                     --buffer-size=9 --timeout=10 --verbosity=5 --broadcaster=2 --message-size-bytes=77 \
                     --heartbeat-millis=3 --send-phase=aligned --send-phase-seed=24 --round-duration-seconds=12 --explore-cool-down-duration-seconds=13 \
                     --explore-run-duration-seconds=14 --explore-min-throughput-byte-per-seconds=15.5 \
                     --explore-min-message-size-bytes=16 --quic --queue-bytes=100000 --gossipsub-metrics \
                     --tokio-metrics --gossipsub-mesh-n=7 --gossipsub-mesh-n-low=6 --gossipsub-mesh-n-high=13 \
                     --gossipsub-mesh-outbound-min=1 --gossipsub-heartbeat-millis=17 --gossipsub-flood-publish=false \
                     --gossipsub-signing=false --gossipsub-idontwant-threshold-bytes=18 --controlled \
                     --ready-timeout-seconds=19 --run-id=20 --summary=/tmp/x.json --metric-address=127.0.0.1 \
                     --p2p-address=::1 --token-file=/tmp/x.token --host-names=a,b.lan --probe-port=23 --profile-mode=mem --profile-output=/tmp/x.svg --worker-threads=21 --log-limit-mib=22";
        let given = Cli::try_parse_from(words.split_whitespace()).unwrap_or_else(|error| panic!("{error}")).node;
        let written = std::iter::once("node".into()).chain(given.to_command_line());
        let again = Cli::try_parse_from(written).unwrap_or_else(|error| panic!("{error}")).node;
        let as_json = |args: &NodeArgs| serde_json::to_value(args).unwrap();
        assert_eq!(as_json(&again), as_json(&given));
        // Every argument is in the text above, so none can be forgotten in the writing.
        let count = words.split_whitespace().count() - 1;
        assert_eq!(given.to_command_line().len(), count);
        let known = <Cli as clap::CommandFactory>::command().get_arguments().count();
        assert_eq!(known, count + 1, "all but --start-at-unix-millis, which excludes --controlled");
    }

    #[test]
    fn a_bad_one_is_refused_with_a_line_that_names_the_flag() {
        let tcp = format!("--quic --bootstrap /ip4/127.0.0.1/tcp/1/p2p/{}", peer_id(1));
        let quic = format!("--bootstrap /ip4/127.0.0.1/udp/1/quic-v1/p2p/{}", peer_id(1));
        for (extra, says) in [
            ("--id 3", "--id 3 is outside"),
            ("--num-nodes 0", "--num-nodes 0"),
            ("--num-nodes 10001", "--num-nodes 10001"),
            ("--mode one", "--mode one needs --broadcaster"),
            ("--mode one --broadcaster 3", "--broadcaster 3 is outside"),
            ("--mode explore", "--mode explore needs --broadcaster"),
            ("--mode rr", "--mode rr needs --round-duration-seconds"),
            ("--mode rr --round-duration-seconds 0", "--round-duration-seconds 0"),
            ("--mode rr --round-duration-seconds 1 --heartbeat-millis 1001", "silent"),
            ("--heartbeat-millis 0", "--heartbeat-millis 0"),
            ("--message-size-bytes 35", "must be 36"),
            ("--message-size-bytes 33554433", "33554432"),
            ("--mode explore --broadcaster 0 --explore-run-duration-seconds 0", "--explore-run-duration-seconds 0"),
            ("--mode explore --broadcaster 0 --explore-min-throughput-byte-per-seconds NaN", "must be a number"),
            ("--mode explore --broadcaster 0 --explore-min-message-size-bytes 4194305", "no trial"),
            ("--bootstrap /ip4/127.0.0.1/tcp/1", "names no peer"),
            ("--verbosity 6", "6"),
            ("--buffer-size 0", "--buffer-size"),
            ("--timeout 0", "--timeout"),
            ("--metric-port 0", "--metric-port"),
            ("--start-at-unix-millis 1700000000", "give a start within a year"),
            ("--mode some", "some"),
            ("--gossipsub-mesh-n 2", "--gossipsub-mesh-n 2"),
            ("--gossipsub-mesh-outbound-min 4", "--gossipsub-mesh-outbound-min 4"),
            (&tcp, "--quic asks for"),
            (&quic, "add --quic"),
        ] {
            let error = parse(extra).expect_err(extra);
            assert!(error.contains(says), "{extra}: {error}");
        }
    }
}
