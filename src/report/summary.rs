//! The result of a run: `summary.json`. The schema is documented in `docs/schema.md`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{clocks::Clocks, links::Certificate, machine::MachineRow};
use crate::node::{HistogramText, Phase, TrialPlan};

/// Version of [`RunSummary`]'s JSON; raised when a field changes its meaning or goes.
pub const RUN_SCHEMA_VERSION: u32 = 1;

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

/// Percentiles of a distribution of times, in microseconds, beside the distribution itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DelaySummary {
    /// Values in the distribution; all else is none without any.
    pub count: u64,
    /// Median.
    pub p50_micros: Option<u64>,
    /// 90th percentile.
    pub p90_micros: Option<u64>,
    /// 99th percentile.
    pub p99_micros: Option<u64>,
    /// 99.9th percentile.
    pub p999_micros: Option<u64>,
    /// Largest value, to 3 significant digits.
    pub max_micros: Option<u64>,
    /// Mean.
    pub mean_micros: Option<f64>,
    /// All values, in HDR's own encoding.
    pub histogram: HistogramText,
}

impl DelaySummary {
    /// Sums up a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let some = !histogram.is_empty();
        let at = |quantile: f64| some.then(|| histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_micros: at(0.5),
            p90_micros: at(0.9),
            p99_micros: at(0.99),
            p999_micros: at(0.999),
            max_micros: some.then(|| histogram.max()),
            mean_micros: some.then(|| histogram.mean()),
            histogram: HistogramText::encode(histogram),
        }
    }
}

/// Counts of a window, over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Length of the window, in seconds.
    pub window_seconds: f64,
    /// Messages that the schedules asked for.
    pub intended: u64,
    /// Of these, handed over to the network.
    pub sent: u64,
    /// Of those sent, sent after the next one was due.
    pub late: u64,
    /// Never sent.
    pub missed: u64,
    /// Deliveries that the sent messages should make: one at every other node.
    pub expected: u64,
    /// Deliveries that they made.
    pub delivered: u64,
    /// Delivered of expected; none when nothing was expected.
    pub delivery_ratio: Option<f64>,
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
    /// Bytes of messages delivered per second, over all receivers.
    pub delivered_bytes_per_second: f64,
    /// From the intended send time to the arrival; of delivered messages only.
    pub delay: DelaySummary,
    /// From when it was really sent to the arrival; of delivered messages only.
    pub network_delay: DelaySummary,
    /// From the intended to the real send time.
    pub send_lag: DelaySummary,
    /// Processor time of all nodes inside the window, in seconds.
    pub cpu_seconds: f64,
    /// The same for a million deliveries.
    pub cpu_seconds_per_million_deliveries: Option<f64>,
    /// Bytes written to all TCP sockets of the network, from the window's opening to the end of the drain, for each
    /// delivered byte of messages; none over QUIC.
    pub wire_bytes_per_delivered_byte: Option<f64>,
}

/// One node's line of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Node id.
    pub node: u64,
    /// Where it was when it was last heard.
    pub phase: Phase,
    /// Messages its schedule asked for.
    pub intended: u64,
    /// Messages it sent.
    pub sent: u64,
    /// Sent after the next one was due.
    pub late: u64,
    /// Never sent.
    pub missed: u64,
    /// What should have come to it.
    pub expected: u64,
    /// What came.
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
    /// Messages or copies not sent, by reason.
    pub dropped: BTreeMap<String, u64>,
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
    /// The counts.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Deliveries between the nodes of one group, or of different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// That the sent messages should make.
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
    /// Of these, handed over to the network.
    pub sent: u64,
    /// Deliveries that the sent messages should make: one at every other node, there or not.
    pub expected: u64,
    /// Deliveries that they made, whenever.
    pub delivered: u64,
    /// Delivered of expected; none when nothing was expected.
    pub delivery_ratio: Option<f64>,
    /// Of the deliveries, those after the phase's end.
    pub delivered_after_end: u64,
    /// Expected and not delivered.
    pub lost: u64,
    /// From the intended send time to the arrival; of delivered messages only.
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
    /// Nodes.
    pub num_nodes: u64,
    /// all, one, rr or explore.
    pub mode: String,
    /// gossipsub, sqmr or reversed-sqmr.
    pub network_protocol: String,
    /// tcp or quic.
    pub transport: String,
    /// Whole message, in bytes; none in explore mode.
    pub message_size_bytes: Option<usize>,
    /// Milliseconds from one message to the next; none in explore mode.
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
    /// The measured window; in explore mode all trials together.
    pub totals: Totals,
    /// Sum over the nodes of the highest resident memory of each, in bytes.
    pub peak_memory_bytes: u64,
    /// Processor time of the runner itself from the start of the window to its end, in percent of one core.
    pub runner_cpu_percent: Option<f64>,
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
    /// Broadcasts, or copies for one peer, that were not sent, by reason; of the whole run.
    pub dropped: BTreeMap<String, u64>,
    /// Arrivals that were not counted, by reason; of the whole run.
    pub malformed: BTreeMap<String, u64>,
    /// Events of the network, by type, up to the end of the drain; of the whole run.
    pub events: BTreeMap<String, u64>,
}
