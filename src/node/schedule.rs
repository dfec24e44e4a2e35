//! The sending schedule of one node: a pure function of the run's start, fixed before anything is sent.

use std::time::Duration;

use super::workload::Turn;

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

/// The messages of one node, in order; without end unless there is one.
#[derive(Clone, Debug)]
pub struct Slots {
    id: u64,
    num_nodes: u64,
    turn: Turn,
    origin: u64,
    heartbeat: u64,
    end: Option<u64>,
    beat: u64,
    index: u64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

impl Slots {
    /// The schedule of node `id`: beats at `origin + k * heartbeat`, from the first one at or after `from` and before
    /// `end`, as far as the node has the turn. Turns are counted from `origin`.
    pub fn new(
        id: u64,
        num_nodes: u64,
        turn: Turn,
        heartbeat: Duration,
        origin_unix_nanos: u64,
        from_unix_nanos: u64,
        end_unix_nanos: Option<u64>,
    ) -> Self {
        let heartbeat = nanos(heartbeat);
        let beat = from_unix_nanos.saturating_sub(origin_unix_nanos).div_ceil(heartbeat);
        let num_nodes = num_nodes.max(1);
        Self { id, num_nodes, turn, origin: origin_unix_nanos, heartbeat, end: end_unix_nanos, beat, index: 0 }
    }

    /// The first beat at or after `self.beat` at which this node has the turn.
    fn next_beat(&self) -> Option<u64> {
        match self.turn {
            Turn::All => Some(self.beat),
            Turn::One(id) => (id == self.id).then_some(self.beat),
            Turn::RoundRobin { round } => {
                let round = nanos(round);
                let mut beat = self.beat;
                loop {
                    let number = beat.checked_mul(self.heartbeat)? / round;
                    let holder = number % self.num_nodes;
                    if holder == self.id {
                        return Some(beat);
                    }
                    let ahead = (self.id + self.num_nodes - holder) % self.num_nodes;
                    beat = (number + ahead).checked_mul(round)?.div_ceil(self.heartbeat);
                }
            }
        }
    }
}

impl Iterator for Slots {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.id >= self.num_nodes {
            return None;
        }
        let beat = self.next_beat()?;
        let intended_unix_nanos = self.origin.checked_add(beat.checked_mul(self.heartbeat)?)?;
        if self.end.is_some_and(|end| intended_unix_nanos >= end) {
            return None;
        }
        let next_unix_nanos = intended_unix_nanos.checked_add(self.heartbeat)?;
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

    fn times(slots: Slots) -> Vec<u64> {
        slots.map(|slot| slot.intended_unix_nanos / MS).collect()
    }

    #[test]
    fn beats_are_counted_from_the_origin() {
        let slots =
            |from| Slots::new(0, 3, Turn::All, Duration::from_millis(10), 1000 * MS, from * MS, Some(1050 * MS));
        assert_eq!(times(slots(1000)), [1000, 1010, 1020, 1030, 1040]);
        assert_eq!(times(slots(1011)), [1020, 1030, 1040]);
        assert_eq!(slots(1011).map(|slot| slot.index).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn only_the_broadcaster_has_slots_in_mode_one() {
        let slots = |id| Slots::new(id, 3, Turn::One(1), Duration::from_millis(10), 0, 0, Some(100 * MS)).count();
        assert_eq!([slots(0), slots(1), slots(2)], [0, 10, 0]);
    }

    #[test]
    fn a_turn_that_is_no_multiple_of_the_beat_is_still_kept() {
        let turn = Turn::RoundRobin { round: Duration::from_millis(25) };
        let slots = |id| times(Slots::new(id, 2, turn, Duration::from_millis(10), 0, 0, Some(100 * MS)));
        assert_eq!(slots(0), [0, 10, 20, 50, 60, 70]);
        assert_eq!(slots(1), [30, 40, 80, 90]);
    }

    proptest! {
        /// Every beat belongs to exactly one node: no silent slot, no overlap.
        #[test]
        fn turns_share_out_all_beats(
            num_nodes in 1..8_u64, heartbeat in 1..50_u64, factor in 1..20_u64, odd in 0..50_u64, origin in 0..1_000_u64,
        ) {
            let round = Duration::from_millis(heartbeat * factor + odd.min(heartbeat));
            let end = origin * MS + 3_000 * MS;
            let mut all: Vec<u64> = (0..num_nodes)
                .flat_map(|id| {
                    let turn = Turn::RoundRobin { round };
                    let beat = Duration::from_millis(heartbeat);
                    times(Slots::new(id, num_nodes, turn, beat, origin * MS, origin * MS, Some(end)))
                })
                .collect();
            all.sort_unstable();
            let beats: Vec<u64> = (0..3_000_u64.div_ceil(heartbeat)).map(|k| origin + k * heartbeat).collect();
            prop_assert_eq!(all, beats);
        }
    }
}
