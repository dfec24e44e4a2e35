//! The runner's own observation of its machine.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    clock::{self, sleep},
    machine::Machine,
};

/// Interval of the samples.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Samples the machine every second, until it is dropped.
pub(super) struct Watch {
    pub(super) machine: Arc<Machine>,
    task: JoinHandle<()>,
}

impl Watch {
    /// From here on the runner follows the monotonic clock, from the same base as the nodes that it starts.
    pub(super) fn start() -> Self {
        clock::settle();
        let machine = Arc::new(Machine::default());
        let watched = machine.clone();
        let task = tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                watched.sample();
            }
        });
        Self { machine, task }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
