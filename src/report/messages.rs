//! Messages of the sample with the nodes that have them, and the weights of these nodes.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{
    arrivals::{ArrivalRow, Arrivals},
    lives::empty_histogram,
    observed::{Observations, Place},
    quantiles::{DelaySummary, Missing},
};
use crate::node::{ClassPlan, Reach as Receivers, TrafficPlan};

/// Part by which a sum of weights may fall short of its share, because a sum of fractions is not exact.
const ROUNDING: f64 = 1e-9;

/// Distribution of times over messages, some of which are missing.
#[derive(Clone, Debug)]
pub(super) struct Times {
    histogram: Histogram<u64>,
    missing_ages: Vec<(u64, u64)>,
}

impl Default for Times {
    fn default() -> Self {
        Self { histogram: empty_histogram(), missing_ages: vec![] }
    }
}

impl Times {
    /// Adds a time in microseconds; for a missing value, its age.
    pub(super) fn add(&mut self, micros: Option<u64>, age_micros: u64) {
        match micros {
            // The range of the histogram grows with its values.
            Some(micros) => drop(self.histogram.record(micros)),
            None => self.missing_ages.push((age_micros, 1)),
        }
    }

    pub(super) fn summary(&self) -> DelaySummary {
        let missing = Missing::new(self.missing_ages.len() as u64, self.missing_ages.iter().copied());
        DelaySummary::of(&self.histogram, &missing)
    }
}

/// A logical message of the sample, and the nodes that have it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) sender: u64,
    pub(super) index: u64,
    pub(super) intended_unix_nanos: u64,
    /// Time at which its sender handed over the last part; none if nobody knows.
    pub(super) sent_unix_nanos: Option<u64>,
    /// Time at which each node had all parts, in nanoseconds since the Unix epoch, ascending; the sender is the first.
    pub(super) holders: Vec<(u64, u64)>,
}

/// Time at which nodes with a weight of `needed` are among the holders, which are ordered by time.
pub(super) fn reached(holders: &[(u64, u64)], weight: impl Fn(u64) -> f64, needed: f64) -> Option<u64> {
    let mut sum = 0.0;
    holders.iter().find_map(|(node, time)| {
        sum += weight(*node);
        (sum >= needed * (1.0 - ROUNDING)).then_some(*time)
    })
}

/// Weights of the nodes.
pub(super) struct Weights<'a>(pub(super) &'a Observations);

impl Weights<'_> {
    pub(super) fn of(&self, node: u64) -> f64 {
        self.place(node).map_or(1.0, |place| place.weight)
    }

    fn place(&self, node: u64) -> Option<&Place> {
        self.0.places.get(usize::try_from(node).ok()?)
    }

    pub(super) fn region(&self, node: u64) -> Option<&str> {
        self.place(node)?.region.as_deref()
    }

    pub(super) fn sum(&self, nodes: impl Iterator<Item = u64>) -> f64 {
        nodes.map(|node| self.of(node)).sum()
    }
}

/// The measured window as far as it passed.
pub(super) struct Passed<'a> {
    pub(super) traffic: &'a TrafficPlan,
    pub(super) weights: Weights<'a>,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) observed: u64,
}

