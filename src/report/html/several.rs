//! Several runs side by side. A difference between two runs proves nothing: the page says so.

use maud::{Markup, html};

use super::{
    course::rate,
    delays::{Decoded, chart},
    head::{sustained, title},
    input::RunReport,
    parts::{Table, cell, section},
    plots::{Axis, Caption, Line, LineStyle, MAX_SERIES, Unit, lines},
};
use crate::report::{
    table::delivery,
    units::{NONE, bytes, bytes_or_none},
};

/// Name of a run among others.
pub(super) fn name(number: usize, run: &RunReport) -> String {
    format!("{}: {}", number + 1, title(&run.summary))
}

/// Figures of all runs in one table, and their distributions in one chart.
pub(super) fn overview(runs: &[RunReport]) -> Markup {
    let row = |(number, run): (usize, &RunReport)| {
        let summary = &run.summary;
        let totals = summary.totals.as_ref();
        let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.into());
        vec![
            name(number, run),
            run.name.clone(),
            if summary.verdict.valid { "valid".into() } else { "INVALID".into() },
            or_none(totals.map(|totals| delivery(totals.delivered, totals.expected))),
            or_none(totals.map(|totals| sustained(&totals.sustained).0.to_owned())),
            or_none(totals.map(|totals| cell(&totals.delay, 0.5))),
            or_none(totals.map(|totals| cell(&totals.delay, 0.99))),
            or_none(totals.map(|totals| cell(&totals.delay, 1.0))),
            or_none(totals.map(|totals| format!("{}/s", bytes(totals.delivered_bytes_per_second)))),
            or_none(totals.and_then(|totals| Some(format!("{:.2}", totals.cpu_seconds?)))),
            bytes_or_none(summary.peak_memory_bytes),
        ]
    };
    let table = Table {
        caption: "Runs of this report",
        columns: &[
            "run",
            "folder",
            "verdict",
            "delivery ratio",
            "sustained",
            "p50",
            "p99",
            "max",
            "delivered",
            "CPU s",
            "memory",
        ],
        texts: &[1, 2],
        rows: runs.iter().enumerate().map(row).collect(),
    };
    let decoded =
        |(number, run): (usize, &RunReport)| Decoded::of(&name(number, run), &run.summary.totals.as_ref()?.delay);
    let delays: Vec<Decoded> = runs.iter().enumerate().filter_map(decoded).collect();
    let rates: Vec<Line> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| run.summary.totals.is_some())
        .map(|(number, run)| Line {
            name: name(number, run),
            series: number,
            style: if number < MAX_SERIES { LineStyle::Solid } else { LineStyle::Dashed },
            points: rate(&run.points, |point| point.delivered),
        })
        .collect();
    let caption = Caption {
        title: "Deliveries that arrived per second".into(),
        text: format!("{} runs, from the opening of the window of each.", rates.len()),
    };
    let time = Axis::linear("time after the opening of the window", Unit::Seconds);
    let content = html! {
        (table.markup())
        div.figures {
            (chart("Delay", &delays))
            @if !rates.is_empty() {
                (lines(&caption, (&time, &Axis::linear("deliveries per second", Unit::PerSecond)), &rates, &[], &[]))
            }
        }
        p.quiet { "Figures of single runs differ by chance. Repeat runs before a difference is called an effect." }
    };
    section("Runs side by side", &content)
}
