//! The wait for late messages after the window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reason why the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrainEnd {
    /// Every possible delivery arrived.
    Complete,
    /// Nothing arrived for the quiet time, and nothing was pending at any node.
    Quiet,
    /// The whole of `--drain-seconds` passed.
    Limit,
}

/// Length and end of the wait for late messages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DrainSummary {
    /// Length, in seconds.
    pub seconds: f64,
    /// Reason of the end.
    pub ended: DrainEnd,
}
