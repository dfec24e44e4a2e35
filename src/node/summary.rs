//! What a node says of itself at `/summary` and at its end. The schema is documented in `docs/schema.md`.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

use super::{
    explore::{TrialPlan, TrialTimes},
    state::{Phase, StartOrder},
};
use crate::{environment::Environment, metrics::Usage, network::Readiness};

/// Version of [`NodeSummary`]'s JSON; raised when a field changes its meaning or goes.
pub const NODE_SCHEMA_VERSION: u32 = 1;

/// A histogram of microseconds in HDR's own encoding (V2, deflated), as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HistogramText(pub String);

impl HistogramText {
    /// Encodes a histogram; an empty text for one that can't be, which no histogram made here is.
    pub fn encode(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
            Ok(_) => Self(BASE64_STANDARD.encode(bytes)),
            Err(_) => Self::default(),
        }
    }

    /// Whether there is no histogram at all; one without values is another thing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The histogram again.
    ///
    /// # Errors
    /// When the text is no base64, or its bytes are no histogram.
    pub fn decode(&self) -> Result<Histogram<u64>, String> {
        let bytes = BASE64_STANDARD.decode(&self.0).map_err(|error| error.to_string())?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| error.to_string())
    }
}

/// The counts of a window: a span of *intended* send times, the same one at senders and receivers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowSummary {
    /// Messages of this node's schedule that were due.
    pub intended: u64,
    /// Of these, handed over to the network.
    pub sent: u64,
    /// Of those sent, sent after the next one was due.
    pub late: u64,
    /// Bytes of the messages sent, headers included.
    pub sent_bytes: u64,
    /// Different messages that came from other nodes.
    pub received: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// Arrivals of a message that had come before.
    pub duplicates: u64,
    /// Different messages that came after a later one of their sender.
    pub reordered: u64,
    /// Arrivals too late to be told from duplicates.
    pub undecided: u64,
    /// Delays that were negative and counted as 0.
    pub negative_delays: u64,
    /// Delay of each received message from its intended send time, in microseconds.
    pub delay_micros: HistogramText,
    /// Delay of each received message from when it was really sent, in microseconds; only of senders that tell.
    pub network_delay_micros: HistogramText,
    /// Send lag of each sent message, in microseconds.
    pub send_lag_micros: HistogramText,
}

/// What a receiver had of one sender in one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSender {
    /// Node id of the sender.
    pub sender: u64,
    /// Different messages that came.
    pub received: u64,
    /// Of these, came after the end of the phase they were intended in.
    pub received_after_end: u64,
}

/// The counts of one phase of the measured window: a span of *intended* send times, like the window itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// Its start, in nanoseconds since the Unix epoch.
    pub from_unix_nanos: u64,
    /// Its end; the largest u64 where there is none.
    pub to_unix_nanos: u64,
    /// Messages of this node's schedule that were due.
    pub intended: u64,
    /// Of these, handed over to the network.
    pub sent: u64,
    /// Different messages that came from other nodes.
    pub received: u64,
    /// Of these, came after the phase's end.
    pub received_after_end: u64,
    /// Delay of each received message from its intended send time, in microseconds. Empty if none came, and where the
    /// phase is the whole window, which has the same.
    pub delay_micros: HistogramText,
    /// Of each sender that was heard.
    pub by_sender: Vec<PhaseSender>,
}

/// What the node used inside a window, by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowUsage {
    /// Processor time, user and system, in seconds, between the window's opening and its end.
    pub cpu_seconds: f64,
    /// Bytes written to TCP sockets of the network from the window's opening to the end of the drain; none over QUIC,
    /// where they can't be seen.
    pub socket_bytes_sent: Option<u64>,
    /// Bytes read from them.
    pub socket_bytes_received: Option<u64>,
}

impl WindowUsage {
    /// What was used from `earlier` to now.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let growth = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            cpu_seconds: (self.cpu_seconds - earlier.cpu_seconds).max(0.0),
            socket_bytes_sent: growth(self.socket_bytes_sent, earlier.socket_bytes_sent),
            socket_bytes_received: growth(self.socket_bytes_received, earlier.socket_bytes_received),
        }
    }
}

/// What was heard of one sender, over the whole run or trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderSummary {
    /// Node id of the sender.
    pub sender: u64,
    /// Different messages.
    pub unique: u64,
    /// Arrivals of a message that had come before.
    pub duplicates: u64,
    /// Different messages that came after a later one.
    pub reordered: u64,
    /// Times an arrival skipped over messages.
    pub gaps: u64,
    /// Messages below the highest that have not come.
    pub pending: u64,
    /// Highest index.
    pub highest: Option<u64>,
}

/// The result of one trial of explore mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialSummary {
    /// Number of the trial, from 0.
    pub trial: u32,
    /// What it sent.
    pub plan: TrialPlan,
    /// When.
    pub times: TrialTimes,
    /// How ready the rebuilt network was when the window opened.
    pub readiness: Readiness,
    /// Its counts.
    pub measured: WindowSummary,
    /// Messages below the highest that had not come by its end.
    pub pending: u64,
    /// What was used inside the window.
    pub usage: WindowUsage,
}

/// Everything that a node counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// [`NODE_SCHEMA_VERSION`] of the node that wrote it.
    pub schema_version: u32,
    /// Version of the node's program.
    pub version: String,
    /// Node id.
    pub node: u64,
    /// Peer id.
    pub peer_id: String,
    /// Process id.
    pub process: u32,
    /// All arguments in effect, gossipsub's settings and the worker threads among them.
    pub configuration: serde_json::Value,
    /// The machine that it runs on, with the congestion control of a connection to a peer.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Where it is in its life.
    pub phase: Phase,
    /// How far it is from being ready.
    pub readiness: Readiness,
    /// When traffic starts; none before that is known.
    pub start: Option<StartOrder>,
    /// The measured window; in explore mode that of the trial under way.
    pub measured: WindowSummary,
    /// All before and after it.
    pub outside: WindowSummary,
    /// The phases of the measured window, at least one; none in explore mode.
    #[serde(default)]
    pub phases: Vec<PhaseSummary>,
    /// Messages below the highest of their sender that have not come.
    pub pending: u64,
    /// Counts of each sender that was heard.
    pub senders: Vec<SenderSummary>,
    /// Trials of explore mode that are over.
    pub trials: Vec<TrialSummary>,
    /// What was used inside the measured window, so far; none before it opens.
    pub window_usage: Option<WindowUsage>,
    /// What was used since the process started.
    pub usage: Usage,
    /// Broadcasts, or copies for one peer, that were not sent, by reason; of the whole run.
    pub dropped: BTreeMap<String, u64>,
    /// Arrivals that were not counted, by reason; of the whole run.
    pub malformed: BTreeMap<String, u64>,
    /// Events of the network, by type; of the whole run.
    pub events: BTreeMap<String, u64>,
}

/// Writes a value as JSON beside `path`, then renames: neither a reader nor a crash meets half of it.
///
/// # Errors
/// Those of the file system.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(&partial, text)?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_its_text() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in [0, 1, 999, 1_000_000, u64::MAX / 2] {
            histogram.record(value).unwrap();
        }
        assert_eq!(HistogramText::encode(&histogram).decode().unwrap(), histogram);
        assert!(HistogramText("!".into()).decode().is_err());
        assert!(HistogramText::default().decode().is_err());
    }
}
