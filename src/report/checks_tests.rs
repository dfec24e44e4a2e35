//! Reports of real recorders are believed, and a report in which one number was raised changes no count of the result.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use prometheus::Registry;
use proptest::prelude::*;
use serde_json::Value;

use super::{Collected, Observations, PlannedWindow, RunSummary, Totals, WorkloadSummary, merge};
use crate::{
    clock::unix_nanos,
    message::{Base, Extension, compose},
    metrics::{Metrics, Usage},
    network::{Handover, Outgoing, Readiness, Roster, Traffic, peer_id},
    node::{
        MeasurementWindow, NODE_SCHEMA_VERSION, NodeState, NodeSummary, Recorder, SendPlan, StartOrder, TrafficPlan,
        TrialPlan, TrialSummary, TrialTimes, Turn, WindowUsage,
    },
};

const SECOND: u64 = 1_000_000_000;
const NODES: u64 = 3;
const SIZE: usize = 1024;
const HEARTBEAT: u64 = SECOND / 10;

/// Fate of one message of the schedule, at its sender and at each receiver.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Missed,
    Dropped,
    Sent { lost: u64, twice: bool, stated: bool, size: usize },
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let size = prop_oneof![4 => Just(SIZE), 1 => SIZE..3 * SIZE];
    let sent = (0..2 * NODES, any::<bool>(), any::<bool>(), size).prop_map(|(lost, twice, stated, size)| Fate::Sent {
        lost,
        twice,
        stated,
        size,
    });
    prop::collection::vec(prop_oneof![1 => Just(Fate::Missed), 1 => Just(Fate::Dropped), 6 => sent], 1..40)
}

/// A run in progress: its window opened two seconds ago, after a second of warm-up, and ends in one second.
struct Run {
    recorders: Vec<Recorder>,
    plan: Arc<TrafficPlan>,
    from: u64,
    to: u64,
    now: u64,
}

impl Run {
    fn new(plan: impl Fn(u64, u64) -> TrafficPlan, phases: bool, rejoined: Option<u64>) -> Self {
        let now = unix_nanos();
        let (start, from, to) = (now - 3 * SECOND, now - 2 * SECOND, now + SECOND);
        let plan = Arc::new(plan(start, to));
        let recorders = (0..NODES).map(|node| {
            let metrics = Metrics::register(&Registry::new()).unwrap();
            let recorder = Recorder::new(node, 7, Arc::new(Roster::new(NODES)), metrics);
            recorder.remember_early();
            recorder.begin(&MeasurementWindow {
                from_unix_nanos: from,
                to_unix_nanos: to,
                boundaries: if phases { vec![from + SECOND / 2, from + SECOND] } else { vec![] },
                plan: Some(plan.clone()),
                rejoined_from: (rejoined == Some(node)).then_some(from + SECOND / 2),
                ..MeasurementWindow::everything(Base::LowestSeen)
            });
            recorder
        });
        Self { recorders: recorders.collect(), plan, from, to, now }
    }

