//! Metrics of the runner: the things that only it knows, because it decides them.

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{Definition, Kind, MetricsError, render};

/// Phases of a run.
pub const RUN_PHASES: &[&str] =
    &["observe", "connect", "links", "warm-up", "measure", "drain", "explore", "collect", "finished"];

const PHASE: (&str, &[&str]) = ("phase", RUN_PHASES);
/// Number and text of a fault, as in the scenario.
const FAULT: (&str, &[&str]) = ("number", &[]);
/// Share of the weight.
const SHARE: (&str, &[&str]) = ("share", &["1/3", "2/3", "all"]);

/// Rows of the runner's table, in the order of its fields.
pub const RUNNER_DEFINITIONS: [Definition; 9] = [
    gauge("run_phase", Some(PHASE), "1 for the present phase of the run, 0 for the others."),
    gauge(
        "run_phase_began_seconds",
        Some(PHASE),
        "Begin of the phase, the last one of its name, in seconds since the Unix epoch; 0 before it.",
    ),
    gauge(
        "run_window_begin_seconds",
        None,
        "Opening of the measured window, in seconds since the Unix epoch; 0 before the start.",
    ),
    gauge(
        "run_window_end_seconds",
        None,
        "End of the measured window, in seconds since the Unix epoch; infinite without an end, 0 before the start.",
    ),
    gauge(
        "run_fault_active",
        Some(FAULT),
        "1 from the begin of a fault to the end of its effect, otherwise 0; the label `fault` has its text.",
    ),
    gauge(
        "run_fault_began_seconds",
        Some(FAULT),
        "Begin of the fault, in seconds since the Unix epoch; 0 before it. The label `fault` has its text.",
    ),
    gauge("run_trial", None, "Present trial of explore mode, from 0; -1 outside of explore mode."),
    gauge("run_trials_finished", None, "Trials of explore mode that all nodes have finished."),
    gauge(
        "run_reach_seconds",
        Some(SHARE),
        "Seconds from the intended send time of a message until nodes with this share of the weight had it: the result \
         of the window, known at the end of the run. The labels `class` and `quantile` have the traffic class and the \
         quantile over its messages. Infinite if the quantile lies among messages that never reached the share.",
    ),
];

