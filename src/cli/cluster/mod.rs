//! `apollo-bench cluster`: a run on Kubernetes.
//!
//! A forwarded port for each node is an endpoint of a [`RemoteSpec`](crate::remote::RemoteSpec). All facts about a run
//! are in the cluster, so that nothing depends on the machine that started it.

mod adopt;
mod arguments;
mod claim;
mod collect;
mod commands;
mod kept;
mod logs;
mod manifests;
mod plan;
mod port_forward;
mod preflight;
mod remote;
mod session;
mod start;
mod status;
mod stop;
mod times;

use clap::{Args, Subcommand};

use self::{
    arguments::{ConnectArgs, ManifestsArgs},
    commands::{CollectArgs, LogsArgs, PortForwardArgs, StartArgs, StatusArgs, StopArgs},
};
use super::error::CliError;

/// `apollo-bench cluster`.
#[derive(Clone, Debug, Args)]
pub(super) struct ClusterArgs {
    /// Command to run.
    #[command(subcommand)]
    pub(super) command: ClusterCommand,
}

/// Commands for a run in a cluster.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Print all objects of a run, without a cluster
    ///
    /// Takes the flags of 'cluster start', and prints the objects that it would apply, in their order. With --name and
    /// --grafana-secret, the same arguments give the same bytes.
    #[command(after_help = MANIFESTS_HELP)]
    Manifests(Box<ManifestsArgs>),
    /// Create a run in the cluster, wait until its nodes are connected, and start it
    ///
    /// While it waits, it reports the reasons that delay pods. A start that fails, or is interrupted, removes the
    /// objects that it has created.
    #[command(after_help = START_HELP)]
    Start(Box<StartArgs>),
    /// Show a run's pods and phase
    Status(StatusArgs),
    /// Print the output of all pods of a run, from their beginning to their end
    Logs(LogsArgs),
    /// Open Grafana and Prometheus on this machine until Ctrl-C, even if their pods are restarted
    PortForward(PortForwardArgs),
    /// Collect a run: wait for its end, write its folder with every node's counts and log, print its result
    ///
    /// Afterwards the nodes are ended; Prometheus and Grafana stay until 'cluster stop'. Exit codes: 0 the run is
    /// valid; 1 it is invalid, and the reason is printed; 2 bad usage
    Collect(CollectArgs),
    /// Remove all objects of a run, and wait until they are gone
    ///
    /// A namespace that existed before the run stays. The command may be repeated.
    Stop(StopArgs),
    /// Show all runs of the cluster
    List(ConnectArgs),
}

const START_HELP: &str = "\
Examples:
  apollo-bench cluster start --image registry.example/bench:v1 --num-nodes 10
  apollo-bench cluster start --registry registry.example/team --num-nodes 10 --latency 50 --timeout 120
  apollo-bench cluster collect --output result

Without --namespace the other commands use the only existing run. Exit codes: 0 the nodes have their start; 1 it failed;
2 bad usage";

const MANIFESTS_HELP: &str = "\
Examples:
  apollo-bench cluster manifests --image registry.example/bench:v1 --num-nodes 10 --mode explore --broadcaster 0
  apollo-bench cluster manifests --image registry.example/bench:v1 --name first --latency 50 > run.yaml

The nodes wait for their start, which 'cluster start' sends. Exit codes: 0 printed; 1 failed; 2 bad usage";

/// Runs the command.
pub(super) fn command(args: &ClusterArgs) -> Result<(), CliError> {
    match &args.command {
        ClusterCommand::Manifests(args) => manifests::command(args),
        ClusterCommand::Start(args) => session::run(start::start(args)),
        ClusterCommand::Status(args) => session::run(status::status(args)),
        ClusterCommand::Logs(args) => session::run(logs::logs(args)),
        ClusterCommand::PortForward(args) => session::run(port_forward::port_forward(args)),
        ClusterCommand::Collect(args) => session::run(collect::collect(args)),
        ClusterCommand::Stop(args) => session::run(stop::stop(args)),
        ClusterCommand::List(args) => session::run(status::list(args)),
    }
}
