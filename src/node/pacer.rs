//! The thread that keeps the schedule. It sleeps on the kernel's fine timer, where tokio's would be up to a millisecond
//! late, and it never slows the schedule down: what the network can't take in time becomes late, or missed.

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
    clock::unix_nanos,
    recorder::Recorder,
    schedule::{Slot, Slots},
};
use crate::{
    message::{Extension, compose},
    network::Outgoing,
};

/// Pause before a full queue is tried again.
const RETRY: Duration = Duration::from_micros(500);

/// What is composed for each slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    pub(super) sender: u64,
    pub(super) message_size: usize,
    pub(super) trial: u32,
}

/// A running schedule; dropped or stopped, it ends.
#[derive(Debug)]
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Starts to work off `slots`: composes each message when it is due and queues it on `outgoing`. What is not
    /// queued by `deadline`, in nanoseconds since the Unix epoch, is only counted as intended.
    pub(super) fn start(
        slots: Peekable<Slots>,
        template: Template,
        outgoing: Sender<Outgoing>,
        recorder: Arc<Recorder>,
        deadline: u64,
    ) -> std::io::Result<Self> {
        let (stop, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, done) = (stop.clone(), over.clone());
        let worker = Worker { slots, template, outgoing, recorder, deadline, stop: stopped, over: done };
        let thread = thread::Builder::new().name("pacer".into()).spawn(move || worker.run())?;
        Ok(Self { stop, over, thread: Some(thread) })
    }

    /// Whether the schedule is at its end: every slot is queued, or counted and given up.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the schedule now. What was due and not sent stays counted as intended.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; if it did, the counts are what they are.
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
    slots: Peekable<Slots>,
    template: Template,
    outgoing: Sender<Outgoing>,
    recorder: Arc<Recorder>,
    deadline: u64,
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        // The default lets the kernel wake a thread 50 us late to save power. Where it is refused, lag grows by that.
        let _ = nix::sys::prctl::set_timerslack(1);
        while let Some(slot) = self.slots.next() {
            if !self.wait_for(slot.intended_unix_nanos) {
                return;
            }
            self.recorder.intended(&slot);
            if self.stop.load(Ordering::Relaxed) || !self.queue(&slot) {
                break;
            }
        }
        self.give_up_the_rest();
        self.over.store(true, Ordering::Release);
        // The kernel forgets how long a thread has waited for a processor when it ends, and that is asked later.
        while !self.stop.load(Ordering::Relaxed) {
            thread::park();
        }
    }

    /// Sleeps until `time`; `false` when stopped before.
    fn wait_for(&self, time: u64) -> bool {
        loop {
            let now = unix_nanos();
            if now >= time {
                return true;
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            // Looks at the clock at least once a second, should it be set meanwhile.
            thread::park_timeout(Duration::from_nanos((time - now).min(1_000_000_000)));
        }
    }

    /// Queues the slot's message; `false` when nothing can be queued any more.
    fn queue(&self, slot: &Slot) -> bool {
        let Template { sender, message_size, trial } = self.template;
        let (intended_unix_nanos, next_unix_nanos) = (slot.intended_unix_nanos, slot.next_unix_nanos);
        // The extension is stamped when the message is handed over.
        let bytes = compose(sender, slot.index, intended_unix_nanos, message_size, &Extension::default());
        let (class, index) = (0, slot.index);
        let mut message =
            Outgoing { intended_unix_nanos, next_unix_nanos, handed_over_unix_nanos: 0, trial, class, index, bytes };
        loop {
            message = match self.outgoing.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(message)) => message,
            };
            if self.stop.load(Ordering::Relaxed) || unix_nanos() > self.deadline {
                return false;
            }
            thread::park_timeout(RETRY);
        }
    }

    /// Counts what is due and will not be sent.
    fn give_up_the_rest(&mut self) {
        let due_by = if self.stop.load(Ordering::Relaxed) { unix_nanos() } else { u64::MAX };
        while let Some(slot) = self.slots.next_if(|slot| slot.intended_unix_nanos <= due_by.min(self.deadline)) {
            self.recorder.intended(&slot);
        }
    }
}
