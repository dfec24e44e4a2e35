//! Program of the node: its refusals, its endpoint, its end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

mod support;

use std::time::Duration;

use apollo_network_benchmark::{
    clock::unix_nanos,
    network::peer_id,
    node::{NodeSummary, SendPlan, TrafficPlan, Turn},
    report::{Collected, Observations, PhaseInput, PhaseRow, PlannedWindow, WorkloadSummary, merge},
};
use serde_json::{Value, json};
use support::{Running, free_ports, get, lone_node, node_command, request, wait_for};

fn refused(args: &[String]) -> String {
    let output = node_command().args(args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn bad_values_are_refused_at_once_with_one_line_and_exit_code_2() {
    for (extra, says) in [
        ("--heartbeat-millis 0", "error: --heartbeat-millis 0: must be 1"),
        ("--message-size-bytes 35", "error: --message-size-bytes 35: must be 36"),
        ("--message-size-bytes 33554433", "error: --message-size-bytes 33554433: must be 36"),
        ("--mode one --broadcaster 2", "error: --broadcaster 2 is outside of the network"),
        ("--mode one", "error: --mode one needs --broadcaster"),
        ("--id 2", "error: --id 2 is outside of the network"),
    ] {
        let mut args = lone_node(1, 2, "");
        for pair in extra.split_whitespace().collect::<Vec<_>>().chunks(2) {
            if let Some(at) = args.iter().position(|word| word == pair[0]) {
                args.drain(at..at + 2);
            }
            args.extend(pair.iter().map(|word| (*word).to_owned()));
        }
        let text = refused(&args);
        assert!(text.starts_with(says) && text.lines().count() == 1, "{extra}: {text}");
    }
}

#[test]
fn arguments_can_be_checked_without_a_node() {
    let check = |extra: &str| {
        let mut args = lone_node(2000, 10_000, extra);
        args.push("--check".into());
        node_command().args(args).output().unwrap()
    };
    let good = check("");
    assert_eq!(good.status.code(), Some(0));
    assert!(String::from_utf8(good.stdout).unwrap().contains("the arguments are good"));
    let bad = check("--gossipsub-mesh-n 2");
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8(bad.stderr).unwrap().contains("--gossipsub-mesh-n 2"));
}

#[test]
fn an_address_without_a_peer_id_is_refused() {
    let mut args = lone_node(1, 2, "");
    args.pop();
    args.push("--bootstrap=/ip4/127.0.0.1/tcp/10000".into());
    let text = refused(&args);
    assert!(text.contains("names no peer; end it with /p2p/") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_taken_port_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let free = free_ports(2);
    let text = refused(&lone_node(port, free, ""));
    assert!(text.contains(&format!("can't listen on 127.0.0.1:{port}")) && text.contains("--metric-port"), "{text}");
    let text = refused(&lone_node(free, port, ""));
    assert!(text.contains(&format!("can't listen on 127.0.0.1:{port}")) && text.contains("--p2p-port"), "{text}");
}

#[test]
fn every_flag_can_come_from_the_environment() {
    let args = lone_node(1, 2, "");
    let mut command = node_command();
    for pair in args[..args.len() - 1].chunks(2) {
        let name = pair[0].trim_start_matches("--").replace('-', "_").to_uppercase();
        command.env(format!("APOLLO_{name}"), &pair[1]);
    }
    command.env("APOLLO_BOOTSTRAP", "").env("APOLLO_HEARTBEAT_MILLIS", "0");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).trim(),
        "error: --heartbeat-millis 0: must be 1 to 31622400000 ms"
    );
}

