//! `apollo-bench remote` with existing real nodes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use apollo_network_benchmark::network::peer_id;
use serde_json::Value;
use support::{Running, bench_command, free_ports, get, node_command, request, result, wait_for};
use tempfile::TempDir;

/// Nodes that another program runs, as a service manager does.
struct Network {
    folder: TempDir,
    ports: u16,
    num_nodes: u16,
    nodes: Vec<Running>,
}

const LIGHT: &str = "--mode all --message-size-bytes 500 --heartbeat-millis 20";

impl Network {
    /// Starts nodes that wait for their start.
    fn start(num_nodes: u16, args: &str) -> Self {
        let mut network = Self::none(num_nodes);
        for id in 0..num_nodes {
            let node = network.node(id, &format!("--controlled {args}"));
            network.nodes.push(node);
        }
        network
    }

    /// Reserves ports for nodes, and starts none.
    fn none(num_nodes: u16) -> Self {
        let ports = free_ports(3 * num_nodes);
        Self { folder: tempfile::tempdir().unwrap(), ports, num_nodes, nodes: vec![] }
    }

    fn node(&self, id: u16, args: &str) -> Running {
        let p2p = self.ports + self.num_nodes;
        let quic = args.contains("--quic");
        let peer = |id: u16| {
            let transport = if quic { format!("udp/{}/quic-v1", p2p + id) } else { format!("tcp/{}", p2p + id) };
            format!("/ip4/127.0.0.1/{transport}/p2p/{}", peer_id(id.into()))
        };
        let bootstrap: Vec<String> = (0..self.num_nodes).map(peer).collect();
        let mut command = node_command();
        command.arg(format!("--id={id}")).arg(format!("--num-nodes={}", self.num_nodes));
        command.arg(format!("--metric-port={}", self.ports + id)).arg(format!("--p2p-port={}", p2p + id));
        command.arg(format!("--bootstrap={}", bootstrap.join(",")));
        command.args("--buffer-size 1000 --timeout 120 --verbosity 2 --network-protocol gossipsub".split_whitespace());
        command.args("--metric-address 127.0.0.1 --p2p-address 127.0.0.1".split_whitespace());
        command.args(args.split_whitespace());
        Running::start(&mut command)
    }

    fn endpoint(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.ports + id)
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Command over all nodes, with its folder.
    fn remote(&self, args: &str) -> Command {
        let endpoints: Vec<String> = (0..self.num_nodes).map(|id| self.endpoint(id)).collect();
        let mut command = self.remote_over(&endpoints.join(","), args);
        command.arg("--output").arg(self.output());
        command
    }

    fn remote_over(&self, endpoints: &str, args: &str) -> Command {
        let mut command = bench_command();
        command.args(["remote", "--node", endpoints]).args(args.split_whitespace());
        command
    }

    fn summary(&self, id: u16) -> Option<Value> {
        serde_json::from_str(&get(self.ports + id, "/summary")?.1).ok()
    }

    /// Waits until a node has counted something in the measured window.
    fn wait_until_measuring(&self, id: u16) {
        wait_for("the measured window", || {
            let summary = self.summary(id)?;
            (summary["measured"]["received"].as_u64()? > 0).then_some(())
        });
    }

    fn wait_until_drained(&self, id: u16) {
        wait_for("the end of the window", || (self.summary(id)?["phase"] == "draining").then_some(()));
    }

    /// Checks that all nodes end by themselves, in order.
    fn assert_ended(self) {
        for node in self.nodes {
            assert_eq!(node.output().status.code(), Some(0));
        }
    }
}

fn run(command: &mut Command) -> (Option<i32>, Value) {
    result(Running::start(command).output())
}

fn assert_exact(exit: Option<i32>, run: &Value) {
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run["verdict"]["valid"], true, "{run:#}");
    support::assert_all_delivered(run);
}

/// The only line of an error, with its exit code.
fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| !line.starts_with("find: ")).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: "), "{text}");
    errors[0].to_owned()
}

fn reason(run: &Value) -> &str {
    run["verdict"]["reasons"][0].as_str().unwrap()
}

