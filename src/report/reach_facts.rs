//! Times to reach, and facts about the messages of a sample, as a result has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{hops::Hops, quantiles::DelaySummary};

/// A message that missed the deadline of its class: nodes with two thirds of the weight did not have it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateMessage {
    /// Node id of the sender.
    pub sender: u64,
    /// Number of the message, or of the first part of a logical message, among those of its sender and class.
    pub index: u64,
    /// Intended send time, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// Time until nodes with two thirds of the weight had it, in microseconds; none if they never had.
    pub reach_2_3_micros: Option<u64>,
    /// Time until all of the weight had it, in microseconds; none if it never had.
    pub reach_all_micros: Option<u64>,
}

/// Times to reach of the messages whose senders are in one region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RegionReach {
    /// Region of the senders.
    pub region: String,
    /// Time until nodes with a third of the weight had the message.
    pub reach_1_3: DelaySummary,
    /// Time until nodes with two thirds of the weight had it.
    pub reach_2_3: DelaySummary,
    /// Time until all of the weight had it.
    pub reach_all: DelaySummary,
}

/// Facts about the messages of a class, or of all classes, beside the times to reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReachFacts {
    /// Logical messages in the sample.
    pub messages: u64,
    /// Share of all messages that the sample has, 0 to 1; the lowest of its classes.
    pub sampled_share: f64,
    /// Messages that nodes with two thirds of the weight did not have within the deadline; none without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_misses: Option<u64>,
    /// The latest of these messages, at most 100; those that never reached two thirds of the weight first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<LateMessage>,
    /// Ways that the messages took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<Hops>,
    /// By region of the sender; empty if the nodes have no regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionReach>,
}
