//! The result of a run: `summary.json`. The schema is documented in `docs/schema.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    clocks::Clocks,
    drain::DrainSummary,
    environments::MachineRow,
    links::Certificate,
    quantiles::DelaySummary,
    sustained::{FrontierRow, Sustained},
};
use crate::{
    machine::MachineReport,
    node::{NodeState, TrialPlan},
};

/// Version of [`RunSummary`]'s JSON; raised when a field changes its meaning or goes.
pub const RUN_SCHEMA_VERSION: u32 = 3;

/// Whether the run measured what it was asked to. A valid run may still show a network that loses messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// No reason against it.
    pub valid: bool,
    /// Why it is not valid.
    pub reasons: Vec<String>,
    /// What a reader of the numbers must know.
    pub warnings: Vec<String>,
}

/// Counts of a window, over all nodes. Every intended message is sent, dropped or missed; every expected delivery is
/// delivered or lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Length of the window, in seconds.
    pub window_seconds: f64,
    /// Messages that the schedules asked for, those of killed and silent nodes among them.
    pub intended: u64,
    /// Of these, handed to the network.
    pub sent: u64,
    /// Of those sent, sent after the next one was due.
    pub late: u64,
    /// Of those intended, dropped before the wire by the senders' own queues.
    pub dropped: u64,
    /// Of those intended, neither sent nor dropped: the sender did not get to them in time, or was away.
    pub missed: u64,
    /// Copies for single peers that the senders' own queues dropped, of messages that count as sent.
    pub dropped_copies: u64,
    /// Deliveries that the intended messages should make: one at every node that a message of its class reaches.
    pub expected: u64,
    /// Deliveries that they made, whenever.
    pub delivered: u64,
    /// Expected and not delivered.
    pub lost: u64,
    /// Delivered of expected; none when nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Deliveries after the deadline of their class, and deliveries that never came; of the classes that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_misses: Option<u64>,
    /// Of the expected deliveries, those that were missing when the window closed.
    pub backlog_at_end: u64,
    /// Whether the network carried the load.
    pub sustained: Sustained,
    /// Arrivals beyond the first of a message at a node.
    pub duplicates: u64,
    /// First arrivals after a later message of the same sender.
    pub reordered: u64,
    /// Arrivals too late to be told from duplicates.
    pub undecided: u64,
    /// Delays that came out negative and were counted as 0.
    pub negative_delays: u64,
    /// Messages sent per second.
    pub sent_per_second: f64,
    /// Bytes of messages sent per second.
    pub sent_bytes_per_second: f64,
    /// Bytes of messages that were asked for per second, over all receivers; messages of random size count with their mean.
    pub offered_bytes_per_second: Option<f64>,
    /// First copies, of any message, that arrived while the window was open, over all receivers.
    pub delivered_in_window: u64,
    /// Bytes of these per second.
    pub delivered_bytes_per_second: f64,
    /// From the intended send time to the arrival; an expected delivery that never came is later than all others.
    pub delay: DelaySummary,
    /// From when it was really sent to the arrival; likewise.
    pub network_delay: DelaySummary,
    /// From the intended to the real send time; a message that was never sent is later than all others.
    pub send_lag: DelaySummary,
    /// Processor time of all nodes inside the window, in seconds.
    pub cpu_seconds: f64,
    /// The same for a million deliveries in the window.
    pub cpu_seconds_per_million_deliveries: Option<f64>,
    /// Bytes written to all TCP sockets of the network while the window was open, for each byte of messages that arrived
    /// in that time; none over QUIC.
    pub socket_bytes_per_delivered_byte: Option<f64>,
}

