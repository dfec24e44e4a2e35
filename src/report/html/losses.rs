//! Messages that were not sent, not delivered or not counted, and the causes.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    input::RunReport,
    parts::{Table, section},
};
use crate::report::{
    cause::{Cause, Effect},
    drain::DrainEnd,
    summary::Totals,
    table::cause_name,
};

/// Losses and causes of a run.
pub(super) fn losses(run: &RunReport) -> Markup {
    let summary = &run.summary;
    let content = html! {
        (causes(&summary.causes))
        div.tables {
            @if let Some(totals) = &summary.totals {
                div { (fates(totals, summary.drain.map(|drain| drain.ended))) }
            }
            div {
            (labels("Not sent, by reason; messages and copies of the whole run", "reason", &summary.dropped))
            (labels("Arrivals that were not counted, by reason", "reason", &summary.malformed))
            (labels("Events of the network", "event", &summary.events))
            (labels("Counters of gossipsub itself", "counter", &summary.gossipsub))
            }
        }
    };
    section("Losses and their causes", &content)
}

/// Causes of lost deliveries, and of the slowest ones.
fn causes(causes: &[Cause]) -> Markup {
    let row = |cause: &Cause| {
        let effect = match cause.effect {
            Effect::Lost => "lost",
            Effect::Late => "late",
        };
        vec![
            format!("why {effect}"),
            cause.class.clone(),
            cause_name(cause.cause).to_owned(),
            cause.deliveries.to_string(),
            format!("{:.0} %", cause.share * 100.0),
            cause.evidence.clone(),
        ]
    };
    Table {
        caption: "Causes of lost deliveries, and of the slowest hundredth",
        columns: &["effect", "class", "cause", "deliveries", "share", "evidence"],
        texts: &[1, 2, 5],
        rows: causes.iter().map(row).collect(),
    }
    .markup()
}

/// Fates of the intended messages, and of the expected deliveries.
fn fates(totals: &Totals, drain: Option<DrainEnd>) -> Markup {
    let part = |count: u64, of: u64| match of {
        0 => String::new(),
        of => format!("{:.4} %", 100.0 * count as f64 / of as f64),
    };
    let lost = match drain {
        Some(DrainEnd::Limit) => "had not arrived when the wait for late messages ended",
        Some(_) => "never arrived: nothing was under way any more",
        None => "had not arrived when the run ended",
    };
    let row = |name: &str, count: u64, of: u64, meaning: &str| {
        vec![name.to_owned(), count.to_string(), part(count, of), meaning.to_owned()]
    };
    let (intended, expected) = (totals.intended, totals.expected);
    let mut rows = vec![
        row("intended messages", intended, 0, "in the schedules of all nodes"),
        row("sent", totals.sent, intended, "handed to the network"),
        row("sent late", totals.late, intended, "after the next message was due"),
        row("dropped", totals.dropped, intended, "the queues of the sender were full: no copy was queued"),
        row("missed", totals.missed, intended, "the sender did not reach them in time, or was away"),
        row("expected deliveries", expected, 0, "intended messages times their receivers"),
        row("delivered", totals.delivered, expected, "arrived, in the window or after it"),
        row("lost", totals.lost, expected, lost),
        row("dropped copies", totals.dropped_copies, expected, "for single peers, of messages that count as sent"),
        row("missing at the end", totals.backlog_at_end, expected, "not there when the window closed"),
        row("duplicates", totals.duplicates, expected, "arrivals of a message that was there"),
        row("out of order", totals.reordered, expected, "arrived after a later message of the same sender"),
        row("undecided", totals.undecided, expected, "too late to be distinguished from duplicates"),
        row("negative delays", totals.negative_delays, expected, "counted as 0: the clocks differ"),
    ];
    if let Some(misses) = totals.deadline_misses {
        rows.insert(8, row("after the deadline", misses, expected, "later than the deadline of the class, or never"));
    }
    Table {
        caption: "Messages and deliveries of the window",
        columns: &["count of", "number", "share", "meaning"],
        texts: &[3],
        rows,
    }
    .markup()
}

fn labels(caption: &str, name: &str, counts: &BTreeMap<String, u64>) -> Markup {
    let rows = counts.iter().map(|(label, count)| vec![label.clone(), count.to_string()]).collect();
    Table { caption, columns: &[name, "number"], texts: &[], rows }.markup()
}
