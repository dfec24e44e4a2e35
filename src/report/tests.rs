//! Merging: phases, lives of a restarted node, messages of a killed node, and nodes with false reports.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use proptest::prelude::*;

use super::{
    Collected, Deliveries, Observations, PhaseInput, PhaseRow, PlannedWindow, RunSummary, Totals, WorkloadSummary,
    merge,
};
use crate::{
    metrics::Usage,
    network::Readiness,
    node::{
        HistogramText, NODE_SCHEMA_VERSION, NodeState, NodeSummary, PhaseSender, PhaseSummary, SendPlan, StartOrder,
        TrafficPlan, Turn, WindowSummary, WindowUsage,
    },
};

const SECOND: u64 = 1_000_000_000;
const OPENING: u64 = 100 * SECOND;

/// A message of `sender` in `phase`, and its receivers: the delay in microseconds, and true for an arrival after the
/// phase's end.
#[derive(Clone, Debug)]
struct Sent {
    sender: u64,
    phase: usize,
    got: Vec<(u64, u64, bool)>,
}

fn histogram(delays: impl IntoIterator<Item = u64>) -> HistogramText {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    delays.into_iter().for_each(|delay| histogram.record(delay).unwrap());
    HistogramText::encode(&histogram)
}

/// Send lags of `count` messages.
fn lags(count: u64) -> HistogramText {
    histogram((0..count).map(|_| 1))
}

/// A summary of a node that counted these phases and delays.
pub(super) fn node(id: u64, phases: Vec<PhaseSummary>, delays: &[u64]) -> NodeSummary {
    let count = |field: fn(&PhaseSummary) -> u64| phases.iter().map(field).sum();
    let window = WindowSummary {
        delay_micros: histogram([]),
        network_delay_micros: histogram([]),
        send_lag_micros: histogram([]),
        ..WindowSummary::default()
    };
    NodeSummary {
        schema_version: NODE_SCHEMA_VERSION,
        version: String::new(),
        node: id,
        peer_id: String::new(),
        process: 0,
        configuration: serde_json::Value::Null,
        environment: None,
        phase: NodeState::Draining,
        readiness: Readiness::default(),
        counted_unix_nanos: OPENING + 50 * SECOND,
        pending_work: None,
        unreached: vec![],
        slow_peers: vec![],
        gossipsub: BTreeMap::new(),
        start: Some(StartOrder::at(OPENING)),
        measured: WindowSummary {
            intended: count(|phase| phase.intended),
            sent: count(|phase| phase.sent),
            sent_bytes: count(|phase| phase.sent) * 100,
            received: count(|phase| phase.received),
            delay_micros: histogram(delays.iter().copied()),
            send_lag_micros: lags(count(|phase| phase.sent)),
            ..window.clone()
        },
        outside: window,
        phases,
        pending: 0,
        senders: vec![],
        classes: vec![],
        trials: vec![],
        window_usage: Some(WindowUsage {
            cpu_seconds: 0.5,
            socket_bytes_sent: Some(10),
            socket_bytes_received: None,
            gossip_copies: None,
        }),
        usage: Usage { cpu_seconds: 1.0, peak_memory_bytes: 1000 + id },
        dropped: BTreeMap::from([("queue_full".to_owned(), 1)]),
        malformed: BTreeMap::new(),
        machine: None,
        propeller: None,
        events: BTreeMap::from([("connections_closed".to_owned(), 1)]),
    }
}

/// Counts that a node makes of all messages.
fn count(id: u64, phases: usize, messages: &[Sent]) -> NodeSummary {
    let mut all = vec![];
    let summaries = (0..phases).map(|number| {
        let of_phase = || messages.iter().filter(|message| message.phase == number);
        let sent = of_phase().filter(|message| message.sender == id).count() as u64;
        let mut by_sender = BTreeMap::new();
        let mut delays = vec![];
        for message in of_phase() {
            for (_, delay, after_end) in message.got.iter().filter(|got| got.0 == id && message.sender != id) {
                let sender = message.sender;
                let from = by_sender.entry(sender).or_insert(PhaseSender { sender, ..PhaseSender::default() });
                from.received += 1;
                from.received_after_end += u64::from(*after_end);
                delays.push(*delay);
            }
        }
        all.extend(delays.iter().copied());
        let by_sender: Vec<PhaseSender> = by_sender.into_values().collect();
        PhaseSummary {
            from_unix_nanos: OPENING + number as u64 * SECOND,
            to_unix_nanos: OPENING + (number as u64 + 1) * SECOND,
            intended: sent,
            sent,
            dropped: 0,
            received: delays.len() as u64,
            received_after_end: by_sender.iter().map(|from| from.received_after_end).sum(),
            delay_micros: if delays.is_empty() || phases == 1 { HistogramText::default() } else { histogram(delays) },
            by_sender,
        }
    });
    let summaries = summaries.collect();
    node(id, summaries, &all)
}

