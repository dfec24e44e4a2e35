//! The machine as a suspect: clocks that were set, and processors that others had, while a run was measured. Each node
//! watches its own, and the runner does too; `report/machine.rs` draws the conclusions.

mod clocks;
mod processors;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use clocks::ClockReport;
pub use processors::ProcessorReport;

use crate::clock::{self, Reading};
use clocks::ClockWatch;
use processors::{Processors, Sources};

/// The machine as one process sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineReport {
    /// Name of this boot of the kernel and of its monotonic clock: processes with the same one are on one machine.
    #[serde(default)]
    pub machine: Option<String>,
    /// The clocks, since the process took its start.
    pub clock: ClockReport,
    /// The processors inside the measured window, or inside all trials so far; none before it opens.
    #[serde(default)]
    pub processors: Option<ProcessorReport>,
}

/// A watch on the machine.
#[derive(Debug)]
pub struct Machine {
    sources: Sources,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: ClockWatch,
    /// When the window opened that is open.
    opened: Option<Processors>,
    /// What was seen inside the window that is open, and inside those that are closed.
    open: Option<ProcessorReport>,
    closed: Option<ProcessorReport>,
}

impl Default for Machine {
    fn default() -> Self {
        let clock = ClockWatch::new(&Reading::now());
        let state = Mutex::new(State { clock, opened: None, open: None, closed: None });
        Self { sources: Sources::find(), state }
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the clocks, and inside a window at the processors: call it every second. Gives by how much the wall clock was
    /// set since the last look, in microseconds.
    pub fn sample(&self) -> Option<i64> {
        let mut state = self.state();
        if let Some(opened) = &state.opened {
            state.open = Some(self.sources.read().since(opened));
        }
        state.clock.sample(&Reading::now())
    }

    /// Forgets what the clocks did until now: the run begins.
    pub fn begin(&self) {
        self.state().clock = ClockWatch::new(&Reading::now());
    }

    /// The measured window, or that of a trial, opens.
    pub fn window_opens(&self) {
        self.state().opened = Some(self.sources.read());
    }

    /// It closes.
    pub fn window_closes(&self) {
        let mut state = self.state();
        if let Some(opened) = state.opened.take() {
            let inside = self.sources.read().since(&opened);
            state.open = None;
            state.closed = Some(state.closed.take().map_or(inside.clone(), |before| before.and(&inside)));
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> MachineReport {
        let mut state = self.state();
        state.clock.sample(&Reading::now());
        let processors = match (&state.closed, &state.open) {
            (Some(closed), Some(open)) => Some(closed.and(open)),
            (closed, open) => closed.clone().or_else(|| open.clone()),
        };
        MachineReport { machine: clock::machine().map(str::to_owned), clock: state.clock.report(), processors }
    }
}
