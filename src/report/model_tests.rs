//! The accounts of many random runs: no message and no delivery is without its place, and none is counted twice. All is
//! computed from the parts in numbers with a sign, where the result itself stops at 0.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Collected, GroupDeliveries, PhaseRow, RunSummary, Totals, merge,
    model::{Run, Truth, run},
};
use crate::{
    metrics::Metrics,
    network::Roster,
    node::{NodeSummary, THIRDS, WindowSummary},
};

/// Random runs; with fewer, some kinds of faults would not meet.
const RUNS: u64 = 150;

/// What is reported of a node, over its lives that were given their start.
fn reported(nodes: &[NodeSummary], id: u64, field: fn(&WindowSummary) -> u64) -> i128 {
    let lives = nodes.iter().filter(|life| life.node == id && life.start.is_some());
    lives.map(|life| i128::from(field(&life.measured))).sum()
}

/// Messages of the window by node, walked and not computed.
fn scheduled(run: &Run, from: u64, to: u64) -> BTreeMap<u64, i128> {
    let window = run.observed.window.as_ref().unwrap();
    let ended = run.observed.ended_unix_nanos.unwrap();
    let times = from.max(window.from_unix_nanos)..to.min(window.to_unix_nanos).min(ended);
    let count = |node| window.plan.slots(node, 0).filter(|slot| times.contains(&slot.intended_unix_nanos)).count();
    (0..run.observed.workload.num_nodes).map(|node| (node, count(node) as i128)).collect()
}

/// Counts that a result has of its whole window and of each phase.
struct Account {
    intended: i128,
    sent: i128,
    dropped: i128,
    missed: i128,
    expected: i128,
    delivered: i128,
    lost: i128,
}

impl From<&Totals> for Account {
    fn from(totals: &Totals) -> Self {
        let Totals { intended, sent, dropped, missed, expected, delivered, lost, .. } = *totals;
        Self::new([intended, sent, dropped, missed, expected, delivered, lost])
    }
}

impl From<&PhaseRow> for Account {
    fn from(row: &PhaseRow) -> Self {
        Self::new([row.intended, row.sent, row.dropped, row.missed, row.expected, row.delivered, row.lost])
    }
}

impl Account {
    fn new(counts: [u64; 7]) -> Self {
        let [intended, sent, dropped, missed, expected, delivered, lost] = counts.map(i128::from);
        Self { intended, sent, dropped, missed, expected, delivered, lost }
    }

    fn counts(&self) -> [i128; 7] {
        [self.intended, self.sent, self.dropped, self.missed, self.expected, self.delivered, self.lost]
    }

    /// What is missed and lost is what is left over, and that is never less than nothing.
    fn check(&self, run: &Run, seed: u64) {
        let receivers = i128::from(run.observed.workload.num_nodes) - 1;
        assert_eq!(self.missed, self.intended - self.sent - self.dropped, "run {seed}");
        assert_eq!(self.expected, self.intended * receivers, "run {seed}");
        assert_eq!(self.lost, self.expected - self.delivered, "run {seed}");
        assert!((0..=self.expected).contains(&self.delivered), "run {seed}");
        // The nodes of an interrupted run report one after the other.
        let interrupted = run.observed.drain.is_none();
        assert!(interrupted || self.delivered <= self.sent * receivers, "run {seed}: more came than was sent");
    }
}

fn check_totals(run: &Run, result: &RunSummary, seed: u64) {
    let totals = result.totals.as_ref().unwrap();
    let nodes = i128::from(run.observed.workload.num_nodes);
    Account::from(totals).check(run, seed);
    assert_eq!(i128::from(totals.intended), scheduled(run, 0, u64::MAX).values().sum::<i128>(), "run {seed}");
    for (values, all) in [(&totals.delay, totals.expected), (&totals.send_lag, totals.intended)] {
        assert_eq!(i128::from(values.count) + i128::from(values.missing), i128::from(all), "run {seed}");
    }
    assert_eq!(totals.delay.count, totals.delivered, "run {seed}");
    let all =
        |field: fn(&WindowSummary) -> u64| (0..nodes as u64).map(|id| reported(&run.nodes, id, field)).sum::<i128>();
    let in_time = i128::from(totals.delivered) - all(|w| w.received_after_end);
    assert_eq!(i128::from(totals.backlog_at_end), i128::from(totals.expected) - in_time, "run {seed}");
    assert!(totals.backlog_at_end >= totals.lost && totals.late <= totals.sent, "run {seed}");
    assert!(totals.delivered_in_window <= run.truth.came_in_window.len() as u64, "run {seed}");
}

fn check_nodes(run: &Run, result: &RunSummary, seed: u64) {
    let Truth { sent, dropped, came, whole, .. } = &run.truth;
    let due = scheduled(run, 0, u64::MAX);
    let all: i128 = due.values().sum();
    for row in &result.nodes {
        let id = row.node;
        let [intended, sent_by, dropped_by, missed] = [row.intended, row.sent, row.dropped, row.missed].map(i128::from);
        let known = |counts: &BTreeMap<u64, u64>| i128::from(counts.get(&id).copied().unwrap_or(0));
        assert_eq!(intended, due[&id], "run {seed}, node {id}");
        assert_eq!(missed, intended - sent_by - dropped_by, "run {seed}, node {id}");
        assert!(missed >= 0, "run {seed}, node {id}");
        // Of a killed node, a message that came somewhere was sent; another that it did not report may have been.
        assert!((reported(&run.nodes, id, |w| w.sent)..=known(sent)).contains(&sent_by), "run {seed}, node {id}");
        assert_eq!(dropped_by, reported(&run.nodes, id, |w| w.dropped), "run {seed}, node {id}");
        assert!(dropped_by <= known(dropped), "run {seed}, node {id}");
        let received = i128::from(row.received);
        let arrived = came.iter().filter(|(receiver, ..)| *receiver == id).count() as i128;
        assert_eq!(i128::from(row.expected), all - due[&id], "run {seed}, node {id}");
        assert_eq!(received, reported(&run.nodes, id, |w| w.received), "run {seed}, node {id}");
        assert!(received <= arrived && arrived <= all - due[&id], "run {seed}, node {id}");
        if whole.contains(&id) && run.observed.drain.is_some() {
            assert_eq!(
                (sent_by, dropped_by, received),
                (known(sent), known(dropped), arrived),
                "run {seed}, node {id}"
            );
        }
    }
    for life in run.nodes.iter().filter(|life| life.start.is_some()) {
        let window = &life.measured;
        let parts = |parts: &[u64]| parts.iter().map(|count| i128::from(*count)).sum::<i128>();
        assert_eq!(parts(&window.received_by_part), i128::from(window.received), "run {seed}");
        assert_eq!(parts(&window.sent_by_part), i128::from(window.sent), "run {seed}");
    }
}

