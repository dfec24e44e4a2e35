//! Percentiles of a distribution with missing values, which are later than all others.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::node::HistogramText;

/// Reported quantiles.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// Minimum number of values beyond a supported percentile: with fewer, it depends on a few accidents.
const MIN_BEYOND: u64 = 10;

/// A quantile of a distribution of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantile {
    /// Share of the values that are not above it, 0 to 1.
    pub quantile: f64,
    /// Value, in microseconds; none if the quantile lies among missing values.
    pub value_micros: Option<u64>,
    /// Lower bound of a missing value, in microseconds: its age when the run stopped waiting for it, and at least the
    /// largest value that arrived.
    pub at_least_micros: Option<u64>,
    /// True if at least ten values lie beyond it. The largest value is exact, so it is always supported.
    pub supported: bool,
}

/// Percentiles of a distribution of times, in microseconds, and the distribution itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DelaySummary {
    /// Number of values that arrived.
    pub count: u64,
    /// Number of missing values, which are later than all others.
    pub missing: u64,
    /// Median. This and the other percentiles are none if they lie among missing values, and if the distribution is
    /// empty.
    pub p50_micros: Option<u64>,
    /// 90th percentile.
    pub p90_micros: Option<u64>,
    /// 99th percentile.
    pub p99_micros: Option<u64>,
    /// 99.9th percentile.
    pub p999_micros: Option<u64>,
    /// Largest value, to 3 significant digits.
    pub max_micros: Option<u64>,
    /// Mean; none if a value is missing.
    pub mean_micros: Option<f64>,
    /// The same quantiles with their bounds and their support.
    pub quantiles: Vec<Quantile>,
    /// All values that arrived, in HDR's own encoding.
    pub histogram: HistogramText,
}

/// Missing values, by their age when the run stopped waiting, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    /// Age and count, by ascending age.
    ages: Vec<(u64, u64)>,
    total: u64,
}

impl Missing {
    /// Makes `total` missing values; `ages` has the age and the count of those with a known age. The others have none.
    pub(super) fn new(total: u64, ages: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ages: Vec<(u64, u64)> = ages.into_iter().filter(|(_, count)| *count > 0).collect();
        // The oldest values are most certainly among the missing ones.
        ages.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        let mut left = total;
        for (_, count) in &mut ages {
            *count = left.min(*count);
            left -= *count;
        }
        ages.push((0, left));
        ages.retain(|(_, count)| *count > 0);
        ages.reverse();
        Self { ages, total }
    }

    /// Missing values of several distributions together.
    pub(super) fn of_all<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut merged = Self::default();
        for one in all {
            merged.ages.extend(&one.ages);
            merged.total = merged.total.saturating_add(one.total);
        }
        merged.ages.sort_unstable_by_key(|(age, _)| *age);
        merged
    }

    /// Number of values that are older than `micros`.
    pub(super) fn older_than(&self, micros: u64) -> u64 {
        self.ages.iter().filter(|(age, _)| *age > micros).fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Age of value `number`, from 1, by ascending age.
    fn age_of(&self, number: u64) -> u64 {
        let mut seen = 0_u64;
        let at = self.ages.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= number
        });
        at.map_or(0, |(age, _)| *age)
    }
}

impl Quantile {
    fn of(histogram: &Histogram<u64>, missing: &Missing, quantile: f64) -> Self {
        let came = histogram.len();
        let all = came.saturating_add(missing.total);
        // Rank among all values, from 1.
        let rank = ((quantile * all as f64).ceil() as u64).clamp(1, all);
        let (value_micros, at_least_micros) = if missing.total == 0 {
            (Some(histogram.value_at_quantile(quantile)), None)
        } else if rank <= came {
            (Some(histogram.value_at_quantile(rank as f64 / came as f64)), None)
        } else {
            (None, Some(missing.age_of(rank - came).max(histogram.max())))
        };
        let supported = quantile >= 1.0 || all - rank >= MIN_BEYOND;
        Self { quantile, value_micros, at_least_micros, supported }
    }
}