#[test]
fn a_run_over_nodes_that_run_already_is_exact_and_leaves_the_folder_of_any_run() {
    let network = Network::start(3, LIGHT);
    let (exit, summary) = run(&mut network.remote("--json --timeout 2 --warm-up-seconds 1"));
    assert_exact(exit, &summary);
    assert_eq!(summary["totals"]["intended"], 3 * 100);
    assert_eq!(summary["nodes"].as_array().unwrap().len(), 3);
    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(network.output().join(name)).unwrap()).unwrap() };
    assert_eq!(read("summary.json"), summary);
    let manifest = read("manifest.json");
    assert_eq!(manifest["backend"], "remote");
    assert_eq!(manifest["endpoints"]["1"], network.endpoint(1));
    assert_eq!(manifest["scenario"]["traffic"][0]["message_size_bytes"], 500);
    assert_eq!(manifest["arguments"]["timeout"], 2);
    assert_eq!(read("nodes/node-2.json")["node"], 2);
    assert!(network.output().join("timeseries.jsonl").is_file());
    // All nodes on this host have one clock, which causes no warning.
    assert_eq!(summary["clocks"]["worst"], Value::Null);
    assert_eq!(summary["clocks"]["nodes"][2]["clock_of"], 0);
    network.assert_ended();
}

#[test]
fn a_run_that_one_process_begins_another_collects_and_a_third_gets_the_same() {
    let network = Network::start(2, LIGHT);
    let detached = network.remote("--timeout 2 --warm-up-seconds 0 --detach").output().unwrap();
    let said = String::from_utf8_lossy(&detached.stderr).into_owned();
    assert_eq!(detached.status.code(), Some(0), "{said}");
    assert!(said.contains("has begun") && said.contains("apollo-bench remote --node"), "{said}");
    let twice = network.remote("--detach").output().unwrap();
    assert!(refusal(&twice).contains("have a start already"));
    network.wait_until_drained(1);
    let (exit, second) = run(&mut network.remote("--json --keep-nodes"));
    assert_exact(exit, &second);
    assert_eq!(second["totals"]["intended"], 2 * 100);
    assert!(second["ready_seconds"].is_number(), "the folder knows how it began: {second:#}");
    let elsewhere = network.folder.path().join("other");
    let endpoints = format!("{},{}", network.endpoint(1), network.endpoint(0));
    let (exit, third) = run(network.remote_over(&endpoints, "--json").arg("--output").arg(elsewhere));
    assert_exact(exit, &third);
    for field in ["sent", "delivered", "duplicates", "delay", "network_delay", "send_lag", "cpu_seconds"] {
        assert_eq!(second["totals"][field], third["totals"][field], "{field}");
    }
    network.assert_ended();
}

#[test]
fn after_ctrl_c_the_nodes_continue_and_the_same_command_collects_the_run() {
    let network = Network::start(2, LIGHT);
    let first = Running::start(&mut network.remote("--timeout 8 --warm-up-seconds 0"));
    network.wait_until_measuring(0);
    first.signal("INT");
    let output = first.output();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: interrupted; the nodes continue: collect the run with "), "{said}");
    assert!(!network.output().join("summary.json").exists());
    let (exit, summary) = run(&mut network.remote("--json"));
    assert_exact(exit, &summary);
    assert_eq!(summary["totals"]["intended"], 2 * 400);
    network.assert_ended();
}

#[test]
fn nodes_that_make_no_network_are_refused_in_one_line_that_names_them() {
    let network = Network::start(3, LIGHT);
    let two = format!("{},{}", network.endpoint(0), network.endpoint(2));
    let line = refusal(&network.remote_over(&two, "").output().unwrap());
    assert!(line.contains("has 3 nodes") && line.ends_with("are missing: 1"), "{line}");
    // Another name for the same endpoint.
    let twice = format!("{},localhost:{}", network.endpoint(0), network.ports);
    let line = refusal(&network.remote_over(&twice, "").output().unwrap());
    assert!(line.contains("node 0 answers at two endpoints"), "{line}");
    let nobody = format!("{},{},127.0.0.1:1", network.endpoint(0), network.endpoint(1));
    let line = refusal(&network.remote_over(&nobody, "--ready-timeout-seconds 1").output().unwrap());
    assert!(line.contains("127.0.0.1:1 does not answer"), "{line}");
    let line = refusal(&network.remote("--latency 5").output().unwrap());
    assert!(line.contains("run it with --probe-port"), "{line}");
    assert!(!network.output().exists(), "nothing was begun, and nothing is left");
}