fn check_phases(run: &Run, result: &RunSummary, seed: u64) {
    let totals = Account::from(result.totals.as_ref().unwrap());
    assert_eq!(result.phases.len(), run.observed.phases.len(), "run {seed}");
    let mut sums = [0; 7];
    for (row, span) in result.phases.iter().zip(spans(run)) {
        let account = Account::from(row);
        account.check(run, seed);
        assert_eq!(account.intended, scheduled(run, span.0, span.1).values().sum::<i128>(), "run {seed}");
        assert_eq!(i128::from(row.delay.count) + i128::from(row.delay.missing), account.expected, "run {seed}");
        assert!(row.delivered_after_end <= row.delivered, "run {seed}");
        for (sum, count) in sums.iter_mut().zip(account.counts()) {
            *sum += count;
        }
        if let Some(GroupDeliveries { within, across }) = row.groups {
            let both = |one: u64, other: u64| i128::from(one) + i128::from(other);
            assert_eq!(both(within.expected, across.expected), account.expected, "run {seed}");
            assert_eq!(both(within.delivered, across.delivered), account.delivered, "run {seed}");
            for part in [within, across] {
                assert_eq!(both(part.delivered, part.lost), i128::from(part.expected), "run {seed}");
            }
        }
    }
    assert_eq!(sums, totals.counts(), "run {seed}: the phases are the window");
}

/// Begin and end of each phase, as a node that was started reports it.
fn spans(run: &Run) -> Vec<(u64, u64)> {
    let model = run.nodes.iter().find(|node| node.start.is_some()).unwrap();
    model.phases.iter().map(|phase| (phase.from_unix_nanos, phase.to_unix_nanos)).collect()
}

/// No more time under way is credited at arrivals than was offered, as long as every node reports all that it intended.
fn check_backlog(run: &Run, result: &RunSummary, seed: u64) {
    if !run.observed.killed.is_empty() || run.observed.drain.is_none() {
        return;
    }
    let receivers = i128::from(run.observed.workload.num_nodes) - 1;
    for third in 0..THIRDS {
        let sum = |of: fn(&WindowSummary) -> [u64; THIRDS]| {
            run.nodes.iter().map(|node| i128::from(of(&node.measured)[third])).sum::<i128>()
        };
        assert!(sum(|w| w.offered_micros) * receivers >= sum(|w| w.arrived_micros), "run {seed}");
    }
    let sustained = &result.totals.as_ref().unwrap().sustained;
    assert!(sustained.backlog_by_third.is_some_and(|backlog| backlog.iter().all(|mean| *mean >= 0.0)), "run {seed}");
}

#[test]
fn whatever_happens_to_the_nodes_every_message_and_every_delivery_has_its_account() {
    let roster = Arc::new(Roster::new(4));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..RUNS {
        let run = run(seed, &roster, &metrics);
        let result = merge(Collected { nodes: &run.nodes, observed: &run.observed });
        // Numbers can be all zeros, which is a reason of its own.
        let bad: Vec<&String> =
            result.verdict.reasons.iter().filter(|reason| !reason.starts_with("no message was")).collect();
        assert_eq!(bad, Vec::<&String>::new(), "run {seed}");
        check_totals(&run, &result, seed);
        check_nodes(&run, &result, seed);
        check_phases(&run, &result, seed);
        check_backlog(&run, &result, seed);
        let totals = result.totals.as_ref().unwrap();
        let (observed, nodes) = (&run.observed, &run.nodes);
        for (event, happened) in [
            ("a message was dropped", totals.dropped > 0),
            ("a copy was dropped", totals.dropped_copies > 0),
            ("a message was missed", totals.missed > 0),
            ("a delivery was lost", totals.lost > (totals.missed + totals.dropped) * (observed.workload.num_nodes - 1)),
            ("a delivery was late", totals.backlog_at_end > totals.lost),
            ("a copy came twice", totals.duplicates > 0),
            ("a node was killed", !observed.killed.is_empty()),
            ("a node was not killed", observed.killed.is_empty()),
            ("a node had two lives", nodes.len() > result.nodes.len()),
            ("a life was never started", nodes.iter().any(|life| life.start.is_none())),
            (
                "a receiver knew more than a killed sender",
                result.verdict.warnings.iter().any(|w| w.contains("was killed")),
            ),
            ("the network was cut", result.phases.iter().any(|row| row.groups.is_some())),
            ("the run was interrupted", observed.drain.is_none()),
        ] {
            *seen.entry(event).or_default() += u64::from(happened);
        }
    }
    assert!(seen.values().all(|times| *times >= 5), "the runs are too much alike: {seen:?}");
}
