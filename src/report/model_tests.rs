//! Accounts of many random runs: every message and every delivery has its place, and none is counted twice. The test
//! computes with signed numbers, whereas the result itself saturates at 0.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ClassRow, Collected, GroupDeliveries, PhaseRow, RunSummary, Totals, merge,
    model::{At, Run, run},
};
use crate::{
    metrics::Metrics,
    network::Roster,
    node::{NodeSummary, Pace, Reach, THIRDS, TrafficPlan, Turn, WindowSummary},
    scenario::MessageSize,
};

/// Number of random runs; with fewer, some kinds of faults would not meet.
const RUNS: u64 = 250;

fn plan(run: &Run) -> &TrafficPlan {
    &run.observed.window.as_ref().unwrap().plan
}

fn classes(run: &Run) -> impl Iterator<Item = u16> {
    0..plan(run).classes.len() as u16
}

/// Window of a class in a node's report.
fn window(run: &Run, node: &NodeSummary, class: u16) -> WindowSummary {
    match plan(run).classes.len() {
        1 => node.measured.clone(),
        _ => node.classes[usize::from(class)].measured.clone(),
    }
}

/// Sum of a node's reports for one class, over its lives that received their start.
fn reported(run: &Run, id: u64, class: u16, field: fn(&WindowSummary) -> u64) -> i128 {
    let lives = run.nodes.iter().filter(|life| life.node == id && life.start.is_some());
    lives.map(|life| i128::from(field(&window(run, life, class)))).sum()
}

/// Indices of the messages of a class and node in a span of the window, found by walking through the schedule; none for
/// answers.
fn scheduled(run: &Run, class: u16, node: u64, from: u64, to: u64) -> Option<Vec<u64>> {
    let window = run.observed.window.as_ref().unwrap();
    let ended = run.observed.ended_unix_nanos.unwrap();
    let times = from.max(window.from_unix_nanos)..to.min(window.to_unix_nanos).min(ended);
    let slots = window.plan.class(class)?.schedule()?.slots(node, 0);
    Some(slots.filter(|slot| times.contains(&slot.intended_unix_nanos)).map(|slot| slot.index).collect())
}

/// Counts of the whole window and of each phase in a result, for each class and for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    intended: i128,
    sent: i128,
    dropped: i128,
    missed: i128,
    expected: i128,
    delivered: i128,
    lost: i128,
}

macro_rules! account_of {
    ($($type:ty),*) => {$(
        impl From<&$type> for Account {
            fn from(row: &$type) -> Self {
                Self {
                    intended: row.intended.into(),
                    sent: row.sent.into(),
                    dropped: row.dropped.into(),
                    missed: row.missed.into(),
                    expected: row.expected.into(),
                    delivered: row.delivered.into(),
                    lost: row.lost.into(),
                }
            }
        }
    )*};
}
account_of!(Totals, ClassRow, PhaseRow);

impl Account {
    fn counts(&self) -> [i128; 7] {
        [self.intended, self.sent, self.dropped, self.missed, self.expected, self.delivered, self.lost]
    }

    /// Checks that missed and lost messages are exactly the remaining ones, and never fewer than none.
    fn check(&self, at: &str) {
        assert_eq!(self.missed, self.intended - self.sent - self.dropped, "{at}");
        assert_eq!(self.lost, self.expected - self.delivered, "{at}");
        assert!(self.counts().iter().all(|count| *count >= 0), "{at}: {self:?}");
    }

    /// Checks the same for one class.
    fn check_class(&self, run: &Run, class: u16, (from, to): (u64, u64), at: &str) {
        self.check(at);
        let nodes = 0..plan(run).num_nodes;
        let receivers: Vec<i128> = nodes.clone().map(|node| plan(run).receivers(class, node).into()).collect();
        let most = receivers.iter().max().unwrap();
        let least = receivers.iter().min().unwrap();
        assert!((least * self.intended..=most * self.intended).contains(&self.expected), "{at}: {self:?}");
        // The nodes of an interrupted run report one after the other.
        let interrupted = run.observed.drain.is_none();
        assert!(interrupted || self.delivered <= self.sent * most, "{at}: more came than was sent: {self:?}");
        let due: Option<Vec<i128>> =
            nodes.map(|node| Some(scheduled(run, class, node, from, to)?.len() as i128)).collect();
        if let Some(due) = due {
            assert_eq!(self.intended, due.iter().sum::<i128>(), "{at}");
            assert_eq!(self.expected, due.iter().zip(&receivers).map(|(due, each)| due * each).sum::<i128>(), "{at}");
        }
    }
}

