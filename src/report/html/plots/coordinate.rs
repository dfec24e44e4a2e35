//! Axes: linear or logarithmic, with marks at round values.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::report::units::time;

/// Unit of an axis' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Seconds.
    Seconds,
    /// Share of a whole, 0 to 1, shown in percent.
    Share,
    /// Number.
    Count,
    /// Number per second.
    PerSecond,
    /// Bytes per second, shown in powers of 1000, as the marks of an axis are round in them.
    BytesPerSecond,
    /// Ratio of two values.
    Ratio,
}

/// A number with at most three significant digits, without zeros at its end.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 6) };
    let text = format!("{value:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Unit {
    /// Label of a value.
    pub(crate) fn label(self, value: f64) -> String {
        match self {
            Self::Micros if value >= 1e6 => format!("{} s", short(value / 1e6)),
            Self::Micros if value >= 1e3 => format!("{} ms", short(value / 1e3)),
            Self::Micros => format!("{} us", short(value)),
            Self::Seconds => format!("{} s", short(value)),
            Self::Share => format!("{} %", short(value * 100.0)),
            Self::Count | Self::Ratio => short(value),
            Self::PerSecond => format!("{}/s", short(value)),
            Self::BytesPerSecond if value >= 1e9 => format!("{} GB/s", short(value / 1e9)),
            Self::BytesPerSecond if value >= 1e6 => format!("{} MB/s", short(value / 1e6)),
            Self::BytesPerSecond => format!("{} KB/s", short(value / 1e3)),
        }
    }

    /// A value in a text.
    pub(crate) fn value(self, value: f64) -> String {
        match self {
            Self::Micros => time(Some(value as u64)),
            _ => self.label(value),
        }
    }
}

/// Description of an axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Label.
    pub label: String,
    /// Unit of the values.
    pub unit: Unit,
    /// True for a logarithmic axis; values that are not positive are left out.
    pub logarithmic: bool,
    /// Range that is shown for any values.
    pub at_least: Option<Range<f64>>,
}

impl Axis {
    /// A linear axis from 0.
    pub fn linear(label: &str, unit: Unit) -> Self {
        Self { label: label.into(), unit, logarithmic: false, at_least: Some(0.0..0.0) }
    }

    /// A logarithmic axis.
    pub fn logarithmic(label: &str, unit: Unit) -> Self {
        Self { label: label.into(), unit, logarithmic: true, at_least: None }
    }

    /// True if the axis shows a value.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }

    /// Coordinates that contain all values; none without values.
    pub(super) fn over(&self, values: impl Iterator<Item = f64>) -> Option<Coordinate> {
        let wanted = self.at_least.iter().flat_map(|range| [range.start, range.end]);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut any = false;
        for value in values.filter(|value| self.shows(*value)) {
            any = true;
            (low, high) = (low.min(value), high.max(value));
        }
        for value in wanted.filter(|value| self.shows(*value)) {
            (low, high) = (low.min(value), high.max(value));
        }
        any.then(|| Coordinate::new(low, high, self.logarithmic))
    }
}

/// Values of an axis on the drawing.
#[derive(Clone, Debug)]
pub(super) struct Coordinate {
    low: f64,
    high: f64,
    logarithmic: bool,
}

/// Smallest ratio of the ends of a logarithmic axis.
const LEAST_RATIO: f64 = 1.5;

/// Steps between the marks of a linear axis, and marks within a decade, by their density.
const ROUND: [f64; 3] = [1.0, 2.0, 5.0];

impl Coordinate {
    fn new(low: f64, high: f64, logarithmic: bool) -> Self {
        if logarithmic {
            let (low, high) =
                if high / low < LEAST_RATIO { (low / LEAST_RATIO, high * LEAST_RATIO) } else { (low, high) };
            return Self { low: low / 1.05, high: high * 1.05, logarithmic };
        }
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        Self { low, high, logarithmic }
    }

    /// Adds room above the largest value.
    pub(super) fn with_room(mut self) -> Self {
        if !self.logarithmic {
            self.high += (self.high - self.low) * 0.05;
        }
        self
    }

    fn share(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value.max(f64::MIN_POSITIVE).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn linear_marks(&self, most: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / most.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = ROUND.iter().chain(&[10.0]).map(|round| round * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil() as i64;
        (0..=most as i64 + 1).map(|number| (first + number) as f64 * step).filter(|mark| *mark <= self.high).collect()
    }

    fn logarithmic_marks(&self, most: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let marks = |within: &[f64], every: usize| -> Vec<f64> {
            let decades = (first..=last).step_by(every).map(|power| 10_f64.powi(power));
            let marks = decades.flat_map(|decade| within.iter().map(move |round| round * decade));
            marks.filter(|mark| (self.low..=self.high).contains(mark)).collect()
        };
        let dense: [&[f64]; 4] =
            [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 3.0, 5.0, 7.0], &ROUND, &[1.0, 3.0]];
        for within in dense {
            let found = marks(within, 1);
            if found.len() <= most {
                return found;
            }
        }
        let decades = usize::try_from(last - first).unwrap_or(1);
        marks(&[1.0], decades.div_ceil(most.max(1)).max(1))
    }
}

impl Ranged for Coordinate {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = self.share(*value);
        // Values beyond the axis are drawn at its end.
        limit.0 + (share.clamp(-0.01, 1.01) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Between the marks, no light lines.
        if hint.weight().allow_light_points() {
            return vec![];
        }
        let most = hint.bold_points();
        if self.logarithmic { self.logarithmic_marks(most) } else { self.linear_marks(most) }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(Coordinate::new(0.0, 20.0, false).linear_marks(5), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(Coordinate::new(0.0, 1.0, false).linear_marks(5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(Coordinate::new(100.0, 90_000.0, true).logarithmic_marks(4), [100.0, 1e3, 1e4]);
        let narrow = Coordinate::new(400.0, 900.0, true).logarithmic_marks(8);
        assert!((3..=8).contains(&narrow.len()), "{narrow:?}");
        assert!(Coordinate::new(1.0, 1e12, true).logarithmic_marks(5).len() <= 5);
    }

    #[test]
    fn values_that_are_equal_or_strange_have_an_axis() {
        let axis = Axis::logarithmic("", Unit::Micros);
        assert!(axis.over([0.0, -1.0, f64::NAN, f64::INFINITY].into_iter()).is_none());
        let one = axis.over([5.0].into_iter()).unwrap();
        assert!(one.low < 5.0 && one.high > 5.0);
        let linear = Axis::linear("", Unit::Count).over([0.0].into_iter()).unwrap();
        assert!(linear.high > linear.low);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 0.25, 1.0, 1234.0].map(|value| Unit::Count.label(value));
        assert_eq!(labels, ["0", "0.25", "1", "1234"]);
        assert_eq!(Unit::Micros.label(1500.0), "1.5 ms");
        assert_eq!(Unit::Share.label(0.999), "99.9 %");
    }
}
