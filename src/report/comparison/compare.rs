//! Verdicts on all measures of two sides.

use super::{
    super::figures::Better,
    figures::{ComparisonPlan, Measure, RunFigures},
    holm,
    rank_test::{interval_rank, p_value, smallest_p_value},
    result::{COMPARISON_SCHEMA_VERSION, Change, ChangeKind, Comparison, MeasureRow, MeasureVerdict, Side},
    shift::{Shift, median, same, shift, sorted},
};

/// Confidence in place of a number that is none.
const DEFAULT_CONFIDENCE: f64 = 0.95;

/// Factor that makes the median distance from the median of normally distributed values their standard deviation.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// Known values of a side, and their summary.
fn side(runs: &[RunFigures], name: &str) -> (Vec<f64>, Side) {
    let values = sorted(runs.iter().filter_map(|run| run.value(name).number()));
    let middle = median(&values).filter(|median| median.is_finite());
    let spread = middle.filter(|median| *median != 0.0).and_then(|middle| {
        let distances = sorted(values.iter().map(|value| (value - middle).abs()));
        Some(MAD_TO_DEVIATION * median(&distances)? / middle.abs())
    });
    let side = Side {
        runs: values.len(),
        infinite: values.iter().filter(|value| value.is_infinite()).count(),
        unknown: runs.len() - values.len(),
        median: middle,
        relative_spread: spread.filter(|spread| spread.is_finite()),
    };
    (values, side)
}

/// Shift between the sides, and true if its interval is that of the ranks.
///
/// If nearly all values are equal, the interval of the ranks is no shift at all, which would hide the other values. The
/// interval of all pairs replaces it, which is never too narrow.
fn shift_of_ranks(a: &[f64], b: &[f64], rank: usize) -> Option<(Shift, bool)> {
    let narrow = shift(a, b, rank)?;
    if same(narrow.lower, 0.0) && same(narrow.upper, 0.0) {
        Some((shift(a, b, 1)?, false))
    } else {
        Some((narrow, true))
    }
}

/// Change between the sides with its interval, and true if more runs would make it narrower; none if the runs are too few
/// or all values infinite.
fn change(a: &[f64], b: &[f64], rank: usize) -> Option<(Change, bool)> {
    let ratio = a.iter().chain(b).all(|value| *value > 0.0);
    let (kind, (shift, of_ranks)) = if ratio {
        let logarithms = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
        let (Shift { estimate, lower, upper }, of_ranks) = shift_of_ranks(&logarithms(a), &logarithms(b), rank)?;
        let factors = Shift { estimate: estimate.map(f64::exp), lower: lower.exp(), upper: upper.exp() };
        (ChangeKind::Ratio, (factors, of_ranks))
    } else {
        (ChangeKind::Difference, shift_of_ranks(a, b, rank)?)
    };
    let finite = |value: f64| value.is_finite().then_some(value);
    // A ratio that is open downwards begins at 0, which is the logarithm's minus infinity.
    let lower = finite(shift.lower).filter(|lower| kind == ChangeKind::Difference || *lower > 0.0);
    let upper = finite(shift.upper);
    let narrower = of_ranks && lower.zip(upper).is_some_and(|(lower, upper)| lower < upper);
    Some((Change { kind, estimate: shift.estimate.and_then(finite), lower, upper }, narrower))
}

/// Further runs a side for an interval half as wide, see [`MeasureRow::runs_for_half`].
fn runs_for_half(n: usize, m: usize) -> u64 {
    let (n, m) = (n as f64, m as f64);
    let quarter = (1.0 / n + 1.0 / m) / 4.0;
    // Positive root of quarter k^2 + (quarter (n+m) - 2) k - 3/4 (n+m) = 0.
    let linear = quarter * (n + m) - 2.0;
    let root = ((linear * linear + 3.0 * quarter * (n + m)).sqrt() - linear) / (2.0 * quarter);
    // A whole number must not become the next one because of a rounding error.
    (root - 1e-9).ceil() as u64
}

/// Smallest equal number of runs a side whose p value can be below a level.
fn runs_for_level(level: f64) -> usize {
    // The smallest p value of n runs a side is 2 / C(2n, n).
    let mut divisions = 1.0;
    let mut runs = 0_usize;
    while 2.0 / divisions >= level && divisions.is_finite() {
        runs += 1;
        divisions *= (4 * runs - 2) as f64 / runs as f64;
    }
    runs
}

