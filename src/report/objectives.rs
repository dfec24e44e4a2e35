//! Judgement of a result by objectives.

use super::{
    figures::{Figure, FigureValue, Unit, did_you_mean, figures},
    layout::empty_table,
    objective_row::ObjectiveRow,
    summary::RunSummary,
};
use crate::scenario::{Bound, Objective};

/// Value and bound in the same unit.
///
/// # Errors
/// One line if they can't be compared.
fn in_one_unit(value: f64, unit: Unit, bound: Bound) -> Result<(f64, f64), String> {
    match (bound, unit.micros()) {
        (Bound::Micros(bound), Some(micros)) => Ok((value * micros, bound)),
        (Bound::Plain(_), Some(_)) => Err("a time needs a unit, such as 300ms".into()),
        (Bound::Bytes(bound), None) if matches!(unit, Unit::Bytes | Unit::BytesPerSecond) => Ok((value, bound)),
        (Bound::Percent(bound), None) if unit == Unit::Plain => Ok((value * 100.0, bound)),
        (Bound::Percent(bound), None) if unit == Unit::Percent => Ok((value, bound)),
        (Bound::Plain(bound), None) => Ok((value, bound)),
        _ => Err("the bound has the unit of another kind of figure".into()),
    }
}

fn judge_one(objective: &Objective, all: &[Figure]) -> ObjectiveRow {
    let row = ObjectiveRow { objective: objective.to_string(), ..ObjectiveRow::default() };
    let Some(figure) = all.iter().find(|figure| figure.name == objective.figure) else {
        let near = did_you_mean(&objective.figure, all.iter().map(|figure| figure.name.as_str()));
        let reason = format!("the result has no figure {}{near}", objective.figure);
        return ObjectiveRow { shown: "unknown".into(), reason: Some(reason), ..row };
    };
    let shown = figure.to_string();
    let (value, compared) = match figure.value {
        FigureValue::Unknown => return ObjectiveRow { shown, reason: Some("the figure is unknown".into()), ..row },
        FigureValue::Infinite => (None, in_one_unit(f64::INFINITY, figure.unit, objective.bound)),
        FigureValue::Number(value) => (Some(value), in_one_unit(value, figure.unit, objective.bound)),
    };
    match compared {
        Ok((number, bound)) => ObjectiveRow { value, shown, passed: objective.relation.holds(number, bound), ..row },
        Err(reason) => ObjectiveRow { value, shown, reason: Some(reason), ..row },
    }
}

/// Judges a result by these objectives.
pub fn judge(run: &mut RunSummary, objectives: &[Objective]) {
    let all = if objectives.is_empty() { vec![] } else { figures(run) };
    run.objectives = objectives.iter().map(|objective| judge_one(objective, &all)).collect();
}

impl RunSummary {
    /// True if the run met all of its objectives.
    pub fn meets_objectives(&self) -> bool {
        self.objectives.iter().all(|row| row.passed)
    }
}

/// A line for each objective; empty without any.
pub fn objective_table(rows: &[ObjectiveRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = empty_table();
    table.set_header(["objective", "value", "result"]);
    for row in rows {
        let result = match (&row.reason, row.passed) {
            (Some(reason), _) => format!("failed: {reason}"),
            (None, true) => "passed".into(),
            (None, false) => "failed".into(),
        };
        table.add_row([row.objective.clone(), row.shown.clone(), result]);
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DelaySummary, Totals, WorkloadSummary};

    fn judged(text: &str) -> ObjectiveRow {
        let delay = DelaySummary {
            count: 10,
            missing: 1,
            p50_micros: Some(250_000),
            p90_micros: Some(300_000),
            ..DelaySummary::default()
        };
        let totals = Totals { delivery_ratio: Some(0.9995), delay, ..Totals::default() };
        let mut run = RunSummary {
            totals: Some(totals),
            peak_memory_bytes: Some(3 << 20),
            ..RunSummary::failed(WorkloadSummary::default(), "a test".into())
        };
        judge(&mut run, &[text.parse().unwrap()]);
        run.objectives.remove(0)
    }

    #[test]
    fn values_are_compared_in_the_unit_of_the_bound() {
        for (passed, text) in [
            (true, "delay_p50 <= 250ms"),
            (true, "delay_p50 < 0.3 s"),
            (false, "delay_p90 < 300 ms"),
            (false, "delay_p99 <= 60 min"),
            (true, "delivery_ratio >= 0.999"),
            (true, "delivery_ratio >= 99.9 %"),
            (false, "delivery_ratio == 1"),
            (true, "peak_memory_bytes <= 3 MiB"),
            (true, "lost == 0"),
            (false, "verdict.valid == 1"),
        ] {
            let row = judged(text);
            assert_eq!((row.passed, &row.reason), (passed, &None), "{row:?}");
        }
    }

    #[test]
    fn an_objective_that_can_not_be_judged_fails_with_its_reason() {
        for (text, reason) in [
            ("ready_seconds <= 3 s", "the figure is unknown"),
            ("delivry_ratio >= 1", "did you mean delivery_ratio?"),
            ("delay_p50 <= 3", "a time needs a unit"),
            ("delivery_ratio >= 3 ms", "another kind of figure"),
            ("nothing_like_it > 1", "the result has no figure nothing_like_it"),
        ] {
            let row = judged(text);
            assert!(!row.passed && row.reason.as_ref().unwrap().contains(reason), "{row:?}");
        }
    }
}
