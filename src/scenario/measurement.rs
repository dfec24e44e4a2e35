//! Lengths of the phases of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lengths of the phases of a run, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Measurement {
    /// Length of the measured window; in mode explore the maximum time for all trials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    /// Traffic before the window that is not counted.
    pub warm_up_seconds: u64,
    /// Maximum time to wait for late messages after the window.
    pub drain_seconds: u64,
    /// Time without any arrival and without pending work after which the wait for late messages ends early.
    pub drain_quiet_seconds: u64,
    /// Maximum time to wait until all nodes are ready.
    pub ready_timeout_seconds: u64,
    /// Time without an answer after which a node fails the run.
    pub hang_timeout_seconds: u64,
    /// Maximum number of arrivals that each node records one by one, for the time to reach the network; 0 records none.
    /// All nodes of a run together record at most two million.
    pub max_arrivals: u64,
}

impl Measurement {
    /// Default length of the measured window, in seconds.
    pub const DEFAULT_WINDOW: u64 = 20;
}

impl Default for Measurement {
    fn default() -> Self {
        Self {
            window_seconds: None,
            warm_up_seconds: 2,
            drain_seconds: 10,
            drain_quiet_seconds: 2,
            ready_timeout_seconds: 60,
            hang_timeout_seconds: 15,
            max_arrivals: 100_000,
        }
    }
}