#[test]
fn a_lone_node_serves_its_endpoint_and_ends_on_sigterm_with_its_summary_written() {
    let ports = free_ports(3);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("summary.json");
    let summary = format!("--summary {} --gossipsub-metrics --tokio-metrics", file.display());
    let node = Running::start(node_command().args(lone_node(ports, ports + 1, &summary)));

    let (head, text) = wait_for("/metrics", || get(ports, "/metrics"));
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("\nnetwork_connected_peers 0\n"), "{text}");
    assert!(text.contains("# TYPE gossipsub_topic_peers_counts gauge") || text.contains("gossipsub_"), "{text}");
    assert!(text.contains("\ntokio_workers "), "{text}");
    assert!(!text.contains("# EOF"));

    assert_eq!(get(ports, "/healthz").unwrap().1, "ok\n");
    let (head, body) = get(ports, "/readyz").unwrap();
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let readiness: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(readiness["expected_peers"], 1);
    // Only a controlled node can be started from outside.
    assert!(request(ports, "POST", "/start", "{}").unwrap().0.starts_with("HTTP/1.1 404"));

    node.signal("TERM");
    assert_eq!(node.output().status.code(), Some(0));
    let summary: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(summary["schema_version"], 3);
    assert_eq!(summary["phase"], "finished");
    assert_eq!(summary["peer_id"], "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
}

#[test]
fn the_timeout_ends_a_node_with_exit_code_0() {
    let ports = free_ports(3);
    let args: Vec<String> =
        lone_node(ports, ports + 1, "").into_iter().map(|word| if word == "60" { "1".into() } else { word }).collect();
    assert_eq!(Running::start(node_command().args(args)).output().status.code(), Some(0));
}

#[test]
fn a_controlled_node_takes_one_start_and_no_other() {
    let ports = free_ports(3);
    let node = Running::start(node_command().args(lone_node(ports, ports + 1, "--controlled")));
    wait_for("/healthz", || get(ports, "/healthz"));
    let start = |body: &str| request(ports, "POST", "/start", body).unwrap().0;
    let far = unix_nanos() + 24 * 3600 * 1000 * MS;
    assert!(start("{\"start_unix_nanos\": 1}").starts_with("HTTP/1.1 400"));
    assert!(start(&format!("{{\"start_unix_nanos\": {}}}", u64::MAX / 2)).starts_with("HTTP/1.1 400"));
    assert!(start("{\"start_unix_nanos\": -1}").starts_with("HTTP/1.1 422"));
    assert!(start("nonsense").starts_with("HTTP/1.1 400"));
    assert!(start(&format!("{{\"start_unix_nanos\": {far}, \"colour\": 1}}")).starts_with("HTTP/1.1 422"));
    assert!(start(&" ".repeat(10_000)).starts_with("HTTP/1.1 413"));
    assert!(start(&format!("{{\"start_unix_nanos\": {far}}}")).starts_with("HTTP/1.1 202"));
    assert!(start(&format!("{{\"start_unix_nanos\": {far}}}")).starts_with("HTTP/1.1 409"));
    node.signal("INT");
    assert_eq!(node.output().status.code(), Some(0));
}

const MS: u64 = 1_000_000;

fn start(port: u16, order: &Value) -> (String, String) {
    let (head, body) = request(port, "POST", "/start", &order.to_string()).unwrap();
    (head.lines().next().unwrap_or_default().to_owned(), body)
}

fn node_summary(port: u16) -> Option<NodeSummary> {
    serde_json::from_str(&get(port, "/summary")?.1).ok()
}

#[test]
fn the_phases_of_a_start_are_checked_and_counted() {
    let ports = free_ports(3);
    let _node = Running::start(node_command().args(lone_node(ports, ports + 1, "--controlled")));
    wait_for("/healthz", || get(ports, "/healthz"));
    let begin = unix_nanos() + 2_000 * MS;
    let order = |phases: Value| {
        let millis = 1000;
        json!({"start_unix_nanos": begin, "warm_up_millis": 200, "measure_millis": millis, "phase_millis": phases})
    };
    let too_many: Vec<u64> = (1..=65).collect();
    for phases in [json!([0]), json!([600, 300]), json!([300, 300]), json!([300, 1000]), json!(too_many)] {
        let (head, body) = start(ports, &order(phases));
        assert!(head.contains(" 400 ") && body.starts_with("phase_millis"), "{head} {body}");
        assert_eq!(body.lines().count(), 1, "{body}");
    }
    assert!(start(ports, &json!({"start_unix_nanos": begin, "phase_millis": [1]})).0.contains(" 400 "));
    assert!(start(ports, &order(json!([300, 600]))).0.contains(" 202 "));
    let summary = wait_for("the end of the window", || {
        node_summary(ports).filter(|summary| summary.measured.intended == 10 && unix_nanos() > begin + 1_200 * MS)
    });
    let opening = begin + 200 * MS;
    let phases: Vec<_> =
        summary.phases.iter().map(|p| (p.from_unix_nanos - opening, p.to_unix_nanos - opening, p.intended)).collect();
    assert_eq!(phases, [(0, 300 * MS, 3), (300 * MS, 600 * MS, 3), (600 * MS, 1_000 * MS, 4)]);
    assert_eq!(summary.start.unwrap().phase_millis, [300, 600]);
}