fn counts(num_nodes: u64, phases: usize, messages: &[Sent]) -> Vec<NodeSummary> {
    (0..num_nodes).map(|id| count(id, phases, messages)).collect()
}

fn observations(num_nodes: u64, killed: &[u64], phases: &[PhaseInput]) -> Observations {
    Observations {
        workload: WorkloadSummary { num_nodes, message_size_bytes: Some(100), ..WorkloadSummary::default() },
        killed: killed.iter().copied().collect(),
        phases: phases.to_vec(),
        ..Observations::default()
    }
}

fn merged(nodes: &[NodeSummary], num_nodes: u64, killed: &[u64], phases: &[PhaseInput]) -> RunSummary {
    let run = merge(Collected { nodes, observed: &observations(num_nodes, killed, phases) });
    let empty = run.totals.as_ref().is_some_and(|totals| totals.sent == 0);
    // A random list of messages may be empty, which is a reason of its own and not the subject of these tests.
    let reasons = run.verdict.reasons.iter().filter(|reason| !(empty && reason.contains("no message was"))).cloned();
    let mut verdict = super::Verdict { reasons: reasons.collect(), ..run.verdict.clone() };
    verdict.valid = verdict.reasons.is_empty();
    RunSummary { verdict, ..run }
}

fn totals(run: &RunSummary) -> &Totals {
    run.totals.as_ref().unwrap()
}

fn inputs(count: usize, groups: &[Vec<u64>]) -> Vec<PhaseInput> {
    vec![PhaseInput { events: vec!["partition".into()], groups: Some(groups.to_vec()) }; count]
}

fn messages(num_nodes: u64, phases: usize) -> impl Strategy<Value = Vec<Sent>> {
    let got = prop::collection::btree_map(0..num_nodes, (1..10_000_u64, any::<bool>()), 0..=num_nodes as usize);
    let sent = (0..num_nodes, 0..phases, got).prop_map(|(sender, phase, got)| {
        let got = got.into_iter().map(|(receiver, (delay, late))| (receiver, delay, late)).collect();
        Sent { sender, phase, got }
    });
    prop::collection::vec(sent, 0..60)
}

