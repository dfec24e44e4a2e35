//! The instrument: its arguments, its schedule, its counts, and its life from connecting to the last summary.

mod answers;
mod arrivals;
mod bounded;
mod config;
mod driver;
mod environment;
mod error;
mod explore;
mod guard;
mod histogram_text;
mod http;
mod logging;
mod pacer;
mod pending;
mod plan;
mod probe_gate;
mod profile;
mod propeller;
mod recorder;
#[cfg(test)]
mod recorder_tests;
mod run;
mod schedule;
mod serve;
mod shared;
mod shared_workload;
mod state;
mod summary;
mod virtual_nodes;
mod windows;
mod workload;

pub use arrivals::{ALL, ARRIVALS_SCHEMA_VERSION, Arrival, ArrivalReport, ClassArrivals, sample_hash};
pub use config::NodeConfig;
pub use driver::SEND_GRACE;
pub use environment::with_bare_environment;
pub use error::{Failure, UsageError};
pub use explore::{TrialPlan, TrialTimes, trials};
pub use histogram_text::HistogramText;
pub use plan::{AnswerPlan, ClassPlan, Pace, Reach, TrafficPlan};
pub use profile::ProfileMode;
pub use propeller::{OwnerSummary, PropellerSummary, UnitsAtDelivery};
pub use recorder::Recorder;
pub use run::run;
pub use schedule::{SendPlan, Slot, Slots, Turn};
pub use shared_workload::SharedWorkload;
pub use state::{MOST_BOUNDARIES, NodeState, StartOrder};
pub use summary::{
    ArrivalSummary, ClassSummary, NODE_SCHEMA_VERSION, NodeSummary, PendingWork, PhaseSender, PhaseSummary,
    SenderSummary, SlowPeer, THIRDS, TrialSummary, WINDOW_PARTS, WindowSummary, WindowUsage, write_json,
};
pub use virtual_nodes::{VirtualNode, VirtualNodes};
pub use windows::MeasurementWindow;
pub use workload::{Load, Workload, value_name};
