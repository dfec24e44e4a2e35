//! Stages of a run over a deployment with simulated nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    ManifestFacts, Plan,
    plan::{LinkProbe, Timing},
    run,
};
use crate::{
    clock::unix_nanos,
    deploy::{Capabilities, Deployment, StartError, netns},
    metrics::usage,
    monitoring::Observers,
    node::{NODE_SCHEMA_VERSION, StartOrder, WindowSummary, Workload},
    report::{RunFolder, RunSummary, Tolerance},
    scenario::{FaultSchedule, LinkPlan, Scenario, Shape},
    shaping::{InterfacePlan, QdiscCounters},
};

const NODES: u64 = 2;

/// Events of the nodes, in order, and their answers.
#[derive(Default)]
struct Story {
    events: Vec<String>,
    /// Nodes that have ended.
    dead: BTreeSet<u64>,
    /// Starts that the nodes received.
    starts: BTreeMap<u64, StartOrder>,
    /// Nodes that refuse their start.
    refuses: BTreeSet<u64>,
    /// Error line of a node that dies after the window has opened.
    dies: Option<String>,
    /// True if the deployment rejects summaries as foreign.
    rejects: bool,
    /// Lines of nodes that do not end in order.
    bad_ends: Vec<String>,
}

type Shared = Arc<Mutex<Story>>;

fn story(shared: &Shared) -> MutexGuard<'_, Story> {
    shared.lock().unwrap()
}

/// Simulated nodes.
struct Played(Shared);

impl Played {
    fn note(&self, event: String) {
        story(&self.0).events.push(event);
    }
}

#[async_trait(?Send)]
impl Deployment for Played {
    fn capabilities(&self) -> Capabilities {
        netns::CAPABILITIES
    }

    fn died(&mut self) -> Option<String> {
        let story = story(&self.0);
        let open = story.starts.values().any(|start| unix_nanos() > start.from_unix_nanos() + 100_000_000);
        story.dies.clone().filter(|_| open)
    }

    fn rejection_reason(&self, summary: &crate::node::NodeSummary, _: Option<&StartOrder>) -> Option<String> {
        story(&self.0).rejects.then(|| format!("node {} is another one", summary.node))
    }

    fn log_tail(&self, _: u64) -> String {
        String::new()
    }

    async fn stop(&mut self) -> Vec<String> {
        self.note("stop".into());
        story(&self.0).bad_ends.clone()
    }

    async fn kill(&mut self, id: u64) -> Result<(), String> {
        self.note(format!("kill {id}"));
        story(&self.0).dead.insert(id);
        Ok(())
    }

    async fn restart(&mut self, id: u64) -> Result<(), String> {
        self.note(format!("restart {id}"));
        story(&self.0).dead.remove(&id);
        Ok(())
    }

    async fn pause(&mut self, id: u64) -> Result<(), String> {
        Err(format!("node {id} can't be paused"))
    }

    async fn resume(&mut self, _: u64) -> Result<(), String> {
        Ok(())
    }

    async fn counters(&self, _: u64) -> Result<Vec<QdiscCounters>, String> {
        Ok(vec![])
    }

    async fn change(&self, _: u64, _: &InterfacePlan, _: &InterfacePlan) -> Result<(), String> {
        Ok(())
    }
}

fn summary(id: u64, story: &Story) -> Value {
    let start = story.starts.get(&id);
    let over = start.and_then(StartOrder::to_unix_nanos).is_some_and(|end| unix_nanos() >= end);
    json!({
        "schema_version": NODE_SCHEMA_VERSION,
        "version": "played",
        "node": id,
        "peer_id": id.to_string(),
        "process": 1,
        "configuration": {},
        "phase": if over { "draining" } else { "measuring" },
        "readiness": { "expected_peers": 1, "connected_peers": 1, "expected_links": 1, "links": 1 },
        "counted_unix_nanos": unix_nanos(),
        "pending_work": { "queued": 0, "socket_bytes": 0 },
        "start": start,
        "measured": WindowSummary::default(),
        "outside": WindowSummary::default(),
        "pending": 0,
        "senders": [],
        "trials": [],
        "window_usage": null,
        "usage": usage(),
        "dropped": {},
        "malformed": {},
        "events": {},
    })
}

type Node = State<(u64, Shared)>;

