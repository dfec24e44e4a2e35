//! Course of a run: rates and delays over time, with phases and faults.

use maud::{Markup, html};

use super::{
    input::RunReport,
    parts::{Table, cell, section},
    plots::{Axis, Caption, Line, LineStyle, Mark, Span, Unit, lines},
};
use crate::report::{
    summary::{Deliveries, PhaseRow, RunSummary},
    time_series::TimeSeriesPoint,
    units::NONE,
};

/// Minimum time of a rate, in seconds: the points of the drain are closer together.
const LEAST_SECONDS: f64 = 0.5;

/// Rate of a count between points.
pub(super) fn rate(points: &[(f64, TimeSeriesPoint)], count: fn(&TimeSeriesPoint) -> u64) -> Vec<(f64, f64)> {
    let mut rates = vec![];
    let mut before: Option<(f64, u64)> = None;
    for (at, point) in points {
        let now = count(point);
        let Some((from, earlier)) = before else {
            before = Some((*at, now));
            continue;
        };
        if at - from < LEAST_SECONDS {
            continue;
        }
        before = Some((*at, now));
        // A count falls with another trial, or another life of a node.
        let growth = now.checked_sub(earlier).filter(|_| *at >= 0.0);
        rates.extend(growth.map(|growth| (*at, growth as f64 / (at - from))));
    }
    rates
}

fn delays(points: &[(f64, TimeSeriesPoint)], value: fn(&TimeSeriesPoint) -> Option<u64>) -> Vec<(f64, f64)> {
    points.iter().filter(|(at, _)| *at >= 0.0).filter_map(|(at, point)| Some((*at, value(point)? as f64))).collect()
}

fn line(name: &str, series: usize, style: LineStyle, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.into(), series, style, points }
}

/// Faults as events of a chart: at the time at which they began, or should have begun.
fn faults(run: &RunSummary) -> Vec<Mark> {
    let mark = |fault: &crate::report::summary::FaultRow| {
        let seen = fault.seen.as_ref().map_or_else(String::new, |seen| format!(": {seen}"));
        let never = if fault.began_seconds.is_none() { " (never began)" } else { "" };
        let at = fault.began_seconds.unwrap_or(fault.planned_seconds);
        Mark { at, text: format!("{}{never}{seen}", fault.fault) }
    };
    run.faults.iter().map(mark).collect()
}

/// Every second phase.
fn spans(phases: &[PhaseRow]) -> Vec<Span> {
    let odd = phases.iter().filter(|phase| phase.number % 2 == 1);
    odd.map(|phase| Span { from: phase.from_seconds, to: phase.to_seconds }).collect()
}

/// Charts of the course, and the table of the phases.
pub(super) fn course(run: &RunReport) -> Markup {
    let summary = &run.summary;
    let Some(totals) = &summary.totals else { return html! {} };
    let (spans, marks) = (spans(&summary.phases), faults(summary));
    let time = Axis::linear("time after the opening of the window", Unit::Seconds);
    let offered = rate(&run.points, |point| point.expected);
    let delivered = rate(&run.points, |point| point.delivered);
    let peak = |points: &[(f64, f64)]| points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let text = format!(
        "Over {:.1} s, up to {:.0} deliveries per second were due and up to {:.0} arrived; {} faults.",
        totals.window_seconds,
        peak(&offered),
        peak(&delivered),
        marks.len()
    );
    let rates = Caption { title: "Deliveries that became due, and that arrived, per second".into(), text };
    let rate_lines = [line("arrived", 0, LineStyle::Solid, delivered), line("due", 1, LineStyle::Dashed, offered)];
    let recent = [
        line("p99 since the point before", 4, LineStyle::Solid, delays(&run.points, |point| point.recent_p99_micros)),
        line(
            "median since the point before",
            0,
            LineStyle::Solid,
            delays(&run.points, |point| point.recent_p50_micros),
        ),
        line("p99 of the window so far", 1, LineStyle::Dashed, delays(&run.points, |point| point.delay_p99_micros)),
    ];
    let end = recent[2].points.last().map_or(0.0, |(_, value)| *value);
    let text = format!("The 99th percentile of the whole window was {} at its end.", Unit::Micros.value(end));
    let delay = Caption { title: "Delay of the deliveries that arrived".into(), text };
    let content = html! {
        @if !run.points.is_empty() {
            div.figures {
                (lines(&rates, (&time, &Axis::linear("deliveries per second", Unit::PerSecond)), &rate_lines, &spans, &marks))
                (lines(&delay, (&time, &Axis::logarithmic("delay", Unit::Micros)), &recent, &spans, &marks))
            }
            @if !spans.is_empty() { p.quiet { "Every second phase is shaded; numbers at the top are faults." } }
        }
        (phases(&summary.phases))
    };
    section("Course of the run", &content)
}

fn phases(phases: &[PhaseRow]) -> Markup {
    let mut rows = vec![];
    for phase in phases {
        rows.push(vec![
            phase.number.to_string(),
            format!("{:.1} to {:.1} s", phase.from_seconds, phase.to_seconds),
            phase.events.join("; "),
            phase.sent.to_string(),
            phase.dropped.saturating_add(phase.missed).to_string(),
            phase.expected.to_string(),
            phase.delivered.to_string(),
            phase.delivered_after_end.to_string(),
            phase.lost.to_string(),
            cell(&phase.delay, 0.5),
            cell(&phase.delay, 0.99),
        ]);
        let Some(groups) = &phase.groups else { continue };
        let mut part = |name: &str, part: &Deliveries| {
            let counts = [part.expected, part.delivered, part.delivered_after_end, part.lost].map(|n| n.to_string());
            let empty = [phase.number.to_string(), String::new(), name.into(), NONE.into(), NONE.into()];
            rows.push(empty.into_iter().chain(counts).chain([NONE.into(), NONE.into()]).collect());
        };
        part("within groups", &groups.within);
        part("across the cut", &groups.across);
    }
    Table {
        caption: "Phases of the window; late deliveries arrived after the end of their phase",
        columns: &[
            "phase",
            "time",
            "events at its start",
            "sent",
            "not sent",
            "expected",
            "delivered",
            "late",
            "lost",
            "p50",
            "p99",
        ],
        texts: &[1, 2],
        rows,
    }
    .markup()
}
