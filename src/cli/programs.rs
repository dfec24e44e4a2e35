//! Both programs, from their command lines to their exit codes.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::{
    agree::{AgreeArgs, agree},
    arguments::LocalArgs,
    cluster::{self, ClusterArgs},
    command_line::{VERSION, parse, parse_words, write_man_pages},
    compare::{CompareArgs, compare_sides},
    error::CliError,
    figures::{FiguresArgs, print_figures},
    image::{self, ImageArgs},
    local::local,
    node::NodeCommand,
    remote::{RemoteArgs, remote},
    report::{ReportArgs, report},
    run::RunArgs,
    scenario::{ScenarioArgs, scenario},
    schema::{SchemaArgs, schema},
    search::{SearchArgs, search},
    shape::{ShapeArgs, shape},
    show::{ShowArgs, show},
    simulate::{SimulateArgs, simulate_command},
    sweep::{SweepArgs, sweep},
};
use crate::{deploy::docker, node::with_bare_environment, terminal::say};

/// Measure a libp2p network under load: its throughput, its delays to all nodes, and its first point of failure.
#[derive(Parser)]
#[command(name = "apollo-bench", version = VERSION, max_term_width = 120, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario file on a deployment, and print deliveries, delays and costs
    ///
    /// Reads the scenario, replaces values by those of flags, and runs the command of the deployment: local for
    /// process, netns and docker, remote for remote, cluster start for kubernetes. Its flags may follow the file.
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Show, check and describe scenario files
    Scenario(ScenarioArgs),
    /// Run a network of nodes on this machine, and print deliveries, delays and costs
    ///
    /// Starts the nodes as processes, waits until all are connected, starts them at one instant, warms up, measures,
    /// waits for late messages, and prints the result. Every flag has a default.
    #[command(after_help = LOCAL_HELP)]
    Local(Box<LocalArgs>),
    /// Run a network of nodes in virtual time, and print deliveries and delays
    ///
    /// All nodes run in this process: the same libp2p, gossipsub and counting as elsewhere, over a model of the network
    /// whose numbers are those of the scenario's links. Processors are infinitely fast unless a model of them is given;
    /// CPU, memory and send lag are unknown. One seed gives one result. docs/simulation.md has the model and its limits.
    #[command(after_help = SIMULATE_HELP)]
    Simulate(Box<SimulateArgs>),
    /// Run the same over existing nodes: services of other machines, pods of a cluster
    ///
    /// Asks the nodes for their configuration, waits until all are connected, starts them at one instant, waits for the
    /// end of the window, and collects and prints the result, as local does. The workload is that of the nodes. They
    /// must run with --controlled, and the same --num-nodes, --mode and workload.
    #[command(after_help = REMOTE_HELP)]
    Remote(Box<RemoteArgs>),
    /// Derive the results of runs again from the files in their folders, print them, and write a page about them
    ///
    /// Derives each result from the counts of each life of each node and the observations of the runner, and compares it
    /// with the summary.json of the folder. Then writes one HTML file with the verdict, charts and tables; several runs
    /// are side by side. The file needs no network and no script. The command show prints the result without deriving it.
    ///
    /// Exit codes: 0 the runs are valid; 1 one is invalid, or its summary differs, or the file can't be written; 2 bad
    /// usage; 3 a run missed an objective.
    Report(ReportArgs),
    /// Print the names and values of all figures of a result, for --expect
    Figures(FiguresArgs),
    /// Compare two sides of runs: is B better than A, by how much, or how large can a difference be at most
    ///
    /// Compares finished runs (RUN... --with RUN...), or makes the runs itself, in turns. The unit of evidence is the run:
    /// medians of runs, an interval of their ratio, a rank test corrected for the number of measures. Refuses invalid
    /// runs, and saturated ones against others.
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Run a scenario on network namespaces and in virtual time, in turns, and print the ratios of their figures
    ///
    /// The simulation runs under both orders of service, and the real network with the congestion control of the model.
    /// Measures are medians of runs, with an interval of their ratio.
    ///
    /// Exit codes: 0 the ratios are printed; 1 a run could not be made, or is not valid; 2 bad usage.
    Agree(AgreeArgs),
    /// Find the highest load that meets the objectives, and name the part that gives way above it
    ///
    /// Doubles the load until an objective is missed, halves it until all are met, narrows the interval, and repeats its
    /// two ends. Every trial is a whole run. The result is an interval: a load that holds, and one that fails, with the
    /// evidence of the limit.
    #[command(after_help = SEARCH_HELP)]
    Search(SearchArgs),
    /// Run a scenario with each combination of values
    ///
    /// The values come from --vary or from a table [sweep] in the scenario. Every trial is a whole run. The same command
    /// with the same --output continues after any interruption; complete trials are not repeated.
    #[command(after_help = SWEEP_HELP)]
    Sweep(SweepArgs),
    /// Print the result of a run as its folder has it, without deriving it again
    ///
    /// Reads summary.json alone, of this version or of an older one, so that it works for every folder of a run that
    /// has ended. The command report derives the same result again from the files of the nodes, and compares both. Exit
    /// codes: 0 the run is valid; 1 it is invalid; 2 bad usage; 3 it missed an objective.
    ///
    /// With --observe, serves a copy of the data that Prometheus stored in the run folder, and Grafana at the time range
    /// of the run, until Ctrl-C, and prints no result. The folder does not change.
    Show(ShowArgs),
    /// Print the JSON Schema of a file of a run
    ///
    /// The schema describes the file as this version writes it. Its $id ends with the version, which is raised when a
    /// field changes its meaning or is removed.
    Schema(SchemaArgs),
    /// Run the network on Kubernetes
    Cluster(ClusterArgs),
    /// Run one node, as the program broadcast_network_stress_test_node does
    Node(Box<NodeCommand>),
    /// Shape the traffic of a network interface: latency, jitter, loss, throughput
    ///
    /// Applies the shape to an interface of this network namespace; shows it (--show); removes it (--remove); or, as an
    /// entry point, applies it and becomes the command after the two dashes.
    #[command(after_help = SHAPE_HELP)]
    Shape(Box<ShapeArgs>),
    /// Build a small container image of this program
    ///
    /// The image has no base image: it contains this program, the node, tc and ip of this machine, and their libraries.
    /// It needs no registry and no network, and Docker only for --load. The same files give the same digest.
    #[command(after_help = IMAGE_HELP)]
    Image(ImageArgs),
    #[command(hide = true)]
    ReapDocker {
        /// Run whose objects are removed from Docker once standard input is closed
        run: String,
    },
    /// Print the completion script of a shell
    ///
    /// For bash: source <(apollo-bench completions bash)
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages of both programs
    #[command(hide = true)]
    Man {
        /// Folder for the pages, made if it does not exist
        folder: PathBuf,
    },
}

