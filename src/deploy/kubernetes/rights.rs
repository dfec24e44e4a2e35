//! Rights that the commands need in the namespace of a run.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::core::ObjectMeta;

use super::names::MANAGER;

/// Rights: group, resources and verbs. All are contained in the rights of `edit`, which every cluster has.
const RIGHTS: &[(&str, &[&str], &[&str])] = &[
    ("", &["configmaps", "secrets", "services"], &["create", "delete", "get", "list", "patch"]),
    ("batch", &["jobs"], &["create", "delete", "get", "list", "patch"]),
    ("apps", &["statefulsets"], &["create", "delete", "get", "list", "patch"]),
    ("", &["persistentvolumeclaims"], &["delete", "get", "list"]),
    ("", &["pods"], &["create", "delete", "get", "list", "watch"]),
    ("", &["pods/log"], &["get"]),
    // Servers differ in the verb that they check for a port that is opened over a WebSocket.
    ("", &["pods/portforward"], &["create", "get"]),
    ("", &["events"], &["list"]),
];

/// Role with the rights that the commands need if the namespace exists already.
pub(crate) fn rights(namespace: &str) -> Role {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rule = |(group, resources, verbs): &(&str, &[&str], &[&str])| PolicyRule {
        api_groups: Some(texts(&[group])),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    };
    Role {
        metadata: ObjectMeta { name: Some(MANAGER.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        rules: Some(RIGHTS.iter().map(rule).collect()),
    }
}
