//! Error rates of the whole procedure on synthetic runs whose truth is known. The seeds are fixed, so the rates are too.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use super::super::figures::{Better, FigureValue};
use super::{Comparison, ComparisonPlan, Measure, MeasureVerdict, RunFigures, compare};

/// Runs a side.
const RUNS: usize = 10;

/// Repetitions of each comparison.
const REPETITIONS: usize = 200;

fn name(measure: usize) -> String {
    format!("measure {measure}")
}

fn plan(measures: usize) -> ComparisonPlan {
    let measure = |at| Measure { name: name(at), better: Better::Lower, unit: "us".into() };
    ComparisonPlan { measures: (0..measures).map(measure).collect(), confidence: 0.95 }
}

/// Runs with log-normal values around 1,000 times `factor`, with a deviation of `spread` relative to them, made whole.
fn side(random: &mut ChaCha8Rng, measures: usize, factor: f64, spread: f64) -> Vec<RunFigures> {
    let normal = Normal::standard();
    let mut value = || (1_000.0 * factor * (spread * normal.inverse_cdf(random.random::<f64>())).exp()).round();
    let mut run = |at: usize| RunFigures {
        name: format!("runs/{at}"),
        figures: (0..measures).map(|measure| (name(measure), FigureValue::Number(value()))).collect(),
    };
    (0..RUNS).map(&mut run).collect()
}

/// Comparisons of sides of which B is `factor` times A.
fn comparisons(seed: u64, measures: usize, factor: f64, spread: f64) -> Vec<Comparison> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let repetition = |_| {
        let a = side(&mut random, measures, 1.0, spread);
        let b = side(&mut random, measures, factor, spread);
        compare(&plan(measures), &a, &b)
    };
    (0..REPETITIONS).map(repetition).collect()
}

fn flags(comparison: &Comparison) -> usize {
    let flagged = |verdict| !matches!(verdict, MeasureVerdict::NoDifference | MeasureVerdict::Unknown);
    comparison.measures.iter().filter(|row| flagged(row.verdict)).count()
}

#[test]
fn equal_sides_are_flagged_in_less_than_5_percent_of_comparisons() {
    let comparisons = comparisons(1, 30, 1.0, 0.2);
    let flagged = comparisons.iter().filter(|comparison| flags(comparison) > 0).count();
    assert!(flagged * 20 < REPETITIONS, "{flagged} of {REPETITIONS} comparisons of 30 measures have a false flag");
}

#[test]
fn intervals_contain_the_true_ratio_in_95_percent_of_cases() {
    let comparisons = comparisons(2, 10, 1.1, 0.2);
    let changes = comparisons.iter().flat_map(|comparison| &comparison.measures).filter_map(|row| row.change);
    let (mut all, mut within) = (0, 0);
    for change in changes {
        all += 1;
        within += usize::from(change.lower.unwrap() <= 1.1 && change.upper.unwrap() >= 1.1);
    }
    assert_eq!(all, 10 * REPETITIONS);
    // The deviation of the count is 10, or 0.5 %. The exact confidence at 10 runs a side is 95.7 %.
    assert!((0.94..0.975).contains(&(within as f64 / all as f64)), "{within} of {all}");
}

#[test]
fn a_shift_of_twice_the_spread_is_found_with_its_sign() {
    for (measures, seed) in [(1, 3), (5, 4)] {
        let comparisons = comparisons(seed, measures, 1.1, 0.05);
        let rows = comparisons.iter().flat_map(|comparison| &comparison.measures);
        let found = rows.clone().filter(|row| row.verdict == MeasureVerdict::Worse).count();
        assert!(found * 10 > rows.clone().count() * 9, "{found} of {}", rows.clone().count());
        assert_eq!(rows.filter(|row| row.verdict == MeasureVerdict::Better).count(), 0);
    }
}
