//! The interface of the `futures-timer` crate on tokio's timers.
//!
//! The crate of that name has one thread for the whole process, and every timer that is made or dropped wakes it.
//! gossipsub makes a timer for each copy of each message, and a negotiated stream has one too, so that waking and
//! sleeping of that thread was more than a tenth of a node's processor time. Here a timer costs the reading of a clock
//! until it is polled before its time, and an entry in the runtime's own timer wheel from then on. On a thread that
//! simulates, it is a timer of the virtual clock.
#![allow(clippy::disallowed_methods, reason = "the timers of libp2p are those of tokio")]

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

/// Far enough for "never", and near enough to be added to any instant.
const LONGEST: Duration = Duration::from_secs(3600 * 24 * 365 * 30);

fn after(duration: Duration) -> Instant {
    virtual_clock::instant() + duration.min(LONGEST)
}

/// A future that is ready when its time has come. It must be polled inside of a tokio runtime with timers.
pub struct Delay {
    at: Instant,
    timer: Timer,
}

enum Timer {
    /// Not polled before its time yet.
    None,
    Real(Pin<Box<Sleep>>),
    Virtual(virtual_clock::Sleep),
}

impl Delay {
    /// Ready after `duration` from now.
    pub fn new(duration: Duration) -> Self {
        Self { at: after(duration), timer: Timer::None }
    }

    /// Ready after `duration` from now, independent of its former time.
    pub fn reset(&mut self, duration: Duration) {
        self.at = after(duration);
        match &mut self.timer {
            Timer::None => {}
            Timer::Real(sleep) => sleep.as_mut().reset(self.at.into()),
            Timer::Virtual(_) => self.timer = Timer::None,
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        if virtual_clock::instant() >= at {
            return Poll::Ready(());
        }
        if matches!(self.timer, Timer::None) {
            self.timer = match virtual_clock::nanos_of(at) {
                Some(nanos) => Timer::Virtual(virtual_clock::Sleep::until(nanos)),
                None => Timer::Real(Box::pin(sleep_until(at.into()))),
            };
        }
        match &mut self.timer {
            Timer::None => Poll::Pending,
            Timer::Real(sleep) => sleep.as_mut().poll(context),
            Timer::Virtual(sleep) => Pin::new(sleep).poll(context),
        }
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Delay").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_done_in_its_time_and_again_after_a_reset() {
        let begun = Instant::now();
        let mut delay = Delay::new(Duration::from_secs(3600));
        assert!(poll_once(&mut delay).await.is_pending());
        delay.reset(Duration::from_millis(30));
        (&mut delay).await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
        delay.reset(Duration::from_secs(3600));
        assert!(poll_once(&mut delay).await.is_pending());
        delay.reset(Duration::ZERO);
        assert!(poll_once(&mut delay).await.is_ready());
    }

    async fn poll_once(delay: &mut Delay) -> Poll<()> {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *delay).poll(context))).await
    }

    #[test]
    fn in_a_simulation_it_is_a_timer_of_the_virtual_clock() {
        let simulation = virtual_clock::enter(0, 0).expect("no other simulation is on this thread");
        let mut delay = Delay::new(Duration::from_secs(3600));
        let context = &mut Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut delay).poll(context).is_pending());
        assert!(virtual_clock::advance());
        assert_eq!(virtual_clock::now_nanos(), Some(3600 * 1_000_000_000));
        assert!(Pin::new(&mut delay).poll(context).is_ready());
        drop(simulation);
    }

    #[test]
    fn never_is_no_overflow() {
        drop(Delay::new(Duration::MAX));
    }
}
