//! What was run, on what, by which program: enough to do it again.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    backend::Backend,
    observe::{Addresses, Observation},
    plan::Plan,
};
use crate::node::NodeArgs;

/// Version of the manifest's JSON.
const MANIFEST_SCHEMA_VERSION: u32 = 1;

/// `manifest.json`.
#[derive(Serialize)]
pub(super) struct Manifest<'a> {
    schema_version: u32,
    version: &'static str,
    /// Revision of the sources, where the build knew it.
    revision: Option<&'static str>,
    started: String,
    command_line: Vec<String>,
    backend: Backend,
    /// What the containers were made of, for the backend docker.
    image: Option<&'a super::docker::Image>,
    arguments: &'a super::arguments::LocalArgs,
    nodes: &'a [NodeArgs],
    host: Host,
    /// Addresses of Prometheus and Grafana while the run goes.
    observe: Option<Addresses>,
}

#[derive(Serialize)]
struct Host {
    name: Option<String>,
    kernel: Option<String>,
    processors: usize,
    processor: Option<String>,
    memory_bytes: Option<u64>,
}

impl<'a> Manifest<'a> {
    /// The manifest of a plan that starts now.
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self {
            schema_version: MANIFEST_SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("APOLLO_BENCH_REVISION"),
            started: Timestamp::now().to_string(),
            command_line: std::env::args().collect(),
            backend: plan.args.backend,
            image: plan.docker.as_ref().map(|docker| docker.image()),
            arguments: &plan.args,
            nodes: &plan.nodes,
            host: host(),
            observe: plan.observation.as_ref().map(Observation::addresses),
        }
    }
}

fn host() -> Host {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let trimmed = |path: &str| read(path).map(|text| text.trim().to_owned());
    let after = |path: &str, key: &str| {
        let line = read(path)?.lines().find(|line| line.starts_with(key))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = after("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024);
    Host {
        name: trimmed("/proc/sys/kernel/hostname"),
        kernel: trimmed("/proc/sys/kernel/osrelease"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        processor: after("/proc/cpuinfo", "model name"),
        memory_bytes: memory,
    }
}
