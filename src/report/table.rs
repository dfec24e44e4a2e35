//! Results for the terminal.

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, presets::UTF8_HORIZONTAL_ONLY,
};

use super::link_table::links_line;
use super::machine::machine_line;
use super::summary::{DelaySummary, Deliveries, NodeRow, PhaseRow, RunSummary, TrialRow};

const NONE: &str = "-";

/// Microseconds as a person reads them.
pub(super) fn time(micros: Option<u64>) -> String {
    match micros {
        None => NONE.into(),
        Some(micros) if micros < 1_000 => format!("{micros} us"),
        Some(micros) if micros < 1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        Some(micros) => format!("{:.3} s", micros as f64 / 1e6),
    }
}

/// Bytes as a person reads them, in powers of 1024.
fn bytes(count: f64) -> String {
    let mut count = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if count < 1024.0 {
            return if unit == "B" { format!("{count:.0} B") } else { format!("{count:.1} {unit}") };
        }
        count /= 1024.0;
    }
    format!("{count:.1} TiB")
}

/// A ratio that is 1 only when it is exactly 1: a loss is never rounded away.
fn delivery(ratio: Option<f64>) -> String {
    match ratio {
        None => NONE.into(),
        Some(1.0) => "1 (exact)".into(),
        Some(ratio) => format!("{:.6}", if ratio < 1.0 { ratio.min(0.999_999) } else { ratio }),
    }
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.into(), |value| format!("{value:.digits$}"))
}

pub(super) fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table
}

fn percentiles(delay: &DelaySummary) -> String {
    format!(
        "p50 {}   p90 {}   p99 {}   p99.9 {}   max {}",
        time(delay.p50_micros),
        time(delay.p90_micros),
        time(delay.p99_micros),
        time(delay.p999_micros),
        time(delay.max_micros)
    )
}

/// The whole result: what got through, how fast, at what cost; then the verdict.
pub fn run_table(run: &RunSummary) -> String {
    let totals = &run.totals;
    let workload = &run.workload;
    let mut table = empty_table();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let mut what = format!(
        "{} nodes, mode {}, {} over {}",
        workload.num_nodes, workload.mode, workload.network_protocol, workload.transport
    );
    if let (Some(size), Some(heartbeat)) = (workload.message_size_bytes, workload.heartbeat_millis) {
        what.push_str(&format!(", {size} B every {heartbeat} ms"));
    }
    row("workload", what);
    row(
        "sent",
        format!(
            "{} of {} intended in {:.1} s ({} late, {} missed)",
            totals.sent, totals.intended, totals.window_seconds, totals.late, totals.missed
        ),
    );
    row("expected", format!("{} deliveries", totals.expected));
    row("delivered", format!("{} deliveries", totals.delivered));
    row("delivery ratio", delivery(totals.delivery_ratio));
    row("duplicates", format!("{} ({} messages out of order)", totals.duplicates, totals.reordered));
    row(
        "throughput",
        format!(
            "{:.1} messages/s sent, {}/s sent, {}/s delivered",
            totals.sent_per_second,
            bytes(totals.sent_bytes_per_second),
            bytes(totals.delivered_bytes_per_second)
        ),
    );
    row("delay", percentiles(&totals.delay));
    row("send lag", percentiles(&totals.send_lag));
    if let Some(certificate) = &run.links {
        row("links", links_line(certificate));
        if let Some(line) = machine_line(&run.machines, certificate) {
            row("machine", line);
        }
    }
    row(
        "CPU",
        format!(
            "{:.2} s in the window, {} s per million deliveries",
            totals.cpu_seconds,
            optional(totals.cpu_seconds_per_million_deliveries, 1)
        ),
    );
    row("peak memory", format!("{} in all nodes together", bytes(run.peak_memory_bytes as f64)));
    row(
        "on the wire",
        format!("{} bytes per delivered payload byte", optional(totals.wire_bytes_per_delivered_byte, 3)),
    );
    let mut text = table.to_string();
    text.push('\n');
    for warning in &run.verdict.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for reason in &run.verdict.reasons {
        text.push_str(&format!("invalid: {reason}\n"));
    }
    text.push_str(if run.verdict.valid { "The run is valid.\n" } else { "The run is INVALID.\n" });
    text
}

