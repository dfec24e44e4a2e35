//! Result of a run: `summary.json`. The schema is documented in `docs/schema.md`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cause::Cause, clocks::Clocks, drain::DrainSummary, environments::MachineRow, links::Certificate,
    objective_row::ObjectiveRow, processor_use::ProcessorUse, propeller::PropellerRow, quantiles::DelaySummary,
    reach_facts::ReachFacts, simulation_facts::SimulationFacts, sustained::Sustained,
};
use crate::{
    machine::MachineReport,
    node::{NodeState, TrialPlan},
};

/// Version of [`RunSummary`]'s JSON; raised when a field changes its meaning or is removed.
pub const RUN_SCHEMA_VERSION: u32 = 3;

/// Verdict on the measurement, not on the network: a valid run may show a network that loses messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// True if no reason speaks against the run.
    pub valid: bool,
    /// Reasons why the run is invalid.
    pub reasons: Vec<String>,
    /// Warnings that a reader of the numbers needs.
    pub warnings: Vec<String>,
}

/// Counts of a window, over all nodes. Every intended message is sent, dropped or missed; every expected delivery is
/// delivered or lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Length of the window, in seconds.
    pub window_seconds: f64,
    /// Messages that the schedules have in the window, those of killed and silent nodes included.
    pub intended: u64,
    /// Intended messages that were handed to the network.
    pub sent: u64,
    /// Sent messages that were sent after the next one was due.
    pub late: u64,
    /// Intended messages that the senders' own queues dropped before the wire.
    pub dropped: u64,
    /// Intended messages that were neither sent nor dropped: the sender did not reach them in time, or was away.
    pub missed: u64,
    /// Copies for single peers that the senders' own queues dropped, of messages that count as sent.
    pub dropped_copies: u64,
    /// Deliveries that the intended messages should make: one at every node that a message of its class reaches.
    pub expected: u64,
    /// Expected deliveries that arrived, in the window or after it.
    pub delivered: u64,
    /// Expected deliveries that never arrived.
    pub lost: u64,
    /// Delivered divided by expected; none if nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Deliveries after the deadline of their class, and deliveries that never arrived; for the classes that have a
    /// deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_misses: Option<u64>,
    /// Expected deliveries that were missing when the window closed.
    pub backlog_at_end: u64,
    /// Verdict on the load.
    pub sustained: Sustained,
    /// Arrivals beyond the first of a message at a node.
    pub duplicates: u64,
    /// First arrivals after a later message of the same sender.
    pub reordered: u64,
    /// Arrivals too late to be distinguished from duplicates.
    pub undecided: u64,
    /// Negative delays, which are counted as 0.
    pub negative_delays: u64,
    /// Messages sent per second.
    pub sent_per_second: f64,
    /// Bytes of messages sent per second.
    pub sent_bytes_per_second: f64,
    /// Offered bytes of messages per second, over all receivers; messages of random size count with their mean.
    pub offered_bytes_per_second: Option<f64>,
    /// First copies, of any message, that arrived while the window was open, over all receivers.
    pub delivered_in_window: u64,
    /// Bytes of these copies per second.
    pub delivered_bytes_per_second: f64,
    /// Time from the intended send time to the arrival; an expected delivery that never arrived is later than all
    /// others.
    pub delay: DelaySummary,
    /// Time from the real send time to the arrival, with the same rule for missing deliveries.
    pub network_delay: DelaySummary,
    /// Time from the intended to the real send time; a message that was never sent is later than all others.
    pub send_lag: DelaySummary,
    /// Processor time of all nodes during the window, in seconds; unknown in a simulation.
    pub cpu_seconds: Option<f64>,
    /// Processor time per million deliveries in the window, in seconds.
    pub cpu_seconds_per_million_deliveries: Option<f64>,
    /// Bytes written to all TCP sockets of the network while the window was open, per byte of messages that arrived in
    /// that time; none over QUIC.
    pub socket_bytes_per_delivered_byte: Option<f64>,
    /// Copies of gossipsub messages that arrived while the window was open, per delivery over gossipsub in that time: 1
    /// without duplicates; none without gossipsub.
    #[serde(default)]
    pub gossip_copies_per_delivery: Option<f64>,
    /// Time until nodes with a third of the weight had a message, over the messages of the sample; the sender has it
    /// from its intended send time on. None if arrivals were not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach_1_3: Option<DelaySummary>,
    /// Time until nodes with two thirds of the weight had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach_2_3: Option<DelaySummary>,
    /// Time until all of the weight had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach_all: Option<DelaySummary>,
    /// Facts about the messages of the sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<ReachFacts>,
}

