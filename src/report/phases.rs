//! What got through in each phase of the measured window, and what the receivers know of nodes that were killed.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

use super::{
    lives::{merge_histograms, same_phases, sum},
    merge::ratio,
    quantiles::{DelaySummary, Missing},
    summary::{Deliveries, GroupDeliveries, PhaseRow},
    totals::{Frame, Sending},
};
use crate::node::{NodeSummary, PhaseSummary, WindowSummary};

/// What the runner knows of a phase, and the nodes don't.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseInput {
    /// What happened at its start.
    pub events: Vec<String>,
    /// The groups that the network was cut into, by node id; none while it was whole. Nodes that are in none of them
    /// form one more together.
    pub groups: Option<Vec<Vec<u64>>>,
}

/// What all nodes say of the phases.
pub(super) struct Phases<'a> {
    /// Those that cut the window as the run did.
    nodes: Vec<&'a NodeSummary>,
    /// Messages that a killed node has sent more than it reported, by node and phase.
    corrections: BTreeMap<u64, Vec<u64>>,
}

/// Why what a node says of its phases, which add up, can't be used.
fn objection(node: &NodeSummary, phases: &[PhaseSummary]) -> Option<String> {
    let (id, found, run) = (node.node, node.phases.len(), phases.len());
    if found != run {
        return Some(format!(
            "node {id} tells of {found} phases and the run has {run}: what it counted in them is left out"
        ));
    }
    if !same_phases(&node.phases, phases) {
        return Some(format!("node {id} tells of phases at other times: what it counted in them is left out"));
    }
    None
}

impl<'a> Phases<'a> {
    /// What `nodes`, each of which is there once, say of the `count` phases of the run, of which none need to be
    /// reported. Problems with their data are added to `problems`.
    pub(super) fn new<N: Borrow<NodeSummary>>(
        nodes: &'a [N],
        killed: &BTreeSet<u64>,
        count: usize,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut phases = Self { nodes: vec![], corrections: BTreeMap::new() };
        if count == 0 && killed.is_empty() {
            return phases;
        }
        // Who was never told when the run starts knows nothing of phases.
        let started = || nodes.iter().map(N::borrow).filter(|node| node.start.is_some());
        let Some(model) = started().find(|node| count == 0 || node.phases.len() == count) else {
            problems.extend((started().count() > 0).then(|| format!("no node tells of the {count} phases of the run")));
            return phases;
        };
        for node in started() {
            match objection(node, &model.phases) {
                None => phases.nodes.push(node),
                Some(objection) => problems.push(objection),
            }
        }
        phases.correct_killed(killed);
        phases
    }

    /// Every node that hears a message knows that it was sent: of a killed node, as many were sent as anyone got.
    fn correct_killed(&mut self, killed: &BTreeSet<u64>) {
        let mut heard: BTreeMap<(u64, usize), u64> = BTreeMap::new();
        for node in &self.nodes {
            for (number, phase) in node.phases.iter().enumerate() {
                for from in
                    phase.by_sender.iter().filter(|from| from.sender != node.node && killed.contains(&from.sender))
                {
                    let most = heard.entry((from.sender, number)).or_default();
                    *most = from.received.max(*most);
                }
            }
        }
        for node in self.nodes.iter().filter(|node| killed.contains(&node.node)) {
            let more = |(number, phase): (usize, &PhaseSummary)| {
                heard.get(&(node.node, number)).copied().unwrap_or(0).saturating_sub(phase.sent)
            };
            self.corrections.insert(node.node, node.phases.iter().enumerate().map(more).collect());
        }
    }

    fn more_sent(&self, node: u64, number: usize) -> u64 {
        self.corrections.get(&node).and_then(|phases| phases.get(number)).copied().unwrap_or_default()
    }

    fn more_sent_in_all(&self, node: u64) -> u64 {
        sum(self.corrections.get(&node).into_iter().flatten().copied())
    }

    /// Adds to a node's window what only its receivers know of, of messages of `message_size` bytes.
    pub(super) fn correct(&self, node: u64, window: &mut WindowSummary, message_size: Option<usize>) {
        let more = self.more_sent_in_all(node);
        window.sent = window.sent.saturating_add(more);
        window.intended = window.intended.max(window.sent);
        window.sent_bytes = window.sent_bytes.saturating_add(more.saturating_mul(message_size.unwrap_or(0) as u64));
    }

    /// Facts that a reader must know of the corrections.
    pub(super) fn warnings(&self) -> Vec<String> {
        let known = self.corrections.keys().map(|node| (node, self.more_sent_in_all(*node)));
        known
            .filter(|(_, sent)| *sent > 0)
            .map(|(node, sent)| {
                format!("node {node} was killed: {sent} of its messages are known from their receivers only")
            })
            .collect()
    }

