//! Rules and scrape configuration with a real Prometheus, without a run: `promtool` and its targets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, process::Command};

use apollo_network_benchmark::dashboards::{Host, Scraping, configuration, json};
use serde_json::Value;
use support::{Running, body_of, free_ports, get, program, wait_for};

fn promtool(tool: &Path, args: &[&str], file: &Path) -> String {
    let output = Command::new(tool).args(args).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

#[test]
fn targets_are_nodes_by_their_number_and_the_runner_is_none() {
    let (Some(prometheus), Some(tool)) = (program("prometheus"), program("promtool")) else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/rules.yml"), folder.path().join("rules.yml"))
        .unwrap();
    let port = free_ports(1);
    // Names as in a cluster, which do not resolve here: Prometheus has them as targets all the same.
    let host = |node: u64| Host { node, address: format!("node-{node}.nodes.bench.svc.invalid:2000") };
    let scraping = Scraping { run: "r1", seconds: 1, rules: "rules.yml", targets: vec![host(0), host(11)] };
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, json(&configuration(&scraping).with_runner("r1", "127.0.0.1:1".into()))).unwrap();
    promtool(&tool, &["check", "config"], &file);
    let mut command = Command::new(prometheus);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    let _running = Running::start(command.arg(format!("--web.listen-address=127.0.0.1:{port}")));
    let targets = wait_for("the targets", || {
        let (head, body) = get(port, "/api/v1/targets?state=active")?;
        let answer: Value = serde_json::from_str(&body_of(&head, &body)).ok()?;
        let targets = answer["data"]["activeTargets"].as_array()?.clone();
        (targets.len() == 3).then_some(targets)
    });
    let mut labels: Vec<String> = targets.iter().map(|target| target["labels"].to_string()).collect();
    labels.sort();
    assert_eq!(
        labels,
        [
            r#"{"instance":"127.0.0.1:1","job":"apollo-runner","run":"r1"}"#,
            r#"{"instance":"node-0.nodes.bench.svc.invalid:2000","job":"apollo","node":"0","run":"r1"}"#,
            r#"{"instance":"node-11.nodes.bench.svc.invalid:2000","job":"apollo","node":"11","run":"r1"}"#,
        ]
    );
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let Some(tool) = program("promtool") else { return };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/rules.yml");
    promtool(&tool, &["check", "rules"], &rules);
    let test = |bad: bool| {
        let value = |good: &'static str, wrong: &'static str| if bad { wrong } else { good };
        let series = [
            ("up{run=\"r\",node=\"0\"}", "1x120"),
            ("up{run=\"r\",node=\"1\"}", value("1x120", "0x120")),
            ("up{run=\"r\"}", "1x120"),
            // The window opens 10 s after the epoch of the test, and lasts longer than it.
            ("run_window_begin_seconds{run=\"r\",node=\"0\"}", "10x120"),
            ("run_window_end_seconds{run=\"r\",node=\"0\"}", "1000x120"),
            ("receive_message_expected_count{run=\"r\",node=\"0\",class=\"c\"}", "0+100x120"),
            ("receive_message_count{run=\"r\",node=\"0\",class=\"c\"}", value("0+100x120", "0+90x120")),
            ("broadcast_message_count{run=\"r\",node=\"0\",class=\"c\"}", "0+100x120"),
            ("broadcast_message_late_count{run=\"r\",node=\"0\",class=\"c\"}", value("0x120", "0+50x120")),
            ("broadcast_message_bytes{run=\"r\",node=\"0\",class=\"c\"}", "10x120"),
            ("broadcast_message_bytes_sum{run=\"r\",node=\"0\",class=\"c\"}", value("0+1000x120", "0+800x120")),
            ("broadcast_message_offered_throughput{run=\"r\",node=\"0\",class=\"c\"}", "1000x120"),
            ("broadcast_message_deadline_seconds{run=\"r\",node=\"0\",class=\"c\"}", value("1x120", "0.05x120")),
            ("receive_message_delay_seconds_bucket{run=\"r\",node=\"0\",class=\"c\",le=\"0.1\"}", "0x120"),
            ("receive_message_delay_seconds_bucket{run=\"r\",node=\"0\",class=\"c\",le=\"0.2\"}", "0+90x120"),
            ("receive_message_delay_seconds_bucket{run=\"r\",node=\"0\",class=\"c\",le=\"+Inf\"}", "0+90x120"),
            ("network_connected_peers{run=\"r\",node=\"0\"}", value("1x120", "0x120")),
            ("network_dropped_broadcast_messages{run=\"r\",node=\"0\",drop_reason=\"x\"}", value("0x120", "0+1x120")),
            ("receive_message_pending_count{run=\"r\",node=\"0\"}", value("0x20 9 3 0x97", "0+10x120")),
            ("receive_message_negative_delay_count{run=\"r\",node=\"0\"}", value("0x120", "0+1x120")),
            ("system_process_memory_usage_bytes{run=\"r\",node=\"0\"}", value("1e9x120", "3e9x120")),
            ("system_machine_memory_usage_ratio{run=\"r\",node=\"0\"}", value("0.5x120", "0.99x120")),
        ];
        let firing = "count by (alertname) (ALERTS{alertstate=\"firing\"})";
        let names = [
            "ClocksDiffer",
            "DelayHigh",
            "DeliveryLow",
            "LoadNotSent",
            "MachineMemoryLow",
            "MessagesDropped",
            "MuchMemory",
            "NoPeers",
            "NodeDown",
            "PendingGrows",
            "SenderBehind",
        ];
        let expected: Vec<Value> = if bad {
            let one = |name: &str| serde_json::json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": 1 });
            names.map(one).to_vec()
        } else {
            vec![]
        };
        serde_json::json!({
            "interval": "1s",
            "input_series": series.map(|(series, values)| serde_json::json!({ "series": series, "values": values })),
            "promql_expr_test": [
                { "expr": firing, "eval_time": "40s", "exp_samples": expected },
                { "expr": firing, "eval_time": "100s", "exp_samples": expected },
            ],
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    let tests = serde_json::json!({
        "rule_files": [rules.display().to_string()],
        "evaluation_interval": "1s",
        "tests": [test(false), test(true)],
    });
    fs::write(&file, tests.to_string()).unwrap();
    promtool(&tool, &["test", "rules"], &file);
}
