//! Pages about several runs that answer one question: a search for the limit, a comparison of two sides.

use maud::{Markup, html};

use super::{
    page::shell,
    parts::{Table, section},
    plots::{Axis, Caption, Interval, Line, LineStyle, Unit, intervals, lines},
};
use crate::report::{
    comparison::{ChangeKind, ComparisonFile, MeasureRow, MeasureVerdict, measure_cells},
    search::{Search, SearchTrial, limit_name, load_text},
    units::{NONE, bytes, time},
};

/// Page about a search: the interval and its limits, the delay and the delivery over the load, all trials.
pub fn search_page(search: &Search) -> String {
    let at = |load: f64| format!("{} {}", load_text(search.axis, load), search.unit);
    let heading = match (search.holds, search.fails) {
        (Some(holds), Some(fails)) => format!("Holds {}, fails {}", at(holds), at(fails)),
        (Some(holds), None) => format!("Holds {}, the highest load of the search", at(holds)),
        (None, Some(fails)) => format!("Fails {}, the lowest load of the search", at(fails)),
        (None, None) => "A search without a result".into(),
    };
    let limits = Table {
        caption: "Parts that gave way at the lowest load that fails",
        columns: &["limit", "evidence"],
        texts: &[1],
        rows: search.limits.iter().map(|limit| vec![limit_name(limit.limit).into(), limit.evidence.clone()]).collect(),
    };
    let body = html! {
        (section("Objectives", &html! { ul { @for text in &search.objectives { li { (text) } } } }))
        (section("Limits", &limits.markup()))
        (section("Load", &load_charts(search)))
        (section("Trials", &trials(search)))
    };
    shell(&heading, &html! {}, &body)
}

