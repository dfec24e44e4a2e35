//! Objects made on the server, all or none.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};

use super::{Tell, connect::Cluster, error::KubernetesError};

/// How objects are applied.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Who owns the fields that are set.
    pub field_manager: &'a str,
    /// The server checks everything and keeps nothing.
    pub dry_run: bool,
    /// What was made stays when a later object is refused.
    pub keep_on_failure: bool,
}

/// What became of objects.
#[derive(Debug, Default)]
pub struct Applied {
    /// Those that were not there before, in order.
    made: Vec<DynamicObject>,
    /// How many were there before.
    pub changed: usize,
}

impl Applied {
    /// How many were made.
    pub fn made(&self) -> usize {
        self.made.len()
    }

    /// Removes again what was made, the last one first, and tells each.
    pub async fn undo(self, cluster: &Cluster, tell: Tell<'_>) {
        for object in self.made.iter().rev() {
            let name = name(object);
            let deleted = match cluster.like(object) {
                Ok(api) => {
                    let background = DeleteParams::background();
                    cluster.ask(&name, api.delete(&object.name_any(), &background)).await.map(drop)
                }
                Err(error) => Err(error),
            };
            match deleted {
                Ok(()) => tell(&format!("removed {name} again")),
                Err(error) if error.is_not_found() => {}
                Err(error) => tell(&format!("not removed: {error}")),
            }
        }
    }
}

/// `Job/node`.
pub(super) fn name(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("{kind}/{}", object.name_any())
}

/// Applies objects in order, server-side. When one is refused, those made by this call are removed again, and told.
///
/// # Errors
/// The first refusal: which object, and the server's words.
pub async fn apply(
    cluster: &Cluster,
    objects: &[DynamicObject],
    how: Apply<'_>,
    tell: Tell<'_>,
) -> Result<Applied, KubernetesError> {
    let mut applied = Applied::default();
    for object in objects {
        let Err(error) = apply_one(cluster, object, how, &mut applied).await else { continue };
        if how.dry_run {
            return Err(error);
        }
        if how.keep_on_failure {
            tell(&format!("{} objects that were made before are kept", applied.made()));
        } else {
            applied.undo(cluster, tell).await;
        }
        return Err(error);
    }
    Ok(applied)
}

async fn apply_one(
    cluster: &Cluster,
    object: &DynamicObject,
    how: Apply<'_>,
    applied: &mut Applied,
) -> Result<(), KubernetesError> {
    let (doing, id) = (name(object), object.name_any());
    let api = cluster.like(object)?;
    let before = cluster.ask(&doing, api.get_metadata_opt(&id)).await?;
    let mut params = PatchParams::apply(how.field_manager).validation_strict();
    if how.dry_run {
        params = params.dry_run();
    }
    // Counted before it is known to have worked: an answer that gets lost must leave nothing behind.
    if before.is_some() {
        applied.changed += 1;
    } else {
        applied.made.push(object.clone());
    }
    let answer = cluster.ask(&doing, api.patch(&id, &params, &Patch::Apply(object))).await;
    if matches!(answer, Err(KubernetesError::Refused { code, .. }) if code < 500) && before.is_none() {
        applied.made.pop();
    }
    answer.map(drop)
}
