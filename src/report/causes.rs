//! Causes of losses and of late deliveries, with their evidence.
//!
//! Every lost delivery of the sample has one cause, the first of these that holds: its message was never sent, its
//! receiver was away, the network was cut between the two, queues to its receiver overflowed, streams broke. A late
//! delivery is taken apart into the time before its message was handed over, and the times of the hops of its way.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    arrivals::{ArrivalRow, Arrivals},
    cause::{Cause, CauseKind, Effect},
    observed::Observations,
    summary::{PhaseRow, RunSummary},
};
use crate::node::{NodeSummary, TrafficPlan};

/// Share of the deliveries of a class that are its slowest ones.
const SLOWEST_PERCENT: usize = 1;

/// Minimum number of deliveries that are taken apart as the slowest.
const MIN_SLOWEST: usize = 10;

/// Names that a line of evidence lists; the others are counted.
const MAX_NAMED: usize = 3;

/// Failures of the queues from one node to another: copies that found no room, or waited for too long.
type Failures = BTreeMap<(u64, u64), u64>;

fn failures(nodes: &[NodeSummary]) -> Failures {
    let mut all = Failures::new();
    for node in nodes {
        for slow in &node.slow_peers {
            let count = all.entry((node.node, slow.node)).or_default();
            *count = u64::saturating_add(*count, slow.copies);
        }
    }
    all
}

/// True if the network was cut between two nodes when a message was due, `seconds` after the window opened.
fn is_cut(phases: &[PhaseRow], observed: &Observations, seconds: f64, one: u64, other: u64) -> bool {
    let at = phases.iter().position(|phase| (phase.from_seconds..phase.to_seconds).contains(&seconds));
    let groups = at.and_then(|at| observed.phases.get(at)).and_then(|phase| phase.groups.as_ref());
    let group_of = |groups: &[Vec<u64>], node: u64| groups.iter().position(|group| group.contains(&node));
    groups.is_some_and(|groups| group_of(groups, one) != group_of(groups, other))
}

/// Losses of one class by cause, with the queues that failed.
#[derive(Default)]
struct Losses {
    by_kind: BTreeMap<CauseKind, u64>,
    /// Receivers that were away, or cut off.
    away: BTreeSet<u64>,
    queues: BTreeMap<CauseKind, Failures>,
}

/// Facts of the whole run that explain losses.
struct Facts<'a> {
    run: &'a RunSummary,
    observed: &'a Observations,
    failures: Failures,
    away: BTreeSet<u64>,
    opening: u64,
}

impl Facts<'_> {
    fn seconds(&self, time: u64) -> f64 {
        time.saturating_sub(self.opening) as f64 / 1e9
    }

    /// Cause of a lost delivery.
    fn cause(&self, sent: bool, sender: u64, receiver: u64, intended: u64, losses: &mut Losses) -> CauseKind {
        if !sent {
            return CauseKind::Generator;
        }
        if self.away.contains(&receiver) {
            losses.away.insert(receiver);
            return CauseKind::Absent;
        }
        if is_cut(&self.run.phases, self.observed, self.seconds(intended), sender, receiver) {
            losses.away.insert(receiver);
            return CauseKind::Partition;
        }
        let to_receiver = |((_, to), _): &(&(u64, u64), &u64)| *to == receiver;
        let queues: Vec<_> = self.failures.iter().filter(to_receiver).map(|(link, count)| (*link, *count)).collect();
        if queues.is_empty() {
            let broke = self.run.events.get("gossipsub_stream_error").is_some_and(|count| *count > 0);
            return if broke { CauseKind::Streams } else { CauseKind::Unknown };
        }
        let forwards = queues.iter().any(|((from, _), _)| *from != sender);
        let kind = if forwards { CauseKind::Forwarding } else { CauseKind::Sending };
        losses.queues.entry(kind).or_default().extend(queues);
        kind
    }

    fn evidence(&self, kind: CauseKind, losses: &Losses) -> String {
        match kind {
            CauseKind::Generator => "their messages were never handed to the network".into(),
            CauseKind::Absent => format!("the receivers {} were away for a time", names(losses.away.iter())),
            CauseKind::Partition => "the network was cut between sender and receiver".into(),
            CauseKind::Sending | CauseKind::Forwarding => {
                let mut queues: Vec<_> = losses.queues.get(&kind).into_iter().flatten().collect();
                queues.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
                let named = queues.iter().take(MAX_NAMED).map(|((from, to), count)| {
                    format!("{count} copies in the queue from node {from} to node {to}{}", self.limit(*from, *to))
                });
                let more = queues.len().saturating_sub(MAX_NAMED);
                let more = if more > 0 { format!(", and {more} more queues") } else { String::new() };
                format!("no room, or too long a wait: {}{more}", named.collect::<Vec<_>>().join(", "))
            }
            CauseKind::Streams => "gossipsub streams broke".into(),
            CauseKind::FirstHop | CauseKind::Network | CauseKind::Unknown => {
                "nothing that was measured explains them".into()
            }
        }
    }

    /// Throughput to which a link is limited.
    fn limit(&self, from: u64, to: u64) -> String {
        let link = self.run.links.iter().flat_map(|links| &links.links).find(|link| (link.from, link.to) == (from, to));
        let limit = link.and_then(|link| link.configured.throughput_kilobytes_per_second);
        limit.map_or_else(String::new, |limit| format!(" (link of {limit} KB/s)"))
    }
}

