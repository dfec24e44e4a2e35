//! Disturbances by the machine during a run: clocks that were set, and processors that other programs used. Each node
//! watches its own machine, and the runner does too; `report/machine.rs` draws the conclusions.

mod clocks;
mod processors;

use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use clocks::ClockReport;
pub use processors::ProcessorReport;

use crate::clock::{self, Reading};
use clocks::ClockWatch;
use processors::{Processors, Sources};

/// A machine as one process sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineReport {
    /// Identifier of the kernel's present boot and of its monotonic clock: processes with the same one are on one
    /// machine.
    #[serde(default)]
    pub machine: Option<String>,
    /// Clocks, since the process took its start.
    pub clock: ClockReport,
    /// Processors in the measured window, or in all trials so far; none before it opens.
    #[serde(default)]
    pub processors: Option<ProcessorReport>,
}

/// Observer of the machine.
#[derive(Debug)]
pub struct Machine {
    sources: Sources,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: ClockWatch,
    /// Opening of the open window.
    opened: Option<Processors>,
    /// Report of the open window, and of all closed ones.
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

    /// Samples the clocks and, in a window, the processors; to be called every second. Returns the amount by which the
    /// wall clock was set since the last sample, in microseconds.
    pub fn sample(&self) -> Option<i64> {
        let mut state = self.state();
        if let Some(opened) = &state.opened {
            state.open = Some(self.sources.read().since(opened));
        }
        state.clock.sample(&Reading::now())
    }

    /// Forgets the clocks' movements until now, because the run begins.
    pub fn begin(&self) {
        self.state().clock = ClockWatch::new(&Reading::now());
    }

    /// Opens the measured window, or the window of a trial.
    pub fn window_opens(&self) {
        self.state().opened = Some(self.sources.read());
    }

    /// Closes the window.
    pub fn window_closes(&self) {
        let mut state = self.state();
        if let Some(opened) = state.opened.take() {
            let inside = self.sources.read().since(&opened);
            state.open = None;
            state.closed = Some(state.closed.take().map_or(inside.clone(), |before| before.and(&inside)));
        }
    }

    /// Report of everything so far.
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