/// Counts of one traffic class in the measured window, over all nodes. Every intended message is sent, dropped or missed; every
/// expected delivery is delivered or lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRow {
    /// Name of the class.
    pub name: String,
    /// Protocol of the class; none where the network has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Class that it answers; none for a class with a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Time within which a message has to arrive, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_millis: Option<u64>,
    /// Messages that the schedules asked for, those of killed and silent nodes among them. Answers are those that the nodes
    /// counted themselves: answers that a node owed when it was killed are unknown.
    pub intended: u64,
    /// Of these, handed to the network.
    pub sent: u64,
    /// Of those sent, sent after the next one was due; 0 for answers.
    pub late: u64,
    /// Of those intended, dropped before the wire by the senders' own queues.
    pub dropped: u64,
    /// Of those intended, neither sent nor dropped.
    pub missed: u64,
    /// Copies for single peers that the senders' own queues dropped, of messages that count as sent.
    pub dropped_copies: u64,
    /// Deliveries that the intended messages should make.
    pub expected: u64,
    /// Deliveries that they made, whenever.
    pub delivered: u64,
    /// Expected and not delivered.
    pub lost: u64,
    /// Delivered of expected; none when nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Deliveries after the deadline, and deliveries that never came; none without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_misses: Option<u64>,
    /// Of the expected deliveries, those that were missing when the window closed.
    pub backlog_at_end: u64,
    /// Whether the network carried the load of this class.
    pub sustained: Sustained,
    /// Arrivals beyond the first of a message at a node.
    pub duplicates: u64,
    /// First arrivals after a later message of the same sender.
    pub reordered: u64,
    /// Arrivals too late to be told from duplicates.
    pub undecided: u64,
    /// Delays that came out negative and were counted as 0.
    pub negative_delays: u64,
    /// Bytes of messages sent per second.
    pub sent_bytes_per_second: f64,
    /// Bytes of messages that were asked for per second, over all receivers; messages of random size count with their mean.
    pub offered_bytes_per_second: Option<f64>,
    /// First copies that arrived while the window was open, over all receivers.
    pub delivered_in_window: u64,
    /// Bytes of these per second.
    pub delivered_bytes_per_second: f64,
    /// From the intended send time to the arrival; an expected delivery that never came is later than all others.
    pub delay: DelaySummary,
    /// From the real send time to the arrival; likewise.
    pub network_delay: DelaySummary,
    /// From the intended to the real send time; a message that was never sent is later than all others.
    pub send_lag: DelaySummary,
    /// Phases of the measured window; empty where it was not cut into phases, and where there is one class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseRow>,
}

/// One node's line of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Node id.
    pub node: u64,
    /// Where it was when it was last heard.
    pub phase: NodeState,
    /// Messages its schedule asked for.
    pub intended: u64,
    /// Messages it sent.
    pub sent: u64,
    /// Sent after the next one was due.
    pub late: u64,
    /// Dropped before the wire by its own queues.
    pub dropped: u64,
    /// Neither sent nor dropped.
    pub missed: u64,
    /// Deliveries that it should have received.
    pub expected: u64,
    /// Deliveries that it received.
    pub received: u64,
    /// Arrivals beyond the first.
    pub duplicates: u64,
    /// Delay of what came.
    pub delay: DelaySummary,
    /// Lag of what it sent.
    pub send_lag: DelaySummary,
    /// Processor time inside the window, in seconds.
    pub cpu_seconds: f64,
    /// Highest resident memory since its start, in bytes.
    pub peak_memory_bytes: u64,
    /// Peers connected when it was last heard.
    pub connected_peers: usize,
    /// Messages or copies not sent, by reason; of the whole run.
    pub drop_reasons: BTreeMap<String, u64>,
}

/// The result of a trial of explore mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    /// Number, from 0.
    pub trial: u32,
    /// What it sent.
    pub plan: TrialPlan,
    /// Whether every node's rebuilt network was ready when the window opened.
    pub ready: bool,
    /// Reasons why the trial is not valid, by node; none for a valid one.
    pub problems: Vec<String>,
    /// The counts.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Deliveries between the nodes of one group, or of different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// That the intended messages should make.
    pub expected: u64,
    /// That they made.
    pub delivered: u64,
    /// Of these, after the end of the phase.
    pub delivered_after_end: u64,
    /// Expected and not delivered.
    pub lost: u64,
}

/// The deliveries of a phase in which the network was cut into groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDeliveries {
    /// Sender and receiver were in the same group.
    pub within: Deliveries,
    /// They were in different ones.
    pub across: Deliveries,
}

