//! Remote nodes: the runner can act on them only over HTTP.

mod endpoint;

pub(crate) use endpoint::{Endpoint, endpoints};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{capabilities::Capabilities, deployment::Deployment};
use crate::{
    node::{NodeSummary, StartOrder},
    shaping::{InterfacePlan, QdiscCounters},
};

/// Capabilities of remote nodes.
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
    virtual_time: false,
};

const REFUSED: &str = "remote nodes can't be killed, paused or cut off: use a backend of 'local'";

/// Nodes that another program runs. Dropping it leaves them running.
pub(crate) struct RemoteNodes {
    died: Option<watch::Receiver<Option<String>>>,
}

impl RemoteNodes {
    /// `died` reports a node that has ended, and its reason, if a watcher exists.
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

    /// A node that its service manager has restarted knows no start, or another one.
    fn rejection_reason(&self, summary: &NodeSummary, order: Option<&StartOrder>) -> Option<String> {
        let order = order?;
        (summary.start.as_ref() != Some(order)).then(|| started_again(summary.node))
    }

    /// The logs are on the nodes' hosts.
    fn log_tail(&self, _: u64) -> String {
        String::new()
    }

    /// Remote nodes keep running; the program that has collected a run may end them.
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

    /// The interfaces belong to other machines.
    async fn counters(&self, _: u64) -> Result<Vec<QdiscCounters>, String> {
        Ok(vec![])
    }

    async fn change(&self, _: u64, _: &InterfacePlan, _: &InterfacePlan) -> Result<(), String> {
        Err(REFUSED.into())
    }
}

/// Reason against a run with a node that does not know the run.
pub(crate) fn started_again(id: u64) -> String {
    format!("node {id} was restarted during the run: its earlier counts are lost")
}