/// Serves the HTTP endpoint of a node; returns its address.
async fn serve(id: u64, shared: Shared) -> String {
    let gone = |id: u64, story: &Story| story.dead.contains(&id).then_some(StatusCode::SERVICE_UNAVAILABLE);
    let ready = move |State((id, shared)): Node| async move {
        let ready = json!({ "expected_peers": 1, "connected_peers": 1, "expected_links": 1, "links": 1 });
        gone(id, &story(&shared)).map_or(Ok(Json(ready)), Err)
    };
    let counts = move |State((id, shared)): Node| async move {
        let story = story(&shared);
        gone(id, &story).map_or_else(|| Ok(Json(summary(id, &story))), Err)
    };
    let start = move |State((id, shared)): Node, Json(order): Json<StartOrder>| async move {
        let mut story = story(&shared);
        if story.refuses.contains(&id) {
            return StatusCode::CONFLICT;
        }
        if order.rejoining {
            story.events.push(format!("rejoin {id}"));
        }
        story.starts.insert(id, order);
        StatusCode::OK
    };
    let router = Router::new()
        .route("/readyz", get(ready))
        .route("/summary", get(counts))
        .route("/start", post(start))
        .route("/clock", get(async || "{}"))
        .with_state((id, shared));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Runs a window of a second with these faults over simulated nodes.
async fn played(shared: &Shared, faults: &[&str]) -> RunSummary {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = Scenario::default();
    scenario.nodes.count = NODES;
    let scenario = scenario.resolve().unwrap();
    let workload = Workload::of(&scenario).unwrap();
    let faults: Vec<_> = faults.iter().map(|text| text.parse().unwrap()).collect();
    let window = Duration::from_secs(1);
    let mut endpoints = BTreeMap::new();
    for id in 0..NODES {
        endpoints.insert(id, serve(id, shared.clone()).await);
    }
    let second = Duration::from_secs(1);
    let (links, folder) = (LinkPlan::uniform(Shape::default()), RunFolder::create(Some(folder.path())).unwrap());
    let manifest = ManifestFacts { backend: "played".into(), image: None, arguments: Value::Null, remote: None };
    let plan = Plan {
        window: Some(window),
        timing: Timing { warm_up: Duration::ZERO, drain: second, drain_quiet: second, ready: 2 * second, hang: second },
        link_probe: LinkProbe {
            seconds: 1,
            tolerance: Tolerance {
                latency_percent: 2.0,
                latency_millis: 1.0,
                throughput_percent: 5.0,
                message_percent: 5.0,
            },
        },
        faults: FaultSchedule::new(&faults, NODES, 0, Some(window)).unwrap(),
        endpoints,
        ..Plan::new(scenario, workload, links, vec![], folder, manifest)
    };
    let nodes = Played(shared.clone());
    let launch = async { Ok::<Box<dyn Deployment>, StartError>(Box::new(nodes)) };
    let run = run(&plan, launch, &mut Observers::default(), None).await.unwrap();
    assert!(plan.folder.summary().is_file() && plan.folder.manifest().is_file());
    run
}

fn events(shared: &Shared) -> Vec<String> {
    story(shared).events.clone()
}

fn reasons(run: &RunSummary) -> String {
    assert!(!run.verdict.valid);
    run.verdict.reasons.join("; ")
}

#[tokio::test]
async fn nodes_get_one_start_and_are_stopped_at_the_end() {
    let shared = Shared::default();
    played(&shared, &[]).await;
    assert_eq!(events(&shared), ["stop"]);
    let starts = story(&shared).starts.clone();
    assert_eq!(starts[&0], starts[&1]);
    assert_eq!(starts[&0].measure_millis, Some(1000));
}

#[tokio::test]
async fn a_node_that_dies_ends_the_run_with_its_obituary() {
    let shared = Shared::default();
    story(&shared).dies = Some("node 1 ended with exit code 3".into());
    let run = played(&shared, &[]).await;
    assert!(reasons(&run).contains("node 1 ended with exit code 3"), "{}", reasons(&run));
    assert_eq!(events(&shared), ["stop"]);
}

#[tokio::test]
async fn faults_reach_the_deployment_in_their_order_and_a_restarted_node_gets_its_start_again() {
    let shared = Shared::default();
    let run = played(&shared, &["200ms kill 1", "400ms restart 1"]).await;
    assert_eq!(events(&shared), ["kill 1", "restart 1", "rejoin 1", "stop"]);
    let seen: Vec<_> = run.faults.iter().map(|row| row.seen.clone().unwrap_or_default()).collect();
    assert!(seen[0].starts_with("ended by SIGKILL") && seen[1].starts_with("answers again"), "{seen:?}");
    assert!(run.faults.iter().all(|row| row.done_seconds.is_some()));
}

#[tokio::test]
async fn a_fault_that_the_deployment_does_not_do_makes_the_run_invalid() {
    let shared = Shared::default();
    let run = played(&shared, &["200ms pause 0"]).await;
    assert!(reasons(&run).contains("the fault '200ms pause 0' failed: node 0 can't be paused"), "{}", reasons(&run));
    assert_eq!(events(&shared), ["stop"]);
}

#[tokio::test]
async fn a_start_that_is_refused_and_a_summary_that_is_rejected_end_the_run() {
    let shared = Shared::default();
    story(&shared).refuses.insert(1);
    let run = played(&shared, &[]).await;
    assert!(reasons(&run).contains("node 1 refuses the start"), "{}", reasons(&run));

    let shared = Shared::default();
    story(&shared).rejects = true;
    let run = played(&shared, &[]).await;
    assert!(reasons(&run).contains("node 0 is another one"), "{}", reasons(&run));
    assert!(run.nodes.is_empty(), "what is not of this run is not counted");
}

#[tokio::test]
async fn a_node_that_does_not_end_in_order_is_named() {
    let shared = Shared::default();
    story(&shared).bad_ends.push("node 0 ended with signal 9".into());
    let run = played(&shared, &[]).await;
    assert!(reasons(&run).contains("node 0 ended with signal 9"), "{}", reasons(&run));
}