/// Counts of one traffic class in the measured window, over all nodes. Every intended message is sent, dropped or
/// missed; every expected delivery is delivered or lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassRow {
    /// Name of the class.
    pub name: String,
    /// Protocol of the class; none if the network has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Class that it answers; none for a class with a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Time within which a message has to arrive, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_millis: Option<u64>,
    /// Messages that the schedules have in the window, those of killed and silent nodes included. For a class of
    /// answers, the answers that the nodes counted themselves: answers that a node owed when it was killed are unknown.
    pub intended: u64,
    /// Intended messages that were handed to the network.
    pub sent: u64,
    /// Sent messages that were sent after the next one was due; 0 for answers.
    pub late: u64,
    /// Intended messages that the senders' own queues dropped before the wire.
    pub dropped: u64,
    /// Intended messages that were neither sent nor dropped.
    pub missed: u64,
    /// Copies for single peers that the senders' own queues dropped, of messages that count as sent.
    pub dropped_copies: u64,
    /// Deliveries that the intended messages should make.
    pub expected: u64,
    /// Expected deliveries that arrived, in the window or after it.
    pub delivered: u64,
    /// Expected deliveries that never arrived.
    pub lost: u64,
    /// Delivered divided by expected; none if nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Deliveries after the deadline, and deliveries that never arrived; none without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_misses: Option<u64>,
    /// Expected deliveries that were missing when the window closed.
    pub backlog_at_end: u64,
    /// Verdict on the load of this class.
    pub sustained: Sustained,
    /// Arrivals beyond the first of a message at a node.
    pub duplicates: u64,
    /// First arrivals after a later message of the same sender.
    pub reordered: u64,
    /// Arrivals too late to be distinguished from duplicates.
    pub undecided: u64,
    /// Negative delays, which are counted as 0.
    pub negative_delays: u64,
    /// Bytes of messages sent per second.
    pub sent_bytes_per_second: f64,
    /// Offered bytes of messages per second, over all receivers; messages of random size count with their mean.
    pub offered_bytes_per_second: Option<f64>,
    /// First copies that arrived while the window was open, over all receivers.
    pub delivered_in_window: u64,
    /// Bytes of these copies per second.
    pub delivered_bytes_per_second: f64,
    /// Time from the intended send time to the arrival; an expected delivery that never arrived is later than all
    /// others.
    pub delay: DelaySummary,
    /// Time from the real send time to the arrival, with the same rule for missing deliveries.
    pub network_delay: DelaySummary,
    /// Time from the intended to the real send time; a message that was never sent is later than all others.
    pub send_lag: DelaySummary,
    /// Time until nodes with a third of the weight had a message of the class, over the messages of the sample; the
    /// sender has it from its intended send time on. None if arrivals were not recorded, and for unicast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach_1_3: Option<DelaySummary>,
    /// Time until nodes with two thirds of the weight had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach_2_3: Option<DelaySummary>,
    /// Time until all of the weight had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach_all: Option<DelaySummary>,
    /// For a class of answers: time from the intended send time of a message until the answers of two thirds of the
    /// weight were at two thirds of the weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<DelaySummary>,
    /// Facts about the messages of the sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<ReachFacts>,
    /// Phases of the measured window; empty if it was not cut into phases, and if the run has one class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseRow>,
}

