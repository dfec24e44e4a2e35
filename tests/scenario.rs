//! Scenario files: shown, checked, run, and run again from the folder of a run.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use support::{bench_command, free_ports, has_docker, skip};

fn bench(args: &[&str]) -> Output {
    bench_command().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shipped(name: &str) -> String {
    format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a scenario; returns the result and the folder of the run.
fn run(file: &str, nodes: u16, more: &[&str], folder: &Path) -> (Value, PathBuf) {
    let ports = free_ports(2 * nodes);
    let output = folder.join(format!("run-{ports}"));
    let (metric, p2p) = (format!("--base-metric-port={ports}"), format!("--base-p2p-port={}", ports + nodes));
    let output_flag = format!("--output={}", output.display());
    let mut args = vec!["run", file];
    args.extend(more);
    args.extend([metric.as_str(), &p2p, &output_flag, "--json"]);
    let ran = bench(&args);
    assert!(ran.status.success(), "{}\n{}", text(&ran.stderr), text(&ran.stdout));
    (serde_json::from_slice(&ran.stdout).unwrap(), output)
}

/// Counts of a class: intended, sent, expected deliveries, deliveries.
fn counts(result: &Value, class: &str) -> [u64; 4] {
    let row = result["classes"].as_array().unwrap().iter().find(|row| row["name"] == class).unwrap();
    ["intended", "sent", "expected", "delivered"].map(|name| row[name].as_u64().unwrap())
}

#[test]
fn votes_go_out_after_their_proposal_and_classes_are_reported_apart() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--timeout=6", "--warm-up-seconds=1"];
    let (result, output) = run(&shipped("starknet-today"), 5, &more, folder.path());
    assert_eq!(result["verdict"]["valid"], true, "{}", result["verdict"]);
    // A proposal every 1.5 s in a window of 6 s, of ten parts, to four receivers.
    assert_eq!(counts(&result, "proposals"), [40, 40, 160, 160]);
    for class in ["prevotes", "precommits"] {
        let [intended, sent, expected, delivered] = counts(&result, class);
        // Five nodes vote on each proposal; votes of a proposal at the edge of the window may fall on either side.
        assert!((15..=25).contains(&intended), "{class}: {intended}");
        assert_eq!((sent, expected, delivered), (intended, 4 * intended, 4 * intended), "{class}");
    }

    // The folder is sufficient to repeat the run.
    let kept = output.join("scenario.toml");
    let more: [&str; 0] = [];
    let (again, repeated) = run(&kept.display().to_string(), 5, &more, folder.path());
    assert_eq!(fs::read_to_string(repeated.join("scenario.toml")).unwrap(), fs::read_to_string(&kept).unwrap());
    assert_eq!(counts(&again, "proposals"), [40, 40, 160, 160]);
    let columns = |result: &Value| result.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(columns(&again), columns(&result));
}

#[test]
fn the_same_file_runs_on_every_deployment_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept: Vec<(String, Vec<String>)> = vec![];
    let mut deployments = vec!["process", "netns"];
    if has_docker("the scenario on docker") {
        deployments.push("docker");
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("network namespaces need root");
    }
    for deployment in deployments {
        let more = ["--on", deployment, "--timeout=4", "--warm-up-seconds=1", "--worker-threads=1"];
        let (result, output) = run(&shipped("starknet-today"), 5, &more, folder.path());
        assert_eq!(result["verdict"]["valid"], true, "{deployment}: {}", result["verdict"]);
        let classes = result["classes"].as_array().unwrap();
        let columns = classes.iter().flat_map(|row| row.as_object().unwrap().keys().cloned()).collect();
        kept.push((fs::read_to_string(output.join("scenario.toml")).unwrap(), columns));
    }
    assert!(kept.windows(2).all(|pair| pair[0] == pair[1]), "the same resolved scenario, the same columns");
}