/// Some names, and the number of the others.
fn names<'a>(nodes: impl ExactSizeIterator<Item = &'a u64>) -> String {
    let more = nodes.len().saturating_sub(MAX_NAMED);
    let named: Vec<String> = nodes.take(MAX_NAMED).map(u64::to_string).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// Causes of the lost and the slowest deliveries of each class, the largest first. Losses are explained for classes
/// whose messages are all in the sample, and have a schedule or a record.
pub fn causes(run: &RunSummary, arrivals: &Arrivals, observed: &Observations, nodes: &[NodeSummary]) -> Vec<Cause> {
    let Some(window) = &observed.window else { return vec![] };
    let stopped = |node: &&NodeSummary| node.counted_unix_nanos < window.to_unix_nanos;
    let paused = nodes.iter().filter(stopped).map(|node| node.node);
    let facts = Facts {
        run,
        observed,
        failures: failures(nodes),
        away: observed.killed.iter().copied().chain(paused).collect(),
        opening: window.from_unix_nanos,
    };
    let end = window.to_unix_nanos.min(observed.ended_unix_nanos.unwrap_or(0));
    let mut all = vec![];
    for (number, plan) in window.plan.numbered() {
        let lost = lost(&facts, number, &window.plan, arrivals, end);
        let total: u64 = lost.by_kind.values().sum();
        let mut rows: Vec<Cause> = lost
            .by_kind
            .iter()
            .map(|(kind, count)| Cause {
                class: plan.name.clone(),
                effect: Effect::Lost,
                cause: *kind,
                deliveries: *count,
                share: *count as f64 / total as f64,
                evidence: facts.evidence(*kind, &lost),
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.deliveries));
        all.extend(rows);
        all.extend(late(&facts, &plan.name, arrivals, number));
    }
    all
}

/// Lost deliveries of a class, by cause.
fn lost(facts: &Facts<'_>, class: u16, traffic: &TrafficPlan, arrivals: &Arrivals, end: u64) -> Losses {
    let mut losses = Losses::default();
    let Some(plan) = traffic.class(class) else { return losses };
    let row_lost = facts.run.classes.get(usize::from(class)).map_or(0, |row| row.lost);
    if row_lost == 0 {
        return losses;
    }
    let mut messages: BTreeMap<(u64, u64), (u64, Vec<u64>)> = BTreeMap::new();
    if let Some(schedule) = plan.schedule() {
        for sender in 0..traffic.num_nodes {
            let slots = schedule.slots(sender, facts.opening).take_while(|slot| slot.intended_unix_nanos < end);
            for slot in slots.filter(|slot| arrivals.samples(class, sender, slot.index / plan.burst())) {
                messages.insert((sender, slot.index), (slot.intended_unix_nanos, vec![]));
            }
        }
    }
    for row in arrivals.of_class(class) {
        let intended = row.arrival.intended_unix_nanos;
        let known = messages.entry((row.arrival.sender, row.arrival.index)).or_insert((intended, vec![]));
        known.1.push(row.receiver);
    }
    for ((sender, index), (intended, mut holders)) in messages {
        holders.sort_unstable();
        let sent = !holders.is_empty();
        let expected = (0..traffic.num_nodes).filter(|node| traffic.expects(class, sender, *node, index));
        for receiver in expected.filter(|node| holders.binary_search(node).is_err()) {
            let kind = facts.cause(sent, sender, receiver, intended, &mut losses);
            *losses.by_kind.entry(kind).or_default() += 1;
        }
    }
    losses
}

/// Parts of the time of the slowest deliveries.
#[derive(Default)]
struct Parts {
    send_lag: u64,
    first_hop: u64,
    forwarding: u64,
    /// Time after the handover of deliveries whose way is not known.
    network: u64,
    by_link: BTreeMap<(u64, u64), u64>,
    deliveries: u64,
    fastest: u64,
}

/// Time of the slowest deliveries of a class, taken apart.
fn late(facts: &Facts<'_>, name: &str, arrivals: &Arrivals, class: u16) -> Option<Cause> {
    let is_delivery = |row: &&ArrivalRow| row.receiver != row.arrival.sender;
    let delay = |row: &ArrivalRow| row.arrival.arrived_unix_nanos.saturating_sub(row.arrival.intended_unix_nanos);
    let mut delays: Vec<u64> = arrivals.of_class(class).iter().filter(is_delivery).map(delay).collect();
    let slowest = (delays.len() * SLOWEST_PERCENT / 100).max(MIN_SLOWEST).min(delays.len());
    let place = delays.len().checked_sub(slowest).filter(|_| slowest > 0)?;
    let (_, fastest, _) = delays.select_nth_unstable(place);
    let fastest = *fastest;
    let mut parts = Parts { fastest, ..Parts::default() };
    for message in arrivals.messages(class) {
        for row in message.iter().filter(is_delivery).filter(|row| delay(row) >= fastest) {
            take_apart(row, message, &mut parts);
        }
    }
    let total = parts.send_lag + parts.first_hop + parts.forwarding + parts.network;
    let shares = [
        (CauseKind::Generator, parts.send_lag, "before the handover to the network"),
        (CauseKind::FirstHop, parts.first_hop, "on the hop from the sender"),
        (CauseKind::Forwarding, parts.forwarding, "on hops from nodes that forwarded"),
        (CauseKind::Network, parts.network, "after the handover, on ways that can't be divided into hops"),
    ];
    let (cause, nanos, place) = shares.into_iter().max_by_key(|(_, nanos, _)| *nanos)?;
    let share = if total > 0 { nanos as f64 / total as f64 } else { return None };
    let link = parts.by_link.iter().max_by_key(|(_, nanos)| **nanos).map(|((from, to), nanos)| {
        let share = 100.0 * *nanos as f64 / total as f64;
        format!("; {share:.0} % on the link from node {from} to node {to}{}", facts.limit(*from, *to))
    });
    let evidence = format!(
        "{:.0} % of the time of the {} slowest deliveries (above {:.1} ms) passed {place}{}",
        share * 100.0,
        parts.deliveries,
        parts.fastest as f64 / 1e6,
        link.filter(|_| matches!(cause, CauseKind::FirstHop | CauseKind::Forwarding)).unwrap_or_default()
    );
    let class = name.to_owned();
    Some(Cause { class, effect: Effect::Late, cause, deliveries: parts.deliveries, share, evidence })
}

/// Adds the times of a delivery: before the handover, and of each hop of its way.
fn take_apart(row: &ArrivalRow, message: &[ArrivalRow], parts: &mut Parts) {
    parts.deliveries += 1;
    let at = |node: u64| message.iter().find(|row| row.receiver == node);
    let handed_over = at(row.arrival.sender).map(|row| row.arrival.arrived_unix_nanos);
    let lag = row.arrival.send_lag_micros.unwrap_or(0).saturating_mul(1000);
    let handed_over = handed_over.unwrap_or(row.arrival.intended_unix_nanos.saturating_add(lag));
    parts.send_lag += handed_over.saturating_sub(row.arrival.intended_unix_nanos);
    let mut here = row;
    // A way is at most as long as the message has holders.
    for _ in 0..message.len() {
        let Some(from) = here.arrival.first_peer else {
            if here.receiver != row.arrival.sender {
                parts.network += here.arrival.arrived_unix_nanos.saturating_sub(handed_over);
            }
            break;
        };
        let direct = from == row.arrival.sender;
        let before = if direct { None } else { at(from) };
        let since = before.map_or(handed_over, |before| before.arrival.arrived_unix_nanos);
        let nanos = here.arrival.arrived_unix_nanos.saturating_sub(since);
        *if direct { &mut parts.first_hop } else { &mut parts.forwarding } += nanos;
        *parts.by_link.entry((from, here.receiver)).or_default() += nanos;
        let Some(before) = before else { break };
        here = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::{ALL, SendPlan, SlowPeer, Turn},
        report::{Collected, PlannedWindow, WorkloadSummary, arrivals::tests::row, merge},
    };

    const MS: u64 = 1_000_000;

    /// Causes of a run of three nodes in which node 0 sends four messages.
    fn causes_of(rows: Vec<ArrivalRow>, slow: &[(u64, u64, u64)], killed: &[u64]) -> Vec<Cause> {
        let schedule = SendPlan { to_unix_nanos: Some(400 * MS), ..SendPlan::new(3, Turn::one(0), 100 * MS) };
        let plan = TrafficPlan::only(schedule, 100);
        let observed = Observations {
            workload: WorkloadSummary { num_nodes: 3, ..WorkloadSummary::default() },
            window: Some(PlannedWindow { plan, from_unix_nanos: 0, to_unix_nanos: 400 * MS }),
            ended_unix_nanos: Some(1_000 * MS),
            killed: killed.iter().copied().collect(),
            ..Observations::default()
        };
        let node = |node: u64| NodeSummary {
            counted_unix_nanos: 900 * MS,
            slow_peers: slow
                .iter()
                .filter(|(from, ..)| *from == node)
                .map(|(_, to, copies)| SlowPeer { node: *to, copies: *copies })
                .collect(),
            ..crate::report::tests::node(node, vec![], &[])
        };
        let nodes: Vec<NodeSummary> = (0..3).map(node).collect();
        let run = merge(Collected { nodes: &nodes, observed: &observed });
        causes(&run, &Arrivals::ordered(vec![ALL], rows), &observed, &nodes)
    }

    /// Messages that reached node 1, which should have forwarded them to node 2.
    fn at_node_1() -> Vec<ArrivalRow> {
        let of = |index: u64| {
            let begin = index * 100;
            [row(0, index, 0, [begin, begin + 1], None), row(0, index, 1, [begin, begin + 5], Some(0))]
        };
        (0..4).flat_map(of).collect()
    }

    fn losses(causes: &[Cause]) -> Vec<(CauseKind, u64)> {
        let lost = causes.iter().filter(|cause| cause.effect == Effect::Lost);
        lost.map(|cause| (cause.cause, cause.deliveries)).collect()
    }

    #[test]
    fn a_full_queue_of_a_node_that_forwards_is_named() {
        let causes = causes_of(at_node_1(), &[(1, 2, 40)], &[]);
        assert_eq!(losses(&causes), [(CauseKind::Forwarding, 4)]);
        assert!(causes[0].evidence.contains("40 copies in the queue from node 1 to node 2"), "{}", causes[0].evidence);
    }

    #[test]
    fn a_full_queue_of_the_sender_itself_is_no_forwarding() {
        assert_eq!(losses(&causes_of(at_node_1(), &[(0, 2, 40)], &[])), [(CauseKind::Sending, 4)]);
    }

    #[test]
    fn other_losses_have_other_causes() {
        assert_eq!(losses(&causes_of(at_node_1(), &[], &[2])), [(CauseKind::Absent, 4)]);
        assert_eq!(losses(&causes_of(at_node_1(), &[], &[])), [(CauseKind::Unknown, 4)]);
        // Nothing of the last two messages was seen anywhere.
        let half: Vec<ArrivalRow> = at_node_1().into_iter().take(4).collect();
        assert_eq!(losses(&causes_of(half, &[], &[])), [(CauseKind::Generator, 4), (CauseKind::Unknown, 2)]);
    }

    #[test]
    fn the_slowest_deliveries_are_taken_apart_by_hop() {
        let of = |index: u64| {
            let begin = index * 100;
            [
                row(0, index, 0, [begin, begin + 1], None),
                row(0, index, 1, [begin, begin + 5], Some(0)),
                row(0, index, 2, [begin, begin + 50], Some(1)),
            ]
        };
        let causes = causes_of((0..4).flat_map(of).collect(), &[], &[]);
        let [late] = &causes[..] else { panic!("{causes:?}") };
        // 4 times 45 of 4 times 55 ms: all eight deliveries are among the slowest ten.
        assert_eq!((late.cause, late.deliveries), (CauseKind::Forwarding, 8));
        assert!((late.share - 180.0 / 220.0).abs() < 1e-9, "{late:?}");
        assert!(late.evidence.contains("on the link from node 1 to node 2"), "{}", late.evidence);
    }

    #[test]
    fn the_time_of_deliveries_without_a_known_way_is_the_networks() {
        let of = |index: u64| {
            let begin = index * 100;
            [row(0, index, 0, [begin, begin + 1], None), row(0, index, 2, [begin, begin + 50], None)]
        };
        let causes = causes_of((0..4).flat_map(of).collect(), &[], &[]);
        let late = causes.iter().find(|cause| cause.effect == Effect::Late).unwrap();
        assert_eq!((late.cause, late.deliveries), (CauseKind::Network, 4));
        assert!((late.share - 49.0 / 50.0).abs() < 1e-9, "{late:?}");
    }
}
