//! The instrument: its arguments, its schedule, its counts, and its life from connecting to the last summary.

mod arguments;
mod clock;
mod command;
mod environment;
mod explore;
mod http;
mod life;
mod logging;
mod pacer;
mod profile;
mod recorder;
mod schedule;
mod session;
mod state;
mod summary;
mod windows;
mod workload;

pub use arguments::{Bootstrap, ControlArgs, NetworkArgs, NodeArgs, UsageError, WorkloadArgs};
pub use clock::unix_nanos;
pub use command::NodeCommand;
pub use environment::with_bare_environment;
pub use explore::{TrialPlan, TrialTimes, trials};
pub use profile::ProfileMode;
pub use recorder::Recorder;
pub use schedule::{Slot, Slots};
pub use state::{MOST_BOUNDARIES, Phase, StartOrder};
pub use summary::{
    HistogramText, NODE_SCHEMA_VERSION, NodeSummary, PhaseSender, PhaseSummary, SenderSummary, TrialSummary,
    WindowSummary, WindowUsage, write_json,
};
pub use windows::Span;
pub use workload::{Load, Mode, Turn, Workload, WorkloadDefaults, value_name};
