//! Report of a node at `/summary` and at its end. The schema is documented in `docs/schema.md`.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    bounded,
    explore::{MOST_TRIALS, TrialPlan, TrialTimes},
    histogram_text::HistogramText,
    propeller::PropellerSummary,
    state::{MOST_BOUNDARIES, NodeState, StartOrder},
};
use crate::{
    environment::Environment,
    machine::MachineReport,
    metrics::Usage,
    network::{MAX_NODES, Readiness, UnreachedPeer},
    paths::replace_file,
    scenario::MAX_CLASSES,
};

/// Maximum number of phases of a window, and of nodes, in lists.
const MOST_PHASES: usize = MOST_BOUNDARIES + 1;
const MOST_NODES: usize = MAX_NODES as usize;
const MOST_SENDERS: usize = MOST_NODES * MAX_CLASSES;

/// Version of [`NodeSummary`]'s JSON; raised when a field changes its meaning or is removed.
pub const NODE_SCHEMA_VERSION: u32 = 3;

/// Number of equal parts of the measured window, by intended time, in which deliveries are counted: the age of a
/// message that never arrived is known to one part. A multiple of [`THIRDS`].
pub const WINDOW_PARTS: usize = 120;

/// Number of parts of the measured window between which a growing backlog is detected.
pub const THIRDS: usize = 3;

/// First copies of any message that arrived while the measured window was open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivalSummary {
    /// Deliveries.
    pub count: u64,
    /// Bytes of these deliveries, headers included.
    pub bytes: u64,
}

/// Counts of a window: a span of *intended* send times, the same one at senders and receivers. Every message of the
/// schedule is sent, dropped, or missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowSummary {
    /// Messages of this node's schedule that were due.
    pub intended: u64,
    /// Intended messages that were handed to the network: at least one copy was queued for a peer.
    pub sent: u64,
    /// Intended messages that the node's own queues dropped before the wire: no copy was queued.
    #[serde(default)]
    pub dropped: u64,
    /// Copies for single peers that the node's own queues dropped, of messages that count as sent.
    #[serde(default)]
    pub dropped_copies: u64,
    /// Sent messages that were sent after the next one was due.
    pub late: u64,
    /// Bytes of the messages sent, headers included.
    pub sent_bytes: u64,
    /// Different messages that arrived from other nodes.
    pub received: u64,
    /// Bytes of these messages.
    pub received_bytes: u64,
    /// Received messages that arrived after the window's end.
    #[serde(default)]
    pub received_after_end: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicates: u64,
    /// Different messages that arrived after a later one of their sender.
    pub reordered: u64,
    /// Arrivals too late to be distinguished from duplicates.
    pub undecided: u64,
    /// Negative delays, which are counted as 0.
    pub negative_delays: u64,
    /// Received messages that took longer than the deadline of their class; 0 without one.
    #[serde(default)]
    pub after_deadline: u64,
    /// All first copies that arrived while the window was open.
    #[serde(default)]
    pub arrivals: ArrivalSummary,
    /// Received messages, by the [`WINDOW_PARTS`] equal parts of the window that they were intended in; empty for a
    /// window without an end.
    #[serde(default, deserialize_with = "bounded::list::<_, _, WINDOW_PARTS>")]
    pub received_by_part: Vec<u64>,
    /// Sent messages, by the same parts.
    #[serde(default, deserialize_with = "bounded::list::<_, _, WINDOW_PARTS>")]
    pub sent_by_part: Vec<u64>,
    /// For each third of the window, the time that this node's messages of the whole run so far would have been under
    /// way to one receiver if none had arrived, in microseconds, added up.
    #[serde(default)]
    pub offered_micros: [u64; THIRDS],
    /// For each third of the window, the part of that time that remained when messages arrived at this node, in
    /// microseconds, added up. Offered less arrived time, divided by the third's length, is the mean backlog.
    #[serde(default)]
    pub arrived_micros: [u64; THIRDS],
    /// Delay of each received message from its intended send time, in microseconds.
    pub delay_micros: HistogramText,
    /// Delay of each received message from its real send time, in microseconds; only of senders that state it.
    pub network_delay_micros: HistogramText,
    /// Send lag of each sent message, in microseconds.
    pub send_lag_micros: HistogramText,
}

