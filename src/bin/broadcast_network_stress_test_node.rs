//! A node of the benchmark network: broadcasts and receives under load, and counts.

use std::process::ExitCode;

fn main() -> ExitCode {
    apollo_network_benchmark::cli::broadcast_network_stress_test_node()
}