fn sum(rows: &[PhaseRow], field: impl Fn(&PhaseRow) -> u64) -> u64 {
    rows.iter().map(field).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_phases_add_up_to_the_run_and_their_groups_to_the_phases(
        (phases, messages) in (1..6_usize).prop_flat_map(|phases| (Just(phases), messages(5, phases))),
        of_node in prop::collection::vec(0..4_usize, 5),
    ) {
        // Group 3 is not listed: it consists of the nodes in no other group.
        let mut groups = vec![vec![]; 3];
        for (node, group) in (0..).zip(of_node) {
            groups.get_mut(group).into_iter().for_each(|members: &mut Vec<u64>| members.push(node));
        }
        let run = merged(&counts(5, phases, &messages), 5, &[], &inputs(phases, &groups));
        prop_assert!(run.verdict.valid, "{:?}", run.verdict);
        let (rows, totals) = (&run.phases, totals(&run));
        prop_assert_eq!(rows.len(), phases);
        prop_assert_eq!(sum(rows, |row| row.intended), totals.intended);
        prop_assert_eq!(sum(rows, |row| row.sent), totals.sent);
        prop_assert_eq!(sum(rows, |row| row.expected), totals.expected);
        prop_assert_eq!(sum(rows, |row| row.delivered), totals.delivered);
        prop_assert_eq!(sum(rows, |row| row.lost), totals.lost);
        prop_assert_eq!(totals.lost, totals.expected - totals.delivered);
        prop_assert_eq!(sum(rows, |row| row.delay.count), totals.delay.count);
        prop_assert_eq!(sum(rows, |row| row.delay.missing), totals.delay.missing);
        for row in rows {
            let groups = row.groups.unwrap();
            let both = |field: fn(&Deliveries) -> u64| field(&groups.within) + field(&groups.across);
            prop_assert_eq!(both(|part| part.expected), row.expected);
            prop_assert_eq!(both(|part| part.delivered), row.delivered);
            prop_assert_eq!(both(|part| part.delivered_after_end), row.delivered_after_end);
            prop_assert_eq!(both(|part| part.lost), row.lost);
        }
    }

    #[test]
    fn the_lives_of_a_node_add_up_to_the_counts_of_one_life(
        messages in messages(4, 3), cut in 0..60_usize, restarted in 0..4_u64,
    ) {
        let whole = merged(&counts(4, 3, &messages), 4, &[], &inputs(3, &[vec![0, 1]]));
        let (before, after) = messages.split_at(cut.min(messages.len()));
        let mut nodes = counts(4, 3, &messages);
        nodes.retain(|node| node.node != restarted);
        nodes.insert(0, count(restarted, 3, before));
        // Restarted a second time, and killed before it received its start.
        let unstarted = NodeSummary { start: None, phases: vec![], ..count(restarted, 3, &messages) };
        nodes.push(NodeSummary { window_usage: None, ..unstarted });
        nodes.push(count(restarted, 3, after));
        let run = merged(&nodes, 4, &[restarted], &inputs(3, &[vec![0, 1]]));
        prop_assert!(run.verdict.valid, "{:?}", run.verdict);
        prop_assert_eq!(&run.phases, &whole.phases);
        let counted = |run: &RunSummary| (totals(run).sent, totals(run).delivered, totals(run).delay.clone());
        prop_assert_eq!(counted(&run), counted(&whole));
        let ids: Vec<u64> = run.nodes.iter().map(|row| row.node).collect();
        prop_assert_eq!(ids, [0, 1, 2, 3]);
        prop_assert_eq!(totals(&run).cpu_seconds, totals(&whole).cpu_seconds.map(|seconds| seconds + 0.5));
        prop_assert_eq!(run.peak_memory_bytes, whole.peak_memory_bytes);
        prop_assert_eq!(run.dropped["queue_full"], 6);
        prop_assert_eq!(run.events["connections_closed"], 6);
    }

    #[test]
    fn of_a_killed_node_as_many_were_sent_as_any_one_receiver_got(messages in messages(4, 3), told in 0..20_u64) {
        let whole = counts(4, 3, &messages);
        let mut nodes = whole.clone();
        // Its last report was of an earlier state.
        for phase in &mut nodes[2].phases {
            phase.sent = phase.sent.min(told);
            phase.intended = phase.sent;
        }
        let phases = nodes[2].phases.clone();
        nodes[2].measured.sent = phases.iter().map(|phase| phase.sent).sum();
        nodes[2].measured.intended = nodes[2].measured.sent;
        nodes[2].measured.sent_bytes = 100 * nodes[2].measured.sent;
        nodes[2].measured.send_lag_micros = lags(nodes[2].measured.sent);
        let heard = |number: usize| {
            let by_receiver = whole.iter().map(|node: &NodeSummary| {
                node.phases[number].by_sender.iter().find(|from| from.sender == 2).map_or(0, |from| from.received)
            });
            by_receiver.max().unwrap()
        };
        let sent: Vec<u64> = (0..3).map(|number| phases[number].sent.max(heard(number))).collect();
        let known_before: u64 = phases.iter().map(|phase| phase.sent).sum();
        let raised = sent.iter().sum::<u64>() - known_before;

        let run = merged(&nodes, 4, &[2], &inputs(3, &[]));
        prop_assert!(run.verdict.valid, "{:?}", run.verdict);
        prop_assert_eq!(run.nodes[2].sent, sent.iter().sum::<u64>());
        prop_assert_eq!(run.nodes[2].missed, 0);
        prop_assert_eq!(sum(&run.phases, |row| row.sent), totals(&run).sent);
        prop_assert_eq!(sum(&run.phases, |row| row.expected), totals(&run).expected);
        prop_assert_eq!(sum(&run.phases, |row| row.intended), totals(&run).intended);
        prop_assert!(run.phases.iter().all(|row| row.delivered <= row.expected));
        let line = format!("node 2 was killed: {raised} of its messages are known from their receivers only");
        prop_assert_eq!(run.verdict.warnings.contains(&line), raised > 0);

        // The report of a node that was not killed counts; and a correction of the window does not need phases.
        prop_assert_eq!(merged(&nodes, 4, &[], &inputs(3, &[])).nodes[2].sent, known_before);
        prop_assert_eq!(merged(&nodes, 4, &[2], &[]).totals, run.totals.clone());
    }
}

