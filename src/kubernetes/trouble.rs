//! Troubles of a pod, in the words of scheduler, kubelet and kernel.

use std::fmt::{self, Display, Formatter};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use super::text::one_line;

/// Reason if the cluster gives none.
const FAILED: &str = "Failed";

/// A condition of a pod.
pub(super) fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Severity of a trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Weight {
    /// It may pass by itself.
    Waits,
    /// It may pass, but seldom does: it ends the wait if it lasts.
    Lasting,
    /// It does not pass.
    Fatal,
}

/// Trouble of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    /// Kubernetes' own word: `Unschedulable`, `ImagePullBackOff`, `OOMKilled`.
    pub(super) reason: String,
    /// Message of the cluster, in one line; may be empty.
    pub(super) message: String,
    pub(super) weight: Weight,
    /// Container whose last lines may explain more.
    pub(super) container: Option<String>,
}

impl Trouble {
    fn new(weight: Weight, reason: &str, message: &str) -> Self {
        Self { reason: one_line(reason), message: one_line(message), weight, container: None }
    }

    /// Reason and message in one.
    pub(super) fn kind(&self) -> &str {
        match self.reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" => "image",
            reason => reason,
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.reason, self.message) }
    }
}

/// Troubles of a pod, the worst first.
pub(super) fn troubles(pod: &Pod) -> Vec<Trouble> {
    let Some(status) = &pod.status else { return vec![] };
    let mut troubles = vec![];
    let init = status.init_container_statuses.iter().flatten();
    for container in init {
        troubles.extend(of_container(container, true));
    }
    for container in status.container_statuses.iter().flatten() {
        troubles.extend(of_container(container, false));
    }
    for trouble in of_pod(pod, status) {
        // The failure of a pod is no news if its container states the reason.
        if troubles.is_empty() || trouble.reason != FAILED || !trouble.message.is_empty() {
            troubles.push(trouble);
        }
    }
    troubles.sort_by_key(|trouble| match trouble.weight {
        Weight::Fatal => 0,
        Weight::Lasting => 1,
        Weight::Waits => 2,
    });
    troubles
}

fn of_pod(pod: &Pod, status: &PodStatus) -> Vec<Trouble> {
    let mut troubles = vec![];
    let text = status.message.as_deref().unwrap_or_default();
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|scheduled| scheduled.status == "False") {
        let reason = scheduled.reason.as_deref().unwrap_or("Unschedulable");
        troubles.push(Trouble::new(Weight::Waits, reason, scheduled.message.as_deref().unwrap_or_default()));
    }
    match (status.phase.as_deref(), status.reason.as_deref()) {
        // The containers' own reasons come first.
        (Some("Failed"), reason) => troubles.push(Trouble::new(Weight::Fatal, reason.unwrap_or(FAILED), text)),
        (Some("Succeeded"), _) if pod.metadata.deletion_timestamp.is_some() => {
            troubles.push(Trouble::new(Weight::Fatal, "Deleted", "somebody has deleted it, and it has ended"));
        }
        (Some("Succeeded"), _) => {
            troubles.push(Trouble::new(Weight::Fatal, "Completed", "it has ended before the run began"));
        }
        (Some("Unknown"), reason) | (_, reason @ Some("NodeLost")) => {
            let message = if text.is_empty() { "its machine does not answer" } else { text };
            troubles.push(Trouble::new(Weight::Lasting, reason.unwrap_or("NodeLost"), message));
        }
        _ => {}
    }
    if let Some(target) = condition(status, "DisruptionTarget").filter(|target| target.status == "True") {
        let reason = target.reason.as_deref().unwrap_or("DisruptionTarget");
        troubles.push(Trouble::new(Weight::Fatal, reason, target.message.as_deref().unwrap_or_default()));
    } else if pod.metadata.deletion_timestamp.is_some() {
        troubles.push(Trouble::new(Weight::Lasting, "Terminating", "somebody deletes it"));
    }
    let ready = condition(status, "Ready").and_then(|ready| ready.reason.as_deref());
    if ready == Some("NodeStatusUnknown") {
        troubles.push(Trouble::new(Weight::Lasting, "NodeStatusUnknown", "its machine does not answer"));
    }
    troubles
}

