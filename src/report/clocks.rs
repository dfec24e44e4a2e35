//! Differences between the clocks of a run's hosts: every delay from one host to another is wrong by the difference of
//! their clocks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Offset of a node's clock from the runner's, by the midpoint of the quickest of several questions over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockOffset {
    /// Microseconds; negative if the node's clock was behind.
    pub offset_micros: i64,
    /// Maximum error of the offset in either direction: half of the round trip.
    pub error_micros: u64,
}

/// Offsets of a node's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockRow {
    /// Node id.
    pub node: u64,
    /// Lowest node on the same host, which therefore has the same clock.
    pub clock_of: u64,
    /// Offset before the start; none if it was not measured then.
    pub before: Option<ClockOffset>,
    /// Offset after the window.
    pub after: Option<ClockOffset>,
}

/// Difference of two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockDifference {
    /// Nodes that have these clocks.
    pub nodes: (u64, u64),
    /// Measured difference.
    pub difference_micros: u64,
    /// Maximum error of the difference in either direction.
    pub error_micros: u64,
}

/// Clocks of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Clocks {
    /// One row for each node that answered.
    pub nodes: Vec<ClockRow>,
    /// The pair of clocks with the largest possible difference; none if all nodes have one clock.
    pub worst: Option<ClockDifference>,
}

impl Clocks {
    /// Finds the pair of clocks with the largest possible difference, before the start or after the window.
    pub fn new(nodes: Vec<ClockRow>) -> Self {
        let differences = [|row: &ClockRow| row.before, |row: &ClockRow| row.after].into_iter().filter_map(|when| {
            let mut known: Vec<(u64, ClockOffset)> =
                nodes.iter().filter_map(|row| Some((row.clock_of, when(row)?))).collect();
            // For each clock, its most exact offset.
            known.sort_by_key(|(clock, offset)| (*clock, offset.error_micros));
            known.dedup_by_key(|(clock, _)| *clock);
            let pairs =
                known.iter().enumerate().flat_map(|(at, one)| known[at + 1..].iter().map(move |two| (one, two)));
            pairs.map(|(one, two)| difference(one, two)).max_by_key(ClockDifference::most)
        });
        let worst = differences.max_by_key(ClockDifference::most);
        Self { nodes, worst }
    }
}

impl ClockDifference {
    /// Largest possible difference, in microseconds.
    pub(super) fn most(&self) -> u64 {
        self.difference_micros.saturating_add(self.error_micros)
    }
}

fn difference(one: &(u64, ClockOffset), two: &(u64, ClockOffset)) -> ClockDifference {
    ClockDifference {
        nodes: (one.0, two.0),
        difference_micros: one.1.offset_micros.abs_diff(two.1.offset_micros),
        error_micros: one.1.error_micros.saturating_add(two.1.error_micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: u64, clock_of: u64, offset_micros: i64, error_micros: u64) -> ClockRow {
        ClockRow { node, clock_of, before: None, after: Some(ClockOffset { offset_micros, error_micros }) }
    }

    #[test]
    fn nodes_of_one_host_have_no_difference_for_any_round_trip() {
        assert_eq!(Clocks::new(vec![row(0, 0, -900, 1000), row(1, 0, 900, 1000)]).worst, None);
    }

    #[test]
    fn the_pair_with_the_largest_possible_difference_is_reported() {
        let clocks = Clocks::new(vec![row(0, 0, 0, 100), row(1, 1, 300, 100), row(2, 2, 100, 900)]);
        let worst = ClockDifference { nodes: (1, 2), difference_micros: 200, error_micros: 1000 };
        assert_eq!(clocks.worst, Some(worst));
    }
}
