//! Several traffic classes at once, over real nodes: a proposal in parts, votes on it, acknowledgements of the votes, and a
//! unicast beside them, in a network that is a line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, process::Command, time::Duration};

use apollo_network_benchmark::{
    network::peer_id,
    node::{self, NodeArgs, NodeSummary, Workload, unix_nanos},
    report::{
        ClassRow, Collected, DrainEnd, DrainSummary, Observations, PhaseInput, PlannedWindow, WorkloadSummary, merge,
    },
    scenario::{MessageSize, Protocol, SendPhase, Senders, TrafficClass, WeightedSize},
};
use clap::Parser;
use serde_json::json;
use support::{Running, TOKEN, free_ports, get, lone_node, request, wait_for};

const MS: u64 = 1_000_000;
const NODES: u64 = 3;

/// Arguments of a node of this test, in the environment of its process.
const ARGUMENTS: &str = "NODE_OF_THE_TEST_OF_CLASSES";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    node: NodeArgs,
}

/// Nodes 0 and 2 are peers of node 1 alone.
fn line() -> Vec<BTreeSet<u64>> {
    vec![[1].into(), [0, 2].into(), [1].into()]
}

fn workload() -> Workload {
    let class = |name: &str, protocol: Protocol| TrafficClass {
        name: name.into(),
        protocol: Some(protocol),
        message_size_bytes: MessageSize::Fixed(150),
        ..TrafficClass::default()
    };
    let proposal = TrafficClass {
        senders: Senders::Nodes(0.into()),
        heartbeat_millis: Some(200),
        phase: SendPhase::Aligned,
        message_size_bytes: MessageSize::Weighted(vec![
            WeightedSize { bytes: 20_000, weight: 1.0 },
            WeightedSize { bytes: 3_000, weight: 2.0 },
        ]),
        burst: 3,
        burst_spacing_millis: 10,
        deadline_millis: Some(60_000),
        ..class("proposal", Protocol::Gossipsub)
    };
    let vote = TrafficClass { after: Some("proposal".into()), ..class("vote", Protocol::Gossipsub) };
    let ack = TrafficClass {
        senders: Senders::Nodes(1.into()),
        after: Some("vote".into()),
        deadline_millis: Some(0),
        ..class("ack", Protocol::Gossipsub)
    };
    let sync = TrafficClass { heartbeat_millis: Some(100), unicast: true, ..class("sync", Protocol::Sqmr) };
    Workload::of_classes(NODES, vec![proposal, vote, ack, sync], 7, &line()).unwrap()
}

/// The node that the process of [`node_process`] is.
#[test]
#[ignore = "a process that other tests start"]
fn one_node() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let words = std::iter::once("node").chain(arguments.split_whitespace());
    let args = Cli::try_parse_from(words).unwrap().node;
    node::run_node(args, workload()).unwrap();
}

fn node_process(id: u64, ports: u16) -> Running {
    let port = |node: u64| ports + 10 + node as u16;
    let mut args = lone_node(ports + id as u16, port(id), "--controlled --run-id 5");
    args[1] = id.to_string();
    args[3] = NODES.to_string();
    let peers = line()
        .into_iter()
        .nth(id as usize)
        .unwrap()
        .into_iter()
        .map(|peer| format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", port(peer), peer_id(peer)));
    *args.last_mut().unwrap() = format!("--bootstrap={}", peers.collect::<Vec<_>>().join(","));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "one_node", "--ignored", "--nocapture"]);
    command.env("APOLLO_TOKEN", TOKEN).env(ARGUMENTS, args.join(" "));
    Running::start(&mut command)
}

#[test]
fn each_class_has_its_messages_its_receivers_and_its_account() {
    let ports = free_ports(20);
    let _nodes: Vec<Running> = (0..NODES).map(|id| node_process(id, ports)).collect();
    let node_ports = || ports..ports + NODES as u16;
    for port in node_ports() {
        wait_for("readiness", || get(port, "/readyz")?.0.starts_with("HTTP/1.1 200").then_some(()));
    }
    let begin = unix_nanos() + 500 * MS;
    let (from, to) = (begin + 500 * MS, begin + 3_500 * MS);
    let order =
        json!({"start_unix_nanos": begin, "warm_up_millis": 500, "measure_millis": 3_000, "phase_millis": [1_000]});
    for port in node_ports() {
        let (head, body) = request(port, "POST", "/start", &order.to_string()).unwrap();
        assert!(head.contains(" 202 "), "{head} {body}");
    }
    // Nothing is under way any more some time after the last message may be sent.
    std::thread::sleep(Duration::from_nanos((to + 2_000 * MS).saturating_sub(unix_nanos())));
    let nodes: Vec<NodeSummary> =
        node_ports().map(|port| serde_json::from_str(&get(port, "/summary").unwrap().1).unwrap()).collect();
    let plan = workload().traffic_plan(begin, Some(to), true).unwrap();
    let phase = |event: &str| PhaseInput { events: vec![event.into()], groups: None };
    let observed = Observations {
        workload: WorkloadSummary { num_nodes: NODES, ..WorkloadSummary::default() },
        window: Some(PlannedWindow { plan, from_unix_nanos: from, to_unix_nanos: to }),
        ended_unix_nanos: Some(unix_nanos()),
        phases: vec![phase(""), phase("nothing happened")],
        drain: Some(DrainSummary { seconds: 2.0, ended: DrainEnd::Quiet }),
        ..Observations::default()
    };
    let run = merge(Collected { nodes: &nodes, observed: &observed });
    assert!(run.verdict.valid, "{:?}", run.verdict);
    let counts: Vec<_> = run
        .classes
        .iter()
        .map(|row| (row.name.as_str(), row.intended, row.sent, row.expected, row.delivered))
        .collect();
    // 15 proposals of three parts; three votes on each, one acknowledgement of each vote; 30 messages of each node to one peer.
    let expected =
        [("proposal", 45, 45, 90, 90), ("vote", 45, 45, 90, 90), ("ack", 45, 45, 90, 90), ("sync", 90, 90, 90, 90)];
    assert_eq!(counts, expected, "{:#?}", run.classes);
    let totals = run.totals.as_ref().unwrap();
    assert_eq!((totals.intended, totals.delivered, totals.lost, totals.missed), (225, 360, 0, 0));
    let misses: Vec<Option<u64>> = run.classes.iter().map(|row| row.deadline_misses).collect();
    assert_eq!(misses, [Some(0), None, Some(90), None], "no delivery takes no time at all");
    assert!(run.classes.iter().all(|row| row.sustained.sustained == Some(true)), "{:#?}", run.classes);
    let in_phases = |row: &ClassRow| row.phases.iter().map(|phase| phase.intended).collect::<Vec<_>>();
    assert_eq!(in_phases(&run.classes[0]), [15, 30]);
    // Node 1 is beside both others, which get half of its messages each; each of them sends all of its own to it.
    let sync_at = |node: usize| nodes[node].classes[3].measured.received;
    assert_eq!([sync_at(0), sync_at(1), sync_at(2)], [15, 60, 15]);
    // A vote answers the arrival of a proposal, so that its delay does not contain the proposal's.
    let metrics = get(ports, "/metrics").unwrap().1;
    for class in ["proposal", "vote", "ack", "sync"] {
        assert!(metrics.contains(&format!("receive_message_count{{class=\"{class}\"}} ")), "{metrics}");
    }
}