fn of_container(container: &ContainerStatus, init: bool) -> Option<Trouble> {
    let name = &container.name;
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let with_log = |mut trouble: Trouble| {
        trouble.container = Some(name.clone());
        Some(trouble)
    };
    if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
        let what = if init { "init container" } else { "container" };
        let text = ended.message.as_deref().unwrap_or_default();
        let reason_given = if text.is_empty() { String::new() } else { format!(": {text}") };
        let message = format!("{what} {name} ended with exit code {}{reason_given}", ended.exit_code);
        let reason = match ended.reason.as_deref() {
            Some("OOMKilled") => return Some(out_of_memory(name)),
            Some("Error") | None => FAILED,
            Some(reason) => reason,
        };
        let trouble = Trouble::new(Weight::Fatal, reason, &message);
        // The message is the end of the log already.
        return if text.is_empty() { with_log(trouble) } else { Some(trouble) };
    }
    if last.is_some_and(|last| last.reason.as_deref() == Some("OOMKilled")) {
        return Some(out_of_memory(name));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let text = waiting.message.as_deref().unwrap_or_default();
    match reason {
        "ContainerCreating" | "PodInitializing" => None,
        "InvalidImageName" | "ErrImageNeverPull" => Some(Trouble::new(Weight::Fatal, reason, text)),
        "CrashLoopBackOff" => {
            let code = last.map(|last| format!(" (exit code {})", last.exit_code)).unwrap_or_default();
            let message = format!("container {name} ends again and again{code}");
            with_log(Trouble::new(Weight::Lasting, reason, &message))
        }
        _ => Some(Trouble::new(Weight::Lasting, reason, text)),
    }
}

fn out_of_memory(container: &str) -> Trouble {
    let message = format!("container {container} needed more memory than its limit: give a higher --memory-limits");
    Trouble::new(Weight::Fatal, "OOMKilled", &message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn worst(status: Value) -> (String, Weight) {
        let pod = serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap();
        let trouble = troubles(&pod).remove(0);
        (trouble.to_string(), trouble.weight)
    }

    fn container(state: Value) -> Value {
        json!([{ "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state }])
    }

    #[test]
    fn the_trouble_of_a_pod_is_reported_in_the_clusters_own_words() {
        let unschedulable = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: 3 Insufficient cpu." }
        ] });
        assert_eq!(worst(unschedulable), ("Unschedulable: 0/3 nodes: 3 Insufficient cpu.".into(), Weight::Waits));
        let pull =
            container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling \"x\"" } }));
        let pull = json!({ "phase": "Pending", "containerStatuses": pull });
        assert_eq!(worst(pull), ("ImagePullBackOff: Back-off pulling \"x\"".into(), Weight::Lasting));
    }

    #[test]
    fn the_end_of_a_container_explains_more_than_the_failure_of_its_pod() {
        let ended = |reason: &str| {
            let state = json!({ "terminated": { "exitCode": 137, "reason": reason } });
            json!({ "phase": "Failed", "containerStatuses": container(state) })
        };
        let (text, weight) = worst(ended("OOMKilled"));
        assert!(text.starts_with("OOMKilled: container node needed more memory"), "{text}");
        let pod = json!({ "metadata": {}, "status": ended("OOMKilled") });
        assert_eq!(troubles(&serde_json::from_value(pod).unwrap()).len(), 1);
        assert_eq!(weight, Weight::Fatal);
        assert_eq!(worst(ended("Error")).0, "Failed: container node ended with exit code 137");
        let evicted =
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." });
        assert_eq!(worst(evicted), ("Evicted: The node was low on resource: memory.".into(), Weight::Fatal));
    }

    #[test]
    fn a_failed_init_container_is_named_with_its_exit_code() {
        let state = container(json!({ "terminated": { "exitCode": 2, "reason": "Error" } }));
        let failed = json!({ "phase": "Pending", "initContainerStatuses": state });
        assert_eq!(worst(failed).0, "Failed: init container node ended with exit code 2");
    }

    #[test]
    fn a_pod_that_only_starts_is_in_no_trouble() {
        let state = container(json!({ "waiting": { "reason": "ContainerCreating" } }));
        let pod = json!({ "metadata": {}, "status": { "phase": "Pending", "containerStatuses": state } });
        assert_eq!(troubles(&serde_json::from_value(pod).unwrap()), []);
    }
}
