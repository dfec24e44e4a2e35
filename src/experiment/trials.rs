//! Mode explore: follows the trials to their ends.

use super::state::{Experiment, LIVE_POLL};
use crate::{
    clock::{sleep, unix_nanos},
    node::{Load, NodeState, StartOrder, TrialTimes},
};

impl Experiment<'_> {
    /// End of a run of trials by `--timeout`, in nanoseconds since the Unix epoch.
    fn timeout_end(&self, order: &StartOrder) -> Option<u64> {
        let window = u64::try_from(self.plan.window?.as_nanos()).ok()?;
        Some(order.start_unix_nanos.saturating_add(window))
    }

    /// End of the last trial, or of a run of trials by `--timeout`, in nanoseconds since the Unix epoch; none in all other
    /// modes.
    pub(super) fn trials_end(&self, order: &StartOrder) -> Option<u64> {
        let Load::Explore { cool_down, run, trials, .. } = &self.plan.workload.load else { return None };
        let last = TrialTimes::new(order.start_unix_nanos, trials.len().saturating_sub(1), *cool_down, *run);
        Some(self.timeout_end(order).map_or(last.to_unix_nanos, |end| end.min(last.to_unix_nanos)))
    }

    /// Follows the trials to the last one, or to `--timeout`. The nodes follow their clocks, so this ends independently
    /// of them.
    pub(super) async fn explore(&mut self, order: StartOrder) -> Result<(), String> {
        let Load::Explore { cool_down, run, trials, .. } = &self.plan.workload.load else { return Ok(()) };
        self.progress.stage("explore", &format!("{} trials", trials.len()));
        self.progress.line(&format!(
            "{} trials, {} s each after {} s",
            trials.len(),
            run.as_secs(),
            cool_down.as_secs()
        ));
        let times = |number| TrialTimes::new(order.start_unix_nanos, number, *cool_down, *run);
        let end = self.timeout_end(&order);
        let patience = self.plan.timing.hang;
        let last = times(trials.len().saturating_sub(1)).drained_unix_nanos.saturating_add(patience.as_nanos() as u64);
        loop {
            self.poll().await?;
            self.tell_trials();
            let unfinished = self.latest.values().find(|node| node.phase != NodeState::Finished);
            if unfinished.is_none() && self.latest.len() == self.clients.len() {
                return Ok(());
            }
            let now = unix_nanos();
            if now > last {
                let node = unfinished.map_or_else(|| "a node".into(), |node| format!("node {}", node.node));
                return Err(format!("{node} has not finished its trials {} s after the last one", patience.as_secs()));
            }
            if end.is_some_and(|end| now >= end) {
                let done = self.trials_told;
                if done == 0 {
                    return Err("--timeout ended the run before its first trial was over".into());
                }
                self.warnings.push(format!("--timeout ended the run after {done} of {} trials", trials.len()));
                return Ok(());
            }
            let started = now.saturating_sub(order.start_unix_nanos) as f64;
            let number = (started / (*cool_down + *run).as_nanos() as f64) as usize;
            let number = number.min(trials.len().saturating_sub(1));
            self.progress.status().trial(number);
            let figures = self.tell(if now < times(number).from_unix_nanos { "cool-down" } else { "measure" });
            self.progress.update(number as f64 / trials.len() as f64, &format!("trial {number}: {figures}"));
            sleep(LIVE_POLL).await;
        }
    }
}
