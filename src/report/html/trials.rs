//! Trials of mode explore: the frontier, load against delay and delivery, and the table.

use maud::{Markup, html};

use super::{
    head::sustained,
    parts::{Table, at_least, cell, section},
    plots::{Axis, Caption, Line, LineStyle, Unit, lines},
};
use crate::report::{
    summary::{FrontierRow, RunSummary, TrialRow},
    table::delivery,
    units::{bytes, time},
};

/// Trials of a run; nothing for a run without any.
pub(super) fn trials(run: &RunSummary) -> Markup {
    let best = run.frontier.iter().find(|row| Some(row.trial) == run.best_trial);
    let content = html! {
        @if !run.trials.is_empty() {
            p.best {
                @if let Some(best) = best {
                    "Highest sustained load: " strong { (bytes(best.throughput_bytes_per_second)) "/s" } " with "
                    (bytes(best.plan.message_size as f64)) " every " (best.plan.heartbeat_millis) " ms, p99 "
                    (time(best.p99_micros)) " (trial " (best.trial) ")."
                } @else { "No trial was sustained." }
            }
            (charts(&run.trials))
            (frontier(&run.frontier))
            (table(&run.trials))
        }
    };
    section("Trials", &content)
}

/// Offered load against the delay, and against the delivery ratio.
fn charts(trials: &[TrialRow]) -> Markup {
    let held = |trial: &&TrialRow| trial.problems.is_empty() && trial.totals.sustained.sustained == Some(true);
    let series = |value: fn(&TrialRow) -> Option<f64>| {
        let points = |wanted: bool| {
            let chosen = trials.iter().filter(|trial| held(trial) == wanted);
            let points = chosen.filter_map(|trial| Some((trial.totals.offered_bytes_per_second?, value(trial)?)));
            points.collect::<Vec<(f64, f64)>>()
        };
        [
            Line { name: "sustained".into(), series: 2, style: LineStyle::Points, points: points(true) },
            Line { name: "not sustained".into(), series: 4, style: LineStyle::Crosses, points: points(false) },
        ]
    };
    let load = Axis::logarithmic("offered load, over all receivers", Unit::BytesPerSecond);
    let count = trials.iter().filter(held).count();
    let text = format!("{count} of {} trials were sustained.", trials.len());
    let caption = |title: &str| Caption { title: title.into(), text: text.clone() };
    let p99 = series(|trial| at_least(&trial.totals.delay, 0.99));
    let ratio = series(|trial| trial.totals.delivery_ratio);
    let share = Axis { at_least: Some(0.0..1.0), ..Axis::linear("delivery ratio", Unit::Share) };
    html! {
        div.figures {
            (lines(&caption("99th percentile of the delay (at least), by load"), (&load, &Axis::logarithmic("p99", Unit::Micros)), &p99, &[], &[]))
            (lines(&caption("Delivery ratio, by load"), (&load, &share), &ratio, &[], &[]))
        }
    }
}

fn frontier(frontier: &[FrontierRow]) -> Markup {
    let row = |row: &FrontierRow| {
        vec![
            bytes(row.plan.message_size as f64),
            format!("{} ms", row.plan.heartbeat_millis),
            format!("{}/s", bytes(row.throughput_bytes_per_second)),
            time(row.p99_micros),
            row.trial.to_string(),
        ]
    };
    Table {
        caption: "Frontier: the highest sustained load of each message size",
        columns: &["size", "every", "highest sustained", "p99", "trial"],
        texts: &[],
        rows: frontier.iter().map(row).collect(),
    }
    .markup()
}

fn table(trials: &[TrialRow]) -> Markup {
    let row = |trial: &TrialRow| {
        let totals = &trial.totals;
        let (verdict, reason) = match trial.problems.first() {
            Some(problem) => ("not valid", problem.as_str()),
            None => sustained(&totals.sustained),
        };
        vec![
            trial.trial.to_string(),
            bytes(trial.plan.message_size as f64),
            format!("{} ms", trial.plan.heartbeat_millis),
            format!("{}/s", bytes(totals.offered_bytes_per_second.unwrap_or_default())),
            format!("{}/s", bytes(totals.delivered_bytes_per_second)),
            delivery(totals.delivered, totals.expected),
            totals.backlog_at_end.to_string(),
            totals.missed.saturating_add(totals.dropped).to_string(),
            cell(&totals.delay, 0.5),
            cell(&totals.delay, 0.99),
            verdict.into(),
            reason.into(),
        ]
    };
    Table {
        caption: "All trials",
        columns: &[
            "trial",
            "size",
            "every",
            "offered",
            "delivered",
            "ratio",
            "backlog",
            "not sent",
            "p50",
            "p99",
            "sustained",
            "reason",
        ],
        texts: &[10, 11],
        rows: trials.iter().map(row).collect(),
    }
    .markup()
}
