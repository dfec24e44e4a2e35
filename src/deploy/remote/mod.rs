//! Nodes that run elsewhere, as the experiment sees them: nothing can be done to them but over HTTP.

use tokio::sync::watch;

use crate::node::{NodeSummary, StartOrder};

const REFUSED: &str = "nodes that run elsewhere can't be killed, paused or cut off from here: use a backend of 'local'";

/// Nodes that somebody else runs.
pub(in crate::lab) struct RemoteNodes {
    died: Option<watch::Receiver<Option<String>>>,
}

impl RemoteNodes {
    /// `died` says when one has ended, and how, where somebody looks after that.
    pub(super) fn new(died: Option<watch::Receiver<Option<String>>>) -> Self {
        Self { died }
    }

    pub(in crate::lab) fn died(&self) -> Option<String> {
        self.died.as_ref()?.borrow().clone()
    }

    /// A node that its service manager has started afresh knows no start, or another.
    pub(in crate::lab) fn objection(&self, summary: &NodeSummary, order: Option<&StartOrder>) -> Option<String> {
        let order = order?;
        (summary.start.as_ref() != Some(order)).then(|| started_afresh(summary.node))
    }

    /// Their logs are where they run.
    pub(in crate::lab) fn log_tail(&self, _: u64) -> String {
        String::new()
    }

    /// They go on; whoever has collected a run may end them.
    pub(in crate::lab) async fn stop(&mut self) -> Vec<String> {
        vec![]
    }

    pub(in crate::lab) async fn kill(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    pub(in crate::lab) async fn restart(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    pub(in crate::lab) async fn pause(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    pub(in crate::lab) async fn resume(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    pub(in crate::lab) async fn change(&self) -> Result<(), String> {
        Err(REFUSED.into())
    }
}

/// The reason against a run one of whose nodes does not know it.
pub(super) fn started_afresh(id: u64) -> String {
    format!("node {id} was started afresh during the run: what it had counted is lost")
}
