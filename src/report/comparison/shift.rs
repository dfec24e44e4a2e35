//! Shift between two sides with its interval, after Hodges and Lehmann (1963).
//!
//! The estimate is the median of the differences of all pairs of a run of B and a run of A. The interval lies between two
//! of these differences, at the ranks that the distribution of Mann and Whitney states, so it has the shifts that the rank
//! test would not refuse. Closed intervals keep their confidence with ties (Lehmann, Nonparametrics, 1975, section 2.7).
//!
//! An infinite value stands for an unknown number above all measured ones. A difference with it has bounds in place of a
//! value, and the interval takes the lower bounds for its lower end and the upper bounds for its upper end. So it contains
//! each interval that any such numbers would have given.

/// Part by which equal differences may differ, because logarithms are rounded.
const ROUNDING: f64 = 1e-12;

/// Shift of B against A; an end is infinite if infinite values leave it open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shift {
    /// Median of the differences of all pairs; none if it depends on the numbers behind infinite values.
    pub(super) estimate: Option<f64>,
    /// Smallest shift in the interval.
    pub(super) lower: f64,
    /// Largest shift in the interval.
    pub(super) upper: f64,
}

/// Values in ascending order.
pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Median of sorted values; infinite if one of those in the middle is, and none without values.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let high = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(high);
    }
    let low = *sorted.get(middle.checked_sub(1)?)?;
    Some(if low == high { low } else { low / 2.0 + high / 2.0 })
}

/// Differences of all pairs, sorted, with infinite values replaced by `of_a` and `of_b`, of which at most one is infinite.
fn differences(a: &[f64], b: &[f64], of_a: f64, of_b: f64) -> Vec<f64> {
    let number = |value: f64, replacement: f64| if value.is_finite() { value } else { replacement };
    sorted(b.iter().flat_map(|b| a.iter().map(move |a| number(*b, of_b) - number(*a, of_a))))
}

/// True if two differences are equal but for the rounding of their logarithms.
pub(super) fn same(one: f64, other: f64) -> bool {
    let close = || (one - other).abs() <= ROUNDING * one.abs().max(other.abs()).max(1.0);
    one == other || (one.is_finite() && other.is_finite() && close())
}

/// Shift of two sides; `rank` is that of `rank_test::interval_rank`, and none comes of rank 0.
pub(super) fn shift(a: &[f64], b: &[f64], rank: usize) -> Option<Shift> {
    let numbers = a.iter().chain(b).copied().filter(|value| value.is_finite());
    let above = numbers.max_by(f64::total_cmp)?.next_up();
    // A difference is smallest with the smallest number behind B's infinite value and the largest behind A's.
    let low = differences(a, b, f64::INFINITY, above);
    let high = differences(a, b, above, f64::INFINITY);
    let (low_middle, high_middle) = (median(&low)?, median(&high)?);
    Some(Shift {
        estimate: same(low_middle, high_middle).then_some(low_middle),
        lower: *low.get(rank.checked_sub(1)?)?,
        upper: *high.get(high.len().checked_sub(rank)?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_interval_is_that_of_r() {
        // R: wilcox.test(b, a, conf.int = TRUE) takes the differences at ranks 8 and 43 of 50 here.
        let a = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let b = [1.15, 0.88, 0.90, 0.74, 1.21];
        let shift = shift(&a, &b, 9).unwrap();
        for (found, wanted) in [(shift.lower, -0.76), (shift.upper, 0.15), (shift.estimate.unwrap(), -0.305)] {
            assert!((found - wanted).abs() < 1e-9, "{found} instead of {wanted}");
        }
    }

    #[test]
    fn infinite_values_open_the_interval_on_their_side() {
        let (low, high) = ([1.0, 2.0, 3.0, 4.0], [f64::INFINITY; 4]);
        let up = shift(&low, &high, 1).unwrap();
        assert!(up.lower > 0.0 && up.lower < 1e-9 && up.upper == f64::INFINITY && up.estimate.is_none(), "{up:?}");
        let down = shift(&high, &low, 1).unwrap();
        assert!(down.upper == -up.lower && down.lower == f64::NEG_INFINITY && down.estimate.is_none(), "{down:?}");
        assert_eq!(shift(&high, &high, 1), None);
        assert_eq!(shift(&low, &low, 0), None);
        // A single infinite value of ten does not reach the estimate.
        let ten: Vec<f64> = (0..10).map(f64::from).collect();
        let with_one = [&ten[..9], &[f64::INFINITY]].concat();
        assert_eq!(shift(&ten, &with_one, 24).unwrap().estimate, shift(&ten, &ten, 24).unwrap().estimate);
    }

    proptest! {
        #[test]
        fn an_interval_with_infinite_values_contains_that_of_any_large_numbers(
            a in proptest::collection::vec(0.0..100.0_f64, 10),
            b in proptest::collection::vec(0.0..100.0_f64, 10),
            behind_a in proptest::collection::vec(101.0..1e6_f64, 0..9),
            behind_b in proptest::collection::vec(101.0..1e6_f64, 0..9),
        ) {
            let with = |values: &[f64], others: &[f64]| [others, &values[others.len()..]].concat();
            let lost = |values: &[f64], others: &[f64]| with(values, &vec![f64::INFINITY; others.len()]);
            let known = shift(&with(&a, &behind_a), &with(&b, &behind_b), 24).unwrap();
            let unknown = shift(&lost(&a, &behind_a), &lost(&b, &behind_b), 24).unwrap();
            prop_assert!(unknown.lower <= known.lower && known.upper <= unknown.upper, "{unknown:?} {known:?}");
            if let Some(estimate) = unknown.estimate {
                prop_assert_eq!(Some(estimate), known.estimate);
            }
        }
    }
}