    /// Carries all messages that are due by now, in their order.
    fn carry(&self, fates: &[Fate]) {
        let mut fates = fates.iter().cycle();
        for sender in 0..NODES {
            let recorder = &self.recorders[sender as usize];
            for slot in self.plan.classes[0]
                .schedule()
                .unwrap()
                .slots(sender, 0)
                .take_while(|slot| slot.intended_unix_nanos <= self.now)
            {
                recorder.intended(0, slot.intended_unix_nanos);
                let (lost, twice, stated, size) = match fates.next().unwrap() {
                    Fate::Missed => continue,
                    Fate::Dropped => (u64::MAX, false, true, SIZE),
                    Fate::Sent { lost, twice, stated, size } => (*lost, *twice, *stated, *size),
                };
                let extension = Extension { run_id: 7, ..Extension::default() };
                let (intended, next) = (slot.intended_unix_nanos, slot.next_unix_nanos);
                let mut message = Outgoing {
                    intended_unix_nanos: intended,
                    next_unix_nanos: next,
                    handed_over_unix_nanos: 0,
                    trial: 0,
                    class: 0,
                    index: slot.index,
                    bytes: compose(sender, slot.index, intended, SIZE, &extension),
                };
                assert!(recorder.about_to_send(&mut message));
                let dropped = u64::from(lost < NODES);
                let handover =
                    if lost == u64::MAX { Handover { queued: 0, dropped: 2 } } else { Handover { queued: 1, dropped } };
                recorder.handed_over(&message, SIZE as u64, handover);
                if lost == u64::MAX {
                    continue;
                }
                // An arriving message may come from another program: without the extension, and of another size.
                let arrives = if stated {
                    message.bytes
                } else {
                    let mut bytes = compose(sender, slot.index, intended, size, &extension);
                    bytes[crate::message::HEADER_SIZE..].fill(0);
                    bytes
                };
                for receiver in (0..NODES).filter(|node| *node != sender && *node != lost) {
                    for _ in 0..1 + u8::from(twice) {
                        self.recorders[receiver as usize].received(
                            Some(peer_id(sender)),
                            Some(peer_id(sender)),
                            None,
                            &arrives,
                        );
                    }
                }
            }
        }
    }

    fn summary(&self, node: u64) -> NodeSummary {
        let counted_unix_nanos = unix_nanos();
        let counts = self.recorders[node as usize].counts();
        NodeSummary {
            schema_version: NODE_SCHEMA_VERSION,
            version: "1".into(),
            node,
            peer_id: peer_id(node).to_string(),
            process: 1,
            configuration: Value::Null,
            phase: NodeState::Draining,
            readiness: Readiness::default(),
            environment: None,
            unreached: vec![],
            slow_peers: vec![],
            gossipsub: std::collections::BTreeMap::new(),
            counted_unix_nanos,
            pending_work: None,
            start: Some(StartOrder::at(self.now - 3 * SECOND)),
            measured: counts.measured,
            outside: counts.outside,
            phases: counts.phases,
            pending: counts.pending,
            senders: counts.senders,
            classes: counts.classes,
            trials: vec![],
            window_usage: Some(used()),
            usage: Usage { cpu_seconds: 1.0, peak_memory_bytes: 1 << 20 },
            dropped: [("peer_queue_full".to_owned(), 1)].into(),
            malformed: [("not_a_message".to_owned(), 1)].into(),
            machine: Some(crate::machine::Machine::default().report()),
            propeller: None,
            events: [("connections_closed".to_owned(), 1)].into(),
        }
    }

    fn observations(&self, explore: bool, phases: usize) -> Observations {
        Observations {
            workload: WorkloadSummary {
                scenario: None,
                num_nodes: NODES,
                message_size_bytes: (!explore).then_some(SIZE),
                ..WorkloadSummary::default()
            },
            explore_broadcaster: explore.then_some(0),
            window: (!explore).then(|| PlannedWindow {
                plan: self.plan.as_ref().clone(),
                from_unix_nanos: self.from,
                to_unix_nanos: self.to,
            }),
            ended_unix_nanos: Some(self.now + 2 * SECOND),
            phases: vec![Default::default(); phases],
            ..Observations::default()
        }
    }
}

fn used() -> WindowUsage {
    WindowUsage {
        cpu_seconds: 0.5,
        socket_bytes_sent: Some(10_000),
        socket_bytes_received: Some(10_000),
        gossip_copies: Some(10),
    }
}

/// Reports of a steady run, and the observations of the runner.
fn steady(fates: &[Fate], phases: bool, rejoined: Option<u64>) -> (Vec<NodeSummary>, Observations) {
    let schedule = |start, to| SendPlan {
        origin_unix_nanos: start,
        from_unix_nanos: start,
        to_unix_nanos: Some(to),
        spread_seed: Some(1),
        ..SendPlan::new(NODES, Turn::All, HEARTBEAT)
    };
    let plan = |start, to| TrafficPlan::only(schedule(start, to), SIZE);
    let run = Run::new(plan, phases, rejoined);
    run.carry(fates);
    ((0..NODES).map(|node| run.summary(node)).collect(), run.observations(false, if phases { 3 } else { 0 }))
}

