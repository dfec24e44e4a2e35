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

/// Where the nodes of a run live.
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
    /// Port for HTTP of node 0; node i listens on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 2000)]
    pub(super) base_metric_port: u16,
    /// Port for peers of node 0; node i listens on this port plus i
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    pub(super) base_p2p_port: u16,
    /// Program to run as a node, in place of the one built into this one
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

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, Args, Serialize)]
pub(super) struct PrintArgs {
    /// Print a line for each link that was shaped: what was asked for, what was measured
    #[arg(long)]
    pub(super) per_link: bool,
    /// Print a line for each node too
    #[arg(long)]
    pub(super) per_node: bool,
    /// Print the result as JSON (the same as summary.json)
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the nodes' time and memory go.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Profiles")]
pub(super) struct ProfileArgs {
    /// Profile every node; the profiles are in the folder of the run
    #[arg(long)]
    pub(super) profile: bool,
    /// What is profiled
    #[arg(long, value_enum, default_value = "cpu", requires = "profile")]
    pub(super) profile_mode: ProfileMode,
}

/// How a run is watched.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Watching")]
pub(super) struct LiveArgs {
    /// Show the run on a page of its own while it goes, on 127.0.0.1
    #[arg(long)]
    pub(super) live: bool,
    /// Port of that page; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080, requires = "live")]
    pub(super) live_port: u16,
    /// Keep what shows the run, of --live and --observe, up after it, until Ctrl-C
    #[arg(long)]
    pub(super) keep_open: bool,
}

impl LiveArgs {
    /// Port of the live page, if there is one. Checked against the flags of what else shows the run.
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
