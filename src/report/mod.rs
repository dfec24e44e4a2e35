//! Results: merges the nodes' summaries into one, and renders it for people. Knows no deployment.

mod agreement;
mod arrivals;
mod arrivals_file;
mod cause;
mod causes;
mod checks;
#[cfg(test)]
mod checks_tests;
mod clock_warning;
mod clocks;
mod comparison;
mod drain;
mod environments;
mod figures;
mod folder;
mod frame;
mod frontier;
mod hops;
mod html;
mod layout;
mod link_table;
mod links;
mod lives;
mod machine;
mod merge;
mod message;
mod messages;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
mod objective_row;
mod objectives;
mod observed;
mod phases;
mod processor_use;
mod propeller;
mod quantiles;
mod reach;
mod reach_facts;
#[cfg(test)]
mod reach_tests;
mod rounds;
mod schemas;
mod search;
mod simulation;
mod simulation_facts;
mod summary;
mod sustained;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod time_series;
mod tolerance;
mod totals;
mod units;

pub use agreement::{AgreementEntry, MeasureAgreement, agreement_bands, extrapolations};
pub use arrivals::{ArrivalRow, Arrivals};
pub use arrivals_file::{read_arrivals, write_arrivals};
pub use cause::{Cause, CauseKind, Effect};
pub use causes::causes;
pub use clock_warning::clock_warning;
pub use clocks::{ClockDifference, ClockOffset, ClockRow, Clocks};
pub use comparison::{
    COMPARISON_SCHEMA_VERSION, Change, ChangeKind, Comparison, ComparisonFile, ComparisonPlan, Measure, MeasureRow,
    MeasureVerdict, RunFigures, Side, compare, comparison_csv, comparison_table,
};
pub use drain::{DrainEnd, DrainSummary};
pub use environments::MachineRow;
pub use figures::{Better, Figure, FigureValue, Unit, did_you_mean, figures};
pub use folder::{FolderError, RunFolder};
pub use hops::{Forwarder, HopRow, Hops};
pub use html::{MOST_RUNS, RunReport, comparison_page, page, plots, search_page};
pub use link_table::link_table;
pub use links::{Certificate, InterfaceRow, LinkMeasured, LinkRow, PooledLoss};
pub use merge::{Collected, Trials, add_arrivals, merge, merge_trials};
pub use message::MessageMeasured;
pub(crate) use message::message_problem;
pub use objective_row::ObjectiveRow;
pub use objectives::{judge, objective_table};
pub use observed::{Observations, PhaseInput, Place, PlannedWindow};
pub use processor_use::ProcessorUse;
pub use propeller::PropellerRow;
pub use quantiles::{DelaySummary, Quantile};
pub use reach_facts::{LateMessage, ReachFacts, RegionReach};
pub use schemas::{comparison_schema, search_schema, summary_schema, sweep_schema, time_series_schema};
pub use search::{
    Axis, Limit, LimitKind, SEARCH_SCHEMA_VERSION, Search, SearchRange, SearchStep, SearchTrial, limits, search_table,
};
pub use simulation_facts::{AgreementBand, BracketRow, SimulationFacts};
pub use summary::{
    ClassRow, Deliveries, FaultRow, FrontierRow, GroupDeliveries, NodeRow, PhaseRow, RUN_SCHEMA_VERSION, RunSummary,
    Totals, TrialRow, Verdict, WorkloadSummary,
};
pub use sustained::Sustained;
pub use sweep::{SWEEP_SCHEMA_VERSION, Sweep, SweepRow, sweep_table};
pub use table::{frontier_table, per_node_table, phase_table, run_table, trial_line, trial_table};
pub use time_series::{TIME_SERIES_SCHEMA_VERSION, TimeSeriesPoint};
pub(crate) use tolerance::MESSAGE_PERCENT;
pub use tolerance::Tolerance;
pub use units::bytes;
