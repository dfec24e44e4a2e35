//! `--profile`: flame graphs with readable names of the node's own functions, and clear messages if no profile is
//! possible.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use support::{Lab, Running, bench_command, result};

/// True if perf can record here; the test then checks its recording, otherwise its refusal.
fn perf_records() -> bool {
    let tried = Command::new("perf").args(["record", "--quiet", "--output=/dev/null", "--", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[test]
fn processor_time_is_a_flame_graph_of_each_node_or_one_line_states_the_reason() {
    let lab = Lab::new(2);
    let mut command = lab.command("--profile --timeout 3 --warm-up-seconds 0 --heartbeat-millis 2");
    let output = Running::start(&mut command).output();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !perf_records() {
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("error: --profile: perf ") && text.lines().count() == 1, "{text}");
        assert!(text.contains("linux-perf") && text.contains("--features profile-cpu"), "{text}");
        return;
    }
    let (exit, run) = result(output);
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run["profiles"], serde_json::json!(["profiles/node-0.cpu.svg", "profiles/node-1.cpu.svg"]));
    for file in run["profiles"].as_array().unwrap() {
        let picture = std::fs::read_to_string(lab.output().join(file.as_str().unwrap())).unwrap();
        assert!(picture.contains("<svg"), "{file}");
        assert!(picture.contains("apollo_network_benchmark::"), "{file}: functions have their names");
    }
    assert!(!lab.output().join("profiles/node-0.perf.data").exists());
}

#[test]
fn a_profiler_that_is_not_built_in_is_named_with_the_build_that_has_it() {
    for (mode, feature) in [("mem", "profile-mem"), ("dhat", "profile-dhat")] {
        let output = bench_command().args(["local", "--profile", "--profile-mode", mode]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("--features {feature}")) && text.lines().count() == 1, "{text}");
    }
    for (args, says) in
        [(vec!["--profile-mode=mem"], "--profile"), (vec!["--docker", "--profile"], "outside of containers")]
    {
        let output = bench_command().arg("local").args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says) && text.lines().count() == 1, "{args:?}: {text}");
    }
}
