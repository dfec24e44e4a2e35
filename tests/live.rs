//! Live page of a real run over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use support::{Lab, Running, free_ports, lives, result, wait_for};

/// Maximum number of browsers that may follow a run at once.
const MOST_STREAMS: usize = 64;

/// A connection with a request in progress.
fn ask(port: u16, host: &str, line: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // HTTP/1.0 has no chunks that must be joined.
    write!(stream, "{line} HTTP/1.0\r\n{host}\r\n").unwrap();
    stream
}

fn status(port: u16, host: &str, line: &str) -> String {
    let mut text = String::new();
    BufReader::new(ask(port, host, line)).read_line(&mut text).unwrap();
    text.split_whitespace().nth(1).unwrap().to_owned()
}

/// Events of a run, as they arrive.
fn events(port: u16) -> impl Iterator<Item = Value> {
    let lines = BufReader::new(ask(port, &format!("Host: 127.0.0.1:{port}\r\n"), "GET /events")).lines();
    lines.filter_map(|line| Some(serde_json::from_str(line.unwrap().strip_prefix("data: ")?).unwrap()))
}

fn page(port: u16, path: &str) -> (String, String) {
    let mut text = String::new();
    ask(port, &format!("Host: localhost:{port}\r\n"), &format!("GET {path}")).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// A run with a live page, once the page exists.
fn watched(lab: &Lab, args: &str) -> (u16, Running) {
    let port = free_ports(1);
    let run = Running::start(&mut lab.command(&format!("--live --live-port {port} --heartbeat-millis 20 {args}")));
    wait_for("the page", || TcpStream::connect(("127.0.0.1", port)).ok());
    (port, run)
}

#[test]
fn the_page_takes_nothing_from_elsewhere_and_answers_to_its_own_name_alone() {
    let lab = Lab::new(2);
    let (port, run) = watched(&lab, "--timeout 2 --warm-up-seconds 0 --keep-open");
    let mut names = vec![];
    for path in ["/", "/page.css", "/chart.css", "/page.js", "/format.js", "/chart.js", "/icon.svg"] {
        let (head, body) = page(port, path);
        assert!(head.starts_with("http/1.0 200") && head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!head.contains("unsafe"), "{head}");
        // The name of SVG is no address that anything is loaded from.
        let rest = body.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http:", "https:", "src=\"//", "url(", "@import", "innerHTML", "insertAdjacentHTML", "eval("] {
            assert!(!rest.contains(foreign), "{path} has {foreign}");
        }
        names.extend(
            body.split('"').filter(|word| word.starts_with("page.") || word.ends_with(".js")).map(str::to_owned),
        );
    }
    assert!(names.contains(&"page.js".to_owned()) && names.contains(&"chart.js".to_owned()));

    let own = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(status(port, &own, "GET /"), "200");
    assert_eq!(status(port, &format!("Host: [::1]:{port}\r\n"), "GET /"), "200");
    for other in [
        "",
        "Host: evil.example\r\n",
        &format!("Host: evil.example:{port}\r\n"),
        "Host: 127.0.0.1\r\n",
        &format!("{own}Host: evil.example\r\n"),
    ] {
        for path in ["/", "/events", "/page.js"] {
            assert_eq!(status(port, other, &format!("GET {path}")), "421", "{other}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        assert_eq!(status(port, &own, &format!("{method} /events")), "405", "{method}");
    }
    assert_eq!(status(port, &own, "GET /../Cargo.toml"), "404");

    // The page stays open after the end, until Ctrl-C.
    wait_for("the result", || events(port).next().filter(|event| event["result"].is_object()));
    std::thread::sleep(Duration::from_millis(500));
    assert!(lives(run.id()));
    run.signal("INT");
    let (exit, summary) = result(run.output());
    assert_eq!(exit, Some(0), "{summary:#}");
}

#[test]
fn events_tell_the_run_from_its_start_to_its_verdict() {
    let lab = Lab::new(3);
    let faults = lab.folder.path().join("faults");
    std::fs::write(&faults, "1s pause 1\n6s resume 1\n").unwrap();
    let (port, run) = watched(&lab, &format!("--timeout 8 --warm-up-seconds 2 --faults {}", faults.display()));
    let told: Vec<Value> = events(port).collect();
    let (exit, summary) = result(run.output());
    assert_eq!(exit, Some(0), "{summary:#}");

    let (first, last) = (&told[0], told.last().unwrap());
    assert_eq!(first["schema_version"], 1);
    assert_eq!(first["run"]["num_nodes"], 3);
    assert!(told[1..].iter().all(|event| event.get("run").is_none()));
    let mut phases: Vec<&str> = told.iter().map(|event| event["phase"].as_str().unwrap()).collect();
    phases.dedup();
    assert!(phases.ends_with(&["warm-up", "measure", "drain", "collect", "finished"]), "{phases:?}");

    let rates: Vec<f64> = told.iter().filter_map(|event| event["figures"]["delivered_per_second"].as_f64()).collect();
    assert!(rates.iter().any(|rate| *rate > 0.0), "{rates:?}");
    let mut points: Vec<Value> = vec![];
    for event in &told {
        points.truncate(usize::try_from(event["points_from"].as_u64().unwrap()).unwrap());
        points.extend(event["points"].as_array().unwrap().clone());
    }
    // The number of points depends on the machine.
    assert!(points.is_sorted_by_key(|point| point["delivered"].as_u64()), "{points:#?}");
    assert!(points.iter().any(|point| point["p99_micros"].as_u64() > Some(0)), "{points:#?}");
    assert!(points.last().unwrap()["delivered"].as_u64() > points[0]["delivered"].as_u64(), "{points:#?}");

    let states = |node: usize| told.iter().filter_map(move |event| event["nodes"][node]["state"].as_str());
    assert!(states(1).any(|state| state == "paused") && states(0).all(|state| state != "paused"));
    assert_eq!(last["result"]["verdict"], summary["verdict"]);
    assert_eq!(last["result"]["totals"]["delivered"], summary["totals"]["delivered"]);
    assert_eq!(last["figures"]["delivered"], summary["totals"]["delivered"]);
    assert_eq!(last["faults"], summary["faults"]);
    assert_eq!(last["result"]["totals"]["delay"]["histogram"], "");
    assert!(told.iter().filter(|event| event.get("result").is_some()).count() == 1);
}

#[test]
fn browsers_that_come_late_get_the_history_and_those_that_do_not_read_hold_up_nothing() {
    let lab = Lab::new(3);
    let (port, run) = watched(&lab, "--timeout 5 --warm-up-seconds 0");
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    let deaf: Vec<TcpStream> = (0..MOST_STREAMS - 1).map(|_| ask(port, &own, "GET /events")).collect();
    let late = wait_for("some history", || {
        let mut told = events(port);
        told.next().filter(|event| event["points"].as_array().unwrap().len() >= 3).map(|event| (event, told))
    });
    assert_eq!(late.0["run"]["num_nodes"], 3);
    assert_eq!(late.0["points_from"], 0);
    assert_eq!(status(port, &own, "GET /events"), "503");
    assert!(late.1.last().unwrap()["result"]["verdict"]["valid"].as_bool().unwrap());
    // The run ends although the browsers still do not read.
    let (exit, summary) = result(run.output());
    assert_eq!(exit, Some(0), "{summary:#}");
    // A loop without waiting would take a whole processor.
    assert!(summary["runner_cpu_percent"].as_f64() < Some(75.0), "{}", summary["runner_cpu_percent"]);
    drop(deaf);
}

#[test]
fn a_port_that_can_not_be_used_is_found_before_anything_starts() {
    let lab = Lab::new(2);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (port, why) in [(port, "Address already in use"), (lab.metric_port + 1, "node 1 needs it")] {
        let output = Running::start(&mut lab.command(&format!("--live --live-port {port}"))).output();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains(&format!("port {port} can't be used for the live page")), "{line}");
        assert!(line.contains(why) && line.contains("--live-port 0") && line.lines().count() == 1, "{line}");
        assert!(!lab.output().exists());
    }
}

#[test]
fn a_free_port_is_reported_at_once_and_ctrl_c_ends_the_run_and_the_page() {
    let lab = Lab::new(2);
    let mut command = lab.command("--live --live-port 0 --keep-open --timeout 60");
    let mut run = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut errors = BufReader::new(run.0.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    let port = line.trim().strip_prefix("Watch this run at http://127.0.0.1:").and_then(|rest| rest.strip_suffix('/'));
    let port: u16 = port.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    let told = std::thread::spawn(move || events(port).last().unwrap());
    lab.wait_until_measuring(0);
    run.signal("INT");
    let status = wait_for("the end", || run.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let last = told.join().unwrap();
    assert_eq!(last["result"]["verdict"]["valid"], false);
    assert!(last["result"]["verdict"]["reasons"][0].as_str().unwrap().contains("SIGINT"), "{last:#}");
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("The page stays"), "{rest}");
}

#[test]
fn flags_of_the_page_go_with_it_alone() {
    let lab = Lab::new(2);
    for args in ["--live-port 9000", "--keep-open"] {
        let output = Running::start(&mut lab.command(args)).output();
        assert_eq!(output.status.code(), Some(2), "{args}");
    }
}