const fn gauge(
    name: &'static str,
    label: Option<(&'static str, &'static [&'static str])>,
    help: &'static str,
) -> Definition {
    Definition { name, kind: Kind::Gauge, label, help }
}

/// Metrics of a runner.
#[derive(Clone, Debug)]
pub struct RunnerMetrics {
    registry: Registry,
    phase: IntGaugeVec,
    phase_began: GaugeVec,
    window_begin: Gauge,
    window_end: Gauge,
    fault_active: IntGaugeVec,
    fault_began: GaugeVec,
    trial: IntGauge,
    trials_finished: IntGauge,
    reach: GaugeVec,
}

impl RunnerMetrics {
    /// Metrics before the first phase.
    ///
    /// # Errors
    /// Fails if two rows of the table have the same name.
    pub fn new() -> Result<Self, MetricsError> {
        let [phase, phase_began, begin, end, active, began, trial, finished, reach] =
            RUNNER_DEFINITIONS.map(|row| Opts::new(row.name, row.help));
        let of_fault: &[&str] = &["number", "fault"];
        let metrics = Self {
            registry: Registry::new(),
            phase: IntGaugeVec::new(phase, &["phase"])?,
            phase_began: GaugeVec::new(phase_began, &["phase"])?,
            window_begin: Gauge::with_opts(begin)?,
            window_end: Gauge::with_opts(end)?,
            fault_active: IntGaugeVec::new(active, of_fault)?,
            fault_began: GaugeVec::new(began, of_fault)?,
            trial: IntGauge::with_opts(trial)?,
            trials_finished: IntGauge::with_opts(finished)?,
            reach: GaugeVec::new(reach, &["class", "share", "quantile"])?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.phase.clone()))?;
        registry.register(Box::new(metrics.phase_began.clone()))?;
        registry.register(Box::new(metrics.window_begin.clone()))?;
        registry.register(Box::new(metrics.window_end.clone()))?;
        registry.register(Box::new(metrics.fault_active.clone()))?;
        registry.register(Box::new(metrics.fault_began.clone()))?;
        registry.register(Box::new(metrics.trial.clone()))?;
        registry.register(Box::new(metrics.trials_finished.clone()))?;
        registry.register(Box::new(metrics.reach.clone()))?;
        metrics.trial.set(-1);
        for phase in RUN_PHASES {
            metrics.phase.with_label_values(&[phase]).set(0);
            metrics.phase_began.with_label_values(&[phase]).set(0.0);
        }
        Ok(metrics)
    }

    /// Begins a phase at `now`, in nanoseconds since the Unix epoch. A phase that is not in the table is left out.
    pub fn phase(&self, phase: &str, now: u64) {
        if !RUN_PHASES.contains(&phase) {
            return;
        }
        for other in RUN_PHASES {
            self.phase.with_label_values(&[other]).set(i64::from(*other == phase));
        }
        self.phase_began.with_label_values(&[phase]).set(seconds(now));
    }

    /// Sets the measured window, in nanoseconds since the Unix epoch.
    pub fn window(&self, from: u64, to: Option<u64>) {
        self.window_begin.set(seconds(from));
        self.window_end.set(to.map_or(f64::INFINITY, seconds));
    }

    /// Sets the state of a fault: its number, its text, the time of its begin in nanoseconds since the Unix epoch, and
    /// whether it has an effect now. Their number is that of the scenario's faults, which is bounded.
    pub fn fault(&self, number: usize, text: &str, began: Option<u64>, active: bool) {
        let labels = [&number.to_string(), text];
        self.fault_active.with_label_values(&labels).set(active.into());
        self.fault_began.with_label_values(&labels).set(began.map_or(0.0, seconds));
    }

    /// Sets the present trial.
    pub fn trial(&self, number: usize) {
        self.trial.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Sets the number of finished trials.
    pub fn trials_finished(&self, count: usize) {
        self.trials_finished.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets a quantile of the time to reach a share of the weight, of a traffic class; none if it lies among messages
    /// that never reached the share. The number of classes is bounded by the scenario.
    pub fn reach(&self, class: &str, share: &str, quantile: f64, micros: Option<u64>) {
        let seconds = micros.map_or(f64::INFINITY, |micros| micros as f64 / 1e6);
        self.reach.with_label_values(&[class, share, &quantile.to_string()]).set(seconds);
    }

    /// Text of the metrics in Prometheus' format.
    ///
    /// # Errors
    /// Fails if a value can't be encoded.
    pub fn render(&self) -> Result<String, MetricsError> {
        render(&self.registry, None)
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_phase_is_present_and_each_has_its_begin() {
        let metrics = RunnerMetrics::new().unwrap();
        metrics.phase("connect", 1_500_000_000);
        metrics.phase("measure", 2_000_000_000);
        metrics.phase("unknown", 3);
        metrics.window(2_000_000_000, None);
        metrics.fault(1, "3s kill 2", Some(5_000_000_000), true);
        metrics.reach("votes", "2/3", 0.99, Some(2500));
        metrics.reach("votes", "all", 1.0, None);
        let text = metrics.render().unwrap();
        for line in [
            "run_phase{phase=\"measure\"} 1",
            "run_phase{phase=\"connect\"} 0",
            "run_phase_began_seconds{phase=\"connect\"} 1.5",
            "run_phase_began_seconds{phase=\"drain\"} 0",
            "run_window_end_seconds inf",
            "run_fault_active{fault=\"3s kill 2\",number=\"1\"} 1",
            "run_fault_began_seconds{fault=\"3s kill 2\",number=\"1\"} 5",
            "run_trial -1",
            "run_reach_seconds{class=\"votes\",quantile=\"0.99\",share=\"2/3\"} 0.0025",
            "run_reach_seconds{class=\"votes\",quantile=\"1\",share=\"all\"} inf",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        for row in RUNNER_DEFINITIONS {
            assert!(text.contains(&format!("# TYPE {} {}\n", row.name, row.kind.name())), "{}", row.name);
        }
    }
}
