//! Objects, and their changes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

/// Namespace (empty for none), plural, name.
type Key = (String, String, String);

/// A change of an object.
#[derive(Clone)]
pub struct Happened {
    pub version: u64,
    pub kind: &'static str,
    pub namespace: String,
    pub plural: String,
    pub object: Value,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<Key, Value>,
    happened: Vec<Happened>,
    version: u64,
}

/// All objects of the cluster.
pub struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self { inner: Mutex::default(), changed: watch::channel(0).0 }
    }
}

fn key(namespace: &str, plural: &str, name: &str) -> Key {
    (namespace.into(), plural.into(), name.into())
}

impl Store {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn version(&self) -> u64 {
        self.inner().version
    }

    pub fn get(&self, namespace: &str, plural: &str, name: &str) -> Option<Value> {
        self.inner().objects.get(&key(namespace, plural, name)).cloned()
    }

    /// Objects of a namespace, or of all.
    pub fn list(&self, namespace: Option<&str>, plural: &str) -> Vec<Value> {
        let inner = self.inner();
        let fits = inner
            .objects
            .iter()
            .filter(|(key, _)| key.1 == plural && namespace.is_none_or(|namespace| key.0 == namespace));
        fits.map(|(_, object)| object.clone()).collect()
    }

    pub fn everything(&self) -> Vec<String> {
        self.inner().objects.keys().map(|key| format!("{}/{}", key.1, key.2)).collect()
    }

    /// Writes an object, new or in place of an existing one.
    pub fn put(&self, namespace: &str, plural: &str, name: &str, mut object: Value) -> Value {
        let mut inner = self.inner();
        inner.version += 1;
        let version = inner.version;
        let key = key(namespace, plural, name);
        let before = inner.objects.get(&key);
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        metadata["resourceVersion"] = json!(version.to_string());
        metadata["uid"] = before.map_or_else(|| json!(format!("uid-{version}")), |old| old["metadata"]["uid"].clone());
        metadata["creationTimestamp"] =
            before.map_or_else(|| json!(now()), |old| old["metadata"]["creationTimestamp"].clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        inner.objects.insert(key, object.clone());
        let (namespace, plural) = (namespace.into(), plural.into());
        inner.happened.push(Happened { version, kind, namespace, plural, object: object.clone() });
        drop(inner);
        self.changed.send_replace(version);
        object
    }

    /// Changes an object, if it exists.
    pub fn change(&self, namespace: &str, plural: &str, name: &str, change: impl FnOnce(&mut Value)) -> Option<Value> {
        let mut object = self.get(namespace, plural, name)?;
        change(&mut object);
        Some(self.put(namespace, plural, name, object))
    }

    pub fn remove(&self, namespace: &str, plural: &str, name: &str) -> Option<Value> {
        let mut inner = self.inner();
        let mut object = inner.objects.remove(&key(namespace, plural, name))?;
        inner.version += 1;
        let version = inner.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let (namespace, plural) = (namespace.into(), plural.into());
        inner.happened.push(Happened { version, kind: "DELETED", namespace, plural, object: object.clone() });
        drop(inner);
        self.changed.send_replace(version);
        Some(object)
    }

    /// Changes of objects of a kind since a version.
    pub fn since(&self, version: u64, namespace: Option<&str>, plural: &str) -> Vec<Happened> {
        let inner = self.inner();
        let fits = |one: &&Happened| {
            one.version > version
                && one.plural == plural
                && namespace.is_none_or(|namespace| one.namespace == namespace)
        };
        inner.happened.iter().filter(fits).cloned().collect()
    }
}

pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// True if an object has the labels of a selector like `a=b,c=d`.
pub fn matches(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
        Some((label, value)) => object["metadata"]["labels"][label] == value.trim_start_matches('='),
        None => !object["metadata"]["labels"][part].is_null(),
    })
}

/// True if an object matches a field selector like `reason=FailedCreate,type=Warning`.
pub fn fits_fields(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|part| !part.is_empty()).all(|part| {
        let (path, value) = part.split_once('=').unwrap();
        let found = path.split('.').fold(object, |object, field| &object[field]);
        *found == value
    })
}
