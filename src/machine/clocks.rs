//! Detection of a wall clock that was set, of time that ran fast or slow, and of a suspended machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Reading, SET_BY};

/// Maximum number of steps that are kept; further ones are only counted.
const MOST_STEPS: usize = 16;

/// Clocks since the process took its start, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockReport {
    /// Time for which the clocks were watched.
    pub watched_micros: u64,
    /// Amount of each setting of the wall clock by more than a millisecond between two samples; the first 16.
    pub steps_micros: Vec<i64>,
    /// Number of settings.
    pub steps: u64,
    /// Movement of the wall clock against the monotonic one, without these steps.
    pub drift_micros: i64,
    /// Movement of both clocks against the processor's own counter, caused by a time service.
    pub slew_micros: i64,
    /// Time for which the machine was suspended.
    pub suspended_micros: u64,
    /// Value of the run's clock at the zero of the monotonic clock, in nanoseconds since the Unix epoch; none while it
    /// follows the wall clock.
    #[serde(default)]
    pub base_unix_nanos: Option<u64>,
}

#[derive(Debug)]
pub(super) struct ClockWatch {
    first: Reading,
    last: Reading,
    steps_micros: Vec<i64>,
    steps: u64,
    /// Sum of all steps, in nanoseconds.
    stepped: i128,
}

/// Difference between the movements of two clocks.
fn moved(from: &Reading, to: &Reading, one: fn(&Reading) -> u64, other: fn(&Reading) -> u64) -> i128 {
    let moved = |clock: fn(&Reading) -> u64| i128::from(clock(to)) - i128::from(clock(from));
    moved(one) - moved(other)
}

fn micros(nanos: i128) -> i64 {
    i64::try_from(nanos / 1000).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

impl ClockWatch {
    pub(super) fn new(now: &Reading) -> Self {
        Self { first: *now, last: *now, steps_micros: vec![], steps: 0, stepped: 0 }
    }

    /// Takes a sample, and returns the amount by which the wall clock was set since the last one.
    pub(super) fn sample(&mut self, now: &Reading) -> Option<i64> {
        // Compared with the clock that goes on during a suspension, as the wall clock does.
        let step = moved(&self.last, now, |at| at.wall, |at| at.boot);
        let error = u128::from(self.last.error.saturating_add(now.error));
        self.last = *now;
        if step.unsigned_abs() <= SET_BY.as_nanos() + error {
            return None;
        }
        self.stepped += step;
        self.steps += 1;
        if self.steps_micros.len() < MOST_STEPS {
            self.steps_micros.push(micros(step));
        }
        Some(micros(step))
    }

    pub(super) fn report(&self) -> ClockReport {
        let (first, last) = (&self.first, &self.last);
        let suspended = moved(first, last, |at| at.boot, |at| at.monotonic);
        ClockReport {
            watched_micros: last.boot.saturating_sub(first.boot) / 1000,
            steps_micros: self.steps_micros.clone(),
            steps: self.steps,
            drift_micros: micros(moved(first, last, |at| at.wall, |at| at.boot) - self.stepped),
            slew_micros: micros(moved(first, last, |at| at.monotonic, |at| at.raw)),
            suspended_micros: u64::try_from(suspended / 1000).unwrap_or_default(),
            base_unix_nanos: clock::settled_base(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// All clocks, `millis` after some moment.
    fn at(millis: u64) -> Reading {
        let nanos = 1_000_000 * MS + millis * MS;
        Reading { wall: 9_000_000 * MS + millis * MS, monotonic: nanos, raw: nanos, boot: nanos, error: 0 }
    }

    #[test]
    fn a_clock_that_is_set_forth_and_back_was_set_twice() {
        let mut watch = ClockWatch::new(&at(0));
        assert_eq!(watch.sample(&at(1000)), None);
        let ahead = Reading { wall: at(2000).wall + 2000 * MS, ..at(2000) };
        assert_eq!(watch.sample(&ahead), Some(2_000_000));
        assert_eq!(watch.sample(&at(3000)), Some(-2_000_000));
        let report = watch.report();
        assert_eq!((report.steps, report.steps_micros, report.drift_micros), (2, vec![2_000_000, -2_000_000], 0));
        assert_eq!(report.watched_micros, 3_000_000);
    }

    #[test]
    fn a_clock_that_moves_little_by_little_drifts_and_is_not_set() {
        let mut watch = ClockWatch::new(&at(0));
        for second in 1..=10 {
            let slow = Reading { wall: at(second * 1000).wall - second * MS / 2, ..at(second * 1000) };
            assert_eq!(watch.sample(&slow), None);
        }
        assert_eq!((watch.report().steps, watch.report().drift_micros), (0, -5000));
    }

    #[test]
    fn a_reading_that_took_long_is_no_step() {
        let mut watch = ClockWatch::new(&at(0));
        let held_up = Reading { wall: at(1000).wall + 5 * MS, error: 5 * MS, ..at(1000) };
        assert_eq!(watch.sample(&held_up), None);
    }

    #[test]
    fn a_suspended_machine_is_known_from_a_clock_that_was_set() {
        let mut watch = ClockWatch::new(&at(0));
        let awake = Reading { monotonic: at(1000).monotonic, raw: at(1000).raw, ..at(61_000) };
        assert_eq!(watch.sample(&awake), None);
        assert_eq!(watch.report().suspended_micros, 60_000_000);
    }

    #[test]
    fn only_so_many_steps_are_kept() {
        let mut watch = ClockWatch::new(&at(0));
        for second in 1..=100 {
            watch.sample(&Reading { wall: at(0).wall, ..at(second * 1000) });
        }
        assert_eq!((watch.report().steps, watch.report().steps_micros.len()), (100, MOST_STEPS));
    }
}
