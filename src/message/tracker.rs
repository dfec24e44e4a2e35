//! Exact delivery counts from (sender, index), in memory that does not grow with the run.
//!
//! For each sender, a ring of bits remembers which of the latest indices arrived. The ring starts small and doubles
//! only if moving on would forget an index that is still missing; as long as no missing index was forgotten, an index
//! below the ring is certainly a duplicate. Only after a missing index leaves a ring of [`WINDOW_LIMIT`], a later
//! arrival below the ring can't be distinguished from a duplicate: it is then counted separately, as
//! [`DeliveryKind::Undecided`].

use std::collections::BTreeMap;

/// Maximum number of remembered indices of one sender, in messages: 16 KiB of bits, and over two minutes of lateness at
/// one message a millisecond.
pub const WINDOW_LIMIT: u64 = 1 << 17;

const FIRST_WINDOW: u64 = 1 << 9;

/// Processes of one sender that are distinguished; messages of earlier processes are assumed to be complete.
const MAX_LIVES: usize = 8;

/// The sender's own count of its messages, which each message contains; indices that the sender skipped do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Process of the sender; a later one has a larger number.
    pub life: u64,
    /// Messages that this process has sent before this one.
    pub sent_before: u64,
}

/// Kind of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryKind {
    /// New, and directly after the latest one.
    InOrder,
    /// New, and further ahead: it skipped over some that have not arrived.
    Ahead,
    /// New, but a later one arrived first.
    Reordered,
    /// Arrived before.
    Duplicate,
    /// Too late to decide if it arrived before.
    Undecided,
}

impl DeliveryKind {
    /// True for the first copy of a message.
    pub fn is_first(self) -> bool {
        matches!(self, Self::InOrder | Self::Ahead | Self::Reordered)
    }
}

/// Index from which a sender is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// From 0: the receiver existed when the sender began, so a lost first message is a gap.
    Zero,
    /// From the lowest index seen: the receiver may have started later.
    LowestSeen,
}

/// Counts of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounts {
    /// Different messages that arrived.
    pub unique: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicates: u64,
    /// Different messages that arrived after a later one.
    pub reordered: u64,
    /// Number of arrivals that skipped over indices that had not arrived.
    pub gaps: u64,
    /// Arrivals too late to be distinguished from duplicates.
    pub undecided: u64,
    /// Messages before the latest that have not arrived: late or lost. For a sender that states its own count, messages
    /// that it sent; otherwise all indices below the highest.
    pub pending: u64,
    /// Highest index that arrived.
    pub highest: Option<u64>,
}

/// Messages of one process of a sender, by its own count.
#[derive(Clone, Copy, Debug)]
struct Life {
    life: u64,
    /// Count before the first message that this receiver existed for.
    first: u64,
    /// Count up to the latest message that arrived.
    last: u64,
}

/// Number of messages that a sender states to have sent.
#[derive(Debug, Default)]
struct Stated {
    /// At most [`MAX_LIVES`], ascending.
    lives: Vec<Life>,
    /// Messages without a count, and those of lives that are no longer distinguished.
    others: u64,
}

impl Stated {
    fn record(&mut self, base: Base, claim: Option<Claim>) {
        let Some(Claim { life, sent_before }) = claim else {
            self.others += 1;
            return;
        };
        let last = sent_before.saturating_add(1);
        match self.lives.binary_search_by_key(&life, |known| known.life) {
            Ok(at) => {
                let known = &mut self.lives[at];
                known.first = known.first.min(sent_before);
                known.last = known.last.max(last);
            }
            // A late message of a process before the distinguished ones.
            Err(0) if self.lives.len() >= MAX_LIVES => self.others += 1,
            Err(at) => {
                // The receiver existed when a later process began, and may have started after the first one did.
                let first = if base == Base::LowestSeen && self.lives.is_empty() { sent_before } else { 0 };
                self.lives.insert(at, Life { life, first, last });
                if self.lives.len() > MAX_LIVES {
                    let oldest = self.lives.remove(0);
                    self.others = self.others.saturating_add(oldest.last - oldest.first);
                }
            }
        }
    }

