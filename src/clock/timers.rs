//! Monotonic instants, and waiting for them.

use std::{
    future::Future,
    ops::{Add, AddAssign},
    pin::pin,
    thread,
    time::Duration,
};

use futures::{
    TryFutureExt,
    future::{Either, select},
};
use tokio::time;
use virtual_clock::Sleep;

use super::run::{follow, unix_nanos};

/// A moment of the monotonic clock, which nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// The present moment.
    #[inline]
    pub fn now() -> Self {
        Self(virtual_clock::instant())
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

/// Timer of the virtual clock that ends `duration` from now; none on a thread that does not simulate.
fn virtual_sleep(duration: Duration) -> Option<Sleep> {
    let now = virtual_clock::now_nanos()?;
    Some(Sleep::until(now.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))))
}

/// Waits for `duration`, from the call on.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    match virtual_sleep(duration) {
        None => Either::Left(time::sleep(duration)),
        Some(sleep) => Either::Right(sleep),
    }
}

/// Waits until `instant`.
pub fn sleep_until(instant: Instant) -> impl Future<Output = ()> {
    match virtual_clock::nanos_of(instant.0) {
        None => Either::Left(time::sleep_until(instant.0.into())),
        Some(nanos) => Either::Right(Sleep::until(nanos)),
    }
}

/// Waits for `future`, for at most `limit` from the call on.
pub fn timeout<F: Future>(limit: Duration, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    match virtual_sleep(limit) {
        None => Either::Left(time::timeout(limit, future).map_err(|_| Elapsed)),
        Some(sleep) => Either::Right(async move {
            // A future that is ready at the limit is ready.
            match select(pin!(future), sleep).await {
                Either::Left((output, _)) => Ok(output),
                Either::Right(_) => Err(Elapsed),
            }
        }),
    }
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
pub struct Interval(Ticks);

#[derive(Debug)]
enum Ticks {
    Real(time::Interval),
    Virtual { next: Sleep, period: Duration },
}

impl Interval {
    /// Waits for the next tick.
    pub async fn tick(&mut self) {
        match &mut self.0 {
            Ticks::Real(ticks) => {
                ticks.tick().await;
            }
            Ticks::Virtual { next, period } => {
                (&mut *next).await;
                if let Some(later) = virtual_sleep(*period) {
                    *next = later;
                }
            }
        }
    }
}

/// Ticks at once, and then every `period`, which must not be zero.
pub fn interval(period: Duration) -> Interval {
    if let Some(next) = virtual_sleep(Duration::ZERO) {
        return Interval(Ticks::Virtual { next, period });
    }
    let mut ticks = time::interval(period);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    Interval(Ticks::Real(ticks))
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
    fn a_thread_that_simulates_waits_in_virtual_time_and_libp2ps_clock_stands_still_with_it() {
        let simulation = virtual_clock::enter(7 * READ_AGAIN, 0).unwrap();
        let (begun, of_libp2p) = (Instant::now(), web_time::Instant::now());
        let mut ticks = interval(LONG);
        let mut waiting = pin!(async {
            ticks.tick().await;
            ticks.tick().await;
            sleep_until_nanos(7 * READ_AGAIN + 2 * u64::try_from(LONG.as_nanos()).unwrap()).await;
            timeout(LONG, pending::<()>()).await
        });
        block_for(SHORT);
        // A kept lock file would leave the crate as it is on crates.io, whose clock goes on.
        assert_eq!((begun.elapsed(), of_libp2p.elapsed()), (Duration::ZERO, Duration::ZERO));
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        while waiting.as_mut().poll(context).is_pending() {
            assert!(virtual_clock::advance());
        }
        assert_eq!((begun.elapsed(), of_libp2p.elapsed()), (3 * LONG, 3 * LONG));
        assert_eq!(unix_nanos(), 187 * READ_AGAIN);
        drop(simulation);
    }

    #[test]
    fn an_instant_is_not_before_an_earlier_one_and_the_time_to_a_later_one_is_zero() {
        let earlier = Instant::now();
        let later = earlier + SHORT;
        assert_eq!(later.duration_since(earlier), SHORT);
        assert_eq!(earlier.duration_since(later), Duration::ZERO);
    }
}
