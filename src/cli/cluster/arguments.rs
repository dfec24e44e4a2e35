//! The arguments that make a run in a cluster, and those that find one.

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
    /// How they are written; JSON is one object, a List
    #[arg(long, value_enum, default_value = "yaml")]
    pub(in crate::cli) format: Format,
    #[command(flatten)]
    pub(in crate::cli) deployment: DeploymentArgs,
}

/// How manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// YAML, a document for each object.
    Yaml,
    /// JSON, one List.
    Json,
}

/// A run in a cluster: all that says what is made there.
#[derive(Clone, Debug, Args, Serialize)]
pub(in crate::cli) struct DeploymentArgs {
    /// Name of the run: small letters, digits and hyphens [default: the time, as in 20261122-143015]
    #[arg(long, env = "APOLLO_NAME", value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(in crate::cli) scenario: ScenarioFlags,
    /// After the run the nodes wait for so long to be collected, in seconds; then they end, and their counts are lost
    #[arg(long, alias = "collect-within-seconds", value_name = "S", default_value_t = 14_400, value_parser = clap::value_parser!(u64).range(60..=2_592_000))]
    pub(in crate::cli) retain_seconds: u64,
    /// Port of each node for HTTP
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
    /// Grafana's own key, its administrator's password and the token of the nodes are made from this [default: random]
    #[arg(long, env = "APOLLO_GRAFANA_SECRET", hide_env_values = true, value_name = "TEXT", help_heading = "Cluster")]
    #[serde(skip)]
    pub(in crate::cli) grafana_secret: Option<String>,
}

/// Which cluster, and where in it; the same for every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(in crate::cli) struct ConnectArgs {
    /// Namespace of the run [default: apollo-bench-NAME]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) namespace: Option<String>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) context: Option<String>,
    /// The kubeconfig [default: as kubectl finds it]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) kubeconfig: Option<PathBuf>,
}
