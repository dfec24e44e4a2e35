//! Results: many nodes' summaries merged into one, and how a person reads it. Knows no backend.

mod clocks;
mod folder;
mod link_table;
mod links;
mod lives;
mod machine;
mod merge;
mod message;
mod phases;
mod summary;
mod table;
#[cfg(test)]
mod tests;

pub use clocks::{ClockDifference, ClockOffset, ClockRow, Clocks};
pub use folder::{FolderError, RunFolder};
pub use link_table::link_table;
pub use links::{Certificate, InterfaceRow, LinkMeasured, LinkRow, PooledLoss, Tolerance};
pub use machine::MachineRow;
pub use merge::{Collected, merge, merge_trials};
pub use message::MessageMeasured;
pub(crate) use message::{MESSAGE_PERCENT, message_problem};
pub use phases::PhaseInput;
pub use summary::{
    DelaySummary, Deliveries, FaultRow, GroupDeliveries, NodeRow, PhaseRow, RUN_SCHEMA_VERSION, RunSummary, Totals,
    TrialRow, Verdict, WorkloadSummary,
};
pub use table::{per_node_table, phase_table, run_table, trial_line, trial_table};
