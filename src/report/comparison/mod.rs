//! Comparison of two sides of runs: is B better than A, and by how much?
//!
//! # The model
//!
//! The unit is the run. The values inside one run depend on one another, so a run gives one value of each measure, and the
//! number of runs is the size of the sample. The runs of the two sides must have been made under the same conditions, for
//! instance in turns (A B B A), because the comparison takes the order of the runs as random.
//!
//! - A **test** answers if the sides differ at all: the rank test of Mann and Whitney (1947). It takes no shape of the
//!   values for granted, and an infinite value (a percentile that lies among lost messages) is only the largest rank.
//! - An **interval** answers by how much: the median of B/A over all pairs of runs, with the interval of Hodges and Lehmann
//!   (1963), which has the factors that the test would not refuse. It takes for granted that B is A times one
//!   factor. If a value is 0 or negative, B - A replaces B/A. Both are exact and need no random numbers.
//! - A **correction** keeps many measures from showing a difference by chance: that of Holm (1979).
//!
//! A difference is reported if the corrected test and the interval both show it. Otherwise, the answer is the largest
//! difference that the interval leaves open. `docs/comparison.md` explains the method to users.
//!
//! # Use
//!
//! [`compare`] takes a [`ComparisonPlan`] and the [`RunFigures`] of both sides, and makes a [`Comparison`], which is also
//! the JSON for other programs. [`comparison_table`] shows it to people, and [`comparison_csv`] has the values of the runs
//! for tools that look for changes themselves.

#[cfg(test)]
mod calibration_tests;
mod compare;
#[cfg(test)]
mod compare_tests;
mod figures;
mod holm;
mod rank_test;
mod result;
mod runs_csv;
mod shift;
mod table;

pub use compare::compare;
pub use figures::{ComparisonPlan, Measure, RunFigures};
pub use result::{
    COMPARISON_SCHEMA_VERSION, Change, ChangeKind, Comparison, ComparisonFile, MeasureRow, MeasureVerdict, Side,
};
pub use runs_csv::comparison_csv;
pub use table::comparison_table;
pub(super) use table::measure_cells;