/// Delay and delivery over the load.
fn load_charts(search: &Search) -> Markup {
    let points = |value: fn(&SearchTrial) -> Option<f64>, holds: bool| {
        let chosen = search.trials.iter().filter(|trial| trial.holds == holds && !trial.disturbed);
        let mut points: Vec<(f64, f64)> = chosen.filter_map(|trial| Some((trial.load, value(trial)?))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    };
    let both =
        |value: fn(&SearchTrial) -> Option<f64>| {
            [("holds", true, LineStyle::Points), ("fails", false, LineStyle::Crosses)].map(|(name, holds, style)| {
                Line { name: name.into(), series: usize::from(!holds), style, points: points(value, holds) }
            })
        };
    let caption =
        |title: &str| Caption { title: title.into(), text: format!("Every trial over its load, in {}.", search.unit) };
    let load = Axis::logarithmic(&search.unit, Unit::Count);
    let p99 = both(|trial| trial.delay_p99_micros.map(|micros| micros as f64));
    let delivery = both(|trial| trial.delivery_ratio);
    html! {
        div.figures {
            (lines(&caption("99th percentile of the delay"), (&load, &Axis::logarithmic("delay", Unit::Micros)), &p99, &[], &[]))
            (lines(&caption("Delivered share"), (&load, &Axis::linear("delivered / expected", Unit::Share)), &delivery, &[], &[]))
        }
        p.quiet { "A percentile that lies among deliveries that never arrived has no point." }
    }
}

fn trials(search: &Search) -> Markup {
    let row = |trial: &SearchTrial| {
        let result = match (trial.disturbed, trial.holds) {
            (true, _) => "disturbed",
            (false, true) => "holds",
            (false, false) => "fails",
        };
        vec![
            trial.folder.clone(),
            load_text(search.axis, trial.load),
            result.into(),
            trial.delivery_ratio.map_or_else(|| NONE.into(), |ratio| format!("{ratio:.6}")),
            time(trial.delay_p50_micros),
            time(trial.delay_p99_micros),
            time(trial.reach_all_p99_micros),
            format!("{}/s", bytes(trial.delivered_bytes_per_second)),
            trial.missed.join("; "),
        ]
    };
    let table = Table {
        caption: "All trials, in their order",
        columns: &[
            "folder",
            "load",
            "result",
            "delivery",
            "delay p50",
            "delay p99",
            "reach all p99",
            "delivered",
            "missed objectives",
        ],
        texts: &[2, 8],
        rows: search.trials.iter().map(row).collect(),
    };
    table.markup()
}

/// Page about a comparison: a row and an interval for each measure, and the runs of both sides.
pub fn comparison_page(file: &ComparisonFile) -> String {
    let measures = &file.comparison.measures;
    let count = |verdict: MeasureVerdict| measures.iter().filter(|row| row.verdict == verdict).count();
    let heading = format!(
        "B against A: better in {}, worse in {}, of {} measures",
        count(MeasureVerdict::Better),
        count(MeasureVerdict::Worse),
        measures.len()
    );
    let interval = |row: &MeasureRow| {
        let change = row.change.filter(|change| change.kind == ChangeKind::Ratio)?;
        let series = match row.verdict {
            MeasureVerdict::Worse => 1,
            MeasureVerdict::Better => 2,
            _ => 0,
        };
        Some(Interval {
            name: row.name.clone(),
            low: change.lower?,
            middle: change.estimate?,
            high: change.upper?,
            series,
        })
    };
    let rows: Vec<Interval> = measures.iter().filter_map(interval).collect();
    let caption = Caption {
        title: "B divided by A".into(),
        text: format!("The estimate and its {:.0} % interval for each measure.", file.comparison.confidence * 100.0),
    };
    let row = |row: &MeasureRow| {
        let p_value = row.adjusted_p_value.map_or_else(|| NONE.into(), |p| format!("{p:.4}"));
        let [name, a, b, change, verdict] = measure_cells(row);
        vec![name, a, b, change, p_value, verdict]
    };
    let table = Table {
        caption: "Measures of both sides: medians of runs, change from A to B with its interval, adjusted p value",
        columns: &["measure", "A", "B", "B/A, or B - A", "p", "verdict"],
        texts: &[5],
        rows: measures.iter().map(row).collect(),
    };
    let runs = Table {
        caption: "Runs",
        columns: &["side", "folder"],
        texts: &[1],
        rows: [("A", &file.a), ("B", &file.b)]
            .into_iter()
            .flat_map(|(side, names)| names.iter().map(move |name| vec![side.to_owned(), name.clone()]))
            .collect(),
    };
    let sides = [("A", &file.side_a), ("B", &file.side_b)];
    let verdicts = html! {
        ul { @for (side, text) in sides.iter().filter(|(_, text)| !text.is_empty()) { li { b { (side) } ": " (text) } } }
        (table.markup())
        @for note in &file.comparison.notes { p.quiet { (note) } }
        div.figures { (intervals(&caption, &Axis::logarithmic("B / A", Unit::Ratio), &rows, Some(1.0))) }
    };
    let body = html! {
        (section("Verdicts", &verdicts))
        (section("Runs", &runs.markup()))
    };
    shell(&heading, &html! {}, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        comparison::{COMPARISON_SCHEMA_VERSION, Comparison},
        search::{Axis as LoadAxis, Limit, LimitKind, SEARCH_SCHEMA_VERSION},
    };

    #[test]
    fn a_search_shows_its_interval_its_limit_and_every_trial() {
        let trial = |load: f64, holds: bool| SearchTrial {
            folder: format!("load-{load}"),
            load,
            holds,
            disturbed: false,
            missed: vec![],
            delivery_ratio: Some(if holds { 1.0 } else { 0.9 }),
            delay_p50_micros: Some(1000),
            delay_p99_micros: Some((load * 1000.0) as u64),
            reach_all_p99_micros: None,
            delivered_bytes_per_second: 1.0,
            limits: vec![],
        };
        let search = Search {
            schema_version: SEARCH_SCHEMA_VERSION,
            axis: LoadAxis::Rate,
            unit: "messages/s".into(),
            objectives: vec!["lost == 0".into()],
            precision_percent: 5.0,
            holds: Some(40.0),
            fails: Some(42.0),
            done: true,
            limits: vec![Limit { limit: LimitKind::Link, evidence: "<node 1> sent".into() }],
            trials: vec![trial(40.0, true), trial(42.0, false)],
        };
        let page = search_page(&search);
        for text in ["Holds 40.0 messages/s, fails 42.0 messages/s", "&lt;node 1&gt; sent", "load-42", "<svg"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("<node 1>"));
    }

    #[test]
    fn a_comparison_without_measures_is_a_page_too() {
        let comparison = Comparison {
            schema_version: COMPARISON_SCHEMA_VERSION,
            confidence: 0.95,
            tests: 0,
            measures: vec![],
            notes: vec![],
        };
        let page = comparison_page(&ComparisonFile {
            side_a: "five.toml".into(),
            side_b: "five.toml with nodes.count=4".into(),
            a: vec!["one".into()],
            b: vec![],
            comparison,
        });
        assert!(page.contains("better in 0, worse in 0, of 0 measures") && page.contains("one"));
    }
}
