//! Use of the processors of a machine, as a result has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of all processors used by other programs, above which they are named as the cause of a wait.
pub(super) const OTHERS: f64 = 0.05;

/// Share of all processors in use above which none was free.
pub(super) const FULL: f64 = 0.9;

/// Share of all processors that the hypervisor gave to others: below it, ticks are counted too coarsely.
pub(super) const STOLEN: f64 = 0.02;

/// Use of the processors of one machine while the window was open, in processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessorUse {
    /// Processors of the machine.
    pub processors: f64,
    /// Used by the nodes and the runner.
    pub own: f64,
    /// Used by other programs.
    pub others: f64,
    /// Given to other machines by the hypervisor; none if it is not known.
    pub stolen: Option<f64>,
    /// True if a quota stopped a process.
    pub throttled: bool,
}

impl ProcessorUse {
    /// True if others disturbed the run: other programs, the hypervisor, or a quota.
    pub fn is_disturbed(&self) -> bool {
        self.others > OTHERS * self.processors
            || self.stolen.is_some_and(|stolen| stolen > STOLEN * self.processors)
            || self.throttled
    }

    /// True if the nodes and the runner left no processor free.
    pub fn is_full(&self) -> bool {
        self.own > FULL * self.processors
    }
}
