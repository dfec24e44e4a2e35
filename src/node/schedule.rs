//! The sending schedule of all nodes: a pure function of the run's start, fixed before anything is sent.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::workload::Turn;

/// Whether nodes that send at the same time send at the same instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SendPhase {
    /// All nodes send at the same nanosecond, which is the worst case for the network.
    Aligned,
    /// Each node sends at its own offset within the heartbeat, as nodes do that no clock keeps in step.
    #[default]
    Spread,
}

/// A message of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the message among those of this node, from 0.
    pub index: u64,
    /// When it is to leave, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// When the next message of this pace would leave.
    pub next_unix_nanos: u64,
}

/// The schedule of a whole network: node `i` sends at `origin + offset(i) + k * heartbeat` as far as it has the turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPlan {
    /// Nodes of the network.
    pub num_nodes: u64,
    /// The senders.
    pub turn: Turn,
    /// Nanoseconds from one message of a sender to its next; at least 1.
    pub heartbeat_nanos: u64,
    /// Beat 0, in nanoseconds since the Unix epoch. Turns are counted from it.
    pub origin_unix_nanos: u64,
    /// Index 0 of every node is its first message at or after this, in nanoseconds since the Unix epoch.
    pub from_unix_nanos: u64,
    /// Nothing is to be sent from here on; none for a schedule without an end.
    pub to_unix_nanos: Option<u64>,
    /// Seed of the nodes' offsets within the heartbeat; none when all send at the same instant.
    pub spread_seed: Option<u64>,
}

/// The messages of one node, in order; without end unless the plan has one.
#[derive(Clone, Debug)]
pub struct Slots {
    plan: SendPlan,
    id: u64,
    offset: u64,
    beat: u64,
    index: u64,
}

/// A duration in nanoseconds, at least 1.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// The sum of `floor((a * i + b) / m)` for `i` in `0..n`, in logarithmic time (the sum of a lattice's points under a line,
/// by Euclid's algorithm; see the AtCoder Library's `floor_sum`). No overflow for values below 2^64 whose result is.
fn floor_sum(mut n: u128, mut m: u128, mut a: u128, mut b: u128) -> u128 {
    let mut sum: u128 = 0;
    loop {
        sum = sum.saturating_add((n.saturating_sub(1).saturating_mul(n) / 2).saturating_mul(a / m));
        sum = sum.saturating_add(n.saturating_mul(b / m));
        (a, b) = (a % m, b % m);
        let top = a.saturating_mul(n).saturating_add(b);
        if top < m {
            return sum;
        }
        (n, m, a, b) = (top / m, a, m, top % m);
    }
}

impl SendPlan {
    /// Offset of a node within the heartbeat, in nanoseconds: the first 64 bits of SHA-256(seed, id) as a fraction of the
    /// heartbeat. Nodes that never send at the same time are not spread.
    pub fn offset_nanos(&self, id: u64) -> u64 {
        let (Some(seed), Turn::All) = (self.spread_seed, self.turn) else { return 0 };
        let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(id.to_be_bytes()).finalize();
        let fraction = digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        // Below the heartbeat, since the fraction is below 2^64.
        ((u128::from(fraction) * u128::from(self.heartbeat_nanos)) >> 64) as u64
    }

    /// The first beat of a node at or after `time`.
    fn first_beat(&self, id: u64, time: u64) -> u64 {
        let from = self.origin_unix_nanos.saturating_add(self.offset_nanos(id));
        time.saturating_sub(from).div_ceil(self.heartbeat_nanos.max(1))
    }

    /// Beats before beat `end` at which node `id` has the turn.
    fn turns_before(&self, id: u64, end: u64) -> u64 {
        if id >= self.num_nodes {
            return 0;
        }
        match self.turn {
            Turn::All => end,
            Turn::One(sender) => {
                if sender == id {
                    end
                } else {
                    0
                }
            }
            Turn::RoundRobin { round } => {
                // Turn t has the beats from ceil(t * round / heartbeat) on; node id has the turns id + i * num_nodes.
                let (round, beat) = (u128::from(nanos(round)), u128::from(self.heartbeat_nanos.max(1)));
                let (nodes, own) = (u128::from(self.num_nodes), u128::from(id));
                let current = u128::from(end) * beat / round;
                let cycles = (current + nodes - own) / nodes;
                let starts = |turn: u128| floor_sum(cycles, beat, nodes * round, turn * round + beat - 1);
                let whole = starts(own + 1).saturating_sub(starts(own));
                // The turn under way has more beats than those before the end.
                let over = match cycles.checked_sub(1) {
                    Some(last) => {
                        let turn = own + last * nodes;
                        (((turn + 1) * round).div_ceil(beat)).saturating_sub(u128::from(end))
                    }
                    None => 0,
                };
                u64::try_from(whole.saturating_sub(over)).unwrap_or(u64::MAX)
            }
        }
    }

