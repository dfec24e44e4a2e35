//! Time to reach: the time until nodes with a third, two thirds and all of the weight have a message.
//!
//! A message counts from its intended send time, when its sender has it. A logical message of several parts counts from
//! its first part's time until a node has all parts. Percentiles are over messages; a message that never reached its
//! share is later than all others.

use std::collections::BTreeMap;

use super::{
    arrivals::Arrivals,
    hops::hops,
    messages::{Message, Passed, Times, Weights, reached},
    observed::Observations,
    quantiles::DelaySummary,
    reach_facts::{LateMessage, ReachFacts, RegionReach},
    rounds::{Known, rounds},
    summary::RunSummary,
};
use crate::node::{ClassPlan, NodeSummary, Reach as Receivers};

/// Maximum number of messages that a result lists with their ids.
const MAX_LISTED: usize = 100;

/// Shares of the weight that are reported.
const SHARES: [f64; 3] = [1.0 / 3.0, 2.0 / 3.0, 1.0];

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

/// Microseconds from the intended send time of a message until its holders have each share of `total`.
fn times_of(message: &Message, weights: &Weights<'_>, total: f64) -> [Option<u64>; 3] {
    SHARES.map(|share| {
        let at = reached(&message.holders, |node| weights.of(node), total * share)?;
        Some(at.saturating_sub(message.intended_unix_nanos) / 1000)
    })
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
            let times = times_of(message, &passed.weights, passed.weight_to_reach(plan, message.sender));
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
