//! Timers of a simulation.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::events::{add_timer, now_nanos, poll_timer, remove_timer};

/// A future that is ready when the virtual clock of this thread has reached its time.
#[derive(Debug)]
pub struct Sleep {
    at: u64,
    timer: Option<(u32, u32)>,
}

impl Sleep {
    /// Ready at `at`, in nanoseconds since the Unix epoch.
    pub fn until(at: u64) -> Self {
        Self { at, timer: None }
    }

    /// Ready at `at`, independent of its former time.
    pub fn reset(&mut self, at: u64) {
        self.stop();
        self.at = at;
    }

    /// Time at which it is ready, in nanoseconds since the Unix epoch.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            remove_timer(timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Outside of a simulation nobody moves the clock: it would never end.
        if now_nanos().is_none_or(|now| now >= self.at) {
            self.stop();
            return Poll::Ready(());
        }
        match self.timer {
            Some(timer) if poll_timer(timer, context.waker()) => {
                self.stop();
                Poll::Ready(())
            }
            Some(_) => Poll::Pending,
            None => {
                self.timer = Some(add_timer(self.at, context.waker()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.stop();
    }
}
