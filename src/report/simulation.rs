//! A run in virtual time: its model, and the figures that such a run can't have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    figures::{Figure, figures},
    quantiles::DelaySummary,
    summary::RunSummary,
    units::{bytes, time},
};

/// Model of a run in virtual time, and its cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SimulationFacts {
    /// Seed of all random numbers: the same one gives the same result again, with the same build.
    pub seed: u64,
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
    /// Smallest and largest ratio.
    pub lowest: f64,
    /// Largest ratio.
    pub highest: f64,
}

/// Removes the figures of a run that a simulation can't know: processors are infinitely fast, so nothing is sent late, and
/// no node has memory of its own.
pub(super) fn leave_out_unknown(run: &mut RunSummary) {
    run.peak_memory_bytes = None;
    run.processor_use.clear();
    let of_trials = run.trials.iter_mut().map(|trial| &mut trial.totals);
    for totals in run.totals.iter_mut().chain(of_trials) {
        totals.cpu_seconds = None;
        totals.cpu_seconds_per_million_deliveries = None;
        totals.send_lag = DelaySummary::default();
    }
    run.classes.iter_mut().for_each(|class| class.send_lag = DelaySummary::default());
    for node in &mut run.nodes {
        node.cpu_seconds = None;
        node.peak_memory_bytes = None;
        node.send_lag = DelaySummary::default();
    }
}

impl SimulationFacts {
    /// Rows of the table of the result `run`.
    pub(super) fn rows(&self, run: &RunSummary) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            (
                "simulated",
                format!(
                    "seed {}, connections of a host {}, TCP with {}, processors {}",
                    self.seed,
                    if self.discipline == "fifo" { "in one queue" } else { "in turns" },
                    self.congestion_control,
                    self.processors
                ),
            ),
            ("virtual time", self.pace()),
            (
                "packets",
                format!(
                    "{} over {} connections; {} lost, {} dropped by full queues, {} sent again",
                    self.packets, self.connections, self.lost_packets, self.dropped_packets, self.resent_packets
                ),
            ),
        ];
        if !self.shortcuts.is_empty() {
            rows.push(("shortcuts", self.shortcuts.join("; ")));
        }
        let own = if self.bracket.is_empty() { vec![] } else { figures(run) };
        for row in &self.bracket {
            let of_run = own.iter().find(|figure| figure.name == row.figure).and_then(Figure::number);
            let micros = |value: Option<f64>| time(value.map(|value| value.round() as u64));
            let (one, other) = (micros(of_run), micros(row.other_micros));
            let (fair, fifo) = if self.discipline == "fifo" { (other, one) } else { (one, other) };
            rows.push(("bracket", format!("{}: {fair} in turns, {fifo} in one queue", row.figure)));
        }
        let bands = self
            .agreement
            .iter()
            .map(|band| format!("{} {:.2} to {:.2} times the measured value", band.measure, band.lowest, band.highest));
        let bands: Vec<String> = bands.collect();
        rows.push((
            "agreement",
            if bands.is_empty() { "not compared with a real network".into() } else { bands.join("; ") },
        ));
        if !self.extrapolated.is_empty() {
            rows.push(("extrapolated", self.extrapolated.join("; ")));
        }
        rows
    }

    fn pace(&self) -> String {
        let Some(wall) = self.wall_seconds else { return format!("{:.1} s", self.virtual_seconds) };
        let memory = self.peak_memory_bytes.map_or_else(String::new, |memory| format!(", {}", bytes(memory as f64)));
        format!(
            "{:.1} s in {wall:.1} s{memory} ({:.2} times as fast as real time)",
            self.virtual_seconds,
            self.virtual_seconds / wall.max(1e-3)
        )
    }
}
