//! Arrivals of a run: the file is read by other programs, and the times to reach follow from it.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use support::{bench_command, free_ports, skip};

/// Three nodes in a line: node 1 forwards 40 ms after a message arrived. Node 2 has most of the weight.
const LINE: &str = r#"
name = "line"
[nodes]
count = 3
[measurement]
window_seconds = 3
warm_up_seconds = 1
[topology]
kind = "edges"
edges = ["0-1", "1-2"]
[[group]]
name = "slow"
nodes = 1
validation_delay_millis = 40
[[group]]
name = "heavy"
nodes = 2
weight = 3
[[traffic]]
name = "blocks"
message_size_bytes = 1024
heartbeat_millis = 100
deadline_millis = 35
"#;

/// Runs a scenario; returns its summary and the path of its arrivals.
fn run(folder: &Path, scenario: &str) -> (Value, String) {
    let ports = free_ports(6);
    let (file, output) = (folder.join("scenario.toml"), folder.join("run"));
    fs::write(&file, scenario).unwrap();
    let ran = bench_command()
        .args(["run".into(), file.display().to_string(), format!("--output={}", output.display())])
        .args([format!("--base-metric-port={ports}"), format!("--base-p2p-port={}", ports + 3)])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let summary = serde_json::from_slice(&fs::read(output.join("summary.json")).unwrap()).unwrap();
    (summary, output.join("arrivals.parquet").display().to_string())
}

/// Value at a quantile of sorted values.
fn at_quantile(sorted: &[u64], quantile: f64) -> u64 {
    sorted[((quantile * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
}

#[test]
fn times_to_reach_agree_with_a_computation_of_another_program() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/polars/bin/python");
    if !python.exists() {
        return skip("polars is not in target/polars: scripts/test installs it");
    }
    let folder = tempfile::tempdir().unwrap();
    let (summary, arrivals) = run(folder.path(), LINE);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/reach.py");
    let computed = Command::new(python).args([script, &arrivals, "35000"]).output().unwrap();
    assert!(computed.status.success(), "{}", String::from_utf8_lossy(&computed.stderr));
    let computed: Value = serde_json::from_slice(&computed.stdout).unwrap();

    let blocks = &summary["classes"][0];
    let facts = &blocks["reach"];
    assert_eq!((facts["messages"].as_u64(), facts["sampled_share"].as_f64()), (Some(90), Some(1.0)));
    for name in ["reach_1_3", "reach_2_3", "reach_all"] {
        let times: Vec<u64> = computed[name].as_array().unwrap().iter().map(|time| time.as_u64().unwrap()).collect();
        let delay = &blocks[name];
        assert_eq!((delay["count"].as_u64(), delay["missing"].as_u64()), (Some(times.len() as u64), Some(0)), "{name}");
        for (quantile, field) in [(0.5, "p50_micros"), (0.9, "p90_micros"), (0.99, "p99_micros"), (1.0, "max_micros")] {
            let (reported, computed) = (delay[field].as_u64().unwrap(), at_quantile(&times, quantile));
            // Histograms keep three significant digits.
            assert!(reported.abs_diff(computed) <= 1 + computed / 500, "{name} {field}: {reported} and {computed}");
        }
    }

    // Two thirds of the weight need node 2, which messages of node 0 reach only through node 1.
    let late = computed["late"].as_array().unwrap();
    assert_eq!(facts["deadline_misses"].as_u64(), Some(late.len() as u64));
    let of_0 = late.iter().filter(|message| message[0] == 0).count();
    assert_eq!(of_0, 30, "{late:?}");
    let mut listed: Vec<Value> = facts["missed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|late| serde_json::json!([late["sender"], late["index"]]))
        .collect();
    listed.sort_by_key(|pair| (pair[0].as_u64(), pair[1].as_u64()));
    assert_eq!(&listed, late);

    // Messages of both ends take two hops to the other end, and node 1 forwards all of them.
    assert_eq!(computed["hops"], serde_json::json!({"1": 120, "2": 60}));
    assert_eq!((facts["hops"]["direct"].as_u64(), facts["hops"]["forwarded"].as_u64()), (Some(120), Some(60)));
    assert_eq!(facts["hops"]["forwarders"], serde_json::json!([{"node": 1, "deliveries": 60}]));
    let late_cause = summary["causes"].as_array().unwrap().iter().find(|cause| cause["effect"] == "late").unwrap();
    assert_eq!(late_cause["cause"], "forwarding", "{late_cause}");
}

#[test]
fn a_sample_is_the_same_at_every_receiver_and_leaves_the_counts_alone() {
    let folder = tempfile::tempdir().unwrap();
    let small = LINE.replace("warm_up_seconds = 1", "warm_up_seconds = 1\nmax_arrivals = 40");
    let (summary, _) = run(folder.path(), &small);
    let blocks = &summary["classes"][0];
    assert_eq!((blocks["delivered"].as_u64(), blocks["expected"].as_u64()), (Some(180), Some(180)));
    let facts = &blocks["reach"];
    let (messages, share) = (facts["messages"].as_u64().unwrap(), facts["sampled_share"].as_f64().unwrap());
    assert!((1..=40).contains(&messages) && share < 0.5, "{facts}");
    // No message of the sample lacks a receiver.
    assert_eq!(
        (blocks["reach_all"]["count"].as_u64(), blocks["reach_all"]["missing"].as_u64()),
        (Some(messages), Some(0))
    );
}

#[test]
fn a_run_that_records_no_arrivals_has_no_times_to_reach() {
    let folder = tempfile::tempdir().unwrap();
    let none = LINE.replace("warm_up_seconds = 1", "warm_up_seconds = 1\nmax_arrivals = 0");
    let (summary, _) = run(folder.path(), &none);
    assert_eq!((&summary["classes"][0]["reach_all"], &summary["totals"]["reach_all"]), (&Value::Null, &Value::Null));
    assert_eq!(summary["classes"][0]["delivered"].as_u64(), Some(180));
}
