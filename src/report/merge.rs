//! Merges the counts of many nodes into one result. Percentiles come from the merged distributions, never from other
//! percentiles.

use std::{
    borrow::{Borrow, Cow},
    collections::BTreeMap,
};

use super::{
    arrivals::Arrivals,
    causes::causes,
    checks::Known,
    clock_warning::clock_warning,
    environments::machines,
    frame::{Frame, Part, unplanned_traffic, window_of},
    frontier,
    lives::{add_all, add_histogram, empty_histogram, join_lives, merge_histograms, sum},
    machine,
    observed::{Observations, PlannedWindow},
    phases::Phases,
    propeller::PropellerRow,
    quantiles::{DelaySummary, Missing},
    reach::add_reach,
    simulation::leave_out_unknown,
    summary::{NodeRow, RUN_SCHEMA_VERSION, RunSummary, Totals, TrialRow, Verdict, WorkloadSummary},
    totals::Accounts,
};
use crate::node::{NodeState, NodeSummary, TrialSummary, WindowSummary, WindowUsage};

/// Facts about the trials of a run that are needed to make a row of each.
#[derive(Clone, Copy, Debug)]
pub struct Trials {
    /// Number of nodes of the network.
    pub num_nodes: u64,
    /// Node that sends.
    pub broadcaster: u64,
}

/// True if a node has nothing more to report of a trial.
fn has_passed(node: &NodeSummary, trial: u32) -> bool {
    node.phase == NodeState::Finished || node.trials.iter().any(|known| known.trial >= trial)
}

/// Rows of the trials that every node of `nodes` has finished, matched by their number; problems with the nodes' data
/// are added to `problems`. A trial that a node did not take part in is invalid, and the reason names the node.
pub fn merge_trials<N: Borrow<NodeSummary>>(nodes: &[N], trials: Trials, problems: &mut Vec<String>) -> Vec<TrialRow> {
    let nodes: Vec<&NodeSummary> = nodes.iter().map(N::borrow).collect();
    let mut by_number: BTreeMap<u32, BTreeMap<u64, &TrialSummary>> = BTreeMap::new();
    for node in &nodes {
        for trial in &node.trials {
            by_number.entry(trial.trial).or_default().insert(node.node, trial);
        }
    }
    let done = |number: &u32| nodes.iter().all(|node| has_passed(node, *number));
    by_number
        .into_iter()
        .filter(|(number, _)| done(number))
        .filter_map(|(number, of_nodes)| trial_row(number, &of_nodes, trials, problems))
        .collect()
}

fn trial_row(
    number: u32,
    of_nodes: &BTreeMap<u64, &TrialSummary>,
    trials: Trials,
    problems: &mut Vec<String>,
) -> Option<TrialRow> {
    let Trials { num_nodes, broadcaster } = trials;
    let model = of_nodes.get(&broadcaster).or_else(|| of_nodes.values().next())?;
    let (times, plan) = (model.times, model.plan);
    let window = PlannedWindow {
        plan: plan.traffic_plan(num_nodes, broadcaster, &times),
        from_unix_nanos: times.from_unix_nanos,
        to_unix_nanos: times.to_unix_nanos,
    };
    let mut own_problems = vec![];
    let mut parts = BTreeMap::new();
    for node in 0..num_nodes {
        let Some(trial) = of_nodes.get(&node) else {
            own_problems.push(format!("node {node} did not take part"));
            continue;
        };
        if (trial.times, trial.plan) != (times, plan) {
            own_problems.push(format!("node {node} made another trial of this number"));
            continue;
        }
        if trial.joined_unix_nanos > times.from_unix_nanos {
            let late = (trial.joined_unix_nanos - times.from_unix_nanos) as f64 / 1e9;
            own_problems.push(format!("node {node} joined {late:.2} s after the window opened"));
        }
        if !trial.readiness.is_ready() {
            own_problems.push(format!("node {node} was not ready: {}", trial.readiness));
        }
        parts.insert(node, (vec![&trial.measured], trial.usage));
    }
    let frame = Frame {
        traffic: Cow::Borrowed(&window.plan),
        planned: Some(&window),
        passed_unix_nanos: times.to_unix_nanos,
        observed_unix_nanos: of_nodes.values().map(|trial| trial.counted_unix_nanos).max().unwrap_or(0),
        drained: false,
    };
    let seconds = times.to_unix_nanos.saturating_sub(times.from_unix_nanos) as f64 / 1e9;
    let totals = Accounts::new(&parts, &frame, problems).totals(&parts, &frame, seconds);
    if is_idle(&totals) {
        own_problems.push("no message was sent, and none arrived".into());
    }
    Some(TrialRow {
        trial: number,
        plan,
        ready: of_nodes.len() as u64 == num_nodes && of_nodes.values().all(|trial| trial.readiness.is_ready()),
        problems: own_problems,
        totals,
    })
}

