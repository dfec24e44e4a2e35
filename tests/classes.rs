//! Several traffic classes at once, over real nodes: a proposal in parts, votes on it, acknowledgements of the votes,
//! and a unicast class, in a network that is a line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::Value;
use support::{bench_command, free_ports};

const SCENARIO: &str = r#"
name = "classes"
seed = 7
[nodes]
count = 3
[topology]
kind = "edges"
edges = ["0-1", "1-2"]
[measurement]
window_seconds = 3
warm_up_seconds = 1
[[traffic]]
name = "proposal"
senders = 0
heartbeat_millis = 200
phase = "aligned"
burst = 3
burst_spacing_millis = 10
deadline_millis = 60000
message_size_bytes = [{ bytes = 20000 }, { bytes = 3000, weight = 2 }]
[[traffic]]
name = "vote"
after = "proposal"
message_size_bytes = 150
[[traffic]]
name = "ack"
senders = 1
after = "vote"
message_size_bytes = 150
[[traffic]]
name = "sync"
protocol = "sqmr"
unicast = true
phase = "aligned"
heartbeat_millis = 100
message_size_bytes = 150
"#;

#[test]
fn each_class_has_its_messages_its_receivers_and_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let (file, output) = (folder.path().join("classes.toml"), folder.path().join("run"));
    fs::write(&file, SCENARIO).unwrap();
    let ports = free_ports(6);
    let flags = [format!("--base-metric-port={ports}"), format!("--base-p2p-port={}", ports + 3)];
    let ran =
        bench_command().arg("run").arg(&file).args(flags).args(["--json", "--output"]).arg(&output).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let run: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let classes = run["classes"].as_array().unwrap();
    let counts: Vec<(&str, u64, u64, u64, u64)> = classes
        .iter()
        .map(|row| {
            let count = |name: &str| row[name].as_u64().unwrap();
            let name = row["name"].as_str().unwrap();
            (name, count("intended"), count("sent"), count("expected"), count("delivered"))
        })
        .collect();
    // 15 proposals of three parts; three votes on each, one acknowledgement of each vote; 30 messages of each node to
    // one peer. Answers belong to the window in which they are due, and those at its edges to either side.
    assert_eq!(counts[0], ("proposal", 45, 45, 90, 90));
    assert_eq!(counts[3], ("sync", 90, 90, 90, 90));
    for (name, intended, sent, expected, delivered) in &counts[1..3] {
        assert!((42..=48).contains(intended), "{name}: {intended}");
        assert_eq!((sent, *expected, *delivered), (intended, 2 * intended, 2 * intended), "{name}");
    }
    let total = |name: &str| -> u64 { classes.iter().map(|row| row[name].as_u64().unwrap()).sum() };
    for name in ["intended", "sent", "missed", "lost", "delivered"] {
        assert_eq!(run["totals"][name].as_u64(), Some(total(name)), "{name}");
    }
    assert_eq!(classes[0]["deadline_misses"], 0);
    assert_eq!(classes[1]["deadline_misses"], Value::Null, "it has no deadline");
    // Node 1 is a neighbour of both others, which get half of its messages each; each of them sends all of its own to
    // node 1.
    let sync_at = |node: u64| -> u64 {
        let text = fs::read_to_string(output.join(format!("nodes/node-{node}.json"))).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        summary["classes"][3]["measured"]["received"].as_u64().unwrap()
    };
    assert_eq!([sync_at(0), sync_at(1), sync_at(2)], [15, 60, 15]);
}
