//! The command lines of both programs: what is given, what is done with it, and the exit code.
//!
//! Every command returns `Result<(), CliError>`; `CliError::exit` alone makes exit codes of it.

mod arguments;
mod cluster;
mod command_line;
mod error;
mod image;
mod local;
mod node;
mod plan;
mod print;
mod programs;
mod remote;
mod report;
mod run_args;
mod shape;

pub use programs::{apollo_bench, broadcast_network_stress_test_node};
