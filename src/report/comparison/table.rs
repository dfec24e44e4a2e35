//! Table of a comparison for the terminal.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

use super::{
    super::{
        layout::empty_table,
        units::{NONE, bytes},
    },
    result::{Change, ChangeKind, Comparison, MeasureRow, MeasureVerdict, Side},
};

/// Width of the table, in characters; longer names and reasons are wrapped over several lines.
const WIDTH: usize = 100;

/// Number of the column with the verdict, the only one besides the name that may be wrapped.
const VERDICT: usize = 4;

/// Width that the names leave to the verdicts, which holds `no difference > 24.05 ms`.
const VERDICTS: usize = 24;

/// Width that the names have in any case.
const SHORT_NAMES: usize = 16;

/// Characters between two columns.
const BETWEEN: usize = 2;

/// A number with four digits that matter, without zeros at its end.
fn number(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if !(-6..15).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.*}", usize::try_from(3 - magnitude).unwrap_or(0));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A value in its unit.
fn value(value: f64, unit: &str) -> String {
    match unit {
        "us" => match value.abs() {
            ..1e3 => format!("{} us", number(value)),
            ..1e6 => format!("{} ms", number(value / 1e3)),
            _ => format!("{} s", number(value / 1e6)),
        },
        "bytes" if value >= 0.0 => bytes(value),
        "bytes" => format!("-{}", bytes(-value)),
        // A loss is never rounded away.
        "ratio" if value < 1.0 && value > 0.999 => format!("{:.6}", value.min(0.999_999)),
        "ratio" | "" => number(value),
        unit => format!("{} {unit}", number(value)),
    }
}

fn median(side: &Side, unit: &str) -> String {
    match side.median {
        Some(median) => value(median, unit),
        None if side.infinite > 0 => "infinite".into(),
        None => NONE.into(),
    }
}

fn change(change: &Change, unit: &str) -> String {
    let text = |number: Option<f64>, open: &str| match (number, change.kind) {
        (None, _) => open.to_owned(),
        (Some(number), ChangeKind::Ratio) => format!("{number:.3}"),
        (Some(number), ChangeKind::Difference) => {
            let sign = if number > 0.0 { "+" } else { "" };
            format!("{sign}{}", value(number, unit))
        }
    };
    let lowest = if change.kind == ChangeKind::Ratio { "0" } else { "-inf" };
    let ends = format!("[{}, {}]", text(change.lower, lowest), text(change.upper, "inf"));
    format!("{} {ends}", text(change.estimate, NONE))
}

fn verdict(row: &MeasureRow) -> String {
    match row.verdict {
        MeasureVerdict::Better => "better".into(),
        MeasureVerdict::Worse => "worse".into(),
        MeasureVerdict::Different => "different".into(),
        MeasureVerdict::NoDifference => match (row.no_difference_larger_than_percent, row.no_difference_larger_than) {
            (Some(percent), _) => format!("no difference > {} %", percent_text(percent)),
            (None, Some(largest)) => format!("no difference > {}", value(largest, &row.unit)),
            (None, None) => "no difference".into(),
        },
        MeasureVerdict::Unknown => format!("unknown: {}", row.reason.as_deref().unwrap_or(NONE)),
    }
}

/// A percentage that is never below the true one.
fn percent_text(percent: f64) -> String {
    number(if percent < 10.0 { (percent * 10.0).ceil() / 10.0 } else { percent.ceil() })
}

/// A measure for people: its name, the medians of A and B, the change with its interval, the verdict on B.
pub(crate) fn measure_cells(row: &MeasureRow) -> [String; 5] {
    let change = row.change.as_ref().map_or_else(|| NONE.into(), |known| change(known, &row.unit));
    [row.name.clone(), median(&row.a, &row.unit), median(&row.b, &row.unit), change, verdict(row)]
}

/// A line for each measure: medians of both sides, change with its interval, verdict on B.
pub fn comparison_table(comparison: &Comparison, a_name: &str, b_name: &str) -> String {
    let runs = |side: fn(&MeasureRow) -> &Side| {
        comparison.measures.first().map_or(0, |row| side(row).runs + side(row).unknown)
    };
    let mut table = empty_table();
    let mut rows = vec![["measure", "A", "B", "B/A", "verdict on B"].map(str::to_owned)];
    rows.extend(comparison.measures.iter().map(measure_cells));
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + BETWEEN;
    let names =
        WIDTH.saturating_sub(VERDICTS + (1..VERDICT).map(widest).sum::<usize>()).max(SHORT_NAMES).min(widest(0));
    table.set_header(&rows[0]);
    table.add_rows(&rows[1..]);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX));
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if at == 0 {
            let width = Width::Fixed(u16::try_from(names - 1).unwrap_or(u16::MAX));
            column.set_constraint(ColumnConstraint::Absolute(width));
        } else if at != VERDICT {
            // Numbers are never broken.
            column.set_constraint(ColumnConstraint::ContentWidth).set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text =
        format!("A: {a_name}, {} runs\nB: {b_name}, {} runs\n{table}\n", runs(|row| &row.a), runs(|row| &row.b));
    text.push_str(&format!(
        "medians of the runs; B/A (or B - A, with a sign, where a value is 0) with its {} % interval\n",
        number(comparison.confidence * 100.0)
    ));
    let halves = comparison.measures.iter().filter(|row| row.verdict == MeasureVerdict::NoDifference);
    if let Some(more) = halves.filter_map(|row| row.runs_for_half).max() {
        text.push_str(&format!("{more} more runs a side would make the intervals about half as wide\n"));
    }
    for note in &comparison.notes {
        text.push_str(note);
        text.push('\n');
    }
    text
}
