//! Facts about a run in virtual time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Model of a run in virtual time, and its cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SimulationFacts {
    /// Seed of all random numbers: the same one gives the same result again, with the same build and number of threads.
    pub seed: u64,
    /// Threads that simulated.
    #[serde(default = "one")]
    pub threads: u16,
    /// Order of service between the connections of a host whose interface is limited: `fair` in turns, `fifo` as one
    /// queue.
    pub discipline: String,
    /// Congestion control of the connections.
    pub congestion_control: String,
    /// Model of the processors.
    pub processors: String,
    /// Shortcuts of the simulation that a real network does not take.
    pub shortcuts: Vec<String>,
    /// Virtual time from the first node to the end of the run, in seconds.
    pub virtual_seconds: f64,
    /// Time that it took, in seconds; differs between equal runs.
    pub wall_seconds: Option<f64>,
    /// Highest resident memory of the simulation, in bytes; differs between equal runs.
    pub peak_memory_bytes: Option<u64>,
    /// TCP connections made.
    pub connections: u64,
    /// Data packets sent, those that were sent again included.
    pub packets: u64,
    /// Packets that links lost.
    pub lost_packets: u64,
    /// Packets that full queues dropped.
    pub dropped_packets: u64,
    /// Packets that were sent again.
    pub resent_packets: u64,
    /// Figures under the other order of service, if both were simulated: a real network is expected between both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bracket: Vec<BracketRow>,
    /// Figures of simulations in relation to those of real networks, as far as both were compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<AgreementBand>,
    /// Reasons why this run is outside of the range in which simulations were compared with real networks; empty inside
    /// of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extrapolated: Vec<String>,
}

/// Threads of results from before their number was kept.
fn one() -> u16 {
    1
}

/// A figure under the other order of service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BracketRow {
    /// Name of the figure, such as `delay_p50`.
    pub figure: String,
    /// Its value, in microseconds; none if it is unknown.
    pub other_micros: Option<f64>,
}

/// Simulated values of a measure divided by measured ones, over the compared scenarios.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgreementBand {
    /// Name of the measure, such as `delay_p50`.
    pub measure: String,
    /// Smallest ratio.
    pub lowest: f64,
    /// Largest ratio.
    pub highest: f64,
}
