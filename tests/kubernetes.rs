//! `apollo-bench cluster` against a server that plays the API of a cluster, whose pods are real nodes on the loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/playing_api_server/mod.rs"]
mod playing_api_server;
mod support;

use std::{
    fs,
    process::{Command, Output},
    sync::atomic::Ordering,
};

use playing_api_server::{Fate, PlayingApiServer};
use serde_json::{Value, json};
use support::{Running, get, wait_for};

/// A run of two nodes and two seconds, in the namespace `apollo-bench-one`.
const RUN: &str = "--name one --num-nodes 2 --image registry.example/bench:v1 --timeout 2 --warm-up-seconds 1 \
                   --heartbeat-millis 20 --ready-timeout-seconds 30";

const NAMESPACE: &str = "apollo-bench-one";

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Running::start(command).output();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs a command that must succeed, and gives what it says on both outputs.
fn done(server: &PlayingApiServer, args: &str) -> (String, String) {
    let (code, out, err) = run(&mut server.command(args));
    assert_eq!(code, Some(0), "{args}\n{out}{err}");
    (out, err)
}

/// Runs a command that must fail with this exit code, and gives its last line, and all.
fn fails(server: &PlayingApiServer, args: &str, with: i32) -> (String, String) {
    let (code, out, err) = run(&mut server.command(args));
    assert_eq!(code, Some(with), "{args}\n{out}{err}");
    let last = err.lines().last().unwrap().to_owned();
    assert!(last.starts_with("error: "), "{err}");
    (last, err)
}

#[test]
fn a_run_is_started_watched_collected_and_removed() {
    let server = PlayingApiServer::start();
    let (_, told) = done(&server, &format!("start {RUN}"));
    assert!(told.contains("run one has begun with 2 nodes: measured from "), "{told}");
    assert!(told.contains("apollo-bench cluster collect --namespace apollo-bench-one"), "{told}");
    let map = server.object(NAMESPACE, "configmaps", "run");
    assert!(map["data"]["start.json"].as_str().unwrap().contains("start_unix_nanos"));
    assert_eq!(map["metadata"]["managedFields"][0]["manager"], "apollo-bench");

    let (table, _) = done(&server, "status");
    assert!(table.contains("node-1") && table.contains("grafana-0"), "{table}");
    let (status, _) = done(&server, "status --json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["pods"].as_array().unwrap().len(), 4, "{status:#}");
    let phase = status["phase"].as_str().unwrap();
    assert!(["starting", "warm-up", "measuring"].contains(&phase), "{phase}");

    let output = server.folder.path().join("result");
    let (code, result, err) = run(server.command("collect --json --output").arg(&output));
    assert_eq!(code, Some(0), "{result}{err}");
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["verdict"]["valid"], true, "{result:#}");
    assert_eq!(result["totals"]["delivery_ratio"], 1.0);
    assert_eq!(result["totals"]["intended"], 2 * 100);
    let read = |name: &str| fs::read_to_string(output.join(name)).unwrap();
    let manifest: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    assert_eq!(manifest["backend"], "kubernetes");
    assert_eq!(manifest["cluster"]["server_version"], "v1.33.1-playing");
    assert_eq!(manifest["cluster"]["pods"].as_array().unwrap().len(), 4, "{manifest:#}");
    assert_eq!(read("logs/grafana-0.log"), "grafana is up\n");
    assert!(output.join("nodes/node-1.json").is_file());
    // They were ended.
    wait_for("the nodes' end", || {
        server.pods(NAMESPACE).iter().filter(|pod| pod["status"]["phase"] == "Succeeded").count().eq(&2).then_some(())
    });
    assert!(done(&server, "status").0.contains("over: its nodes have ended"));

    let (out, told) = done(&server, "stop");
    assert!(out.contains("nothing of it is left"), "{out}");
    for thing in
        ["Job/node", "StatefulSet/grafana", "PersistentVolumeClaim/data-grafana-0", "Namespace/apollo-bench-one"]
    {
        assert!(told.contains(&format!("removed {thing}\n")), "{thing}: {told}");
    }
    assert_eq!(server.everything(), Vec::<String>::new());
    let (out, _) = done(&server, &format!("stop --namespace {NAMESPACE}"));
    assert!(out.contains("there is nothing of a run in the namespace apollo-bench-one"), "{out}");
}
