//! Progress of a run for the user: a bar on a terminal, otherwise plain lines, all on standard error; and the live
//! page, if requested.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    clock::{Instant, is_virtual, machine_elapsed},
    live::Feed,
    monitoring::RunStatus,
    terminal::{accepts_lines, one_line, tell},
};

/// Interval of the plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    stage: String,
    /// Time of the last plain line, by the machine's clock.
    last_line: Option<Duration>,
    /// Begin of virtual time.
    begun: Instant,
    feed: Option<Feed>,
    status: RunStatus,
}

impl Progress {
    /// Progress before the first stage. `feed` leads to the live page, `status` to Prometheus.
    pub(crate) fn new(feed: Option<Feed>, status: RunStatus) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:>10} [{bar:24}] {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        Self { bar, stage: String::new(), last_line: None, begun: Instant::now(), feed, status }
    }

    /// Begins a stage.
    pub(crate) fn stage(&mut self, stage: &str, message: &str) {
        self.stage = stage.into();
        self.status.phase(stage);
        self.last_line = None;
        if let Some(feed) = &mut self.feed {
            feed.stage(stage, message);
        }
        if let Some(bar) = self.bar.as_ref().filter(|_| accepts_lines()) {
            bar.set_prefix(stage.to_owned());
        }
        self.update(0.0, message);
    }

    /// Continues the stage; `part` of it is done, 0 to 1.
    pub(crate) fn update(&mut self, part: f64, message: &str) {
        if let Some(feed) = &mut self.feed {
            feed.progress(part, message);
        }
        let wall = machine_elapsed();
        let of_simulation =
            format!("{message} ({:.1} s in {:.0} s)", self.begun.elapsed().as_secs_f64(), wall.as_secs_f64());
        let message = if is_virtual() { of_simulation.as_str() } else { message };
        if let Some(bar) = &self.bar {
            // A terminal that is stopped (Ctrl-S) must not stop the run.
            if accepts_lines() {
                bar.set_length(1000);
                bar.set_position((part.clamp(0.0, 1.0) * 1000.0) as u64);
                // The bar writes to the terminal itself, and has escape sequences of its own.
                bar.set_message(one_line(message));
            }
        } else if self.last_line.is_none_or(|last| wall - last >= LINE_EVERY) {
            self.last_line = Some(wall);
            tell(&format!("{}: {}", self.stage, one_line(message)));
        }
    }

    /// Prints a line that stays.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) if accepts_lines() => bar.suspend(|| tell(line)),
            _ => tell(line),
        }
    }

    /// Feed of the live page, if the run has one.
    pub(crate) fn feed(&mut self) -> Option<&mut Feed> {
        self.feed.as_mut()
    }

    /// State of the run for Prometheus.
    pub(crate) fn status(&self) -> &RunStatus {
        &self.status
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = self.bar.as_ref().filter(|_| accepts_lines()) {
            bar.finish_and_clear();
        }
    }
}