/// All facts that are known of a run at its end.
#[derive(Clone, Copy, Debug)]
pub struct Collected<'a> {
    /// Last reports of the nodes. A restarted node has one for each life, in their order.
    pub nodes: &'a [NodeSummary],
    /// Observations of the runner.
    pub observed: &'a Observations,
}

/// Computes the result of a run from all that is known of it.
pub fn merge(collected: Collected<'_>) -> RunSummary {
    let Collected { nodes, observed } = collected;
    let mut verdict = observed.verdict.clone();
    let workload = observed.workload.clone();
    let num_nodes = workload.num_nodes;
    let explore = observed.explore_broadcaster.is_some();
    let mut problems = vec![];
    let known = Known::new(observed);
    // A report that can't be true is left out completely, because no part of it is known to be better than the rest.
    let believed: Vec<&NodeSummary> =
        nodes.iter().filter(|node| known.check(node).map_err(|line| problems.push(line)).is_ok()).collect();
    machine::judge(&believed, observed.runner.as_ref(), &mut verdict);
    let processor_use = machine::processor_use(&believed, observed.runner.as_ref());
    // The counts begin again with each trial.
    let propeller = if explore { None } else { PropellerRow::of(&believed, &mut problems) };
    let nodes: Vec<Cow<'_, NodeSummary>> = join_lives(believed.into_iter(), &mut problems);
    let trials = observed.explore_broadcaster.map(|broadcaster| Trials { num_nodes, broadcaster });
    let trials = trials.map(|trials| merge_trials(&nodes, trials, &mut problems)).unwrap_or_default();
    let planned = observed.window.as_ref();
    let ended = observed.ended_unix_nanos.unwrap_or(0);
    let traffic = match planned {
        Some(planned) => Cow::Borrowed(&planned.plan),
        None => Cow::Owned(unplanned_traffic(num_nodes, workload.message_size_bytes)),
    };
    let frame = Frame {
        traffic,
        planned,
        passed_unix_nanos: planned.map_or(0, |planned| planned.to_unix_nanos.min(ended)),
        observed_unix_nanos: nodes.iter().map(|node| node.counted_unix_nanos).max().unwrap_or(0),
        drained: observed.drain.is_some(),
    };
    let window_seconds =
        planned.map_or(0, |planned| frame.passed_unix_nanos.saturating_sub(planned.from_unix_nanos)) as f64 / 1e9;
    let by_phase = Phases::new(&nodes, &observed.killed, observed.phases.len(), &frame.traffic, &mut problems);
    let mut windows: BTreeMap<u64, (Vec<WindowSummary>, WindowUsage)> = BTreeMap::new();
    for node in &nodes {
        let of_class = |class: u16| {
            let mut window = window_of(node, class, frame.classes()).cloned().unwrap_or_default();
            by_phase.correct(class, node.node, &mut window);
            window
        };
        let of_classes = frame.traffic.numbered().map(|(class, _)| of_class(class)).collect();
        windows.insert(node.node, (of_classes, node.window_usage.unwrap_or_default()));
    }
    let parts: BTreeMap<u64, Part<'_>> =
        windows.iter().map(|(node, (windows, usage))| (*node, (windows.iter().collect(), *usage))).collect();
    let accounts = (!explore).then(|| Accounts::new(&parts, &frame, &mut problems));
    let totals = accounts.as_ref().map(|accounts| accounts.totals(&parts, &frame, window_seconds));
    let (phases, of_classes) = by_phase.rows(&observed.phases, &frame, &mut problems);
    let mut classes = accounts.as_ref().map(|accounts| accounts.rows(&frame, window_seconds)).unwrap_or_default();
    if classes.len() > 1 {
        classes.iter_mut().zip(of_classes).for_each(|(row, phases)| row.phases = phases);
    }
    let (mut dropped, mut malformed, mut events) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut gossipsub = BTreeMap::new();
    let mut rows = vec![];
    for node in &nodes {
        add_all(&mut dropped, &node.dropped);
        add_all(&mut malformed, &node.malformed);
        add_all(&mut events, &node.events);
        add_all(&mut gossipsub, &node.gossipsub);
        rows.extend(parts.get(&node.node).map(|part| row(node, part, &frame, accounts.as_ref(), &mut problems)));
    }
    problems.sort();
    problems.dedup();
    verdict.reasons.extend(problems);
    if verdict.reasons.is_empty() {
        verdict.reasons.extend(nothing_measured(totals.as_ref(), &trials));
    }
    verdict.valid = verdict.reasons.is_empty();
    verdict.warnings.extend(warnings(totals.as_ref(), observed.drain.is_some(), &trials, &malformed));
    verdict.warnings.extend(by_phase.warnings());
    verdict.warnings.extend(event_warnings(&events, explore));
    let frontier = frontier::frontier(&trials);
    let mut run = RunSummary {
        schema_version: RUN_SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        workload,
        verdict,
        simulation: observed.simulation.clone(),
        ready_seconds: observed.ready_seconds,
        links: observed.links.clone(),
        machines: machines(&nodes),
        clocks: observed.clocks.clone(),
        faults: observed.faults.clone(),
        profiles: observed.profiles.clone(),
        drain: observed.drain,
        totals,
        propeller,
        classes,
        processor_use,
        objectives: vec![],
        causes: vec![],
        gossipsub,
        peak_memory_bytes: Some(sum(nodes.iter().map(|node| node.usage.peak_memory_bytes))),
        runner_cpu_percent: observed.runner_cpu_percent,
        runner: observed.runner.clone(),
        nodes: rows,
        phases,
        trials,
        best_trial: frontier::best(&frontier),
        frontier,
        dropped,
        malformed,
        events,
    };
    let of_clocks = observed.clocks.as_ref().and_then(|clocks| clock_warning(clocks, &run));
    run.verdict.warnings.extend(of_clocks);
    if run.simulation.is_some() {
        leave_out_unknown(&mut run);
    }
    run
}

