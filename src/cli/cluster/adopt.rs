//! A run whose objects exist and whose nodes have no start yet: applied with kubectl, or left by a start that was
//! killed. `cluster start --name NAME` continues it.

use clap::{Args, Command, FromArgMatches};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::json;

use super::{
    commands::StartArgs,
    session::{RunThere, hint, is_own},
};
use crate::{
    cli::error::CliError,
    dashboards,
    deploy::kubernetes::{
        ClusterPlan, ImageSource, PinnedImage,
        names::{ARGUMENTS_KEY, FIELD_MANAGER, INSTANCE_LABEL, JOB, RUN_CONFIG_MAP, namespace_of},
        objects,
    },
    kubernetes::{Cluster, KubernetesError, create_missing},
    terminal::tell,
};

/// True if the arguments name a run, and describe none.
pub(super) fn only_names(args: &StartArgs) -> bool {
    let Some(name) = &args.deployment.name else { return false };
    // Variables of the environment have the same effect on both.
    let bare = StartArgs::augment_args(Command::new("start")).try_get_matches_from(["start", "--name", name.as_str()]);
    let bare = bare.and_then(|matches| StartArgs::from_arg_matches(&matches));
    bare.is_ok_and(|bare| dashboards::json(&bare.deployment) == dashboards::json(&args.deployment))
}

/// The named run, if its objects exist and it has no start.
pub(super) async fn find(
    cluster: &Cluster,
    args: &StartArgs,
) -> Result<Option<(RunThere, ConfigMap)>, KubernetesError> {
    let (Some(name), connect) = (&args.deployment.name, &args.deployment.connect) else { return Ok(None) };
    let namespace = connect.namespace.clone().unwrap_or_else(|| namespace_of(name));
    let found = cluster.ask("reading the run", cluster.api::<ConfigMap>(&namespace).get_opt(RUN_CONFIG_MAP)).await?;
    let Some(map) = found.filter(|map| is_own(map) && map.labels().get(INSTANCE_LABEL) == Some(name)) else {
        return Ok(None);
    };
    let there = RunThere::read(cluster.clone(), &map)?;
    if there.started.is_some() {
        return Err(KubernetesError::Usage(format!(
            "the run {name} in the namespace {namespace} has a run already that has begun: '{}' collects it, and '{}' \
             removes it",
            hint("collect", &namespace, connect),
            hint("stop", &namespace, connect)
        )));
    }
    Ok(Some((there, map)))
}

/// Makes the objects of a run complete. `plan` is none if the arguments only name the run.
pub(super) async fn complete(
    there: &RunThere,
    map: &ConfigMap,
    plan: Option<&ClusterPlan>,
    args: &StartArgs,
) -> Result<(), CliError> {
    let (cluster, record) = (&there.cluster, &there.record);
    let stop = hint("stop", &record.namespace, &args.deployment.connect);
    let Some(plan) = plan else {
        let jobs = cluster.api::<Job>(&record.namespace);
        if cluster.ask("reading the Job", jobs.get_opt(JOB)).await?.is_none() {
            return Err(CliError::Usage(format!(
                "the run {} was created in part: repeat its start with all its arguments, or remove it: '{stop}'",
                record.name
            )));
        }
        return Ok(());
    };
    let stored = map.data.as_ref().and_then(|data| data.get(ARGUMENTS_KEY));
    if stored != Some(&plan.arguments) {
        return Err(CliError::Usage(format!(
            "the namespace {} has a run already that was created with other arguments: give --name {} alone to start it, \
             or remove it: '{stop}'",
            record.namespace, record.name
        )));
    }
    let mut plan = plan.clone();
    let image = record
        .image
        .parse::<PinnedImage>()
        .map_err(|error| CliError::Failed(format!("image {}: {error}", record.image)))?;
    plan.image = ImageSource::Given(image);
    let mut created = 0;
    for object in objects(&plan).map_err(|error| CliError::Failed(error.to_string()))? {
        // The namespace exists, and may be readable by nobody.
        if object.metadata.namespace.is_some() && create_missing(cluster, &object, FIELD_MANAGER).await? {
            created += 1;
        }
    }
    if created > 0 {
        tell(&format!("created {created} missing objects"));
    }
    Ok(())
}

/// The record of the run as an object to apply, which a start can be added to.
pub(super) fn record_of(map: &ConfigMap) -> Result<DynamicObject, KubernetesError> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": map.data,
        "metadata": { "name": map.metadata.name, "namespace": map.metadata.namespace, "labels": map.metadata.labels },
    });
    serde_json::from_value(object).map_err(|error| KubernetesError::Failed(error.to_string()))
}
