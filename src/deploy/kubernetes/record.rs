//! What a cluster keeps of a run, so that any machine can go on with it.

use serde::{Deserialize, Serialize};

use crate::{report::WorkloadSummary, scenario::Scenario};

/// Version of the record's JSON.
pub const RUN_SCHEMA_VERSION: u32 = 2;

/// `run.json` of the ConfigMap `run`: what has to be known to start, watch, collect and end the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the program that made it.
    pub version: String,
    /// Name of the run.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Number of the run, which its nodes know.
    pub run_id: u64,
    /// What the nodes send, and how many they are.
    pub workload: WorkloadSummary,
    /// Image of the nodes.
    pub image: String,
    /// Port of each node for HTTP.
    pub metric_port: u16,
    /// Port of each node for its peers.
    pub p2p_port: u16,
    /// Port of each node at which it answers measurements of its links, over UDP.
    pub probe_port: u16,
    /// Trials of mode explore; 0 in the others.
    pub trials: usize,
    /// From its start the run lasts at most for so long: warm-up, window and drain, or all trials.
    pub longest_seconds: u64,
    /// How long the nodes wait to be collected.
    #[serde(alias = "collect_within_seconds")]
    pub retain_seconds: u64,
    /// The resolved scenario.
    pub scenario: Scenario,
    /// From its creation the Job lives at most for so long.
    pub deadline_seconds: u64,
}
