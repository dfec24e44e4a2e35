//! The instrument: its arguments, its schedule, its counts, and its life from connecting to the last summary.

mod arguments;
mod bounded;
mod clock;
mod environment;
mod explore;
mod guard;
mod histogram_text;
mod http;
mod life;
mod logging;
mod pacer;
mod pending;
mod probe_gate;
mod profile;
mod recorder;
mod schedule;
mod serve;
mod session;
mod state;
mod summary;
mod windows;
mod workload;

pub use arguments::{Bootstrap, ControlArgs, NetworkArgs, NodeArgs, UsageError, WorkloadArgs};
pub use clock::unix_nanos;
pub use environment::with_bare_environment;
pub use explore::{TrialPlan, TrialTimes, trials};
pub use histogram_text::HistogramText;
pub use life::{Failure, run};
pub use profile::ProfileMode;
pub use recorder::Recorder;
pub use schedule::{SendPhase, SendPlan, Slot, Slots};
pub use session::SEND_GRACE;
pub use state::{MOST_BOUNDARIES, Phase, StartOrder};
pub use summary::{
    ArrivalSummary, NODE_SCHEMA_VERSION, NodeSummary, PendingWork, PhaseSender, PhaseSummary, SenderSummary, THIRDS,
    TrialSummary, WINDOW_PARTS, WindowSummary, WindowUsage, write_json,
};
pub use windows::Span;
pub use workload::{Load, Mode, Turn, Workload, WorkloadDefaults, value_name};
