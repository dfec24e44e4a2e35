//! Common parts of all pods: no rights, bounded resources, read-only files.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
            HTTPGetAction, KeyToPath, LocalObjectReference, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm,
            PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec,
            PreferredSchedulingTerm, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Toleration, Volume,
            VolumeMount, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::parts::Port;
use crate::deploy::kubernetes::{
    image::PinnedImage,
    names::{Component, labels, selector},
    plan::ClusterPlan,
};

/// Name of the volume that is mounted at /tmp.
const TMP: &str = "tmp";
/// Name of the volume of the data.
pub(super) const DATA: &str = "data";

/// Processors and memory: requests and limits.
pub(super) fn resources(requests: [&str; 2], limits: [&str; 2]) -> ResourceRequirements {
    let amounts = |[cpu, memory]: [&str; 2]| {
        let amounts = [("cpu", cpu), ("memory", memory)];
        amounts.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
    };
    ResourceRequirements { requests: Some(amounts(requests)), limits: Some(amounts(limits)), ..Default::default() }
}

/// Rights of a container: none.
pub(super) fn no_rights() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn container_port(port: &Port) -> ContainerPort {
    ContainerPort {
        name: Some(port.name.into()),
        container_port: port.number.into(),
        protocol: Some(port.protocol.into()),
        ..ContainerPort::default()
    }
}

/// A container without any rights.
pub(super) fn container(name: &str, image: &PinnedImage, resources: ResourceRequirements, ports: &[Port]) -> Container {
    Container {
        name: name.into(),
        image: Some(image.name().into()),
        image_pull_policy: Some("IfNotPresent".into()),
        ports: (!ports.is_empty()).then(|| ports.iter().map(container_port).collect()),
        resources: Some(resources),
        security_context: Some(no_rights()),
        // So that the pod's status contains the reason of a failure.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![mount(TMP, "/tmp", false)]),
        ..Container::default()
    }
}

/// A pod of an unprivileged user that may not call the API server.
pub(super) fn pod_spec(plan: &ClusterPlan, user: i64, containers: Vec<Container>) -> PodSpec {
    let tolerations: Vec<Toleration> = plan
        .pods
        .tolerations
        .iter()
        .map(|toleration| Toleration {
            key: Some(toleration.key.clone()),
            operator: Some(if toleration.value.is_some() { "Equal" } else { "Exists" }.into()),
            value: toleration.value.clone(),
            effect: toleration.effect.clone(),
            ..Toleration::default()
        })
        .collect();
    let pull_secrets: Vec<LocalObjectReference> =
        plan.pods.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    PodSpec {
        automount_service_account_token: Some(false),
        containers,
        enable_service_links: Some(false),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        volumes: Some(vec![Volume {
            name: TMP.into(),
            empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity("64Mi".into())), ..Default::default() }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

/// Labels of pods, and the annotation that decides if the cluster may move them to save a machine.
pub(super) fn template(plan: &ClusterPlan, component: Component, spec: PodSpec) -> PodTemplateSpec {
    let annotations =
        [("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), plan.pods.safe_to_evict.to_string())];
    let metadata = ObjectMeta {
        labels: Some(labels(&plan.record.name, component)),
        annotations: Some(annotations.into()),
        ..ObjectMeta::default()
    };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// Keys of a ConfigMap as files: the named keys, at their paths.
pub(super) fn files(volume: &str, config_map: &str, items: &[(&str, &str)]) -> Volume {
    let items = items.iter().map(|(key, path)| KeyToPath { key: (*key).into(), path: (*path).into(), mode: None });
    Volume {
        name: volume.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.into(),
            items: Some(items.collect()),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Ready as long as the port of that name answers this path.
pub(super) fn ready_at(path: &str, port: &str, timeout_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(5),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}

/// One pod with a persistent volume, beside the nodes; on another machine if there is one.
pub(super) fn stateful_set(
    plan: &ClusterPlan,
    metadata: ObjectMeta,
    component: Component,
    (service, storage): (&str, &str),
    mut pod: PodSpec,
) -> StatefulSet {
    pod.affinity = away_from_the_pool(plan);
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.into()),
            labels: Some(labels(&plan.record.name, component)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(storage.into()))])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: plan.pods.storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    };
    let spec = StatefulSetSpec {
        replicas: Some(1),
        selector: LabelSelector {
            match_labels: Some(selector(&plan.record.name, component)),
            ..LabelSelector::default()
        },
        service_name: Some(service.into()),
        template: template(plan, component, pod),
        volume_claim_templates: Some(vec![claim]),
        ..StatefulSetSpec::default()
    };
    StatefulSet { metadata, spec: Some(spec), ..StatefulSet::default() }
}

/// Monitoring takes processors from the measured nodes, so it uses other machines if possible.
fn away_from_the_pool(plan: &ClusterPlan) -> Option<Affinity> {
    let pods = &plan.pods;
    let elsewhere = PreferredSchedulingTerm {
        weight: 100,
        preference: NodeSelectorTerm {
            match_expressions: Some(vec![NodeSelectorRequirement {
                key: pods.node_pool_label.clone(),
                operator: "NotIn".into(),
                values: Some(vec![pods.node_pool_role.clone()]),
            }]),
            ..NodeSelectorTerm::default()
        },
    };
    let node_affinity = NodeAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![elsewhere]),
        ..NodeAffinity::default()
    };
    let affinity = Affinity { node_affinity: Some(node_affinity), ..Affinity::default() };
    (!pods.node_pool_role.is_empty()).then_some(affinity)
}
