//! The command line of `apollo-bench local`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::scenario_flags::ScenarioFlags;
use crate::{
    deploy::docker::DockerArgs,
    monitoring::ObserveArgs,
    node::{ProfileMode, UsageError},
    paths::as_text_if_given,
};

/// Deployments on this machine.
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
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) scenario: ScenarioFlags,
    /// Deployment of the nodes
    #[arg(long, alias = "on", value_enum, default_value = "process")]
    pub(super) backend: Backend,
    /// Run the nodes in Docker containers; the same as --backend docker
    #[arg(long, conflicts_with = "backend")]
    pub(super) docker: bool,
    /// HTTP port of node 0; node i listens on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 2000)]
    pub(super) base_metric_port: u16,
    /// Port of node 0 for its peers; node i listens on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    pub(super) base_p2p_port: u16,
    /// Program to run as a node, instead of the node in this program
    #[arg(long, value_name = "PATH")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) node_binary: Option<PathBuf>,
    /// Folder for logs and results; must be empty or new [default: /tmp/broadcast-network-stress-test-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) print: PrintArgs,
    #[command(flatten)]
    pub(super) live: LiveArgs,
    #[command(flatten)]
    pub(super) containers: DockerArgs,
    #[command(flatten)]
    pub(super) profile: ProfileArgs,
    #[command(flatten)]
    pub(super) observe: ObserveArgs,
}

/// Parts of the printed result.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub(super) struct PrintArgs {
    /// Print a line for each shaped link, with its configured and its measured shape
    #[arg(long)]
    pub(super) per_link: bool,
    /// Print a line for each node
    #[arg(long)]
    pub(super) per_node: bool,
    /// Print the result as JSON (the same as summary.json)
    #[arg(long)]
    pub(super) json: bool,
    /// Write the verdict and each objective as a test case of JUnit's XML, for CI
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) junit: Option<PathBuf>,
}

/// Profiles of the nodes.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Profiles")]
pub(super) struct ProfileArgs {
    /// Profile every node; the profiles are in the run folder
    #[arg(long)]
    pub(super) profile: bool,
    /// Subject of the profile
    #[arg(long, value_enum, default_value = "cpu", requires = "profile")]
    pub(super) profile_mode: ProfileMode,
}

/// Live page and monitoring of a run.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Watching")]
pub(super) struct LiveArgs {
    /// Show the run on a live page on 127.0.0.1
    #[arg(long)]
    pub(super) live: bool,
    /// Port of the live page; 0 for a free port
    #[arg(long, value_name = "PORT", default_value_t = 8080, requires = "live")]
    pub(super) live_port: u16,
    /// Keep the live page (--live) and the monitoring (--observe) up after the run, until Ctrl-C
    #[arg(long)]
    pub(super) keep_open: bool,
}

impl LiveArgs {
    /// Port of the live page, if requested. Checked against the ports of the monitoring.
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
