//! Schemas of the files of a run: as they are kept in `schemas/`, and against the output of real runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{BENCH, Lab, skip};

/// Name of each schema for the command, and its file.
const SCHEMAS: [(&str, &str); 5] = [
    ("summary", "summary-3.json"),
    ("timeseries", "timeseries-1.json"),
    ("comparison", "comparison-1.json"),
    ("search", "search-1.json"),
    ("sweep", "sweep-1.json"),
];

fn printed(name: &str) -> String {
    let output = Command::new(BENCH).args(["schema", name]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Differences of values from a schema, as another implementation finds them.
fn problems(python: &Path, schema: &Path, values: &[Value]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/schema.py");
    let mut command = Command::new(python);
    let mut child = command.arg(script).arg(schema).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = values.iter().map(|value| format!("{value}\n")).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_files_of_the_schemas_are_those_that_the_program_prints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (name, file) in SCHEMAS {
        let (path, text) = (folder.join(file), printed(name));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "schemas/{file} differs: UPDATE_DOCS=1 cargo test --test schemas writes it");
        // The version is in the name of the file and in the schema.
        let version = file.trim_end_matches(".json").rsplit('-').next().unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["$id"], format!("urn:apollo-bench:{name}:{version}"));
    }
}

#[test]
fn the_output_of_real_runs_fits_the_schemas() {
    // The check of objects for Kubernetes comes with an implementation of JSON Schema.
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes-validate/bin/python");
    if !python.exists() {
        return skip("jsonschema is not in target/kubernetes-validate: scripts/test installs it");
    }
    let folder = tempfile::tempdir().unwrap();
    let [summary, series, ..]: [PathBuf; 5] = SCHEMAS.map(|(name, file)| {
        let path = folder.path().join(file);
        fs::write(&path, printed(name)).unwrap();
        path
    });
    let steady = "--timeout 3 --heartbeat-millis 50";
    let trials = "--mode explore --explore-cool-down-duration-seconds 2 --explore-run-duration-seconds 2 \
                  --explore-min-throughput-byte-per-seconds 4000000000";
    for (args, faults) in [(steady, &["--fault", "1s kill 1", "--fault", "2s restart 1"][..]), (trials, &[])] {
        let lab = Lab::new(2);
        lab.command(args).args(faults).output().unwrap();
        let value: Value = serde_json::from_slice(&fs::read(lab.output().join("summary.json")).unwrap()).unwrap();
        assert_eq!(problems(&python, &summary, std::slice::from_ref(&value)), Vec::<String>::new(), "{args}");
        let lines = fs::read_to_string(lab.output().join("timeseries.jsonl")).unwrap();
        let points: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(points.len() > 1);
        assert_eq!(problems(&python, &series, &points), Vec::<String>::new(), "{args}");
        // A changed type and a missing field are seen.
        let mut broken = value;
        broken["verdict"]["valid"] = json!("yes");
        broken.as_object_mut().unwrap().remove("nodes");
        assert_eq!(problems(&python, &summary, &[broken]).len(), 2);
    }
}