/// Row of one node in the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRow {
    /// Node id.
    pub node: u64,
    /// Phase in its last report.
    pub phase: NodeState,
    /// Messages that its schedule has in the window.
    pub intended: u64,
    /// Messages that it sent.
    pub sent: u64,
    /// Messages that it sent after the next one was due.
    pub late: u64,
    /// Messages that its own queues dropped before the wire.
    pub dropped: u64,
    /// Messages that it neither sent nor dropped.
    pub missed: u64,
    /// Deliveries that it should have received.
    pub expected: u64,
    /// Deliveries that it received.
    pub received: u64,
    /// Arrivals beyond the first.
    pub duplicates: u64,
    /// Delay of the deliveries that arrived.
    pub delay: DelaySummary,
    /// Send lag of its messages.
    pub send_lag: DelaySummary,
    /// Bytes that it wrote to TCP sockets of the network while the window was open; none over QUIC.
    #[serde(default)]
    pub socket_bytes_sent: Option<u64>,
    /// Bytes that it read from them.
    #[serde(default)]
    pub socket_bytes_received: Option<u64>,
    /// Processor time during the window, in seconds; unknown in a simulation.
    pub cpu_seconds: Option<f64>,
    /// Highest resident memory since its start, in bytes; unknown in a simulation.
    pub peak_memory_bytes: Option<u64>,
    /// Connected peers in its last report.
    pub connected_peers: usize,
    /// Messages or copies that were not sent, by reason; of the whole run.
    pub drop_reasons: BTreeMap<String, u64>,
}

/// Result of a trial of explore mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialRow {
    /// Number, from 0.
    pub trial: u32,
    /// Load of the trial.
    pub plan: TrialPlan,
    /// True if every node's rebuilt network was ready when the window opened.
    pub ready: bool,
    /// Reasons why the trial is invalid, by node; empty for a valid trial.
    pub problems: Vec<String>,
    /// Counts of the trial.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Highest sustained load of one message size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrontierRow {
    /// Number of the trial.
    pub trial: u32,
    /// Load of the trial.
    pub plan: TrialPlan,
    /// Bytes of messages that the broadcaster offered per second.
    pub throughput_bytes_per_second: f64,
    /// 99th percentile of the delay, in microseconds.
    pub p99_micros: Option<u64>,
}

/// Deliveries between the nodes of one group, or of different groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deliveries {
    /// Deliveries that the intended messages should make.
    pub expected: u64,
    /// Expected deliveries that arrived.
    pub delivered: u64,
    /// Deliveries after the end of the phase.
    pub delivered_after_end: u64,
    /// Expected deliveries that never arrived.
    pub lost: u64,
}

/// Deliveries of a phase in which the network was cut into groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupDeliveries {
    /// Deliveries between nodes of the same group.
    pub within: Deliveries,
    /// Deliveries between nodes of different groups.
    pub across: Deliveries,
}

/// Result of one phase of the measured window, over all nodes. A message belongs to the phase of its intended send
/// time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRow {
    /// Number, from 0.
    pub number: usize,
    /// Start, in seconds after the window's opening.
    pub from_seconds: f64,
    /// End, in seconds after the window's opening.
    pub to_seconds: f64,
    /// Events at its start.
    pub events: Vec<String>,
    /// Messages that the schedules have in the phase.
    pub intended: u64,
    /// Intended messages that were handed to the network.
    pub sent: u64,
    /// Intended messages that the senders' own queues dropped before the wire.
    pub dropped: u64,
    /// Intended messages that were neither sent nor dropped.
    pub missed: u64,
    /// Deliveries that the intended messages should make: one at every node that a message of its class reaches, absent
    /// nodes included.
    pub expected: u64,
    /// Expected deliveries that arrived, at any time.
    pub delivered: u64,
    /// Delivered divided by expected; none if nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Deliveries after the end of the phase.
    pub delivered_after_end: u64,
    /// Expected deliveries that never arrived.
    pub lost: u64,
    /// Time from the intended send time to the arrival; an expected delivery that never arrived is later than all
    /// others.
    pub delay: DelaySummary,
    /// Deliveries within and across groups; none if the network was not cut.
    pub groups: Option<GroupDeliveries>,
}

/// A fault of the schedule, and its effect. Times are seconds after the opening of the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultRow {
    /// Text of the fault, as it was given.
    pub fault: String,
    /// Planned time.
    pub planned_seconds: f64,
    /// Time at which the runner began with it; none if it never began.
    pub began_seconds: Option<f64>,
    /// Time at which it was done.
    pub done_seconds: Option<f64>,
    /// Observed effect.
    pub seen: Option<String>,
}

