//! The command line of `apollo-bench cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    commands::{CollectArgs, LogsArgs, PortForwardArgs, StartArgs, StatusArgs, StopArgs},
    image::PinnedImage,
    quantity::Quantity,
    toleration::Toleration,
};
use crate::{image::ImageStream, lab::RunArgs, shaping::ShapeFlags};

/// `apollo-bench cluster`.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// What to do there.
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What is done with a run in a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Print all that a run is made of in a cluster, without a cluster
    ///
    /// Takes the flags of 'cluster start', and prints the objects that it would apply, in their order. With --name and
    /// --grafana-secret the same arguments give the same bytes.
    #[command(after_help = MANIFESTS_HELP)]
    Manifests(Box<ManifestsArgs>),
    /// Make a run in the cluster, wait until its nodes are connected, and give them their start
    ///
    /// What holds pods up is named while it waits. A start that fails, or is interrupted, removes what it has made.
    #[command(after_help = START_HELP)]
    Start(Box<StartArgs>),
    /// Show a run's pods, and where it is
    Status(StatusArgs),
    /// Print what all pods of a run say, from their beginning to their end
    Logs(LogsArgs),
    /// Open Grafana and Prometheus on this machine until Ctrl-C, also when their pods are started again
    PortForward(PortForwardArgs),
    /// Bring a run home: wait for its end, write its folder with every node's counts and log, print its result
    ///
    /// Then the nodes are ended; Prometheus and Grafana stay until 'cluster stop'. Exit codes: 0 the run is valid; 1 it is
    /// not, and the reason is printed; 2 bad usage
    Collect(CollectArgs),
    /// Remove everything of a run, and wait until it is gone
    ///
    /// A namespace that was there before the run stays. It may be repeated.
    Stop(StopArgs),
    /// Show all runs of the cluster
    List(ConnectArgs),
}

const START_HELP: &str = "\
Examples:
  apollo-bench cluster start --image registry.example/bench:v1 --num-nodes 10
  apollo-bench cluster start --registry registry.example/team --num-nodes 10 --latency 50 --timeout 120
  apollo-bench cluster collect --output result

Without --namespace the other commands take the only run that there is. Exit codes: 0 the nodes have their start; 1 it
failed; 2 bad usage";

const MANIFESTS_HELP: &str = "\
Examples:
  apollo-bench cluster manifests --image registry.example/bench:v1 --num-nodes 10 --mode explore --broadcaster 0
  apollo-bench cluster manifests --image registry.example/bench:v1 --name first --latency 50 > run.yaml

The nodes wait for their start, which 'cluster start' gives. Exit codes: 0 printed; 1 it can't be; 2 bad usage";

/// `apollo-bench cluster manifests`.
#[derive(Clone, Debug, Args)]
pub struct ManifestsArgs {
    /// How they are written; JSON is one object, a List
    #[arg(long, value_enum, default_value = "yaml")]
    pub format: Format,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub deployment: DeploymentArgs,
}

/// How manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// YAML, a document for each object.
    Yaml,
    /// JSON, one List.
    Json,
}

/// A run in a cluster: all that says what is made there.
#[derive(Clone, Debug, Args, Serialize)]
pub struct DeploymentArgs {
    /// Name of the run: small letters, digits and hyphens [default: the time, as in 20261122-143015]
    #[arg(long, env = "APOLLO_NAME", value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub run: RunArgs,
    /// Longest wait for all nodes to be there and connected, in seconds: machines may have to be bought, images to be
    /// fetched
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub ready_timeout_seconds: u64,
    /// After the run the nodes wait for so long to be collected, in seconds; then they end, and their counts are lost
    #[arg(long, value_name = "S", default_value_t = 14_400, value_parser = clap::value_parser!(u64).range(60..=2_592_000))]
    pub collect_within_seconds: u64,
    /// Port of each node for HTTP
    #[arg(long, env = "APOLLO_METRIC_PORT", value_name = "PORT", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1024..))]
    pub metric_port: u16,
    /// Port of each node for its peers
    #[arg(long, env = "APOLLO_P2P_PORT", value_name = "PORT", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1024..))]
    pub p2p_port: u16,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub shape: ShapeFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub images: ImagesArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub pods: PodsArgs,
    #[command(flatten)]
    #[serde(skip)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub connect: ConnectArgs,
    /// Grafana's own key, its administrator's password and the token of the nodes are made from this [default: random]
    #[arg(long, env = "APOLLO_GRAFANA_SECRET", hide_env_values = true, value_name = "TEXT", help_heading = "Cluster")]
    #[serde(skip)]
    pub grafana_secret: Option<String>,
}

/// What the pods are made of.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Images")]
pub struct ImagesArgs {
    /// Image of the nodes, which must hold apollo-bench; with a tag that stays, or a digest
    #[arg(long, value_name = "NAME")]
    pub image: Option<PinnedImage>,
    /// Registry, or folder in one, for an image of this machine's own programs, where no --image is given
    #[arg(long, value_name = "REGISTRY", conflicts_with = "image")]
    pub registry: Option<String>,
    /// Build the image of this machine's own programs, without compiling anything
    #[arg(long, conflicts_with = "image")]
    pub fast_docker: bool,
    /// Program that writes an image for `docker load`, and the image's name: how the flake's own image gets here
    #[arg(long, env = "APOLLO_BENCH_IMAGE_STREAM", value_name = "NAME=PROGRAM", hide = true)]
    #[serde(skip)]
    pub image_stream: Option<ImageStream>,
    /// Image of Prometheus
    #[arg(long, value_name = "NAME", default_value = "docker.io/prom/prometheus:v3.5.0")]
    pub prometheus_image: PinnedImage,
    /// Image of Grafana
    #[arg(long, value_name = "NAME", default_value = "docker.io/grafana/grafana:12.4.2")]
    pub grafana_image: PinnedImage,
}

/// Where pods go, and what they may take.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Pods")]
pub struct PodsArgs {
    /// Label of the machines that the nodes go to; see --node-pool-role
    #[arg(long, value_name = "KEY", default_value = "role")]
    pub node_pool_label: String,
    /// Its value; '' lets them go to any machine
    #[arg(long, value_name = "VALUE", default_value = "apollo-network-benchmark")]
    pub node_pool_role: String,
    /// Taint of machines that pods may go to all the same; may be given several times
    #[arg(id = "toleration", long = "toleration", value_name = "KEY[=VALUE][:EFFECT]")]
    pub tolerations: Vec<Toleration>,
    /// Let several nodes run on one machine
    #[arg(long)]
    pub share_hosts: bool,
    /// Processors that are kept for each node
    #[arg(long, value_name = "CPU", default_value = "7500m")]
    pub cpu_requests: Quantity,
    /// Memory that is kept for each node
    #[arg(long, value_name = "SIZE", default_value = "10Gi")]
    pub memory_requests: Quantity,
    /// Most processors of each node
    #[arg(long, value_name = "CPU", default_value = "7500m")]
    pub cpu_limits: Quantity,
    /// Most memory of each node
    #[arg(long, value_name = "SIZE", default_value = "10Gi")]
    pub memory_limits: Quantity,
    /// Storage class of the volumes of Prometheus and Grafana [default: the cluster's own]
    #[arg(long, value_name = "NAME")]
    pub storage_class: Option<String>,
    /// Domain of the cluster in DNS
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// Which cluster, and where in it; the same for every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ConnectArgs {
    /// Namespace of the run [default: apollo-bench-NAME]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig [default: as kubectl finds it]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}
