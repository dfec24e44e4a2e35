//! Due answers: messages whose time is an arrival, and not known in advance.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::Thread,
};

use tokio::sync::Notify;

/// Maximum number of answers that wait for the pacer. Further ones are never sent and count as missed.
const MOST_DUE: usize = 1 << 16;

/// Maximum number of incomplete logical messages that are remembered of one sender: more are incomplete only after
/// parts were lost, and a lost part never arrives.
const MOST_INCOMPLETE: usize = 64;

/// Unsent parts of an answer, by the time of the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// Intended time of the next part, in nanoseconds since the Unix epoch.
    pub(super) intended_unix_nanos: u64,
    /// Traffic class.
    pub(super) class: u16,
    /// Index of the next part.
    pub(super) index: u64,
    /// Parts left, at least 1.
    pub(super) parts: u64,
    /// Nanoseconds from one part to the next.
    pub(super) spacing_nanos: u64,
}

/// Queue between the arrivals and the pacer.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    pacer: Mutex<Option<Sleeper>>,
}

/// A pacer that waits.
#[derive(Debug)]
pub(super) enum Sleeper {
    /// A thread that is parked.
    Thread(Thread),
    /// A task, in virtual time.
    Task(Arc<Notify>),
}

impl Answers {
    fn due(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Due>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the pacer that is woken when an answer becomes due.
    pub(super) fn wake(&self, sleeper: Sleeper) {
        *self.pacer.lock().unwrap_or_else(PoisonError::into_inner) = Some(sleeper);
    }

    /// Queues an answer, if there is room.
    pub(super) fn push(&self, answer: Due) {
        {
            let mut due = self.due();
            if due.len() >= MOST_DUE {
                return;
            }
            due.push(Reverse(answer));
        }
        match &*self.pacer.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Sleeper::Thread(thread)) => thread.unpark(),
            Some(Sleeper::Task(task)) => task.notify_one(),
            None => {}
        }
    }

    /// Time of the earliest part, in nanoseconds since the Unix epoch.
    pub(super) fn next_time(&self) -> Option<u64> {
        self.due().peek().map(|Reverse(answer)| answer.intended_unix_nanos)
    }

    /// Removes the earliest part: its class, index and intended time.
    pub(crate) fn pop(&self) -> Option<(u16, u64, u64)> {
        let mut due = self.due();
        let Reverse(answer) = due.pop()?;
        if answer.parts > 1 {
            due.push(Reverse(Due {
                intended_unix_nanos: answer.intended_unix_nanos.saturating_add(answer.spacing_nanos),
                index: answer.index + 1,
                parts: answer.parts - 1,
                ..answer
            }));
        }
        Some((answer.class, answer.index, answer.intended_unix_nanos))
    }

    /// Removes all answers.
    pub(super) fn clear(&self) {
        self.due().clear();
    }
}

/// Logical messages of one class of which some parts are missing, by sender.
#[derive(Clone, Debug, Default)]
pub(super) struct Incomplete(BTreeMap<u64, BTreeMap<u64, u64>>);

impl Incomplete {
    /// Counts a part of logical message `number` of `sender`, which has `parts` here; true if it was the last missing
    /// one. Each part is counted once.
    pub(super) fn is_last(&mut self, sender: u64, number: u64, parts: u64) -> bool {
        if parts <= 1 {
            return true;
        }
        let of_sender = self.0.entry(sender).or_default();
        let came = of_sender.entry(number).or_default();
        *came += 1;
        if *came >= parts {
            of_sender.remove(&number);
            return true;
        }
        if of_sender.len() > MOST_INCOMPLETE {
            // A part of the oldest message is most likely lost.
            of_sender.pop_first();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logical_message_is_complete_with_its_last_part_in_any_order() {
        let mut incomplete = Incomplete::default();
        let came = [(0, 0), (0, 1), (1, 0), (0, 0), (0, 1), (1, 0)];
        let complete: Vec<bool> = came.map(|(sender, number)| incomplete.is_last(sender, number, 2)).into();
        assert_eq!(complete, [false, false, false, true, true, true]);
        assert!(incomplete.is_last(0, 9, 1), "a message of one part is complete at once");
    }

    #[test]
    fn lost_parts_take_no_more_memory_and_block_nothing() {
        let mut incomplete = Incomplete::default();
        for number in 0..10_000 {
            assert!(!incomplete.is_last(0, number, 2));
        }
        assert_eq!(incomplete.0[&0].len(), MOST_INCOMPLETE);
        assert!(incomplete.is_last(0, 9_999, 2));
        assert!(!incomplete.is_last(0, 5, 2), "a part of one that was forgotten is never the last");
    }

    #[test]
    fn parts_come_out_by_their_times() {
        let answers = Answers::default();
        let due =
            |intended_unix_nanos, class, parts| Due { intended_unix_nanos, class, index: 7, parts, spacing_nanos: 10 };
        answers.push(due(100, 0, 3));
        answers.push(due(105, 1, 1));
        assert_eq!(answers.next_time(), Some(100));
        let all: Vec<_> = std::iter::from_fn(|| answers.pop()).collect();
        assert_eq!(all, [(0, 7, 100), (1, 7, 105), (0, 8, 110), (0, 9, 120)]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let answers = Answers::default();
        (0..MOST_DUE as u64 + 5).for_each(|index| {
            answers.push(Due { intended_unix_nanos: 0, class: 0, index, parts: 1, spacing_nanos: 0 });
        });
        assert_eq!(std::iter::from_fn(|| answers.pop()).count(), MOST_DUE);
    }
}
