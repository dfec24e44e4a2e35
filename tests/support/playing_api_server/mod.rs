//! A server that simulates the API of a cluster, over real HTTP: objects, watches, logs, port-forwards. The pods of its
//! jobs are real nodes on the loopback, unless a test gives them another fate.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

mod admission;
mod answer;
mod controllers;
mod fate;
mod forward;
mod http;
mod kubelet;
mod logs;
mod rights;
mod store;
mod watch;

pub use fate::Fate;
pub use store::Store;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::fate::Faults;
use crate::support::{BENCH, wait_for};

/// The server; dropping it ends it and all its processes.
pub struct PlayingApiServer {
    pub cluster: Arc<Cluster>,
    pub port: u16,
    pub folder: TempDir,
    runtime: Option<tokio::runtime::Runtime>,
    controllers: Option<thread::JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

/// Shared state of the parts of the server.
pub struct Cluster {
    pub store: Store,
    pub faults: Faults,
    pub kubelet: kubelet::Kubelet,
}

impl PlayingApiServer {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let cluster =
            Arc::new(Cluster { store: Store::default(), faults: Faults::default(), kubelet: kubelet::Kubelet::new() });
        make_surroundings(&cluster.store);
        let server = http::serve(listener, cluster.clone());
        runtime.spawn(server);
        let over = Arc::new(AtomicBool::new(false));
        let (seen, controlled) = (over.clone(), cluster.clone());
        let controllers = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                controllers::run(&controlled);
                thread::sleep(Duration::from_millis(30));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let here = Self { cluster, port, folder, runtime: Some(runtime), controllers: Some(controllers), over };
        here.write_kubeconfig(&format!("http://127.0.0.1:{port}"));
        here
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub fn write_kubeconfig(&self, server: &str) {
        write_kubeconfig(&self.kubeconfig(), server);
    }

    /// `apollo-bench cluster ...` of a user whose only cluster is this one.
    pub fn command(&self, args: &str) -> Command {
        let mut command = bare_command(args);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Waits until an object exists, and returns it.
    pub fn object(&self, namespace: &str, plural: &str, name: &str) -> Value {
        wait_for(&format!("{plural}/{name}"), || self.cluster.store.get(namespace, plural, name))
    }

    /// The pods of a namespace.
    pub fn pods(&self, namespace: &str) -> Vec<Value> {
        self.cluster.store.list(Some(namespace), "pods")
    }

    /// All objects, as `plural/name`, except the surroundings that every cluster has.
    pub fn everything(&self) -> Vec<String> {
        let mut all = self.cluster.store.everything();
        all.retain(|object| !object.starts_with("nodes/") && !object.starts_with("storageclasses/"));
        all
    }

    /// Creates a namespace of another owner.
    pub fn make_namespace(&self, name: &str) {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.cluster.store.put("", "namespaces", name, object);
    }
}

/// A machine for nodes, and a default storage class.
fn make_surroundings(store: &Store) {
    let labels = json!({ "role": "apollo-network-benchmark" });
    store.put(
        "",
        "nodes",
        "machine-1",
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "labels": labels } }),
    );
    let annotations = json!({ "storageclass.kubernetes.io/is-default-class": "true" });
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/disk",
        "metadata": { "annotations": annotations },
    });
    store.put("", "storageclasses", "standard", class);
}

impl Drop for PlayingApiServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.controllers.take().unwrap().join();
        self.cluster.kubelet.end_all();
        // Streams may be open for ever.
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(1));
    }
}

/// `apollo-bench cluster ...` of a user without a cluster.
pub fn bare_command(args: &str) -> Command {
    let mut command = Command::new(BENCH);
    command.arg("cluster").args(args.split_whitespace());
    for variable in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "KUBECONFIG"] {
        command.env_remove(variable);
    }
    command.env("HOME", "/nowhere");
    command
}

pub fn write_kubeconfig(path: &Path, server: &str) {
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "playing",
        "clusters": [{ "name": "playing", "cluster": { "server": server } }],
        "users": [{ "name": "tester", "user": { "token": "secret" } }],
        "contexts": [
            { "name": "playing", "context": { "cluster": "playing", "user": "tester" } },
            { "name": "other", "context": { "cluster": "playing", "user": "tester" } },
        ],
    });
    std::fs::write(path, text.to_string()).unwrap();
}
