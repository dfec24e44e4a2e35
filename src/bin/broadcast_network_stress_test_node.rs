//! A node of the benchmark network: broadcasts and receives under load, and counts.

use std::process::ExitCode;

use apollo_network_benchmark::{
    command_line::parse,
    node::{NodeCommand, with_bare_environment},
    terminal::exit_code,
};

fn main() -> ExitCode {
    match parse::<NodeCommand>(with_bare_environment) {
        Ok(command) => exit_code(command.run()),
        Err(code) => code,
    }
}
