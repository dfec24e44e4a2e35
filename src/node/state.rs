//! Where a node is in its life, and the order that starts its traffic.

use serde::{Deserialize, Serialize};

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Connecting to its peers.
    Connecting,
    /// Waiting for the start that it was given.
    Waiting,
    /// Sending or receiving, before the measured window.
    WarmUp,
    /// Inside the measured window, or without one.
    Measuring,
    /// Sends no more; what is under way still arrives.
    Draining,
    /// Explore mode: between two trials.
    CoolDown,
    /// All is done.
    Finished,
}

/// When traffic starts, and which part of it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartOrder {
    /// The instant at which all nodes start, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Milliseconds after the start that are not counted.
    #[serde(default)]
    pub warm_up_millis: u64,
    /// Milliseconds after the warm-up that are; without it, all until the node stops. Explore mode has its own windows.
    #[serde(default)]
    pub measure_millis: Option<u64>,
}

impl StartOrder {
    /// Start of the measured window, in nanoseconds since the Unix epoch.
    pub fn from_unix_nanos(&self) -> u64 {
        self.start_unix_nanos.saturating_add(self.warm_up_millis.saturating_mul(1_000_000))
    }

    /// End of the measured window.
    pub fn to_unix_nanos(&self) -> Option<u64> {
        let measure = self.measure_millis?.saturating_mul(1_000_000);
        Some(self.from_unix_nanos().saturating_add(measure))
    }
}
