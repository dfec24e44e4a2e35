//! `apollo-bench local` with real nodes: its deliveries, and its behaviour after failures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

mod support;

use std::{fs, process::Stdio, time::Duration};

use serde_json::Value;
use support::{Lab, Running, assert_all_delivered, bench_command, lives, result, signal, wait_for};

/// Checks that a run is valid and without loss.
fn assert_exact(exit: Option<i32>, run: &Value) {
    assert_eq!(exit, Some(0), "{run:#}");
    let totals = &run["totals"];
    assert_eq!(run["verdict"]["valid"], true, "{run:#}");
    assert_all_delivered(run);
    assert_eq!(totals["delay"]["count"], totals["delivered"]);
    assert_eq!(run["malformed"], serde_json::json!({}));
}

fn assert_delivers_exactly(args: &str) {
    let lab = Lab::new(3);
    let (exit, run) = lab.run(&format!("--timeout 2 --warm-up-seconds 1 {args}"));
    assert_exact(exit, &run);
}

#[test]
fn gossipsub_delivers_everything_exactly_once() {
    let lab = Lab::new(3);
    let (exit, run) = lab.run("--timeout 2 --warm-up-seconds 1 --mode all --heartbeat-millis 20");
    assert_exact(exit, &run);
    assert_eq!(run["totals"]["intended"], 3 * 100);
    assert_eq!(run["nodes"].as_array().unwrap().len(), 3);
    for file in ["manifest.json", "summary.json", "timeseries.jsonl", "nodes/node-2.json", "logs/node-2.log"] {
        assert!(lab.output().join(file).is_file(), "{file}");
    }
    let written: Value = serde_json::from_slice(&std::fs::read(lab.output().join("summary.json")).unwrap()).unwrap();
    assert_eq!(written, run);
}

#[test]
fn sqmr_delivers_to_every_node() {
    assert_delivers_exactly("--network-protocol sqmr --heartbeat-millis 20");
}

#[test]
fn reversed_sqmr_delivers_to_every_node() {
    assert_delivers_exactly("--network-protocol reversed-sqmr --heartbeat-millis 20");
}

#[test]
fn propeller_delivers_to_every_node_over_both_transports() {
    assert_delivers_exactly("--network-protocol propeller --heartbeat-millis 50");
    assert_delivers_exactly("--network-protocol propeller --heartbeat-millis 50 --quic");
}

#[test]
fn propeller_counts_its_units() {
    let lab = Lab::new(4);
    let (exit, run) = lab.run(
        "--network-protocol propeller --mode one --message-size-bytes 100000 --heartbeat-millis 500 --timeout 3 \
         --warm-up-seconds 1",
    );
    assert_exact(exit, &run);
    let units = &run["propeller"];
    // Six messages of the window; the edges of the counts lie in the middle of the traffic.
    let sent = units["units_sent"].as_u64().unwrap();
    assert!((3 * 5..=3 * 7).contains(&sent), "{units:#}");
    assert_eq!(units["units_forwarded"].as_u64().unwrap() % 2, 0, "{units:#}");
    assert_eq!((&units["given_up"], &units["refused"]), (&0.into(), &serde_json::json!({})), "{units:#}");
    let least = units["least_bytes_per_delivered_byte"].as_f64().unwrap();
    assert!((3.0..3.05).contains(&least), "three units of one shard each: {units:#}");
}

#[test]
fn propeller_delivers_to_the_living_when_a_node_dies() {
    let lab = Lab::new(7);
    let args = "--network-protocol propeller --mode one --heartbeat-millis 100 --timeout 6 --warm-up-seconds 1";
    let (exit, run) = result(Running::start(lab.command(args).args(["--fault", "2s kill 5"])).output());
    assert_eq!(exit, Some(0), "{run:#}");
    let after = &run["phases"][1];
    // Five of the six receivers live.
    let living = after["sent"].as_u64().unwrap() * 5;
    assert!(after["delivered"].as_u64().unwrap() >= living, "{after:#}");
    let missing = run["propeller"]["missing_owners"].as_array().unwrap();
    assert!(missing.iter().any(|owner| owner["owner"] == 5), "{missing:#?}");
}

