//! The wait for late messages after the window.

use serde::{Deserialize, Serialize};

/// Reason why the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainEnd {
    /// Every delivery came that could come.
    Complete,
    /// Nothing came for the quiet time, and nothing was pending at any node.
    Quiet,
    /// The whole of `--drain-seconds` passed.
    Limit,
}

/// How the wait went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainSummary {
    /// Its length, in seconds.
    pub seconds: f64,
    /// Why it ended.
    pub ended: DrainEnd,
}
