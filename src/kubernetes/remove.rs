//! Removal of all objects of an instance.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams},
};

use super::{
    INSTANCE, MANAGED_BY, NAME, Tell,
    apply::name,
    connect::Cluster,
    error::KubernetesError,
    text::{names, one_line},
};
use crate::clock::{Instant, sleep};

/// Kinds that can have the labels, in the order of removal: objects that create others come first.
const KINDS: &[(&str, &str, &str)] = &[
    ("batch", "v1", "Job"),
    ("apps", "v1", "StatefulSet"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("", "v1", "PersistentVolumeClaim"),
];

/// Maximum number of objects of a kind that are listed at once; further ones follow in the next list.
const PAGE: u32 = 500;

/// Interval of checking that objects are gone.
const LOOK: Duration = Duration::from_millis(500);

/// Time after which the remaining objects, and the reasons why they remain, are reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// Instance to remove.
#[derive(Clone, Debug)]
pub struct Remove<'a> {
    /// Namespace of the instance. All labels must match: other programs name their instances by the same label, and
    /// would lose their objects.
    pub namespace: &'a str,
    /// Application, by label.
    pub application: &'a str,
    /// Instance, by label.
    pub instance: &'a str,
    /// Program that created it, by label.
    pub managed_by: &'a str,
    /// Object, as `Kind/name`, by which the others are found: it is removed last, so that the removal can be repeated.
    pub last: &'a str,
    /// Maximum time to wait until everything is gone.
    pub limit: Duration,
}

/// Removed objects.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// `Job/node` and so on, in the order of removal.
    pub objects: Vec<String>,
}

impl Remove<'_> {
    fn selector(&self) -> String {
        let Self { application, instance, managed_by, .. } = self;
        format!("{NAME}={application},{INSTANCE}={instance},{MANAGED_BY}={managed_by}")
    }

    fn is_own(&self, namespace: &Namespace) -> bool {
        let is = |label: &str, value: &str| namespace.labels().get(label).is_some_and(|found| found == value);
        is(MANAGED_BY, self.managed_by) && is(INSTANCE, self.instance)
    }
}

