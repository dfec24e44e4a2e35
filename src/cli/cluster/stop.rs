//! `apollo-bench cluster stop`: removes all objects of a run.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{ResourceExt, api::ListParams};

use super::{
    arguments::ConnectArgs,
    commands::StopArgs,
    session::{access, all_of, config_maps, hint, interrupts, is_own, several},
};
use crate::{
    cli::error::CliError,
    deploy::kubernetes::names::{
        APP, APP_LABEL, INSTANCE_LABEL, MANAGED_BY_LABEL, MANAGER, RUN_CONFIG_MAP, namespace_of,
    },
    kubernetes::{Cluster, KubernetesError, remove},
    terminal::{say, tell},
};

/// Maximum number of namespaces that are listed.
const MOST_NAMESPACES: u32 = 500;

pub(super) async fn stop(args: &StopArgs) -> Result<(), CliError> {
    let mut interrupt = interrupts()?;
    let cluster = Cluster::connect(&access(&args.connect)).await?;
    let Some((namespace, instance)) = find(&cluster, &args.connect).await? else {
        say(&format!("no object of a run exists in context {}\n", cluster.context()));
        return Ok(());
    };
    let limit = Duration::from_secs(args.timeout_seconds);
    let everything = all_of(&namespace, &instance, limit);
    let removed = tokio::select! {
        removed = remove(&cluster, &everything, &tell) => removed?,
        _ = interrupt.next() => return Err(CliError::Failed(format!(
            "interrupted; some objects may remain: '{}' removes them",
            hint("stop", &namespace, &args.connect)
        ))),
    };
    match removed.objects.len() {
        0 => say(&format!("no object of a run exists in the namespace {namespace}\n")),
        count => say(&format!("run {instance} is removed, {count} objects in total; none of its objects remains\n")),
    }
    Ok(())
}

/// Namespace and name of the selected run, by labels alone: it may be partly removed or partly created, and its record
/// may be unreadable.
async fn find(cluster: &Cluster, connect: &ConnectArgs) -> Result<Option<(String, String)>, KubernetesError> {
    if let Some(namespace) = &connect.namespace {
        let map = cluster.ask("reading the run", cluster.api::<ConfigMap>(namespace).get_opt(RUN_CONFIG_MAP)).await?;
        let name = map.filter(is_own).and_then(|map| map.labels().get(INSTANCE_LABEL).cloned());
        let name = match name {
            Some(name) => name,
            None => instance_of(cluster, namespace).await?,
        };
        return Ok(Some((namespace.clone(), name)));
    }
    let mut found: Vec<(String, String)> = config_maps(cluster)
        .await?
        .iter()
        .filter_map(|map| Some((map.namespace()?, map.labels().get(INSTANCE_LABEL)?.clone())))
        .collect();
    if found.is_empty() {
        // A namespace may be held after everything in it is gone.
        let labels = format!("{APP_LABEL}={APP},{MANAGED_BY_LABEL}={MANAGER}");
        let params = ListParams::default().labels(&labels).limit(MOST_NAMESPACES);
        let named = |own: &Namespace| Some((own.name_any(), own.labels().get(INSTANCE_LABEL)?.clone()));
        match cluster.ask("looking for namespaces of runs", cluster.all::<Namespace>().list(&params)).await {
            Ok(list) => found = list.items.iter().filter_map(named).collect(),
            Err(KubernetesError::Refused { code: 403, line }) => {
                return Err(KubernetesError::Usage(format!("{line}: give --namespace")));
            }
            Err(error) => return Err(error),
        }
    }
    match (found.pop(), found.len()) {
        (one, 0) => Ok(one),
        (last, _) => Err(several(found.into_iter().chain(last).map(|(namespace, _)| namespace).collect())),
    }
}

/// Run for which a namespace was created.
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
