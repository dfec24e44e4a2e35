//! A network of running nodes.

use async_trait::async_trait;

use super::capabilities::Capabilities;
use crate::{
    node::{NodeSummary, StartOrder},
    shaping::{InterfacePlan, QdiscCounters},
};

/// Reason why the nodes did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The deployment can't do what the run needs; nothing was started.
    Usage(String),
    /// The start failed; everything that had been started was removed.
    Failed(String),
}

/// Running nodes. Dropping it ends those that this program has started.
#[async_trait(?Send)]
pub(crate) trait Deployment {
    /// Capabilities of these nodes.
    fn capabilities(&self) -> Capabilities;

    /// First node that has ended although it should run: its name, its end, and its last log lines.
    fn died(&mut self) -> Option<String>;

    /// Reason why a summary does not belong to this run, if it does not. Only nodes that another program may restart
    /// can send such summaries.
    fn rejection_reason(&self, _summary: &NodeSummary, _order: Option<&StartOrder>) -> Option<String> {
        None
    }

    /// Process id of a node that runs on this host.
    fn process(&self, _id: u64) -> Option<u32> {
        None
    }

    /// Last lines of a node's log, as the end of a line that reports a failure; empty if the log can't be read.
    fn log_tail(&self, id: u64) -> String;

    /// Ends all nodes. Returns a line about the end of each node that did not end in order.
    async fn stop(&mut self) -> Vec<String>;

    /// Kills a node, as `kill -9` does. The node has ended when this returns, which is no reason to fail the run.
    async fn kill(&mut self, id: u64) -> Result<(), String>;

    /// Restarts a killed node, with the same arguments in the same place.
    async fn restart(&mut self, id: u64) -> Result<(), String>;

    /// Stops all threads of a node; this is checked before it returns.
    async fn pause(&mut self, id: u64) -> Result<(), String>;

    /// Resumes a paused node.
    async fn resume(&mut self, id: u64) -> Result<(), String>;

    /// Counters of the qdiscs at a node's interface; none if the interfaces can't be read.
    async fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String>;

    /// Changes the shaping of a node's interface, while traffic flows.
    async fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String>;
}