fn two_phases() -> Vec<NodeSummary> {
    let sent = |sender, phase, receiver| Sent { sender, phase, got: vec![(receiver, 100, false)] };
    counts(2, 2, &[sent(0, 0, 1), sent(1, 1, 0), sent(0, 1, 1)])
}

#[test]
fn a_run_without_phases_has_the_same_result_as_before_phases_existed() {
    let nodes = two_phases();
    let before: Vec<_> = nodes.iter().map(|node| NodeSummary { phases: vec![], ..node.clone() }).collect();
    let run = merged(&nodes, 2, &[], &[]);
    assert!(run.verdict.valid && run.phases.is_empty());
    assert_eq!(run, merged(&before, 2, &[], &[]));
}

#[test]
fn a_window_that_is_one_phase_has_its_delays_from_the_window() {
    let messages = [Sent { sender: 0, phase: 0, got: vec![(1, 100, true)] }];
    let run = merged(&counts(2, 1, &messages), 2, &[], &inputs(1, &[vec![0]]));
    let row = &run.phases[0];
    assert_eq!((row.delivered, row.delivered_after_end, row.lost), (1, 1, 0));
    assert_eq!((row.from_seconds, row.to_seconds), (0.0, 1.0));
    assert_eq!(row.delay, totals(&run).delay);
    assert_eq!(row.groups.unwrap().across, Deliveries { expected: 1, delivered: 1, delivered_after_end: 1, lost: 0 });
}

#[test]
fn phases_that_can_not_be_used_are_a_reason_and_no_panic() {
    let with = |change: fn(&mut NodeSummary)| {
        let mut nodes = two_phases();
        change(&mut nodes[1]);
        let run = merged(&nodes, 2, &[1], &inputs(2, &[vec![0], vec![1, 1, u64::MAX]]));
        assert!(!run.verdict.valid);
        assert_eq!(run.phases.len(), 2);
        run.verdict.reasons.join("\n")
    };
    let reasons = with(|node| node.phases.push(PhaseSummary::default()));
    assert_eq!(reasons, "node 1 reports 3 phases and the run has 2: its counts of phases are left out");
    assert!(with(|node| node.phases.truncate(1)).contains("do not add up"));
    assert!(with(|node| node.phases[1].from_unix_nanos += 1).contains("at other times"));
    assert!(with(|node| node.phases[1].sent = u64::MAX).contains("do not add up"));
    assert!(with(|node| node.phases[0].by_sender[0].received = 7).contains("do not add up"));
    assert!(with(|node| node.phases[0].delay_micros.0.clear()).contains("a histogram of node 1 can't be read"));
    assert!(with(|node| node.phases[0].delay_micros.0.push('!')).contains("a histogram of node 1 can't be read"));

    let nobody = merged(&two_phases(), 2, &[], &inputs(3, &[]));
    assert_eq!((nobody.phases.len(), nobody.verdict.reasons.len()), (0, 1));
    assert_eq!(merged(&[], 2, &[0], &inputs(3, &[])).phases, []);
}

#[test]
fn the_last_life_decides_the_phase_of_a_node() {
    let mut nodes = two_phases();
    nodes.push(NodeSummary { phase: NodeState::Connecting, start: None, phases: vec![], ..nodes[1].clone() });
    nodes[2].usage.peak_memory_bytes = 5;
    let run = merged(&nodes, 2, &[1], &inputs(2, &[]));
    assert!(run.verdict.valid, "{:?}", run.verdict);
    assert_eq!((run.nodes[1].phase, run.nodes[1].peak_memory_bytes), (NodeState::Connecting, Some(1001)));
    assert_eq!(run.nodes[1].sent, 1);
    assert_eq!(run.nodes.len(), 2);
}

