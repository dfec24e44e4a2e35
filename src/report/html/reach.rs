//! Times to reach by class and region, messages that missed their deadline, and the ways of the messages.

use maud::{Markup, html};

use super::parts::{Table, cell, section};
use crate::report::{
    hops::Hops,
    quantiles::DelaySummary,
    reach_facts::ReachFacts,
    summary::RunSummary,
    table::reach_line,
    units::{NONE, time},
};

/// Maximum number of late messages of a class; `summary.json` has more.
const MOST_MISSED: usize = 20;

/// Times to reach of a run, and the ways of its messages; nothing if arrivals were not recorded.
pub(super) fn reach(run: &RunSummary) -> Markup {
    let Some(facts) = run.totals.as_ref().and_then(|totals| totals.reach.as_ref()) else { return html! {} };
    let content = html! {
        p { "Times to reach are of " (reach_line(facts)) "." }
        (classes(run))
        div.tables {
            div { (regions(facts)) (missed(run)) }
            @if let Some(hops) = &facts.hops { div { (ways(hops)) } }
        }
    };
    section("Time to reach", &content)
}

fn classes(run: &RunSummary) -> Markup {
    let of = |delay: &Option<DelaySummary>, quantile| {
        delay.as_ref().map_or_else(|| NONE.into(), |delay| cell(delay, quantile))
    };
    let rows = run.classes.iter().filter_map(|class| {
        let facts = class.reach.as_ref()?;
        let direct = facts.hops.as_ref().filter(|hops| hops.deliveries > 0);
        Some(vec![
            class.name.clone(),
            facts.messages.to_string(),
            of(&class.reach_1_3, 0.5),
            of(&class.reach_2_3, 0.5),
            of(&class.reach_2_3, 0.99),
            of(&class.reach_all, 0.5),
            of(&class.reach_all, 0.99),
            of(&class.round, 0.5),
            of(&class.round, 0.99),
            facts.deadline_misses.map_or_else(|| NONE.into(), |misses| misses.to_string()),
            direct.map_or_else(
                || NONE.into(),
                |hops| format!("{:.0} %", hops.direct as f64 / hops.deliveries as f64 * 100.0),
            ),
        ])
    });
    Table {
        caption: "Time until a message had reached a part of the weight, and rounds, by class",
        columns: &[
            "class",
            "messages",
            "1/3 p50",
            "2/3 p50",
            "2/3 p99",
            "all p50",
            "all p99",
            "round p50",
            "round p99",
            "missed deadline",
            "direct",
        ],
        texts: &[],
        rows: rows.collect(),
    }
    .markup()
}

fn regions(facts: &ReachFacts) -> Markup {
    let rows = facts.regions.iter().map(|region| {
        let times = [&region.reach_1_3, &region.reach_2_3, &region.reach_all];
        let cells = times.into_iter().flat_map(|delay| [cell(delay, 0.5), cell(delay, 0.99)]);
        std::iter::once(region.region.clone()).chain(cells).collect()
    });
    Table {
        caption: "By region of the sender",
        columns: &["region", "1/3 p50", "1/3 p99", "2/3 p50", "2/3 p99", "all p50", "all p99"],
        texts: &[],
        rows: rows.collect(),
    }
    .markup()
}

/// Messages that were not at two thirds of the weight by their deadline.
fn missed(run: &RunSummary) -> Markup {
    let of_class = |class: &crate::report::summary::ClassRow| {
        let name = class.name.clone();
        let missed = class.reach.iter().flat_map(|facts| facts.missed.clone()).take(MOST_MISSED);
        let row = move |late: crate::report::reach_facts::LateMessage| {
            vec![
                name.clone(),
                late.sender.to_string(),
                late.index.to_string(),
                late.reach_2_3_micros.map_or_else(|| "never".into(), |micros| time(Some(micros))),
                late.reach_all_micros.map_or_else(|| "never".into(), |micros| time(Some(micros))),
            ]
        };
        missed.map(row).collect::<Vec<_>>()
    };
    Table {
        caption: "The latest messages that were not at 2/3 of the weight by their deadline, at most 20 of a class",
        columns: &["class", "sender", "message", "at 2/3 after", "at all after"],
        texts: &[],
        rows: run.classes.iter().flat_map(of_class).collect(),
    }
    .markup()
}

fn ways(hops: &Hops) -> Markup {
    let share = |count: u64| format!("{:.1} %", 100.0 * count as f64 / hops.deliveries.max(1) as f64);
    let by_hops = hops.by_hops.iter().map(|row| {
        vec![
            row.hops.to_string(),
            row.deliveries.to_string(),
            share(row.deliveries),
            time(Some(row.p50_micros)),
            time(Some(row.p99_micros)),
        ]
    });
    let forwarders = hops.forwarders.iter().map(|row| vec![format!("node {}", row.node), row.deliveries.to_string()]);
    html! {
        (Table {
            caption: "Hops of the deliveries: 1 is a delivery by the sender itself",
            columns: &["hops", "deliveries", "share", "p50", "p99"],
            texts: &[],
            rows: by_hops.collect(),
        }.markup())
        (Table {
            caption: "Nodes that forwarded the largest numbers of first copies",
            columns: &["node", "first copies"],
            texts: &[],
            rows: forwarders.collect(),
        }.markup())
    }
}
