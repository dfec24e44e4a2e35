//! The lab: runs networks of benchmark nodes and reports what they did.

use std::process::ExitCode;

fn main() -> ExitCode {
    apollo_network_benchmark::cli::apollo_bench()
}
