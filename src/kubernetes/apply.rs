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
