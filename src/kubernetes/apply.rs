//! Objects made on the server.

use kube::{
    ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};

use super::{connect::Cluster, error::KubernetesError};

/// How objects are applied.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Who owns the fields that are set.
    pub field_manager: &'a str,
    /// The server checks everything and keeps nothing.
    pub dry_run: bool,
}

/// `Job/node`.
pub(super) fn name(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("{kind}/{}", object.name_any())
}

/// Applies objects in order, server-side, up to the first one that is refused. What was made before is there then: see
/// [`remove`](super::remove).
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

/// Makes an object that must not be there yet. Gives whether it was made: of several who try, one is told so.
///
/// # Errors
/// When the server refuses for another reason than that it is there.
pub async fn create(cluster: &Cluster, object: &DynamicObject, field_manager: &str) -> Result<bool, KubernetesError> {
    let params = PostParams { field_manager: Some(field_manager.into()), ..PostParams::default() };
    match cluster.ask(&name(object), cluster.like(object)?.create(&params, object)).await {
        Ok(_) => Ok(true),
        Err(KubernetesError::Refused { code: 409, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