const RUN_HELP: &str = "\
Examples:
  A scenario on the loopback, for ten seconds:
    apollo-bench run scenarios/starknet-today.toml --timeout 10
  The same in network namespaces, with one value changed:
    apollo-bench run scenarios/starknet-today.toml --on netns --set traffic.votes.deadline_millis=500
  Repeat the run of a folder:
    apollo-bench run FOLDER/scenario.toml

'apollo-bench local --help', 'apollo-bench remote --help' and 'apollo-bench cluster start --help' list the flags.
Exit codes: 0 the run is valid; 1 it is invalid, and the reason is printed; 2 bad usage; 3 it missed an objective";

const LOCAL_HELP: &str = "\
Examples:
  Five nodes that all send 64 KiB twenty times a second:
    apollo-bench local --num-nodes 5 --message-size-bytes 65536 --heartbeat-millis 50
  One broadcaster over SQMR and QUIC, a line for each node:
    apollo-bench local --mode one --network-protocol sqmr --quic --per-node
  Find the maximum throughput of the network, from 10 MB/s on:
    apollo-bench local --mode explore --explore-cool-down-duration-seconds 10 \\
      --explore-run-duration-seconds 20 --explore-min-throughput-byte-per-seconds 10000000

Exit codes: 0 the run is valid; 1 it is invalid, and the reason is printed; 2 bad usage; 3 it missed an objective";

