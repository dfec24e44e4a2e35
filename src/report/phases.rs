//! What got through in each phase of the measured window, and what the receivers know of nodes that were killed.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    lives::{merge_histograms, same_phases, sum},
    merge::ratio,
    summary::{DelaySummary, Deliveries, GroupDeliveries, PhaseRow},
};
use crate::node::{NodeSummary, PhaseSender, PhaseSummary, WindowSummary};

/// What the runner knows of a phase, and the nodes don't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseInput {
    /// What happened at its start.
    pub events: Vec<String>,
    /// The groups that the network was cut into, by node id; none while it was whole. Nodes that are in none of them
    /// form one more together.
    pub groups: Option<Vec<Vec<u64>>>,
}

/// How many messages more than a killed node has told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Raise {
    intended: u64,
    sent: u64,
}

/// What all nodes say of the phases.
pub(super) struct Phases<'a> {
    /// Those that cut the window as the run did.
    nodes: Vec<&'a NodeSummary>,
    /// By killed node and phase.
    raises: BTreeMap<u64, Vec<Raise>>,
}

/// Why what a node says of its phases can't be used.
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
    let count = |field: fn(&PhaseSummary) -> u64| sum(node.phases.iter().map(field));
    let adds_up = (count(|phase| phase.intended), count(|phase| phase.sent), count(|phase| phase.received))
        == (node.measured.intended, node.measured.sent, node.measured.received)
        && node.phases.iter().all(|phase| {
            let heard = |field: fn(&PhaseSender) -> u64| sum(phase.by_sender.iter().map(field));
            (heard(|sender| sender.received), heard(|sender| sender.received_after_end))
                == (phase.received, phase.received_after_end)
        });
    (!adds_up).then(|| format!("the phases of node {id} do not add up to its window: they are left out"))
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
        let mut phases = Self { nodes: vec![], raises: BTreeMap::new() };
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
        phases.raise(killed);
        phases
    }

    /// Every node that hears a message knows that it was sent: of a killed node, as many were sent as anyone got.
    fn raise(&mut self, killed: &BTreeSet<u64>) {
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
            let raise = |(number, phase): (usize, &PhaseSummary)| {
                let sent = heard.get(&(node.node, number)).copied().unwrap_or(0).max(phase.sent);
                Raise { intended: sent.saturating_sub(phase.intended), sent: sent - phase.sent }
            };
            self.raises.insert(node.node, node.phases.iter().enumerate().map(raise).collect());
        }
    }

    fn raised(&self, node: u64, number: usize) -> Raise {
        self.raises.get(&node).and_then(|raises| raises.get(number)).copied().unwrap_or_default()
    }

    fn raised_in_all(&self, node: u64) -> Raise {
        let raises = self.raises.get(&node).map(Vec::as_slice).unwrap_or_default();
        Raise {
            intended: sum(raises.iter().map(|raise| raise.intended)),
            sent: sum(raises.iter().map(|raise| raise.sent)),
        }
    }

    /// Adds to a node's window what only its receivers know of, of messages of `message_size` bytes.
    pub(super) fn correct(&self, node: u64, window: &mut WindowSummary, message_size: Option<usize>) {
        let raise = self.raised_in_all(node);
        let bytes = raise.sent.saturating_mul(message_size.unwrap_or(0) as u64);
        window.intended = window.intended.saturating_add(raise.intended);
        window.sent = window.sent.saturating_add(raise.sent);
        window.sent_bytes = window.sent_bytes.saturating_add(bytes);
    }

    /// What a reader must know of the corrections.
    pub(super) fn warnings(&self) -> Vec<String> {
        let raised = self.raises.keys().map(|node| (node, self.raised_in_all(*node).sent));
        raised
            .filter(|(_, sent)| *sent > 0)
            .map(|(node, sent)| {
                format!("node {node} was killed: {sent} of its messages are known from their receivers only")
            })
            .collect()
    }

    /// A row for each phase.
    pub(super) fn rows(&self, inputs: &[PhaseInput], num_nodes: u64, problems: &mut Vec<String>) -> Vec<PhaseRow> {
        let Some(model) = self.nodes.first() else { return vec![] };
        let opening = model.phases.first().map_or(0, |phase| phase.from_unix_nanos);
        let seconds = |time: u64| time.saturating_sub(opening) as f64 / 1e9;
        let mut rows = vec![];
        for (number, (input, span)) in inputs.iter().zip(&model.phases).enumerate() {
            let told: Vec<_> = self.nodes.iter().filter_map(|node| Some((*node, node.phases.get(number)?))).collect();
            let count = |field: fn(&PhaseSummary) -> u64| sum(told.iter().map(|(_, phase)| field(phase)));
            let raises: Vec<Raise> = told.iter().map(|(node, _)| self.raised(node.node, number)).collect();
            let intended = count(|phase| phase.intended).saturating_add(sum(raises.iter().map(|raise| raise.intended)));
            let sent = count(|phase| phase.sent).saturating_add(sum(raises.iter().map(|raise| raise.sent)));
            let expected = sent.saturating_mul(num_nodes.saturating_sub(1));
            let delivered = count(|phase| phase.received);
            rows.push(PhaseRow {
                number,
                from_seconds: seconds(span.from_unix_nanos),
                to_seconds: seconds(span.to_unix_nanos),
                events: input.events.clone(),
                intended,
                sent,
                expected,
                delivered,
                delivery_ratio: ratio(delivered, expected),
                delivered_after_end: count(|phase| phase.received_after_end),
                lost: expected.saturating_sub(delivered),
                delay: delay(&told, problems),
                groups: input.groups.as_ref().map(|groups| self.split(&told, number, groups, num_nodes)),
            });
        }
        rows
    }

    fn split(
        &self,
        told: &[(&NodeSummary, &PhaseSummary)],
        number: usize,
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
        for (node, phase) in told {
            let own = group_of(node.node);
            let size = sizes.get(&own).copied().unwrap_or(0);
            let sent = phase.sent.saturating_add(self.raised(node.node, number).sent);
            add(&mut split.within.expected, sent.saturating_mul(size.saturating_sub(1)));
            add(&mut split.across.expected, sent.saturating_mul(num_nodes.saturating_sub(size)));
            for from in &phase.by_sender {
                let part = if group_of(from.sender) == own { &mut split.within } else { &mut split.across };
                add(&mut part.delivered, from.received);
                add(&mut part.delivered_after_end, from.received_after_end);
            }
        }
        let lost = |part: Deliveries| Deliveries { lost: part.expected.saturating_sub(part.delivered), ..part };
        GroupDeliveries { within: lost(split.within), across: lost(split.across) }
    }
}

fn delay(told: &[(&NodeSummary, &PhaseSummary)], problems: &mut Vec<String>) -> DelaySummary {
    let texts = told.iter().filter_map(|(node, phase)| {
        // A phase that is the whole window does not repeat its delays; one in which nothing came has none.
        let text = if node.phases.len() == 1 { &node.measured.delay_micros } else { &phase.delay_micros };
        (phase.received > 0 || !text.is_empty()).then_some((node.node, text))
    });
    DelaySummary::of(&merge_histograms(texts, problems))
}
