//! Deliveries in each phase of the measured window, and the messages of killed nodes that only the receivers know.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use hdrhistogram::Histogram;

use super::{
    frame::{Frame, Sending, phases_of, window_of},
    lives::{add_histogram, empty_histogram, merge_histograms, ratio, same_phases, sum},
    observed::PhaseInput,
    quantiles::{DelaySummary, Missing},
    summary::{Deliveries, GroupDeliveries, PhaseRow},
};
use crate::node::{NodeSummary, PhaseSummary, Reach, TrafficPlan, WindowSummary};

/// Phases as all nodes report them.
pub(super) struct Phases<'a> {
    /// Nodes that cut the window in the same way as the run.
    nodes: Vec<&'a NodeSummary>,
    traffic: &'a TrafficPlan,
    /// Messages that killed nodes have not reported, by class, node and phase.
    corrections: BTreeMap<(u16, u64), Vec<SentCorrection>>,
}

/// Messages of one phase that a killed node has not reported.
#[derive(Clone, Copy, Debug, Default)]
struct SentCorrection {
    /// Sent messages, as the receivers know.
    sent: u64,
    /// Intended messages: answers that became due and were sent after its last report.
    intended: u64,
}

/// Reason why a node's report of its phases can't be used. Its phases add up.
fn rejection_reason(node: &NodeSummary, phases: &[PhaseSummary], classes: usize) -> Option<String> {
    let (id, run) = (node.node, phases.len());
    for class in (0..).take(classes) {
        let own = phases_of(node, class, classes);
        if own.len() != run {
            let found = own.len();
            return Some(format!(
                "node {id} reports {found} phases and the run has {run}: its counts of phases are left out"
            ));
        }
        if !same_phases(own, phases) {
            return Some(format!("node {id} reports phases at other times: its counts of phases are left out"));
        }
    }
    None
}

/// Account of one phase, for one class or for several together.
#[derive(Clone, Debug)]
struct PhaseAccount {
    intended: u64,
    sent: u64,
    dropped: u64,
    missed: u64,
    expected: u64,
    delivered: u64,
    delivered_after_end: u64,
    delays: Histogram<u64>,
    missing: Missing,
    groups: Option<GroupDeliveries>,
}

impl PhaseAccount {
    fn of_all(classes: &[Self]) -> Self {
        let count = |field: fn(&Self) -> u64| sum(classes.iter().map(field));
        let mut delays = empty_histogram();
        classes.iter().for_each(|class| add_histogram(&mut delays, &class.delays));
        let groups: Vec<GroupDeliveries> = classes.iter().filter_map(|class| class.groups).collect();
        let part = |field: fn(&GroupDeliveries) -> Deliveries| {
            let count = |of: fn(&Deliveries) -> u64| sum(groups.iter().map(|groups| of(&field(groups))));
            Deliveries {
                expected: count(|part| part.expected),
                delivered: count(|part| part.delivered),
                delivered_after_end: count(|part| part.delivered_after_end),
                lost: count(|part| part.lost),
            }
        };
        Self {
            intended: count(|class| class.intended),
            sent: count(|class| class.sent),
            dropped: count(|class| class.dropped),
            missed: count(|class| class.missed),
            expected: count(|class| class.expected),
            delivered: count(|class| class.delivered),
            delivered_after_end: count(|class| class.delivered_after_end),
            missing: Missing::of_all(classes.iter().map(|class| &class.missing)),
            groups: (!groups.is_empty()).then(|| GroupDeliveries {
                within: part(|groups| groups.within),
                across: part(|groups| groups.across),
            }),
            delays,
        }
    }

    fn row(&self, number: usize, (from_seconds, to_seconds): (f64, f64), events: &[String], lost: u64) -> PhaseRow {
        PhaseRow {
            number,
            from_seconds,
            to_seconds,
            events: events.to_vec(),
            intended: self.intended,
            sent: self.sent,
            dropped: self.dropped,
            missed: self.missed,
            expected: self.expected,
            delivered: self.delivered,
            delivery_ratio: ratio(self.delivered, self.expected),
            delivered_after_end: self.delivered_after_end,
            lost,
            delay: DelaySummary::of(&self.delays, &self.missing),
            groups: self.groups,
        }
    }
}

