//! The runner: runs networks of benchmark nodes and reports their results.

use std::process::ExitCode;

fn main() -> ExitCode {
    apollo_network_benchmark::cli::apollo_bench()
}
