//! Time and randomness of a thread: those of the machine, unless the thread simulates.
//!
//! A thread that has called [`enter`] has a clock of its own, which stands still while code runs, and which [`advance`]
//! moves to the next event: a timer, or a call that other code has scheduled. Random numbers of the operating system are
//! then a function of the seed. Every other thread has the clock and the random numbers of the machine. The decision is
//! the thread's, so that the same code runs in both, without a type parameter.
#![allow(clippy::disallowed_methods, reason = "the clocks of the machine stand behind this crate")]

mod events;
mod random;
mod sleep;

pub use events::{
    Call, Guard, advance, advance_until, enter, is_virtual, move_to, next_at, now_nanos, schedule, start_nanos,
};
pub use sleep::Sleep;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Instant of the machine that stands for the begin of every simulation: instants of a simulation are this one and the
/// time since its begin, so that they have the type of all other instants.
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// The present moment of the monotonic clock of this thread.
#[inline]
pub fn instant() -> Instant {
    match now_nanos() {
        None => Instant::now(),
        Some(now) => base() + Duration::from_nanos(now - start_nanos()),
    }
}

/// Nanoseconds since the Unix epoch of an instant of this simulation; none outside of one.
pub fn nanos_of(instant: Instant) -> Option<u64> {
    now_nanos()?;
    let since = u64::try_from(instant.saturating_duration_since(base()).as_nanos()).unwrap_or(u64::MAX);
    Some(start_nanos().saturating_add(since))
}

#[cfg(test)]
mod tests;