#[test]
fn propeller_refuses_what_it_cannot_carry_before_anything_starts() {
    let refusals = [
        ("--num-nodes 4 --message-size-bytes 1048576", "propeller carries at most 1048291 bytes with 4 nodes"),
        ("--num-nodes 1", "propeller needs at least 2 nodes"),
        (
            "--num-nodes 4 --set topology.kind=\"random\" --set topology.peers=2",
            "propeller sends units from every node",
        ),
    ];
    for (args, reason) in refusals {
        let mut command = bench_command();
        command.args(["local", "--network-protocol", "propeller"]).args(args.split(' '));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args}");
        let line = String::from_utf8_lossy(&output.stderr);
        assert!(line.contains(reason), "{args}: {line}");
    }
}

#[test]
fn one_broadcaster_reaches_all_over_quic() {
    assert_delivers_exactly("--quic --mode one --broadcaster 1 --heartbeat-millis 20");
}

#[test]
fn sqmr_works_over_quic() {
    assert_delivers_exactly("--quic --network-protocol sqmr --heartbeat-millis 20");
}

#[test]
fn one_broadcaster_reaches_all_by_reversed_sqmr() {
    assert_delivers_exactly("--network-protocol reversed-sqmr --mode one --broadcaster 2 --heartbeat-millis 20");
}

#[test]
fn the_largest_message_arrives_by_every_protocol() {
    for protocol in ["gossipsub", "sqmr", "reversed-sqmr"] {
        let lab = Lab::new(3);
        let (exit, run) = lab.run(&format!(
            "--network-protocol {protocol} --mode one --message-size-bytes 4194304 --heartbeat-millis 1000 --timeout 6 \
             --warm-up-seconds 0 --drain-seconds 60"
        ));
        assert_exact(exit, &run);
    }
}

#[test]
fn without_signatures_and_flooding_the_mesh_still_carries_everything() {
    assert_delivers_exactly("--gossipsub-signing false --gossipsub-flood-publish false --heartbeat-millis 20");
}

#[test]
fn the_smallest_message_has_no_room_for_an_extension_and_counts_all_the_same() {
    let lab = Lab::new(2);
    let (exit, run) = lab.run("--timeout 1 --warm-up-seconds 0 --message-size-bytes 36 --heartbeat-millis 20");
    assert_exact(exit, &run);
    assert_eq!(run["totals"]["network_delay"]["count"], 0);
}

#[test]
fn in_round_robin_every_beat_has_one_sender() {
    let lab = Lab::new(3);
    let args = "--mode rr --round-duration-seconds 1 --heartbeat-millis 20 --timeout 6 --warm-up-seconds 0";
    let (exit, run) = lab.run(args);
    assert_exact(exit, &run);
    assert_eq!(run["totals"]["intended"], 6 * 50);
    for node in run["nodes"].as_array().unwrap() {
        assert_eq!(node["intended"], 2 * 50, "{node:#}");
    }
}

