//! Thread that keeps the schedules of all traffic classes, and sends answers. It sleeps on the kernel's fine timer,
//! because tokio's would be up to a millisecond late, and it never slows a schedule down: messages that the network
//! can't take in time become late, or missed.

use std::{
    iter::Peekable,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{
    answers::Answers,
    plan::TrafficPlan,
    recorder::Recorder,
    schedule::{Slot, Slots},
};
use crate::{
    clock::{park_timeout, unix_nanos},
    message::{Extension, compose},
    network::Outgoing,
};

/// Pause before the next attempt to use a full queue.
const RETRY: Duration = Duration::from_micros(500);

/// Maximum time of one sleep, because the clock may be set meanwhile.
const LONGEST_SLEEP: u64 = 1_000_000_000;

/// Everything that a node sends from now on.
#[derive(Debug)]
pub(super) struct Sending {
    /// Id of this node.
    pub(super) sender: u64,
    /// Trial of explore mode.
    pub(super) trial: u32,
    /// Traffic, for the sizes of the messages.
    pub(super) plan: Arc<TrafficPlan>,
    /// Slots of each class with a schedule, by ascending class number.
    pub(super) slots: Vec<(u16, Peekable<Slots>)>,
    /// Answers, and the end of the time in which they can become due, in nanoseconds since the Unix epoch.
    pub(super) answers: Option<(Arc<Answers>, u64)>,
    /// Time after which messages are only counted as intended, in nanoseconds since the Unix epoch.
    pub(super) deadline: u64,
}

/// A due message.
#[derive(Clone, Copy, Debug)]
struct Next {
    class: u16,
    slot: Slot,
    /// Answers are counted as intended when they become due.
    is_answer: bool,
}

/// A running schedule, which ends when it is dropped or stopped.
#[derive(Debug)]
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Starts to send: composes each message when it is due and queues it on `outgoing`.
    pub(super) fn start(
        sending: Sending,
        outgoing: Sender<Outgoing>,
        recorder: Arc<Recorder>,
    ) -> std::io::Result<Self> {
        let (stop, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, done) = (stop.clone(), over.clone());
        let worker = Worker { sending, outgoing, recorder, stop: stopped, over: done };
        let thread = thread::Builder::new().name("pacer".into()).spawn(move || worker.run())?;
        Ok(Self { stop, over, thread: Some(thread) })
    }

    /// True if the schedule is at its end: every slot is queued, or counted and given up.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the schedule now. Messages that were due and not sent stay counted as intended.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread does not panic; if it did, its counts would still be usable.
            let _ = thread.join();
        }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    sending: Sending,
    outgoing: Sender<Outgoing>,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        // By default the kernel may wake a thread 50 us late to save power. If it refuses this setting, lag grows by
        // that.
        let _ = nix::sys::prctl::set_timerslack(1);
        if let Some((answers, _)) = &self.sending.answers {
            answers.wake_me();
        }
        while let Some(next) = self.wait_for_next() {
            if !next.is_answer {
                self.recorder.intended(next.class, next.slot.intended_unix_nanos);
            }
            if self.is_stopped() || !self.queue(&next) {
                break;
            }
        }
        self.give_up_the_rest();
        self.over.store(true, Ordering::Release);
        // The kernel forgets the time that a thread waited for a processor when the thread ends, and this time is read
        // later.
        while !self.is_stopped() {
            thread::park();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps until the next message of any class is due; none if no further one exists, or if stopped before.
    fn wait_for_next(&mut self) -> Option<Next> {
        loop {
            let scheduled = self.next_scheduled();
            let answer = self.sending.answers.as_ref().and_then(|(answers, _)| answers.next_time());
            let now = unix_nanos();
            let time = scheduled.map(|(_, time)| time).into_iter().chain(answer).min();
            if let Some(time) = time.filter(|time| *time <= now) {
                let of_schedule = scheduled.filter(|(_, scheduled)| *scheduled == time);
                return match of_schedule {
                    Some((place, _)) => self.take_scheduled(place),
                    None => self.take_answer(),
                };
            }
            let last = self.sending.answers.as_ref().map_or(0, |(_, end)| *end);
            let until = match time {
                Some(time) => time,
                None if now < last => last,
                None => return None,
            };
            if self.is_stopped() {
                return None;
            }
            // An answer that becomes due wakes the thread.
            park_timeout(Duration::from_nanos((until - now).min(LONGEST_SLEEP)));
        }
    }

    /// Place and time of the earliest slot of all classes; of equal ones that of the lowest class.
    fn next_scheduled(&mut self) -> Option<(usize, u64)> {
        let slots = self.sending.slots.iter_mut().enumerate();
        let times = slots.filter_map(|(place, (_, slots))| Some((place, slots.peek()?.intended_unix_nanos)));
        times.min_by_key(|(_, time)| *time)
    }

    fn take_scheduled(&mut self, place: usize) -> Option<Next> {
        let (class, slots) = self.sending.slots.get_mut(place)?;
        Some(Next { class: *class, slot: slots.next()?, is_answer: false })
    }

    fn take_answer(&mut self) -> Option<Next> {
        let (class, index, intended_unix_nanos) = self.sending.answers.as_ref()?.0.pop()?;
        // The time of the next answer is unknown, so no answer is late.
        let slot = Slot { index, intended_unix_nanos, next_unix_nanos: u64::MAX };
        Some(Next { class, slot, is_answer: true })
    }

    /// Queues a message; `false` if nothing can be queued any more.
    fn queue(&self, next: &Next) -> bool {
        let Sending { sender, trial, plan, deadline, .. } = &self.sending;
        let Slot { index, intended_unix_nanos, next_unix_nanos } = next.slot;
        let size = plan.message_size(next.class, *sender, index);
        // The extension is written when the message is handed over.
        let bytes = compose(*sender, index, intended_unix_nanos, size, &Extension::default());
        let (class, trial) = (next.class, *trial);
        let mut message =
            Outgoing { intended_unix_nanos, next_unix_nanos, handed_over_unix_nanos: 0, trial, class, index, bytes };
        loop {
            message = match self.outgoing.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(message)) => message,
            };
            if self.is_stopped() || unix_nanos() > *deadline {
                return false;
            }
            park_timeout(RETRY);
        }
    }

    /// Counts the messages that are due and will not be sent; answers are counted already.
    fn give_up_the_rest(&mut self) {
        let due_by = if self.is_stopped() { unix_nanos() } else { u64::MAX };
        let due_by = due_by.min(self.sending.deadline);
        for (class, slots) in &mut self.sending.slots {
            while let Some(slot) = slots.next_if(|slot| slot.intended_unix_nanos <= due_by) {
                self.recorder.intended(*class, slot.intended_unix_nanos);
            }
        }
    }
}