#[test]
fn a_random_topology_of_twenty_nodes_reaches_every_node_over_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("random.toml");
    let scenario = r#"
        seed = 3
        [nodes]
        count = 20
        worker_threads = 1
        [topology]
        kind = "random"
        peers = 4
        [measurement]
        window_seconds = 5
        [[traffic]]
        senders = 0
        heartbeat_millis = 500
    "#;
    fs::write(&file, scenario).unwrap();
    let (result, output) = run(&file.display().to_string(), 20, &[], folder.path());
    assert_eq!(counts(&result, "default"), [10, 10, 190, 190]);
    let copies = result["totals"]["gossip_copies_per_delivery"].as_f64().unwrap();
    assert!(copies > 1.0, "messages come over several paths: {copies}");
    let peers = |node: u64| -> usize {
        let text = fs::read_to_string(output.join(format!("nodes/node-{node}.json"))).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        usize::try_from(summary["readiness"]["expected_peers"].as_u64().unwrap()).unwrap()
    };
    assert!((0..20).all(|node| peers(node) == 4), "every node has four peers");
}

#[test]
fn a_session_protocol_reaches_neighbours_only_and_that_is_all_that_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line.toml");
    let scenario = r#"
        [nodes]
        count = 3
        [network]
        protocol = "sqmr"
        [topology]
        kind = "edges"
        edges = ["0-1", "1-2"]
        [measurement]
        window_seconds = 2
        [[traffic]]
        phase = "aligned"
    "#;
    fs::write(&file, scenario).unwrap();
    let (result, _) = run(&file.display().to_string(), 3, &[], folder.path());
    assert_eq!(counts(&result, "default"), [60, 60, 80, 80], "one, two and one receiver");
}

#[test]
fn flags_replace_single_values_and_set_replaces_any() {
    let show = |args: &[&str]| {
        let output = bench(&[&["scenario", "show"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let file = shipped("starknet-today");
    let shown = show(&[&file, "--num-nodes=7", "--set=traffic.prevotes.deadline_millis=500", "--set", "name=mine"]);
    for line in ["count = 7", "deadline_millis = 500", "name = \"mine\"", "topic = \"consensus_votes\""] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("shown.toml");
    fs::write(&written, &shown).unwrap();
    assert_eq!(show(&[&written.display().to_string()]), shown, "a resolved scenario resolves to itself");
    for (args, says) in [
        (&["--set=traffic.votes.burst=2"][..], "'traffic' has no element 'votes'"),
        (&["--set=nodes.cuont=2"], "unknown field `cuont`"),
        (&["--set=nodes"], "write KEY=VALUE"),
        (&["--heartbeat-millis=5"], "is ambiguous between the classes"),
        (&["--mode=explore"], "the scenario has 3 classes"),
    ] {
        let output = bench(&[&["scenario", "show", file.as_str()], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.contains(says) && said.lines().count() == 1, "{args:?}: {said}");
    }
}

#[test]
fn check_names_every_broken_file_in_a_line_and_passes_the_shipped_ones() {
    let folder = format!("{}/scenarios", env!("CARGO_MANIFEST_DIR"));
    let good: Vec<String> = [folder.clone(), format!("{folder}/agreement")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with(".toml"))
        .collect();
    let args: Vec<&str> = ["scenario", "check"].into_iter().chain(good.iter().map(String::as_str)).collect();
    let output = bench(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), good.len());

    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "[nodes]\ncount = 5\n[[traffic]]\nsenders = 5\n").unwrap();
    let missing = folder.path().join("missing.toml");
    let (broken, missing) = (broken.display().to_string(), missing.display().to_string());
    let output = bench(&["scenario", "check", &broken, &good[0], &missing]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    let place = format!("error: {broken}:4:1: traffic[0].senders 5 is outside of the network: its 5 nodes are 0 to 4");
    assert!(said.contains(&place) && said.contains("No such file"), "{said}");
    assert_eq!(said.lines().count(), 2);
    for (file, says) in [(&broken, "senders 5 is outside"), (&missing, "No such file")] {
        let output = bench(&["run", file]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    let output = bench(&["run", &good[0], "--on", "moon"]);
    assert_eq!((output.status.code(), text(&output.stderr).contains("process, netns, docker")), (Some(2), true));
}

#[test]
fn the_schema_is_json_that_knows_the_keys() {
    let output = bench(&["scenario", "schema"]);
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["traffic"].is_object() && schema["$schema"].is_string());
}