/// Reports of a run with one trial.
fn explore(fates: &[Fate]) -> (Vec<NodeSummary>, Observations) {
    let plan = TrialPlan { message_size: SIZE, heartbeat_millis: HEARTBEAT / 1_000_000 };
    let times = |start: u64, to| TrialTimes {
        warm_up_unix_nanos: start,
        from_unix_nanos: start + SECOND,
        to_unix_nanos: to,
        drained_unix_nanos: to + SECOND,
    };
    let run = Run::new(|start, to| plan.traffic_plan(NODES, 0, &times(start, to)), false, None);
    run.carry(fates);
    let nodes = (0..NODES).map(|id| {
        let node = run.summary(id);
        let trial = TrialSummary {
            trial: 0,
            plan,
            times: times(run.from - SECOND, run.to),
            readiness: Readiness::default(),
            joined_unix_nanos: run.from - SECOND,
            counted_unix_nanos: node.counted_unix_nanos,
            measured: node.measured.clone(),
            pending: node.pending,
            usage: used(),
        };
        NodeSummary { phase: NodeState::Finished, phases: vec![], trials: vec![trial], ..node }
    });
    (nodes.collect(), run.observations(true, 0))
}

/// Pointers to all numbers of a value.
fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(at.to_owned()),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(number, item)| numbers(item, &format!("{at}/{number}"), found));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| numbers(item, &format!("{at}/{key}"), found)),
        _ => {}
    }
}

/// Results of one kind, whose counts are compared and bounded.
fn all_totals(run: &RunSummary) -> Vec<&Totals> {
    run.totals
        .iter()
        .chain(run.trials.iter().filter(|trial| trial.problems.is_empty()).map(|row| &row.totals))
        .collect()
}

/// Counts that no single number of a report changes. A trial has no phases, so only the sender knows the messages that
/// it dropped.
fn counts(totals: &Totals) -> [u64; 7] {
    let Totals { intended, sent, expected, delivered, lost, .. } = *totals;
    [intended, sent, expected, delivered, lost, totals.delay.count, totals.send_lag.count]
}

fn refused(run: &RunSummary) -> bool {
    run.verdict.reasons.iter().any(|reason| reason.ends_with("its counts are left out"))
}