const SIMULATE_HELP: &str = "\
Examples:
  A hundred nodes with 10 peers each, over links of 50 ms and 100 Mbit/s:
    apollo-bench simulate --num-nodes 100 --set topology.kind=random --set topology.peers=10 \\
      --latency 50 --jitter 10 --throughput 12500 --mode one --message-size-bytes 1024 --heartbeat-millis 100
  A scenario with another seed:
    apollo-bench simulate scenarios/starknet-100.toml --seed 7
  Figures under both orders of service at limited interfaces:
    apollo-bench simulate scenarios/eth-2mib.toml --bracket

Exit codes: 0 the run is valid; 1 it is invalid or was interrupted, and the reason is printed; 2 bad usage; 3 it missed
an objective";

const REMOTE_HELP: &str = "\
A node lives for one run. After the collection of its run it is requested to end, with exit code 0, so that its
service manager can restart it (systemd: Restart=always) for the next run. --keep-nodes leaves the nodes running, with
their counts, until their own --timeout. Ctrl-C ends only this program: the nodes continue, and the command to collect
the run is printed.

If flags set the shapes of the links (--latency, --links FILE ...) and the nodes have --probe-port, the links are
measured before and after the window. Between hosts, one-way delays depend on the clocks, which are compared; a large
difference is reported. Links between hosts are judged by their round trips.

Examples:
  Nodes on three hosts, each started with --controlled --metric-port 2000:
    apollo-bench remote --node 10.0.0.1:2000,10.0.0.2:2000,10.0.0.3:2000 --timeout 60
  The same from a file, one endpoint a line; a line for each node in the result:
    apollo-bench remote --nodes-file nodes.txt --per-node
  Begin a run of an hour, and collect it later, from the same folder:
    apollo-bench remote --nodes-file nodes.txt --timeout 3600 --output run1 --detach
    apollo-bench remote --nodes-file nodes.txt --timeout 3600 --output run1
  Links that should have 20 ms one way:
    apollo-bench remote --nodes-file nodes.txt --latency 20 --per-link

Exit codes: 0 the run is valid, or has begun (--detach); 1 it is invalid, or was interrupted; 2 bad usage, or unusable
nodes, with the reason";

const COMPARE_HELP: &str = "\
Examples:
  Gossipsub without flood publishing, ten runs of each side:
    apollo-bench compare --run scenario.toml --vary network.gossipsub.flood_publish=false --output comparison
  Two builds of the node:
    apollo-bench compare --run scenario.toml --node-binary ./before --node-binary ./after --fail-if-worse
  Finished runs:
    apollo-bench compare before1 before2 before3 before4 --with after1 after2 after3 after4

Exit codes: 0 compared; 1 a run could not be made; 2 bad usage, or sides that can't be compared; 3 B is worse
(--fail-if-worse)";

const SEARCH_HELP: &str = "\
Examples:
  The highest rate over links of 2 MB/s at which everything arrives, within 300 ms at all nodes:
    apollo-bench search scenario.toml --on netns --expect 'delivery_ratio == 1' --expect 'reach_all_p99 <= 300ms' \
      -- --throughput 2000
  The largest message at the rate of the scenario, to 10 %:
    apollo-bench search scenario.toml --by size --precision-percent 10

Exit codes: 0 a load holds; 1 a trial could not be run; 2 bad usage; 3 no load holds";

const SWEEP_HELP: &str = "\
Examples:
  Three sizes of the mesh, five runs each:
    apollo-bench sweep scenario.toml --vary network.gossipsub.mesh_n=6,8,10 --repeat 5 --output sweep
  In a scenario, six trials:
    [sweep]
    \"network.gossipsub.mesh_n\" = [6, 8, 10]
    \"traffic.default.message_size_bytes\" = [1024, 65536]