/// Requested workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadSummary {
    /// Name of the scenario; none for a run that only flags describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Number of nodes.
    pub num_nodes: u64,
    /// `all`, `one`, `rr` or `explore`.
    pub mode: String,
    /// `gossipsub`, `sqmr`, `reversed-sqmr` or `propeller`; several, separated by commas, for several classes.
    pub network_protocol: String,
    /// `tcp` or `quic`.
    pub transport: String,
    /// Size of a whole message, in bytes; none in explore mode, for several classes and for several sizes.
    pub message_size_bytes: Option<usize>,
    /// Interval between messages, in milliseconds; none in explore mode and for several classes.
    pub heartbeat_millis: Option<u64>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// [`RUN_SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Version of that program.
    pub version: String,
    /// Requested workload.
    pub workload: WorkloadSummary,
    /// Verdict on the measurement.
    pub verdict: Verdict,
    /// Model of a run in virtual time; none for a run on machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<SimulationFacts>,
    /// Seconds from the first process to the last node ready; none if some node was never ready.
    pub ready_seconds: Option<f64>,
    /// Configured and measured shapes of the links; none if no link was shaped.
    #[serde(default)]
    pub links: Option<Certificate>,
    /// Machines of the nodes, each with its nodes; one row for all of them if they are equal.
    #[serde(default)]
    pub machines: Vec<MachineRow>,
    /// Differences of the clocks, if the nodes ran on other hosts.
    #[serde(default)]
    pub clocks: Option<Clocks>,
    /// Faults during the measurement, by time.
    #[serde(default)]
    pub faults: Vec<FaultRow>,
    /// Wait for late messages after the window; none if the run did not reach it, and in explore mode.
    #[serde(default)]
    pub drain: Option<DrainSummary>,
    /// Measured window; none in explore mode, whose trials have counts of their own.
    pub totals: Option<Totals>,
    /// Counts of propeller; none without it, and in explore mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propeller: Option<PropellerRow>,
    /// Traffic classes, by class number; none in explore mode.
    #[serde(default)]
    pub classes: Vec<ClassRow>,
    /// Use of the processors of each machine.
    #[serde(default)]
    pub processor_use: Vec<ProcessorUse>,
    /// Objectives of the run, and whether it met them.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRow>,
    /// Causes of lost and of the slowest deliveries, by class; empty if arrivals were not recorded.
    #[serde(default)]
    pub causes: Vec<Cause>,
    /// Counters of gossipsub's own metrics, over all nodes; empty unless they are on.
    #[serde(default)]
    pub gossipsub: BTreeMap<String, u64>,
    /// Sum over the nodes of the highest resident memory of each, in bytes; unknown in a simulation.
    pub peak_memory_bytes: Option<u64>,
    /// Processor time of the runner itself from the start of the window to its end, in percent of one core.
    pub runner_cpu_percent: Option<f64>,
    /// The runner's machine as the runner saw it.
    #[serde(default)]
    pub runner: Option<MachineReport>,
    /// Profiles of the nodes, in the run folder.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Every node that reported.
    pub nodes: Vec<NodeRow>,
    /// Phases of the measured window, in their order; empty if it was not cut into phases.
    #[serde(default)]
    pub phases: Vec<PhaseRow>,
    /// Trials of explore mode, in their order.
    pub trials: Vec<TrialRow>,
    /// Valid trial with the highest sustained throughput of each message size, by size.
    #[serde(default)]
    pub frontier: Vec<FrontierRow>,
    /// Number of the trial of the frontier with the highest throughput and, among equal ones, the lowest p99; none if
    /// the frontier is empty.
    #[serde(default)]
    pub best_trial: Option<u32>,
    /// Broadcasts, or copies for one peer, that were not sent, by reason; of the whole run.
    pub dropped: BTreeMap<String, u64>,
    /// Arrivals that were not counted, by reason; of the whole run.
    pub malformed: BTreeMap<String, u64>,
    /// Events of the network, by type, up to the end of the drain; of the whole run.
    pub events: BTreeMap<String, u64>,
}

impl RunSummary {
    /// True if others disturbed the run on any of its machines: other programs, the hypervisor, or a quota.
    pub fn is_disturbed(&self) -> bool {
        self.processor_use.iter().any(ProcessorUse::is_disturbed)
    }
}
