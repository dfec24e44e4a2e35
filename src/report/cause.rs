//! A cause of lost or late deliveries, as a result has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Effect that a cause explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Deliveries of the sample that never arrived.
    Lost,
    /// The slowest hundredth of the deliveries of the sample.
    Late,
}

/// Kind of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// The sender had no time or no queue for the message, or was away.
    Generator,
    /// The receiver was killed or paused.
    Absent,
    /// The network was cut between sender and receiver.
    Partition,
    /// Queues of the sender to the receiver overflowed, or held the message for too long.
    Sending,
    /// Queues of other nodes, which should have forwarded the message, overflowed or held it for too long.
    Forwarding,
    /// Streams broke with the messages under way in them.
    Streams,
    /// The hop from the sender itself took the time.
    FirstHop,
    /// The time after the handover, where no single way is known: propeller rebuilds a message from units of several nodes.
    Network,
    /// Nothing that was measured explains it.
    Unknown,
}

/// A cause of lost or late deliveries of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Name of the traffic class.
    pub class: String,
    /// Explained effect.
    pub effect: Effect,
    /// Kind of the cause.
    pub cause: CauseKind,
    /// Deliveries of the sample with this cause; for late ones, those that were taken apart.
    pub deliveries: u64,
    /// Share of the effect that this cause explains, 0 to 1: of the lost deliveries, or of the time of the slowest.
    pub share: f64,
    /// Measured facts that support it, in one line.
    pub evidence: String,
}