Exit codes: 0 all trials are valid; 1 a trial is invalid, or could not be run; 2 bad usage; 3 an objective was missed";

const SHAPE_HELP: &str = "\
Latency, jitter, loss, duplicates and reordering are applied once, to outgoing traffic; throughput is applied to
outgoing and incoming traffic. Between two interfaces with the same shape, --latency 50 is 50 ms one way and 100 ms
for a round trip.

Examples:
  apollo-bench shape --interface eth0 --latency 50 --jitter 5 --throughput 10000
  apollo-bench shape --interface eth0 --show
  apollo-bench shape --interface eth0 --remove
  apollo-bench shape --interface eth0 --latency 50 -- node --id 0 ...
  apollo-bench shape --interface eth0 --egress latency=80 --ingress latency=20,loss=1

The command needs root or NET_ADMIN, and the programs tc and ip (iproute2). Exit codes: 0 done; 2 not done, with the
reason";
const IMAGE_HELP: &str = "\
Examples:
  Build it and run it:
    apollo-bench image --tag bench:v1 --load
    docker run --rm bench:v1 local --num-nodes 5
  Take it to another machine:
    apollo-bench image --tag bench:v1 --output bench-image
    ssh HOST docker load < bench-image/image.tar

Exit codes: 0 the image exists; 1 it failed; 2 bad usage, or a program or library is missing";

/// The program `apollo-bench`.
pub fn apollo_bench() -> ExitCode {
    let read = parse::<Cli>(|command| command.mut_subcommand("node", with_bare_environment));
    CliError::exit(read.and_then(|cli| cli.map_or(Ok(()), run)))
}

/// The program `broadcast_network_stress_test_node`.
pub fn broadcast_network_stress_test_node() -> ExitCode {
    let read = parse::<NodeCommand>(with_bare_environment);
    CliError::exit(read.and_then(|command| command.map_or(Ok(()), NodeCommand::run)))
}

fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Run(args) => {
            let words = args.words()?;
            let read = parse_words::<Cli>(words, |command| command)?;
            read.map_or(Ok(()), run)
        }
        Command::Scenario(args) => scenario(&args),
        Command::Local(args) => local(&args),
        Command::Simulate(args) => simulate_command(&args),
        Command::Remote(args) => remote(&args),
        Command::Report(args) => report(&args),
        Command::Compare(args) => compare_sides(&args),
        Command::Figures(args) => print_figures(&args),
        Command::Agree(args) => agree(&args),
        Command::Search(args) => search(&args),
        Command::Sweep(args) => sweep(&args),
        Command::Show(args) => show(&args),
        Command::Schema(args) => schema(args),
        Command::Cluster(args) => cluster::command(&args),
        Command::Node(command) => command.run(),
        Command::Shape(args) => shape(&args),
        Command::Image(args) => image::command(&args),
        Command::ReapDocker { run } => docker::reap(&run).map_err(CliError::Failed),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "apollo-bench", &mut script);
            say(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Man { folder } => write_man_pages(&folder, [Cli::command(), NodeCommand::command()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_have_a_new_name_are_taken_by_their_old_one_and_not_shown() {
        for (command, old) in [
            (&["local"][..], &["--certificate-seconds=1", "--tolerance-percent=3"][..]),
            (&["remote"], &["--certificate-seconds=1", "--tolerance-percent=3"]),
            (&["cluster", "manifests"], &["--share-hosts", "--collect-within-seconds=60"]),
        ] {
            let words = ["apollo-bench"].iter().chain(command);
            assert!(Cli::try_parse_from(words.clone().chain(old)).is_ok(), "{command:?}");
            let Err(help) = Cli::try_parse_from(words.chain(&["--help"])) else { unreachable!() };
            for flag in old {
                assert!(!help.to_string().contains(flag.split('=').next().unwrap()), "{flag}");
            }
        }
    }
}
