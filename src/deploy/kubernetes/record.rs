//! Record of a run in a cluster, with which any machine can continue it.

use serde::{Deserialize, Serialize};

use crate::{report::WorkloadSummary, scenario::Scenario};

/// Version of the record's JSON.
pub const RUN_SCHEMA_VERSION: u32 = 2;

/// `run.json` of the ConfigMap `run`: the facts that are needed to start, watch, collect and end the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the program that created it.
    pub version: String,
    /// Name of the run.
    pub name: String,
    /// Namespace of the run.
    pub namespace: String,
    /// Number of the run, which its nodes know.
    pub run_id: u64,
    /// Workload and number of the nodes.
    pub workload: WorkloadSummary,
    /// Image of the nodes.
    pub image: String,
    /// Port of each node for HTTP.
    pub metric_port: u16,
    /// Port of each node for its peers.
    pub p2p_port: u16,
    /// UDP port at which each node answers measurements of its links.
    pub probe_port: u16,
    /// Trials of mode explore; 0 in the other modes.
    pub trials: usize,
    /// Maximum duration of the run after its start: warm-up, window and drain, or all trials.
    pub longest_seconds: u64,
    /// Time for which the nodes wait to be collected.
    #[serde(alias = "collect_within_seconds")]
    pub retain_seconds: u64,
    /// The resolved scenario.
    pub scenario: Scenario,
    /// True if Prometheus and Grafana are beside the nodes.
    #[serde(default = "with_monitoring")]
    pub monitoring: bool,
    /// Maximum lifetime of the Job after its creation.
    pub deadline_seconds: u64,
}

/// Records without the field are of runs that always had both.
fn with_monitoring() -> bool {
    true
}