#[test]
fn a_node_that_starts_by_itself_or_with_another_workload_is_refused_by_name() {
    let mut network = Network::none(2);
    network.nodes = vec![
        network.node(0, &format!("--controlled {LIGHT}")),
        network.node(1, "--controlled --mode all --message-size-bytes 501 --heartbeat-millis 20"),
    ];
    let line = refusal(&network.remote("").output().unwrap());
    assert!(line.contains("nodes 0 and 1 differ in message_size_bytes: 500 and 501"), "{line}");

    let mut network = Network::none(2);
    network.nodes = vec![network.node(0, &format!("--controlled {LIGHT}")), network.node(1, LIGHT)];
    let line = refusal(&network.remote("").output().unwrap());
    assert!(line.contains("node 1 (") && line.contains("run it with --controlled"), "{line}");
}

#[test]
fn a_node_that_is_killed_in_the_window_makes_the_run_invalid_and_the_others_rows_are_kept() {
    let network = Network::start(3, LIGHT);
    let first = Running::start(&mut network.remote("--json --timeout 60 --warm-up-seconds 0 --hang-timeout-seconds 8"));
    network.wait_until_measuring(2);
    network.nodes[1].signal("KILL");
    let (exit, summary) = result(first.output());
    assert_eq!(exit, Some(1));
    assert!(reason(&summary).starts_with("node 1 has not answered for"), "{summary:#}");
    for node in [0, 2] {
        let row = summary["nodes"].as_array().unwrap().iter().find(|row| row["node"] == node).unwrap();
        assert!(row["received"].as_u64() > Some(0), "{row:#}");
    }
}

#[test]
fn a_node_that_was_restarted_in_the_window_is_named() {
    let mut network = Network::start(2, LIGHT);
    let first = Running::start(&mut network.remote("--json --timeout 60 --warm-up-seconds 0"));
    network.wait_until_measuring(1);
    drop(network.nodes.remove(1));
    network.nodes.push(network.node(1, &format!("--controlled {LIGHT}")));
    let (exit, summary) = result(first.output());
    assert_eq!(exit, Some(1));
    assert!(reason(&summary).starts_with("node 1 was restarted during the run"), "{summary:#}");
    assert_eq!(summary["nodes"].as_array().unwrap().len(), 2, "what it had said before is kept: {summary:#}");
}

#[test]
fn of_a_run_that_has_lost_a_node_the_others_counts_are_still_collected() {
    let mut network = Network::start(2, LIGHT);
    let detached = network.remote("--timeout 1 --warm-up-seconds 0 --detach").output().unwrap();
    assert_eq!(detached.status.code(), Some(0));
    network.wait_until_drained(0);
    drop(network.nodes.remove(1));
    let (exit, summary) = run(&mut network.remote("--json --ready-timeout-seconds 1"));
    assert_eq!(exit, Some(1));
    assert!(reason(&summary).starts_with("node 1 was lost"), "{summary:#}");
    assert_eq!(summary["nodes"][0]["intended"], 50, "{summary:#}");
    network.assert_ended();
}

