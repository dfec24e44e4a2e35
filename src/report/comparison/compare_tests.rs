//! Verdicts on small sides that are worked out by hand, and properties of all comparisons.

use proptest::prelude::*;

use super::super::figures::{Better, FigureValue};
use super::{
    Change, ChangeKind, Comparison, ComparisonPlan, Measure, MeasureRow, MeasureVerdict, RunFigures, compare,
    comparison_table,
};

fn plan(names: &[&str], better: Better) -> ComparisonPlan {
    let measures = names.iter().map(|name| Measure { name: (*name).into(), better, unit: "us".into() });
    ComparisonPlan { measures: measures.collect(), confidence: 0.95 }
}

/// Runs with one figure, `delay`.
fn runs(values: &[FigureValue]) -> Vec<RunFigures> {
    let run = |(at, value): (usize, &FigureValue)| RunFigures {
        name: format!("runs/{at}"),
        figures: vec![("delay".into(), *value)],
    };
    values.iter().enumerate().map(run).collect()
}

fn numbers(values: &[f64]) -> Vec<RunFigures> {
    runs(&values.iter().map(|value| FigureValue::Number(*value)).collect::<Vec<_>>())
}

fn one(better: Better, a: &[RunFigures], b: &[RunFigures]) -> MeasureRow {
    compare(&plan(&["delay"], better), a, b).measures.remove(0)
}

/// Ten values from `from` in steps of a percent of it.
fn ten(from: f64) -> Vec<f64> {
    (0..10).map(|step| from * (1.0 + f64::from(step) / 100.0)).collect()
}

#[test]
fn a_side_that_ranks_wholly_above_the_other_is_flagged_in_its_direction() {
    let (a, b) = (numbers(&ten(100.0)), numbers(&ten(200.0)));
    let row = one(Better::Lower, &a, &b);
    assert_eq!(row.verdict, MeasureVerdict::Worse);
    let Some(Change { kind: ChangeKind::Ratio, estimate: Some(estimate), lower: Some(lower), upper: Some(upper) }) =
        row.change
    else {
        panic!("{row:?}");
    };
    assert!((1.9..2.0).contains(&lower) && (estimate - 2.0).abs() < 1e-9 && (2.0..2.1).contains(&upper), "{row:?}");
    // 2 of the C(20, 10) divisions are as extreme.
    assert!((row.p_value.unwrap() - 2.0 / 184_756.0).abs() < 1e-15, "{row:?}");
    assert_eq!((row.a.runs, row.a.median, row.runs_for_half), (10, Some(104.5), Some(30)));
    assert_eq!(one(Better::Higher, &a, &b).verdict, MeasureVerdict::Better);
    assert_eq!(one(Better::Neither, &a, &b).verdict, MeasureVerdict::Different);
}

#[test]
fn equal_constants_are_no_difference_larger_than_0_percent() {
    for value in [1.0, 0.0] {
        let side = numbers(&[value; 10]);
        let row = one(Better::Higher, &side, &side);
        assert_eq!((row.verdict, row.no_difference_larger_than_percent), (MeasureVerdict::NoDifference, Some(0.0)));
        assert_eq!((row.p_value, row.runs_for_half), (Some(1.0), None));
    }
}

