//! Comparisons of two sides of runs, with real runs of a second.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use support::{bench_command, free_ports};

const SCENARIO: &str =
    "[nodes]\ncount = 2\n[measurement]\nwindow_seconds = 1\nwarm_up_seconds = 0\ndrain_quiet_seconds = 0\n";

/// A comparison of messages of 1 KiB with some of 2 KiB, in one measure that a processor under load does not change.
fn comparison(folder: &Path, repeat: u32) -> Command {
    let scenario = folder.join("scenario.toml");
    fs::write(&scenario, format!("{SCENARIO}[[traffic]]\nname = \"default\"\n")).unwrap();
    let mut command = bench_command();
    command.arg("compare").arg("--run").arg(scenario).arg("--output").arg(folder.join("runs"));
    command.args(["--vary", "traffic.default.message_size_bytes=2048", "--measure", "sent_bytes_per_second"]);
    command.args([format!("--repeat={repeat}"), "--disturbed-repeats=0".into()]);
    command
}

fn text(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn sides_that_differ_are_told_apart_and_the_runs_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports(4);
    let (json, csv) = (folder.path().join("comparison.json"), folder.path().join("runs.csv"));
    let mut command = comparison(folder.path(), 4);
    command.arg("--json").arg(&json).arg("--csv").arg(&csv);
    command.args(["--".into(), format!("--base-metric-port={ports}"), format!("--base-p2p-port={}", ports + 2)]);
    let (code, table, errors) = text(&mut command);
    assert_eq!(code, Some(0), "{table}{errors}");
    assert!(table.contains("sent_bytes_per_second") && table.contains("better"), "{table}");
    let order: Vec<&str> = errors.lines().filter_map(|line| line.split_once(": runs").map(|(name, _)| name)).collect();
    assert_eq!(order, ["001-a", "001-b", "002-b", "002-a", "003-a", "003-b", "004-b", "004-a"]);
    let read: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let row = &read["measures"][0];
    assert_eq!((&read["schema_version"], &row["verdict"]), (&Value::from(1), &Value::from("better")));
    assert!((row["change"]["estimate"].as_f64().unwrap() - 2.0).abs() < 0.01, "{row}");
    // A row for each run, and one with the names of the figures.
    assert_eq!(fs::read_to_string(csv).unwrap().lines().count(), 9);

    // The same command continues, and has nothing left to run.
    let mut again = comparison(folder.path(), 4);
    again.args(["--".into(), format!("--base-metric-port={ports}"), format!("--base-p2p-port={}", ports + 2)]);
    let (code, repeated, errors) = text(&mut again);
    assert_eq!((code, repeated), (Some(0), table), "{errors}");
    assert!(!errors.contains(": runs"), "{errors}");

    // Finished runs are compared in the same way; without a difference, the largest possible one is stated.
    let run = |name: String| folder.path().join("runs").join(name);
    let of = |side: &str| (1..=4).map(|number| run(format!("00{number}-{side}"))).collect::<Vec<_>>();
    let mut finished = bench_command();
    finished.arg("compare").args(of("a")).arg("--with").args(of("a")).args(["--measure", "sent_bytes_per_second"]);
    let (code, table, errors) = text(&mut finished);
    assert_eq!(code, Some(0), "{errors}");
    assert!(table.contains("no difference"), "{table}");
}

#[test]
fn sides_that_can_not_be_compared_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenario.toml");
    fs::write(&scenario, SCENARIO).unwrap();
    let scenario = scenario.to_str().unwrap();
    for (arguments, reason) in [
        (vec!["--run", scenario], "both sides are the same"),
        (vec!["--run", scenario, "--run", scenario, "--run", scenario], "a comparison has two sides"),
        (vec!["--run", scenario, "--vary", "nodes.count=0"], "side B: nodes.count 0"),
        (vec!["/nonexistent", "--with", "/nonexistent"], "is not the folder of a run"),
        (vec![], "the following required arguments were not provided"),
    ] {
        let (code, output, errors) = text(bench_command().arg("compare").args(&arguments));
        assert_eq!((code, output.as_str()), (Some(2), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(reason) && errors.lines().count() == 1, "{arguments:?}: {errors}");
    }
}
