//! Requests of a client, and their execution.

use std::{
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::Method,
};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service},
    storage::v1::StorageClass,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Cluster, admission,
    answer::{Answer, not_found, ok, refused, with_status},
    forward, logs, rights,
    store::{fits_fields, matches, now},
    watch,
};

/// Served kinds: plural, kind, apiVersion, and a check that a whole object of it can be read.
const KINDS: &[(&str, &str, &str, Reads)] = &[
    ("namespaces", "Namespace", "v1", reads::<Namespace>),
    ("configmaps", "ConfigMap", "v1", reads::<ConfigMap>),
    ("secrets", "Secret", "v1", reads::<Secret>),
    ("services", "Service", "v1", reads::<Service>),
    ("nodes", "Node", "v1", reads::<Node>),
    ("storageclasses", "StorageClass", "storage.k8s.io/v1", reads::<StorageClass>),
    ("jobs", "Job", "batch/v1", reads::<Job>),
    ("statefulsets", "StatefulSet", "apps/v1", reads::<StatefulSet>),
    ("pods", "Pod", "v1", reads::<Pod>),
    ("events", "Event", "v1", reads::<Value>),
    ("persistentvolumeclaims", "PersistentVolumeClaim", "v1", reads::<Value>),
];

/// Check that an object is a whole one of its kind.
type Reads = fn(&Value) -> Result<(), String>;

fn reads<T: DeserializeOwned>(object: &Value) -> Result<(), String> {
    serde_json::from_value::<T>(object.clone()).map(drop).map_err(|error| error.to_string())
}

/// Target of a request.
pub struct Target {
    pub namespace: Option<String>,
    pub plural: String,
    pub name: Option<String>,
    pub subresource: Option<String>,
    pub query: Vec<(String, String)>,
    /// Group of the API; empty for the core.
    pub group: String,
}

impl Target {
    fn of(request: &Request) -> Option<Self> {
        let url = reqwest::Url::parse(&format!("http://here{}", request.uri())).ok()?;
        let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        let segments: Vec<String> = url.path_segments()?.map(str::to_owned).collect();
        let group = if segments.first()? == "apis" { segments.get(1)?.clone() } else { String::new() };
        let rest = match segments.first()?.as_str() {
            "api" => &segments[2..],
            "apis" => &segments[3..],
            _ => return None,
        };
        let mut rest = rest.iter().cloned();
        let first = rest.next()?;
        let second = rest.next();
        let (namespace, plural, name) = match (first.as_str(), rest.next()) {
            ("namespaces", Some(plural)) => (second, plural, rest.next()),
            _ => (None, first, second),
        };
        Some(Self { namespace, plural, name, subresource: rest.next(), query, group })
    }