/// A row without its verdict.
fn measured(measure: &Measure, a: &[RunFigures], b: &[RunFigures], confidence: f64) -> MeasureRow {
    let (a_values, a_side) = side(a, &measure.name);
    let (b_values, b_side) = side(b, &measure.name);
    let mut row = MeasureRow {
        name: measure.name.clone(),
        unit: measure.unit.clone(),
        a: a_side,
        b: b_side,
        change: None,
        p_value: None,
        adjusted_p_value: None,
        verdict: MeasureVerdict::Unknown,
        reason: None,
        no_difference_larger_than_percent: None,
        no_difference_larger_than: None,
        runs_for_half: None,
    };
    let rank = interval_rank(a.len(), b.len(), confidence);
    let unknown = a_side.unknown + b_side.unknown;
    row.reason = if unknown > 0 {
        Some(format!("{unknown} of {} runs have no value", a.len() + b.len()))
    } else if rank == 0 {
        let needed = runs_for_level(1.0 - confidence);
        Some(format!("too few runs: an interval takes {needed} on each side"))
    } else if a_side.infinite + b_side.infinite == a.len() + b.len() {
        Some("the values of all runs are infinite".into())
    } else {
        row.p_value = Some(p_value(&a_values, &b_values));
        if let Some((change, narrower)) = change(&a_values, &b_values, rank) {
            row.change = Some(change);
            row.runs_for_half = narrower.then(|| runs_for_half(a.len(), b.len()));
        }
        None
    };
    row
}

/// Verdict of a row whose adjusted p value is known.
fn judge(row: &mut MeasureRow, better: Better, level: f64) {
    let (Some(change), Some(p_value)) = (row.change, row.adjusted_p_value) else { return };
    let none = change.kind.none();
    let higher = change.lower.is_some_and(|lower| lower > none);
    let lower = change.upper.is_some_and(|upper| upper < none);
    if p_value < level && (higher || lower) {
        row.verdict = match better {
            Better::Neither => MeasureVerdict::Different,
            Better::Higher if higher => MeasureVerdict::Better,
            Better::Lower if lower => MeasureVerdict::Better,
            Better::Higher | Better::Lower => MeasureVerdict::Worse,
        };
        return;
    }
    let (Some(lower), Some(upper)) = (change.lower, change.upper) else {
        row.reason = Some("infinite values leave the interval open".into());
        return;
    };
    row.verdict = MeasureVerdict::NoDifference;
    match change.kind {
        ChangeKind::Ratio => row.no_difference_larger_than_percent = Some((upper.max(1.0 / lower) - 1.0) * 100.0),
        ChangeKind::Difference => {
            let largest = lower.abs().max(upper.abs());
            row.no_difference_larger_than = Some(largest);
            row.no_difference_larger_than_percent = (largest == 0.0).then_some(0.0);
        }
    }
}

/// True if all known values of a row are equal. Its test cannot be significant, however the values are divided into sides,
/// so it takes no part in the correction for many tests (Tarone, 1990).
fn constant(row: &MeasureRow, a: &[RunFigures], b: &[RunFigures]) -> bool {
    let mut values = a.iter().chain(b).map(|run| run.value(&row.name));
    let first = values.next();
    values.all(|value| Some(value) == first)
}

/// Compares side B with side A, measure by measure. A measure with an unknown value in any run has no verdict, because the
/// runs without one are seldom a random part of all.
pub fn compare(plan: &ComparisonPlan, a: &[RunFigures], b: &[RunFigures]) -> Comparison {
    let valid = plan.confidence > 0.0 && plan.confidence < 1.0;
    let confidence = if valid { plan.confidence } else { DEFAULT_CONFIDENCE };
    let level = 1.0 - confidence;
    let mut rows: Vec<MeasureRow> = plan.measures.iter().map(|measure| measured(measure, a, b, confidence)).collect();
    let tested = |row: &&mut MeasureRow| row.p_value.is_some() && !constant(row, a, b);
    let p_values: Vec<f64> = rows.iter_mut().filter(tested).filter_map(|row| row.p_value).collect();
    for (row, adjusted) in rows.iter_mut().filter(tested).zip(holm::adjusted(&p_values)) {
        row.adjusted_p_value = Some(adjusted);
    }
    for (row, measure) in rows.iter_mut().zip(&plan.measures) {
        // The p value of equal values is 1, which no correction changes.
        row.adjusted_p_value = row.adjusted_p_value.or(row.p_value);
        judge(row, measure.better, level);
    }
    let mut notes = vec![];
    let tests = p_values.len();
    if tests > 0 && smallest_p_value(a.len(), b.len()) * tests as f64 >= level {
        let needed = runs_for_level(level / tests as f64);
        notes.push(format!(
            "{} and {} runs cannot show a difference in one of {tests} measures: compare fewer, or make {needed} runs a side.",
            a.len(),
            b.len()
        ));
    }
    Comparison { schema_version: COMPARISON_SCHEMA_VERSION, confidence, tests, measures: rows, notes }
}