impl DelaySummary {
    /// Summarizes a histogram of microseconds and the missing values.
    pub(super) fn of(histogram: &Histogram<u64>, missing: &Missing) -> Self {
        let any = !histogram.is_empty() || missing.total > 0;
        let quantiles = QUANTILES.map(|quantile| any.then(|| Quantile::of(histogram, missing, quantile)));
        let [p50, p90, p99, p999, max] = quantiles.map(|quantile| quantile?.value_micros);
        Self {
            count: histogram.len(),
            missing: missing.total,
            p50_micros: p50,
            p90_micros: p90,
            p99_micros: p99,
            p999_micros: p999,
            max_micros: max,
            mean_micros: (!histogram.is_empty() && missing.total == 0).then(|| histogram.mean()),
            quantiles: quantiles.into_iter().flatten().collect(),
            histogram: HistogramText::encode(histogram),
        }
    }

    /// One of the reported quantiles.
    pub fn quantile(&self, quantile: f64) -> Option<&Quantile> {
        self.quantiles.iter().find(|known| known.quantile == quantile)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    #[test]
    fn a_value_that_never_came_is_later_than_all_others() {
        let came: Vec<u64> = (0..300).map(|_| 1_000).collect();
        // 500 messages, sent over five seconds, never arrived, and the run waited two more seconds.
        let ages = (0..5).map(|second| ((second + 2) * 1_000_000, 100));
        let delay = DelaySummary::of(&histogram(&came), &Missing::new(500, ages));
        assert_eq!((delay.count, delay.missing, delay.p50_micros, delay.max_micros), (300, 500, None, None));
        let at_least = |quantile| delay.quantile(quantile).unwrap().at_least_micros;
        assert_eq!([at_least(0.5), at_least(0.99)], [Some(2_000_000), Some(6_000_000)]);
        assert_eq!(delay.mean_micros, None);
    }

    #[test]
    fn few_losses_do_not_change_the_median() {
        let came: Vec<u64> = (1..=99).collect();
        let delay = DelaySummary::of(&histogram(&came), &Missing::new(1, []));
        assert_eq!((delay.p50_micros, delay.p99_micros, delay.p999_micros), (Some(50), Some(99), None));
        assert_eq!(delay.quantile(0.999).unwrap().at_least_micros, Some(99), "no less than the largest that came");
    }

    #[test]
    fn a_percentile_wants_ten_values_beyond_it() {
        let supported = |count: usize, quantile| {
            DelaySummary::of(&histogram(&vec![7; count]), &Missing::default()).quantile(quantile).unwrap().supported
        };
        assert_eq!([supported(999, 0.99), supported(1_000, 0.99)], [false, true]);
        assert_eq!([supported(19, 0.5), supported(20, 0.5)], [false, true]);
        assert!(supported(1, 1.0));
        let with_losses = DelaySummary::of(&histogram(&[7; 990]), &Missing::new(10, []));
        assert!(with_losses.quantile(0.99).unwrap().supported);
    }

    #[test]
    fn nothing_at_all_has_no_percentiles() {
        let delay = DelaySummary::of(&histogram(&[]), &Missing::default());
        assert_eq!((delay.count, delay.p50_micros, delay.quantiles.len()), (0, None, 0));
    }

    proptest! {
        /// Compares with a sorted list in which each missing value follows all arrived values, by its age.
        #[test]
        fn quantiles_are_those_of_a_sorted_list(
            mut came in prop::collection::vec(0..900_u64, 0..200), mut ages in prop::collection::vec(0..5_000_u64, 0..50),
        ) {
            came.sort_unstable();
            ages.sort_unstable();
            let missing = Missing::new(ages.len() as u64, ages.iter().map(|age| (*age, 1)));
            let delay = DelaySummary::of(&histogram(&came), &missing);
            prop_assert_eq!(delay.count + delay.missing, (came.len() + ages.len()) as u64);
            for quantile in &delay.quantiles {
                let all = came.len() + ages.len();
                let rank = ((quantile.quantile * all as f64).ceil() as usize).clamp(1, all);
                match came.get(rank - 1) {
                    // Up to 2047, a histogram of three digits is exact. The quantile of a rank may be rounded up.
                    Some(value) => {
                        let next = came.get(rank).unwrap_or(value);
                        let found = quantile.value_micros.unwrap();
                        prop_assert!(found == *value || found == *next, "{found} {value} {next}");
                    }
                    None => {
                        let age = ages[rank - 1 - came.len()].max(came.last().copied().unwrap_or(0));
                        prop_assert_eq!((quantile.value_micros, quantile.at_least_micros), (None, Some(age)));
                    }
                }
            }
        }
    }
}
