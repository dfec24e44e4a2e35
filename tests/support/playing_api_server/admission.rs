//! Admission: Pod Security of namespaces, and policies of the cluster.

use std::sync::PoisonError;

use serde_json::Value;

use super::Cluster;

const SECURITY: &str = "pod-security.kubernetes.io";

/// Warnings about an object, or the words of its refusal. As on a real server, a template only gets warnings, because
/// the refusal acts on its pods.
pub fn examine(cluster: &Cluster, object: &Value) -> Result<Vec<String>, String> {
    let is_pod = object["kind"] == "Pod";
    let spec = if is_pod { &object["spec"] } else { &object["spec"]["template"]["spec"] };
    if !spec.is_object() {
        return Ok(vec![]);
    }
    let refused = cluster.faults.selector_is_refused.load(std::sync::atomic::Ordering::Relaxed);
    if is_pod && refused && spec["nodeSelector"].is_object() {
        return Err(
            "admission webhook \"warden\" denied the request: the nodeSelector \"role\" is not permitted".into()
        );
    }
    let mut warnings = vec![];
    let policy = cluster.faults.policy_warning.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !policy.is_empty() {
        warnings.push(policy);
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let labels = cluster.store.get("", "namespaces", namespace).unwrap_or_default()["metadata"]["labels"].clone();
    let containers =
        ["containers", "initContainers"].into_iter().flat_map(|kind| spec[kind].as_array().into_iter().flatten());
    let privileged: Vec<&Value> =
        containers.filter(|container| container["securityContext"]["capabilities"]["add"].is_array()).collect();
    if let Some(first) = privileged.first() {
        let words = format!(
            "would violate PodSecurity \"restricted:latest\": unrestricted capabilities (container {} must not include \
             \"NET_ADMIN\" in securityContext.capabilities.add)",
            first["name"]
        );
        let words = words.replace("\\ ", "");
        for mode in ["warn", "enforce"] {
            if labels[format!("{SECURITY}/{mode}")] == "restricted" {
                if mode == "enforce" && is_pod {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    return Err(format!(
                        "pods \"{name}\" is forbidden: {}",
                        words.replacen("would violate", "violates", 1)
                    ));
                }
                warnings.push(words.clone());
            }
        }
    }
    warnings.dedup();
    Ok(warnings)
}
