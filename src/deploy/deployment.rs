//! Where the nodes of a run live.

use clap::ValueEnum;
use serde::Serialize;

use super::{docker::Containers, plan::Plan, process::Processes, remote::RemoteNodes};
use crate::{
    node::{NodeSummary, StartOrder},
    shaping::{InterfacePlan, QdiscCounters},
};

/// Where the nodes of a run live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Processes on this host's loopback
    #[default]
    Process,
    /// Processes in network namespaces of their own, joined by a bridge; links can be shaped
    Netns,
    /// Docker containers on a network of their own; links can be shaped
    Docker,
}

/// Why the nodes did not start.
#[derive(Debug)]
pub(super) enum StartError {
    /// What was asked for can't be done here; nothing was started.
    Usage(String),
    /// It failed on the way; what had been started is gone again.
    Failed(String),
}

/// The running nodes. Dropping it ends them all.
pub(super) enum Nodes {
    Processes(Processes),
    Containers(Containers),
    /// They run elsewhere, and are not this program's to end.
    Remote(RemoteNodes),
}

macro_rules! each {
    ($nodes:expr, $one:ident => $call:expr) => {
        match $nodes {
            Nodes::Processes($one) => $call,
            Nodes::Containers($one) => $call,
            Nodes::Remote($one) => $call,
        }
    };
}

impl Nodes {
    /// Starts every node of the plan.
    pub(super) async fn start(plan: &Plan) -> Result<Self, StartError> {
        match plan.args.backend {
            Backend::Process | Backend::Netns => Processes::start(plan).map(Self::Processes),
            Backend::Docker => Containers::start(plan).await.map(Self::Containers),
        }
    }

    /// The first node that has ended although it should run: its name, exit status and last log lines.
    pub(super) fn died(&mut self) -> Option<String> {
        each!(self, nodes => nodes.died())
    }

    /// Why what a node says is not of this run, if it is not.
    pub(super) fn objection(&self, summary: &NodeSummary, order: Option<&StartOrder>) -> Option<String> {
        match self {
            // Only who started the nodes knows when one was started again.
            Self::Processes(_) | Self::Containers(_) => None,
            Self::Remote(nodes) => nodes.objection(summary, order),
        }
    }

    /// The process id of a node that runs on this host.
    pub(super) fn process(&self, id: u64) -> Option<u32> {
        match self {
            Self::Processes(nodes) => nodes.process(id),
            Self::Containers(_) | Self::Remote(_) => None,
        }
    }

    /// The last lines of a node's log.
    pub(super) fn log_tail(&self, id: u64) -> String {
        each!(self, nodes => nodes.log_tail(id))
    }

    /// Ends all nodes. Says of each that did not end in order how it ended.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        each!(self, nodes => nodes.stop().await)
    }

    /// Kills a node, as `kill -9` does; it is gone when this returns, and no reason to fail the run.
    pub(super) async fn kill(&mut self, id: u64) -> Result<(), String> {
        each!(self, nodes => nodes.kill(id).await)
    }

    /// Starts a node that was killed again.
    pub(super) async fn restart(&mut self, id: u64) -> Result<(), String> {
        match self {
            Self::Processes(nodes) => nodes.restart(id),
            Self::Containers(nodes) => nodes.restart(id).await,
            Self::Remote(nodes) => nodes.restart(id).await,
        }
    }

    /// Stops all of a node's threads where they are; checked when this returns.
    pub(super) async fn pause(&mut self, id: u64) -> Result<(), String> {
        each!(self, nodes => nodes.pause(id).await)
    }

    /// Lets a paused node go on.
    pub(super) async fn resume(&mut self, id: u64) -> Result<(), String> {
        each!(self, nodes => nodes.resume(id).await)
    }

    /// Counters of the qdiscs at a node's interface.
    pub(super) async fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        match self {
            Self::Processes(nodes) => nodes.counters(id),
            Self::Containers(nodes) => nodes.counters(id).await,
            // The interfaces belong to other machines.
            Self::Remote(_) => Ok(vec![]),
        }
    }

    /// Changes what is done at a node's interface, while traffic flows.
    pub(super) async fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        match self {
            Self::Processes(nodes) => nodes.change(id, before, after),
            Self::Containers(nodes) => nodes.change(id, before, after).await,
            Self::Remote(nodes) => nodes.change().await,
        }
    }
}