    /// The messages of each node in a phase: by the schedule also those of nodes that were away.
    fn sendings(&self, number: usize, span: &PhaseSummary, frame: &Frame<'_>) -> BTreeMap<u64, Sending> {
        let mut sendings = BTreeMap::new();
        let scheduled = |node| frame.scheduled(node, span.from_unix_nanos, span.to_unix_nanos);
        for node in &self.nodes {
            let Some(phase) = node.phases.get(number) else { continue };
            let sent = phase.sent.saturating_add(self.more_sent(node.node, number));
            sendings.insert(node.node, Sending::new(scheduled(node.node), phase.intended, sent, phase.dropped));
        }
        if frame.planned.is_some() {
            for node in 0..frame.num_nodes {
                sendings.entry(node).or_insert_with(|| Sending::new(scheduled(node), 0, 0, 0));
            }
        }
        sendings
    }

    /// A row for each phase.
    pub(super) fn rows(&self, inputs: &[PhaseInput], frame: &Frame<'_>, problems: &mut Vec<String>) -> Vec<PhaseRow> {
        let Some(model) = self.nodes.first() else { return vec![] };
        let opening = model.phases.first().map_or(0, |phase| phase.from_unix_nanos);
        let seconds = |time: u64| time.saturating_sub(opening) as f64 / 1e9;
        let mut rows = vec![];
        for (number, (input, span)) in inputs.iter().zip(&model.phases).enumerate() {
            let told: Vec<_> = self.nodes.iter().filter_map(|node| Some((*node, node.phases.get(number)?))).collect();
            let count = |field: fn(&PhaseSummary) -> u64| sum(told.iter().map(|(_, phase)| field(phase)));
            let sendings = self.sendings(number, span, frame);
            let of_all = |field: fn(&Sending) -> u64| sum(sendings.values().map(field));
            let intended = of_all(|one| one.intended);
            let expected = intended.saturating_mul(frame.receivers());
            let delivered = count(|phase| phase.received);
            let lost = expected.saturating_sub(delivered);
            let missing = Missing::new(lost, [(frame.age_micros(span.to_unix_nanos), lost)]);
            rows.push(PhaseRow {
                number,
                from_seconds: seconds(span.from_unix_nanos),
                to_seconds: seconds(span.to_unix_nanos),
                events: input.events.clone(),
                intended,
                sent: of_all(|one| one.sent),
                dropped: of_all(|one| one.dropped),
                missed: of_all(|one| one.missed()),
                expected,
                delivered,
                delivery_ratio: ratio(delivered, expected),
                delivered_after_end: count(|phase| phase.received_after_end),
                lost,
                delay: delay(&told, &missing, problems),
                groups: input.groups.as_ref().map(|groups| split(&told, &sendings, groups, frame.num_nodes)),
            });
        }
        rows
    }
}

/// Deliveries within groups and across them.
fn split(
    told: &[(&NodeSummary, &PhaseSummary)],
    sendings: &BTreeMap<u64, Sending>,
    groups: &[Vec<u64>],
    num_nodes: u64,
) -> GroupDeliveries {
    let mut group_of: BTreeMap<u64, usize> = BTreeMap::new();
    for (group, members) in groups.iter().enumerate() {
        for node in members {
            group_of.entry(*node).or_insert(group);
        }
    }
    let group_of = |node: u64| group_of.get(&node).copied().unwrap_or(groups.len());
    let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
    for node in 0..num_nodes {
        *sizes.entry(group_of(node)).or_default() += 1;
    }
    let mut split = GroupDeliveries::default();
    let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
    for (node, sending) in sendings {
        let size = sizes.get(&group_of(*node)).copied().unwrap_or(0);
        add(&mut split.within.expected, sending.intended.saturating_mul(size.saturating_sub(1)));
        add(&mut split.across.expected, sending.intended.saturating_mul(num_nodes.saturating_sub(size)));
    }
    for (node, phase) in told {
        let own = group_of(node.node);
        for from in &phase.by_sender {
            let part = if group_of(from.sender) == own { &mut split.within } else { &mut split.across };
            add(&mut part.delivered, from.received);
            add(&mut part.delivered_after_end, from.received_after_end);
        }
    }
    let lost = |part: Deliveries| Deliveries { lost: part.expected.saturating_sub(part.delivered), ..part };
    GroupDeliveries { within: lost(split.within), across: lost(split.across) }
}

fn delay(told: &[(&NodeSummary, &PhaseSummary)], missing: &Missing, problems: &mut Vec<String>) -> DelaySummary {
    let texts = told.iter().filter_map(|(node, phase)| {
        // A phase that is the whole window does not repeat its delays; one in which nothing came has none.
        let text = if node.phases.len() == 1 { &node.measured.delay_micros } else { &phase.delay_micros };
        (phase.received > 0 || !text.is_empty()).then_some((node.node, text))
    });
    DelaySummary::of(&merge_histograms(texts, problems), missing)
}
