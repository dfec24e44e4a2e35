//! Phases of a node's life, and the order that starts its traffic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Phase of a node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Connecting to its peers.
    Connecting,
    /// Waiting for the time of its start.
    Waiting,
    /// Sending or receiving, before the measured window.
    WarmUp,
    /// Inside the measured window, or without one.
    Measuring,
    /// Sends no more; messages under way still arrive.
    Draining,
    /// Explore mode: between two trials.
    CoolDown,
    /// Everything is done.
    Finished,
}

/// Maximum number of boundaries between phases.
pub const MOST_BOUNDARIES: usize = 64;

/// Maximum distance of a start, before or after the present, in nanoseconds: no run is longer. A start from a clock
/// that was never set would give a window in another century.
const MAX_DISTANCE: u64 = 366 * 24 * 3600 * 1_000_000_000;

/// Returns in one line the reason why a start is absurd, for a node whose clock shows `now`, both in nanoseconds since
/// the Unix epoch.
///
/// # Errors
/// Fails if it is more than a year away.
pub(super) fn check_distance(name: &str, start: u64, now: u64) -> Result<(), String> {
    let days = start.abs_diff(now) / (24 * 3600 * 1_000_000_000);
    let side = if start < now { "ago" } else { "ahead" };
    if start.abs_diff(now) <= MAX_DISTANCE {
        return Ok(());
    }
    Err(format!("{name} is {days} days {side} by the clock of this node: give a start within a year"))
}

