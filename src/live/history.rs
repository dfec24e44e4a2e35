//! History of a run, bounded: when it gets long, neighbouring points are joined, so that the points stay evenly spaced.

use serde::Serialize;

/// Maximum number of points.
pub(super) const MOST_POINTS: usize = 600;

/// Percentiles of delays, in microseconds; none without deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50_micros: Option<u64>,
    /// 90th percentile.
    pub p90_micros: Option<u64>,
    /// 99th percentile.
    pub p99_micros: Option<u64>,
    /// 99.9th percentile.
    pub p999_micros: Option<u64>,
}

impl Percentiles {
    /// Maximum of each percentile: percentiles of two periods can't be merged, and the worse one must not be hidden.
    fn worse(self, other: Self) -> Self {
        Self {
            p50_micros: self.p50_micros.max(other.p50_micros),
            p90_micros: self.p90_micros.max(other.p90_micros),
            p99_micros: self.p99_micros.max(other.p99_micros),
            p999_micros: self.p999_micros.max(other.p999_micros),
        }
    }
}

/// State of a run at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// Seconds since the run began.
    pub(super) seconds: f64,
    /// Deliveries that the schedules have offered so far, warm-up included.
    pub(super) offered: u64,
    /// Deliveries made so far, warm-up included.
    pub(super) delivered: u64,
    /// Delays of the deliveries since the previous point.
    #[serde(flatten)]
    pub(super) delay: Percentiles,
}

/// Points of a run, at even distances.
#[derive(Clone, Debug)]
pub(super) struct History {
    points: Vec<Point>,
    /// Samples in a complete point, and in the last point so far.
    stride: u32,
    in_last: u32,
    /// Raised each time a point before the last one changes.
    generation: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { points: vec![], stride: 1, in_last: 1, generation: 0 }
    }
}

impl History {
    /// Adds a sample. Counts are cumulative, so the later of two samples contains both.
    pub(super) fn push(&mut self, sample: Point) {
        if self.in_last < self.stride
            && let Some(last) = self.points.last_mut()
        {
            *last = Point { delay: last.delay.worse(sample.delay), ..sample };
            self.in_last += 1;
            return;
        }
        if self.points.len() == MOST_POINTS {
            // All points are complete.
            let pairs = self.points.chunks(2).filter_map(|pair| {
                let (first, last) = (pair.first()?, pair.last()?);
                Some(Point { delay: first.delay.worse(last.delay), ..*last })
            });
            self.points = pairs.collect();
            self.stride = self.stride.saturating_mul(2);
            self.generation += 1;
        }
        self.points.push(sample);
        self.in_last = 1;
    }

    /// Generation of the points: a browser with the same generation needs only points from its last one on.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64) -> Point {
        let p99_micros = Some(if second == 700 { 9000 } else { 10 });
        let delay = Percentiles { p99_micros, ..Percentiles::default() };
        Point { seconds: second as f64, offered: 10 * second, delivered: 9 * second, delay }
    }

    #[test]
    fn a_short_run_keeps_every_sample() {
        let mut history = History::default();
        (0..MOST_POINTS as u64).for_each(|second| history.push(sample(second)));
        assert_eq!((history.points().len(), history.generation()), (MOST_POINTS, 0));
        assert_eq!(history.points()[7], sample(7));
    }

    #[test]
    fn a_long_run_is_thinned_evenly_and_hides_no_peak() {
        let mut history = History::default();
        for second in 0..20_000 {
            history.push(sample(second));
            assert!(history.points().len() <= MOST_POINTS);
            assert_eq!(history.points().last().unwrap().seconds, second as f64, "the last sample is always there");
        }
        let points = history.points();
        assert!(points.len() >= MOST_POINTS / 2, "{}", points.len());
        let gaps: Vec<f64> = points.windows(2).map(|pair| pair[1].seconds - pair[0].seconds).collect();
        assert!(gaps[..gaps.len() - 1].iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
        assert!(points.is_sorted_by_key(|point| point.delivered));
        assert!(points.iter().any(|point| point.delay.p99_micros == Some(9000)));
    }
}
