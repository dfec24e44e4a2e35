//! The endpoint of a controlled node accepts its runner and nobody else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, io::Write, net::TcpStream, path::Path, process::Command};

use apollo_network_benchmark::clock::unix_nanos;
use serde_json::{Value, json};
use support::{
    BENCH, Lab, NODE, Running, TOKEN, free_ports, get, lone_node, node_command, request, request_with, result, wait_for,
};

/// Every path that reads or controls a controlled node.
const GUARDED: [(&str, &str); 6] = [
    ("POST", "/start"),
    ("POST", "/quiesce"),
    ("POST", "/end"),
    ("POST", "/probe"),
    ("GET", "/summary"),
    ("GET", "/clock"),
];
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

fn controlled(extra: &str) -> (u16, Running) {
    let ports = free_ports(4);
    let extra = format!("--controlled --probe-port {} {extra}", ports + 3);
    let node = Running::start(node_command().args(lone_node(ports, ports + 1, &extra)));
    wait_for("/healthz", || get(ports, "/healthz"));
    (ports, node)
}

fn status(answer: &Option<(String, String)>) -> &str {
    answer.as_ref().map_or("no answer", |(head, _)| head.split(' ').nth(1).unwrap_or_default())
}

#[test]
fn a_stranger_is_refused_at_every_endpoint_in_one_line_and_the_node_continues() {
    let (port, node) = controlled("");
    let own_token = format!("Authorization: Bearer {TOKEN}");
    let start = json!({ "start_unix_nanos": unix_nanos() + 60_000_000_000 }).to_string();
    for (method, path) in GUARDED {
        for (what, headers, expected) in [
            ("no token", "Host: localhost".to_owned(), "401"),
            ("a wrong token", "Host: localhost\r\nAuthorization: Bearer a-token-of-somebody-else".into(), "401"),
            ("the token in another scheme", format!("Host: localhost\r\nAuthorization: Basic {TOKEN}"), "401"),
            ("two tokens", format!("Host: localhost\r\n{own_token}\r\n{own_token}"), "401"),
            ("a foreign name", format!("Host: evil.example:{port}\r\n{own_token}"), "421"),
            ("a name that begins like an address", format!("Host: 127.0.0.1.evil.example\r\n{own_token}"), "421"),
            ("a web page", format!("Host: localhost\r\nOrigin: http://evil.example\r\n{own_token}"), "403"),
            ("a page without an origin", format!("Host: localhost\r\nOrigin: null\r\n{own_token}"), "403"),
        ] {
            let answer = request_with(port, method, path, &headers, &start);
            assert_eq!(status(&answer), expected, "{method} {path} with {what}: {answer:?}");
            let body = answer.unwrap().1;
            assert!(body.lines().count() == 1 && !body.contains(TOKEN), "{path} with {what}: {body}");
        }
    }
    for path in OPEN {
        let answer = request_with(port, "GET", path, "Host: prometheus.example", "");
        assert!(["200", "503"].contains(&status(&answer)), "{path}: {answer:?}");
        let page = request_with(port, "GET", path, "Host: localhost\r\nOrigin: http://evil.example", "");
        assert_eq!(status(&page), "403", "{path}");
    }
    let summary: Value = serde_json::from_str(&get(port, "/summary").unwrap().1).unwrap();
    assert_eq!((&summary["phase"], &summary["start"]), (&json!("connecting"), &Value::Null));
    for host in ["127.0.0.1:1", "[::1]", "LOCALHOST"] {
        let answer = request_with(port, "GET", "/summary", &format!("Host: {host}\r\n{own_token}"), "");
        assert_eq!(status(&answer), "200", "{host}");
    }
    assert_eq!(status(&request(port, "POST", "/end", "")), "202");
    assert_eq!(node.output().status.code(), Some(0));
}

#[test]
fn a_node_that_nobody_controls_shows_its_counts_to_all_but_web_pages() {
    let ports = free_ports(3);
    let _node = Running::start(Command::new(NODE).args(lone_node(ports, ports + 1, "")));
    let summary = wait_for("/summary", || request_with(ports, "GET", "/summary", "Host: any.example", ""));
    assert!(summary.0.starts_with("HTTP/1.1 200"), "{}", summary.0);
    let page = request_with(ports, "GET", "/summary", "Host: localhost\r\nOrigin: http://evil.example", "");
    assert_eq!(status(&page), "403");
}

