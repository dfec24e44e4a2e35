//! Logs of many pods as one stream of lines.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    Tell,
    connect::Cluster,
    error::KubernetesError,
    logs::{ContainerLog, LogLine},
    pods::{PodState, list},
    watch::{Change, PodWatch},
};

/// Maximum number of logs that are followed at once: each is a connection to the server.
const MOST_LOGS: usize = 1000;

/// Parameters of following logs until the pods end.
#[derive(Clone, Debug)]
pub struct Follow<'a> {
    /// Namespace of the pods.
    pub namespace: &'a str,
    /// Selector of the pods, by label.
    pub selector: &'a str,
    /// Component whose end ends everything: following stops when all its pods have ended.
    pub until: &'a str,
}

/// Parameters of reading the present logs.
#[derive(Clone, Debug)]
pub struct Read<'a> {
    /// Namespace of the pods.
    pub namespace: &'a str,
    /// Selector of the pods, by label.
    pub selector: &'a str,
    /// Number of logs that are read at once; with 1, the logs come in order.
    pub at_once: usize,
}

/// Logs of a pod's containers.
fn logs(
    cluster: &Cluster,
    namespace: &str,
    pod: &Pod,
    follow: bool,
    lines: &mpsc::Sender<LogLine>,
) -> Vec<ContainerLog> {
    let state = PodState::of(pod);
    let Some(spec) = &pod.spec else { return vec![] };
    let first = spec.containers.first().map(|container| container.name.clone());
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
        .map(|container| ContainerLog {
            cluster: cluster.clone(),
            api: cluster.api(namespace),
            pod: state.pod.clone(),
            label: if first.as_ref() == Some(&container.name) {
                state.label.clone()
            } else {
                format!("{} {}", state.label, container.name)
            },
            container: container.name.clone(),
            follow,
            lines: lines.clone(),
        })
        .collect()
}

/// Sends every line of every pod from the first one on, including pods that appear later, until the last pod of the
/// named component ends.
///
/// # Errors
/// Fails if the server refuses.
pub async fn follow(
    cluster: &Cluster,
    what: &Follow<'_>,
    lines: mpsc::Sender<LogLine>,
    tell: Tell<'_>,
) -> Result<(), KubernetesError> {
    let mut watch = PodWatch::new(cluster, what.namespace, what.selector);
    let mut known = BTreeSet::new();
    let mut tasks: JoinSet<(String, bool, Result<(), String>)> = JoinSet::new();
    // Logs of the component that decides the end.
    let (mut open, mut any) = (0_usize, false);
    let mut broken = false;
    loop {
        tokio::select! {
            change = watch.changed() => match change? {
                Change::Broken(why) => {
                    if !std::mem::replace(&mut broken, true) {
                        tell(&format!("{why}; trying again"));
                    }
                }
                Change::Pods => {
                    broken = false;
                    for pod in watch.pods() {
                        let Some(uid) = pod.uid() else { continue };
                        if known.contains(&uid) {
                            continue;
                        }
                        if known.len() >= MOST_LOGS {
                            tell(&format!("more than {MOST_LOGS} pods: the logs of the others are left out"));
                            break;
                        }
                        known.insert(uid);
                        let decides = PodState::of(pod).component == what.until;
                        for log in logs(cluster, what.namespace, pod, true, &lines) {
                            any |= decides;
                            open += usize::from(decides);
                            tasks.spawn(async move { (log.label.clone(), decides, log.run().await) });
                        }
                    }
                }
            },
            Some(ended) = tasks.join_next() => {
                if let Ok((label, decides, result)) = ended {
                    open -= usize::from(decides);
                    if let Err(why) = result {
                        tell(&format!("{label}: the rest of its log is missing: {why}"));
                    }
                }
            },
        }
        let alive = watch.pods().any(|pod| {
            let state = PodState::of(pod);
            state.component == what.until && !state.ended
        });
        if any && open == 0 && !alive {
            break;
        }
    }
    Ok(())
}

/// Sends every existing line, and returns the missing logs: the label and the reason.
///
/// # Errors
/// Fails if the server refuses to list the pods.
pub async fn read(
    cluster: &Cluster,
    what: &Read<'_>,
    lines: mpsc::Sender<LogLine>,
) -> Result<Vec<(String, String)>, KubernetesError> {
    let mut pods = list(cluster, what.namespace, what.selector).await?;
    pods.sort_by_key(|pod| {
        let state = PodState::of(pod);
        (state.component, state.index, state.pod)
    });
    let places = Arc::new(Semaphore::new(what.at_once.max(1)));
    let mut tasks = JoinSet::new();
    for log in pods.iter().flat_map(|pod| logs(cluster, what.namespace, pod, false, &lines)) {
        // Taken here, so that the logs begin in order.
        let place = places.clone().acquire_owned().await;
        tasks.spawn(async move {
            let _place = place;
            (log.label.clone(), log.run().await)
        });
    }
    let mut missing = vec![];
    while let Some(ended) = tasks.join_next().await {
        if let Ok((label, Err(why))) = ended {
            missing.push((label, why));
        }
    }
    Ok(missing)
}