/// The result of one phase of the measured window, over all nodes. A message belongs to the phase that it was intended
/// in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseRow {
    /// Number, from 0.
    pub number: usize,
    /// Start, in seconds after the window's opening.
    pub from_seconds: f64,
    /// End, in seconds after the window's opening.
    pub to_seconds: f64,
    /// What happened at its start.
    pub events: Vec<String>,
    /// Messages that the schedules asked for.
    pub intended: u64,
    /// Of these, handed to the network.
    pub sent: u64,
    /// Of those intended, dropped before the wire by the senders' own queues.
    pub dropped: u64,
    /// Of those intended, neither sent nor dropped.
    pub missed: u64,
    /// Deliveries that the intended messages should make: one at every node that a message of its class reaches, there or not.
    pub expected: u64,
    /// Deliveries that they made, whenever.
    pub delivered: u64,
    /// Delivered of expected; none when nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Of the deliveries, those after the phase's end.
    pub delivered_after_end: u64,
    /// Expected and not delivered.
    pub lost: u64,
    /// From the intended send time to the arrival; an expected delivery that never came is later than all others.
    pub delay: DelaySummary,
    /// Deliveries within and across groups; none where the network was not cut.
    pub groups: Option<GroupDeliveries>,
}

/// A fault of the schedule, and what became of it. Times are seconds after the opening of the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultRow {
    /// As it was given.
    pub fault: String,
    /// When it was to happen.
    pub planned_seconds: f64,
    /// When the runner began with it; none if it never came to that.
    pub began_seconds: Option<f64>,
    /// When it was done.
    pub done_seconds: Option<f64>,
    /// What it was seen to do.
    pub seen: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSummary {
    /// Name of the scenario; none for a run that only flags describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Nodes.
    pub num_nodes: u64,
    /// all, one, rr or explore.
    pub mode: String,
    /// gossipsub, sqmr or reversed-sqmr.
    pub network_protocol: String,
    /// tcp or quic.
    pub transport: String,
    /// Size of a whole message, in bytes; none in explore mode, for several classes and for several sizes.
    pub message_size_bytes: Option<usize>,
    /// Milliseconds from one message to the next; none in explore mode and for several classes.
    pub heartbeat_millis: Option<u64>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// [`RUN_SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Version of that program.
    pub version: String,
    /// What was asked for.
    pub workload: WorkloadSummary,
    /// Whether it was measured.
    pub verdict: Verdict,
    /// Seconds from the first process to the last node ready; none if that never was.
    pub ready_seconds: Option<f64>,
    /// What the links were asked to be, and what they were measured to be; none where none was shaped.
    #[serde(default)]
    pub links: Option<Certificate>,
    /// The machines that the nodes ran on, each with its nodes; one for all of them where they are alike.
    #[serde(default)]
    pub machines: Vec<MachineRow>,
    /// How far the clocks were apart, where the nodes ran elsewhere.
    #[serde(default)]
    pub clocks: Option<Clocks>,
    /// What was done to the network while it was measured, by time.
    #[serde(default)]
    pub faults: Vec<FaultRow>,
    /// Wait for late messages after the window; none if the run did not come to it, and in explore mode.
    #[serde(default)]
    pub drain: Option<DrainSummary>,
    /// The measured window; none in explore mode, whose trials have counts of their own.
    pub totals: Option<Totals>,
    /// Traffic classes, by class number; none in explore mode.
    #[serde(default)]
    pub classes: Vec<ClassRow>,
    /// Sum over the nodes of the highest resident memory of each, in bytes.
    pub peak_memory_bytes: u64,
    /// Processor time of the runner itself from the start of the window to its end, in percent of one core.
    pub runner_cpu_percent: Option<f64>,
    /// The runner's machine as the runner saw it.
    #[serde(default)]
    pub runner: Option<MachineReport>,
    /// Profiles of the nodes, in the folder of the run.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Every node that was heard.
    pub nodes: Vec<NodeRow>,
    /// Phases of the measured window, in their order; none where it was not cut into phases.
    #[serde(default)]
    pub phases: Vec<PhaseRow>,
    /// Trials of explore mode, in their order.
    pub trials: Vec<TrialRow>,
    /// The valid trial with the highest sustained throughput of each message size, by size.
    #[serde(default)]
    pub frontier: Vec<FrontierRow>,
    /// Number of the trial of the frontier with the highest throughput, and of those the lowest p99; none without any.
    #[serde(default)]
    pub best_trial: Option<u32>,
    /// Broadcasts, or copies for one peer, that were not sent, by reason; of the whole run.
    pub dropped: BTreeMap<String, u64>,
    /// Arrivals that were not counted, by reason; of the whole run.
    pub malformed: BTreeMap<String, u64>,
    /// Events of the network, by type, up to the end of the drain; of the whole run.
    pub events: BTreeMap<String, u64>,
}