    /// Stated number of messages; none if no message contained a count.
    fn count(&self) -> Option<u64> {
        let add = |sum: u64, life: &Life| sum.saturating_add(life.last - life.first);
        (!self.lives.is_empty()).then(|| self.lives.iter().fold(self.others, add))
    }
}

#[derive(Debug)]
struct SenderTracker {
    from: Base,
    /// True if the first counted index of the sender is known.
    begun: bool,
    stated: Stated,
    /// A jump beyond the largest ring, which a second message must confirm.
    leap: Option<u64>,
    base: u64,
    /// One above the highest index that arrived.
    next: u64,
    /// Bit `index % capacity` for each index in `next - capacity..next`.
    ring: Vec<u64>,
    /// True if a missing index at or above `base` has left the ring.
    forgot_missing: bool,
    unique: u64,
    duplicates: u64,
    reordered: u64,
    gaps: u64,
    undecided: u64,
}

impl SenderTracker {
    fn new(from: Base) -> Self {
        Self {
            from,
            begun: from == Base::Zero,
            stated: Stated::default(),
            leap: None,
            base: 0,
            next: 0,
            ring: vec![0; (FIRST_WINDOW / 64) as usize],
            forgot_missing: false,
            unique: 0,
            duplicates: 0,
            reordered: 0,
            gaps: 0,
            undecided: 0,
        }
    }

    fn capacity(&self) -> u64 {
        self.ring.len() as u64 * 64
    }

    fn place(&self, index: u64) -> (usize, u64) {
        let at = index & (self.capacity() - 1);
        ((at / 64) as usize, 1 << (at % 64))
    }

    fn came(&self, index: u64) -> bool {
        let (word, bit) = self.place(index);
        self.ring[word] & bit != 0
    }

    fn set(&mut self, index: u64, came: bool) {
        let (word, bit) = self.place(index);
        if came {
            self.ring[word] |= bit;
        } else {
            self.ring[word] &= !bit;
        }
    }

    /// Lowest index that the ring still contains.
    fn floor(&self) -> u64 {
        self.next.saturating_sub(self.capacity())
    }

    /// True if moving to `next` would forget an index that is missing.
    fn would_forget(&self, next: u64) -> bool {
        let from = self.floor().max(self.base);
        let to = next.saturating_sub(self.capacity());
        // Indices between the old and the new `next` are missing too, except the arriving one.
        to > self.next || (from..to.min(self.next)).any(|index| !self.came(index))
    }

    fn grow(&mut self) {
        let old_floor = self.floor();
        let came: Vec<u64> = (old_floor..self.next).filter(|index| self.came(*index)).collect();
        self.ring = vec![0; self.ring.len() * 2];
        // Indices that the smaller ring dropped had all arrived, because it forgot no missing one.
        let let_go = self.floor().max(self.base)..old_floor;
        for index in let_go.chain(came) {
            self.set(index, true);
        }
    }

    fn advance_to(&mut self, next: u64) {
        while !self.forgot_missing && self.would_forget(next) {
            if self.capacity() >= WINDOW_LIMIT {
                self.forgot_missing = true;
            } else {
                self.grow();
            }
        }
        if next - self.next >= self.capacity() {
            self.ring.fill(0);
        } else {
            for index in self.next..next {
                self.set(index, false);
            }
        }
        self.next = next;
    }

    /// True if an index is so far ahead that it may be false. If the receiver does not know the sender's beginning, a
    /// second message near it makes it credible: a single message must not push all honest messages out of the ring.
    fn is_doubtful(&mut self, index: u64) -> bool {
        if self.from == Base::Zero || index < self.next.saturating_add(WINDOW_LIMIT) {
            self.leap = None;
            return false;
        }
        let confirmed = self.leap.is_some_and(|leap| index != leap && index.abs_diff(leap) < WINDOW_LIMIT);
        self.leap = (!confirmed).then_some(index);
        !confirmed
    }

