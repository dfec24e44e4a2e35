//! Sending schedule of all nodes for one traffic class: a pure function of the run's start, fixed before anything is
//! sent.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Senders of a traffic class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// Every node, all the time.
    All,
    /// These nodes, all the time.
    Nodes(BTreeSet<u64>),
    /// Node `(time / round) mod num_nodes`.
    RoundRobin {
        /// Length of a turn.
        round: Duration,
    },
}

impl Turn {
    /// A single sender.
    pub fn one(id: u64) -> Self {
        Self::Nodes([id].into())
    }

    /// True if node `id` sends at any time.
    pub fn has(&self, id: u64) -> bool {
        match self {
            Self::All | Self::RoundRobin { .. } => true,
            Self::Nodes(ids) => ids.contains(&id),
        }
    }

    /// Number of nodes that send, of a network of `num_nodes`.
    pub fn count(&self, num_nodes: u64) -> u64 {
        match self {
            Self::All | Self::RoundRobin { .. } => num_nodes,
            Self::Nodes(ids) => ids.len() as u64,
        }
    }
}

/// A message of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the message among those of this node and class, from 0.
    pub index: u64,
    /// Intended send time, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// Next heartbeat of this schedule, in nanoseconds since the Unix epoch: a message that is sent later than that is
    /// late.
    pub next_unix_nanos: u64,
}

/// Schedule of a whole network: at `origin + offset(i) + k * heartbeat` node `i` begins to send the parts of its
/// logical message `k`, if it has the turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPlan {
    /// Number of nodes of the network.
    pub num_nodes: u64,
    /// The senders.
    pub turn: Turn,
    /// Number of the traffic class, which decides the offsets along with the seed.
    pub class: u16,
    /// Nanoseconds between the logical messages of a sender; at least 1.
    pub heartbeat_nanos: u64,
    /// Number of parts of a logical message, each a message of its own; at least 1.
    pub burst: u64,
    /// Nanoseconds between the parts. All parts are sent before the next heartbeat.
    pub burst_spacing_nanos: u64,
    /// Heartbeat 0, in nanoseconds since the Unix epoch. Turns are counted from it.
    pub origin_unix_nanos: u64,
    /// Index 0 of every node is the first part of its first logical message at or after this, in nanoseconds since the
    /// Unix epoch.
    pub from_unix_nanos: u64,
    /// End of sending; none for a schedule without an end.
    pub to_unix_nanos: Option<u64>,
    /// Seed of the nodes' offsets within the heartbeat; none if all send at the same instant.
    pub spread_seed: Option<u64>,
}

/// Messages of one node, in order; without end unless the plan has one.
#[derive(Clone, Debug)]
pub struct Slots {
    plan: SendPlan,
    id: u64,
    offset: u64,
    beat: u64,
    part: u64,
    index: u64,
}

