//! `apollo-bench cluster stop`: everything of a run taken away again.

use std::{process::ExitCode, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;

use super::{
    commands::StopArgs,
    names::{INSTANCE_LABEL, MANAGED_BY_LABEL, MANAGER, namespace_of},
    session::{RunThere, access, all_of, tell},
};
use crate::{
    command_line::say,
    kubernetes::{Cluster, KubernetesError, remove},
};

pub(super) async fn stop(args: &StopArgs) -> Result<ExitCode, KubernetesError> {
    let (cluster, namespace, instance) = match RunThere::find(&args.connect).await {
        Ok(there) => (there.cluster, there.record.namespace, there.record.name),
        // What is left of a run that was removed in part, or made in part, is found by its labels.
        Err(KubernetesError::Usage(_)) if args.connect.namespace.is_some() => {
            let namespace = args.connect.namespace.clone().unwrap_or_default();
            let cluster = Cluster::connect(&access(&args.connect)).await?;
            let instance = instance_of(&cluster, &namespace).await?;
            (cluster, namespace, instance)
        }
        Err(error) => return Err(error),
    };
    let limit = Duration::from_secs(args.timeout_seconds);
    let removed = remove(&cluster, &all_of(&namespace, &instance, limit), &tell).await?;
    match removed.objects.len() {
        0 => say(&format!("there is nothing of a run in the namespace {namespace}\n")),
        count => say(&format!("run {instance} is removed, {count} objects in all; nothing of it is left\n")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The run that a namespace was made for.
async fn instance_of(cluster: &Cluster, namespace: &str) -> Result<String, KubernetesError> {
    let found = cluster.ask("the namespace", cluster.all::<Namespace>().get_opt(namespace)).await;
    let found = match found {
        Err(KubernetesError::Refused { code: 403, .. }) => None,
        found => found?,
    };
    let own = found.filter(|found| found.labels().get(MANAGED_BY_LABEL).is_some_and(|manager| manager == MANAGER));
    let by_label = own.and_then(|own| own.labels().get(INSTANCE_LABEL).cloned());
    Ok(by_label.unwrap_or_else(|| namespace.strip_prefix(&namespace_of("")).unwrap_or(namespace).to_owned()))
}
