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
    /// Words of a server that forbids the ports.
    refused: watch::Receiver<Option<String>>,
}

impl NodePorts {
    pub(crate) async fn open(cluster: &Cluster, record: &RunRecord, report: Report) -> Result<Self, KubernetesError> {
        let mut forwards = vec![];
        let (sender, refused) = watch::channel(None);
        for id in 0..record.workload.num_nodes {
            let target = ForwardTarget {
                name: format!("node-{id}"),
                namespace: record.namespace.clone(),
                // A selector of a single pod, because otherwise each port would list the pods of all other nodes.
                selector: format!("{},{INDEX_LABEL}={id}", selector_text(&record.name, Component::Node)),
                index: Some(id),
                port: record.metric_port,
            };
            forwards.push(forward(cluster, target, 0, report.clone(), Some(sender.clone())).await?);
        }
        Ok(Self { forwards, refused })
    }

    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, KubernetesError> {
        let parsed = self.forwards.iter().map(|forward| forward.local.to_string().parse());
        parsed.collect::<Result<_, String>>().map_err(KubernetesError::Failed)
    }

    /// A line in which nodes have their pods and machines in place of the ports of this machine, which mean nothing to
    /// the user.
    pub(crate) async fn named(&self, cluster: &Cluster, record: &RunRecord, line: &str) -> String {
        let selector = selector_text(&record.name, Component::Node);
        let pods = list_pods(cluster, &record.namespace, &selector).await.unwrap_or_default();
        let mut named = line.to_owned();
        for (id, forward) in (0_u64..).zip(&self.forwards) {
            let pod = pods.iter().find(|pod| pod.index == Some(id));
            let place = pod.map_or_else(
                || format!("node {id}"),
                |pod| {
                    let machine = pod.machine.as_deref().unwrap_or("no machine");
                    let reason = pod.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                    format!("node {id} (pod {} on {machine}{reason})", pod.pod)
                },
            );
            let address = forward.local.to_string();
            // The place stands once in the line.
            named = named.replace(&format!("http://{address}"), &address);
            named = named.replacen(&address, &place, 1).replace(&address, &format!("node {id}"));
        }
        named
    }

    /// Waits until the server forbids a port, and returns its words; for ever if it permits them.
    pub(crate) async fn forbidden(&self) -> String {
        let mut refused = self.refused.clone();
        let line = refused.wait_for(Option::is_some).await.ok().and_then(|line| line.clone());
        match line {
            Some(line) => line,
            None => std::future::pending().await,
        }
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
