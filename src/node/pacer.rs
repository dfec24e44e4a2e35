//! Thread that keeps the schedules of all traffic classes, and sends answers. It sleeps on the kernel's fine timer,
//! because tokio's would be up to a millisecond late, and it never slows a schedule down: messages that the network
//! can't take in time become late, or missed. In virtual time, whose timers are exact, it is a task.

use std::{
    iter::Peekable,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::{
        Notify,
        mpsc::{Sender, error::TrySendError},
    },
    task,
};

use super::{
    answers::{Answers, Sleeper},
    plan::TrafficPlan,
    recorder::Recorder,
    schedule::{Slot, Slots},
};
use crate::{
    clock::{self, park_timeout, sleep, timeout, unix_nanos},
    message::{Extension, compose},
    network::Outgoing,
    simulation::spawn,
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

/// The next thing to do.
enum Step {
    /// A message is due.
    Send(Next),
    /// Nothing is due for this time.
    Wait(Duration),
    /// Nothing becomes due any more.
    Over,
}

/// Result of queueing a message.
enum Queued {
    Yes,
    /// The queue is full.
    NotYet(Outgoing),
    /// Nothing can be queued any more.
    Never,
}

/// A running schedule, which ends when it is dropped or stopped.
#[derive(Debug)]
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    running: Option<Running>,
}

#[derive(Debug)]
enum Running {
    Thread(JoinHandle<()>),
    Task(task::JoinHandle<()>),
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
        let running = if clock::is_virtual() {
            Running::Task(spawn(worker.run_in_virtual_time()))
        } else {
            Running::Thread(thread::Builder::new().name("pacer".into()).spawn(move || worker.run())?)
        };
        Ok(Self { stop, over, running: Some(running) })
    }

    /// True if the schedule is at its end: every slot is queued, or counted and given up.
    pub(super) fn is_over(&self) -> bool {
        let has_ended = match &self.running {
            None => true,
            Some(Running::Thread(thread)) => thread.is_finished(),
            Some(Running::Task(task)) => task.is_finished(),
        };
        has_ended || self.over.load(Ordering::Acquire)
    }

    /// Ends the schedule now. Messages that were due and not sent stay counted as intended.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        match self.running.take() {
            Some(Running::Thread(thread)) => {
                thread.thread().unpark();
                // The thread does not panic; if it did, its counts would still be usable.
                let _ = thread.join();
            }
            // It counts a message when it becomes due, so nothing is left to count.
            Some(Running::Task(task)) => task.abort(),
            None => {}
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
            answers.wake(Sleeper::Thread(thread::current()));
        }
        loop {
            match self.step() {
                Step::Over => break,
                // An answer that becomes due wakes the thread.
                Step::Wait(time) => park_timeout(time),
                Step::Send(next) => {
                    let mut queued = self.take(&next);
                    while let Queued::NotYet(message) = queued {
                        park_timeout(RETRY);
                        queued = self.offer(message);
                    }
                    if matches!(queued, Queued::Never) {
                        break;
                    }
                }
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

    async fn run_in_virtual_time(mut self) {
        let woken = Arc::new(Notify::new());
        if let Some((answers, _)) = &self.sending.answers {
            answers.wake(Sleeper::Task(woken.clone()));
        }
        loop {
            match self.step() {
                Step::Over => break,
                Step::Wait(time) => {
                    // It is over with an answer, or with the time.
                    let _ = timeout(time, woken.notified()).await;
                }
                Step::Send(next) => {
                    let mut queued = self.take(&next);
                    while let Queued::NotYet(message) = queued {
                        sleep(RETRY).await;
                        queued = self.offer(message);
                    }
                    if matches!(queued, Queued::Never) {
                        break;
                    }
                }
            }
        }
        self.give_up_the_rest();
        self.over.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The next message of any class, if it is due, or else the wait for it.
    fn step(&mut self) -> Step {
        let scheduled = self.next_scheduled();
        let answer = self.sending.answers.as_ref().and_then(|(answers, _)| answers.next_time());
        let now = unix_nanos();
        let time = scheduled.map(|(_, time)| time).into_iter().chain(answer).min();
        if let Some(time) = time.filter(|time| *time <= now) {
            let of_schedule = scheduled.filter(|(_, scheduled)| *scheduled == time);
            let next = match of_schedule {
                Some((place, _)) => self.take_scheduled(place),
                None => self.take_answer(),
            };
            return next.map_or(Step::Over, Step::Send);
        }
        let last = self.sending.answers.as_ref().map_or(0, |(_, end)| *end);
        let until = match time {
            Some(time) => time,
            None if now < last => last,
            None => return Step::Over,
        };
        if self.is_stopped() {
            return Step::Over;
        }
        Step::Wait(Duration::from_nanos((until - now).min(LONGEST_SLEEP)))
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

    /// Counts a due message as intended, unless it is counted already, and queues it.
    fn take(&self, next: &Next) -> Queued {
        if !next.is_answer {
            self.recorder.intended(next.class, next.slot.intended_unix_nanos);
        }
        if self.is_stopped() {
            return Queued::Never;
        }
        let Sending { sender, trial, plan, .. } = &self.sending;
        let Slot { index, intended_unix_nanos, next_unix_nanos } = next.slot;
        let size = plan.message_size(next.class, *sender, index);
        // The extension is written when the message is handed over.
        let bytes = compose(*sender, index, intended_unix_nanos, size, &Extension::default());
        let (class, trial) = (next.class, *trial);
        self.offer(Outgoing {
            intended_unix_nanos,
            next_unix_nanos,
            handed_over_unix_nanos: 0,
            trial,
            class,
            index,
            bytes,
        })
    }

    /// Queues a message, unless it is too late for that.
    fn offer(&self, message: Outgoing) -> Queued {
        match self.outgoing.try_send(message) {
            Ok(()) => Queued::Yes,
            Err(TrySendError::Closed(_)) => Queued::Never,
            Err(TrySendError::Full(_)) if self.is_stopped() || unix_nanos() > self.sending.deadline => Queued::Never,
            Err(TrySendError::Full(message)) => Queued::NotYet(message),
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
