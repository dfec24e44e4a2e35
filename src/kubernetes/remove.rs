//! Everything of an instance taken away again.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams},
};
use tokio::time::{Instant, sleep};

use super::{
    INSTANCE, MANAGED_BY, NAME, Tell,
    apply::name,
    connect::Cluster,
    error::KubernetesError,
    text::{names, one_line},
};

/// What may bear the labels, in the order in which it is removed: what makes others first.
const KINDS: &[(&str, &str, &str)] = &[
    ("batch", "v1", "Job"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "PersistentVolumeClaim"),
];

/// Most objects of a kind that are looked at in one go; what is beyond comes in the next.
const PAGE: u32 = 500;

/// Pace at which it is looked whether things are gone.
const LOOK: Duration = Duration::from_millis(500);

/// After so long it is told what is still there, and what holds it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is removed.
#[derive(Clone, Debug)]
pub struct Remove<'a> {
    /// Where it is. All labels must fit: others name their instances by the same label, and would lose their own.
    pub namespace: &'a str,
    /// The application, by label.
    pub application: &'a str,
    /// The instance, by label.
    pub instance: &'a str,
    /// Who made it, by label.
    pub managed_by: &'a str,
    /// The object, as `Kind/name`, by which the others are found: it goes when they are gone, so that this may be repeated.
    pub last: &'a str,
    /// Longest wait until it is gone.
    pub limit: Duration,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// `Job/node` and so on, in the order in which they went.
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

/// Removes all objects of an instance, and its namespace if that was made for it, and waits until they are gone. A
/// namespace that is somebody else's stays. Tells each thing that is gone; where there is nothing, nothing is removed.
///
/// # Errors
/// When the server refuses; when something is still there in the end, with what holds it.
pub async fn remove(cluster: &Cluster, what: &Remove<'_>, tell: Tell<'_>) -> Result<Removed, KubernetesError> {
    let mut removed = Removed::default();
    let namespaces = cluster.all::<Namespace>();
    let found = cluster.ask("the namespace", namespaces.get_opt(what.namespace)).await;
    let namespace = match found {
        Ok(None) => return Ok(removed),
        Ok(Some(namespace)) => Some(namespace),
        // Who may not read namespaces can still have objects in one.
        Err(KubernetesError::Refused { code: 403, .. }) => None,
        Err(error) => return Err(error),
    };
    let own = namespace.is_some_and(|namespace| what.is_own(&namespace));
    let mut asked: BTreeMap<String, DynamicObject> = BTreeMap::new();
    let (since, mut reported_waiting) = (Instant::now(), false);
    loop {
        let present = present(cluster, what, tell, since.elapsed() < LOOK).await?;
        for (name, object) in &present {
            let is_its_turn = name != what.last || present.len() == 1;
            // One that was there again, as a claim that its controller makes anew, is asked to go again.
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
            return Err(KubernetesError::Failed(still_there(&asked, &present)));
        }
        if since.elapsed() > PATIENCE && !std::mem::replace(&mut reported_waiting, true) {
            tell(&still_there(&asked, &present));
        }
        sleep(LOOK).await;
    }
    if own {
        remove_namespace(cluster, what, tell).await?;
        removed.objects.push(format!("Namespace/{}", what.namespace));
    }
    Ok(removed)
}

/// What there is of an instance, by `Kind/name`.
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
                    // Items of a list do not say what they are.
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
            // A cluster that does not serve the kind has none of it.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(present)
}

async fn delete(cluster: &Cluster, name: &str, object: &DynamicObject) -> Result<(), KubernetesError> {
    let api = cluster.like(object)?;
    // In the background: what belongs to it goes by the cluster's own means, and is waited for by its labels.
    match cluster.ask(name, api.delete(&object.name_any(), &DeleteParams::background())).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// What holds the things that are still there.
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
        // Being removed already.
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
                format!("{name} is still being removed{held}; the cluster goes on with it, and this may be repeated");
            return Err(KubernetesError::Failed(one_line(&line)));
        }
        if since.elapsed() > PATIENCE && !std::mem::replace(&mut reported_waiting, true) {
            tell(&one_line(&format!("{name} is still being removed{held}")));
        }
        sleep(LOOK).await;
    }
}

/// What a namespace that does not go says of it.
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
