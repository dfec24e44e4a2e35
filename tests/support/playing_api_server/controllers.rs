//! Simulated controllers, scheduler and kubelets of a cluster: they create pods of jobs, run them, and remove them.

use std::sync::{Arc, atomic::Ordering};

use serde_json::{Value, json};

use super::{Cluster, fate::Fate, kubelet::State, store::now};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const COMPONENT: &str = "app.kubernetes.io/component";

/// Runs until the server ends.
pub fn run(cluster: &Arc<Cluster>) {
    for job in cluster.store.list(None, "jobs") {
        if job["metadata"]["deletionTimestamp"].is_null() {
            make_pods(cluster, &job);
        }
    }
    for set in cluster.store.list(None, "statefulsets") {
        if set["metadata"]["deletionTimestamp"].is_null() {
            let name = text(&set["metadata"]["name"]);
            make_pod(cluster, &set, &format!("{name}-0"), &name, None);
        }
    }
    for pod in cluster.store.list(None, "pods") {
        live(cluster, &pod);
    }
    for plural in INSIDE.into_iter().chain(["namespaces"]) {
        for object in cluster.store.list(None, plural) {
            if !object["metadata"]["deletionTimestamp"].is_null() {
                go(cluster, plural, &object);
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Kinds of objects in a namespace.
const INSIDE: [&str; 8] =
    ["jobs", "statefulsets", "pods", "services", "configmaps", "secrets", "persistentvolumeclaims", "events"];

fn make_pods(cluster: &Cluster, job: &Value) {
    if job["spec"]["suspend"] == true {
        return;
    }
    let count = job["spec"]["completions"].as_u64().unwrap();
    let name = text(&job["metadata"]["name"]);
    for index in 0..count {
        let label = format!("{name}-{index}");
        make_pod(cluster, job, &format!("{label}-x{index}yz"), &label, Some(index));
    }
}

fn make_pod(cluster: &Cluster, owner: &Value, pod: &str, label: &str, index: Option<u64>) {
    let namespace = text(&owner["metadata"]["namespace"]);
    if cluster.store.get(&namespace, "pods", pod).is_some() || cluster.kubelet.was_there(&namespace, pod, index) {
        return;
    }
    if matches!(cluster.faults.of(label), Some(Fate::Forbidden)) {
        let name = text(&owner["metadata"]["name"]);
        if cluster.store.get(&namespace, "events", &name).is_none() {
            let message = format!(
                "Error creating: pods \"{name}-0-\" is forbidden: exceeded quota: team, requested: limits.memory=10Gi, used: \
                 limits.memory=0, limited: limits.memory=1Gi"
            );
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {}, "type": "Warning", "reason": "FailedCreate",
                "message": message, "lastTimestamp": now(),
                "involvedObject": { "kind": owner["kind"], "name": name, "namespace": namespace },
            });
            cluster.store.put(&namespace, "events", &name, event);
        }
        return;
    }
    let template = &owner["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    if let Some(index) = index {
        for kind in ["annotations", "labels"] {
            metadata[kind][INDEX] = json!(index.to_string());
        }
    }
    metadata["ownerReferences"] =
        json!([{ "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"] }]);
    metadata["annotations"]["label"] = json!(label);
    let mut spec = template["spec"].clone();
    spec["nodeName"] = json!("machine-1");
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": { "phase": "Pending" },
    });
    cluster.store.put(&namespace, "pods", pod, object);
    for claim in owner["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let name = format!("{}-{pod}", text(&claim["metadata"]["name"]));
        let mut claim = claim.clone();
        // As in the real controller: the claim's own labels, and those of the selector.
        for (label, value) in owner["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            claim["metadata"]["labels"][label] = value.clone();
        }
        cluster.store.put(&namespace, "persistentvolumeclaims", &name, claim);
    }
}

/// Makes the next step in a pod's life.
fn live(cluster: &Cluster, pod: &Value) {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let label = text(&pod["metadata"]["annotations"]["label"]);
    let fate = cluster.faults.of(&label);
    let before = &pod["status"];
    let status = match &fate {
        Some(Fate::Says(lines)) => {
            cluster.kubelet.say(&namespace, &name, lines);
            ended(pod, 0, "Completed", "Succeeded")
        }
        Some(fate) => fated(cluster, pod, fate),
        None if before["phase"] == "Pending" => {
            cluster.kubelet.start(&cluster.store, pod);
            running(pod, false)
        }
        None if before["phase"] == "Running" => match cluster.kubelet.state(&namespace, &name) {
            State::Runs { ready } => running(pod, ready),
            State::Ended(code) => {
                let (reason, phase) = if code == 0 { ("Completed", "Succeeded") } else { ("Error", "Failed") };
                ended(pod, code, reason, phase)
            }
        },
        None => return,
    };
    if status != *before {
        cluster.store.change(&namespace, "pods", &name, |pod| pod["status"] = status);
    }
}

