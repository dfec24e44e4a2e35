//! Measured window: the traffic that was planned for it, and the part of it that passed.

use std::{borrow::Cow, collections::BTreeMap};

use super::{lives::sum, observed::PlannedWindow, quantiles::Missing};
use crate::node::{
    NodeSummary, PhaseSummary, Reach, SendPlan, TrafficPlan, Turn, WINDOW_PARTS, WindowSummary, WindowUsage,
};

/// A node's counts of one window by class number, and its resource usage.
pub(super) type Part<'a> = (Vec<&'a WindowSummary>, WindowUsage);

/// Window of a class in a node's report; none if the node does not know the class. For a single class, the node's
/// totals are its counts.
pub(super) fn window_of(node: &NodeSummary, class: u16, classes: usize) -> Option<&WindowSummary> {
    if classes <= 1 {
        return Some(&node.measured);
    }
    node.classes.get(usize::from(class)).map(|known| &known.measured)
}

/// Phases of a class in a node's report.
pub(super) fn phases_of(node: &NodeSummary, class: u16, classes: usize) -> &[PhaseSummary] {
    if classes <= 1 {
        return &node.phases;
    }
    node.classes.get(usize::from(class)).map_or(&[], |known| &known.phases)
}

/// A window, and the part of it that passed.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    /// Classes and receivers of the messages. Their times belong to the run only if a window is planned.
    pub(super) traffic: Cow<'a, TrafficPlan>,
    /// Planned schedule and window; none if the start was never sent.
    pub(super) planned: Option<&'a PlannedWindow>,
    /// End of the part of the window that passed, in nanoseconds since the Unix epoch.
    pub(super) passed_unix_nanos: u64,
    /// Time at which the run stopped waiting for messages, in nanoseconds since the Unix epoch.
    pub(super) observed_unix_nanos: u64,
    /// True if the wait for late messages had its full length.
    pub(super) drained: bool,
}

/// Messages of one node and class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    pub(super) intended: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

impl Sending {
    /// Messages that are intended by the schedule or by the node's own report, and those that it sent or dropped. The
    /// three kinds add up for any report of the node.
    pub(super) fn new(scheduled: u64, intended: u64, sent: u64, dropped: u64) -> Self {
        let intended = intended.max(scheduled).max(sent);
        Self { intended, sent, dropped: dropped.min(intended - sent) }
    }

    pub(super) fn missed(self) -> u64 {
        self.intended - self.sent - self.dropped
    }
}

/// Traffic of a run that was never started: a single class that reaches all nodes.
pub(super) fn unplanned_traffic(num_nodes: u64, message_size: Option<usize>) -> TrafficPlan {
    TrafficPlan::only(SendPlan::new(num_nodes, Turn::All, u64::MAX), message_size.unwrap_or(0))
}