#[test]
fn mode_explore_has_no_phases() {
    let ports = free_ports(3);
    let args = lone_node(ports, ports + 1, "--controlled --broadcaster 0");
    let args = args.into_iter().map(|word| if word == "all" { "explore".into() } else { word });
    let _node = Running::start(node_command().args(args));
    wait_for("/healthz", || get(ports, "/healthz"));
    let far = unix_nanos() + 24 * 3600 * 1000 * MS;
    let (head, body) = start(ports, &json!({"start_unix_nanos": far, "measure_millis": 9, "phase_millis": [1]}));
    assert!(head.contains(" 400 ") && body.contains("explore"), "{head} {body}");
    assert_eq!(node_summary(ports).unwrap().phases, []);
}

/// One of two nodes is killed and returns: outside of the phase of the kill nothing is lost, nothing that both of its
/// lives received is counted twice, and its schedule continues with the right index.
#[test]
fn a_rejoining_node_continues_at_the_place_of_its_network() {
    let ports = free_ports(4);
    let run = |id: u16| {
        let mut args = lone_node(ports + id, ports + 2 + id, "--controlled --run-id 5");
        args[1] = id.to_string();
        let (port, other) = (ports + 3 - id, peer_id(1 - u64::from(id)));
        *args.last_mut().unwrap() = format!("--bootstrap=/ip4/127.0.0.1/tcp/{port}/p2p/{other}");
        Running::start(node_command().args(args))
    };
    let (_stays, goes) = (run(0), run(1));
    for port in [ports, ports + 1] {
        wait_for("readiness", || get(port, "/readyz")?.0.starts_with("HTTP/1.1 200").then_some(()));
    }
    let begin = unix_nanos() + 300 * MS;
    let order = json!({"start_unix_nanos": begin, "measure_millis": 14_000, "phase_millis": [1000, 12_000]});
    assert!(start(ports, &order).0.contains(" 202 ") && start(ports + 1, &order).0.contains(" 202 "));
    let first_life = wait_for("the second phase", || {
        node_summary(ports + 1).filter(|summary| summary.phases.get(1).is_some_and(|phase| phase.received > 1))
    });
    let gone_since = unix_nanos();
    goes.signal("KILL");
    drop(goes);
    std::thread::sleep(Duration::from_millis(500));
    let _back = run(1);
    wait_for("/healthz", || get(ports + 1, "/healthz"));
    assert!(start(ports + 1, &order).0.contains(" 400 "));
    let mut back = order;
    back["rejoining"] = true.into();
    back["gone_since_unix_nanos"] = gone_since.into();
    assert!(start(ports + 1, &back).0.contains(" 202 "));
    let last_phase = |port| {
        wait_for("all messages of the last phase", || {
            node_summary(port).filter(|summary| summary.phases.get(2).is_some_and(|phase| phase.received == 20))
        })
    };
    let nodes = [last_phase(ports), first_life, last_phase(ports + 1)];
    assert_eq!(nodes[0].senders[0].highest, Some(139));
    assert_eq!(nodes[2].phases[0].received, 0);
    let phases = ["", "kill 1, restart 1", ""].map(|event| PhaseInput { events: vec![event.into()], groups: None });
    let end = begin + 14_000 * MS;
    let schedule = SendPlan {
        origin_unix_nanos: begin,
        from_unix_nanos: begin,
        to_unix_nanos: Some(end),
        ..SendPlan::new(2, Turn::All, 100 * MS)
    };
    let plan = TrafficPlan::only(schedule, 1024);
    let observed = Observations {
        workload: WorkloadSummary { num_nodes: 2, message_size_bytes: Some(100), ..WorkloadSummary::default() },
        window: Some(PlannedWindow { plan, from_unix_nanos: begin, to_unix_nanos: end }),
        ended_unix_nanos: Some(unix_nanos().max(end)),
        killed: [1].into(),
        phases: phases.to_vec(),
        ..Observations::default()
    };
    let run = merge(Collected { nodes: &nodes, observed: &observed });
    assert!(run.verdict.valid, "{:?}", run.verdict);
    let intended: Vec<_> = run.phases.iter().map(|row| (row.intended, row.expected)).collect();
    assert_eq!(intended, [(20, 20), (220, 220), (40, 40)], "the schedule of a node that is away goes on");
    let counts: Vec<_> = run.phases.iter().map(|row| (row.sent, row.delivered)).collect();
    assert_eq!((counts[0], counts[2]), ((20, 20), (40, 40)));
    let (sent, delivered) = counts[1];
    // Five slots passed while it was away; those of the other node are among the sent messages.
    assert!(sent <= 215 && delivered <= sent, "{counts:?}");
    let PhaseRow { dropped, missed, .. } = run.phases[1];
    assert_eq!(sent + dropped + missed, 220);
}