#[test]
fn values_of_0_are_compared_by_their_difference() {
    let a = numbers(&[0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let row = one(Better::Lower, &a, &a);
    assert_eq!((row.verdict, row.no_difference_larger_than), (MeasureVerdict::NoDifference, Some(2.0)), "{row:?}");
    assert_eq!((row.no_difference_larger_than_percent, row.runs_for_half), (None, None));
    let row = one(Better::Lower, &a, &numbers(&ten(50.0)));
    assert_eq!(row.verdict, MeasureVerdict::Worse);
    assert!(matches!(row.change, Some(Change { kind: ChangeKind::Difference, .. })), "{row:?}");
}

#[test]
fn infinite_values_are_worse_than_all_numbers() {
    let lost = runs(&[FigureValue::Infinite; 10]);
    let row = one(Better::Lower, &numbers(&ten(100.0)), &lost);
    assert_eq!((row.verdict, row.b.median, row.b.infinite), (MeasureVerdict::Worse, None, 10));
    let change = row.change.unwrap();
    assert!(change.lower.unwrap() > 1.0 && change.upper.is_none() && change.estimate.is_none(), "{change:?}");
    assert_eq!(one(Better::Lower, &lost, &numbers(&ten(100.0))).verdict, MeasureVerdict::Better);
    // Half of both sides is lost: any factor is possible.
    let half: Vec<_> = lost[..5].iter().cloned().chain(numbers(&ten(100.0)[..5])).collect();
    let row = one(Better::Lower, &half, &half);
    assert_eq!(
        (row.verdict, row.reason.as_deref()),
        (MeasureVerdict::Unknown, Some("infinite values leave the interval open"))
    );
}

#[test]
fn an_unknown_verdict_has_its_reason() {
    let full = numbers(&ten(100.0));
    let mut gap = full.clone();
    gap[3].figures.clear();
    let reason = |a: &[RunFigures], b: &[RunFigures]| {
        let row = one(Better::Lower, a, b);
        assert_eq!(row.verdict, MeasureVerdict::Unknown);
        row.reason.unwrap()
    };
    assert_eq!(reason(&full, &gap), "1 of 20 runs have no value");
    assert_eq!(reason(&full, &runs(&[FigureValue::Number(f64::NAN)])), "1 of 11 runs have no value");
    assert_eq!(reason(&full[..3], &full[..3]), "too few runs: an interval takes 4 on each side");
    assert_eq!(reason(&full, &[]), "too few runs: an interval takes 4 on each side");
    assert_eq!(reason(&[], &[]), "too few runs: an interval takes 4 on each side");
    let lost = runs(&[FigureValue::Infinite; 4]);
    assert_eq!(reason(&lost, &lost), "the values of all runs are infinite");
}

#[test]
fn runs_that_cannot_show_a_difference_are_noted() {
    let names: Vec<String> = (0..30).map(|at| format!("measure {at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let side = |from: f64, runs: usize| -> Vec<RunFigures> {
        let figures = |at: usize| {
            let figures = names.iter().map(|name| ((*name).into(), FigureValue::Number(from + at as f64)));
            RunFigures { name: format!("runs/{at}"), figures: figures.collect() }
        };
        (0..runs).map(figures).collect()
    };
    let comparison = compare(&plan(&names, Better::Lower), &side(100.0, 6), &side(200.0, 6));
    assert_eq!(comparison.tests, 30);
    assert_eq!(
        comparison.notes,
        ["6 and 6 runs cannot show a difference in one of 30 measures: compare fewer, or make 7 runs a side."]
    );
    let comparison = compare(&plan(&names, Better::Lower), &side(100.0, 7), &side(200.0, 7));
    assert!(comparison.notes.is_empty(), "{comparison:?}");
    assert!(comparison.measures.iter().all(|row| row.verdict == MeasureVerdict::Worse), "{comparison:?}");
}

#[test]
fn measures_of_equal_values_take_no_part_in_the_correction() {
    let measures = ["delay", "constant", "unknown"];
    let add = |runs: Vec<RunFigures>| -> Vec<RunFigures> {
        let add = |mut run: RunFigures| {
            run.figures.push(("constant".into(), FigureValue::Number(1.0)));
            run
        };
        runs.into_iter().map(add).collect()
    };
    let comparison = compare(&plan(&measures, Better::Lower), &add(numbers(&ten(100.0))), &add(numbers(&ten(105.0))));
    let [delay, constant, _] = &comparison.measures[..] else { panic!("{comparison:?}") };
    assert_eq!((comparison.tests, delay.adjusted_p_value), (1, delay.p_value));
    assert_eq!(constant.adjusted_p_value, Some(1.0));
}

#[test]
fn a_comparison_is_the_same_after_json_and_follows_its_schema() {
    let lost = runs(&[FigureValue::Infinite; 10]);
    let comparison = compare(&plan(&["delay", "other"], Better::Lower), &numbers(&ten(100.0)), &lost);
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
    assert!(text.contains(r#""schema_version":1"#) && text.contains(r#""verdict":"worse""#), "{text}");
    let schema = serde_json::to_value(schemars::schema_for!(Comparison)).unwrap();
    assert!(schema["properties"]["measures"].is_object(), "{schema}");
}

#[test]
fn the_table_shows_medians_change_and_verdict_in_100_columns() {
    let measures =
        [("a rather long name of a measure, delay.p99", "us"), ("loss", "bytes"), ("delivery_ratio", "ratio")];
    let measures = measures.map(|(name, unit)| Measure { name: name.into(), better: Better::Lower, unit: unit.into() });
    let side = |delay: f64, loss: f64, ratio: f64| -> Vec<RunFigures> {
        let run = |at: usize| {
            let values = [ten(delay)[at], if at == 0 { 0.0 } else { loss }, ratio];
            let values = values.map(FigureValue::Number);
            let figures = measures.iter().zip(values).map(|(measure, value)| (measure.name.clone(), value));
            RunFigures { name: format!("runs/{at}"), figures: figures.collect() }
        };
        (0..10).map(run).collect()
    };
    let plan = ComparisonPlan { measures: measures.to_vec(), confidence: 0.95 };
    let comparison = compare(&plan, &side(100_000.0, 4096.0, 1.0), &side(112_000.0, 8192.0, 1.0));
    let text = comparison_table(&comparison, "runs/a", "runs/b");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.starts_with("A: runs/a, 10 runs\nB: runs/b, 10 runs\n"), "{text}");
    for part in ["104.5 ms", "117 ms", "1.120 [1.0", "worse", "4.0 KiB", "no difference > 0 %"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // Numbers are never broken over two lines.
    assert!(text.contains("+4.0 KiB [+4.0 KiB, +4.0 KiB]"), "{text}");
}

fn mirrored(verdict: MeasureVerdict) -> MeasureVerdict {
    match verdict {
        MeasureVerdict::Better => MeasureVerdict::Worse,
        MeasureVerdict::Worse => MeasureVerdict::Better,
        other => other,
    }
}

fn close(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Values above 0, among them equal and infinite ones.
fn values() -> impl Strategy<Value = Vec<FigureValue>> {
    let value = prop_oneof![
        12 => (1_u32..50).prop_map(|value| FigureValue::Number(f64::from(value))),
        1 => Just(FigureValue::Infinite),
    ];
    proptest::collection::vec(value, 1..16)
}

proptest! {
    #[test]
    fn swapping_the_sides_inverts_ratio_and_verdict(a in values(), b in values()) {
        let (a, b) = (runs(&a), runs(&b));
        let (row, swapped) = (one(Better::Lower, &a, &b), one(Better::Lower, &b, &a));
        prop_assert_eq!(row.verdict, mirrored(swapped.verdict));
        prop_assert_eq!(row.p_value, swapped.p_value);
        prop_assert!(close(row.no_difference_larger_than_percent, swapped.no_difference_larger_than_percent));
        if let (Some(change), Some(swapped)) = (row.change, swapped.change) {
            prop_assert!(close(change.estimate, swapped.estimate.map(f64::recip)), "{change:?} {swapped:?}");
            prop_assert!(close(change.lower, swapped.upper.map(f64::recip)), "{change:?} {swapped:?}");
            prop_assert!(close(change.upper, swapped.lower.map(f64::recip)), "{change:?} {swapped:?}");
        }
    }

    #[test]
    fn scaling_both_sides_changes_no_ratio_and_no_verdict(a in values(), b in values(), factor in 1_u32..1000) {
        let scaled = |values: &[FigureValue]| runs(&values.iter().map(|value| match value {
            FigureValue::Number(number) => FigureValue::Number(number * f64::from(factor)),
            other => *other,
        }).collect::<Vec<_>>());
        let (row, scaled) = (one(Better::Lower, &runs(&a), &runs(&b)), one(Better::Lower, &scaled(&a), &scaled(&b)));
        prop_assert_eq!((row.verdict, row.p_value), (scaled.verdict, scaled.p_value));
        let ends = |change: Option<Change>| change.map_or([None; 3], |change| [change.lower, change.estimate, change.upper]);
        for (end, scaled) in ends(row.change).into_iter().zip(ends(scaled.change)) {
            prop_assert!(close(end, scaled), "{end:?} {scaled:?}");
        }
    }

    #[test]
    fn scaling_one_side_scales_the_ratio(a in values(), b in values(), factor in 1_u32..1000) {
        let larger = b.iter().map(|value| match value {
            FigureValue::Number(number) => FigureValue::Number(number * f64::from(factor)),
            other => *other,
        });
        let finite = |values: &[FigureValue]| values.iter().all(|value| *value != FigureValue::Infinite);
        let row = one(Better::Lower, &runs(&a), &runs(&b));
        let scaled = one(Better::Lower, &runs(&a), &runs(&larger.collect::<Vec<_>>()));
        if let (Some(change), Some(scaled), true) = (row.change, scaled.change, finite(&a) && finite(&b)) {
            let wanted = change.estimate.map(|ratio| ratio * f64::from(factor));
            prop_assert!(close(wanted, scaled.estimate), "{change:?} {scaled:?}");
        }
    }

    #[test]
    fn any_values_give_a_comparison_in_finite_numbers(
        a in proptest::collection::vec(any::<f64>(), 0..12),
        b in proptest::collection::vec(any::<f64>(), 0..12),
    ) {
        let comparison = compare(&plan(&["delay"], Better::Higher), &numbers(&a), &numbers(&b));
        let text = serde_json::to_string(&comparison).unwrap();
        prop_assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison.clone());
        prop_assert!(comparison_table(&comparison, "a", "b").contains("delay"));
    }
}