/// Four nodes that send ten messages a second for three seconds.
fn planned(turn: Turn) -> PlannedWindow {
    window_of(SendPlan {
        origin_unix_nanos: OPENING,
        from_unix_nanos: OPENING,
        to_unix_nanos: Some(OPENING + 3 * SECOND),
        spread_seed: Some(1),
        ..SendPlan::new(4, turn, SECOND / 10)
    })
}

fn window_of(schedule: SendPlan) -> PlannedWindow {
    let plan = TrafficPlan::only(schedule, 100);
    PlannedWindow { plan, from_unix_nanos: OPENING, to_unix_nanos: OPENING + 3 * SECOND }
}

#[test]
fn the_schedule_of_an_absent_node_continues_in_the_accounts() {
    // Node 0 reported once, a second into the window; node 3 never.
    let mut nodes = counts(3, 3, &[]);
    for phase in &mut nodes[0].phases[..1] {
        (phase.intended, phase.sent) = (10, 9);
        phase.dropped = 1;
    }
    (nodes[0].measured.intended, nodes[0].measured.sent, nodes[0].measured.dropped) = (10, 9, 1);
    nodes[0].measured.send_lag_micros = lags(9);
    let observed = Observations {
        window: Some(planned(Turn::All)),
        ended_unix_nanos: Some(OPENING + 20 * SECOND),
        ..observations(4, &[0, 3], &inputs(3, &[vec![0, 1]]))
    };
    let run = merge(Collected { nodes: &nodes, observed: &observed });
    let all = totals(&run);
    assert_eq!((all.intended, all.sent, all.dropped, all.missed), (120, 9, 1, 110));
    assert_eq!((all.expected, all.delivered, all.lost), (360, 0, 360));
    let row = &run.nodes[0];
    assert_eq!((row.intended, row.sent, row.dropped, row.missed), (30, 9, 1, 20));
    assert_eq!(run.nodes[1].expected, 90);
    let intended: Vec<u64> = run.phases.iter().map(|phase| phase.intended).collect();
    assert_eq!(intended, [40; 3]);
    assert!(
        run.phases.iter().all(|row| row.groups.unwrap().across.expected + row.groups.unwrap().within.expected == 120)
    );
    assert_eq!(all.sustained.sustained, Some(false));
}

#[test]
fn a_run_that_was_cut_short_has_the_messages_of_the_time_that_passed() {
    let observed = Observations {
        window: Some(planned(Turn::one(2))),
        ended_unix_nanos: Some(OPENING + SECOND),
        ..observations(4, &[], &[])
    };
    let run = merge(Collected { nodes: &counts(4, 1, &[]), observed: &observed });
    let all = totals(&run);
    assert_eq!((all.intended, all.window_seconds, all.expected), (10, 1.0, 30));
    assert_eq!(all.sustained.sustained, None, "{:?}", all.sustained);
}

#[test]
fn a_window_without_a_message_is_no_measurement() {
    let once_a_minute = SendPlan { origin_unix_nanos: OPENING, ..SendPlan::new(4, Turn::All, 60 * SECOND) };
    let window = PlannedWindow { from_unix_nanos: OPENING + SECOND / 2, ..window_of(once_a_minute) };
    let observed = Observations {
        window: Some(window),
        ended_unix_nanos: Some(OPENING + 20 * SECOND),
        ..observations(4, &[], &[])
    };
    let run = merge(Collected { nodes: &counts(4, 1, &[]), observed: &observed });
    assert!(!run.verdict.valid);
    assert!(run.verdict.reasons[0].starts_with("no message was to be sent"), "{:?}", run.verdict);
}

#[test]
fn observations_survive_their_text() {
    let observed = Observations {
        window: Some(planned(Turn::RoundRobin { round: std::time::Duration::from_millis(7) })),
        ready_seconds: Some(0.1 + 0.2),
        ..observations(4, &[1], &inputs(2, &[vec![0]]))
    };
    let text = serde_json::to_string(&observed).unwrap();
    assert_eq!(serde_json::from_str::<Observations>(&text).unwrap(), observed);
}
