//! Facts about a cluster that hold pods up, found before the start. A user who may not read them is not told.

use k8s_openapi::api::{core::v1::Node, storage::v1::StorageClass};
use kube::{
    ResourceExt,
    api::{DynamicObject, ListParams},
};

use crate::{
    deploy::kubernetes::{
        ClusterPlan, NODE_POOL_ROLE,
        names::{FIELD_MANAGER, JOB},
    },
    kubernetes::{Cluster, KubernetesError, try_pod},
    terminal::tell,
};

/// Annotation of the storage class that claims without a class get.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Maximum number of storage classes that are listed.
const MOST_CLASSES: u32 = 500;

/// Fails if Prometheus and Grafana would get no storage.
pub(super) async fn check_storage(cluster: &Cluster, plan: &ClusterPlan) -> Result<(), KubernetesError> {
    if !plan.record.monitoring {
        return Ok(());
    }
    let list = ListParams::default().limit(MOST_CLASSES);
    let Ok(classes) = cluster.ask("listing the storage classes", cluster.all::<StorageClass>().list(&list)).await
    else {
        return Ok(());
    };
    let is_default = |class: &StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true");
    let problem = match &plan.pods.storage_class {
        Some(name) if classes.items.iter().all(|class| class.name_any() != *name) => {
            format!("--storage-class {name}: the cluster has no such storage class")
        }
        None if !classes.items.iter().any(is_default) => "the cluster has no default storage class".to_owned(),
        _ => return Ok(()),
    };
    let names: Vec<String> = classes.items.iter().map(ResourceExt::name_any).take(10).collect();
    let existing = if names.is_empty() {
        "it has none at all".to_owned()
    } else {
        format!("give --storage-class with one of {}", names.join(", "))
    };
    Err(KubernetesError::Usage(format!("{problem}: {existing}; or leave Prometheus and Grafana out: --no-monitoring")))
}

/// Line about a pool of machines that has no machine, if the cluster shows its machines.
pub(super) async fn missing_pool(cluster: &Cluster, plan: &ClusterPlan) -> Option<String> {
    let pods = &plan.pods;
    if pods.node_pool_role.is_empty() {
        return None;
    }
    let label = format!("{}={}", pods.node_pool_label, pods.node_pool_role);
    let params = ListParams::default().labels(&label).limit(1);
    let machines = cluster.ask("listing the machines", cluster.all::<Node>().list(&params)).await.ok()?;
    machines.items.is_empty().then(|| {
        format!(
            "no machine has the label {label}: --node-pool-role '' permits any machine, and --node-pool-label KEY with \
             --node-pool-role VALUE selects others; a cluster that adds machines by itself may still make one"
        )
    })
}

/// Leaves the default selector of machines out if the cluster refuses pods for it, as GKE Autopilot does.
pub(super) async fn drop_refused_selector(
    cluster: &Cluster,
    plan: &mut ClusterPlan,
    objects: impl Fn(&ClusterPlan) -> Result<Vec<DynamicObject>, KubernetesError>,
) -> Result<(), KubernetesError> {
    if plan.pods.node_pool_role != NODE_POOL_ROLE {
        return Ok(());
    }
    let mut without = plan.clone();
    without.pods.node_pool_role.clear();
    // The same pod with and without the selector: so the selector is the reason.
    if let Some(refusal) = tried(cluster, &objects(&*plan)?).await
        && tried(cluster, &objects(&without)?).await.is_none()
    {
        tell(&format!("the cluster refuses the default selector of machines, so the nodes use any machine: {refusal}"));
        *plan = without;
    }
    Ok(())
}

/// Refusal of a pod of the nodes, in a namespace that exists.
async fn tried(cluster: &Cluster, objects: &[DynamicObject]) -> Option<KubernetesError> {
    let is_job = |object: &&DynamicObject| {
        object.types.as_ref().is_some_and(|types| types.kind == "Job") && object.name_any() == JOB
    };
    match try_pod(cluster, objects.iter().find(is_job)?, FIELD_MANAGER).await {
        Err(error @ KubernetesError::Refused { code: 400 | 403 | 422, .. }) => Some(error),
        _ => None,
    }
}
