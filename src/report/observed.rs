//! Observations of the runner: the facts in the result that do not come from the nodes' counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    clocks::Clocks,
    drain::DrainSummary,
    links::Certificate,
    simulation_facts::SimulationFacts,
    summary::{FaultRow, Verdict, WorkloadSummary},
};
use crate::{machine::MachineReport, node::TrafficPlan, scenario::Objective};

/// Content of `observations.json`, which gives the result again together with the summaries of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// Workload.
    pub workload: WorkloadSummary,
    /// Broadcaster of a run of trials; none for a steady workload.
    pub explore_broadcaster: Option<u64>,
    /// Schedule and window of a steady workload, once the start was sent.
    pub window: Option<PlannedWindow>,
    /// Weight and region of each node, by node id; empty if all nodes are alike.
    #[serde(default)]
    pub places: Vec<Place>,
    /// Time at which the runner stopped observing, in nanoseconds since the Unix epoch; none if the start was never
    /// sent.
    pub ended_unix_nanos: Option<u64>,
    /// Nodes that were killed, restarted or not: only the receivers know their last messages.
    pub killed: BTreeSet<u64>,
    /// Phases of the measured window, in their order; empty if it was not cut into phases.
    pub phases: Vec<PhaseInput>,
    /// Seconds from the first process to the last node ready; none if some node was never ready.
    pub ready_seconds: Option<f64>,
    /// Wait for late messages; none if the run did not reach its end.
    pub drain: Option<DrainSummary>,
    /// Configured and measured shapes of the links; none if no link was shaped.
    pub links: Option<Certificate>,
    /// Differences of the clocks, if the nodes ran on other hosts.
    pub clocks: Option<Clocks>,
    /// Faults of the run, by time.
    pub faults: Vec<FaultRow>,
    /// Processor time of the runner during the window, in percent of one core.
    pub runner_cpu_percent: Option<f64>,
    /// Machine as the runner saw it.
    pub runner: Option<MachineReport>,
    /// Profiles of the nodes, in the run folder.
    pub profiles: Vec<String>,
    /// Objectives of the run.
    #[serde(default)]
    pub objectives: Vec<Objective>,
    /// Model of a run in virtual time; none for a run on machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<SimulationFacts>,
    /// Reasons and warnings of the runner.
    pub verdict: Verdict,
}

/// Place of a node in the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Weight, such as its stake.
    pub weight: f64,
    /// Region of the links' matrix.
    pub region: Option<String>,
}

/// Traffic of a run, and the part of it that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedWindow {
    /// Traffic of all nodes.
    pub plan: TrafficPlan,
    /// Opening of the measured window, in nanoseconds since the Unix epoch.
    pub from_unix_nanos: u64,
    /// End of the measured window, in nanoseconds since the Unix epoch.
    pub to_unix_nanos: u64,
}

/// Facts about a phase that the runner knows and the nodes don't.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseInput {
    /// Events at its start.
    pub events: Vec<String>,
    /// Groups that the network was cut into, by node id; none while it was whole. Nodes in none of the groups form one
    /// more group together.
    pub groups: Option<Vec<Vec<u64>>>,
}
