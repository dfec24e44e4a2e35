//! How far the clocks of a run's hosts may have been apart: every delay from one host to another is off by as much.

use serde::{Deserialize, Serialize};

use super::summary::RunSummary;

/// Share of the median delay above which a difference of clocks must be told.
const MATTERS: f64 = 0.1;

/// How far a node's clock was ahead of the runner's, by the midpoint of the quickest of some questions over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// Microseconds; below 0 it was behind.
    pub offset_micros: i64,
    /// By how much that may be wrong either way: half of the round trip.
    pub error_micros: u64,
}

/// A node's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRow {
    /// The node.
    pub node: u64,
    /// The lowest node on the same host, and so with the same clock.
    pub clock_of: u64,
    /// Before the start; none if it was not asked then.
    pub before: Option<ClockOffset>,
    /// After the window.
    pub after: Option<ClockOffset>,
}

/// Two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockDifference {
    /// Nodes that have them.
    pub nodes: (u64, u64),
    /// What was measured between them.
    pub difference_micros: u64,
    /// By how much that may be wrong either way.
    pub error_micros: u64,
}

/// The clocks of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Of each node that told.
    pub nodes: Vec<ClockRow>,
    /// The two that may have been furthest apart; none where all nodes have one clock.
    pub worst: Option<ClockDifference>,
}

impl Clocks {
    /// Finds the two clocks that may have been furthest apart, before the start or after the window.
    pub fn new(nodes: Vec<ClockRow>) -> Self {
        let differences = [|row: &ClockRow| row.before, |row: &ClockRow| row.after].into_iter().filter_map(|when| {
            let mut known: Vec<(u64, ClockOffset)> =
                nodes.iter().filter_map(|row| Some((row.clock_of, when(row)?))).collect();
            // Of each clock, what is known best.
            known.sort_by_key(|(clock, offset)| (*clock, offset.error_micros));
            known.dedup_by_key(|(clock, _)| *clock);
            let pairs =
                known.iter().enumerate().flat_map(|(at, one)| known[at + 1..].iter().map(move |two| (one, two)));
            pairs.map(|(one, two)| difference(one, two)).max_by_key(ClockDifference::most)
        });
        let worst = differences.max_by_key(ClockDifference::most);
        Self { nodes, worst }
    }

    /// What a reader of the delays of `run` must know.
    pub fn warning(&self, run: &RunSummary) -> Option<String> {
        let worst = self.worst?;
        let medians = run.trials.iter().map(|trial| &trial.totals).chain(&run.totals);
        let median = medians.filter_map(|totals| totals.delay.p50_micros).min()?;
        let millis = |micros: u64| micros as f64 / 1000.0;
        (worst.most() as f64 > MATTERS * median as f64).then(|| {
            format!(
                "the clocks of nodes {} and {} were {:.2} ms apart (known to +-{:.2} ms): a delay between hosts may be \
                 off by {:.2} ms, and the median is {:.2} ms",
                worst.nodes.0,
                worst.nodes.1,
                millis(worst.difference_micros),
                millis(worst.error_micros),
                millis(worst.most()),
                millis(median)
            )
        })
    }
}

impl ClockDifference {
    /// How far they may have been apart, in microseconds.
    fn most(&self) -> u64 {
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
    fn nodes_of_one_host_have_no_difference_whatever_the_questions_took() {
        assert_eq!(Clocks::new(vec![row(0, 0, -900, 1000), row(1, 0, 900, 1000)]).worst, None);
    }

    #[test]
    fn the_pair_that_may_be_furthest_apart_is_told() {
        let clocks = Clocks::new(vec![row(0, 0, 0, 100), row(1, 1, 300, 100), row(2, 2, 100, 900)]);
        let worst = ClockDifference { nodes: (1, 2), difference_micros: 200, error_micros: 1000 };
        assert_eq!(clocks.worst, Some(worst));
    }

    #[test]
    fn a_difference_is_told_where_it_matters() {
        let clocks = Clocks::new(vec![row(0, 0, 0, 100), row(1, 1, 800, 100)]);
        let mut run = RunSummary::failed(Default::default(), String::new());
        assert_eq!(clocks.warning(&run), None, "nothing was delivered");
        run.totals.as_mut().unwrap().delay.p50_micros = Some(10_000);
        assert_eq!(clocks.warning(&run), None);
        run.totals.as_mut().unwrap().delay.p50_micros = Some(9_000);
        let warning = clocks.warning(&run).unwrap();
        assert!(warning.contains("nodes 0 and 1 were 0.80 ms apart (known to +-0.20 ms)"), "{warning}");
    }
}
