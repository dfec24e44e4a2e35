//! Nodes of a run: their table, the spread of their delays, and deliveries by sender and receiver.

use maud::{Markup, html};

use super::{
    input::{Pairs, RunReport},
    parts::{Table, at_least, cell, optional, section},
    plots::{Axis, Caption, HeatMap, Interval, Unit, heat_map, intervals},
};
use crate::report::{summary::NodeRow, units::bytes_or_none};

/// Table and charts of the nodes.
pub(super) fn nodes(run: &RunReport) -> Markup {
    let nodes = &run.summary.nodes;
    if run.summary.totals.is_none() {
        return html! {};
    }
    let content = html! {
        div.figures {
            @if let Some(pairs) = &run.pairs {
                (deliveries(nodes, pairs))
                (delays(nodes, pairs))
            }
            (spread(nodes))
        }
        (table(nodes))
    };
    section("Nodes", &html! { @if !nodes.is_empty() { (content) } })
}

fn table(nodes: &[NodeRow]) -> Markup {
    let row = |node: &NodeRow| {
        vec![
            node.node.to_string(),
            node.sent.to_string(),
            node.late.to_string(),
            node.dropped.saturating_add(node.missed).to_string(),
            node.received.to_string(),
            node.expected.to_string(),
            node.duplicates.to_string(),
            cell(&node.delay, 0.5),
            cell(&node.delay, 0.99),
            cell(&node.delay, 1.0),
            cell(&node.send_lag, 0.99),
            optional(node.cpu_seconds, 2),
            bytes_or_none(node.peak_memory_bytes),
            node.connected_peers.to_string(),
        ]
    };
    Table {
        caption: "Messages sent and received by each node in the window; delays of the deliveries that it received",
        columns: &[
            "node",
            "sent",
            "late",
            "not sent",
            "received",
            "expected",
            "duplicates",
            "p50",
            "p99",
            "max",
            "send lag p99",
            "CPU s",
            "memory",
            "peers",
        ],
        texts: &[],
        rows: nodes.iter().map(row).collect(),
    }
    .markup()
}

/// Median and 99th percentile of each receiver's delays.
fn spread(nodes: &[NodeRow]) -> Markup {
    let row = |node: &NodeRow| {
        let delay = &node.delay;
        let (middle, high) = (at_least(delay, 0.5)?, at_least(delay, 0.99)?);
        let low = (delay.histogram.decode().ok()?.value_at_quantile(0.1).max(1) as f64).min(middle);
        Some(Interval { name: format!("node {}", node.node), low, middle, high, series: 0 })
    };
    let rows: Vec<Interval> = nodes.iter().filter_map(row).collect();
    let slowest = rows.iter().max_by(|one, other| one.high.total_cmp(&other.high));
    let text = slowest.map_or_else(String::new, |row| format!("The largest p99 has {}.", row.name));
    let caption = Caption { title: "Delay at each receiver: p10, median (point) and p99".into(), text };
    html! { @if !rows.is_empty() { (intervals(&caption, &Axis::logarithmic("delay", Unit::Micros), &rows, None)) } }
}

/// Share of the messages of each sender that each receiver does not have.
fn deliveries(nodes: &[NodeRow], pairs: &Pairs) -> Markup {
    let ids: Vec<u64> = nodes.iter().map(|node| node.node).collect();
    let row = |sender: &u64| ids.iter().map(|receiver| pairs.missing(*sender, *receiver)).collect();
    let values: Vec<Vec<Option<f64>>> = ids.iter().map(row).collect();
    let all = values.iter().flatten().flatten();
    let whole = all.clone().filter(|missing| **missing <= 0.0).count();
    let text = format!("{whole} of {} pairs have every message of the sender.", all.count());
    let caption =
        Caption { title: "Share of each sender's messages that a receiver does not have, whole run".into(), text };
    let map = HeatMap {
        names: ids.iter().map(u64::to_string).collect(),
        meaning: ("sender".into(), "receiver".into()),
        unit: Unit::Share,
        values,
        logarithmic: false,
    };
    heat_map(&caption, &map)
}

/// Median delay from each sender to each receiver.
fn delays(nodes: &[NodeRow], pairs: &Pairs) -> Markup {
    let ids: Vec<u64> = nodes.iter().map(|node| node.node).collect();
    let row = |sender: &u64| ids.iter().map(|receiver| pairs.delays.get(&(*sender, *receiver)).copied()).collect();
    let slowest = pairs.delays.iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
    let text = slowest.map_or_else(String::new, |((sender, receiver), micros)| {
        format!("The slowest pair is {sender} to {receiver} with {}.", Unit::Micros.value(*micros))
    });
    let map = HeatMap {
        names: ids.iter().map(u64::to_string).collect(),
        meaning: ("sender".into(), "receiver".into()),
        unit: Unit::Micros,
        values: ids.iter().map(row).collect(),
        logarithmic: true,
    };
    let caption = Caption { title: "Median delay from each sender to each receiver".into(), text };
    html! { @if !pairs.delays.is_empty() { (heat_map(&caption, &map)) } }
}
