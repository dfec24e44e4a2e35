//! The runner's own observation of its machine.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    clock::{self, sleep},
    machine::{Machine, MachineReport},
};

/// Interval of the samples.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Samples the machine every second, until it is dropped.
pub(super) struct Watch {
    machine: Option<Arc<Machine>>,
    task: Option<JoinHandle<()>>,
}

impl Watch {
    /// From here on the runner follows the monotonic clock, from the same base as the nodes that it starts.
    /// In virtual time it watches nothing, because a machine shows its own time alone.
    pub(super) fn start() -> Self {
        if clock::is_virtual() {
            return Self { machine: None, task: None };
        }
        clock::settle();
        let machine = Arc::new(Machine::default());
        let watched = machine.clone();
        let task = tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                watched.sample();
            }
        });
        Self { machine: Some(machine), task: Some(task) }
    }

    /// The measured window opens.
    pub(super) fn window_opens(&self) {
        self.machine.iter().for_each(|machine| machine.window_opens());
    }

    /// It closes.
    pub(super) fn window_closes(&self) {
        self.machine.iter().for_each(|machine| machine.window_closes());
    }

    /// Report of everything so far; none in virtual time.
    pub(super) fn report(&self) -> Option<MachineReport> {
        self.machine.as_ref().map(|machine| machine.report())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}
