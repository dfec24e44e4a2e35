//! Time to reach: the time until nodes with a third, two thirds and all of the weight have a message.
//!
//! A message counts from its intended send time, when its sender has it. A logical message of several parts counts from
//! its first part's time until a node has all parts. Percentiles are over messages; a message that never reached its
//! share is later than all others.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    arrivals::{ArrivalRow, Arrivals},
    hops::{Hops, hops},
    lives::empty_histogram,
    observed::Observations,
    quantiles::{DelaySummary, Missing},
    rounds::{Known, rounds},
    summary::RunSummary,
};
use crate::node::{ClassPlan, NodeSummary, Reach as Receivers, TrafficPlan};

/// Maximum number of messages that a result lists with their ids.
const MAX_LISTED: usize = 100;

/// Part by which a sum of weights may fall short of its share, because a sum of fractions is not exact.
const ROUNDING: f64 = 1e-9;

/// Shares of the weight that are reported.
const SHARES: [f64; 3] = [1.0 / 3.0, 2.0 / 3.0, 1.0];

/// A message that missed the deadline of its class: nodes with two thirds of the weight did not have it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateMessage {
    /// Node id of the sender.
    pub sender: u64,
    /// Number of the message, or of the first part of a logical message, among those of its sender and class.
    pub index: u64,
    /// Intended send time, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// Time until nodes with two thirds of the weight had it, in microseconds; none if they never had.
    pub reach_2_3_micros: Option<u64>,
    /// Time until all of the weight had it, in microseconds; none if it never had.
    pub reach_all_micros: Option<u64>,
}

/// Times to reach of the messages whose senders are in one region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionReach {
    /// Region of the senders.
    pub region: String,
    /// Time until nodes with a third of the weight had the message.
    pub reach_1_3: DelaySummary,
    /// Time until nodes with two thirds of the weight had it.
    pub reach_2_3: DelaySummary,
    /// Time until all of the weight had it.
    pub reach_all: DelaySummary,
}

/// Facts about the messages of a class, or of all classes, beside the times to reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReachFacts {
    /// Logical messages in the sample.
    pub messages: u64,
    /// Share of all messages that the sample has, 0 to 1; the lowest of its classes.
    pub sampled_share: f64,
    /// Messages that nodes with two thirds of the weight did not have within the deadline; none without a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_misses: Option<u64>,
    /// The latest of these messages, at most 100; those that never reached two thirds of the weight first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<LateMessage>,
    /// Ways that the messages took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<Hops>,
    /// By region of the sender; empty if the nodes have no regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionReach>,
}

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

/// Times to reach each share.
#[derive(Clone, Debug, Default)]
struct ShareTimes([Times; 3]);

impl ShareTimes {
    fn add(&mut self, micros: [Option<u64>; 3], age_micros: u64) {
        self.0.iter_mut().zip(micros).for_each(|(times, micros)| times.add(micros, age_micros));
    }

