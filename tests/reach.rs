//! Unreachable peers: the cause is reported, and names are found when they appear.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use apollo_network_benchmark::network::peer_id;
use serde_json::Value;
use support::{NODE, Running, free_ports, get, lone_node, node_command, skip, wait_for};

/// A node with a single peer at this address.
fn node_with_peer(ports: u16, peer: &str) -> Vec<String> {
    let mut args = lone_node(ports, ports + 1, "");
    *args.last_mut().unwrap() = format!("--bootstrap={peer}");
    args
}

fn unreached(port: u16) -> Option<(String, u64)> {
    let report: Value = serde_json::from_str(&get(port, "/readyz")?.1).ok()?;
    let peer = report["unreached"].get(0)?;
    Some((peer["cause"].as_str()?.to_owned(), peer["node"].as_u64()?))
}

/// Cause that a node reports in /readyz, and the lines of its log that name it.
fn cause_of(peer: impl Fn(u16) -> String) -> (String, String) {
    let ports = free_ports(4);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = node_command();
    let args = node_with_peer(ports, &peer(ports));
    let args = args.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    command = {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {} {args} >{} 2>&1", command.get_program().display(), log.display())]);
        shell
    };
    let node = Running::start(&mut command);
    let (cause, id) = wait_for("a cause", || unreached(ports));
    assert_eq!(id, 1);
    let warnings = || -> Vec<String> {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter(|line| line.contains("a peer is not reached")).map(str::to_owned).collect()
    };
    wait_for("a warning", || (!warnings().is_empty()).then_some(()));
    let dials = || {
        let metrics = get(ports, "/metrics").unwrap().1;
        let line = metrics.lines().find(|line| line.contains("event_type=\"dial_failure\"")).unwrap_or("x 0");
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let before = dials();
    wait_for("more failed dials", || (dials() >= before + 3.0).then_some(()));
    let lines = warnings();
    assert_eq!(lines.len(), 1, "one warning for one cause: {lines:?}");
    let summary: Value = serde_json::from_str(&get(ports, "/summary").unwrap().1).unwrap();
    assert_eq!(summary["unreached"][0]["cause"], cause);
    node.signal("TERM");
    (cause, lines[0].to_owned())
}

#[test]
fn the_cause_is_in_readyz_in_the_summary_and_once_in_the_log_at_verbosity_2() {
    let at = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", peer_id(1));
    let (cause, line) = cause_of(|ports| at(ports + 2));
    assert_eq!(cause, "connection refused");
    assert!(line.contains("connection refused") && line.contains("/ip4/127.0.0.1/tcp/"), "{line}");

    let (cause, line) = cause_of(|ports| format!("/dns/no-such-host.invalid/tcp/{ports}/p2p/{}", peer_id(1)));
    assert!(cause.starts_with("name unknown") && line.contains("name unknown"), "{cause}: {line}");
}

#[test]
fn a_peer_with_another_identity_is_named_as_such() {
    let ports = free_ports(4);
    let other = free_ports(3);
    // Node 0 of another network listens on the address of node 1.
    let args = lone_node(other, ports + 2, "");
    let _impostor = Running::start(node_command().args(args));
    wait_for("the other node", || get(other, "/healthz"));
    let peer = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", ports + 2, peer_id(1));
    let _node = Running::start(node_command().args(node_with_peer(ports, &peer)));
    let (cause, _) = wait_for("a cause", || unreached(ports));
    assert!(cause.starts_with("wrong peer id: 12D3KooW"), "{cause}");
}

#[test]
fn a_silent_peer_times_out() {
    let ports = free_ports(4);
    // The kernel accepts the connection, and nobody answers.
    let silent = TcpListener::bind(("127.0.0.1", ports + 2)).unwrap();
    let peer = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", ports + 2, peer_id(1));
    let _node = Running::start(node_command().args(node_with_peer(ports, &peer)));
    let (cause, _) = wait_for("a cause", || unreached(ports));
    assert_eq!(cause, "timed out");
    drop(silent);
}

/// Answers every query for an address: the name does not exist before `there` is set, then it is 127.0.0.1.
fn name_server(socket: UdpSocket, there: Arc<AtomicBool>, questions: Arc<AtomicUsize>) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet) {
        // The query ends after the name's zero byte, with two bytes of type and two of class.
        let Some(end) = packet[12..length].iter().position(|byte| *byte == 0).map(|at| 12 + at + 5) else { continue };
        questions.fetch_add(1, Ordering::Relaxed);
        let is_v4 = packet[end - 4..end - 2] == [0, 1];
        let known = there.load(Ordering::Relaxed);
        let answers = u8::from(known && is_v4);
        let mut reply = packet[..end].to_vec();
        reply[2..12].copy_from_slice(&[0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
        if answers == 1 {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&reply, from);
    }
}

#[test]
fn a_name_that_appears_later_is_found_within_two_seconds() {
    let address = format!("127.53.{}.{}", std::process::id() % 250 + 1, std::process::id() / 250 % 250 + 1);
    let Ok(socket) = UdpSocket::bind((address.as_str(), 53)) else {
        return skip("a name server needs port 53, and so root");
    };
    let mounts = Command::new("unshare").args(["--mount", "true"]).status();
    if !mounts.is_ok_and(|status| status.success()) {
        return skip("no mount namespace may be made here");
    }
    let there = Arc::new(AtomicBool::new(false));
    let questions = Arc::new(AtomicUsize::new(0));
    let (known, asked) = (there.clone(), questions.clone());
    thread::spawn(move || name_server(socket, known, asked));
    let folder = tempfile::tempdir().unwrap();
    let resolver = folder.path().join("resolv.conf");
    fs::write(&resolver, format!("nameserver {address}\noptions ndots:1 timeout:1\n")).unwrap();
    let names = folder.path().join("nsswitch.conf");
    fs::write(&names, "hosts: files dns\n").unwrap();

    let ports = free_ports(6);
    let peer = lone_node(ports + 2, ports + 3, "");
    let peer: Vec<String> = peer.into_iter().enumerate().map(|(at, w)| if at == 1 { "1".into() } else { w }).collect();
    let mut peer = peer;
    *peer.last_mut().unwrap() = "--bootstrap=".into();
    let _peer = Running::start(node_command().args(peer));
    let script = "mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && mount --bind \"$2\" /etc/nsswitch.conf; \
                  shift 2; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&resolver).arg(&names);
    let at = format!("/dns/late.example/tcp/{}/p2p/{}", ports + 3, peer_id(1));
    let node = Running::start(command.arg(NODE).args(node_with_peer(ports, &at)));
    let (cause, _) = wait_for("an unknown name", || unreached(ports));
    assert!(cause.starts_with("name unknown"), "{cause}");
    // A resolver that caches a missing name would not ask again. Each lookup asks for both kinds of address.
    let before = questions.load(Ordering::Relaxed);
    wait_for("more questions", || (questions.load(Ordering::Relaxed) >= before + 6).then_some(()));
    there.store(true, Ordering::Relaxed);
    wait_for("the peer", || get(ports, "/readyz")?.0.starts_with("HTTP/1.1 200").then_some(()));
    node.signal("TERM");
}