#[test]
fn explore_rebuilds_the_network_for_each_trial_and_ends() {
    let lab = Lab::new(3);
    // The four trials above 1.3 GB/s are beyond any machine, so that messages are missed and must be counted.
    let (exit, run) = lab.run(
        "--mode explore --broadcaster 0 --explore-cool-down-duration-seconds 3 --explore-run-duration-seconds 1 \
         --explore-min-throughput-byte-per-seconds 1300000000 --explore-min-message-size-bytes 2097152",
    );
    assert_eq!(exit, Some(0), "{run:#}");
    let trials = run["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4, "{run:#}");
    let offered = |trial: &Value| {
        trial["plan"]["message_size"].as_f64().unwrap() / trial["plan"]["heartbeat_millis"].as_f64().unwrap()
    };
    assert!(trials.is_sorted_by_key(offered));
    // A slow machine may not be ready for each trial. Far above the capacity of a machine, messages of the warm-up may
    // take all of the window.
    let moved = |trial: &Value| trial["sent"].as_u64() > Some(0) || trial["delivered_in_window"].as_u64() > Some(0);
    assert!(trials.iter().any(|trial| trial["ready"] == true && moved(trial)), "{run:#}");
    for (number, trial) in trials.iter().enumerate() {
        assert_eq!(trial["trial"], number);
        let count = |field: &str| trial[field].as_u64().unwrap();
        assert_eq!(count("intended"), count("sent") + count("dropped") + count("missed"), "{trial:#}");
    }
    let lines = std::fs::read_to_string(lab.output().join("trials.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 4);
    let node: Value = serde_json::from_slice(&std::fs::read(lab.output().join("nodes/node-1.json")).unwrap()).unwrap();
    let connected = node["events"]["connections_established"].as_u64().unwrap();
    assert!(connected >= 4 * 2, "every trial has new connections: {connected}");
}

#[test]
fn explore_rebuilds_a_quic_network_too() {
    let lab = Lab::new(2);
    let (exit, run) = lab.run(
        "--quic --mode explore --explore-cool-down-duration-seconds 3 --explore-run-duration-seconds 1 \
         --explore-min-throughput-byte-per-seconds 2090000000 --explore-min-message-size-bytes 2097152",
    );
    assert_eq!(exit, Some(0), "{run:#}");
    let trials = run["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3);
    assert!(trials.iter().any(|trial| trial["ready"] == true), "{run:#}");
    let bytes = |trial: &Value| trial.get("socket_bytes_per_delivered_byte").cloned();
    assert!(trials.iter().all(|trial| bytes(trial) == Some(Value::Null)), "not measured over QUIC, so not reported");
}

#[test]
fn a_node_that_hangs_at_the_end_is_not_taken_for_one_that_has_finished() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command("--timeout 5 --warm-up-seconds 0 --hang-timeout-seconds 6"));
    let processes = lab.processes();
    lab.wait_until_measuring(1);
    signal(processes[1], "STOP");
    let (exit, run) = result(run.output());
    assert_eq!(exit, Some(1), "{run:#}");
    let reason = run["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("node 1 has not answered for"), "{reason}");
}

#[test]
fn a_paused_broadcaster_shows_as_lateness_not_as_silence() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command(
        "--mode one --broadcaster 0 --heartbeat-millis 10 --timeout 9 --warm-up-seconds 0 --hang-timeout-seconds 30",
    ));
    let broadcaster = lab.processes()[0];
    lab.wait_until_measuring(0);
    signal(broadcaster, "STOP");
    // Longer than the delay that is checked below: the first delayed message was due up to a heartbeat after the stop.
    std::thread::sleep(Duration::from_millis(2100));
    signal(broadcaster, "CONT");
    let (exit, run) = result(run.output());
    assert_eq!(exit, Some(0), "{run:#}");
    let totals = &run["totals"];
    assert_eq!(totals["intended"], 900);
    assert!(totals["delay"]["max_micros"].as_u64().unwrap() >= 2_000_000, "{totals:#}");
    let unpunctual = totals["late"].as_u64().unwrap() + totals["missed"].as_u64().unwrap();
    assert!(unpunctual >= 199, "{totals:#}");
    assert_all_delivered(&run);
}

#[test]
fn a_killed_node_makes_the_run_invalid_and_the_others_results_are_kept() {
    let lab = Lab::new(3);
    let run = Running::start(&mut lab.command("--heartbeat-millis 10 --timeout 60 --warm-up-seconds 0"));
    let processes = lab.processes();
    lab.wait_until_measuring(2);
    signal(processes[1], "KILL");
    let (exit, run) = result(run.output());
    assert_eq!(exit, Some(1));
    let reason = run["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("node 1 ended with signal 9 (SIGKILL)"), "{reason}");
    for node in [0, 2] {
        let row = run["nodes"].as_array().unwrap().iter().find(|row| row["node"] == node).unwrap();
        assert!(row["received"].as_u64() > Some(0), "{row:#}");
    }
    for process in processes {
        wait_for("the nodes' end", || (!lives(process)).then_some(()));
    }
}

#[test]
fn a_node_that_hangs_fails_the_run_by_name() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command("--timeout 60 --warm-up-seconds 0 --hang-timeout-seconds 6"));
    let processes = lab.processes();
    lab.wait_until_measuring(1);
    signal(processes[1], "STOP");
    let (exit, run) = result(run.output());
    assert_eq!(exit, Some(1));
    let reason = run["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("node 1 has not answered for"), "{reason}");
    assert!(!lives(processes[1]));
}

#[test]
fn ctrl_c_stops_everything_and_still_reports() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command("--timeout 60 --warm-up-seconds 0"));
    let processes = lab.processes();
    lab.wait_until_measuring(0);
    run.signal("INT");
    let (exit, run) = result(run.output());
    assert_eq!(exit, Some(1));
    assert_eq!(run["verdict"]["reasons"][0], "interrupted (SIGINT)");
    assert!(run["totals"]["delivered"].as_u64() > Some(0), "{run:#}");
    assert!(processes.iter().all(|process| !lives(*process)));
}

