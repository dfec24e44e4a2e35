//! The interface of the `futures-timer` crate on tokio's timers.
//!
//! The crate of that name has one thread for the whole process, and every timer that is made or dropped wakes it.
//! gossipsub makes a timer for each copy of each message, and a negotiated stream has one too, so that waking and
//! sleeping of that thread was more than a tenth of a node's processor time. Here a timer costs the reading of a clock
//! until it is polled before its time, and an entry in the runtime's own timer wheel from then on.
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
    Instant::now() + duration.min(LONGEST)
}

/// A future that is ready when its time has come. It must be polled inside of a tokio runtime with timers.
pub struct Delay {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Delay {
    /// Ready after `duration` from now.
    pub fn new(duration: Duration) -> Self {
        Self { at: after(duration), sleep: None }
    }

    /// Ready after `duration` from now, independent of its former time.
    pub fn reset(&mut self, duration: Duration) {
        self.at = after(duration);
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(self.at.into());
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at.into()))).as_mut().poll(context)
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
    fn never_is_no_overflow() {
        drop(Delay::new(Duration::MAX));
    }
}
