//! Permitted differences between a link and its shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Tolerance of the time of a single message, in percent.
pub(crate) const MESSAGE_PERCENT: f64 = 10.0;

/// Tolerance of results that do not state it.
fn usual_percent() -> f64 {
    MESSAGE_PERCENT
}

/// Permitted differences between a link and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tolerance {
    /// Tolerance of the latency, in percent.
    pub latency_percent: f64,
    /// Additional tolerance of the latency, in milliseconds.
    pub latency_millis: f64,
    /// Tolerance of the throughput, in percent.
    pub throughput_percent: f64,
    /// Tolerance of the time of a single message, in percent, in addition to `latency_millis`.
    #[serde(default = "usual_percent")]
    pub message_percent: f64,
}