/// A duration in nanoseconds, at least 1.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Sum of `floor((a * i + b) / m)` for `i` in `0..n`, in logarithmic time (the sum of a lattice's points under a line,
/// by Euclid's algorithm; see the AtCoder Library's `floor_sum`). No overflow for values below 2^64 with a result below
/// 2^64.
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
    /// A schedule of class 0 without bursts and offsets, from the beginning of time and without an end.
    pub fn new(num_nodes: u64, turn: Turn, heartbeat_nanos: u64) -> Self {
        Self {
            num_nodes,
            turn,
            class: 0,
            heartbeat_nanos,
            burst: 1,
            burst_spacing_nanos: 0,
            origin_unix_nanos: 0,
            from_unix_nanos: 0,
            to_unix_nanos: None,
            spread_seed: None,
        }
    }

    /// Offset of a node within the heartbeat, in nanoseconds: the first 64 bits of SHA-256(seed, id, class) as a
    /// fraction of the heartbeat; class 0 adds nothing. Nodes that never send at the same time have no offsets.
    pub fn offset_nanos(&self, id: u64) -> u64 {
        let alone = match &self.turn {
            Turn::All => false,
            Turn::Nodes(ids) => ids.len() < 2,
            Turn::RoundRobin { .. } => true,
        };
        let Some(seed) = self.spread_seed.filter(|_| !alone) else { return 0 };
        let mut digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(id.to_be_bytes());
        if self.class > 0 {
            digest.update(self.class.to_be_bytes());
        }
        let fraction = digest.finalize().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        // Below the heartbeat, because the fraction is below 2^64.
        ((u128::from(fraction) * u128::from(self.heartbeat_nanos)) >> 64) as u64
    }

    fn heartbeat(&self) -> u64 {
        self.heartbeat_nanos.max(1)
    }

    fn parts(&self) -> u64 {
        self.burst.max(1)
    }

    /// First heartbeat of a node at or after `time`.
    fn first_beat(&self, id: u64, time: u64) -> u64 {
        let from = self.origin_unix_nanos.saturating_add(self.offset_nanos(id));
        time.saturating_sub(from).div_ceil(self.heartbeat())
    }

    /// Number of heartbeats before `end` at which node `id` has the turn.
    fn turns_before(&self, id: u64, end: u64) -> u64 {
        if id >= self.num_nodes {
            return 0;
        }
        match &self.turn {
            Turn::All => end,
            Turn::Nodes(ids) => {
                if ids.contains(&id) {
                    end
                } else {
                    0
                }
            }
            Turn::RoundRobin { round } => {
                // Turn t has the heartbeats from ceil(t * round / heartbeat) on; node id has the turns id + i *
                // num_nodes.
                let (round, beat) = (u128::from(nanos(*round)), u128::from(self.heartbeat()));
                let (nodes, own) = (u128::from(self.num_nodes), u128::from(id));
                let current = u128::from(end) * beat / round;
                let cycles = (current + nodes - own) / nodes;
                let starts = |turn: u128| floor_sum(cycles, beat, nodes * round, turn * round + beat - 1);
                let whole = starts(own + 1).saturating_sub(starts(own));
                // The present turn has more heartbeats than those before the end.
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

    /// True if node `id` has the turn at a heartbeat.
    fn has_turn(&self, id: u64, beat: u64) -> bool {
        id < self.num_nodes
            && match &self.turn {
                Turn::All => true,
                Turn::Nodes(ids) => ids.contains(&id),
                Turn::RoundRobin { round } => {
                    let number = u128::from(beat) * u128::from(self.heartbeat()) / u128::from(nanos(*round));
                    number % u128::from(self.num_nodes) == u128::from(id)
                }
            }
    }

    /// Index of the first message of a node at or after `time`, computed without walking.
    fn index_at(&self, id: u64, time: u64) -> u64 {
        let parts = self.parts();
        // No part of a logical message from before the schedule is sent.
        let skipped = self.turns_before(id, self.first_beat(id, self.from_unix_nanos));
        let next = self.first_beat(id, time);
        let mut whole = self.turns_before(id, next).saturating_sub(skipped);
        let mut begun = 0;
        // Only the last heartbeat before the time can have parts after it.
        if let Some(last) = next.checked_sub(1).filter(|last| whole > 0 && self.has_turn(id, *last)) {
            let start = self.origin_unix_nanos.saturating_add(self.offset_nanos(id));
            let start = start.saturating_add(last.saturating_mul(self.heartbeat()));
            whole -= 1;
            begun = match self.burst_spacing_nanos {
                0 => parts,
                spacing => time.saturating_sub(start).div_ceil(spacing).min(parts),
            };
        }
        whole.saturating_mul(parts).saturating_add(begun)
    }

    /// Indices of the messages of a node that are due from `from` on and before `to`, both in nanoseconds since the
    /// Unix epoch; computed without walking.
    pub fn indices(&self, id: u64, from: u64, to: u64) -> std::ops::Range<u64> {
        let from = from.max(self.from_unix_nanos);
        let to = self.to_unix_nanos.map_or(to, |end| end.min(to)).max(from);
        self.index_at(id, from)..self.index_at(id, to)
    }

    /// Number of messages of a node that are due from `from` on and before `to`, both in nanoseconds since the Unix
    /// epoch; computed without walking.
    pub fn count(&self, id: u64, from: u64, to: u64) -> u64 {
        let indices = self.indices(id, from, to);
        indices.end.saturating_sub(indices.start)
    }

    /// Messages of a node from its first one at or after `time`, in nanoseconds since the Unix epoch. Index 0 stays
    /// that of [`Self::from_unix_nanos`].
    pub fn slots(&self, id: u64, time: u64) -> Slots {
        let time = time.max(self.from_unix_nanos);
        let index = self.index_at(id, time);
        let (next, part) = (self.first_beat(id, time), index % self.parts());
        // A burst in progress began at the previous heartbeat.
        let beat = if part > 0 { next.saturating_sub(1) } else { next };
        Slots { offset: self.offset_nanos(id), beat, part, index, id, plan: self.clone() }
    }

    /// Maximum number of logical messages of the most active node up to `now`, in nanoseconds since the Unix epoch.
    pub fn most_beats(&self, now: u64) -> u64 {
        (now.saturating_sub(self.origin_unix_nanos) / self.heartbeat()).saturating_add(2)
    }

    /// Largest possible index of a message at `now`, in nanoseconds since the Unix epoch.
    pub fn largest_index(&self, now: u64) -> u64 {
        self.most_beats(now).saturating_mul(self.parts()).saturating_sub(1)
    }
}

impl Slots {
    /// First heartbeat at or after `self.beat` at which this node has the turn.
    fn next_beat(&self) -> Option<u64> {
        let heartbeat = self.plan.heartbeat();
        match &self.plan.turn {
            Turn::All => Some(self.beat),
            Turn::Nodes(ids) => ids.contains(&self.id).then_some(self.beat),
            // The rest of a burst is sent even if another node has the turn meanwhile.
            Turn::RoundRobin { .. } if self.part > 0 => Some(self.beat),
            Turn::RoundRobin { round } => {
                let round = nanos(*round);
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
        let heartbeat = self.plan.heartbeat();
        let beat = self.next_beat()?;
        let start = self.plan.origin_unix_nanos.checked_add(self.offset)?;
        let start = start.checked_add(beat.checked_mul(heartbeat)?)?;
        let intended_unix_nanos = start.checked_add(self.part.checked_mul(self.plan.burst_spacing_nanos)?)?;
        if self.plan.to_unix_nanos.is_some_and(|end| intended_unix_nanos >= end) {
            return None;
        }
        let next_unix_nanos = start.checked_add(heartbeat)?;
        let slot = Slot { index: self.index, intended_unix_nanos, next_unix_nanos };
        self.index += 1;
        self.part += 1;
        self.beat = beat;
        if self.part >= self.plan.parts() {
            (self.part, self.beat) = (0, beat + 1);
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// A schedule of 3 nodes that send together, from `from` milliseconds on, with its origin and end there too.
    fn plan(turn: Turn, origin: u64, from: u64, to: u64) -> SendPlan {
        SendPlan {
            origin_unix_nanos: origin * MS,
            from_unix_nanos: from * MS,
            to_unix_nanos: Some(to * MS),
            ..SendPlan::new(3, turn, 10 * MS)
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
        let count = |id| plan(Turn::one(1), 0, 0, 100).slots(id, 0).count();
        assert_eq!([count(0), count(1), count(2)], [0, 10, 0]);
    }

    #[test]
    fn a_turn_that_is_no_multiple_of_the_beat_is_still_kept() {
        let turn = Turn::RoundRobin { round: Duration::from_millis(25) };
        let slots = |id| times(SendPlan { num_nodes: 2, ..plan(turn.clone(), 0, 0, 100) }.slots(id, 0));
        assert_eq!(slots(0), [0, 10, 20, 50, 60, 70]);
        assert_eq!(slots(1), [30, 40, 80, 90]);
    }

    #[test]
    fn a_start_half_a_century_ago_is_computed_and_not_walked() {
        let years = 56 * 366 * 24 * 3600 * 1000;
        for turn in [Turn::All, Turn::one(2), Turn::RoundRobin { round: Duration::from_millis(7) }] {
            let share = if matches!(turn, Turn::RoundRobin { .. }) { 3 } else { 1 };
            let plan = SendPlan { heartbeat_nanos: MS, ..plan(turn.clone(), 0, 0, 2 * years) };
            let slot = plan.slots(2, years * MS).next().unwrap();
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
        let of_class = |class| SendPlan { class, ..spread(Turn::All) };
        assert_eq!((offsets(&of_class(0)), offsets(&of_class(1)) == of_all), (of_all.clone(), false));
        let of_two = offsets(&spread(Turn::Nodes([1, 4].into())));
        assert_eq!((of_two[1], of_two[4]), (of_all[1], of_all[4]), "a set is spread like all nodes");
        assert_eq!(offsets(&spread(Turn::one(1))), [0; 50]);
        assert_eq!(offsets(&plan(Turn::All, 0, 0, 100))[..3], [0; 3]);
    }

    #[test]
    fn a_burst_is_numbered_by_its_beat_and_part() {
        let burst = SendPlan { burst: 3, burst_spacing_nanos: 2 * MS, ..plan(Turn::All, 100, 100, 123) };
        let slots: Vec<_> = burst.slots(0, 0).map(|slot| (slot.index, slot.intended_unix_nanos / MS)).collect();
        assert_eq!(slots, [(0, 100), (1, 102), (2, 104), (3, 110), (4, 112), (5, 114), (6, 120), (7, 122)]);
        let due: Vec<_> = burst.slots(0, 0).map(|slot| slot.next_unix_nanos / MS).collect();
        assert_eq!(due, [110, 110, 110, 120, 120, 120, 130, 130]);
        // A schedule that begins in the middle of a burst begins with the next one.
        let late = SendPlan { from_unix_nanos: 101 * MS, ..burst };
        assert_eq!(
            late.slots(0, 0).map(|slot| slot.intended_unix_nanos / MS).collect::<Vec<_>>(),
            [110, 112, 114, 120, 122]
        );
    }

    fn turns() -> impl Strategy<Value = (u64, Turn)> {
        let round = (1..50_u64, 1..20_u64, 0..50_u64).prop_map(|(heartbeat, factor, odd)| {
            (heartbeat, Turn::RoundRobin { round: Duration::from_millis(heartbeat * factor + odd.min(heartbeat)) })
        });
        let set = (1..50_u64, prop::collection::btree_set(0..6_u64, 0..4));
        prop_oneof![
            round,
            (1..50_u64).prop_map(|heartbeat| (heartbeat, Turn::All)),
            set.prop_map(|(heartbeat, ids)| (heartbeat, Turn::Nodes(ids))),
        ]
    }

    proptest! {
        /// Every heartbeat belongs to exactly one node: no silent slot, no overlap.
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
            burst in 1..5_u64, spacing in 0..100_u64, class in 0..3_u16,
        ) {
            // All parts are sent before the next heartbeat.
            let spacing = (heartbeat * MS - 1) * spacing / 100 / burst.saturating_sub(1).max(1);
            let plan = SendPlan {
                num_nodes,
                heartbeat_nanos: heartbeat * MS,
                burst,
                burst_spacing_nanos: spacing,
                class,
                spread_seed: seed,
                ..plan(turn, origin, origin + late, origin + 1_000)
            };
            let (from, to) = (cuts.0.min(cuts.1) * MS, cuts.0.max(cuts.1) * MS);
            for id in 0..=num_nodes {
                let walked: Vec<Slot> = plan.slots(id, 0).collect();
                prop_assert!(walked.iter().map(|slot| slot.index).eq(0..walked.len() as u64));
                prop_assert!(walked.is_sorted_by_key(|slot| slot.intended_unix_nanos));
                let first_part = |slot: &&Slot| slot.index.is_multiple_of(burst);
                let beats = walked.iter().filter(first_part).map(|slot| slot.intended_unix_nanos);
                prop_assert!(beats.clone().all(|time| time >= plan.from_unix_nanos));
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
