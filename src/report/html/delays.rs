//! Distributions of delays and of the times to reach, and the traffic classes.

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::{
    input::RunReport,
    parts::{Table, cell, section},
    plots::{Caption, Distribution, cdf},
};
use crate::report::{
    quantiles::DelaySummary,
    summary::{ClassRow, Totals},
    table::delivery,
    units::{NONE, bytes},
};

/// A distribution of the summary, decoded.
pub(super) struct Decoded {
    pub(super) name: String,
    values: Histogram<u64>,
    missing: u64,
}

impl Decoded {
    /// Decodes a distribution; none if it is empty or can't be read.
    pub(super) fn of(name: &str, delay: &DelaySummary) -> Option<Self> {
        let values = delay.histogram.decode().ok().filter(|values| !values.is_empty())?;
        Some(Self { name: name.into(), values, missing: delay.missing })
    }
}

/// Chart of several distributions; `what` completes "Time until".
pub(super) fn chart(title: &str, distributions: &[Decoded]) -> Markup {
    let lines: Vec<Distribution<'_>> = distributions
        .iter()
        .map(|one| Distribution { name: one.name.clone(), values: &one.values, missing: one.missing })
        .collect();
    let sentence = |one: &Decoded| {
        let all = one.values.len().saturating_add(one.missing);
        format!(
            "{}: median {} us of {all} values, {} never arrived.",
            one.name,
            one.values.value_at_quantile(0.5),
            one.missing
        )
    };
    let text = distributions.iter().map(sentence).collect::<Vec<_>>().join(" ");
    html! { @if !lines.is_empty() { (cdf(&Caption { title: title.into(), text }, &lines)) } }
}

fn reach_lines(totals: &Totals) -> Vec<Decoded> {
    [("1/3", &totals.reach_1_3), ("2/3", &totals.reach_2_3), ("all", &totals.reach_all)]
        .into_iter()
        .filter_map(|(part, delay)| Decoded::of(&format!("{part} of the weight"), delay.as_ref()?))
        .collect()
}

/// Distributions of a run: times to reach, delays, and the delays of the classes.
pub(super) fn distributions(run: &RunReport) -> Markup {
    let Some(totals) = &run.summary.totals else { return html! {} };
    let reach = reach_lines(totals);
    let delays: Vec<Decoded> =
        [("delay", &totals.delay), ("network delay", &totals.network_delay), ("send lag", &totals.send_lag)]
            .into_iter()
            .filter_map(|(name, delay)| Decoded::of(name, delay))
            .collect();
    let classes = &run.summary.classes;
    let by_class: Vec<Decoded> = if classes.len() > 1 {
        classes.iter().filter_map(|class| Decoded::of(&class.name, &class.delay)).collect()
    } else {
        vec![]
    };
    let reach_by_class: Vec<Decoded> = if classes.len() > 1 {
        classes.iter().filter_map(|class| Decoded::of(&class.name, class.reach_2_3.as_ref()?)).collect()
    } else {
        vec![]
    };
    let content = html! {
        @if ![&reach, &delays, &by_class, &reach_by_class].iter().all(|lines| lines.is_empty()) {
            (percentiles(totals))
            div.figures {
                (chart("Time until a message had reached a part of the weight", &reach))
                (chart("Delay, network delay and send lag", &delays))
                (chart("Delay by traffic class", &by_class))
                (chart("Time until a message had reached 2/3 of the weight, by class", &reach_by_class))
            }
        }
    };
    section("Delays", &content)
}

/// Percentiles of all distributions, in a table.
fn percentiles(totals: &Totals) -> Markup {
    let row = |name: &str, delay: &DelaySummary| {
        let quantiles = [0.5, 0.9, 0.99, 0.999, 1.0].map(|quantile| cell(delay, quantile));
        let counts = [delay.count.to_string(), delay.missing.to_string()];
        std::iter::once(name.to_owned()).chain(quantiles).chain(counts).collect()
    };
    let reach = [
        ("until 1/3 of the weight has the message", &totals.reach_1_3),
        ("until 2/3 of the weight has the message", &totals.reach_2_3),
        ("until all have the message", &totals.reach_all),
    ];
    let mut rows: Vec<Vec<String>> =
        reach.into_iter().filter_map(|(name, delay)| Some(row(name, delay.as_ref()?))).collect();
    rows.push(row("delay: from the intended send time to the arrival", &totals.delay));
    rows.push(row("network delay: from the real send time to the arrival", &totals.network_delay));
    rows.push(row("send lag: from the intended to the real send time", &totals.send_lag));
    let columns = &["time", "p50", "p90", "p99", "p99.9", "max", "values", "never arrived"];
    Table { caption: "Percentiles of the window", columns, texts: &[], rows }.markup()
}

/// The traffic classes, if there are several.
pub(super) fn classes(classes: &[ClassRow]) -> Markup {
    let row = |class: &ClassRow| {
        let sustained = class.sustained.sustained.map_or("unknown", |yes| if yes { "yes" } else { "no" });
        vec![
            class.name.clone(),
            class.protocol.clone().unwrap_or_else(|| NONE.into()),
            class.after.clone().unwrap_or_else(|| NONE.into()),
            class.deadline_millis.map_or_else(|| NONE.into(), |millis| format!("{millis} ms")),
            class.sent.to_string(),
            class.missed.saturating_add(class.dropped).to_string(),
            delivery(class.delivered, class.expected),
            class.deadline_misses.map_or_else(|| NONE.into(), |misses| misses.to_string()),
            cell(&class.delay, 0.5),
            cell(&class.delay, 0.99),
            cell(&class.delay, 1.0),
            format!("{}/s", bytes(class.delivered_bytes_per_second)),
            sustained.into(),
        ]
    };
    let table = Table {
        caption: "Messages and deliveries of each class in the window",
        columns: &[
            "class",
            "protocol",
            "answers",
            "deadline",
            "sent",
            "not sent",
            "delivery ratio",
            "too late",
            "p50",
            "p99",
            "max",
            "delivered",
            "sustained",
        ],
        texts: &[1, 2],
        rows: classes.iter().filter(|_| classes.len() > 1).map(row).collect(),
    };
    section("Traffic classes", &table.markup())
}