impl WindowSummary {
    /// Adds the counts, and not the distributions, of other messages of the same window.
    pub(super) fn add(&mut self, other: &Self) {
        let counts = |counts: &Self| {
            [
                counts.intended,
                counts.sent,
                counts.dropped,
                counts.dropped_copies,
                counts.late,
                counts.sent_bytes,
                counts.received,
                counts.received_bytes,
                counts.received_after_end,
                counts.duplicates,
                counts.reordered,
                counts.undecided,
                counts.negative_delays,
                counts.after_deadline,
                counts.arrivals.count,
                counts.arrivals.bytes,
            ]
        };
        let more = counts(other);
        let own = [
            &mut self.intended,
            &mut self.sent,
            &mut self.dropped,
            &mut self.dropped_copies,
            &mut self.late,
            &mut self.sent_bytes,
            &mut self.received,
            &mut self.received_bytes,
            &mut self.received_after_end,
            &mut self.duplicates,
            &mut self.reordered,
            &mut self.undecided,
            &mut self.negative_delays,
            &mut self.after_deadline,
            &mut self.arrivals.count,
            &mut self.arrivals.bytes,
        ];
        let add = |own: &mut u64, more: u64| *own = own.saturating_add(more);
        own.into_iter().zip(more).for_each(|(own, more)| add(own, more));
        for (own, more) in
            [(&mut self.received_by_part, &other.received_by_part), (&mut self.sent_by_part, &other.sent_by_part)]
        {
            own.iter_mut().zip(more).for_each(|(own, more)| add(own, *more));
        }
        for (own, more) in
            [(&mut self.offered_micros, other.offered_micros), (&mut self.arrived_micros, other.arrived_micros)]
        {
            own.iter_mut().zip(more).for_each(|(own, more)| add(own, more));
        }
    }
}

/// Counts of one sender in one phase, as a receiver sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSender {
    /// Node id of the sender.
    pub sender: u64,
    /// Different messages that arrived.
    pub received: u64,
    /// Received messages that arrived after the end of the phase they were intended in.
    pub received_after_end: u64,
}

/// Counts of one phase of the measured window: a span of *intended* send times, like the window itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// Start of the phase, in nanoseconds since the Unix epoch.
    pub from_unix_nanos: u64,
    /// End of the phase; the largest u64 without an end.
    pub to_unix_nanos: u64,
    /// Messages of this node's schedule that were due.
    pub intended: u64,
    /// Intended messages that were handed to the network.
    pub sent: u64,
    /// Intended messages that the node's own queues dropped before the wire.
    #[serde(default)]
    pub dropped: u64,
    /// Different messages that arrived from other nodes.
    pub received: u64,
    /// Received messages that arrived after the phase's end.
    pub received_after_end: u64,
    /// Delay of each received message from its intended send time, in microseconds. Empty without arrivals, and if the
    /// phase is the whole window, which has the same.
    pub delay_micros: HistogramText,
    /// Counts of each sender of which a message arrived.
    #[serde(deserialize_with = "bounded::list::<_, _, MOST_NODES>")]
    pub by_sender: Vec<PhaseSender>,
}

/// Resources that the node used while a window was open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowUsage {
    /// Processor time, user and system, in seconds, between the window's opening and its end.
    pub cpu_seconds: f64,
    /// Bytes written to TCP sockets of the network in that time; none over QUIC, which does not show them.
    pub socket_bytes_sent: Option<u64>,
    /// Bytes read from these sockets in that time.
    pub socket_bytes_received: Option<u64>,
    /// Copies of gossipsub messages of other nodes that arrived in that time, duplicates included; none without gossipsub.
    #[serde(default)]
    pub gossip_copies: Option<u64>,
}

impl WindowUsage {
    /// Growth from `earlier` to now.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let growth = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            cpu_seconds: (self.cpu_seconds - earlier.cpu_seconds).max(0.0),
            socket_bytes_sent: growth(self.socket_bytes_sent, earlier.socket_bytes_sent),
            socket_bytes_received: growth(self.socket_bytes_received, earlier.socket_bytes_received),
            gossip_copies: growth(self.gossip_copies, earlier.gossip_copies),
        }
    }
}

/// Counts of one traffic class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// Name of the class.
    #[serde(deserialize_with = "bounded::name")]
    pub name: String,
    /// The measured window.
    pub measured: WindowSummary,
    /// Everything before and after the measured window.
    pub outside: WindowSummary,
    /// The phases of the measured window.
    #[serde(default, deserialize_with = "bounded::list::<_, _, MOST_PHASES>")]
    pub phases: Vec<PhaseSummary>,
    /// Messages below the highest of their sender that have not arrived.
    pub pending: u64,
}

/// Counts of one sender, over the whole run or trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderSummary {
    /// Node id of the sender.
    pub sender: u64,
    /// Number of the traffic class.
    #[serde(default)]
    pub class: u16,
    /// Different messages.
    pub unique: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicates: u64,
    /// Different messages that arrived after a later one.
    pub reordered: u64,
    /// Number of arrivals that skipped over messages.
    pub gaps: u64,
    /// Messages below the highest that have not arrived.
    pub pending: u64,
    /// Highest index.
    pub highest: Option<u64>,
}

/// Result of one trial of explore mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialSummary {
    /// Number of the trial, from 0.
    pub trial: u32,
    /// Load of the trial.
    pub plan: TrialPlan,
    /// Times of the trial.
    pub times: TrialTimes,
    /// Readiness of the rebuilt network when the window opened.
    pub readiness: Readiness,
    /// Time at which this node's rebuilt network and its counts existed, in nanoseconds since the Unix epoch. If it is
    /// after the opening of the window, the node has not taken part in the whole trial.
    #[serde(default)]
    pub joined_unix_nanos: u64,
    /// Time at which its counts were read, in nanoseconds since the Unix epoch.
    #[serde(default)]
    pub counted_unix_nanos: u64,
    /// Counts of the trial.
    pub measured: WindowSummary,
    /// Messages below the highest that had not arrived by its end.
    pub pending: u64,
    /// Resources used in the window.
    pub usage: WindowUsage,
}

