//! A run in virtual time: its model, and the figures that such a run can't have.

use super::{
    figures::{Figure, figures},
    quantiles::DelaySummary,
    simulation_facts::SimulationFacts,
    summary::RunSummary,
    units::{bytes, time},
};

/// Removes the figures of a run that a simulation can't know: processors are infinitely fast, so nothing is sent late, and
/// no node has memory of its own.
pub(super) fn leave_out_unknown(run: &mut RunSummary) {
    run.peak_memory_bytes = None;
    run.processor_use.clear();
    if let Some(propeller) = &mut run.propeller {
        (propeller.encode_micros, propeller.rebuild_micros) = (None, None);
    }
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

/// Rows of the table of a result about its simulation; none for a run on machines.
pub(super) fn simulation_rows(run: &RunSummary) -> Vec<(&'static str, String)> {
    let Some(facts) = &run.simulation else { return vec![] };
    let mut rows = vec![
        (
            "simulated",
            format!(
                "seed {}, {} {}, connections of a host {}, TCP with {}, processors {}",
                facts.seed,
                facts.threads,
                if facts.threads == 1 { "thread" } else { "threads" },
                if facts.discipline == "fifo" { "in one queue" } else { "in turns" },
                facts.congestion_control,
                facts.processors
            ),
        ),
        ("virtual time", pace(facts)),
        (
            "packets",
            format!(
                "{} over {} connections; {} lost, {} dropped by full queues, {} sent again",
                facts.packets, facts.connections, facts.lost_packets, facts.dropped_packets, facts.resent_packets
            ),
        ),
    ];
    if !facts.shortcuts.is_empty() {
        rows.push(("shortcuts", facts.shortcuts.join("; ")));
    }
    let own = if facts.bracket.is_empty() { vec![] } else { figures(run) };
    for row in &facts.bracket {
        let of_run = own.iter().find(|figure| figure.name == row.figure).and_then(Figure::number);
        let micros = |value: Option<f64>| time(value.map(|value| value.round() as u64));
        let (one, other) = (micros(of_run), micros(row.other_micros));
        let (fair, fifo) = if facts.discipline == "fifo" { (other, one) } else { (one, other) };
        rows.push(("bracket", format!("{}: {fair} in turns, {fifo} in one queue", row.figure)));
    }
    let bands =
        facts.agreement.iter().map(|band| format!("{} {:.2} to {:.2}", band.measure, band.lowest, band.highest));
    let bands: Vec<String> = bands.collect();
    rows.push((
        "agreement",
        if bands.is_empty() {
            "not compared with a real network".into()
        } else {
            format!("times the measured value: {}", bands.join("; "))
        },
    ));
    if !facts.extrapolated.is_empty() {
        rows.push(("extrapolated", facts.extrapolated.join("; ")));
    }
    rows
}

fn pace(facts: &SimulationFacts) -> String {
    let Some(wall) = facts.wall_seconds else { return format!("{:.1} s", facts.virtual_seconds) };
    let memory = facts.peak_memory_bytes.map_or_else(String::new, |memory| format!(", {}", bytes(memory as f64)));
    format!(
        "{:.1} s in {wall:.1} s{memory} ({:.2} times as fast as real time)",
        facts.virtual_seconds,
        facts.virtual_seconds / wall.max(1e-3)
    )
}