/// Start of the traffic, and the part of it that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartOrder {
    /// Time at which all nodes start, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Milliseconds after the start that are not counted.
    #[serde(default)]
    pub warm_up_millis: u64,
    /// Length of the measured window after the warm-up, in milliseconds; without it, the window lasts until the node
    /// stops. Explore mode has its own windows.
    #[serde(default)]
    pub measure_millis: Option<u64>,
    /// Boundaries of the phases in the measured window, in milliseconds after its opening, ascending. Each phase has
    /// its own counts; `n` boundaries make `n + 1` phases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phase_millis: Vec<u64>,
    /// Number of the run, which every message of it names; 0 keeps the number that the node was started with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run_id: u64,
    /// True for a node that existed before and rejoins: the start may be in the past.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejoining: bool,
    /// Time since which a rejoining node was gone, in nanoseconds since the Unix epoch. Messages intended before belong
    /// to its earlier life, which may have counted them, so they are not counted again. By default the start of this
    /// process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since_unix_nanos: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StartOrder {
    /// A start without an end, at `start_unix_nanos`.
    pub fn at(start_unix_nanos: u64) -> Self {
        Self {
            start_unix_nanos,
            warm_up_millis: 0,
            measure_millis: None,
            phase_millis: vec![],
            run_id: 0,
            rejoining: false,
            gone_since_unix_nanos: None,
        }
    }

    /// Start of the measured window, in nanoseconds since the Unix epoch.
    pub fn from_unix_nanos(&self) -> u64 {
        self.start_unix_nanos.saturating_add(self.warm_up_millis.saturating_mul(1_000_000))
    }

    /// End of the measured window.
    pub fn to_unix_nanos(&self) -> Option<u64> {
        let measure = self.measure_millis?.saturating_mul(1_000_000);
        Some(self.from_unix_nanos().saturating_add(measure))
    }

    /// Boundaries between phases, in nanoseconds since the Unix epoch.
    pub fn boundaries_unix_nanos(&self) -> Vec<u64> {
        let from = self.from_unix_nanos();
        self.phase_millis.iter().map(|millis| from.saturating_add(millis.saturating_mul(1_000_000))).collect()
    }

    /// Returns in one line the error of the order, for a node that receives it at `now`, in nanoseconds since the Unix
    /// epoch.
    ///
    /// # Errors
    /// Fails if the order can't be followed.
    pub fn check(&self, now: u64, explore: bool) -> Result<(), String> {
        if self.start_unix_nanos <= now && !self.rejoining {
            return Err("start_unix_nanos is in the past".into());
        }
        check_distance("start_unix_nanos", self.start_unix_nanos, now)?;
        match self.gone_since_unix_nanos {
            Some(_) if !self.rejoining => return Err("gone_since_unix_nanos is for a node that is rejoining".into()),
            Some(gone_since) if gone_since > now => return Err("gone_since_unix_nanos is in the future".into()),
            _ => {}
        }
        let boundaries = &self.phase_millis;
        let Some(last) = boundaries.last() else { return Ok(()) };
        let Some(measure) = self.measure_millis else { return Err("phase_millis needs measure_millis".into()) };
        if explore {
            Err("phase_millis: mode explore has trials in place of phases".into())
        } else if boundaries.len() > MOST_BOUNDARIES {
            Err(format!("phase_millis has {} boundaries: at most {MOST_BOUNDARIES}", boundaries.len()))
        } else if boundaries.first() == Some(&0) || !boundaries.is_sorted_by(|a, b| a < b) {
            Err("phase_millis must be above 0 and ascend".into())
        } else if *last >= measure {
            Err(format!("phase_millis: {last} is not inside the measured window of {measure} ms"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_can_not_be_followed_is_refused_in_one_line() {
        let with =
            |phase_millis: Vec<u64>| StartOrder { measure_millis: Some(1000), phase_millis, ..StartOrder::at(10) };
        let says = |order: &StartOrder, explore| order.check(5, explore).unwrap_err();
        assert_eq!(with(vec![1, 2, 999]).check(5, false), Ok(()));
        assert_eq!(with((1..=64).collect()).check(5, false), Ok(()));
        for wrong in [vec![0, 1], vec![2, 2], vec![2, 1], vec![1, 1000], vec![u64::MAX], (1..=65).collect()] {
            let line = says(&with(wrong.clone()), false);
            assert!(line.starts_with("phase_millis") && line.lines().count() == 1, "{wrong:?}: {line}");
        }
        assert!(says(&with(vec![1]), true).contains("explore"));
        assert!(says(&StartOrder { measure_millis: None, ..with(vec![1]) }, false).contains("needs measure_millis"));
        assert_eq!(StartOrder::at(10).check(10, false), Err("start_unix_nanos is in the past".into()));
    }

    #[test]
    fn a_start_in_another_century_is_refused() {
        let now = 1_790_000_000_000_000_000;
        for start in [0, 1, now - MAX_DISTANCE - 1, now + MAX_DISTANCE + 1, u64::MAX] {
            let line = StartOrder { rejoining: true, ..StartOrder::at(start) }.check(now, false).unwrap_err();
            assert!(line.contains("give a start within a year") && line.lines().count() == 1, "{line}");
        }
        let half_a_year_ago = StartOrder { rejoining: true, ..StartOrder::at(now - MAX_DISTANCE / 2) };
        assert_eq!(half_a_year_ago.check(now, false), Ok(()));
    }

    #[test]
    fn only_a_rejoining_node_may_be_late() {
        let back = StartOrder { rejoining: true, ..StartOrder::at(10) };
        assert_eq!(back.check(20, false), Ok(()));
        let gone = |gone_since| StartOrder { gone_since_unix_nanos: Some(gone_since), ..back.clone() };
        assert_eq!(gone(20).check(20, false), Ok(()));
        assert!(gone(21).check(20, false).is_err());
        assert!(StartOrder { rejoining: false, ..gone(1) }.check(5, false).is_err());
    }

    #[test]
    fn an_order_without_phases_reads_and_writes_as_it_did_before_there_were_any() {
        let text = r#"{"start_unix_nanos":7,"warm_up_millis":1,"measure_millis":2}"#;
        let order: StartOrder = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&order).unwrap(), text);
        assert!(order.boundaries_unix_nanos().is_empty());
    }
}
