//! Rights of the user, as RBAC grants them.

use std::sync::PoisonError;

use axum::http::Method;
use serde_json::Value;

use super::{Cluster, http::Target};

/// Words of a refusal; none if the user has the right. Without a Role, the user may do everything.
pub fn refusal(cluster: &Cluster, method: &Method, target: &Target) -> Option<String> {
    let resource =
        target.subresource.as_ref().map_or_else(|| target.plural.clone(), |sub| format!("{}/{sub}", target.plural));
    let verb = match *method {
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if target.asked("watch").is_some() => "watch",
        _ if target.name.is_some() => "get",
        _ => "list",
    };
    let role = cluster.faults.role.lock().unwrap_or_else(PoisonError::into_inner);
    let forbidden = cluster.faults.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
    let has = |list: &Value, word: &str| list.as_array().unwrap().iter().any(|one| one == word);
    // Server-side apply creates, so it needs both rights.
    let verbs: &[&str] =
        if verb == "patch" && target.asked("force").is_some() { &["patch", "create"] } else { &[verb] };
    let permits = |rule: &Value| {
        has(&rule["apiGroups"], &target.group)
            && has(&rule["resources"], &resource)
            && verbs.iter().all(|verb| has(&rule["verbs"], verb))
    };
    let inside = |role: &Value| role["metadata"]["namespace"].as_str() == target.namespace.as_deref();
    let permitted = match &*role {
        Some(role) => inside(role) && role["rules"].as_array().unwrap().iter().any(permits),
        None => true,
    };
    if permitted && *forbidden != resource {
        return None;
    }
    let scope = match &target.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let name = target.name.as_deref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    Some(format!(
        "{}{name} is forbidden: User \"tester\" cannot {verb} resource \"{resource}\" in API group \"{}\" {scope}",
        target.plural, target.group
    ))
}