pub(super) fn align_numbers(table: &mut Table, columns: usize) {
    for column in 0..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A line for each node.
pub fn per_node_table(nodes: &[NodeRow]) -> String {
    let mut table = empty_table();
    let header =
        ["node", "sent", "late", "missed", "received", "expected", "dup.", "p50", "p99", "max", "CPU s", "memory"];
    table.set_header(header);
    for node in nodes {
        table.add_row([
            node.node.to_string(),
            node.sent.to_string(),
            node.late.to_string(),
            node.missed.to_string(),
            node.received.to_string(),
            node.expected.to_string(),
            node.duplicates.to_string(),
            time(node.delay.p50_micros),
            time(node.delay.p99_micros),
            time(node.delay.max_micros),
            format!("{:.2}", node.cpu_seconds),
            bytes(node.peak_memory_bytes as f64),
        ]);
    }
    align_numbers(&mut table, header.len());
    format!("{table}\n")
}

/// Columns of text in the table of phases, and where the longest one is.
const PHASE_TEXTS: usize = 3;
const PHASE_EVENTS: usize = 2;

/// Widest table of phases, in characters.
const WIDEST: u16 = 120;

/// Seconds as short as they can be said.
fn seconds(value: f64) -> String {
    format!("{}", (value * 1e3).round() / 1e3)
}

/// A line for each phase of the measured window; below it, where the network was cut into groups, two more.
pub fn phase_table(phases: &[PhaseRow]) -> String {
    let mut table = empty_table();
    let header =
        ["phase", "span", "what happened", "sent", "expected", "delivered", "after end", "lost", "p50", "p99", "max"];
    table.set_header(header);
    for phase in phases {
        table.add_row([
            phase.number.to_string(),
            format!("{}-{} s", seconds(phase.from_seconds), seconds(phase.to_seconds)),
            phase.events.join("; "),
            phase.sent.to_string(),
            phase.expected.to_string(),
            phase.delivered.to_string(),
            phase.delivered_after_end.to_string(),
            phase.lost.to_string(),
            time(phase.delay.p50_micros),
            time(phase.delay.p99_micros),
            time(phase.delay.max_micros),
        ]);
        let Some(groups) = &phase.groups else { continue };
        let mut part = |name: &str, part: &Deliveries| {
            let counts = [part.expected, part.delivered, part.delivered_after_end, part.lost].map(|n| n.to_string());
            let texts = [String::new(), String::new(), name.to_owned(), String::new()];
            table.add_row(texts.into_iter().chain(counts));
        };
        part("within groups", &groups.within);
        part("across the cut", &groups.across);
    }
    // What happened takes the lines that it needs; numbers are never broken.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
    for (number, column) in table.column_iter_mut().enumerate() {
        if number != PHASE_EVENTS {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        if number >= PHASE_TEXTS {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// A trial in one line, for while the run goes on.
pub fn trial_line(trial: &TrialRow) -> String {
    let totals = &trial.totals;
    format!(
        "trial {}: {} every {} ms, {}/s: sent {}, missed {}, delivery {}, p50 {}, p99 {}",
        trial.trial,
        bytes(trial.plan.message_size as f64),
        trial.plan.heartbeat_millis,
        bytes(trial.plan.throughput()),
        totals.sent,
        totals.missed,
        delivery(totals.delivery_ratio),
        time(totals.delay.p50_micros),
        time(totals.delay.p99_micros)
    )
}

/// A line for each trial of explore mode.
pub fn trial_table(trials: &[TrialRow]) -> String {
    let mut table = empty_table();
    let header = ["trial", "size", "every", "offered", "sent", "missed", "delivery", "p50", "p99", "max", "CPU s"];
    table.set_header(header);
    for trial in trials {
        let totals = &trial.totals;
        table.add_row([
            trial.trial.to_string(),
            bytes(trial.plan.message_size as f64),
            format!("{} ms", trial.plan.heartbeat_millis),
            format!("{}/s", bytes(trial.plan.throughput())),
            totals.sent.to_string(),
            totals.missed.to_string(),
            delivery(totals.delivery_ratio),
            time(totals.delay.p50_micros),
            time(totals.delay.p99_micros),
            time(totals.delay.max_micros),
            format!("{:.2}", totals.cpu_seconds),
        ]);
    }
    align_numbers(&mut table, header.len());
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::{super::summary::GroupDeliveries, *};

    #[test]
    fn a_loss_is_never_rounded_away() {
        assert_eq!(delivery(Some(1.0)), "1 (exact)");
        assert_eq!(delivery(Some(0.999_999_99)), "0.999999");
        assert_eq!(delivery(None), "-");
    }

    #[test]
    fn the_table_of_phases_fits_120_characters_whatever_happened() {
        let delay = DelaySummary {
            count: 1,
            p50_micros: Some(123_450),
            p99_micros: Some(987_650),
            max_micros: Some(12_345_678),
            ..DelaySummary::default()
        };
        let part = Deliveries { expected: 12_000, delivered: 11_000, delivered_after_end: 10, lost: 1_000 };
        let phase = |number: usize, events: &[&str]| PhaseRow {
            number,
            from_seconds: 10.0,
            to_seconds: 22.5,
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            sent: 6_000,
            expected: 24_000,
            delivered: 22_000,
            lost: 2_000,
            delay: delay.clone(),
            groups: (number == 1).then_some(GroupDeliveries { within: part, across: part }),
            ..PhaseRow::default()
        };
        let events = ["partition of nodes 0, 1, 2, 3 and 4 from 5, 6, 7, 8 and 9", "kill of node 3"];
        let text = phase_table(&[phase(0, &[]), phase(1, &events)]);
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        for needle in ["10-22.5 s", "within groups", "across the cut", "24000", "987.65 ms", "12.346 s"] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }

    #[test]
    fn times_and_sizes_have_fitting_units() {
        assert_eq!([time(Some(999)), time(Some(1500)), time(Some(3_000_000))], ["999 us", "1.50 ms", "3.000 s"]);
        assert_eq!([bytes(1023.0), bytes(1536.0), bytes(4.0 * 1024.0 * 1024.0)], ["1023 B", "1.5 KiB", "4.0 MiB"]);
    }
}
