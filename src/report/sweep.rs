//! Trials of a sweep side by side.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    layout::empty_table,
    units::{NONE, bytes, time},
};

/// Version of [`Sweep`]'s JSON; raised when a field changes its meaning or is removed.
pub const SWEEP_SCHEMA_VERSION: u32 = 1;

/// Result of a sweep: `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// [`SWEEP_SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// Trials, in their order.
    pub rows: Vec<SweepRow>,
}

/// A trial of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepRow {
    /// Folder of the run, in the folder of the sweep.
    pub folder: String,
    /// Values of the keys that vary.
    pub values: BTreeMap<String, String>,
    /// True if the run is valid.
    pub valid: bool,
    /// True if it met all objectives.
    pub met_objectives: bool,
    /// Figures of the whole run by name; none for those that are unknown or lie among values that never arrived.
    pub figures: BTreeMap<String, Option<f64>>,
}

/// A line for each trial: the values that vary, and the main figures.
pub fn sweep_table(rows: &[SweepRow]) -> String {
    let mut table = empty_table();
    let keys: Vec<&String> = rows.first().map(|row| row.values.keys().collect()).unwrap_or_default();
    // The end of a key says which it is, and long keys would not fit.
    let short = |key: &&String| key.rsplit('.').next().unwrap_or(key).to_owned();
    let figures = ["delivery", "delay p50", "delay p99", "reach 2/3 p99", "throughput", "CPU s", "verdict"];
    let header = ["trial".to_owned()].into_iter().chain(keys.iter().map(short));
    table.set_header(header.chain(figures.map(str::to_owned)));
    for row in rows {
        let figure = |name: &str| row.figures.get(name).copied().flatten();
        let micros = |name: &str| time(figure(name).map(|micros| micros.round() as u64));
        let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.into());
        let verdict = match (row.valid, row.met_objectives) {
            (false, _) => "invalid",
            (true, false) => "missed",
            (true, true) => "valid",
        };
        let cells = [
            or_none(figure("delivery_ratio").map(|ratio| format!("{ratio:.6}"))),
            micros("delay_p50"),
            micros("delay_p99"),
            micros("reach_2_3_p99"),
            or_none(figure("delivered_bytes_per_second").map(|rate| format!("{}/s", bytes(rate)))),
            or_none(figure("cpu_seconds").map(|seconds| format!("{seconds:.2}"))),
            verdict.to_owned(),
        ];
        table.add_row([row.folder.clone()].into_iter().chain(row.values.values().cloned()).chain(cells));
    }
    format!("{table}\n")
}
