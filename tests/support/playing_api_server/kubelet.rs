//! Programs in the pods: real nodes, with the environment that the Job gives them, on the loopback.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use apollo_network_benchmark::{node::NodeConfig, scenario::read_toml};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::store::Store;
use crate::support::{BENCH, free_ports, get};

/// A log: lines with their times.
pub type Log = Arc<Mutex<Vec<(Timestamp, String)>>>;

/// State of a pod's container.
pub enum State {
    Runs { ready: bool },
    Ended(i32),
}

enum Program {
    Node {
        child: Child,
        metric_port: u16,
    },
    /// Stand-in for Prometheus or Grafana: answers every request with its own name.
    Web {
        port: u16,
        over: Arc<AtomicBool>,
    },
    /// Nothing but a log.
    Words,
}

struct Running {
    program: Program,
    log: Log,
    ended: Option<i32>,
    /// Ports of the container, and their ports on the loopback.
    ports: BTreeMap<u16, u16>,
}

#[derive(Default)]
struct Inner {
    pods: BTreeMap<String, Running>,
    /// First port of the nodes of a namespace.
    networks: BTreeMap<String, u16>,
    /// Pods of jobs that were started; each starts only once.
    seen: BTreeSet<String>,
}

/// All machines of the cluster.
pub struct Kubelet {
    inner: Mutex<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kubelet {
    pub fn new() -> Self {
        Self { inner: Mutex::default() }
    }

    /// True if a pod of a job existed before: it is not started again.
    pub fn was_there(&self, namespace: &str, pod: &str, index: Option<u64>) -> bool {
        index.is_some() && !lock(&self.inner).seen.insert(key(namespace, pod))
    }

    /// Starts the programs of the pod.
    pub fn start(&self, store: &Store, pod: &Value) {
        let metadata = &pod["metadata"];
        let mut inner = lock(&self.inner);
        let running = if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "node" {
            node(&mut inner, store, pod)
        } else {
            web(pod)
        };
        let key = key(metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap());
        inner.pods.insert(key, running);
    }

    /// Adds lines to a pod's log, with equal times in groups of three, over several seconds.
    pub fn say(&self, namespace: &str, pod: &str, lines: &[String]) {
        let start: Timestamp = "2026-01-01T00:00:00.25Z".parse().unwrap();
        let times = (0_i64..).map(|line| start + SignedDuration::from_millis(line / 3 * 400));
        let log: Log = Arc::new(Mutex::new(times.zip(lines.iter().cloned()).collect()));
        let words = Running { program: Program::Words, log, ended: Some(0), ports: BTreeMap::new() };
        lock(&self.inner).pods.entry(key(namespace, pod)).or_insert(words);
    }

    pub fn state(&self, namespace: &str, pod: &str) -> State {
        let mut inner = lock(&self.inner);
        let Some(running) = inner.pods.get_mut(&key(namespace, pod)) else { return State::Ended(137) };
        if let Some(code) = running.ended {
            return State::Ended(code);
        }
        match &mut running.program {
            Program::Node { child, metric_port } => match child.try_wait().unwrap() {
                Some(status) => {
                    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                    running.ended = Some(code);
                    State::Ended(code)
                }
                None => {
                    State::Runs { ready: get(*metric_port, "/readyz").is_some_and(|(head, _)| head.contains(" 200 ")) }
                }
            },
            Program::Web { .. } => State::Runs { ready: true },
            Program::Words => State::Ended(0),
        }
    }

    /// Log of a pod, and true if more lines may follow.
    pub fn log(&self, namespace: &str, pod: &str) -> Option<(Log, bool)> {
        let inner = lock(&self.inner);
        let running = inner.pods.get(&key(namespace, pod))?;
        Some((running.log.clone(), running.ended.is_none()))
    }

    /// Port of a pod on the loopback.
    pub fn port(&self, namespace: &str, pod: &str, port: u16) -> Option<u16> {
        lock(&self.inner).pods.get(&key(namespace, pod))?.ports.get(&port).copied()
    }

    pub fn end(&self, namespace: &str, pod: &str) {
        let running = lock(&self.inner).pods.remove(&key(namespace, pod));
        if let Some(running) = running {
            end(running);
        }
    }

    pub fn end_all(&self) {
        let pods = std::mem::take(&mut lock(&self.inner).pods);
        pods.into_values().for_each(end);
    }
}

/// Pods of two namespaces may have the same name.
fn key(namespace: &str, pod: &str) -> String {
    format!("{namespace}/{pod}")
}

fn end(running: Running) {
    match running.program {
        Program::Node { mut child, .. } => {
            let _ = child.kill();
            let _ = child.wait();
        }
        Program::Web { port, over } => {
            // The accepting thread wakes up and ends.
            over.store(true, Ordering::Relaxed);
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        Program::Words => {}
    }
}

/// Environment of a pod's first container.
fn environment(store: &Store, pod: &Value) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let container = &pod["spec"]["containers"][0];
    for source in container["envFrom"].as_array().into_iter().flatten() {
        let name = source["configMapRef"]["name"].as_str().unwrap();
        let map = store.get(namespace, "configmaps", name).unwrap();
        for (key, value) in map["data"].as_object().unwrap() {
            all.insert(key.clone(), value.as_str().unwrap().to_owned());
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap().to_owned();
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("status.podIP") => "127.0.0.1".to_owned(),
            Some(path) => {
                let annotation = path.trim_start_matches("metadata.annotations['").trim_end_matches("']");
                pod["metadata"]["annotations"][annotation].as_str().unwrap().to_owned()
            }
            None if variable["valueFrom"]["secretKeyRef"].is_object() => {
                let key = &variable["valueFrom"]["secretKeyRef"];
                let secret = store.get(namespace, "secrets", key["name"].as_str().unwrap()).unwrap();
                let data = BASE64_STANDARD.decode(secret["data"][key["key"].as_str().unwrap()].as_str().unwrap());
                String::from_utf8(data.unwrap()).unwrap()
            }
            None => variable["value"].as_str().unwrap_or_default().to_owned(),
        };
        all.insert(name, value);
    }
    all
}

/// Starts a real node. Connections between machines of a cluster become connections between ports here; everything else
/// is as in the Job.
fn node(inner: &mut Inner, store: &Store, pod: &Value) -> Running {
    let mut environment = environment(store, pod);
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let config: NodeConfig = read_toml("APOLLO_CONFIG_TEXT", &environment["APOLLO_CONFIG_TEXT"]).unwrap();
    let id: u16 = environment["APOLLO_ID"].parse().unwrap();
    let (count, port) = (u16::try_from(config.scenario.nodes.count).unwrap(), config.metric_port);
    let base = *inner.networks.entry(namespace.into()).or_insert_with(|| free_ports(2 * count));
    let peers = environment["APOLLO_BOOTSTRAP"].split(',').map(|address| {
        let parts: Vec<&str> = address.split('/').collect();
        let host = format!(".nodes.{namespace}.svc.cluster.local");
        // The cluster's DNS knows names of its own domain alone.
        let Some(name) = parts[2].strip_suffix(&host) else { return address.to_owned() };
        let peer: u16 = name.strip_prefix("node-").unwrap().parse().unwrap();
        format!("/ip4/127.0.0.1/{}/{}/{}", parts[3], base + count + peer, parts[5..].join("/"))
    });
    let peers = peers.collect::<Vec<_>>().join(",");
    for (name, value) in [
        ("APOLLO_BOOTSTRAP", peers),
        ("APOLLO_METRIC_PORT", (base + id).to_string()),
        ("APOLLO_P2P_PORT", (base + count + id).to_string()),
        ("APOLLO_PROBE_PORT", (base + id).to_string()),
        ("APOLLO_METRIC_ADDRESS", "127.0.0.1".to_owned()),
        ("APOLLO_WORKER_THREADS", "1".to_owned()),
    ] {
        environment.insert(name.into(), value);
    }
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["command"][0], "apollo-bench");
    let args = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let mut child = Command::new(BENCH)
        .args(args)
        .env_clear()
        .envs(&environment)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Log::default();
    keep(child.stdout.take().unwrap(), &log);
    keep(child.stderr.take().unwrap(), &log);
    let ports = BTreeMap::from([(port, base + id)]);
    Running { program: Program::Node { child, metric_port: base + id }, log, ended: None, ports }
}

fn keep(stream: impl Read + Send + 'static, log: &Log) {
    let log = log.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lock(&log).push((Timestamp::now(), line));
        }
    });
}

fn web(pod: &Value) -> Running {
    let container = &pod["spec"]["containers"][0];
    let name = container["name"].as_str().unwrap().to_owned();
    let inside = u16::try_from(container["ports"][0]["containerPort"].as_u64().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let log: Log = Arc::new(Mutex::new(vec![(Timestamp::now(), format!("{name} is up"))]));
    let over = Arc::new(AtomicBool::new(false));
    let (said, ends) = (name, over.clone());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let _ = stream.read(&mut [0; 4096]);
            let length = said.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{said}");
        }
    });
    let ports = BTreeMap::from([(inside, port)]);
    Running { program: Program::Web { port, over }, log, ended: None, ports }
}