/// Row of one node. A run of trials has no figures of all trials together.
fn row(
    node: &NodeSummary,
    (windows, usage): &Part<'_>,
    frame: &Frame<'_>,
    accounts: Option<&Accounts>,
    problems: &mut Vec<String>,
) -> NodeRow {
    let id = node.node;
    let mut row = NodeRow {
        node: id,
        phase: node.phase,
        intended: 0,
        sent: 0,
        late: sum(windows.iter().map(|window| window.late)),
        dropped: 0,
        missed: 0,
        expected: 0,
        received: 0,
        duplicates: sum(windows.iter().map(|window| window.duplicates)),
        delay: DelaySummary::default(),
        send_lag: DelaySummary::default(),
        socket_bytes_sent: usage.socket_bytes_sent,
        socket_bytes_received: usage.socket_bytes_received,
        cpu_seconds: Some(usage.cpu_seconds),
        peak_memory_bytes: Some(node.usage.peak_memory_bytes),
        connected_peers: node.readiness.connected_peers,
        drop_reasons: node.dropped.clone(),
    };
    let Some(accounts) = accounts else { return row };
    let delays = merge_histograms(windows.iter().map(|window| (id, &window.delay_micros)), problems);
    let mut lags = empty_histogram();
    let (mut missing, mut never_sent) = (vec![], vec![]);
    for (((number, _), account), window) in frame.traffic.numbered().zip(&accounts.classes).zip(windows) {
        let sending = frame.sending(number, id, Some(window));
        let expected = frame.expected_at(number, id, &account.sendings);
        row.intended = row.intended.saturating_add(sending.intended);
        row.sent = row.sent.saturating_add(sending.sent);
        row.dropped = row.dropped.saturating_add(sending.dropped);
        row.missed = row.missed.saturating_add(sending.missed());
        row.expected = row.expected.saturating_add(expected);
        row.received = row.received.saturating_add(window.received);
        let deliveries = frame.deliveries_by_part(number, id, &account.messages_by_part);
        missing.push(frame.missing(expected.saturating_sub(window.received), &deliveries, &window.received_by_part));
        let of_class = merge_histograms([(id, &window.send_lag_micros)].into_iter(), problems);
        let unsent = sending.intended.saturating_sub(of_class.len());
        add_histogram(&mut lags, &of_class);
        let messages = account.messages_by_part.get(&id).map_or(&[][..], Vec::as_slice);
        never_sent.push(frame.missing(unsent, messages, &window.sent_by_part));
    }
    row.delay = DelaySummary::of(&delays, &Missing::of_all(missing.iter()));
    row.send_lag = DelaySummary::of(&lags, &Missing::of_all(never_sent.iter()));
    row
}

