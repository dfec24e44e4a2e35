//! Counts during a run: `timeseries.jsonl`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of [`TimeSeriesPoint`]'s JSON; raised when a field changes its meaning or is removed.
pub const TIME_SERIES_SCHEMA_VERSION: u32 = 1;

/// A line of `timeseries.jsonl`: the counts of the measured window so far, over all nodes. In mode explore, the counts
/// of the present trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeSeriesPoint {
    /// Time of the point, in RFC 3339.
    pub time: String,
    /// Stage of the run.
    pub phase: String,
    /// Messages that were due.
    pub intended: u64,
    /// Intended messages that were handed to the network.
    pub sent: u64,
    /// Deliveries that the intended messages should make.
    pub expected: u64,
    /// Expected deliveries that arrived.
    pub delivered: u64,
    /// Messages below the highest of their sender that have not arrived.
    pub pending: u64,
    /// 99th percentile of the delays of the window so far; none before the first arrival.
    pub delay_p99_micros: Option<u64>,
    /// Median of the delays of the deliveries since the point before; none without any, and if counts began again.
    #[serde(default)]
    pub recent_p50_micros: Option<u64>,
    /// 99th percentile of the same delays.
    #[serde(default)]
    pub recent_p99_micros: Option<u64>,
    /// Messages sent in the measured window or trial, by node.
    #[serde(default)]
    pub sent_by_node: BTreeMap<u64, u64>,
    /// Deliveries in the measured window or trial, by node.
    #[serde(default)]
    pub delivered_by_node: BTreeMap<u64, u64>,
}