/// Raises the numbers of all reports, one at a time; a report that changes a count must not be believed.
fn raise_all(nodes: &[NodeSummary], observed: &Observations, raised: u64) {
    let honest = merge(Collected { nodes, observed });
    let liar = serde_json::to_value(&nodes[0]).unwrap();
    let mut pointers = vec![];
    numbers(&liar, "", &mut pointers);
    assert!(pointers.len() > 50);
    for pointer in pointers {
        let mut value = liar.clone();
        let number = value.pointer_mut(&pointer).unwrap();
        *number = match number.as_u64() {
            Some(before) => before.saturating_add(raised).into(),
            None => (number.as_f64().unwrap() + raised as f64).into(),
        };
        // Some changed values do not even have the form of a report.
        let Ok(liar) = serde_json::from_value::<NodeSummary>(value) else { continue };
        let nodes = [vec![liar], nodes[1..].to_vec()].concat();
        let run = catch_unwind(AssertUnwindSafe(|| merge(Collected { nodes: &nodes, observed })));
        let run = run.unwrap_or_else(|_| panic!("{pointer} raised by {raised} panics"));
        if refused(&run) {
            let line = run.verdict.reasons.iter().find(|reason| reason.ends_with("left out")).unwrap();
            assert!(line.lines().count() == 1 && line.contains("node "), "{line}");
        }
        for (totals, honest) in all_totals(&run).into_iter().zip(all_totals(&honest)) {
            let adds_up = totals.sent + totals.dropped + totals.missed == totals.intended;
            let bounded = totals.delivered <= totals.expected && adds_up;
            assert!(bounded, "{pointer} raised by {raised}: {:?}", counts(totals));
            if run.verdict.valid {
                assert_eq!(counts(totals), counts(honest), "{pointer} raised by {raised}");
                let seconds = totals.delay.max_micros.unwrap_or(0) as f64 / 1e6;
                assert!(seconds < 100.0 && totals.cpu_seconds < Some(1e6), "{pointer} raised by {raised}: {totals:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn reports_of_real_recorders_are_believed(
        fates in fates(), phases in any::<bool>(), rejoined in prop::option::of(0..NODES),
    ) {
        for (nodes, observed) in [steady(&fates, phases, rejoined), explore(&fates)] {
            let run = merge(Collected { nodes: &nodes, observed: &observed });
            prop_assert!(!refused(&run), "{:?}", run.verdict.reasons);
            prop_assert_eq!(run.nodes.len() as u64, NODES);
            // A node that never received its start has counted the whole run.
            let unstarted: Vec<_> =
                nodes.iter().map(|node| NodeSummary { phases: vec![], start: None, ..node.clone() }).collect();
            let run = merge(Collected { nodes: &unstarted, observed: &observed });
            prop_assert!(!refused(&run), "{:?}", run.verdict.reasons);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn no_single_number_that_is_raised_changes_a_count_of_the_result(
        fates in fates(), phases in any::<bool>(), raised in prop_oneof![Just(1), 2..1_000_000_u64],
    ) {
        for (nodes, observed) in [steady(&fates, phases, None), explore(&fates)] {
            for raised in [raised, u64::MAX] {
                raise_all(&nodes, &observed, raised);
            }
        }
    }
}

#[test]
fn a_report_with_the_largest_number_everywhere_is_left_out_in_one_line() {
    let fate = Fate::Sent { lost: NODES, twice: false, stated: true, size: SIZE };
    let (mut nodes, observed) = steady(&[fate], true, None);
    let honest = merge(Collected { nodes: &nodes, observed: &observed });
    assert!(!refused(&honest), "{:?}", honest.verdict);
    let measured = &mut nodes[2].measured;
    for count in [&mut measured.intended, &mut measured.sent, &mut measured.received, &mut measured.late] {
        *count = u64::MAX;
    }
    let run = merge(Collected { nodes: &nodes, observed: &observed });
    assert!(!run.verdict.valid);
    let lines: Vec<_> = run.verdict.reasons.iter().filter(|reason| reason.contains("node 2 ")).collect();
    assert_eq!(lines.len(), 1, "{:?}", run.verdict.reasons);
    assert!(lines[0].starts_with("node 2 reports 18446744073709551615 intended messages, of "), "{lines:?}");
    let (all, before) = (run.totals.unwrap(), honest.totals.unwrap());
    assert_eq!(all.intended, before.intended);
    assert!(all.sent < before.sent && all.delivered < before.delivered);
}

#[test]
fn lists_maps_and_names_that_are_too_large_are_refused_as_they_are_read() {
    let (nodes, _) = steady(&[Fate::Missed], true, None);
    let honest = serde_json::to_value(&nodes[0]).unwrap();
    assert!(serde_json::from_value::<NodeSummary>(honest.clone()).is_ok());
    let sender = serde_json::json!({"sender": 1, "received": 0, "received_after_end": 0});
    let many: serde_json::Map<String, Value> = (0..257).map(|label| (label.to_string(), 1.into())).collect();
    for (pointer, value) in [
        ("/measured/received_by_part", vec![0; 121].into()),
        ("/measured/sent_by_part", vec![0; 121].into()),
        ("/phases", vec![honest["phases"][0].clone(); 66].into()),
        ("/phases/0/by_sender", vec![sender; 10_001].into()),
        ("/events", many.into()),
        ("/dropped", serde_json::json!({"a\nline": 1})),
        ("/malformed", serde_json::json!({"x".repeat(129): 1})),
        ("/peer_id", "\u{1b}[31m".into()),
        ("/version", "1".repeat(129).into()),
    ] {
        let mut summary = honest.clone();
        *summary.pointer_mut(pointer).unwrap() = value;
        let error = serde_json::from_value::<NodeSummary>(summary).unwrap_err().to_string();
        assert!(error.lines().count() == 1 && error.len() < 200, "{pointer}: {error}");
    }
}
