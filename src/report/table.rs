//! Results for the terminal.

use comfy_table::{CellAlignment, LineStyle, Table, presets::UTF8_HORIZONTAL_ONLY};

use super::summary::{DelaySummary, NodeRow, RunSummary, TrialRow};

const NONE: &str = "-";

/// Microseconds as a person reads them.
fn time(micros: Option<u64>) -> String {
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

fn empty_table() -> Table {
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

fn align_numbers(table: &mut Table, columns: usize) {
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
    use super::*;

    #[test]
    fn a_loss_is_never_rounded_away() {
        assert_eq!(delivery(Some(1.0)), "1 (exact)");
        assert_eq!(delivery(Some(0.999_999_99)), "0.999999");
        assert_eq!(delivery(None), "-");
    }

    #[test]
    fn times_and_sizes_have_fitting_units() {
        assert_eq!([time(Some(999)), time(Some(1500)), time(Some(3_000_000))], ["999 us", "1.50 ms", "3.000 s"]);
        assert_eq!([bytes(1023.0), bytes(1536.0), bytes(4.0 * 1024.0 * 1024.0)], ["1023 B", "1.5 KiB", "4.0 MiB"]);
    }
}
