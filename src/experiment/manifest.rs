//! Manifest: the experiment, the machine and the program, sufficient to repeat the run.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::plan::Plan;
use crate::{
    clock::timestamp,
    environment::{Environment, congestion_controls, memory_bytes},
    monitoring::{Addresses, Monitoring},
    node::{NodeConfig, SendPlan},
    scenario::Scenario,
};

/// Version of the manifest's JSON.
const MANIFEST_SCHEMA_VERSION: u32 = 1;

/// `manifest.json`.
#[derive(Serialize)]
pub(crate) struct Manifest<'a> {
    schema_version: u32,
    version: &'static str,
    /// Revision of the sources, if the build knew it.
    revision: Option<&'static str>,
    started: String,
    command_line: Vec<String>,
    backend: &'a str,
    /// Image of the containers, for the backend docker.
    image: Option<&'a Value>,
    arguments: &'a Value,
    /// The resolved scenario, as in scenario.toml.
    scenario: &'a Scenario,
    nodes: Nodes<'a>,
    /// Offset of each node's schedule within the heartbeat, in nanoseconds, by id; empty in mode explore.
    send_offsets_nanos: BTreeMap<u64, u64>,
    /// Endpoints of remote nodes, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<&'a BTreeMap<u64, String>>,
    host: Host,
    /// Addresses of Prometheus and Grafana during the run.
    observe: Option<Addresses>,
    /// Further facts about remote nodes.
    #[serde(flatten)]
    more: Option<&'a Map<String, Value>>,
}

/// Arguments of the nodes, or the configurations that they reported.
#[derive(Serialize)]
#[serde(untagged)]
enum Nodes<'a> {
    Given(&'a [NodeConfig]),
    Reported(&'a [Value]),
}

#[derive(Serialize)]
struct Host {
    name: Option<String>,
    memory_bytes: Option<u64>,
    /// Environment of the runner, whose cgroup its nodes on this host share, except those in containers.
    #[serde(flatten)]
    environment: Environment,
    congestion_controls: Vec<String>,
}

impl<'a> Manifest<'a> {
    /// Manifest of a plan that starts now.
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let facts = &plan.manifest;
        let remote = facts.remote.as_ref();
        Self {
            schema_version: MANIFEST_SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("APOLLO_BENCH_REVISION"),
            started: timestamp().to_string(),
            command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            backend: &facts.backend,
            image: facts.image.as_ref(),
            arguments: &facts.arguments,
            scenario: &plan.scenario,
            nodes: remote.map_or(Nodes::Given(&plan.nodes), |remote| Nodes::Reported(&remote.configurations)),
            send_offsets_nanos: send_offsets(plan),
            endpoints: remote.map(|_| &plan.endpoints),
            host: host(),
            observe: plan.monitoring.as_ref().map(Monitoring::addresses),
            more: remote.map(|remote| &remote.more),
        }
    }
}

fn send_offsets(plan: &Plan) -> BTreeMap<u64, u64> {
    let traffic = plan.workload.traffic_plan(0, None, true);
    let schedule = traffic.as_ref().and_then(|traffic| traffic.class(0)?.schedule());
    let offsets = |schedule: &SendPlan| (0..schedule.num_nodes).map(|id| (id, schedule.offset_nanos(id))).collect();
    schedule.map(offsets).unwrap_or_default()
}

fn host() -> Host {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let trimmed = |path: &str| read(path).map(|text| text.trim().to_owned());
    Host {
        name: trimmed("/proc/sys/kernel/hostname"),
        memory_bytes: memory_bytes(),
        environment: Environment::of_this_process(),
        congestion_controls: congestion_controls(),
    }
}