/// True if a window has seen no message at all. Under a load that is far too high, the messages of the warm-up may take
/// all of the window, which is a result.
fn is_idle(totals: &Totals) -> bool {
    totals.sent == 0 && totals.delivered_in_window == 0
}

/// Reason why a run without errors has measured nothing.
fn nothing_measured(totals: Option<&Totals>, trials: &[TrialRow]) -> Option<String> {
    match totals {
        Some(totals) if totals.intended == 0 => Some(
            "no message was to be sent in the measured window: give a longer --timeout or a shorter --heartbeat-millis"
                .into(),
        ),
        Some(totals) if is_idle(totals) => {
            Some("no message was sent in the measured window, and none arrived in it".into())
        }
        None if !trials.is_empty() && trials.iter().all(|trial| !trial.problems.is_empty()) => {
            Some("no trial is valid".into())
        }
        _ => None,
    }
}

/// Adds the facts that single arrivals show: times to reach, ways, and causes.
pub fn add_arrivals(run: &mut RunSummary, arrivals: &Arrivals, observed: &Observations, nodes: &[NodeSummary]) {
    add_reach(run, arrivals, observed, nodes);
    run.causes = causes(run, arrivals, observed, nodes);
}

impl RunSummary {
    /// Result of a run that failed for this reason.
    pub fn failed(workload: WorkloadSummary, reason: String) -> Self {
        let verdict = Verdict { reasons: vec![reason], ..Verdict::default() };
        merge(Collected { nodes: &[], observed: &Observations { workload, verdict, ..Observations::default() } })
    }
}

/// Warnings about events of the network that explain losses and delays.
fn event_warnings(events: &BTreeMap<String, u64>, explore: bool) -> Vec<String> {
    let mut told = vec![
        ("gossipsub_stream_error", "broken gossipsub streams, with all messages under way in them"),
        ("gossipsub_slow_peer", "times that gossipsub found a peer's queue full or a message too old to send"),
        ("session_failed", "failed inbound SQMR sessions"),
    ];
    // Mode explore closes all connections itself, between its trials.
    if explore {
        told.retain(|(event, _)| *event == "gossipsub_slow_peer");
    } else {
        told.push(("connections_closed", "closed connections"));
    }
    told.iter().filter_map(|(event, meaning)| Some(format!("{meaning}: {}", events.get(*event)?))).collect()
}

/// Facts that a reader needs before using the numbers.
fn warnings(
    totals: Option<&Totals>,
    drained: bool,
    trials: &[TrialRow],
    malformed: &BTreeMap<String, u64>,
) -> Vec<String> {
    let mut warnings = totals.map(|totals| window_warnings(totals, drained)).unwrap_or_default();
    for trial in trials {
        warnings.extend(trial.problems.iter().map(|problem| format!("trial {} is not valid: {problem}", trial.trial)));
    }
    for (reason, count) in malformed {
        warnings.push(format!("{count} arrivals were not counted: {reason}"));
    }
    warnings
}

fn window_warnings(totals: &Totals, drained: bool) -> Vec<String> {
    let Totals { intended, sent, late, missed, dropped, dropped_copies, expected, delivered, lost, .. } = *totals;
    let mut warnings = vec![];
    if lost > 0 {
        let fate = if drained { "were lost" } else { "had not arrived when the run ended" };
        warnings.push(format!(
            "{lost} of {expected} expected deliveries {fate}: in the delays they are later than all others"
        ));
    }
    if delivered > expected {
        warnings.push("more was delivered than the schedules intended: the senders' counts are incomplete".into());
    }
    for (count, line) in [
        (missed, format!("{missed} of {intended} intended messages were never sent: the offered load was not reached")),
        (dropped, format!("{dropped} of {intended} intended messages were dropped by the senders' own queues")),
        (dropped_copies, format!("{dropped_copies} copies for single peers were dropped by the senders' own queues")),
        (late, format!("{late} of {sent} messages were sent after the next one was due")),
        (totals.undecided, format!("{} arrivals were too late to be distinguished from duplicates", totals.undecided)),
        (
            totals.negative_delays,
            format!("{} delays were negative and count as 0: the clocks differ", totals.negative_delays),
        ),
    ] {
        warnings.extend((count > 0).then_some(line));
    }
    warnings
}
