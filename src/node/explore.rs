//! Explore mode: its trials, and their times.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::MAX_EXPLORE_MESSAGE_SIZE;

/// Heartbeats of the trials, in milliseconds.
const HEARTBEATS: [u64; 16] = [1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 150, 200, 250, 500, 1000];

/// Maximum number of trials of a run: every heartbeat with every size from 1 KiB to 4 MiB.
pub(super) const MOST_TRIALS: usize = HEARTBEATS.len() * 13;

/// Minimum size of a message in a trial, in bytes; each further size is its double, up to [`MAX_EXPLORE_MESSAGE_SIZE`].
const SMALLEST: usize = 1024;

/// Maximum drain after a trial; the rest of the cool-down belongs to the rebuilt network.
const LONGEST_DRAIN: Duration = Duration::from_secs(10);

/// Maximum duration of a trial's traffic before its window opens; it takes up to a quarter of the cool-down.
const MAX_WARM_UP: Duration = Duration::from_secs(2);

/// Load of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialPlan {
    /// Size of a whole message, in bytes.
    pub message_size: usize,
    /// Heartbeat, in milliseconds.
    pub heartbeat_millis: u64,
}

impl TrialPlan {
    /// Offered bytes per second.
    pub fn throughput(&self) -> f64 {
        self.message_size as f64 * 1000.0 / self.heartbeat_millis as f64
    }
}

/// Trials with at least this message size, in bytes, and throughput, in bytes per second, by ascending throughput.
/// Trials of equal throughput keep their order: by size, then by heartbeat.
pub fn trials(min_message_size: usize, min_throughput: f64) -> Vec<TrialPlan> {
    let sizes = std::iter::successors(Some(SMALLEST), |size| Some(size * 2))
        .take_while(|size| *size <= MAX_EXPLORE_MESSAGE_SIZE);
    let mut trials: Vec<TrialPlan> = sizes
        .flat_map(|message_size| HEARTBEATS.map(|heartbeat_millis| TrialPlan { message_size, heartbeat_millis }))
        .filter(|trial| trial.message_size >= min_message_size && trial.throughput() >= min_throughput)
        .collect();
    trials.sort_by(|a, b| a.throughput().total_cmp(&b.throughput()));
    trials
}

/// Times of a trial, in nanoseconds since the Unix epoch. Every node computes the same times from the run's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialTimes {
    /// Begin of the traffic that is not measured.
    pub warm_up_unix_nanos: u64,
    /// Opening of the measured window.
    pub from_unix_nanos: u64,
    /// End of the measured window.
    pub to_unix_nanos: u64,
    /// End of counting arrivals; afterwards the network is rebuilt for the next trial.
    pub drained_unix_nanos: u64,
}

impl TrialTimes {
    /// Times of trial `number`, from 0, of a run that starts at `start`: a cool-down, whose end is the trial's warm-up,
    /// then the window. The first half of the next cool-down, at most ten seconds, drains the network; then it is
    /// rebuilt.
    pub fn new(start_unix_nanos: u64, number: usize, cool_down: Duration, run: Duration) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let drain = nanos((cool_down / 2).min(LONGEST_DRAIN));
        let cycle = nanos(cool_down).saturating_add(nanos(run));
        let begin = start_unix_nanos.saturating_add(cycle.saturating_mul(number as u64));
        let from = begin.saturating_add(nanos(cool_down));
        let to = from.saturating_add(nanos(run));
        let warm_up_unix_nanos = from.saturating_sub(nanos((cool_down / 4).min(MAX_WARM_UP)));
        Self {
            warm_up_unix_nanos,
            from_unix_nanos: from,
            to_unix_nanos: to,
            drained_unix_nanos: to.saturating_add(drain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_leave_169_of_208_trials() {
        assert_eq!((trials(0, 0.0).len(), MOST_TRIALS), (208, 208));
        assert_eq!(trials(1024, 102_400.0).len(), 169);
    }

    #[test]
    fn trials_ascend_and_equals_keep_their_order() {
        let trials = trials(1024, 102_400.0);
        assert!(trials.is_sorted_by_key(|trial| trial.throughput()));
        assert_eq!(trials[0], TrialPlan { message_size: 1024, heartbeat_millis: 10 });
        assert_eq!(trials[1], TrialPlan { message_size: 2048, heartbeat_millis: 20 });
        assert_eq!(trials[168], TrialPlan { message_size: 4 << 20, heartbeat_millis: 1 });
    }

    #[test]
    fn a_trial_drains_in_the_first_half_of_the_next_cool_down() {
        let seconds = |count: u64| count * 1_000_000_000;
        let times = |number| TrialTimes::new(seconds(5), number, Duration::from_secs(4), Duration::from_secs(10));
        assert_eq!(times(0).warm_up_unix_nanos, seconds(8));
        assert_eq!(times(0).from_unix_nanos, seconds(9));
        assert_eq!(times(0).to_unix_nanos, seconds(19));
        assert_eq!(times(0).drained_unix_nanos, seconds(21));
        assert_eq!(times(1).from_unix_nanos, seconds(23));
    }
}