fn container(pod: &Value, state: &Value, ready: bool) -> Value {
    let spec = &pod["spec"]["containers"][0];
    json!([{
        "name": spec["name"], "image": spec["image"], "imageID": format!("{}@sha256:0123", text(&spec["image"])),
        "ready": ready, "restartCount": 0, "state": state,
    }])
}

fn running(pod: &Value, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({
        "phase": "Running",
        "conditions": [{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": status }],
        "containerStatuses": container(pod, &json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }), ready),
    })
}

fn ended(pod: &Value, code: i32, reason: &str, phase: &str) -> Value {
    let state = json!({ "terminated": { "exitCode": code, "reason": reason } });
    json!({ "phase": phase, "containerStatuses": container(pod, &state, false) })
}

fn waiting(pod: &Value, reason: &str, message: &str) -> Value {
    let state = json!({ "waiting": { "reason": reason, "message": message } });
    json!({ "phase": "Pending", "containerStatuses": container(pod, &state, false) })
}

fn fated(cluster: &Cluster, pod: &Value, fate: &Fate) -> Value {
    let image = text(&pod["spec"]["containers"][0]["image"]);
    match fate {
        Fate::Unschedulable => json!({
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                             "message": "0/3 nodes are available: 3 Insufficient cpu." }],
        }),
        Fate::NoImage => waiting(pod, "ImagePullBackOff", &format!("Back-off pulling image \"{image}\": not found")),
        Fate::NoConfiguration => waiting(pod, "CreateContainerConfigError", "configmap \"nodes\" not found"),
        Fate::Event(kind, name, reason, message) => {
            let namespace = text(&pod["metadata"]["namespace"]);
            if cluster.store.get(&namespace, "events", name).is_none() {
                let event = json!({
                    "apiVersion": "v1", "kind": "Event", "metadata": {}, "type": "Warning", "reason": reason,
                    "message": message, "lastTimestamp": now(),
                    "involvedObject": { "kind": kind, "name": name, "namespace": namespace },
                });
                cluster.store.put(&namespace, "events", name, event);
            }
            waiting(pod, "ContainerCreating", "")
        }
        Fate::Creating | Fate::Forbidden => waiting(pod, "ContainerCreating", ""),
        Fate::OutOfMemory => ended(pod, 137, "OOMKilled", "Failed"),
        Fate::Evicted => json!({
            "phase": "Failed", "reason": "Evicted",
            "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi.",
        }),
        Fate::InitFails => {
            cluster.kubelet.say(
                &text(&pod["metadata"]["namespace"]),
                &text(&pod["metadata"]["name"]),
                &["tc: RTNETLINK answers: Operation not permitted".into()],
            );
            json!({
                "phase": "Failed",
                "containerStatuses": container(pod, &json!({ "waiting": { "reason": "PodInitializing" } }), false),
                "initContainerStatuses": [{
                    "name": "shape", "image": image, "imageID": "", "ready": false, "restartCount": 0,
                    "state": { "terminated": { "exitCode": 2, "reason": "Error" } },
                }],
            })
        }
        Fate::Says(_) => unreachable!(),
    }
}

/// Removes deleted objects, and the objects that belong to them.
fn go(cluster: &Cluster, plural: &str, object: &Value) {
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let store = &cluster.store;
    let held = cluster.faults.held.load(Ordering::Relaxed);
    match plural {
        "namespaces" => {
            for plural in INSIDE {
                for inside in store.list(Some(&name), plural) {
                    go(cluster, plural, &inside);
                }
            }
            if held {
                let condition = json!({
                    "type": "NamespaceFinalizersRemaining", "status": "True", "reason": "SomeFinalizersRemain",
                    "message": "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances",
                });
                let status = json!({ "phase": "Terminating", "conditions": [condition] });
                if object["status"] != status {
                    store.change("", "namespaces", &name, |namespace| namespace["status"] = status);
                }
                return;
            }
        }
        "jobs" | "statefulsets" => {
            for pod in store.list(Some(&namespace), "pods") {
                let owner = &pod["metadata"]["ownerReferences"][0];
                if owner["name"] == name.as_str() && owner["kind"] == object["kind"] {
                    go(cluster, "pods", &pod);
                }
            }
        }
        "pods" => cluster.kubelet.end(&namespace, &name),
        _ => {}
    }
    store.remove(&namespace, plural, &name);
}