/// Peer whose queue at this node overflowed, or held messages for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowPeer {
    /// Node id of the peer.
    pub node: u64,
    /// Copies of messages, and of gossip about them, that were not sent to it for this reason.
    pub copies: u64,
}

/// Unfinished messages of a node, and unread ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingWork {
    /// Messages, and copies of messages for single peers, in the node's queues and open sessions.
    pub queued: u64,
    /// Bytes in the kernel's queues of the node's p2p sockets: sent and not acknowledged, or received and not read.
    /// None over QUIC, or if the kernel does not show them.
    pub socket_bytes: Option<u64>,
}

/// Everything that a node counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// [`NODE_SCHEMA_VERSION`] of the node that wrote it.
    pub schema_version: u32,
    /// Version of the node's program.
    #[serde(deserialize_with = "bounded::name")]
    pub version: String,
    /// Node id.
    pub node: u64,
    /// Peer id.
    #[serde(deserialize_with = "bounded::name")]
    pub peer_id: String,
    /// Process id.
    pub process: u32,
    /// All arguments in effect, gossipsub's settings and the worker threads among them.
    pub configuration: serde_json::Value,
    /// Machine of the node, with the congestion control of a connection to a peer.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Phase of its life.
    pub phase: NodeState,
    /// Progress towards readiness.
    pub readiness: Readiness,
    /// Time of this summary, in nanoseconds since the Unix epoch.
    #[serde(default)]
    pub counted_unix_nanos: u64,
    /// Unfinished work of this node after it has stopped sending; none before.
    #[serde(default)]
    pub pending_work: Option<PendingWork>,
    /// Peers that could not be reached at the time of writing, with the last cause; a bounded part of them.
    #[serde(default)]
    pub unreached: Vec<UnreachedPeer>,
    /// Peers whose gossipsub queue at this node failed, over the whole run.
    #[serde(default, deserialize_with = "bounded::list::<_, _, MOST_NODES>")]
    pub slow_peers: Vec<SlowPeer>,
    /// Counters of gossipsub's own metrics, over the whole run; empty unless they are on.
    #[serde(default, deserialize_with = "bounded::labels")]
    pub gossipsub: BTreeMap<String, u64>,
    /// Start of the traffic; none before it is known.
    pub start: Option<StartOrder>,
    /// The measured window; in explore mode that of the present trial.
    pub measured: WindowSummary,
    /// Everything before and after the measured window.
    pub outside: WindowSummary,
    /// The phases of the measured window, at least one; none in explore mode.
    #[serde(default, deserialize_with = "bounded::list::<_, _, MOST_PHASES>")]
    pub phases: Vec<PhaseSummary>,
    /// Messages below the highest of their sender that have not arrived.
    pub pending: u64,
    /// Counts of each sender and class of which a message arrived.
    #[serde(deserialize_with = "bounded::list::<_, _, MOST_SENDERS>")]
    pub senders: Vec<SenderSummary>,
    /// Counts of each traffic class, by class number; the others are their sums. Empty if the run has one class, and in
    /// explore mode.
    #[serde(default, deserialize_with = "bounded::list::<_, _, MAX_CLASSES>")]
    pub classes: Vec<ClassSummary>,
    /// Finished trials of explore mode.
    #[serde(deserialize_with = "bounded::list::<_, _, MOST_TRIALS>")]
    pub trials: Vec<TrialSummary>,
    /// Resources used in the measured window so far; none before it opens.
    pub window_usage: Option<WindowUsage>,
    /// Resources used since the process started.
    pub usage: Usage,
    /// Broadcasts, or copies for one peer, that were not sent, by reason; of the whole run.
    #[serde(deserialize_with = "bounded::labels")]
    pub dropped: BTreeMap<String, u64>,
    /// Arrivals that were not counted, by reason; of the whole run.
    #[serde(deserialize_with = "bounded::labels")]
    pub malformed: BTreeMap<String, u64>,
    /// Clocks and processors of its machine, as the node saw them.
    #[serde(default)]
    pub machine: Option<MachineReport>,
    /// Events of the network, by type; of the whole run.
    #[serde(deserialize_with = "bounded::labels")]
    pub events: BTreeMap<String, u64>,
    /// Counts of propeller; none without it.
    #[serde(default)]
    pub propeller: Option<PropellerSummary>,
}

/// Writes a value as JSON beside `path`, then renames the file, so that neither a reader nor a crash meets a partial
/// one.
///
/// # Errors
/// Errors of the file system.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    replace_file(path, |beside| fs::write(beside, text))
}
