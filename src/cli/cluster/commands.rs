//! Command lines that connect to a cluster.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::arguments::{ConnectArgs, DeploymentArgs};
use crate::{cli::arguments::PrintArgs, deploy::kubernetes::names::Component};

/// `apollo-bench cluster start`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct StartArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) deployment: DeploymentArgs,
    /// Let the server check all objects, and create nothing
    #[arg(long, conflicts_with = "keep_on_failure")]
    pub(super) dry_run: bool,
    /// Keep the objects of a failed start, to examine them; by default they are removed
    #[arg(long)]
    pub(super) keep_on_failure: bool,
}

/// `apollo-bench cluster status`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct StatusArgs {
    /// Print the status as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) connect: ConnectArgs,
}

/// `apollo-bench cluster logs`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    /// Print the existing lines, and end
    #[arg(long)]
    pub(super) no_follow: bool,
    /// Only pods of this part of the run
    #[arg(long, value_enum)]
    pub(super) component: Option<Part>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) connect: ConnectArgs,
}

/// A part of a run that has pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(super) enum Part {
    /// The nodes.
    Node,
    /// Prometheus.
    Prometheus,
    /// Grafana.
    Grafana,
}

impl Part {
    pub(super) fn component(self) -> Component {
        match self {
            Self::Node => Component::Node,
            Self::Prometheus => Component::Prometheus,
            Self::Grafana => Component::Grafana,
        }
    }
}

/// `apollo-bench cluster port-forward`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct PortForwardArgs {
    /// Port of Grafana on 127.0.0.1; 0 for a free port
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    pub(super) grafana_port: u16,
    /// Port of Prometheus on 127.0.0.1; 0 for a free port
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    pub(super) prometheus_port: u16,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) connect: ConnectArgs,
}

/// `apollo-bench cluster collect`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct CollectArgs {
    /// Folder for results; empty or new [default: /tmp/broadcast-network-stress-test-TIME]
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Keep the nodes after their run is collected; by default they are ended
    #[arg(long)]
    pub(super) keep_nodes: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) print: PrintArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) connect: ConnectArgs,
}

/// `apollo-bench cluster stop`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct StopArgs {
    /// Maximum time to wait until everything is removed, in seconds
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) timeout_seconds: u64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) connect: ConnectArgs,
}