    /// Messages of a node that are due from `from` on and before `to`, both in nanoseconds since the Unix epoch; computed,
    /// not walked.
    pub fn count(&self, id: u64, from: u64, to: u64) -> u64 {
        let from = from.max(self.from_unix_nanos);
        let to = self.to_unix_nanos.map_or(to, |end| end.min(to)).max(from);
        let before = |time: u64| self.turns_before(id, self.first_beat(id, time));
        before(to).saturating_sub(before(from))
    }

    /// The messages of a node from its first one at or after `time`, in nanoseconds since the Unix epoch. Index 0 stays
    /// that of [`Self::from_unix_nanos`].
    pub fn slots(&self, id: u64, time: u64) -> Slots {
        let time = time.max(self.from_unix_nanos);
        let index = self.count(id, 0, time);
        Slots { offset: self.offset_nanos(id), beat: self.first_beat(id, time), index, id, plan: self.clone() }
    }

    /// The largest index that any message may have at `now`, in nanoseconds since the Unix epoch.
    pub fn largest_index(&self, now: u64) -> u64 {
        now.saturating_sub(self.origin_unix_nanos) / self.heartbeat_nanos.max(1) + 1
    }
}

impl Slots {
    /// The first beat at or after `self.beat` at which this node has the turn.
    fn next_beat(&self) -> Option<u64> {
        let heartbeat = self.plan.heartbeat_nanos.max(1);
        match self.plan.turn {
            Turn::All => Some(self.beat),
            Turn::One(id) => (id == self.id).then_some(self.beat),
            Turn::RoundRobin { round } => {
                let round = nanos(round);
                let mut beat = self.beat;
                loop {
                    let number = beat.checked_mul(heartbeat)? / round;
                    let holder = number % self.plan.num_nodes;
                    if holder == self.id {
                        return Some(beat);
                    }
                    let ahead = (self.id + self.plan.num_nodes - holder) % self.plan.num_nodes;
                    beat = (number + ahead).checked_mul(round)?.div_ceil(heartbeat);
                }
            }
        }
    }
}

impl Iterator for Slots {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.id >= self.plan.num_nodes {
            return None;
        }
        let heartbeat = self.plan.heartbeat_nanos.max(1);
        let beat = self.next_beat()?;
        let start = self.plan.origin_unix_nanos.checked_add(self.offset)?;
        let intended_unix_nanos = start.checked_add(beat.checked_mul(heartbeat)?)?;
        if self.plan.to_unix_nanos.is_some_and(|end| intended_unix_nanos >= end) {
            return None;
        }
        let next_unix_nanos = intended_unix_nanos.checked_add(heartbeat)?;
        let slot = Slot { index: self.index, intended_unix_nanos, next_unix_nanos };
        self.beat = beat + 1;
        self.index += 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// A schedule of 3 nodes in step, from `from` milliseconds on, with its origin and end there too.
    fn plan(turn: Turn, origin: u64, from: u64, to: u64) -> SendPlan {
        SendPlan {
            num_nodes: 3,
            turn,
            heartbeat_nanos: 10 * MS,
            origin_unix_nanos: origin * MS,
            from_unix_nanos: from * MS,
            to_unix_nanos: Some(to * MS),
            spread_seed: None,
        }
    }

    fn times(slots: Slots) -> Vec<u64> {
        slots.map(|slot| slot.intended_unix_nanos / MS).collect()
    }

