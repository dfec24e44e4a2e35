//! Result of a comparison.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of [`Comparison`] as JSON. It grows with each change that a reader of the former version would misread.
pub const COMPARISON_SCHEMA_VERSION: u32 = 1;

/// Comparison of two sides of runs, A and B, measure by measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Version of this format.
    pub schema_version: u32,
    /// Confidence of the intervals, and of the set of all verdicts.
    pub confidence: f64,
    /// Measures that share the correction for many tests: those whose values are known and not all equal.
    pub tests: usize,
    /// Measures in the order of the plan.
    pub measures: Vec<MeasureRow>,
    /// Remarks on the whole comparison, as full sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A comparison with the folders of its runs: `comparison.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparisonFile {
    /// Side A for people: its scenario or its runs.
    #[serde(default)]
    pub side_a: String,
    /// Side B for people: that in which it differs from A, if the command states it.
    #[serde(default)]
    pub side_b: String,
    /// Folders of the runs of side A.
    pub a: Vec<String>,
    /// Folders of the runs of side B.
    pub b: Vec<String>,
    /// The comparison itself.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// One measure of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasureRow {
    /// Name of the measure.
    pub name: String,
    /// Unit of its values: `us`, `bytes`, `s`, `ratio`, or nothing for a count.
    pub unit: String,
    /// Values of side A.
    pub a: Side,
    /// Values of side B.
    pub b: Side,
    /// Change from A to B with its interval; none if the runs do not support one.
    pub change: Option<Change>,
    /// Two-sided p value of the rank test of Mann and Whitney; none if there was no test.
    pub p_value: Option<f64>,
    /// The p value after Holm's correction for all tests of the comparison.
    pub adjusted_p_value: Option<f64>,
    /// Verdict on B against A.
    pub verdict: MeasureVerdict,
    /// Reason of an unknown verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With the verdict `no-difference` and a ratio: neither side is more than this above the other, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_difference_larger_than_percent: Option<f64>,
    /// With the verdict `no-difference` and a difference: neither side is more than this above the other, in the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_difference_larger_than: Option<f64>,
    /// Further runs that each side would need for an interval half as wide; none without a width.
    ///
    /// The width of the interval goes with the deviation of the estimate of Hodges and Lehmann, and so with the root of
    /// 1/n + 1/m for n and m runs (Hodges and Lehmann 1963). So this is the smallest k with
    /// 1/(n+k) + 1/(m+k) <= (1/n + 1/m) / 4, which is 3 n for sides of equal size. Intervals of few runs shrink
    /// faster, so the number is rather too large than too small.
    pub runs_for_half: Option<u64>,
}

/// Values of one side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// Runs with a known value, infinite ones included.
    pub runs: usize,
    /// Runs whose value lies among lost ones, above every number.
    pub infinite: usize,
    /// Runs whose value is unknown.
    pub unknown: usize,
    /// Median of the known values; none without one, or if it is infinite.
    pub median: Option<f64>,
    /// Median distance from the median, times 1.4826 and divided by the median: for normally distributed values, this is
    /// the deviation relative to the mean (Rousseeuw and Croux, 1993). None if the median is none or 0.
    pub relative_spread: Option<f64>,
}

/// Change from A to B.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Meaning of the numbers.
    pub kind: ChangeKind,
    /// Median of the changes of all pairs of a run of A and a run of B, after Hodges and Lehmann; none if it depends on
    /// infinite values.
    pub estimate: Option<f64>,
    /// Lower end of the interval; none if infinite values leave it open.
    pub lower: Option<f64>,
    /// Upper end of the interval; none if infinite values leave it open.
    pub upper: Option<f64>,
}

/// Meaning of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// B divided by A: all values are above 0.
    Ratio,
    /// B minus A in the unit of the measure: a value is 0 or negative.
    Difference,
}

impl ChangeKind {
    /// Change between equal sides.
    pub(super) fn none(self) -> f64 {
        match self {
            Self::Ratio => 1.0,
            Self::Difference => 0.0,
        }
    }
}

/// Verdict on a measure of B against A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MeasureVerdict {
    /// B is better.
    Better,
    /// B is worse.
    Worse,
    /// B differs in a measure that has no better direction.
    Different,
    /// No difference was found; the interval states how large one could be at most.
    NoDifference,
    /// The runs allow no answer; the reason is stated.
    Unknown,
}