#[test]
fn links_are_measured_if_flags_set_their_shapes() {
    let network = Network::none(2);
    let with_probes = |network: &Network| {
        let ports = network.ports + 2 * network.num_nodes;
        let node = |id| network.node(id, &format!("--controlled {LIGHT} --probe-port {}", ports + id));
        (0..2).map(node).collect()
    };
    let network = Network { nodes: with_probes(&network), ..network };
    // The loopback has no latency of 50 ms: nothing is sent, and the nodes can still receive a start.
    let args = "--json --timeout 1 --warm-up-seconds 0 --link-probe-seconds 1";
    let (exit, summary) = run(&mut network.remote(&format!("{args} --latency 50")));
    assert_eq!(exit, Some(1));
    assert!(reason(&summary).contains("did not take its shape"), "{summary:#}");
    assert_eq!(summary["totals"]["sent"], 0);
    assert_eq!(network.summary(0).unwrap()["start"], Value::Null);

    // A small latency is within the tolerance. One process measures before the window, another after it.
    let output = network.folder.path().join("second");
    let little = "--timeout 1 --warm-up-seconds 0 --link-probe-seconds 1 --latency 0.5 --tolerance-millis 500";
    let endpoints = format!("{},{}", network.endpoint(0), network.endpoint(1));
    let begin = network.remote_over(&endpoints, &format!("{little} --detach")).arg("--output").arg(&output).output();
    assert_eq!(begin.unwrap().status.code(), Some(0));
    let without = network.remote_over(&endpoints, "").arg("--output").arg(&output).output().unwrap();
    assert!(refusal_at_the_end(&without).contains("were measured before the window"));
    let (exit, summary) =
        run(network.remote_over(&endpoints, &format!("{little} --json")).arg("--output").arg(&output));
    assert_exact(exit, &summary);
    assert_eq!(summary["links"]["valid"], true, "{summary:#}");
    let link = &summary["links"]["links"][0];
    assert!(link["before"]["packets"].as_u64() > Some(0) && link["after"]["packets"].as_u64() > Some(0), "{link:#}");
    assert_eq!(summary["links"]["interfaces"], serde_json::json!([]));
    network.assert_ended();
}

/// Error after lines of progress.
fn refusal_at_the_end(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    text.lines().last().unwrap().to_owned()
}

#[test]
fn turns_over_quic_work_elsewhere_too() {
    let network =
        Network::start(2, "--quic --mode rr --round-duration-seconds 1 --message-size-bytes 500 --heartbeat-millis 20");
    let (exit, summary) = run(&mut network.remote("--json --timeout 2 --warm-up-seconds 0"));
    assert_exact(exit, &summary);
    assert_eq!(summary["totals"]["intended"], 100);
    assert_eq!(summary["workload"]["transport"], "quic");
    network.assert_ended();
}

#[test]
fn trials_of_mode_explore_are_collected_also_when_they_are_over() {
    let network = Network::start(
        2,
        "--mode explore --broadcaster 0 --explore-cool-down-duration-seconds 3 --explore-run-duration-seconds 1 \
         --explore-min-throughput-byte-per-seconds 2090000000 --explore-min-message-size-bytes 2097152",
    );
    let detached = network.remote("--detach").output().unwrap();
    assert_eq!(detached.status.code(), Some(0), "{}", String::from_utf8_lossy(&detached.stderr));
    wait_for("the last trial", || (network.summary(0)?["phase"] == "finished").then_some(()));
    let (exit, summary) = run(&mut network.remote("--json"));
    assert_eq!(exit, Some(0), "{summary:#}");
    assert_eq!(summary["trials"].as_array().unwrap().len(), 3);
    let lines = std::fs::read_to_string(network.output().join("trials.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3);
    network.assert_ended();
}

#[test]
fn a_controlled_node_that_is_requested_to_end_writes_its_summary_and_exits_with_0() {
    let mut network = Network::none(1);
    let file = network.folder.path().join("node.json");
    network.nodes = vec![network.node(0, &format!("--controlled {LIGHT} --summary {}", file.display()))];
    let (head, _) = wait_for("the node", || request(network.ports, "POST", "/end", ""));
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    assert_eq!(network.nodes.remove(0).output().status.code(), Some(0));
    let summary: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(summary["phase"], "finished");

    let mut network = Network::none(1);
    network.nodes = vec![network.node(0, LIGHT)];
    let (head, _) = wait_for("the node", || request(network.ports, "POST", "/end", ""));
    assert!(head.starts_with("HTTP/1.1 404"), "only who is controlled can be ended: {head}");
    let clock: Value = serde_json::from_str(&get(network.ports, "/clock").unwrap().1).unwrap();
    assert!(clock["unix_nanos"].as_u64() > Some(0) && clock["boot_id"].is_string(), "{clock}");
}
