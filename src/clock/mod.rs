//! The time of this process: its clocks, and all waiting. Every other module takes both from here, because one place must
//! decide the time of a thread; clippy refuses the clocks and timers of other crates elsewhere (`clippy.toml`). On a thread
//! that simulates (`patches/virtual-clock`), all of it is virtual.
#![allow(clippy::disallowed_methods, reason = "the clocks and timers of the machine stand behind this module")]

mod run;
mod timers;

pub use run::{
    BASE_VARIABLE, Base, ClockReading, Reading, SET_BY, adopt, base_for_others, check, follow, follow_steps,
    is_virtual, machine, machine_elapsed, settle, settled_base, timestamp, unix_nanos, wall_nanos,
};
pub use timers::{
    Elapsed, Instant, Interval, block_for, interval, park_timeout, sleep, sleep_until, sleep_until_nanos,
    sleep_until_shortly_before, timeout,
};
