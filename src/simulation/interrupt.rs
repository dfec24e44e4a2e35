//! Interruption of a simulation by another thread.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

/// Request to end a simulation, which another thread may make.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Interrupting>);

#[derive(Debug, Default)]
struct Interrupting {
    asked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Interrupt {
    /// Asks the simulation to end.
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::Release);
    }

    /// True if it was asked to end.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is asked; only inside of the simulation.
    pub async fn asked(&self) {
        std::future::poll_fn(|context| {
            if self.is_asked() {
                return Poll::Ready(());
            }
            *self.waker() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Wakes the task that waits, if it was asked.
    pub(super) fn deliver(&self) {
        if self.is_asked()
            && let Some(waker) = self.waker().take()
        {
            waker.wake();
        }
    }
}