impl Passed<'_> {
    pub(super) fn age_micros(&self, time: u64) -> u64 {
        self.observed.saturating_sub(time) / 1000
    }

    /// True if nodes answer a message that arrives at this time.
    pub(super) fn is_open_at(&self, time: u64) -> bool {
        time < self.to
    }

    /// Intended times of the logical messages of a sender that are in the sample and lie completely in the window, by
    /// the index of their first part. For answers, nobody but the nodes knows them.
    fn intended(&self, class: u16, plan: &ClassPlan, sender: u64, arrivals: &Arrivals) -> BTreeMap<u64, u64> {
        let burst = plan.burst();
        let Some(schedule) = plan.schedule() else {
            let of_sender = arrivals.of_class(class).iter().filter(|row| row.arrival.sender == sender);
            let spacing = plan.answer().map_or(0, |answer| answer.burst_spacing_nanos);
            let first = |row: &ArrivalRow| {
                let part = row.arrival.index % burst;
                let intended = row.arrival.intended_unix_nanos.saturating_sub(part.saturating_mul(spacing));
                let last = intended.saturating_add((burst - 1).saturating_mul(spacing));
                (self.from <= intended && last < self.to).then_some((row.arrival.index - part, intended))
            };
            return of_sender.filter_map(first).collect();
        };
        let slots = schedule.slots(sender, self.from).take_while(|slot| slot.intended_unix_nanos < self.to);
        let mut parts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for slot in slots.filter(|slot| arrivals.samples(class, sender, slot.index / burst)) {
            let known = parts.entry(slot.index - slot.index % burst).or_insert((0, slot.intended_unix_nanos));
            known.0 += 1;
        }
        parts.into_iter().filter(|(_, (count, _))| *count == burst).map(|(index, (_, time))| (index, time)).collect()
    }

    /// Answers of a class that the nodes owed and never sent, if the sample is whole: nobody knows their indices.
    pub(super) fn unsent_answers(&self, class: u16, plan: &ClassPlan, intended: u64, arrivals: &Arrivals) -> u64 {
        if plan.answer().is_none() || !arrivals.is_whole(class) {
            return 0;
        }
        let is_known = |rows: &&[ArrivalRow]| {
            rows.first().is_some_and(|row| (self.from..self.to).contains(&row.arrival.intended_unix_nanos))
        };
        let known = arrivals.messages(class).filter(is_known).count() as u64;
        intended.saturating_sub(known).div_ceil(plan.burst())
    }

    /// Messages of a class.
    pub(super) fn messages(&self, class: u16, plan: &ClassPlan, arrivals: &Arrivals) -> Vec<Message> {
        let burst = plan.burst();
        let mut all: BTreeMap<(u64, u64), Message> = BTreeMap::new();
        for sender in 0..self.traffic.num_nodes {
            for (index, intended_unix_nanos) in self.intended(class, plan, sender, arrivals) {
                let holders = vec![(sender, intended_unix_nanos)];
                all.insert(
                    (sender, index),
                    Message { sender, index, intended_unix_nanos, sent_unix_nanos: None, holders },
                );
            }
        }
        let logical = |row: &ArrivalRow| (row.arrival.sender, row.arrival.index - row.arrival.index % burst);
        for rows in arrivals.of_class(class).chunk_by(|one, other| logical(one) == logical(other)) {
            let Some(message) = rows.first().and_then(|row| all.get_mut(&logical(row))) else { continue };
            // Parts that each node has, and the time of the last one.
            let mut parts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for row in rows {
                let (count, last) = parts.entry(row.receiver).or_default();
                *count += 1;
                *last = (*last).max(row.arrival.arrived_unix_nanos);
            }
            message.sent_unix_nanos =
                parts.remove(&message.sender).filter(|(count, _)| *count == burst).map(|(_, last)| last);
            let whole = parts.into_iter().filter(|(_, (count, last))| *count == burst && *last <= self.observed);
            // A clock that is behind that of the sender makes no message early.
            message.holders.extend(whole.map(|(node, (_, last))| (node, last.max(message.intended_unix_nanos))));
            message.holders.sort_by_key(|(node, time)| (*time, *node != message.sender));
        }
        all.into_values().collect()
    }

    /// Weight of a sender and of all nodes that its messages should reach.
    pub(super) fn weight_to_reach(&self, plan: &ClassPlan, sender: u64) -> f64 {
        let others = match plan.reach {
            Receivers::Neighbours => self.traffic.neighbours_of(sender),
            _ => (0..self.traffic.num_nodes).filter(|node| *node != sender).collect(),
        };
        self.weights.sum(others.into_iter().chain([sender]))
    }
}
