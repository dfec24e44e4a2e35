//! Warning about clocks that differ by more than the delays permit.

use super::{clocks::Clocks, summary::RunSummary};

/// Share of the median delay above which a difference of clocks causes a warning.
const MATTERS: f64 = 0.1;

/// Warning that a reader of the delays of `run` needs.
pub fn clock_warning(clocks: &Clocks, run: &RunSummary) -> Option<String> {
    let worst = clocks.worst?;
    let medians = run.trials.iter().map(|trial| &trial.totals).chain(&run.totals);
    let median = medians.filter_map(|totals| totals.delay.p50_micros).min()?;
    let millis = |micros: u64| micros as f64 / 1000.0;
    (worst.most() as f64 > MATTERS * median as f64).then(|| {
        format!(
            "the clocks of nodes {} and {} were {:.2} ms apart (known to +-{:.2} ms): a delay between hosts may be \
             off by {:.2} ms, and the median is {:.2} ms",
            worst.nodes.0,
            worst.nodes.1,
            millis(worst.difference_micros),
            millis(worst.error_micros),
            millis(worst.most()),
            millis(median)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::clocks::{ClockOffset, ClockRow},
        *,
    };

    fn row(node: u64, clock_of: u64, offset_micros: i64, error_micros: u64) -> ClockRow {
        ClockRow { node, clock_of, before: None, after: Some(ClockOffset { offset_micros, error_micros }) }
    }

    #[test]
    fn a_difference_is_told_where_it_matters() {
        let clocks = Clocks::new(vec![row(0, 0, 0, 100), row(1, 1, 800, 100)]);
        let mut run = RunSummary::failed(Default::default(), String::new());
        assert_eq!(clock_warning(&clocks, &run), None, "nothing was delivered");
        run.totals.as_mut().unwrap().delay.p50_micros = Some(10_000);
        assert_eq!(clock_warning(&clocks, &run), None);
        run.totals.as_mut().unwrap().delay.p50_micros = Some(9_000);
        let warning = clock_warning(&clocks, &run).unwrap();
        assert!(warning.contains("nodes 0 and 1 were 0.80 ms apart (known to +-0.20 ms)"), "{warning}");
    }
}