#[test]
fn kill_9_of_the_runner_leaves_no_node_behind() {
    let lab = Lab::new(3);
    let run = Running::start(&mut lab.command("--timeout 60 --warm-up-seconds 0"));
    let processes = lab.processes();
    assert!(processes.iter().all(|process| lives(*process)));
    run.signal("KILL");
    for process in processes {
        wait_for("the node's end", || (!lives(process)).then_some(()));
    }
    assert!(lab.output().join("manifest.json").is_file());
}

#[test]
fn a_network_that_never_becomes_ready_fails_with_its_state() {
    let lab = Lab::new(2);
    // The given program is no node: it ends at once.
    let (exit, run) = lab.run("--node-binary /bin/false");
    assert_eq!(exit, Some(1));
    let reason = run["verdict"]["reasons"][0].as_str().unwrap();
    // Either of the two ends may be seen first.
    assert!(reason.contains(" ended with exit code 1"), "{reason}");
}

#[test]
fn the_other_node_program_is_as_good() {
    let lab = Lab::new(2);
    let (exit, run) =
        lab.run(&format!("--timeout 1 --warm-up-seconds 0 --heartbeat-millis 20 --node-binary {}", support::NODE));
    assert_exact(exit, &run);
}

#[test]
fn a_taken_port_is_found_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output =
        bench_command().args(["local", "--num-nodes=1", &format!("--base-metric-port={port}")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with(&format!("error: port {port} of node 0 can't be used")), "{text}");
    assert!(text.contains("--base-metric-port"), "{text}");
}

#[test]
fn bad_usage_has_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("precious"), "data").unwrap();
    let full = format!("--output={}", folder.path().display());
    for (args, says) in [
        (vec!["--num-nodes=0"], "--num-nodes 0"),
        (vec!["--mode=one", "--broadcaster=9"], "--broadcaster 9 is outside"),
        (vec!["--message-size-bytes=1"], "--message-size-bytes 1"),
        (vec!["--base-metric-port=65535"], "--base-metric-port 65535"),
        (vec!["--base-metric-port=10000"], "overlap"),
        (vec!["--node-binary=/nonexistent"], "No such file"),
        (vec![&full, "--base-metric-port=20500", "--base-p2p-port=20600"], "is not empty"),
    ] {
        let output = bench_command().arg("local").args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says) && text.lines().count() == 1, "{args:?}: {text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is lost, nothing is added");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child =
        bench_command().args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn man_pages_of_both_programs_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = bench_command().arg("man").arg(folder.path().join("man1")).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    for (page, says) in [("apollo-bench-local.1", "num\\-nodes"), ("broadcast_network_stress_test_node.1", "bootstrap")]
    {
        let text = fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
        assert!(text.contains(says), "{page}: {text}");
    }
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = bench_command().args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("explore-run-duration-seconds"), "{shell}");
    }
}
