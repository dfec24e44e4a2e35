//! Creation of objects on the server.

use kube::{
    ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};

use super::{connect::Cluster, error::KubernetesError};

/// Parameters of applying objects.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Owner of the fields that are set.
    pub field_manager: &'a str,
    /// The server checks everything and stores nothing.
    pub dry_run: bool,
}

/// `Job/node`.
pub(super) fn name(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("{kind}/{}", object.name_any())
}

/// Applies objects in order, server-side, up to the first one that the server refuses. The objects before it exist
/// then: see [`remove`](super::remove).
///
/// # Errors
/// The first refusal: which object, and the server's words.
pub async fn apply(cluster: &Cluster, objects: &[DynamicObject], how: Apply<'_>) -> Result<(), KubernetesError> {
    let mut params = PatchParams::apply(how.field_manager).validation_strict();
    if how.dry_run {
        params = params.dry_run();
    }
    for object in objects {
        let (api, id) = (cluster.like(object)?, object.name_any());
        cluster.ask(&name(object), api.patch(&id, &params, &Patch::Apply(object))).await?;
    }
    Ok(())
}

/// Lets the server check a pod as it would check those that a controller makes of this object's template; nothing is
/// stored. Admission of pods, such as Pod Security and quotas, acts on pods alone.
///
/// # Errors
/// The refusal, in the server's words.
pub async fn try_pod(cluster: &Cluster, owner: &DynamicObject, field_manager: &str) -> Result<(), KubernetesError> {
    let template = &owner.data["spec"]["template"];
    if template.is_null() {
        return Ok(());
    }
    let mut pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"],
    });
    // The controller gives each pod a claim of its own in place of these volumes.
    let volumes = owner.data["spec"]["volumeClaimTemplates"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|claim| serde_json::json!({ "name": claim["metadata"]["name"], "emptyDir": {} }));
    let volumes: Vec<_> = volumes.collect();
    if let Some(existing) = pod["spec"]["volumes"].as_array_mut() {
        existing.extend(volumes);
    }
    if pod["spec"]["restartPolicy"].is_null() {
        pod["spec"]["restartPolicy"] = "Always".into();
    }
    pod["metadata"]["name"] = format!("{}-try", owner.name_any()).into();
    pod["metadata"]["namespace"] = owner.metadata.namespace.clone().into();
    let pod: DynamicObject = serde_json::from_value(pod).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    let params = PostParams { dry_run: true, field_manager: Some(field_manager.into()) };
    let doing = format!("a pod of {}", name(owner));
    cluster.ask(&doing, cluster.like(&pod)?.create(&params, &pod)).await.map(drop)
}

/// Creates an object unless it exists, and returns true if it was created.
///
/// # Errors
/// Fails if the server refuses.
pub async fn create_missing(
    cluster: &Cluster,
    object: &DynamicObject,
    field_manager: &str,
) -> Result<bool, KubernetesError> {
    // Asked first, because a quota refuses a creation before the server finds out that the object exists.
    if cluster.ask(&name(object), cluster.like(object)?.get_opt(&object.name_any())).await?.is_some() {
        return Ok(false);
    }
    create(cluster, object, field_manager).await
}

/// Creates an object that must not exist yet. Returns true for the program that created it: of several that try, one
/// gets true.
///
/// # Errors
/// Fails if the server refuses for another reason than that it is there.
pub async fn create(cluster: &Cluster, object: &DynamicObject, field_manager: &str) -> Result<bool, KubernetesError> {
    let params = PostParams { field_manager: Some(field_manager.into()), ..PostParams::default() };
    match cluster.ask(&name(object), cluster.like(object)?.create(&params, object)).await {
        Ok(_) => Ok(true),
        Err(KubernetesError::Refused { code: 409, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
