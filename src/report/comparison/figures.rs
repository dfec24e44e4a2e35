//! Figures of the runs, and the plan of their comparison.

use super::super::figures::{Better, FigureValue};

/// One run of a side.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFigures {
    /// Name of the run for people: its folder.
    pub name: String,
    /// Figures by their names, in an order that is the same in each run.
    pub figures: Vec<(String, FigureValue)>,
}

impl RunFigures {
    /// Value of a figure; a figure that the run does not have is unknown.
    pub(super) fn value(&self, name: &str) -> FigureValue {
        let figure = self.figures.iter().find(|(known, _)| known == name);
        figure.map_or(FigureValue::Unknown, |(_, value)| *value)
    }
}

/// A figure that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Name of the figure.
    pub name: String,
    /// Direction in which it improves.
    pub better: Better,
    /// Unit of its values, for the table: `us`, `bytes`, `s`, `ratio`, or nothing for a count.
    pub unit: String,
}

/// Measures of a comparison, and the confidence of its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonPlan {
    /// Measures to compare. Each further one makes it harder to find a difference in the others.
    pub measures: Vec<Measure>,
    /// Confidence of the intervals, and of the whole set of verdicts: 0.95 means that equal sides have any difference
    /// reported in at most 5 % of the comparisons. It lies between 0 and 1; 0.95 replaces every other number.
    pub confidence: f64,
}