    pub fn asked(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn fits(&self, object: &Value) -> bool {
        matches(object, self.asked("labelSelector").unwrap_or_default())
            && fits_fields(object, self.asked("fieldSelector").unwrap_or_default())
    }

    fn place(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

pub async fn serve(listener: TcpListener, cluster: Arc<Cluster>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let router = Router::new().fallback(answer).with_state(cluster);
    axum::serve(listener, router).await.unwrap();
}

async fn answer(State(cluster): State<Arc<Cluster>>, request: Request) -> Answer {
    if cluster.faults.unauthorized.load(Ordering::Relaxed) || request.headers().get("authorization").is_none() {
        return refused(401, "Unauthorized", "Unauthorized");
    }
    if request.uri().path() == "/version" {
        return ok(&json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.1-playing", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        }));
    }
    let Some(target) = Target::of(&request) else { return refused(404, "NotFound", "no such path") };
    if cluster.faults.is_away() {
        return refused(500, "InternalError", "etcdserver: leader changed");
    }
    if let Some(words) = rights::refusal(&cluster, request.method(), &target) {
        return refused(403, "Forbidden", &words);
    }
    if !KINDS.iter().any(|kind| kind.0 == target.plural) {
        return refused(404, "NotFound", "the server could not find the requested resource");
    }
    match (request.method(), target.subresource.as_deref()) {
        (&Method::GET, Some("log")) => logs::answer(&cluster, &target).await,
        (&Method::GET, Some("portforward")) => forward::answer(&cluster, &target, request),
        (&Method::GET, None) if target.name.is_some() => get(&cluster, &target),
        (&Method::GET, None) if target.asked("watch").is_some() => watch::answer(cluster, target),
        (&Method::GET, None) => list(&cluster, &target),
        (&Method::POST, None) => {
            let body = to_bytes(request.into_body(), 8 << 20).await.unwrap();
            create(&cluster, target, &body)
        }
        (&Method::PATCH, None) => {
            let kind = request.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            let body = to_bytes(request.into_body(), 8 << 20).await.unwrap();
            apply(&cluster, &target, kind.as_deref(), &body)
        }
        (&Method::DELETE, None) => delete(&cluster, &target),
        _ => refused(405, "MethodNotAllowed", "not played"),
    }
}

fn get(cluster: &Cluster, target: &Target) -> Answer {
    let name = target.name.as_deref().unwrap();
    match cluster.store.get(target.place(), &target.plural, name) {
        Some(object) => ok(&object),
        None => not_found(&target.plural, name),
    }
}

fn list(cluster: &Cluster, target: &Target) -> Answer {
    cluster.faults.lists.fetch_add(1, Ordering::Relaxed);
    let version = cluster.store.version().to_string();
    let objects = cluster.store.list(target.namespace.as_deref(), &target.plural);
    let items: Vec<Value> = objects.into_iter().filter(|object| target.fits(object)).collect();
    let (_, kind, api_version, _) = KINDS.iter().find(|kind| kind.0 == target.plural).unwrap();
    ok(&json!({
        "apiVersion": api_version, "kind": format!("{kind}List"), "metadata": { "resourceVersion": version }, "items": items,
    }))
}

/// Creates an object, which must not exist.
fn create(cluster: &Cluster, mut target: Target, body: &[u8]) -> Answer {
    let object: Value = serde_json::from_slice(body).unwrap();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    if cluster.store.get(target.place(), &target.plural, &name).is_some() {
        return refused(409, "AlreadyExists", &format!("{} \"{name}\" already exists", target.plural));
    }
    target.name = Some(name);
    apply(cluster, &target, Some("application/apply-patch+yaml"), body)
}

/// Server-side apply: a whole object in the name of a field manager.
fn apply(cluster: &Cluster, target: &Target, content: Option<&str>, body: &[u8]) -> Answer {
    let name = target.name.as_deref().unwrap();
    if content == Some("application/merge-patch+json") {
        return patch(cluster, target, name, body);
    }
    if content != Some("application/apply-patch+yaml") {
        return refused(415, "UnsupportedMediaType", "only server-side apply is played");
    }
    if target.asked("fieldManager").is_none() {
        return refused(400, "BadRequest", "fieldManager is required for apply patch");
    }
    let object: Value = serde_json::from_slice(body).unwrap();
    let (_, kind, api_version, reads) = KINDS.iter().find(|kind| kind.0 == target.plural).unwrap();
    if object["kind"] != *kind || object["apiVersion"] != *api_version || object["metadata"]["name"] != name {
        return refused(400, "BadRequest", &format!("the object is not {api_version} {kind} {name}"));
    }
    if let Err(error) = reads(&object) {
        return refused(400, "BadRequest", &format!("{kind} in version \"{api_version}\" cannot be handled: {error}"));
    }
    if let Some(refusal) = cluster.faults.refusal(&format!("{kind}/{name}")) {
        return with_status(u16::try_from(refusal["code"].as_u64().unwrap()).unwrap(), &refusal);
    }
    let place = target.place();
    if !place.is_empty() {
        if object["metadata"]["namespace"] != place {
            return refused(400, "BadRequest", "the namespace of the object does not match the one of the request");
        }
        match cluster.store.get("", "namespaces", place) {
            None => return not_found("namespaces", place),
            Some(namespace) if !namespace["metadata"]["deletionTimestamp"].is_null() => {
                let why = format!("unable to create new content in namespace {place} because it is being terminated");
                return refused(403, "Forbidden", &why);
            }
            Some(_) => {}
        }
    }
    let warnings = match admission::examine(cluster, &object) {
        Ok(warnings) => warnings,
        Err(words) => return refused(403, "Forbidden", &words),
    };
    if target.asked("dryRun") == Some("All") {
        return with_warnings(ok(&object), &warnings);
    }
    let before = cluster.store.get(place, &target.plural, name);
    let mut whole = before.clone().unwrap_or_else(|| json!({}));
    merge(&mut whole, &object);
    whole["metadata"]["managedFields"] =
        json!([{ "manager": target.asked("fieldManager"), "operation": "Apply", "apiVersion": api_version }]);
    let stored = cluster.store.put(place, &target.plural, name, whole);
    with_warnings(with_status(if before.is_some() { 200 } else { 201 }, &stored), &warnings)
}

/// A merge patch of an object that exists; with a version, only if it is the present one.
fn patch(cluster: &Cluster, target: &Target, name: &str, body: &[u8]) -> Answer {
    let part: Value = serde_json::from_slice(body).unwrap();
    let Some(mut whole) = cluster.store.get(target.place(), &target.plural, name) else {
        return not_found(&target.plural, name);
    };
    let version = &part["metadata"]["resourceVersion"];
    if !version.is_null() && *version != whole["metadata"]["resourceVersion"] {
        let words =
            format!("Operation cannot be fulfilled on {} \"{name}\": the object has been modified", target.plural);
        return refused(409, "Conflict", &words);
    }
    merge(&mut whole, &part);
    ok(&cluster.store.put(target.place(), &target.plural, name, whole))
}

fn with_warnings(mut answer: Answer, warnings: &[String]) -> Answer {
    for warning in warnings {
        let header = format!("299 - \"{}\"", warning.replace('"', "\\\""));
        answer.headers_mut().append("warning", header.parse().unwrap());
    }
    answer
}

fn merge(whole: &mut Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                if value.is_null() {
                    whole.remove(key);
                } else {
                    merge(whole.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (whole, part) => *whole = part.clone(),
    }
}

fn delete(cluster: &Cluster, target: &Target) -> Answer {
    let (place, name) = (target.place(), target.name.as_deref().unwrap());
    // The controllers remove deleted objects, as with a real server's finalizers.
    match cluster.store.change(place, &target.plural, name, |object| {
        object["metadata"]["deletionTimestamp"] = json!(now());
    }) {
        Some(object) => ok(&object),
        None => not_found(&target.plural, name),
    }
}
