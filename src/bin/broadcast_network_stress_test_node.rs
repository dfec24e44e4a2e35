//! A node of the benchmark network: broadcasts and receives under load, and counts.

use std::process::ExitCode;

use apollo_network_benchmark::{
    command_line::parse,
    node::{NodeCommand, with_bare_environment},
};

fn main() -> ExitCode {
    match parse::<NodeCommand>(with_bare_environment) {
        Ok(command) => command.run(),
        Err(code) => code,
    }
}
