//! Nodes that run elsewhere: nothing can be done to them but over HTTP.

mod endpoint;

pub(crate) use endpoint::{Endpoint, endpoints};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{capabilities::Capabilities, deployment::Deployment};
use crate::{
    node::{NodeSummary, StartOrder},
    shaping::{InterfacePlan, QdiscCounters},
};

/// What can be done to nodes that run elsewhere.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    delays: false,
    rates: false,
    link_faults: false,
    node_faults: false,
    process_ids: false,
    congestion_control: false,
    ipv6: false,
    profiles: false,
    host_program: false,
    images: false,
    visible_queues: false,
    distant: true,
};

const REFUSED: &str = "nodes that run elsewhere can't be killed, paused or cut off from here: use a backend of 'local'";

/// Nodes that somebody else runs. Dropping it leaves them running.
pub(crate) struct RemoteNodes {
    died: Option<watch::Receiver<Option<String>>>,
}

impl RemoteNodes {
    /// `died` reports which node has ended, and how, where somebody looks after that.
    pub(crate) fn new(died: Option<watch::Receiver<Option<String>>>) -> Self {
        Self { died }
    }
}

#[async_trait(?Send)]
impl Deployment for RemoteNodes {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn died(&mut self) -> Option<String> {
        self.died.as_ref()?.borrow().clone()
    }

    /// A node that its service manager has started again knows no start, or another.
    fn rejection_reason(&self, summary: &NodeSummary, order: Option<&StartOrder>) -> Option<String> {
        let order = order?;
        (summary.start.as_ref() != Some(order)).then(|| started_again(summary.node))
    }

    /// Their logs are where they run.
    fn log_tail(&self, _: u64) -> String {
        String::new()
    }

    /// They go on; whoever has collected a run may end them.
    async fn stop(&mut self) -> Vec<String> {
        vec![]
    }

    async fn kill(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    async fn restart(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    async fn pause(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    async fn resume(&mut self, _: u64) -> Result<(), String> {
        Err(REFUSED.into())
    }

    /// Their interfaces belong to other machines.
    async fn counters(&self, _: u64) -> Result<Vec<QdiscCounters>, String> {
        Ok(vec![])
    }

    async fn change(&self, _: u64, _: &InterfacePlan, _: &InterfacePlan) -> Result<(), String> {
        Err(REFUSED.into())
    }
}

/// The reason against a run one of whose nodes does not know it.
pub(crate) fn started_again(id: u64) -> String {
    format!("node {id} was started afresh during the run: what it had counted is lost")
}
