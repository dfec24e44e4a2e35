//! Observations of the runner: all that the result holds beside the counts of the nodes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    clocks::Clocks,
    drain::DrainSummary,
    links::Certificate,
    phases::PhaseInput,
    summary::{FaultRow, Verdict, WorkloadSummary},
};
use crate::{machine::MachineReport, node::TrafficPlan};

/// `observations.json`: with the summaries of the nodes it makes the result again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// The workload.
    pub workload: WorkloadSummary,
    /// The broadcaster of a run of trials; none for a steady workload.
    pub explore_broadcaster: Option<u64>,
    /// The schedule of a steady workload and its window, once the start was given.
    pub window: Option<PlannedWindow>,
    /// When the runner stopped to look, in nanoseconds since the Unix epoch; none if the start was never given.
    pub ended_unix_nanos: Option<u64>,
    /// Nodes that were killed, restarted or not: of their last messages only the receivers know.
    pub killed: BTreeSet<u64>,
    /// The phases of the measured window, in their order; none if it was not cut into phases.
    pub phases: Vec<PhaseInput>,
    /// Seconds from the first process to the last node ready; none if that never was.
    pub ready_seconds: Option<f64>,
    /// How the wait for late messages went; none if the run did not come to its end.
    pub drain: Option<DrainSummary>,
    /// What the links were asked to be, and what they were measured to be; none where none was shaped.
    pub links: Option<Certificate>,
    /// Distances of the clocks, where the nodes ran elsewhere.
    pub clocks: Option<Clocks>,
    /// What was done to the network, by time.
    pub faults: Vec<FaultRow>,
    /// Processor time of the runner inside the window, in percent of one core.
    pub runner_cpu_percent: Option<f64>,
    /// The machine as the runner saw it.
    pub runner: Option<MachineReport>,
    /// Profiles of the nodes, in the folder of the run.
    pub profiles: Vec<String>,
    /// Reasons and warnings of the runner.
    pub verdict: Verdict,
}

/// The traffic of a run, and the part of it that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedWindow {
    /// The traffic of all nodes.
    pub plan: TrafficPlan,
    /// Opening of the measured window, in nanoseconds since the Unix epoch.
    pub from_unix_nanos: u64,
    /// Its end.
    pub to_unix_nanos: u64,
}