    fn record(&mut self, index: u64, claim: Option<Claim>) -> DeliveryKind {
        let arrival = self.place_of(index);
        if matches!(arrival, DeliveryKind::InOrder | DeliveryKind::Ahead | DeliveryKind::Reordered) {
            // A count above the index is false.
            self.stated.record(self.from, claim.filter(|claim| claim.sent_before <= index));
        }
        arrival
    }

    fn place_of(&mut self, index: u64) -> DeliveryKind {
        let after = index.checked_add(1).filter(|_| !self.is_doubtful(index));
        let Some(after) = after else {
            self.undecided += 1;
            return DeliveryKind::Undecided;
        };
        if !self.begun {
            (self.base, self.next, self.begun) = (index, index, true);
        }
        if index >= self.next {
            let skipped = index > self.next;
            self.gaps += u64::from(skipped);
            self.advance_to(after);
            self.set(index, true);
            self.unique += 1;
            return if skipped { DeliveryKind::Ahead } else { DeliveryKind::InOrder };
        }
        if index < self.floor() {
            return if index < self.base || self.forgot_missing {
                self.undecided += 1;
                DeliveryKind::Undecided
            } else {
                self.duplicates += 1;
                DeliveryKind::Duplicate
            };
        }
        if self.came(index) {
            self.duplicates += 1;
            return DeliveryKind::Duplicate;
        }
        self.base = self.base.min(index);
        self.set(index, true);
        self.unique += 1;
        self.reordered += 1;
        DeliveryKind::Reordered
    }

    fn counts(&self) -> SenderCounts {
        SenderCounts {
            unique: self.unique,
            duplicates: self.duplicates,
            reordered: self.reordered,
            gaps: self.gaps,
            undecided: self.undecided,
            pending: self.stated.count().unwrap_or(self.next - self.base).saturating_sub(self.unique),
            highest: self.next.checked_sub(1).filter(|_| self.begun),
        }
    }
}

/// Delivery counts of all senders, as one receiver sees them.
#[derive(Debug)]
pub struct DeliveryTracker {
    base: Base,
    senders: BTreeMap<u64, SenderTracker>,
}

impl DeliveryTracker {
    /// An empty tracker. The caller admits only senders of the network, which bounds the memory to [`WINDOW_LIMIT`]
    /// bits a sender.
    pub fn new(base: Base) -> Self {
        Self { base, senders: BTreeMap::new() }
    }

    /// Counts the arrival of message `index` of `sender`, with the sender's own count if the message states one.
    pub fn record(&mut self, sender: u64, index: u64, claim: Option<Claim>) -> DeliveryKind {
        let base = self.base;
        self.senders.entry(sender).or_insert_with(|| SenderTracker::new(base)).record(index, claim)
    }

    /// Messages of all senders that are late or lost now.
    pub fn pending(&self) -> u64 {
        self.senders().fold(0, |sum, (_, counts)| sum.saturating_add(counts.pending))
    }

