//! The three workloads that a change is judged by, each run several times; prints medians.
//!
//! `scripts/workloads [RUNS [NODE_BINARY]]`: 3 runs each by default. With nothing else on the machine!
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a tool of developers, which prints a table")]

use std::process::{Command, ExitCode};

use serde_json::Value;

const WORKLOADS: [(&str, &[&str]); 3] = [
    (
        "5 nodes, all, 1 KiB at 10 ms",
        &["--num-nodes=5", "--mode=all", "--message-size-bytes=1024", "--heartbeat-millis=10"],
    ),
    (
        "5 nodes, all, 64 KiB at 20 ms",
        &["--num-nodes=5", "--mode=all", "--message-size-bytes=65536", "--heartbeat-millis=20"],
    ),
    (
        "3 nodes, one, 1 KiB at 1 ms",
        &["--num-nodes=3", "--mode=one", "--message-size-bytes=1024", "--heartbeat-millis=1"],
    ),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let runs = args.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let node_binary = args.next().map(|path| format!("--node-binary={path}"));
    println!(
        "{:<30} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>6} {:>7}",
        "workload (medians of runs)",
        "delivery",
        "CPU s",
        "MiB",
        "p50 ms",
        "p99 ms",
        "max ms",
        "socket",
        "late",
        "runner"
    );
    for (name, workload) in WORKLOADS {
        let mut results = vec![];
        for _ in 0..runs {
            match run(workload, node_binary.as_deref()) {
                Ok(result) => results.push(result),
                Err(error) => {
                    eprintln!("{name}: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        let median = |pointer: &str| {
            let mut values: Vec<f64> = results
                .iter()
                .map(|result| result.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN))
                .collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{name:<30} {:>9.6} {:>9.2} {:>9.1} {:>9.2} {:>9.2} {:>8.2} {:>8.2} {:>6} {:>5.1} %",
            median("/totals/delivery_ratio"),
            median("/totals/cpu_seconds"),
            median("/peak_memory_bytes") / f64::from(1 << 20),
            median("/totals/delay/p50_micros") / 1e3,
            median("/totals/delay/p99_micros") / 1e3,
            median("/totals/delay/max_micros") / 1e3,
            median("/totals/socket_bytes_per_delivered_byte"),
            median("/totals/late"),
            median("/runner_cpu_percent"),
        );
    }
    ExitCode::SUCCESS
}

fn run(workload: &[&str], node_binary: Option<&str>) -> Result<Value, String> {
    // Beside the folder of the examples.
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let bench = own.ancestors().nth(2).map(|folder| folder.join("apollo-bench")).unwrap_or_default();
    let output = Command::new(bench)
        .args(["local", "--json", "--timeout=20"])
        .args(workload)
        .args(node_binary)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}
