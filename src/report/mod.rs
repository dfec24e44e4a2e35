//! Results: many nodes' summaries merged into one, and how a person reads it. Knows no backend.

mod folder;
mod links;
mod merge;
mod summary;
mod table;

pub use folder::{FolderError, RunFolder};
pub use links::{Certificate, InterfaceRow, LinkMeasured, LinkRow, PooledLoss, Tolerance};
pub use merge::{merge, merge_trials};
pub use summary::{DelaySummary, NodeRow, RUN_SCHEMA_VERSION, RunSummary, Totals, TrialRow, Verdict, WorkloadSummary};
pub use table::{per_node_table, run_table, trial_line, trial_table};
