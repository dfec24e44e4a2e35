//! Monotonic instants, and waiting for them.

use std::{
    future::Future,
    ops::{Add, AddAssign},
    thread,
    time::Duration,
};

use futures::TryFutureExt;
use tokio::time;

use super::run::{follow, unix_nanos};

/// A moment of the monotonic clock, which nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// The present moment.
    #[inline]
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// Time since this moment.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        Self::now().duration_since(*self)
    }

    /// Time from an earlier moment to this one; zero if it is a later one.
    #[inline]
    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    #[inline]
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// The limit of a [`timeout`] was over before its future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

/// Waits for `duration`, from the call on.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    time::sleep(duration)
}

/// Waits until `instant`.
pub fn sleep_until(instant: Instant) -> impl Future<Output = ()> {
    time::sleep_until(instant.0.into())
}

/// Waits for `future`, for at most `limit` from the call on.
pub fn timeout<F: Future>(limit: Duration, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    time::timeout(limit, future).map_err(|_| Elapsed)
}

/// Maximum time between two readings of the clock of the run, in nanoseconds, because a node without a common start follows
/// a wall clock that may be set.
const READ_AGAIN: u64 = 1_000_000_000;

/// Waits until the clock of the run reaches `time`, in nanoseconds since the Unix epoch.
pub async fn sleep_until_nanos(time: u64) {
    loop {
        let now = unix_nanos();
        if now >= time {
            return;
        }
        sleep(Duration::from_nanos((time - now).min(READ_AGAIN))).await;
    }
}

/// Time before a start at which the wall clock is read for the last time, in nanoseconds.
const SHORTLY: u64 = 1_000_000_000;

/// Waits until one second before `time` by the wall clock, which may be set meanwhile; in nanoseconds since the Unix epoch.
pub async fn sleep_until_shortly_before(time: u64) {
    loop {
        follow();
        let left = time.saturating_sub(unix_nanos()).saturating_sub(SHORTLY);
        if left == 0 {
            return;
        }
        sleep(Duration::from_nanos(left.min(READ_AGAIN))).await;
    }
}

/// A clock that ticks at a constant pace; a tick that is taken late delays those after it.
#[derive(Debug)]
pub struct Interval(time::Interval);

impl Interval {
    /// Waits for the next tick.
    pub async fn tick(&mut self) {
        self.0.tick().await;
    }
}

/// Ticks at once, and then every `period`, which must not be zero.
pub fn interval(period: Duration) -> Interval {
    let mut ticks = time::interval(period);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    Interval(ticks)
}

/// Blocks this thread for `duration`.
pub fn block_for(duration: Duration) {
    thread::sleep(duration);
}

/// Blocks this thread until another one unparks it, for at most `limit`. The kernel's timer ends it, which is finer than that
/// of [`sleep`], whose unit is a millisecond.
pub fn park_timeout(limit: Duration) {
    thread::park_timeout(limit);
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn sleeps_and_ticks_end_at_their_time_and_not_before() {
        let begun = Instant::now();
        sleep(SHORT).await;
        assert!(begun.elapsed() >= SHORT);
        sleep_until(begun + 2 * SHORT).await;
        assert!(begun.elapsed() >= 2 * SHORT);
        let mut ticks = interval(SHORT);
        let first = Instant::now();
        ticks.tick().await;
        assert!(first.elapsed() < LONG);
        ticks.tick().await;
        assert!(first.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn a_timeout_ends_a_future_that_is_never_ready_and_gives_what_another_gives() {
        let begun = Instant::now();
        assert_eq!(timeout(SHORT, pending::<()>()).await, Err(Elapsed));
        assert!(begun.elapsed() >= SHORT);
        assert_eq!(timeout(LONG, ready(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn a_sleep_until_a_time_of_the_run_ends_at_it_and_at_once_if_it_is_past() {
        let time = unix_nanos() + u64::try_from(SHORT.as_nanos()).unwrap();
        sleep_until_nanos(time).await;
        assert!(unix_nanos() >= time);
        let begun = Instant::now();
        sleep_until_nanos(time).await;
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn an_instant_is_not_before_an_earlier_one_and_the_time_to_a_later_one_is_zero() {
        let earlier = Instant::now();
        let later = earlier + SHORT;
        assert_eq!(later.duration_since(earlier), SHORT);
        assert_eq!(earlier.duration_since(later), Duration::ZERO);
    }
}
