//! A network of running nodes.

use async_trait::async_trait;

use super::capabilities::Capabilities;
use crate::{
    node::{NodeSummary, StartOrder},
    shaping::{InterfacePlan, QdiscCounters},
};

/// Why the nodes did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// What was asked for can't be done here; nothing was started.
    Usage(String),
    /// It failed on the way; what had been started is gone again.
    Failed(String),
}

/// The running nodes. Dropping it ends those that this program has started.
#[async_trait(?Send)]
pub(crate) trait Deployment {
    /// What can be done to these nodes.
    fn capabilities(&self) -> Capabilities;

    /// The first node that has ended although it should run: its name, how it ended, and its last log lines.
    fn died(&mut self) -> Option<String>;

    /// Why a summary is not one of this run, if it is not. Only nodes that somebody else may start again can have such.
    fn rejection_reason(&self, _summary: &NodeSummary, _order: Option<&StartOrder>) -> Option<String> {
        None
    }

    /// The process id of a node that runs on this host.
    fn process(&self, _id: u64) -> Option<u32> {
        None
    }

    /// The last lines of a node's log, as the end of a line that reports a failure; empty where its log is not to be had.
    fn log_tail(&self, id: u64) -> String;

    /// Ends all nodes. Gives a line for each that did not end in order: how it ended.
    async fn stop(&mut self) -> Vec<String>;

    /// Kills a node, as `kill -9` does; it is gone when this returns, and no reason to fail the run.
    async fn kill(&mut self, id: u64) -> Result<(), String>;

    /// Starts a node that was killed again, with the same arguments in the same place.
    async fn restart(&mut self, id: u64) -> Result<(), String>;

    /// Stops all threads of a node where they are; checked when this returns.
    async fn pause(&mut self, id: u64) -> Result<(), String>;

    /// Lets a paused node go on.
    async fn resume(&mut self, id: u64) -> Result<(), String>;

    /// Counters of the qdiscs at a node's interface; none where the interfaces are not to be seen.
    async fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String>;

    /// Changes what is done at a node's interface, while traffic flows.
    async fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String>;
}
