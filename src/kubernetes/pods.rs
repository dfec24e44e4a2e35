//! State of a pod, in the few words of a table.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::{ResourceExt, api::ListParams};
use serde::Serialize;

use super::{
    COMPLETION_INDEX, COMPONENT,
    connect::Cluster,
    error::KubernetesError,
    text::one_line,
    trouble::{condition, troubles},
};

/// Pods in one answer of a list.
const PAGE: u32 = 500;

/// Maximum number of pods that are listed.
const MOST_PODS: usize = 20_000;

/// State of a pod at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodState {
    /// Name in the cluster.
    pub pod: String,
    /// Label in messages: the component and its index, such as `node-3`; otherwise the name of the pod.
    pub label: String,
    /// Component, by label.
    pub component: String,
    /// Index in an Indexed Job.
    pub index: Option<u64>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// True if the pod's probes report that it is ready.
    pub ready: bool,
    /// Number of restarts of its containers.
    pub restarts: i32,
    /// Machine of the pod.
    pub machine: Option<String>,
    /// Digest of the image of its first container.
    pub image_id: Option<String>,
    /// True if each of its containers runs or has ended after running.
    pub started: bool,
    /// True if the pod has ended for good.
    pub ended: bool,
    /// Trouble of the pod, or the condition that it waits for.
    pub reason: Option<String>,
}

impl PodState {
    /// Reads the state from the server's object.
    pub(super) fn of(pod: &Pod) -> Self {
        let nothing = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&nothing);
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let phase = status.phase.clone().unwrap_or_else(|| "Pending".into());
        let component = pod.labels().get(COMPONENT).cloned().unwrap_or_default();
        let index = pod.annotations().get(COMPLETION_INDEX).and_then(|index| index.parse().ok());
        let expected = pod.spec.as_ref().map_or(1, |spec| spec.containers.len());
        let runs = |container: &ContainerStatus| {
            container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        };
        let ended = matches!(phase.as_str(), "Succeeded" | "Failed");
        let first = containers.first();
        Self {
            pod: pod.name_any(),
            label: match (&component, index) {
                (component, Some(index)) if !component.is_empty() => format!("{component}-{index}"),
                _ => pod.name_any(),
            },
            index,
            ready: condition(status, "Ready").is_some_and(|ready| ready.status == "True"),
            restarts: containers.iter().map(|container| container.restart_count).sum(),
            machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            image_id: first.map(|container| container.image_id.clone()).filter(|id| !id.is_empty()),
            started: !containers.is_empty() && containers.len() >= expected && containers.iter().all(runs),
            ended,
            reason: troubles(pod).into_iter().next().map(|trouble| trouble.to_string()).or_else(|| waits_for(pod)),
            component,
            phase,
        }
    }
}

/// Condition that a pod without trouble waits for.
fn waits_for(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut waiting = containers.filter_map(|container| Some((container, container.state.as_ref()?.waiting.as_ref()?)));
    if let Some((container, waiting)) = waiting.next() {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        return Some(one_line(&format!("{}: {reason}", container.name)));
    }
    if status.phase.as_deref() == Some("Pending") && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
        return Some("no machine yet".into());
    }
    let ready = condition(status, "Ready").is_none_or(|ready| ready.status == "True");
    (!ready && status.phase.as_deref() == Some("Running")).then(|| "not ready yet".into())
}

/// Pods of a namespace with these labels, by component and index.
///
/// # Errors
/// Fails if the server refuses or does not answer.
pub async fn list_pods(cluster: &Cluster, namespace: &str, selector: &str) -> Result<Vec<PodState>, KubernetesError> {
    let mut states: Vec<PodState> = list(cluster, namespace, selector).await?.iter().map(PodState::of).collect();
    states
        .sort_by(|one, other| (&one.component, one.index, &one.pod).cmp(&(&other.component, other.index, &other.pod)));
    Ok(states)
}

/// Pods of a namespace with these labels, as the server's objects.
pub(super) async fn list(cluster: &Cluster, namespace: &str, selector: &str) -> Result<Vec<Pod>, KubernetesError> {
    let api = cluster.api::<Pod>(namespace);
    let mut params = ListParams::default().labels(selector).limit(PAGE);
    let mut pods = vec![];
    loop {
        let page = cluster.ask("listing the pods", api.list(&params)).await?;
        pods.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if pods.len() < MOST_PODS => params.continue_token = Some(token),
            _ => return Ok(pods),
        }
    }
}
