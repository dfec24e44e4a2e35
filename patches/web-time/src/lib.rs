//! The interface of the `web-time` crate, from which libp2p takes its time, on the clock of the thread: virtual in a
//! simulation, and std's otherwise.
#![allow(clippy::disallowed_methods, reason = "the clock of libp2p is that of the thread")]

use std::{
    ops::{Add, AddAssign, Sub, SubAssign},
    time,
};

pub use std::time::{Duration, SystemTimeError, TryFromFloatSecsError};

/// A moment of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(time::Instant);

impl Instant {
    /// The present moment.
    #[inline]
    pub fn now() -> Self {
        Self(virtual_clock::instant())
    }

    /// Time from an earlier moment to this one; zero if it is a later one.
    #[inline]
    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0)
    }

    /// Time from an earlier moment to this one; none if it is a later one.
    #[inline]
    pub fn checked_duration_since(&self, earlier: Self) -> Option<Duration> {
        self.0.checked_duration_since(earlier.0)
    }

    /// Time from an earlier moment to this one; zero if it is a later one.
    #[inline]
    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Time since this moment.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    /// This moment and `duration`; none if that can't be represented.
    #[inline]
    pub fn checked_add(&self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    /// This moment without `duration`; none if that can't be represented.
    #[inline]
    pub fn checked_sub(&self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(duration).map(Self)
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
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

/// A moment of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemTime(time::SystemTime);

/// The Unix epoch.
pub const UNIX_EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

impl SystemTime {
    /// The Unix epoch.
    pub const UNIX_EPOCH: Self = Self(time::UNIX_EPOCH);

    /// The present moment.
    pub fn now() -> Self {
        Self(match virtual_clock::now_nanos() {
            None => time::SystemTime::now(),
            Some(nanos) => time::UNIX_EPOCH + Duration::from_nanos(nanos),
        })
    }

    /// Time from an earlier moment to this one.
    ///
    /// # Errors
    /// Fails if it is a later one.
    pub fn duration_since(&self, earlier: Self) -> Result<Duration, SystemTimeError> {
        self.0.duration_since(earlier.0)
    }

    /// Time since this moment.
    ///
    /// # Errors
    /// Fails if it is in the future.
    pub fn elapsed(&self) -> Result<Duration, SystemTimeError> {
        Self::now().duration_since(*self)
    }

    /// This moment and `duration`; none if that can't be represented.
    pub fn checked_add(&self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    /// This moment without `duration`; none if that can't be represented.
    pub fn checked_sub(&self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(duration).map(Self)
    }
}

impl Add<Duration> for SystemTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl Sub<Duration> for SystemTime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}
