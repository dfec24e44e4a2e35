//! Nodes of a simulation: the same node as elsewhere, without a process, an endpoint and a machine of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::Registry;
use tokio::runtime;

use super::{
    arrivals::ArrivalReport,
    config::NodeConfig,
    driver::TrafficDriver,
    error::Failure,
    shared::{Node, Parts},
    shared_workload::SharedWorkload,
    state::{NodeState, StartOrder},
    summary::NodeSummary,
    workload::Load,
};
use crate::{
    clock::{sleep, unix_nanos},
    metrics::Metrics,
    network::{ReadinessReport, Roster},
    simulation::{Life, on_host},
};

/// Reason why a node can't be reached.
const NOWHERE: &str = "the simulation has ended";

/// A node in virtual time.
#[derive(Clone)]
pub struct VirtualNode {
    /// Number of its host.
    host: u32,
    node: Arc<Node>,
    life: Arc<Life>,
    /// Reason why it has ended, if it has.
    failed: Arc<Mutex<Option<String>>>,
}

impl VirtualNode {
    /// Starts a node of the host of this number, at `config.p2p_address`, whose network begins `after` that. The thread must
    /// be that of the host.
    ///
    /// # Errors
    /// One line, for a node that is impossible.
    pub fn start(
        host: u32,
        config: NodeConfig,
        workload: Arc<SharedWorkload>,
        roster: Arc<Roster>,
        after: Duration,
    ) -> Result<Self, String> {
        config.validate().map_err(|error| error.to_string())?;
        let registry = Registry::new();
        let metrics = Metrics::register_classes(&registry, &workload.class_names());
        let parts = Parts {
            registry,
            metrics: metrics.map_err(|error| error.to_string())?,
            workload,
            roster,
            p2p: runtime::Handle::try_current().map_err(|error| error.to_string())?,
            worker_threads: 1,
            profiler: None,
            token: None,
            open_files: 0,
            machine: None,
        };
        parts.metrics.explore_trial.set(-1);
        let node = Arc::new(Node::new(config, parts));
        let life = Arc::new(Life::default());
        let failed: Arc<Mutex<Option<String>>> = Arc::default();
        let (running, outcome) = (node.clone(), failed.clone());
        life.spawn(async move {
            sleep(after).await;
            let ended = run(&running).await;
            if let Err(Failure::Usage(line) | Failure::Other(line)) = ended {
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
            }
        });
        Ok(Self { host, node, life, failed })
    }

    /// Progress towards readiness.
    pub fn readiness(&self) -> ReadinessReport {
        ReadinessReport { readiness: self.node.readiness(), unreached: self.node.unreached() }
    }

    /// Everything counted so far.
    ///
    /// # Errors
    /// One line on a thread without a simulation.
    pub fn summary(&self) -> Result<NodeSummary, String> {
        let node = self.node.clone();
        on_host(self.host, move || node.summary()).ok_or_else(|| NOWHERE.into())
    }

    /// Arrivals that were recorded one by one.
    pub fn arrivals(&self) -> ArrivalReport {
        self.node.recorder.arrivals()
    }

    /// Gives the node its start.
    ///
    /// # Errors
    /// One line, if the start is absurd, or the node has one.
    pub fn order(&self, order: &StartOrder) -> Result<(), String> {
        let (node, order) = (self.node.clone(), order.clone());
        let ordered = on_host(self.host, move || {
            order.check(unix_nanos(), matches!(node.workload.load, Load::Explore { .. }))?;
            if (node.phase() != NodeState::Connecting && !order.rejoining) || !node.order(order) {
                return Err("the node has its start already".into());
            }
            Ok(())
        });
        ordered.unwrap_or_else(|| Err(NOWHERE.into()))
    }

    /// Reason why the node has ended by itself; none while it runs.
    fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn run(node: &Arc<Node>) -> Result<(), Failure> {
    let mut driver = TrafficDriver::new(node.clone());
    let outgoing = driver.build_network(node.workload.first_message_size()).await?;
    driver.run(outgoing).await
}

/// All nodes of a simulation, by id.
#[derive(Clone, Default)]
pub struct VirtualNodes(Arc<Mutex<BTreeMap<u64, VirtualNode>>>);

impl std::fmt::Debug for VirtualNodes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("VirtualNodes").field(&self.lock().keys()).finish()
    }
}

impl VirtualNodes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, VirtualNode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node, in place of an ended one of its id.
    pub fn insert(&self, id: u64, node: VirtualNode) {
        drop(self.lock().insert(id, node));
    }

    /// A node that runs.
    ///
    /// # Errors
    /// One line, if none of this id runs.
    pub fn get(&self, id: u64) -> Result<VirtualNode, String> {
        self.lock().get(&id).cloned().ok_or_else(|| format!("node {id} does not run"))
    }

    /// Acts on the tasks of a node, in the order of all other acts on its host.
    fn at_host(&self, id: u64, act: impl FnOnce(&Life) + Send + 'static) -> Result<(), String> {
        let VirtualNode { host, life, .. } = self.get(id)?;
        on_host(host, move || act(&life)).ok_or_else(|| NOWHERE.into())
    }

    /// Stops all tasks of a node.
    ///
    /// # Errors
    /// One line, if none of this id runs.
    pub fn pause(&self, id: u64) -> Result<(), String> {
        self.at_host(id, Life::pause)
    }

    /// Lets all tasks of a node run again.
    ///
    /// # Errors
    /// One line, if none of this id runs.
    pub fn resume(&self, id: u64) -> Result<(), String> {
        self.at_host(id, Life::resume)
    }

    /// Ends a node, wherever its tasks are.
    ///
    /// # Errors
    /// One line, if none of this id runs.
    pub fn kill(&self, id: u64) -> Result<(), String> {
        self.at_host(id, Life::kill)?;
        drop(self.lock().remove(&id));
        Ok(())
    }

    /// Ends all nodes.
    pub fn end(&self) {
        let nodes = std::mem::take(&mut *self.lock());
        for VirtualNode { host, life, .. } in nodes.into_values() {
            on_host(host, move || life.kill());
        }
    }

    /// First node that has ended by itself, with the reason.
    pub fn died(&self) -> Option<String> {
        self.lock().iter().find_map(|(id, node)| Some(format!("node {id} has ended: {}", node.failure()?)))
    }
}