impl<'a> Phases<'a> {
    /// Phases from the reports of `nodes`, each of which occurs once. The run has `count` phases; a node need not
    /// report any. Problems with their data are added to `problems`.
    pub(super) fn new<N: Borrow<NodeSummary>>(
        nodes: &'a [N],
        killed: &BTreeSet<u64>,
        count: usize,
        traffic: &'a TrafficPlan,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut phases = Self { nodes: vec![], traffic, corrections: BTreeMap::new() };
        if count == 0 && killed.is_empty() {
            return phases;
        }
        // A node that never received its start knows nothing of phases.
        let started = || nodes.iter().map(N::borrow).filter(|node| node.start.is_some());
        let Some(model) = started().find(|node| count == 0 || node.phases.len() == count) else {
            problems.extend((started().count() > 0).then(|| format!("no node reports the {count} phases of the run")));
            return phases;
        };
        for node in started() {
            match rejection_reason(node, &model.phases, traffic.classes.len()) {
                None => phases.nodes.push(node),
                Some(reason) => problems.push(reason),
            }
        }
        for (class, _) in traffic.numbered() {
            phases.correct_killed(class, killed);
        }
        phases
    }

    fn of(&self, node: &'a NodeSummary, class: u16) -> &'a [PhaseSummary] {
        phases_of(node, class, self.traffic.classes.len())
    }

    /// Every node that receives a message shows that it was sent. So a killed node has sent at least the highest number
    /// that any receiver got, or the sum over all receivers if each message goes to one of them.
    fn correct_killed(&mut self, class: u16, killed: &BTreeSet<u64>) {
        let one_each = self.traffic.class(class).is_some_and(|class| class.reach == Reach::OneNeighbour);
        let mut heard: BTreeMap<(u64, usize), u64> = BTreeMap::new();
        for node in &self.nodes {
            for (number, phase) in self.of(node, class).iter().enumerate() {
                for from in
                    phase.by_sender.iter().filter(|from| from.sender != node.node && killed.contains(&from.sender))
                {
                    let sent = heard.entry((from.sender, number)).or_default();
                    *sent = if one_each { sent.saturating_add(from.received) } else { from.received.max(*sent) };
                }
            }
        }
        let nodes: Vec<&'a NodeSummary> =
            self.nodes.iter().copied().filter(|node| killed.contains(&node.node)).collect();
        for node in nodes {
            let more = |(number, phase): (usize, &PhaseSummary)| {
                let sent = heard.get(&(node.node, number)).copied().unwrap_or(0).max(phase.sent);
                let intended = sent.saturating_add(phase.dropped).saturating_sub(phase.intended);
                SentCorrection { sent: sent - phase.sent, intended }
            };
            let correction = self.of(node, class).iter().enumerate().map(more).collect();
            self.corrections.insert((class, node.node), correction);
        }
    }

    fn correction(&self, class: u16, node: u64, number: usize) -> SentCorrection {
        self.corrections.get(&(class, node)).and_then(|phases| phases.get(number)).copied().unwrap_or_default()
    }

    fn correction_in_all(&self, class: u16, node: u64) -> SentCorrection {
        let phases = || self.corrections.get(&(class, node)).into_iter().flatten();
        SentCorrection {
            sent: sum(phases().map(|phase| phase.sent)),
            intended: sum(phases().map(|phase| phase.intended)),
        }
    }

    /// Adds to a node's window of a class the messages that only its receivers know, with the mean size of the class.
    pub(super) fn correct(&self, class: u16, node: u64, window: &mut WindowSummary) {
        let SentCorrection { sent: more, intended } = self.correction_in_all(class, node);
        window.sent = window.sent.saturating_add(more);
        window.intended = window.intended.saturating_add(intended);
        let size = self.traffic.class(class).map_or(0, |class| class.message_size.mean().round() as u64);
        window.sent_bytes = window.sent_bytes.saturating_add(more.saturating_mul(size));
    }

    /// Warnings about the corrections.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut by_node: BTreeMap<u64, u64> = BTreeMap::new();
        for (class, node) in self.corrections.keys() {
            let sent = by_node.entry(*node).or_default();
            *sent = sent.saturating_add(self.correction_in_all(*class, *node).sent);
        }
        by_node
            .into_iter()
            .filter(|(_, sent)| *sent > 0)
            .map(|(node, sent)| {
                format!("node {node} was killed: {sent} of its messages are known from their receivers only")
            })
            .collect()
    }

