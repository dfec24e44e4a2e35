//! Namespace of a run, and the record of the run there.

use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;

use super::parts::{Objects, config_map};
use crate::{
    dashboards::json,
    deploy::kubernetes::{
        names::{ARGUMENTS_KEY, Component, RUN_CONFIG_MAP, RUN_KEY, labels},
        plan::ClusterPlan,
    },
};

/// Label of the pods that a namespace admits: one of the Pod Security Standards.
const ADMITS: &str = "pod-security.kubernetes.io/enforce";

pub(super) fn add(plan: &ClusterPlan, objects: &mut Objects) -> Result<(), serde_json::Error> {
    let mut labels = labels(&plan.record.name, Component::Run);
    // NET_ADMIN is more than 'baseline' allows.
    let admits = if plan.is_shaped() { "privileged" } else { "restricted" };
    labels.insert(ADMITS.into(), admits.into());
    let metadata =
        ObjectMeta { name: Some(plan.record.namespace.clone()), labels: Some(labels), ..ObjectMeta::default() };
    objects.add(&Namespace { metadata, ..Namespace::default() })?;
    let data = [(ARGUMENTS_KEY.to_owned(), plan.arguments.clone()), (RUN_KEY.to_owned(), json(&plan.record))];
    objects.add(&config_map(plan, RUN_CONFIG_MAP, Component::Run, data))
}
