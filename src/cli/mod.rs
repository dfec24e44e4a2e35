//! Command lines of both programs: their arguments, their commands, and the exit codes.
//!
//! Every command returns `Result<(), CliError>`; only `CliError::exit` makes exit codes of it.

mod agree;
mod arguments;
mod choices;
mod ci;
mod cluster;
mod command_line;
mod compare;
mod error;
mod figures;
mod image;
mod local;
mod node;
mod node_flags;
mod plan;
mod print;
mod processor_flags;
mod programs;
mod remote;
mod report;
mod run;
mod scenario;
mod scenario_file;
mod scenario_flags;
mod schema;
mod search;
mod shape;
mod show;
mod simulate;
mod study_flags;
mod sweep;
mod trials;

pub use programs::{apollo_bench, broadcast_network_stress_test_node};