/// Removes all objects of an instance, and its namespace if it was made for the instance, and waits until they are
/// gone. Other namespaces stay. Reports each removed object; if no object exists, nothing is removed. A server that is
/// away is asked again until the limit.
///
/// # Errors
/// Fails if the server refuses, or is away at the limit, or if an object remains then; the error names the reason.
pub async fn remove(cluster: &Cluster, what: &Remove<'_>, tell: Tell<'_>) -> Result<Removed, KubernetesError> {
    let mut removed = Removed::default();
    let mut asked: BTreeMap<String, DynamicObject> = BTreeMap::new();
    let (since, mut away) = (Instant::now(), false);
    loop {
        match attempt(cluster, what, tell, since, (&mut asked, &mut removed)).await {
            Ok(()) => return Ok(removed),
            Err(error) if error.may_pass() && since.elapsed() < what.limit => {
                if !std::mem::replace(&mut away, true) {
                    tell(&format!("{error}; trying again for {} s", what.limit.as_secs()));
                }
                sleep(LOOK).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Removes everything, as long as the server answers. Repeated, it continues.
async fn attempt(
    cluster: &Cluster,
    what: &Remove<'_>,
    tell: Tell<'_>,
    since: Instant,
    (asked, removed): (&mut BTreeMap<String, DynamicObject>, &mut Removed),
) -> Result<(), KubernetesError> {
    let namespaces = cluster.all::<Namespace>();
    let found = cluster.ask("the namespace", namespaces.get_opt(what.namespace)).await;
    let namespace = match found {
        Ok(None) => return Ok(()),
        Ok(Some(namespace)) => Some(namespace),
        // A user without the right to read namespaces can still have objects in one.
        Err(KubernetesError::Refused { code: 403, .. }) => None,
        Err(error) => return Err(error),
    };
    let own = namespace.is_some_and(|namespace| what.is_own(&namespace));
    let mut reported_waiting = false;
    loop {
        let present = present(cluster, what, tell, since.elapsed() < LOOK).await?;
        for (name, object) in &present {
            let is_its_turn = name != what.last || present.len() == 1;
            // An object that exists again, such as a claim that its controller creates again, is removed again.
            if is_its_turn && object.metadata.deletion_timestamp.is_none() {
                delete(cluster, name, object).await?;
                asked.insert(name.clone(), object.clone());
            }
        }
        asked.retain(|name, _| {
            let gone = !present.contains_key(name);
            if gone {
                tell(&format!("removed {name}"));
                removed.objects.push(name.clone());
            }
            !gone
        });
        if present.is_empty() {
            break;
        }
        if since.elapsed() > what.limit {
            return Err(KubernetesError::Failed(still_there(asked, &present)));
        }
        if since.elapsed() > PATIENCE && !std::mem::replace(&mut reported_waiting, true) {
            tell(&still_there(asked, &present));
        }
        sleep(LOOK).await;
    }
    if own {
        remove_namespace(cluster, what, tell).await?;
        removed.objects.push(format!("Namespace/{}", what.namespace));
    }
    Ok(())
}

/// Existing objects of an instance, by `Kind/name`.
async fn present(
    cluster: &Cluster,
    what: &Remove<'_>,
    tell: Tell<'_>,
    first: bool,
) -> Result<BTreeMap<String, DynamicObject>, KubernetesError> {
    let mut present = BTreeMap::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api = cluster.of_kind(&resource, Some(what.namespace));
        let doing = format!("listing {}", resource.plural);
        let params = ListParams::default().labels(&what.selector()).limit(PAGE);
        match cluster.ask(&doing, api.list(&params)).await {
            Ok(list) => {
                for mut object in list.items {
                    // Items of a list do not state their kind.
                    object.types =
                        Some(kube::core::TypeMeta { api_version: resource.api_version.clone(), kind: (*kind).into() });
                    present.insert(name(&object), object);
                }
            }
            Err(error @ KubernetesError::Refused { code: 403, .. }) => {
                if first {
                    tell(&format!("not looked at: {error}"));
                }
            }
            // A cluster that does not serve the kind has no objects of it.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(present)
}

async fn delete(cluster: &Cluster, name: &str, object: &DynamicObject) -> Result<(), KubernetesError> {
    let api = cluster.like(object)?;
    // Background deletion: the cluster removes dependent objects itself, and they are waited for by their labels.
    match cluster.ask(name, api.delete(&object.name_any(), &DeleteParams::background())).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Remaining objects, and the reasons why they remain.
fn still_there(asked: &BTreeMap<String, DynamicObject>, present: &BTreeMap<String, DynamicObject>) -> String {
    let listed: Vec<String> = asked
        .keys()
        .map(|name| {
            let finalizers = present.get(name).map(|object| object.finalizers().join(", ")).unwrap_or_default();
            if finalizers.is_empty() { name.clone() } else { format!("{name} (held by its finalizers: {finalizers})") }
        })
        .collect();
    one_line(&format!("still being removed: {}", names(&listed)))
}

async fn remove_namespace(cluster: &Cluster, what: &Remove<'_>, tell: Tell<'_>) -> Result<(), KubernetesError> {
    let (api, name) = (cluster.all::<Namespace>(), format!("Namespace/{}", what.namespace));
    match cluster.ask(&name, api.delete(what.namespace, &DeleteParams::background())).await {
        Err(error) if error.is_not_found() => return Ok(()),
        // The object is being removed already.
        Err(KubernetesError::Refused { code: 409, .. }) | Ok(_) => {}
        Err(error) => return Err(error),
    }
    let (since, mut reported_waiting) = (Instant::now(), false);
    loop {
        let Some(namespace) = cluster.ask(&name, api.get_opt(what.namespace)).await? else {
            tell(&format!("removed {name}"));
            return Ok(());
        };
        let held = held_by(&namespace);
        if since.elapsed() > what.limit {
            let line =
                format!("{name} is still being removed{held}; the cluster continues, and the command may be repeated");
            return Err(KubernetesError::Failed(one_line(&line)));
        }
        if since.elapsed() > PATIENCE && !std::mem::replace(&mut reported_waiting, true) {
            tell(&one_line(&format!("{name} is still being removed{held}")));
        }
        sleep(LOOK).await;
    }
}

/// Reasons that a namespace states for its delayed removal.
fn held_by(namespace: &Namespace) -> String {
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let messages: Vec<&str> = conditions
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.as_deref())
        .collect();
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).cloned();
    let finalizers: Vec<String> = finalizers.chain(namespace.finalizers().to_vec()).collect();
    match (messages.is_empty(), finalizers.is_empty()) {
        (false, _) => format!(": {}", messages.join("; ")),
        (true, false) => format!(", held by its finalizers: {}", finalizers.join(", ")),
        (true, true) => String::new(),
    }
}
