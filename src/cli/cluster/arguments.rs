//! Arguments that describe a run in a cluster, and arguments that find one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    cli::scenario_flags::ScenarioFlags,
    deploy::kubernetes::{ImagesArgs, PodsArgs},
};

/// `apollo-bench cluster manifests`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ManifestsArgs {
    /// Print the rights that the commands need, as a Role in the run's namespace, instead of the objects of a run
    #[arg(long)]
    pub(in crate::cli) rbac: bool,
    /// Format of the manifests; JSON is one object, a List
    #[arg(long, value_enum, default_value = "yaml")]
    pub(in crate::cli) format: Format,
    #[command(flatten)]
    pub(in crate::cli) deployment: DeploymentArgs,
}

/// Format of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// YAML, one document for each object.
    Yaml,
    /// JSON, one List.
    Json,
}

/// A run in a cluster: all arguments that determine its objects.
#[derive(Clone, Debug, Args, Serialize)]
pub(in crate::cli) struct DeploymentArgs {
    /// Name of the run: small letters, digits and hyphens [default: the time, as in 20261122-143015]
    #[arg(long, env = "APOLLO_NAME", value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(in crate::cli) scenario: ScenarioFlags,
    /// Time for which the nodes wait to be collected after the run, in seconds; then they end, and their counts are
    /// lost
    #[arg(long, alias = "collect-within-seconds", value_name = "S", default_value_t = 14_400, value_parser = clap::value_parser!(u64).range(60..=2_592_000))]
    pub(in crate::cli) retain_seconds: u64,
    /// Leave Prometheus and Grafana out: the run then needs no storage, and is collected in the same way
    #[arg(long)]
    pub(in crate::cli) no_monitoring: bool,
    /// HTTP port of each node
    #[arg(long, env = "APOLLO_METRIC_PORT", value_name = "PORT", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1024..))]
    pub(in crate::cli) metric_port: u16,
    /// Port of each node for its peers
    #[arg(long, env = "APOLLO_P2P_PORT", value_name = "PORT", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1024..))]
    pub(in crate::cli) p2p_port: u16,
    #[command(flatten)]
    pub(in crate::cli) images: ImagesArgs,
    #[command(flatten)]
    pub(in crate::cli) pods: PodsArgs,
    #[command(flatten)]
    #[serde(skip)]
    pub(in crate::cli) connect: ConnectArgs,
    /// Secret from which Grafana's own key, its administrator's password and the token of the nodes are derived
    /// [default: random]
    #[arg(long, env = "APOLLO_GRAFANA_SECRET", hide_env_values = true, value_name = "TEXT", help_heading = "Cluster")]
    #[serde(skip)]
    pub(in crate::cli) grafana_secret: Option<String>,
}

/// Cluster and namespace; the same flags for every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(in crate::cli) struct ConnectArgs {
    /// Namespace of the run [default: apollo-bench-NAME]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) namespace: Option<String>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) context: Option<String>,
    /// Kubeconfig file [default: the same as kubectl's]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) kubeconfig: Option<PathBuf>,
}