impl Frame<'_> {
    pub(super) fn num_nodes(&self) -> u64 {
        self.traffic.num_nodes
    }

    /// Number of traffic classes.
    pub(super) fn classes(&self) -> usize {
        self.traffic.classes.len()
    }

    /// Messages that a node was scheduled to send from `from` to `to`, as far as that time passed; 0 if nothing is
    /// planned, and for a class that answers another.
    pub(super) fn scheduled(&self, class: u16, node: u64, from: u64, to: u64) -> u64 {
        let of_plan = |planned: &PlannedWindow| planned.plan.count(class, node, from, to.min(self.passed_unix_nanos));
        self.planned.and_then(of_plan).unwrap_or(0)
    }

    /// The part of these messages that reaches `receiver`.
    fn scheduled_to(&self, class: u16, sender: u64, receiver: u64, from: u64, to: u64) -> u64 {
        let indices =
            self.planned.and_then(|planned| planned.plan.indices(class, sender, from, to.min(self.passed_unix_nanos)));
        indices.map_or(0, |indices| self.traffic.share(class, sender, receiver, indices))
    }

    /// Begin and end of the window; both equal if none is planned.
    pub(super) fn span(&self) -> (u64, u64) {
        self.planned.map_or((0, 0), |planned| (planned.from_unix_nanos, planned.to_unix_nanos))
    }

    /// Messages of a node and class in the whole window.
    pub(super) fn sending(&self, class: u16, node: u64, window: Option<&WindowSummary>) -> Sending {
        let (from, to) = self.span();
        let (intended, sent, dropped) = window.map_or((0, 0, 0), |w| (w.intended, w.sent, w.dropped));
        Sending::new(self.scheduled(class, node, from, to), intended, sent, dropped)
    }

    /// Ids of the nodes that may have sent: nodes that reported and, after a start, all nodes.
    pub(super) fn senders(&self, parts: &BTreeMap<u64, Part<'_>>) -> Vec<u64> {
        let all = self.planned.map_or(0, |_| self.num_nodes());
        (0..all).chain(parts.keys().copied().filter(|node| *node >= all)).collect()
    }

    /// Senders whose messages of a class reach `receiver`; none if all other nodes do.
    fn sources(&self, class: u16, receiver: u64) -> Option<Vec<u64>> {
        match self.traffic.class(class)?.reach {
            Reach::Everyone => None,
            // Neighbours are mutual.
            Reach::Neighbours | Reach::OneNeighbour => Some(self.traffic.neighbours_of(receiver)),
        }
    }

    /// Deliveries of a class that a node should receive, by sender.
    pub(super) fn expected_at(&self, class: u16, receiver: u64, sendings: &BTreeMap<u64, Sending>) -> u64 {
        let intended = |sender: u64| sendings.get(&sender).map_or(0, |one| one.intended);
        let Some(sources) = self.sources(class, receiver) else {
            return sum(sendings.values().map(|one| one.intended)).saturating_sub(intended(receiver));
        };
        let (from, to) = self.span();
        let of_source = |sender: u64| match self.traffic.class(class).map(|class| class.reach) {
            Some(Reach::OneNeighbour) => {
                // The indices of answers, and of messages outside of the schedule, are unknown and are assumed to
                // rotate.
                let scheduled = self.scheduled_to(class, sender, receiver, from, to);
                let others = intended(sender).saturating_sub(self.scheduled(class, sender, from, to));
                scheduled.saturating_add(self.traffic.share(class, sender, receiver, 0..others))
            }
            _ => intended(sender),
        };
        sum(sources.into_iter().map(of_source))
    }

    /// Microseconds from a time to the end of the observation.
    pub(super) fn age_micros(&self, time: u64) -> u64 {
        self.observed_unix_nanos.saturating_sub(time) / 1000
    }

    /// Begin and end of each part of the window.
    fn parts(&self) -> Vec<(u64, u64)> {
        let (from, to) = self.span();
        let length = u128::from(to.saturating_sub(from));
        let edge = |part: usize| from + (length * part as u128 / WINDOW_PARTS as u128) as u64;
        (0..WINDOW_PARTS).map(|part| (edge(part), edge(part + 1))).collect()
    }

    /// Messages of a class that a node was scheduled to send in each part of the window; empty if nothing is planned.
    /// For answers, only those that the node sent are known.
    pub(super) fn messages_by_part(&self, class: u16, node: u64, window: Option<&WindowSummary>) -> Vec<u64> {
        if self.planned.is_none() {
            return vec![];
        }
        match self.traffic.class(class).and_then(|class| class.schedule()) {
            Some(_) => self.parts().iter().map(|(from, to)| self.scheduled(class, node, *from, *to)).collect(),
            None => window.map(|window| window.sent_by_part.clone()).unwrap_or_default(),
        }
    }

    /// Deliveries of a class that a node was scheduled to receive in each part of the window, by sender and part.
    pub(super) fn deliveries_by_part(&self, class: u16, receiver: u64, messages: &BTreeMap<u64, Vec<u64>>) -> Vec<u64> {
        let of_sender = |sender: u64| messages.get(&sender).into_iter();
        let Some(sources) = self.sources(class, receiver) else {
            let mut all = super::lives::add_parts(messages.values());
            for own in of_sender(receiver) {
                all.iter_mut().zip(own).for_each(|(all, own)| *all = all.saturating_sub(*own));
            }
            return all;
        };
        if self.traffic.class(class).is_some_and(|class| class.reach == Reach::OneNeighbour) {
            let part = |(from, to): &(u64, u64)| {
                sum(sources.iter().map(|sender| self.scheduled_to(class, *sender, receiver, *from, *to)))
            };
            return self.parts().iter().map(part).collect();
        }
        super::lives::add_parts(sources.into_iter().flat_map(of_sender))
    }

    /// Missing values by age: the values due in each part of the window, minus those that `came`.
    pub(super) fn missing(&self, total: u64, planned: &[u64], came: &[u64]) -> Missing {
        if self.planned.is_none() || total == 0 {
            return Missing::new(total, []);
        }
        let ages = self.parts().into_iter().enumerate().map(|(part, (_, to))| {
            let at = |counts: &[u64]| counts.get(part).copied().unwrap_or(0);
            (self.age_micros(to), at(planned).saturating_sub(at(came)))
        });
        Missing::new(total, ages)
    }
}
