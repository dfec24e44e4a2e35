//! Connections from this machine to the pods of a run.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    names::{Component, INDEX_LABEL, selector_text},
    record::RunRecord,
};
use crate::{
    clock::sleep,
    deploy::remote::Endpoint,
    kubernetes::{Cluster, Forward, ForwardTarget, KubernetesError, PodState, Report, forward, list_pods},
    terminal::tell,
};

/// Interval of checking that the nodes are alive.
const LOOK: Duration = Duration::from_secs(2);

/// A forwarded port for every node, in the order of their ids; they close when they are dropped.
pub(crate) struct NodePorts {
    forwards: Vec<Forward>,
}

impl NodePorts {
    pub(crate) async fn open(cluster: &Cluster, record: &RunRecord, report: Report) -> Result<Self, KubernetesError> {
        let mut forwards = vec![];
        for id in 0..record.workload.num_nodes {
            let target = ForwardTarget {
                name: format!("node-{id}"),
                namespace: record.namespace.clone(),
                // A selector of a single pod, because otherwise each port would list the pods of all other nodes.
                selector: format!("{},{INDEX_LABEL}={id}", selector_text(&record.name, Component::Node)),
                index: Some(id),
                port: record.metric_port,
            };
            forwards.push(forward(cluster, target, 0, report.clone()).await?);
        }
        Ok(Self { forwards })
    }

    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, KubernetesError> {
        let parsed = self.forwards.iter().map(|forward| forward.local.to_string().parse());
        parsed.collect::<Result<_, String>>().map_err(KubernetesError::Failed)
    }
}

/// Watches the pods of the nodes, and reports a dead one and its reason.
pub(crate) struct Lookout {
    pub(crate) died: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lookout {
    pub(crate) fn new(cluster: &Cluster, record: &RunRecord) -> Self {
        let (sender, died) = watch::channel(None);
        let (cluster, namespace) = (cluster.clone(), record.namespace.clone());
        let (selector, count) = (selector_text(&record.name, Component::Node), record.workload.num_nodes);
        let task = tokio::spawn(async move {
            loop {
                // A server that does not answer for a while does not mean a dead node.
                if let Ok(pods) = list_pods(&cluster, &namespace, &selector).await {
                    let dead = pods.iter().find(|pod| pod.ended);
                    let gone = (0..count).find(|id| !pods.iter().any(|pod| pod.index == Some(*id)));
                    let line = match (dead, gone) {
                        (Some(pod), _) => Some(death(pod)),
                        (None, Some(id)) => Some(format!("the pod of node {id} is gone")),
                        (None, None) => None,
                    };
                    if line.is_some() {
                        sender.send_replace(line);
                        return;
                    }
                }
                sleep(LOOK).await;
            }
        });
        Self { died, task }
    }
}

/// Reason of a pod's end.
pub(crate) fn death(pod: &PodState) -> String {
    let machine = pod.machine.as_deref().map(|machine| format!(" on {machine}")).unwrap_or_default();
    let reason = pod.reason.as_deref().unwrap_or(&pod.phase);
    let node = pod.index.map_or_else(|| pod.label.clone(), |id| format!("node {id}"));
    format!("{node} has ended{machine}: {reason}")
}

/// Writes a line on stderr for a port that breaks or works again.
pub(crate) fn on_stderr() -> Report {
    Arc::new(tell)
}