    /// Messages of each node in a phase, those of absent nodes included, by the schedule.
    fn sendings(&self, class: u16, number: usize, span: &PhaseSummary, frame: &Frame<'_>) -> BTreeMap<u64, Sending> {
        let mut sendings = BTreeMap::new();
        let scheduled = |node| frame.scheduled(class, node, span.from_unix_nanos, span.to_unix_nanos);
        for node in &self.nodes {
            let Some(phase) = self.of(node, class).get(number) else { continue };
            let more = self.correction(class, node.node, number);
            let (intended, sent) = (phase.intended.saturating_add(more.intended), phase.sent.saturating_add(more.sent));
            sendings.insert(node.node, Sending::new(scheduled(node.node), intended, sent, phase.dropped));
        }
        if frame.planned.is_some() {
            for node in 0..frame.num_nodes() {
                sendings.entry(node).or_insert_with(|| Sending::new(scheduled(node), 0, 0, 0));
            }
        }
        sendings
    }

    fn account(
        &self,
        class: u16,
        number: usize,
        (span, input): (&PhaseSummary, &PhaseInput),
        frame: &Frame<'_>,
        problems: &mut Vec<String>,
    ) -> PhaseAccount {
        let told: Vec<_> =
            self.nodes.iter().filter_map(|node| Some((*node, self.of(node, class).get(number)?))).collect();
        let count = |field: fn(&PhaseSummary) -> u64| sum(told.iter().map(|(_, phase)| field(phase)));
        let sendings = self.sendings(class, number, span, frame);
        let of_all = |field: fn(&Sending) -> u64| sum(sendings.values().map(field));
        let receivers = |sender: u64| frame.traffic.receivers(class, sender);
        let expected = sum(sendings.iter().map(|(node, one)| one.intended.saturating_mul(receivers(*node))));
        let delivered = count(|phase| phase.received);
        let lost = expected.saturating_sub(delivered);
        let groups = input.groups.as_ref();
        PhaseAccount {
            intended: of_all(|one| one.intended),
            sent: of_all(|one| one.sent),
            dropped: of_all(|one| one.dropped),
            missed: of_all(|one| one.missed()),
            expected,
            delivered,
            delivered_after_end: count(|phase| phase.received_after_end),
            delays: self.delays(class, &told, problems),
            missing: Missing::new(lost, [(frame.age_micros(span.to_unix_nanos), lost)]),
            groups: groups.map(|groups| split(class, &told, &sendings, &Groups::new(groups, frame.num_nodes()), frame)),
        }
    }

    /// A row for each phase, and the rows of each class.
    pub(super) fn rows(
        &self,
        inputs: &[PhaseInput],
        frame: &Frame<'_>,
        problems: &mut Vec<String>,
    ) -> (Vec<PhaseRow>, Vec<Vec<PhaseRow>>) {
        let mut of_classes = vec![vec![]; frame.classes()];
        let Some(model) = self.nodes.first() else { return (vec![], of_classes) };
        let opening = model.phases.first().map_or(0, |phase| phase.from_unix_nanos);
        let seconds = |time: u64| time.saturating_sub(opening) as f64 / 1e9;
        let mut rows = vec![];
        for (number, (input, span)) in inputs.iter().zip(&model.phases).enumerate() {
            let times = (seconds(span.from_unix_nanos), seconds(span.to_unix_nanos));
            let accounts: Vec<PhaseAccount> = frame
                .traffic
                .numbered()
                .map(|(class, _)| self.account(class, number, (span, input), frame, problems))
                .collect();
            let lost = |account: &PhaseAccount| account.expected.saturating_sub(account.delivered);
            for (rows, account) in of_classes.iter_mut().zip(&accounts) {
                rows.push(account.row(number, times, &input.events, lost(account)));
            }
            // If one class has more deliveries than expected, the losses of another class remain.
            let all_lost = sum(accounts.iter().map(lost));
            rows.push(PhaseAccount::of_all(&accounts).row(number, times, &input.events, all_lost));
        }
        (rows, of_classes)
    }

