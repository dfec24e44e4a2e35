//! Verdict, objectives and key figures of a run.

use maud::{Markup, html};

use super::{
    input::RunReport,
    parts::{Table, cell, marks, optional, section},
};
use crate::report::{
    objective_row::ObjectiveRow,
    summary::{RunSummary, Totals},
    sustained::Sustained,
    table::{delivery, workload_line},
    units::{bytes, bytes_or_none},
};

/// Maximum number of reasons, and of warnings.
const MOST_LINES: usize = 50;

/// Title of a run.
pub(super) fn title(run: &RunSummary) -> String {
    run.workload.scenario.clone().unwrap_or_else(|| format!("Run of {} nodes", run.workload.num_nodes))
}

/// Title, facts about the run, verdict and warnings.
pub(super) fn verdict(run: &RunReport) -> Markup {
    let summary = &run.summary;
    let class = if summary.verdict.valid { "verdict valid" } else { "verdict invalid" };
    let list = |lines: &[String], class: &str, title: &str| {
        html! {
            @if !lines.is_empty() {
                div class=(format!("lines {class}")) {
                    h3 { (title) }
                    ul { @for line in lines.iter().take(MOST_LINES) { li { (line) } } }
                    @if lines.len() > MOST_LINES { p.cut { "The first " (MOST_LINES) " of " (lines.len()) "." } }
                }
            }
        }
    };
    html! {
        div class=(class) {
            p.result { @if summary.verdict.valid { "The run is valid." } @else { "The run is INVALID." } }
            p { @if summary.verdict.valid {
                "It measured the requested experiment."
            } @else {
                "Its figures do not describe the requested experiment."
            } }
        }
        (list(&summary.verdict.reasons, "reasons", "Reasons"))
        (list(&summary.verdict.warnings, "warnings", "Warnings"))
        (list(&run.notes, "notes", "About this report"))
    }
}

/// Facts about a run in one paragraph.
pub(super) fn facts(run: &RunReport) -> Markup {
    let manifest = run.manifest.clone().unwrap_or_default();
    html! {
        p.quiet {
            (workload_line(&run.summary))
            @if let Some(backend) = &manifest.backend { ", deployment " (backend) }
            @if let Some(host) = &manifest.host { ", host " (host) }
            @if let Some(started) = &manifest.started { ", started " (started.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ")) " UTC" }
            ", apollo-bench " (run.summary.version)
        }
        p.quiet { "Folder " code { (run.name) } }
    }
}

/// Objectives, in a table.
pub(super) fn objectives(objectives: &[ObjectiveRow]) -> Markup {
    let row = |row: &ObjectiveRow| {
        let result = if row.passed { "passed" } else { "FAILED" };
        vec![row.objective.clone(), result.into(), row.shown.clone(), row.reason.clone().unwrap_or_default()]
    };
    let table = Table {
        caption: "Objectives of the run",
        columns: &["objective", "result", "value", "reason"],
        texts: &[1, 3],
        rows: objectives.iter().map(row).collect(),
    };
    section("Objectives", &table.markup())
}

/// Text of the verdict on the load.
pub(super) fn sustained(sustained: &Sustained) -> (&'static str, &str) {
    match sustained.sustained {
        Some(true) => ("yes", ""),
        Some(false) => ("no", &sustained.reason),
        None => ("unknown", &sustained.reason),
    }
}

/// Key figures as cards.
pub(super) fn key_figures(run: &RunReport) -> Markup {
    let summary = &run.summary;
    let Some(totals) = &summary.totals else { return html! {} };
    let card = |name: &str, value: String, more: String| {
        html! { div.card { dt { (name) } dd { strong { (value) } @if !more.is_empty() { span { (more) } } } } }
    };
    let (load, reason) = sustained(&totals.sustained);
    let window = &totals.delay;
    let reach = totals.reach_2_3.as_ref();
    let cards = html! {
        dl.cards {
            (card("Delivery ratio", delivery(totals.delivered, totals.expected), format!(
                "{} of {} deliveries", totals.delivered, totals.expected)))
            (card("Sustained", load.into(), backlog(totals)))
            @if let Some(reach) = reach {
                (card("Reaches 2/3 of the weight", cell(reach, 0.5), format!("median; p99 {}", cell(reach, 0.99))))
            }
            (card("Delay, median", cell(window, 0.5), format!("p90 {}", cell(window, 0.9))))
            (card("Delay, p99", cell(window, 0.99), format!("p99.9 {}, max {}", cell(window, 0.999), cell(window, 1.0))))
            (card("Delivered in the window", format!("{}/s", bytes(totals.delivered_bytes_per_second)), offered(totals)))
            (card("Messages sent", format!("{:.1}/s", totals.sent_per_second), format!(
                "{} of {} intended in {:.1} s", totals.sent, totals.intended, totals.window_seconds)))
            (card("Send lag, p99", cell(&totals.send_lag, 0.99), format!("max {}", cell(&totals.send_lag, 1.0))))
            (card("Processor time", format!("{} s", optional(totals.cpu_seconds, 2)), format!(
                "{} s per million deliveries", optional(totals.cpu_seconds_per_million_deliveries, 1))))
            (card("Peak memory", bytes_or_none(summary.peak_memory_bytes), "in all nodes together".into()))
            @if let Some(misses) = totals.deadline_misses {
                (card("After the deadline", misses.to_string(), "deliveries, or never".into()))
            }
        }
        @if !reason.is_empty() { p { "Sustained: " (load) ", because " (reason) "." } }
        (marks())
    };
    section("Key figures", &cards)
}

fn backlog(totals: &Totals) -> String {
    format!("{} deliveries missing at the end of the window", totals.backlog_at_end)
}

fn offered(totals: &Totals) -> String {
    totals.offered_bytes_per_second.map_or_else(String::new, |rate| format!("of {}/s offered", bytes(rate)))
}
