//! Objectives of a run, and commands of several runs: sweeps and searches.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use support::{bench_command, free_ports, wait_for};

/// Two nodes that send 20 messages a second together, for a second.
const SHORT: &str = r#"
name = "short"
[nodes]
count = 2
[measurement]
window_seconds = 1
warm_up_seconds = 0
drain_quiet_seconds = 0
"#;

fn scenario(folder: &Path, more: &str) -> String {
    let file = folder.join("scenario.toml");
    fs::write(&file, format!("{SHORT}{more}")).unwrap();
    file.display().to_string()
}

/// Ports of one network of two nodes, as flags.
fn ports() -> [String; 2] {
    let ports = free_ports(4);
    [format!("--base-metric-port={ports}"), format!("--base-p2p-port={}", ports + 2)]
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every file below a folder, with its content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_valid_run_that_misses_an_objective_ends_with_3_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (output, junit) = (folder.path().join("run"), folder.path().join("junit.xml"));
    let file = scenario(folder.path(), "");
    let ran = bench_command()
        .args(["run", &file, "--expect", "delivery_ratio == 1", "--expect", "default.delay_p50 <= 1us"])
        .args(ports())
        .args([format!("--output={}", output.display()), format!("--junit={}", junit.display())])
        .env("GITHUB_ACTIONS", "true")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(3), "{stdout}{stderr}");
    let line = |text: &str| stdout.lines().find(|line| line.contains(text)).unwrap().to_owned();
    assert!(line("delivery_ratio == 1").contains("passed"), "{stdout}");
    assert!(line("default.delay_p50 <= 1us").contains("failed"), "{stdout}");
    assert!(stderr.contains("::error title=apollo-bench::missed objective default.delay_p50 <= 1us"), "{stderr}");
    assert_eq!(fs::read_to_string(junit).unwrap().matches("<failure").count(), 1);
    let summary = read(&output.join("summary.json"));
    let passed: Vec<&Value> = summary["objectives"].as_array().unwrap().iter().map(|row| &row["passed"]).collect();
    assert_eq!(
        (&summary["verdict"]["valid"], passed),
        (&Value::from(true), vec![&Value::from(true), &Value::from(false)])
    );

    // The result that is derived again has the same objectives, and every figure has a name.
    let again = bench_command().arg("report").arg(&output).output().unwrap();
    assert_eq!(again.status.code(), Some(3), "{}", String::from_utf8_lossy(&again.stderr));
    let figures = bench_command().args(["figures", "--json"]).arg(&output).output().unwrap();
    let figures: Value = serde_json::from_slice(&figures.stdout).unwrap();
    assert_eq!(
        (&figures["delivery_ratio"], &figures["default.reach_all_count"]),
        (&Value::from(1.0), &Value::from(20.0))
    );
}

#[test]
fn objectives_that_can_not_be_are_refused_before_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "");
    for (objective, reason) in [
        ("delay_p99", "write an objective as"),
        ("votes.lost == 0", "'votes' is no traffic class: the classes are default"),
        ("delay_p99 <= 3 parsec", "is no unit"),
    ] {
        let ran = bench_command().args(["run", &file, "--expect", objective]).output().unwrap();
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{objective}: {stderr}");
        assert!(stderr.contains(reason) && stderr.lines().count() == 1, "{objective}: {stderr}");
    }
}

/// Starts a sweep of six trials.
fn sweep(file: &str, output: &Path, ports: &[String; 2]) -> Command {
    let mut command = bench_command();
    command.args(["sweep", file, "--vary", "traffic.default.heartbeat_millis=50,100,200"]);
    command.args(["--output", &output.display().to_string(), "--"]).args(ports);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Names of the complete trials.
fn complete(output: &Path) -> Vec<String> {
    let names = fs::read_dir(output).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.len() == 3 && name.parse::<u32>().is_ok()).collect();
    names.sort();
    names
}

#[test]
fn a_sweep_that_was_killed_continues_after_its_complete_trials() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("sweep");
    let matrix = "[sweep]\n\"traffic.default.message_size_bytes\" = [100, 1000]\n[[traffic]]\nname = \"default\"\n";
    let file = scenario(folder.path(), matrix);
    let ports = ports();
    let mut first = sweep(&file, &output, &ports).spawn().unwrap();
    wait_for("three trials", || (complete(&output).len() >= 3).then_some(()));
    first.kill().unwrap();
    first.wait().unwrap();
    let done = complete(&output);
    let before: BTreeMap<PathBuf, Vec<u8>> = done.iter().flat_map(|name| files(&output.join(name))).collect();

    let second = sweep(&file, &output, &ports).output().unwrap();
    let stdout = String::from_utf8_lossy(&second.stdout);
    assert!(second.status.success(), "{stdout}{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(complete(&output), ["001", "002", "003", "004", "005", "006"]);
    for (path, content) in before {
        assert!(fs::read(&path).unwrap() == content, "{} was changed", path.display());
    }
    let rows = read(&output.join("sweep.json"))["rows"].as_array().unwrap().clone();
    let values = |key: &str| rows.iter().map(|row| row["values"][key].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values("traffic.default.heartbeat_millis"), ["50", "50", "100", "100", "200", "200"]);
    assert_eq!(values("traffic.default.message_size_bytes"), ["100", "1000", "100", "1000", "100", "1000"]);
    assert!(rows.iter().all(|row| row["valid"] == true), "{rows:?}");
    assert!(
        !fs::read_dir(&output).unwrap().flatten().any(|entry| entry.path().extension().is_some_and(|e| e == "partial"))
    );

    // Another sweep does not take its folder.
    let other = bench_command()
        .args(["sweep", &file, "--vary", "seed=1,2", "--output", &output.display().to_string()])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("holds the trials of another command") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_run_refuses_a_scenario_with_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "[sweep]\nseed = [1, 2]\n");
    let ran = bench_command().args(["run", &file]).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("apollo-bench sweep") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_search_finds_the_load_at_which_its_objective_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("search");
    let file = scenario(folder.path(), "");
    // Twenty messages a second: the bound is passed at 3,000 bytes.
    let ran = bench_command()
        .args(["search", &file, "--by", "size", "--repeat", "1", "--precision-percent", "20"])
        .args(["--expect", "sent_bytes_per_second <= 60000 B", "--output", &output.display().to_string(), "--"])
        .args(ports())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{stdout}{}", String::from_utf8_lossy(&ran.stderr));
    let search = read(&output.join("search.json"));
    let end = |name: &str| search[name].as_f64().unwrap();
    let (holds, fails) = (end("holds"), end("fails"));
    assert!(holds <= 3000.0 && 3000.0 < fails && fails / holds <= 1.2, "{holds} to {fails}");
    assert!(stdout.contains("It holds") && stdout.contains("bytes of a message"), "{stdout}");
    for trial in search["trials"].as_array().unwrap() {
        let summary = read(&output.join(trial["folder"].as_str().unwrap()).join("summary.json"));
        let size = summary["workload"]["message_size_bytes"].as_f64().unwrap();
        assert_eq!(size, trial["load"].as_f64().unwrap().round(), "{trial}");
    }
}

#[test]
fn a_sweep_whose_values_are_replaced_by_flags_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), "[[traffic]]\nname = \"default\"\n");
    let ran = bench_command()
        .args(["sweep", &file, "--vary", "traffic.default.message_size_bytes=100,1000", "--output"])
        .arg(folder.path().join("sweep"))
        .args(["--", "--message-size-bytes", "200"])
        .args(ports())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("002 and 001 ran the same scenario"), "{stderr}");
}