    fn delays(&self, class: u16, told: &[(&NodeSummary, &PhaseSummary)], problems: &mut Vec<String>) -> Histogram<u64> {
        let classes = self.traffic.classes.len();
        let texts = told.iter().filter_map(|(node, phase)| {
            // A phase that is the whole window does not repeat its delays; a phase without arrivals has none.
            let only = phases_of(node, class, classes).len() == 1;
            let text = if only { &window_of(node, class, classes)?.delay_micros } else { &phase.delay_micros };
            (phase.received > 0 || !text.is_empty()).then_some((node.node, text))
        });
        merge_histograms(texts, problems)
    }
}

/// Groups that a network is cut into. Nodes in none of the groups form one more group together.
struct Groups {
    of_node: BTreeMap<u64, usize>,
    sizes: BTreeMap<usize, u64>,
    count: usize,
}

impl Groups {
    fn new(groups: &[Vec<u64>], num_nodes: u64) -> Self {
        let mut of_node: BTreeMap<u64, usize> = BTreeMap::new();
        for (group, members) in groups.iter().enumerate() {
            for node in members {
                of_node.entry(*node).or_insert(group);
            }
        }
        let mut all = Self { of_node, sizes: BTreeMap::new(), count: groups.len() };
        for node in 0..num_nodes {
            *all.sizes.entry(all.of(node)).or_default() += 1;
        }
        all
    }

    fn of(&self, node: u64) -> usize {
        self.of_node.get(&node).copied().unwrap_or(self.count)
    }

    /// Deliveries of `intended` messages of a class to nodes in the sender's own group.
    fn within(&self, class: u16, sender: u64, intended: u64, frame: &Frame<'_>) -> u64 {
        let group = self.of(sender);
        match frame.traffic.class(class).map(|class| class.reach) {
            None | Some(Reach::Everyone) => {
                let size = self.sizes.get(&group).copied().unwrap_or(0);
                intended.saturating_mul(size.saturating_sub(1))
            }
            Some(Reach::Neighbours | Reach::OneNeighbour) => {
                let neighbours = frame.traffic.neighbours_of(sender).into_iter().filter(|node| self.of(*node) == group);
                // With unicast, the messages are assumed to begin with the first neighbour.
                sum(neighbours.map(|receiver| frame.traffic.share(class, sender, receiver, 0..intended)))
            }
        }
    }
}

/// Deliveries within groups and across them.
fn split(
    class: u16,
    told: &[(&NodeSummary, &PhaseSummary)],
    sendings: &BTreeMap<u64, Sending>,
    groups: &Groups,
    frame: &Frame<'_>,
) -> GroupDeliveries {
    let mut split = GroupDeliveries::default();
    let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
    for (node, sending) in sendings {
        let all = sending.intended.saturating_mul(frame.traffic.receivers(class, *node));
        let within = groups.within(class, *node, sending.intended, frame);
        add(&mut split.within.expected, within);
        add(&mut split.across.expected, all.saturating_sub(within));
    }
    for (node, phase) in told {
        let own = groups.of(node.node);
        for from in &phase.by_sender {
            let part = if groups.of(from.sender) == own { &mut split.within } else { &mut split.across };
            add(&mut part.delivered, from.received);
            add(&mut part.delivered_after_end, from.received_after_end);
        }
    }
    let lost = |part: Deliveries| Deliveries { lost: part.expected.saturating_sub(part.delivered), ..part };
    GroupDeliveries { within: lost(split.within), across: lost(split.across) }
}