    #[test]
    fn beats_are_counted_from_the_origin() {
        let slots = |from| plan(Turn::All, 1000, from, 1050).slots(0, 0);
        assert_eq!(times(slots(1000)), [1000, 1010, 1020, 1030, 1040]);
        assert_eq!(times(slots(1011)), [1020, 1030, 1040]);
        assert_eq!(slots(1011).map(|slot| slot.index).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn only_the_broadcaster_has_slots_in_mode_one() {
        let count = |id| plan(Turn::One(1), 0, 0, 100).slots(id, 0).count();
        assert_eq!([count(0), count(1), count(2)], [0, 10, 0]);
    }

    #[test]
    fn a_turn_that_is_no_multiple_of_the_beat_is_still_kept() {
        let turn = Turn::RoundRobin { round: Duration::from_millis(25) };
        let slots = |id| times(SendPlan { num_nodes: 2, ..plan(turn, 0, 0, 100) }.slots(id, 0));
        assert_eq!(slots(0), [0, 10, 20, 50, 60, 70]);
        assert_eq!(slots(1), [30, 40, 80, 90]);
    }

    #[test]
    fn a_start_half_a_century_ago_is_computed_and_not_walked() {
        let years = 56 * 366 * 24 * 3600 * 1000;
        for turn in [Turn::All, Turn::One(2), Turn::RoundRobin { round: Duration::from_millis(7) }] {
            let plan = SendPlan { heartbeat_nanos: MS, ..plan(turn, 0, 0, 2 * years) };
            let slot = plan.slots(2, years * MS).next().unwrap();
            let share = if matches!(turn, Turn::RoundRobin { .. }) { 3 } else { 1 };
            assert!(slot.index.abs_diff(years / share) < 10, "{turn:?}: {slot:?}");
            assert!(slot.intended_unix_nanos.abs_diff(years * MS) < 20 * MS, "{turn:?}: {slot:?}");
        }
    }

    #[test]
    fn nodes_in_mode_all_are_spread_and_the_others_have_nobody_to_wait_for() {
        let spread = |turn| SendPlan { num_nodes: 50, spread_seed: Some(0), ..plan(turn, 0, 0, 100) };
        let offsets = |plan: &SendPlan| (0..50).map(|id| plan.offset_nanos(id)).collect::<Vec<u64>>();
        let of_all = offsets(&spread(Turn::All));
        assert!(of_all.iter().all(|offset| *offset < 10 * MS));
        assert!((20..30).contains(&of_all.iter().filter(|offset| **offset < 5 * MS).count()), "{of_all:?}");
        assert_eq!(of_all, offsets(&spread(Turn::All)), "the seed decides");
        assert_ne!(of_all, offsets(&SendPlan { spread_seed: Some(1), ..spread(Turn::All) }));
        assert_eq!(offsets(&spread(Turn::One(1))), [0; 50]);
        assert_eq!(offsets(&plan(Turn::All, 0, 0, 100))[..3], [0; 3]);
    }

    fn turns() -> impl Strategy<Value = (u64, Turn)> {
        let round = (1..50_u64, 1..20_u64, 0..50_u64).prop_map(|(heartbeat, factor, odd)| {
            (heartbeat, Turn::RoundRobin { round: Duration::from_millis(heartbeat * factor + odd.min(heartbeat)) })
        });
        prop_oneof![round, (1..50_u64).prop_map(|heartbeat| (heartbeat, Turn::All))]
    }

    proptest! {
        /// Every beat belongs to exactly one node: no silent slot, no overlap.
        #[test]
        fn turns_share_out_all_beats(
            num_nodes in 1..8_u64, heartbeat in 1..50_u64, factor in 1..20_u64, odd in 0..50_u64, origin in 0..1_000_u64,
        ) {
            let turn = Turn::RoundRobin { round: Duration::from_millis(heartbeat * factor + odd.min(heartbeat)) };
            let plan = plan(turn, origin, origin, origin + 3_000);
            let plan = SendPlan { num_nodes, heartbeat_nanos: heartbeat * MS, spread_seed: Some(3), ..plan };
            let mut all: Vec<u64> = (0..num_nodes).flat_map(|id| times(plan.slots(id, 0))).collect();
            all.sort_unstable();
            let beats: Vec<u64> = (0..3_000_u64.div_ceil(heartbeat)).map(|k| origin + k * heartbeat).collect();
            prop_assert_eq!(all, beats);
        }

        /// Counting and skipping agree with walking, for every node and every cut.
        #[test]
        fn messages_are_counted_and_skipped_as_if_each_were_walked(
            (heartbeat, turn) in turns(), num_nodes in 1..6_u64, origin in 0..100_u64, late in 0..100_u64,
            seed in prop::option::of(any::<u64>()), cuts in (0..1_500_u64, 0..1_500_u64),
        ) {
            let plan = SendPlan {
                num_nodes,
                heartbeat_nanos: heartbeat * MS,
                spread_seed: seed,
                ..plan(turn, origin, origin + late, origin + 1_000)
            };
            let (from, to) = (cuts.0.min(cuts.1) * MS, cuts.0.max(cuts.1) * MS);
            for id in 0..=num_nodes {
                let walked: Vec<Slot> = plan.slots(id, 0).collect();
                let inside = |slot: &&Slot| (from..to).contains(&slot.intended_unix_nanos);
                prop_assert_eq!(plan.count(id, from, to), walked.iter().filter(inside).count() as u64);
                let rest: Vec<Slot> =
                    walked.iter().filter(|slot| slot.intended_unix_nanos >= from).copied().collect();
                prop_assert_eq!(plan.slots(id, from).collect::<Vec<_>>(), rest);
                prop_assert!(walked.iter().all(|slot| slot.index <= plan.largest_index(slot.intended_unix_nanos)));
            }
        }
    }
}
