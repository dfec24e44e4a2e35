//! Many nodes' counts into one. Percentiles come from the merged distributions, never from other percentiles.

use std::{
    borrow::{Borrow, Cow},
    collections::{BTreeMap, BTreeSet},
};

use super::{
    lives::{add_all, join_lives, join_windows, merge_histograms, sum, sum_if_all},
    machine::machines,
    phases::{PhaseInput, Phases},
    summary::{DelaySummary, NodeRow, RUN_SCHEMA_VERSION, RunSummary, Totals, TrialRow, Verdict, WorkloadSummary},
};
use crate::node::{HistogramText, NodeSummary, WindowSummary, WindowUsage};

/// A node's counts and usage of one window.
type Part<'a> = (&'a WindowSummary, WindowUsage);

pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn totals(parts: &BTreeMap<u64, Part<'_>>, num_nodes: u64, window_seconds: f64, problems: &mut Vec<String>) -> Totals {
    let sum = |field: fn(&WindowSummary) -> u64| sum(parts.values().map(|(window, _)| field(window)));
    let mut delay = |field: fn(&WindowSummary) -> &HistogramText| {
        let texts = parts.iter().map(|(node, (window, _))| (*node, field(window)));
        DelaySummary::of(&merge_histograms(texts, problems))
    };
    let (intended, sent, delivered) = (sum(|w| w.intended), sum(|w| w.sent), sum(|w| w.received));
    let expected = sent.saturating_mul(num_nodes.saturating_sub(1));
    let delivered_bytes = sum(|w| w.received_bytes);
    // A sum of nothing is -0.0.
    let cpu_seconds = parts.values().map(|(_, usage)| usage.cpu_seconds).sum::<f64>() + 0.0;
    let socket_bytes = sum_if_all(parts.values().map(|(_, usage)| usage.socket_bytes_sent));
    let per_second = |count: u64| if window_seconds > 0.0 { count as f64 / window_seconds } else { 0.0 };
    Totals {
        window_seconds,
        intended,
        sent,
        late: sum(|w| w.late),
        missed: intended.saturating_sub(sent),
        expected,
        delivered,
        delivery_ratio: ratio(delivered, expected),
        duplicates: sum(|w| w.duplicates),
        reordered: sum(|w| w.reordered),
        undecided: sum(|w| w.undecided),
        negative_delays: sum(|w| w.negative_delays),
        sent_per_second: per_second(sent),
        sent_bytes_per_second: per_second(sum(|w| w.sent_bytes)),
        delivered_bytes_per_second: per_second(delivered_bytes),
        delay: delay(|w| &w.delay_micros),
        network_delay: delay(|w| &w.network_delay_micros),
        send_lag: delay(|w| &w.send_lag_micros),
        cpu_seconds,
        cpu_seconds_per_million_deliveries: (delivered > 0).then(|| cpu_seconds * 1e6 / delivered as f64),
        wire_bytes_per_delivered_byte: socket_bytes.and_then(|bytes| ratio(bytes, delivered_bytes)),
    }
}

/// The trials that every node of `nodes` has finished, merged; problems with the nodes' data are added to `problems`.
pub fn merge_trials<N: Borrow<NodeSummary>>(nodes: &[N], num_nodes: u64, problems: &mut Vec<String>) -> Vec<TrialRow> {
    let nodes: Vec<&NodeSummary> = nodes.iter().map(N::borrow).collect();
    let finished = nodes.iter().map(|node| node.trials.len()).min().unwrap_or(0);
    (0..finished)
        .map(|number| {
            let trials: Vec<_> = nodes.iter().map(|node| &node.trials[number]).collect();
            let parts = nodes.iter().zip(&trials).map(|(node, trial)| (node.node, (&trial.measured, trial.usage)));
            let times = trials[0].times;
            let seconds = times.to_unix_nanos.saturating_sub(times.from_unix_nanos) as f64 / 1e9;
            TrialRow {
                trial: trials[0].trial,
                plan: trials[0].plan,
                ready: trials.iter().all(|trial| trial.readiness.is_ready()),
                totals: totals(&parts.collect(), num_nodes, seconds, problems),
            }
        })
        .collect()
}

/// What one node counted and used in the measured window, or in all of its finished trials together.
fn measured(node: &NodeSummary, explore: bool, problems: &mut Vec<String>) -> (WindowSummary, WindowUsage) {
    if !explore {
        return (node.measured.clone(), node.window_usage.unwrap_or_default());
    }
    let windows: Vec<_> = node.trials.iter().map(|trial| &trial.measured).collect();
    let sum = |field: fn(&WindowUsage) -> Option<u64>| sum_if_all(node.trials.iter().map(|trial| field(&trial.usage)));
    let usage = WindowUsage {
        cpu_seconds: node.trials.iter().map(|trial| trial.usage.cpu_seconds).sum(),
        socket_bytes_sent: sum(|usage| usage.socket_bytes_sent),
        socket_bytes_received: sum(|usage| usage.socket_bytes_received),
    };
    (join_windows(&windows, node.node, problems), usage)
}

/// What is known of a run at its end.
#[derive(Clone, Debug, Default)]
pub struct Collected<'a> {
    /// What the nodes last said. A node that was restarted has one of each life, in their order.
    pub nodes: &'a [NodeSummary],
    /// What was asked for.
    pub workload: WorkloadSummary,
    /// Whether the run was one of trials.
    pub explore: bool,
    /// Length of the measured window that really passed.
    pub window_seconds: f64,
    /// Nodes that were killed, restarted or not: of what they sent last, only the receivers know.
    pub killed: BTreeSet<u64>,
    /// The phases of the measured window, in their order; none if it was not cut into phases.
    pub phases: &'a [PhaseInput],
    /// What speaks against the run already.
    pub verdict: Verdict,
}

