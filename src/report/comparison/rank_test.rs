//! Rank test of Mann and Whitney (1947), and the distribution behind it.
//!
//! The test asks if one side ranks above the other more than a random division of the same values into two sides would.
//! Up to [`EXACT_RUNS`] values in both sides, all divisions are counted, with ties as they are, by the shift algorithm of
//! Streitberg and Röhmel (1986). Above, the normal approximation with the corrections for ties and for continuity replaces
//! the count (Lehmann, Nonparametrics, 1975, chapter 1).

use statrs::distribution::{ContinuousCDF, Normal};

/// Maximum number of values of both sides whose divisions are counted: C(50, 25) is 1.3e14, which an `f64` holds exactly, and the count
/// takes about a million additions.
const EXACT_RUNS: usize = 50;

/// Doubled ranks of the values of both sides together, those of `a` first. Equal values share the mean of their ranks,
/// which is a whole number when doubled.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let values: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        2 * below + equal + 1
    };
    values.iter().map(rank).collect()
}

/// Number of ways to choose `size` of the doubled ranks, by their sum.
fn sums(ranks: &[usize], size: usize) -> Vec<f64> {
    let total: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; total + 1]; size + 1];
    ways[0][0] = 1.0;
    let mut reached = 0;
    for (taken, rank) in ranks.iter().enumerate() {
        reached += rank;
        for chosen in (1..=size.min(taken + 1)).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            let (from, to) = (&fewer[chosen - 1], &mut more[0]);
            for sum in *rank..=reached {
                to[sum] += from[sum - rank];
            }
        }
    }
    ways.swap_remove(size)
}

/// Two-sided p value of the hypothesis that both sides have the same distribution; infinite values rank above all numbers.
pub(super) fn p_value(a: &[f64], b: &[f64]) -> f64 {
    // Counting the smaller side is less work, and its ranks determine those of the other one.
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let ranks = doubled_ranks(small, large);
    let sum: usize = ranks[..small.len()].iter().sum();
    if ranks.len() <= EXACT_RUNS {
        let ways = sums(&ranks, small.len());
        let all: f64 = ways.iter().sum();
        let (low, high): (f64, f64) = (ways[..=sum].iter().sum(), ways[sum..].iter().sum());
        return (2.0 * low.min(high) / all).min(1.0);
    }
    let (n, m, runs) = (small.len() as f64, large.len() as f64, ranks.len() as f64);
    // Each group of t equal values removes t^3 - t from the variance: t^2 - 1 for each of its values.
    let equal = |rank: &usize| ranks.iter().filter(|other| *other == rank).count() as f64;
    let ties: f64 = ranks.iter().map(|rank| equal(rank).powi(2) - 1.0).sum();
    let variance = n * m / 12.0 * (runs + 1.0 - ties / (runs * (runs - 1.0)));
    let distance = (sum as f64 / 2.0 - n * (runs + 1.0) / 2.0).abs() - 0.5;
    if variance <= 0.0 || distance <= 0.0 {
        return 1.0;
    }
    (2.0 * Normal::standard().sf(distance / variance.sqrt())).min(1.0)
}

/// Rank, from 1, of the pair of runs at which the interval begins: the smallest count u of pairs with
/// P(U <= u) >= (1 - confidence) / 2. It is 0 if the runs are too few for an interval of this confidence.
pub(super) fn interval_rank(n: usize, m: usize, confidence: f64) -> usize {
    let tail = (1.0 - confidence) / 2.0;
    let (small, runs) = (n.min(m), n + m);
    if small == 0 {
        return 0;
    }
    if runs <= EXACT_RUNS {
        let ranks: Vec<usize> = (1..=runs).collect();
        let ways = sums(&ranks, small);
        let all: f64 = ways.iter().sum();
        let lowest = small * (small + 1) / 2;
        let mut below = 0.0;
        let reached = ways[lowest..].iter().take_while(|ways| {
            below += **ways;
            below / all < tail
        });
        return reached.count();
    }
    let pairs = (n * m) as f64;
    let deviation = (pairs * (runs as f64 + 1.0) / 12.0).sqrt();
    // The cast is exact, and makes 0 of negative numbers.
    (pairs / 2.0 + Normal::standard().inverse_cdf(tail) * deviation - 0.5).ceil() as usize
}

/// Smallest p value that the sides can have if no values are equal: that of sides of which one ranks wholly above the other.
pub(super) fn smallest_p_value(n: usize, m: usize) -> f64 {
    let low: Vec<f64> = (0..n).map(|value| value as f64).collect();
    let high: Vec<f64> = (n..n + m).map(|value| value as f64).collect();
    p_value(&low, &high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-9, "{found} instead of {wanted}");
    }

    #[test]
    fn p_values_without_ties_are_those_of_scipy() {
        // scipy 1.17.1: mannwhitneyu(a, b, method="exact")
        let a = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let b = [1.15, 0.88, 0.90, 0.74, 1.21];
        assert_close(p_value(&a, &b), 0.2544122544122544);
        assert_close(p_value(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]), 0.02857142857142857);
    }

    #[test]
    fn p_values_with_ties_are_those_of_all_divisions() {
        // scipy 1.17.1: permutation_test((a, b), statistic of mannwhitneyu, n_resamples=inf)
        let a = [1.0, 2.0, 2.0, 3.0, 5.0, 8.0];
        let b = [2.0, 3.0, 5.0, 9.0, 9.0, 10.0, 11.0];
        assert_close(p_value(&a, &b), 0.0675990675990676);
        // An infinite value is the largest rank.
        assert_close(p_value(&a, &[2.0, 3.0, 5.0, 9.0, 9.0, 10.0, f64::INFINITY]), 0.0675990675990676);
        assert_close(p_value(&[1.0; 10], &[1.0; 10]), 1.0);
    }

    #[test]
    fn p_values_of_many_runs_are_those_of_the_normal_approximation() {
        // scipy 1.17.1: mannwhitneyu(a, b, method="asymptotic")
        let a: Vec<f64> = (0..30).map(|i| f64::from(i * 37 % 101)).collect();
        let b: Vec<f64> = (0..28).map(|i| f64::from(i * 53 % 97 + 15)).collect();
        assert_close(p_value(&a, &b), 0.2046762068502469);
        let a: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 10)).collect();
        let b: Vec<f64> = (0..28).map(|i| f64::from(i * 3 % 10 + 2)).collect();
        assert_close(p_value(&a, &b), 0.02495291515706865);
        assert_close(p_value(&[1.0; 30], &[1.0; 30]), 1.0);
    }

    #[test]
    fn intervals_begin_at_the_rank_of_the_exact_distribution() {
        // Counted with the recursion of Mann and Whitney, as R's qwilcox(0.025, n, m) and qwilcox(0.005, n, m).
        let known = [(3, 3, 0, 0), (4, 4, 1, 0), (5, 8, 7, 3), (10, 10, 24, 17), (20, 20, 128, 106)];
        for (n, m, of_95, of_99) in known {
            assert_eq!((interval_rank(n, m, 0.95), interval_rank(n, m, 0.99)), (of_95, of_99), "{n} and {m} runs");
            assert_eq!(interval_rank(m, n, 0.95), of_95);
        }
        assert_eq!([interval_rank(0, 0, 0.95), interval_rank(0, 9, 0.95), interval_rank(1, 60, 0.95)], [0; 3]);
        // The exact ranks are 318 and 355; the approximation may not give a narrower interval.
        assert_eq!([interval_rank(30, 30, 0.95), interval_rank(40, 25, 0.95)], [317, 355]);
    }
}