/// Checks that the account of all classes is the sum of the classes.
fn check_sums(all: Account, of_classes: impl Iterator<Item = Account>, at: &str) {
    let mut sums = [0; 7];
    for class in of_classes {
        sums.iter_mut().zip(class.counts()).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(sums, all.counts(), "{at}: the classes are the whole");
}

fn check_totals(run: &Run, result: &RunSummary, at: &str) {
    let totals = result.totals.as_ref().unwrap();
    Account::from(totals).check(at);
    check_sums(totals.into(), result.classes.iter().map(Account::from), at);
    for (class, row) in (0..).zip(&result.classes) {
        let at = format!("{at}, class {class}");
        Account::from(row).check_class(run, class, (0, u64::MAX), &at);
        assert_eq!(row.delay.count, row.delivered, "{at}");
        assert_eq!(row.delay.count + row.delay.missing, row.expected, "{at}");
        assert_eq!(row.send_lag.count + row.send_lag.missing, row.intended, "{at}");
        let all = |field: fn(&WindowSummary) -> u64| {
            (0..plan(run).num_nodes).map(|id| reported(run, id, class, field)).sum::<i128>()
        };
        let in_time = i128::from(row.delivered) - all(|w| w.received_after_end);
        assert_eq!(i128::from(row.backlog_at_end), i128::from(row.expected) - in_time, "{at}");
        assert!(row.backlog_at_end >= row.lost && row.late <= row.sent, "{at}");
        let after_deadline = all(|w| w.after_deadline);
        let misses = row.deadline_millis.map(|_| after_deadline + i128::from(row.lost));
        assert_eq!(row.deadline_misses.map(i128::from), misses, "{at}");
    }
    for (values, all) in [(&totals.delay, totals.expected), (&totals.send_lag, totals.intended)] {
        assert_eq!(values.count + values.missing, all, "{at}");
    }
    assert_eq!(totals.delay.count, totals.delivered, "{at}");
    let sum = |field: fn(&ClassRow) -> u64| result.classes.iter().map(field).sum::<u64>();
    assert_eq!(totals.backlog_at_end, sum(|row| row.backlog_at_end), "{at}");
    assert_eq!(totals.duplicates, sum(|row| row.duplicates), "{at}");
    assert_eq!(totals.delivered_in_window, sum(|row| row.delivered_in_window), "{at}");
    assert!(totals.delivered_in_window <= run.truth.came_in_window.len() as u64, "{at}");
}

/// Answers in the window that a node owes, by the arrivals at it: each logical message is answered once its last part
/// has arrived.
fn answers_owed(run: &Run, class: u16, node: u64) -> i128 {
    let window = run.observed.window.as_ref().unwrap();
    let plan = &window.plan;
    let answer = plan.class(class).unwrap().answer().unwrap();
    if !answer.senders.has(node) {
        return 0;
    }
    let burst = plan.class(answer.class).unwrap().burst();
    let mut logical: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    for ((_, _, sender, index), time) in
        run.truth.first.iter().filter(|((c, n, ..), _)| (*c, *n) == (answer.class, node))
    {
        logical.entry((*sender, index / burst)).or_default().push((*index, *time));
    }
    let complete = |((sender, number), came): (&(u64, u64), &Vec<(u64, u64)>)| {
        let parts = number * burst..(number + 1) * burst;
        if *sender == node {
            // A publisher answers when it has handed over the last part, even if other parts were dropped.
            return came.iter().find(|(index, _)| *index + 1 == parts.end).map(|(_, time)| *time);
        }
        let wanted = parts.filter(|index| plan.expects(answer.class, *sender, node, *index)).count();
        (came.len() == wanted).then(|| came.iter().map(|(_, time)| *time).max().unwrap())
    };
    let times = logical.iter().filter_map(complete).filter(|time| *time < window.to_unix_nanos);
    let parts = times.flat_map(|time| (0..answer.burst).map(move |part| time + part * answer.burst_spacing_nanos));
    parts.filter(|time| (window.from_unix_nanos..window.to_unix_nanos).contains(time)).count() as i128
}

fn check_nodes(run: &Run, result: &RunSummary, at: &str) {
    let num_nodes = plan(run).num_nodes;
    let whole = |id: u64| run.truth.whole.contains(&id) && run.observed.drain.is_some();
    for row in &result.nodes {
        let id = row.node;
        let at = format!("{at}, node {id}");
        let (mut sent_in_all, mut dropped_in_all, mut received_in_all, mut expected) = (0, 0, 0, Some(0));
        let mut due = Some(0);
        for class in classes(run) {
            let known = |counts: &BTreeMap<(u16, u64), u64>| i128::from(counts.get(&(class, id)).copied().unwrap_or(0));
            let arrived = run.truth.came.iter().filter(|(c, receiver, ..)| (*c, *receiver) == (class, id)).count();
            let count = |field: fn(&WindowSummary) -> u64| reported(run, id, class, field);
            let (sent, dropped) = (count(|w| w.sent), count(|w| w.dropped));
            let (received, intended) = (count(|w| w.received), count(|w| w.intended));
            assert!(sent <= known(&run.truth.sent) && dropped <= known(&run.truth.dropped), "{at}, class {class}");
            assert!(received <= arrived as i128, "{at}, class {class}");
            if whole(id) {
                let truth = (known(&run.truth.sent), known(&run.truth.dropped), arrived as i128);
                assert_eq!((sent, dropped, received), truth, "{at}, class {class}");
                if matches!(plan(run).class(class).unwrap().pace, Pace::After(_)) {
                    assert_eq!(intended, answers_owed(run, class, id), "{at}, class {class}");
                }
            }
            sent_in_all += sent;
            dropped_in_all += dropped;
            received_in_all += received;
            let own = scheduled(run, class, id, 0, u64::MAX);
            due = due.zip(own).map(|(due, own)| due + own.len() as i128);
            let walked: Option<Vec<_>> = (0..num_nodes)
                .filter(|sender| *sender != id)
                .map(|sender| Some((sender, scheduled(run, class, sender, 0, u64::MAX)?)))
                .collect();
            let to_node = walked.map(|all| {
                let indices = all.iter().flat_map(|(sender, all)| all.iter().map(move |index| (*sender, *index)));
                indices.filter(|(sender, index)| plan(run).expects(class, *sender, id, *index)).count() as i128
            });
            expected = expected.zip(to_node).map(|(all, of_class)| all + of_class);
        }
        let [intended, sent, dropped, missed, received] =
            [row.intended, row.sent, row.dropped, row.missed, row.received].map(i128::from);
        assert!(due.is_none_or(|due| intended == due), "{at}: {due:?} and {intended}");
        assert_eq!(missed, intended - sent - dropped, "{at}");
        assert!(missed >= 0, "{at}");
        // A message of a killed node that arrived anywhere was sent; another message that it did not report may have
        // been sent.
        let known: i128 =
            classes(run).map(|class| i128::from(run.truth.sent.get(&(class, id)).copied().unwrap_or(0))).sum();
        assert!((sent_in_all..=known).contains(&sent), "{at}: {sent_in_all} <= {sent} <= {known}");
        assert_eq!((dropped, received), (dropped_in_all, received_in_all), "{at}");
        assert!(expected.is_none_or(|expected| i128::from(row.expected) == expected), "{at}: {expected:?}");
    }
    for life in run.nodes.iter().filter(|life| life.start.is_some()) {
        for class in classes(run) {
            let window = window(run, life, class);
            let parts = |parts: &[u64]| parts.iter().sum::<u64>();
            assert_eq!(parts(&window.received_by_part), window.received, "{at}");
            assert_eq!(parts(&window.sent_by_part), window.sent, "{at}");
        }
    }
}

fn check_groups(row: &PhaseRow, at: &str) {
    if let Some(GroupDeliveries { within, across }) = row.groups {
        assert_eq!(within.expected + across.expected, row.expected, "{at}");
        assert_eq!(within.delivered + across.delivered, row.delivered, "{at}");
    }
}

/// Checks that the rows of all phases of one class, or of all, add up to the window.
fn check_rows(rows: &[PhaseRow], whole: Account, at: &str) {
    let mut sums = [0; 7];
    for row in rows {
        Account::from(row).check(at);
        check_groups(row, at);
        assert_eq!(row.delay.count + row.delay.missing, row.expected, "{at}");
        assert!(row.delivered_after_end <= row.delivered, "{at}");
        sums.iter_mut().zip(Account::from(row).counts()).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(sums, whole.counts(), "{at}: the phases are the window");
}

fn check_phases(run: &Run, result: &RunSummary, at: &str) {
    assert_eq!(result.phases.len(), run.observed.phases.len(), "{at}");
    check_rows(&result.phases, result.totals.as_ref().unwrap().into(), at);
    if result.classes.len() == 1 {
        return assert!(result.classes[0].phases.is_empty(), "{at}");
    }
    for (class, row) in (0..).zip(&result.classes) {
        let at = format!("{at}, class {class}");
        check_rows(&row.phases, row.into(), &at);
        for (phase, span) in row.phases.iter().zip(spans(run)) {
            Account::from(phase).check_class(run, class, span, &at);
        }
    }
    for (number, phase) in result.phases.iter().enumerate() {
        check_sums(phase.into(), result.classes.iter().map(|class| Account::from(&class.phases[number])), at);
    }
}

/// Begin and end of each phase, as a started node reports it.
fn spans(run: &Run) -> Vec<(u64, u64)> {
    let model = run.nodes.iter().find(|node| node.start.is_some()).unwrap();
    model.phases.iter().map(|phase| (phase.from_unix_nanos, phase.to_unix_nanos)).collect()
}

/// Checks that the time under way credited at arrivals is at most the offered time, if every node reports all messages
/// that it intended.
fn check_backlog(run: &Run, result: &RunSummary, at: &str) {
    if !run.observed.killed.is_empty() || run.observed.drain.is_none() {
        return;
    }
    for class in classes(run) {
        for third in 0..THIRDS {
            let offered = run.nodes.iter().map(|node| {
                let offered = window(run, node, class).offered_micros[third];
                i128::from(offered) * i128::from(plan(run).receivers(class, node.node))
            });
            let arrived = run.nodes.iter().map(|node| i128::from(window(run, node, class).arrived_micros[third]));
            assert!(offered.sum::<i128>() >= arrived.sum(), "{at}, class {class}");
        }
    }
    let verdicts = result.classes.iter().map(|class| &class.sustained);
    let none_negative = |backlog: [f64; THIRDS]| backlog.iter().all(|mean| *mean >= 0.0);
    assert!(verdicts.clone().all(|sustained| sustained.backlog_by_third.is_some_and(none_negative)), "{at}");
    let refused = verdicts.clone().any(|sustained| sustained.sustained == Some(false));
    let sustained = result.totals.as_ref().unwrap().sustained.sustained;
    assert_eq!(sustained == Some(false), refused, "{at}: all are sustained if each is");
}

/// True if a class answers another class of answers.
fn has_chain(run: &Run) -> bool {
    let answered = |class: u16| plan(run).class(class).and_then(|class| class.answer()).map(|answer| answer.class);
    classes(run).any(|class| answered(class).and_then(answered).is_some())
}

#[test]
fn every_message_and_every_delivery_has_its_account_after_any_fault() {
    let roster = Arc::new(Roster::new(4));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..RUNS {
        let at = format!("run {seed}");
        let run = run(seed, &roster, &metrics);
        let result = merge(Collected { nodes: &run.nodes, observed: &run.observed });
        // All numbers can be zero, which is a reason of its own.
        let bad: Vec<&String> =
            result.verdict.reasons.iter().filter(|reason| !reason.starts_with("no message was")).collect();
        assert_eq!(bad, Vec::<&String>::new(), "{at}");
        check_totals(&run, &result, &at);
        check_nodes(&run, &result, &at);
        check_phases(&run, &result, &at);
        check_backlog(&run, &result, &at);
        let totals = result.totals.as_ref().unwrap();
        let (observed, nodes, plan) = (&run.observed, &run.nodes, plan(&run));
        let any_class = |is: &dyn Fn(u16, &ClassRow) -> bool| (0..).zip(&result.classes).any(|(at, row)| is(at, row));
        let answers = |class: u16| plan.class(class).unwrap().answer().is_some();
        let lost_on_the_way = |class: u16, row: &ClassRow| {
            let most = (0..plan.num_nodes).map(|node| plan.receivers(class, node)).max().unwrap();
            row.lost > (row.missed + row.dropped) * most
        };
        let late: BTreeSet<At> = run.truth.came.difference(&run.truth.came_in_window).copied().collect();
        for (event, happened) in [
            ("a message was dropped", totals.dropped > 0),
            ("a copy was dropped", totals.dropped_copies > 0),
            ("a message was missed", totals.missed > 0),
            ("a delivery was lost", any_class(&lost_on_the_way)),
            ("a delivery was late", totals.backlog_at_end > totals.lost && !late.is_empty()),
            ("a copy came twice", totals.duplicates > 0),
            (
                "a deadline was missed by a delivery",
                any_class(&|_, row| row.deadline_misses.is_some_and(|n| n > row.lost)),
            ),
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
            ("there was one class", result.classes.len() == 1),
            ("there were several classes", result.classes.len() > 1),
            (
                "a message had several parts",
                any_class(&|class, row| plan.class(class).unwrap().burst() > 1 && row.sent > 0),
            ),
            ("an answer was delivered", any_class(&|class, row| answers(class) && row.delivered > 0)),
            ("an answer was missed", any_class(&|class, row| answers(class) && row.missed > 0)),
            ("an answer was answered", has_chain(&run) && result.classes.last().unwrap().sent > 0),
            (
                "messages went to one neighbour each",
                plan.classes.iter().any(|class| class.reach == Reach::OneNeighbour),
            ),
            ("nodes had different neighbours", plan.neighbours.is_some()),
            (
                "some nodes sent",
                plan.classes.iter().any(|class| matches!(class.senders(), Turn::Nodes(ids) if ids.len() > 1)),
            ),
            (
                "messages had several sizes",
                plan.classes.iter().any(|class| matches!(class.message_size, MessageSize::Weighted(_))),
            ),
        ] {
            *seen.entry(event).or_default() += u64::from(happened);
        }
    }
    assert!(seen.values().all(|times| *times >= 5), "the runs are too much alike: {seen:?}");
}