#[test]
fn a_controlled_node_without_a_token_does_not_start() {
    let ports = free_ports(3);
    let node = |token: Option<&str>, extra: &str| {
        let mut command = Command::new(NODE);
        command.args(lone_node(ports, ports + 1, &format!("--controlled {extra}"))).env_remove("APOLLO_TOKEN");
        let output = command.envs(token.map(|token| ("APOLLO_TOKEN", token))).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (token, extra, says) in [
        (None, "", "--token-file FILE, or APOLLO_TOKEN"),
        (Some("too-short"), "", "16 to 256 visible ASCII characters"),
        (None, "--token-file /nonexistent/token", "--token-file /nonexistent/token"),
    ] {
        let (code, line) = node(token, extra);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains(says) && line.lines().count() == 1 && !line.contains("too-short"), "{line}");
    }
}

/// All files below a folder that contain a text.
fn files_with(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_with(&path, text, found);
        } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text) {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn the_token_of_a_run_is_in_no_command_line_and_in_no_file() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command("--timeout 2 --warm-up-seconds 0 --verbosity 5"));
    for process in lab.processes() {
        let words = String::from_utf8_lossy(&fs::read(format!("/proc/{process}/cmdline")).unwrap()).into_owned();
        assert!(words.contains("--config") && !words.contains(TOKEN), "{words}");
    }
    let output = run.output();
    let printed = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(!String::from_utf8_lossy(&printed).contains(TOKEN));
    assert_eq!(result(output).0, Some(0));
    let mut found = vec![];
    files_with(&lab.output(), TOKEN, &mut found);
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_runner_with_another_token_is_refused_in_one_line_with_the_fix() {
    let (port, _node) = controlled("");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let remote = |token: Option<&str>| {
        let mut command = Command::new(BENCH);
        command.args(["remote", "--node", &format!("127.0.0.1:{port}")]).env_remove("APOLLO_TOKEN");
        if let Some(token) = token {
            fs::write(&file, format!("{token}\n")).unwrap();
            command.arg("--token-file").arg(&file);
        }
        let output = command.arg("--output").arg(folder.path().join("run")).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.lines().last().unwrap_or_default().to_owned();
        (output.status.code(), line)
    };
    for token in [None, Some("a-token-of-somebody-else")] {
        let (code, line) = remote(token);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains("does not accept this run's token") && line.contains("--token-file"), "{line}");
    }
    // With the right token, the command only fails because the other node is missing.
    assert!(remote(Some(TOKEN)).1.contains("are missing: 1"));
}

#[test]
fn probes_go_to_peers_alone_and_to_no_more_ports_than_they_have() {
    let (port, _node) = controlled("");
    let probe = |target: &str, interval: u64| {
        let order = json!({ "target": target, "pings": 2, "interval_micros": interval, "wait_millis": 10 });
        request(port, "POST", "/probe", &order.to_string()).unwrap()
    };
    let own = format!("127.0.0.1:{}", port + 3);
    assert!(probe("127.0.0.2:9999", 1000).1.contains("no peer of this node"));
    assert!(probe(&own, 0).1.contains("interval_micros"));
    let (head, body) = probe(&own, 1000);
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
    let (head, body) = probe(&format!("127.0.0.1:{}", port + 2), 1000);
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("other ports"), "{head} {body}");
}

#[test]
fn idle_and_half_open_connections_of_strangers_do_not_silence_a_run() {
    let lab = Lab::new(2);
    let mut bench = lab.command("--timeout 6 --warm-up-seconds 0 --drain-seconds 5");
    let words: Vec<String> = bench.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    bench = Command::new("sh");
    bench.args(["-c", "ulimit -n 1024; exec \"$@\"", "sh", BENCH]).args(words).env("APOLLO_TOKEN", TOKEN);
    let run = Running::start(&mut bench);
    lab.processes();
    // Enough connections to reach the limit of every endpoint, and to use up the open files of a node without a limit.
    let mut held = vec![];
    for round in 0..800 {
        for port in [lab.metric_port, lab.metric_port + 1, lab.p2p_port, lab.p2p_port + 1] {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            if round % 2 == 0 {
                // An endpoint that has closed the connection already passes too.
                let _ = stream.write_all(b"GET /summary HTTP/1.1\r\nHost: ");
            }
            held.push(stream);
        }
    }
    assert!(held.len() > 2500, "{}", held.len());
    let (exit, summary) = result(run.output());
    assert_eq!(exit, Some(0), "{summary:#}");
    assert_eq!(summary["totals"]["delivery_ratio"], 1.0, "{summary:#}");
    drop(held);
}
