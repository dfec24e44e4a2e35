//! The command lines of both programs: what is given, what is done with it, and the exit code.
//!
//! Every command returns `Result<(), CliError>`; `CliError::exit` alone makes exit codes of it.

mod arguments;
mod choices;
mod cluster;
mod command_line;
mod error;
mod image;
mod local;
mod node;
mod node_flags;
mod plan;
mod print;
mod programs;
mod remote;
mod report;
mod run;
mod scenario;
mod scenario_file;
mod scenario_flags;
mod shape;

pub use programs::{apollo_bench, broadcast_network_stress_test_node};
