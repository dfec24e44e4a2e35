//! The order of the stages.

use std::time::Duration;

use super::{certificate::Stage, profile::Profiler, state::Experiment};
use crate::{
    clock::{Instant, unix_nanos},
    metrics::usage,
    node::StartOrder,
};

/// Delay after the opening of the window above which a runner has not seen all of it.
const COMES_LATE: Duration = Duration::from_secs(1);

impl Experiment<'_> {
    /// Runs up to the last delivery. An error is the reason why the run is invalid.
    pub(super) async fn stages(&mut self) -> Result<(), String> {
        let order = self.open().await?;
        self.follow(order).await
    }

    /// Runs up to the start, which every node has then.
    pub(super) async fn open(&mut self) -> Result<StartOrder, String> {
        self.connect().await?;
        self.probe_links(Stage::Before).await?;
        self.start().await
    }

    /// Runs from the start on.
    pub(super) async fn follow(&mut self, order: StartOrder) -> Result<(), String> {
        let trials_end = self.trials_end(&order);
        self.progress.status().window(&order, trials_end);
        if let Some(feed) = self.progress.feed() {
            let seconds = |nanos: u64| nanos as f64 / 1e9;
            feed.opens_in(seconds(order.from_unix_nanos()) - seconds(unix_nanos()));
        }
        self.show_faults();
        if self.plan.is_explore() {
            self.start_profiles()?;
            self.watch.window_opens();
            self.explore(order).await?;
            self.watch.window_closes();
            self.profiles.stop().await?;
            return self.probe_links(Stage::After).await;
        }
        self.progress.stage("warm-up", "");
        self.live_until(order.from_unix_nanos(), order.start_unix_nanos).await?;
        self.progress.stage("measure", "");
        self.start_profiles()?;
        let (since, cpu) = (Instant::now(), usage().cpu_seconds);
        self.watch.window_opens();
        let end = order.to_unix_nanos().unwrap_or(u64::MAX);
        // A late runner has not supervised the whole window.
        let all_of_it = unix_nanos() < order.from_unix_nanos() + COMES_LATE.as_nanos() as u64;
        self.live_until(end, order.from_unix_nanos()).await?;
        self.watch.window_closes();
        self.profiles.stop().await?;
        self.lift_faults().await?;
        if all_of_it && !self.deployment.capabilities().virtual_time {
            self.runner_cpu_percent = Some(100.0 * (usage().cpu_seconds - cpu) / since.elapsed().as_secs_f64());
        }
        self.progress.stage("drain", "");
        self.drain().await?;
        self.probe_links(Stage::After).await
    }

    /// Starts perf for each node, if perf profiles them.
    fn start_profiles(&mut self) -> Result<(), String> {
        if self.plan.profiler != Some(Profiler::Perf) {
            return Ok(());
        }
        let ids = self.plan.nodes.iter().map(|node| node.id);
        self.profiles.start(&self.plan.folder.profiles(), ids, self.deployment)
    }
}