/// Node 0 knows no peer; the other two know only node 0.
#[test]
fn an_empty_list_of_peers_lets_the_others_come() {
    for protocol in ["gossipsub", "reversed-sqmr"] {
        let ports = free_ports(6);
        let address = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", ports + 3, peer_id(0));
        let nodes: Vec<Running> = (0..3)
            .map(|id| {
                let bootstrap = if id == 0 { "" } else { &address };
                let (metric, p2p) = (ports + id, ports + 3 + id);
                let args = format!(
                    "--id={id} --num-nodes=3 --metric-port={metric} --p2p-port={p2p} --bootstrap={bootstrap} --mode=one \
                     --broadcaster=1 --network-protocol={protocol} --message-size-bytes=100 --heartbeat-millis=50 \
                     --buffer-size=100 --timeout=60 --verbosity=2"
                );
                Running::start(node_command().args(args.split_whitespace()))
            })
            .collect();
        let received = wait_for("messages at node 0", || {
            let summary: Value = serde_json::from_str(&get(ports, "/summary")?.1).ok()?;
            summary["measured"]["received"].as_u64().filter(|count| *count >= 3)
        });
        assert!(received >= 3, "{protocol}");
        drop(nodes);
    }
}

#[test]
fn the_variables_of_apollos_node_count_only_where_they_are_asked_for() {
    let peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", peer_id(1));
    let check = |more: &[(&str, &str)]| {
        let variables = "ID=0 NUM_NODES=3 METRIC_PORT=1 P2P_PORT=2 MODE=all NETWORK_PROTOCOL=sqmr MESSAGE_SIZE_BYTES=100 \
                         HEARTBEAT_MILLIS=9 BUFFER_SIZE=10 TIMEOUT=5 VERBOSITY=2";
        let variables = variables.split_whitespace().filter_map(|variable| variable.split_once('='));
        let mut command = node_command();
        command.arg("--check").env_clear().envs(variables).env("BOOTSTRAP", &peer).envs(more.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check(&[]).0, Some(2), "a bare ID or MODE is too easily set by accident");
    let (code, line) = check(&[("APOLLO_BARE_ENVIRONMENT", "1")]);
    assert!(code == Some(0) && line.starts_with("node 0 of 3, mode all, sqmr, 100 B every 9 ms"), "{line}");
    let (code, line) = check(&[("APOLLO_BARE_ENVIRONMENT", "1"), ("APOLLO_ID", "2")]);
    assert!(code == Some(0) && line.starts_with("node 2 of 3"), "the variable with the prefix goes first: {line}");
}