/// The result of a run from what is known of it.
pub fn merge(collected: Collected<'_>) -> RunSummary {
    let Collected { nodes, workload, explore, window_seconds, killed, phases, mut verdict } = collected;
    let num_nodes = workload.num_nodes;
    let mut problems = vec![];
    let nodes: Vec<Cow<'_, NodeSummary>> = join_lives(nodes, &mut problems);
    let trials = merge_trials(&nodes, num_nodes, &mut problems);
    let window_seconds = if explore {
        trials.iter().map(|trial| trial.totals.window_seconds).sum::<f64>() + 0.0
    } else {
        window_seconds
    };
    let by_phase = Phases::new(&nodes, &killed, phases.len(), &mut problems);
    let mut parts: BTreeMap<u64, (WindowSummary, WindowUsage)> =
        nodes.iter().map(|node| (node.node, measured(node, explore, &mut problems))).collect();
    for (node, (window, _)) in &mut parts {
        by_phase.correct(*node, window, workload.message_size_bytes);
    }
    let borrowed = parts.iter().map(|(node, (window, usage))| (*node, (window, *usage))).collect();
    let totals = totals(&borrowed, num_nodes, window_seconds, &mut problems);
    let (mut dropped, mut malformed, mut events) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let phases = by_phase.rows(phases, num_nodes, &mut problems);
    let mut rows = vec![];
    for node in &nodes {
        add_all(&mut dropped, &node.dropped);
        add_all(&mut malformed, &node.malformed);
        add_all(&mut events, &node.events);
        let Some((window, usage)) = parts.get(&node.node) else { continue };
        let mut one =
            |text: &HistogramText| DelaySummary::of(&merge_histograms([(node.node, text)].into_iter(), &mut problems));
        rows.push(NodeRow {
            node: node.node,
            phase: node.phase,
            intended: window.intended,
            sent: window.sent,
            late: window.late,
            missed: window.intended.saturating_sub(window.sent),
            expected: totals.sent.saturating_sub(window.sent),
            received: window.received,
            duplicates: window.duplicates,
            delay: one(&window.delay_micros),
            send_lag: one(&window.send_lag_micros),
            cpu_seconds: usage.cpu_seconds,
            peak_memory_bytes: node.usage.peak_memory_bytes,
            connected_peers: node.readiness.connected_peers,
            dropped: node.dropped.clone(),
        });
    }
    problems.sort();
    problems.dedup();
    verdict.reasons.extend(problems);
    verdict.valid = verdict.reasons.is_empty();
    verdict.warnings.extend(warnings(&totals, &trials, &malformed));
    verdict.warnings.extend(by_phase.warnings());
    verdict.warnings.extend(event_warnings(&events, explore));
    RunSummary {
        schema_version: RUN_SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        workload,
        verdict,
        ready_seconds: None,
        links: None,
        machines: machines(&nodes),
        clocks: None,
        faults: vec![],
        profiles: vec![],
        totals,
        peak_memory_bytes: sum(nodes.iter().map(|node| node.usage.peak_memory_bytes)),
        runner_cpu_percent: None,
        nodes: rows,
        phases,
        trials,
        dropped,
        malformed,
        events,
    }
}

impl RunSummary {
    /// The result of a run that came to nothing, for this reason.
    pub fn failed(workload: WorkloadSummary, reason: String) -> Self {
        merge(Collected {
            workload,
            verdict: Verdict { reasons: vec![reason], ..Verdict::default() },
            ..Collected::default()
        })
    }
}

/// Events of the network that explain losses and delays.
fn event_warnings(events: &BTreeMap<String, u64>, explore: bool) -> Vec<String> {
    let mut told = vec![
        ("gossipsub_stream_error", "gossipsub streams broke, with all that was under way in them"),
        ("gossipsub_slow_peer", "times gossipsub found a peer's queue full or a message too old to send"),
        ("session_failed", "inbound SQMR sessions failed"),
    ];
    // Mode explore closes all connections itself, between its trials.
    if explore {
        told.retain(|(event, _)| *event == "gossipsub_slow_peer");
    } else {
        told.push(("connections_closed", "connections were closed"));
    }
    told.iter().filter_map(|(event, meaning)| Some(format!("{} {meaning}", events.get(*event)?))).collect()
}

/// What a reader must know before she believes the numbers.
fn warnings(totals: &Totals, trials: &[TrialRow], malformed: &BTreeMap<String, u64>) -> Vec<String> {
    let mut warnings = vec![];
    if totals.delivered < totals.expected {
        let lost = totals.expected - totals.delivered;
        warnings
            .push(format!("{lost} of {} deliveries did not come: the delays are of those that did", totals.expected));
    }
    if totals.delivered > totals.expected {
        warnings.push("more was delivered than the heard nodes sent: the senders' counts are incomplete".into());
    }
    if totals.missed > 0 {
        let Totals { missed, intended, .. } = totals;
        warnings.push(format!(
            "{missed} of {intended} intended messages were never sent: the offered load was not reached"
        ));
    }
    if totals.late > 0 {
        let Totals { late, sent, .. } = totals;
        warnings.push(format!("{late} of {sent} messages were sent after the next one was due"));
    }
    if totals.undecided > 0 {
        warnings.push(format!("{} arrivals were too late to be told from duplicates", totals.undecided));
    }
    if totals.negative_delays > 0 {
        warnings.push(format!("{} delays were negative and count as 0: the clocks differ", totals.negative_delays));
    }
    for trial in trials.iter().filter(|trial| !trial.ready) {
        warnings.push(format!("trial {}: the rebuilt network was not ready in time", trial.trial));
    }
    for (reason, count) in malformed {
        warnings.push(format!("{count} arrivals were not counted: {reason}"));
    }
    warnings
}