    /// Senders of which a message arrived, by id, with their counts.
    pub fn senders(&self) -> impl Iterator<Item = (u64, SenderCounts)> + '_ {
        self.senders.iter().map(|(sender, tracker)| (*sender, tracker.counts()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn counts_after(base: Base, indices: &[u64]) -> SenderCounts {
        let mut tracker = DeliveryTracker::new(base);
        for index in indices {
            tracker.record(7, *index, None);
        }
        let (sender, counts) = tracker.senders().next().unwrap();
        assert_eq!(sender, 7);
        assert_eq!(tracker.pending(), counts.pending);
        counts
    }

    #[test]
    fn a_lost_message_stays_pending() {
        let counts = counts_after(Base::Zero, &[0, 1, 3, 4]);
        assert_eq!((counts.unique, counts.pending, counts.gaps), (4, 1, 1));
    }

    #[test]
    fn a_late_message_closes_its_gap_once() {
        let counts = counts_after(Base::Zero, &[0, 2, 1, 1]);
        assert_eq!((counts.unique, counts.pending, counts.reordered, counts.duplicates), (3, 0, 1, 1));
    }

    #[test]
    fn a_lost_first_message_is_a_gap_only_for_a_receiver_that_existed_then() {
        assert_eq!(counts_after(Base::Zero, &[2, 3]).pending, 2);
        assert_eq!(counts_after(Base::LowestSeen, &[2, 3]).pending, 0);
        assert_eq!(counts_after(Base::LowestSeen, &[2, 3, 0]).pending, 1);
    }

    #[test]
    fn a_duplicate_older_than_the_ring_is_still_one_while_all_came() {
        let mut tracker = DeliveryTracker::new(Base::Zero);
        for index in 0..1_000_000 {
            tracker.record(0, index, None);
        }
        assert_eq!(tracker.record(0, 5, None), DeliveryKind::Duplicate);
        assert_eq!(tracker.senders[&0].capacity(), FIRST_WINDOW);
    }

    #[test]
    fn past_the_limit_a_late_arrival_is_called_undecided() {
        let mut tracker = DeliveryTracker::new(Base::Zero);
        for index in 1..WINDOW_LIMIT + 10 {
            tracker.record(0, index, None);
        }
        assert_eq!(tracker.record(0, 0, None), DeliveryKind::Undecided);
        assert_eq!(tracker.record(0, 20, None), DeliveryKind::Duplicate);
        assert_eq!(tracker.pending(), 1);
    }

    fn claims(base: Base, steps: &[(u64, u64, u64)]) -> SenderCounts {
        let mut tracker = DeliveryTracker::new(base);
        for &(index, life, sent_before) in steps {
            tracker.record(7, index, Some(Claim { life, sent_before }));
        }
        tracker.senders().next().unwrap().1
    }

    #[test]
    fn an_index_that_was_never_sent_is_not_pending() {
        // The sender skipped index 1, failed to send index 2, and was restarted between 3 and 50.
        let steps = [(0, 1, 0), (3, 1, 2), (50, 2, 0), (51, 2, 1)];
        let counts = claims(Base::Zero, &steps);
        assert_eq!((counts.unique, counts.pending), (4, 1));
        let late = [&steps[..], &[(2, 1, 1)]].concat();
        assert_eq!(claims(Base::Zero, &late).pending, 0);
    }

    #[test]
    fn a_receiver_that_came_later_misses_only_messages_since() {
        assert_eq!(claims(Base::LowestSeen, &[(100, 1, 90), (101, 1, 91), (103, 1, 93)]).pending, 1);
        assert_eq!(claims(Base::LowestSeen, &[(100, 1, 90), (150, 2, 0)]).pending, 0);
        assert_eq!(claims(Base::LowestSeen, &[(100, 1, 90), (150, 2, 1)]).pending, 1);
    }

    #[test]
    fn a_sender_that_restarts_over_and_over_takes_no_more_memory() {
        let steps: Vec<_> = (0..100).map(|life| (life, life, 0)).chain([(200, 0, 3)]).collect();
        let mut tracker = DeliveryTracker::new(Base::Zero);
        for &(index, life, sent_before) in &steps {
            tracker.record(7, index, Some(Claim { life, sent_before }));
        }
        assert_eq!((tracker.pending(), tracker.senders[&7].stated.lives.len()), (0, MAX_LIVES));
    }

    #[test]
    fn a_single_false_index_does_not_affect_honest_messages() {
        for made_up in [WINDOW_LIMIT + 20, 1 << 40, u64::MAX - 1, u64::MAX] {
            let mut tracker = DeliveryTracker::new(Base::LowestSeen);
            tracker.record(0, 10, None);
            assert_eq!(tracker.record(0, made_up, None), DeliveryKind::Undecided, "{made_up}");
            assert_eq!(tracker.record(0, made_up, None), DeliveryKind::Undecided, "the same again confirms nothing");
            assert_eq!(tracker.record(0, 11, None), DeliveryKind::InOrder);
            assert_eq!(tracker.pending(), 0);

            let mut later = DeliveryTracker::new(Base::LowestSeen);
            assert_eq!(later.record(0, made_up, None), DeliveryKind::Undecided, "{made_up}");
            assert_eq!(later.record(0, 11, None), DeliveryKind::InOrder);
            assert_eq!(later.pending(), 0);
        }
    }

    #[test]
    fn a_true_leap_is_believed_at_its_second_message() {
        let mut tracker = DeliveryTracker::new(Base::LowestSeen);
        tracker.record(0, 0, None);
        assert_eq!(tracker.record(0, 1 << 30, None), DeliveryKind::Undecided);
        assert_eq!(tracker.record(0, (1 << 30) + 1, None), DeliveryKind::Ahead);
        assert_eq!(tracker.record(0, (1 << 30) + 2, None), DeliveryKind::InOrder);
    }

    #[test]
    fn a_hostile_leap_costs_neither_time_nor_memory() {
        let mut tracker = DeliveryTracker::new(Base::Zero);
        tracker.record(0, 0, None);
        assert_eq!(tracker.record(0, u64::MAX, None), DeliveryKind::Undecided);
        assert_eq!(tracker.record(0, u64::MAX - 1, None), DeliveryKind::Ahead);
        assert_eq!(tracker.pending(), u64::MAX - 2);
        assert_eq!(tracker.senders[&0].capacity(), WINDOW_LIMIT);
        tracker.record(1, u64::MAX - 1, None);
        assert_eq!(tracker.pending(), u64::MAX, "the sum saturates");
    }

    proptest! {
        /// Compares with a plain set of all arrivals.
        #[test]
        fn counts_are_those_of_a_set(
            steps in proptest::collection::vec((0..3_u8, 0..700_u64), 1..600),
            zero: bool,
        ) {
            let base = if zero { Base::Zero } else { Base::LowestSeen };
            let mut tracker = DeliveryTracker::new(base);
            let mut model = HashSet::new();
            let (mut next, mut duplicates, mut reordered) = (if zero { 0 } else { 300 }, 0, 0);
            for (kind, jump) in steps {
                let index = match kind {
                    0 => next,
                    1 => next + jump,
                    _ => u64::saturating_sub(next, jump),
                };
                let first = model.is_empty();
                let arrival = tracker.record(9, index, None);
                if arrival == DeliveryKind::Undecided {
                    // Here, only an index below the lowest one seen and below the ring may be undecided.
                    prop_assert!(!zero);
                    continue;
                }
                let new = model.insert(index);
                let expected = match (new, index >= next || first) {
                    (true, true) if index > next && (zero || !first) => DeliveryKind::Ahead,
                    (true, true) => DeliveryKind::InOrder,
                    (true, false) => { reordered += 1; DeliveryKind::Reordered }
                    (false, _) => { duplicates += 1; DeliveryKind::Duplicate }
                };
                prop_assert_eq!(arrival, expected);
                next = if first { index + 1 } else { next.max(index + 1) };
            }
            let counts = tracker.senders().next().unwrap().1;
            prop_assert_eq!(counts.unique, model.len() as u64);
            prop_assert_eq!(counts.duplicates, duplicates);
            prop_assert_eq!(counts.reordered, reordered);
            let lowest = if zero { 0 } else { *model.iter().min().unwrap() };
            prop_assert_eq!(counts.pending, next - lowest - counts.unique);
        }
    }
}