    fn summaries(&self) -> [DelaySummary; 3] {
        self.0.each_ref().map(Times::summary)
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

impl Message {
    /// Microseconds from the intended send time until `holders` have each share of `total`.
    fn times(&self, weights: &Weights<'_>, total: f64) -> [Option<u64>; 3] {
        SHARES.map(|share| {
            let at = reached(&self.holders, |node| weights.of(node), total * share)?;
            Some(at.saturating_sub(self.intended_unix_nanos) / 1000)
        })
    }
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
pub(super) struct Weights<'a>(&'a Observations);

impl Weights<'_> {
    pub(super) fn of(&self, node: u64) -> f64 {
        self.place(node).map_or(1.0, |place| place.weight)
    }

    fn place(&self, node: u64) -> Option<&super::observed::Place> {
        self.0.places.get(usize::try_from(node).ok()?)
    }

    fn region(&self, node: u64) -> Option<&str> {
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
    from: u64,
    to: u64,
    observed: u64,
}

impl Passed<'_> {
    fn age_micros(&self, time: u64) -> u64 {
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
    fn unsent_answers(&self, class: u16, plan: &ClassPlan, intended: u64, arrivals: &Arrivals) -> u64 {
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
    fn messages(&self, class: u16, plan: &ClassPlan, arrivals: &Arrivals) -> Vec<Message> {
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
    fn weight_to_reach(&self, plan: &ClassPlan, sender: u64) -> f64 {
        let others = match plan.reach {
            Receivers::Neighbours => self.traffic.neighbours_of(sender),
            _ => (0..self.traffic.num_nodes).filter(|node| *node != sender).collect(),
        };
        self.weights.sum(others.into_iter().chain([sender]))
    }
}

/// Times and facts of one class, and of all classes that reach several nodes.
#[derive(Default)]
struct Collected {
    times: ShareTimes,
    facts: ReachFacts,
}

/// Adds the times to reach to a result: of each class that reaches more than one node, and of all of these together.
pub(super) fn add_reach(run: &mut RunSummary, arrivals: &Arrivals, observed: &Observations, nodes: &[NodeSummary]) {
    let Some(window) = &observed.window else { return };
    let stopped = nodes.iter().map(|node| node.counted_unix_nanos).max().unwrap_or(0);
    let passed = Passed {
        traffic: &window.plan,
        weights: Weights(observed),
        from: window.from_unix_nanos,
        to: window.to_unix_nanos.min(observed.ended_unix_nanos.unwrap_or(0)),
        observed: stopped,
    };
    let mut all =
        Collected { facts: ReachFacts { sampled_share: 1.0, ..ReachFacts::default() }, ..Collected::default() };
    let mut known: Known = BTreeMap::new();
    for (number, plan) in window.plan.numbered() {
        let Some(row) = run.classes.get_mut(usize::from(number)) else { continue };
        row.reach = None;
        if plan.reach == Receivers::OneNeighbour {
            continue;
        }
        let messages = passed.messages(number, plan, arrivals);
        let mut own = Collected::default();
        let mut by_region: BTreeMap<&str, ShareTimes> = BTreeMap::new();
        own.facts.deadline_misses = plan.deadline_millis.map(|_| 0);
        for message in &messages {
            let age = passed.age_micros(message.intended_unix_nanos);
            let times = message.times(&passed.weights, passed.weight_to_reach(plan, message.sender));
            own.times.add(times, age);
            all.times.add(times, age);
            if let Some(region) = passed.weights.region(message.sender) {
                by_region.entry(region).or_default().add(times, age);
            }
            own.judge(plan, message, times);
        }
        own.facts.list();
        let unsent = passed.unsent_answers(number, plan, row.intended, arrivals);
        for _ in 0..unsent {
            own.times.add([None; 3], 0);
            all.times.add([None; 3], 0);
        }
        own.facts.deadline_misses = own.facts.deadline_misses.map(|misses| misses + unsent);
        own.facts.messages = messages.len() as u64 + unsent;
        own.facts.sampled_share = arrivals.share(number);
        own.facts.hops = hops(arrivals.messages(number));
        own.facts.regions = by_region.into_iter().map(|(region, times)| RegionReach::of(region, &times)).collect();
        all.include(&own.facts);
        if arrivals.is_whole(number) {
            known.insert(number, messages);
        }
        let [third, two_thirds, whole] = own.times.summaries();
        (row.reach_1_3, row.reach_2_3, row.reach_all) = (Some(third), Some(two_thirds), Some(whole));
        row.reach = Some(own.facts);
    }
    for (number, plan) in window.plan.numbered() {
        if let (Some(row), Some(answer)) = (run.classes.get_mut(usize::from(number)), plan.answer()) {
            let age = |time| passed.age_micros(time);
            row.round = rounds(&known, number, answer, &passed, age).map(|times| times.summary());
        }
    }
    let Some(totals) = run.totals.as_mut().filter(|_| all.facts.messages > 0) else { return };
    let [third, two_thirds, whole] = all.times.summaries();
    (totals.reach_1_3, totals.reach_2_3, totals.reach_all) = (Some(third), Some(two_thirds), Some(whole));
    totals.reach = Some(all.facts);
}

impl RegionReach {
    fn of(region: &str, times: &ShareTimes) -> Self {
        let [reach_1_3, reach_2_3, reach_all] = times.summaries();
        Self { region: region.to_owned(), reach_1_3, reach_2_3, reach_all }
    }
}

impl Collected {
    /// Compares a message with the deadline of its class.
    fn judge(&mut self, plan: &ClassPlan, message: &Message, times: [Option<u64>; 3]) {
        let (Some(deadline), Some(misses)) = (plan.deadline_millis, self.facts.deadline_misses.as_mut()) else {
            return;
        };
        let [_, two_thirds, whole] = times;
        if two_thirds.is_some_and(|micros| micros <= deadline.saturating_mul(1000)) {
            return;
        }
        *misses += 1;
        self.facts.missed.push(LateMessage {
            sender: message.sender,
            index: message.index,
            intended_unix_nanos: message.intended_unix_nanos,
            reach_2_3_micros: two_thirds,
            reach_all_micros: whole,
        });
    }

    /// Adds the counts of a class to those of all classes.
    fn include(&mut self, class: &ReachFacts) {
        let facts = &mut self.facts;
        facts.messages += class.messages;
        facts.sampled_share = facts.sampled_share.min(class.sampled_share);
        if let Some(misses) = class.deadline_misses {
            facts.deadline_misses = Some(facts.deadline_misses.unwrap_or(0) + misses);
        }
    }
}

impl ReachFacts {
    /// Keeps the latest messages of those that missed their deadline.
    fn list(&mut self) {
        let lateness = |message: &LateMessage| std::cmp::Reverse(message.reach_2_3_micros.unwrap_or(u64::MAX));
        self.missed.sort_by_key(|message| (lateness(message), message.intended_unix_nanos, message.sender));
        self.missed.truncate(MAX_LISTED);
    }
}
