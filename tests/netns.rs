//! Nodes in network namespaces of their own: limited, cut and healed links, and a complete removal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{os::unix::fs::PermissionsExt, process::Command};

use serde_json::Value;
use support::{BENCH, Lab, Running, bench_command, lives, result, skip, wait_for};

/// True if namespaces can be made here; otherwise reports the reason, and fails if no test may be skipped.
fn can_make_namespaces() -> bool {
    let made = Command::new("unshare").args(["--net", "true"]).output();
    let able = made.is_ok_and(|output| output.status.success());
    if !able {
        skip("network namespaces can't be made here (not root)");
    }
    able
}

/// Interfaces of the host, except those that Docker makes and removes meanwhile.
fn host_interfaces() -> Vec<String> {
    let folder = std::fs::read_dir("/sys/class/net").unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("veth") && !name.starts_with("br-")).collect();
    names.sort();
    names
}

fn links(run: &Value) -> &Vec<Value> {
    run["links"]["links"].as_array().unwrap()
}

#[test]
fn throughput_is_limited_and_certified_both_before_and_after() {
    if !can_make_namespaces() {
        return;
    }
    let before = host_interfaces();
    let lab = Lab::new(3);
    let (exit, run) =
        lab.run("--backend netns --throughput 5000 --timeout 2 --warm-up-seconds 0 --heartbeat-millis 50");
    assert_eq!(exit, Some(0), "{run:#}");
    support::assert_all_delivered(&run);
    assert_eq!(run["links"]["valid"], true);
    assert_eq!(links(&run).len(), 6);
    for link in links(&run) {
        assert_eq!(link["configured"]["throughput_kilobytes_per_second"], 5000);
        for when in ["before", "after"] {
            let found = link[when]["throughput_bytes_per_second"].as_f64().unwrap();
            assert!((4.75e6..5.25e6).contains(&found), "{link:#}");
        }
    }
    for link in links(&run) {
        let burst = link["burst_bytes"].as_u64().unwrap();
        assert!((1..=2500).contains(&burst), "half a millisecond of late timers: {link:#}");
        assert!(link["before"]["message"]["one_way_micros"].is_u64(), "{link:#}");
    }
    for interface in run["links"]["interfaces"].as_array().unwrap() {
        let counters = interface["after"].as_array().unwrap();
        let limited = counters.iter().filter(|qdisc| qdisc["kind"] == "htb" && qdisc["overlimits"].as_u64() > Some(0));
        assert_eq!(limited.count(), 2, "out and in: {interface:#}");
    }
    assert_eq!(host_interfaces(), before);
}

/// Delay of a message that a busy machine may add to that of its link, in milliseconds.
const BUSY_MILLIS: f64 = 10.0;

#[test]
fn a_single_message_takes_its_serialisation_time() {
    if !can_make_namespaces() {
        return;
    }
    // Six segments, with the bytes that noise, yamux, TCP, IP and Ethernet add to them.
    let bytes = 8600.0;
    let take_their_time = |rate: u32, pace: u32, protocol: &str| {
        let lab = Lab::new(2);
        let (exit, run) = lab.run(&format!(
            "--backend netns --throughput {rate} --network-protocol {protocol} --mode one --broadcaster 0 \
             --message-size-bytes 8192 --heartbeat-millis {pace} --timeout 6 --certificate-seconds 1"
        ));
        assert_eq!(exit, Some(0), "{run:#}");
        let found = run["totals"]["network_delay"]["p50_micros"].as_f64().unwrap() / 1000.0;
        let asked = bytes / f64::from(rate);
        let (least, most) = (asked * 0.9 - 1.0, asked * 1.1 + 1.0 + BUSY_MILLIS);
        assert!((least..most).contains(&found), "{protocol} at {rate} KB/s: {found:.2} ms, not {asked} ms");
    };
    // Two slow networks at once wait for their links, not for the host.
    for (rate, pace) in [(100, 1000), (1000, 200)] {
        std::thread::scope(|scope| {
            for protocol in ["gossipsub", "sqmr"] {
                scope.spawn(move || take_their_time(rate, pace, protocol));
            }
        });
    }
}

#[test]
fn the_congestion_control_of_the_nodes_connections_is_the_one_that_was_asked_for() {
    if !can_make_namespaces() {
        return;
    }
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    let default = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
    let Some(other) = known.split_whitespace().find(|name| *name != default.trim()) else {
        return skip("this kernel has a single congestion control");
    };
    for family in ["", "--ipv6"] {
        let lab = Lab::new(2);
        let (exit, run) = lab.run(&format!(
            "--backend netns --congestion-control {other} --throughput 5000 --link-probe-seconds 1 --timeout 1 \
             --warm-up-seconds 0 {family}"
        ));
        assert_eq!(exit, Some(0), "{run:#}");
        assert_eq!(run["machines"].as_array().unwrap().len(), 1);
        assert_eq!(run["machines"][0]["congestion_control"], other);
        assert_eq!(run["machines"][0]["nodes"], serde_json::json!([0, 1]));
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(lab.output().join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["scenario"]["links"]["congestion_control"], other);
        assert_eq!(manifest["host"]["congestion_control"], default.trim(), "the host keeps its own");
    }
}

#[test]
fn links_that_do_not_reach_their_throughput_make_the_run_invalid() {
    if !can_make_namespaces() {
        return;
    }
    let lab = Lab::new(2);
    // Beyond the capacity of any host.
    let (exit, run) = lab.run("--backend netns --throughput 900000000 --link-probe-seconds 1 --timeout 2");
    assert_eq!(exit, Some(1), "{run:#}");
    let reason = run["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.contains("did not take its shape: before the window its throughput was"), "{reason}");
    assert_eq!(run["totals"]["sent"], 0);
}

#[test]
fn a_broadcaster_above_the_limit_shows_as_delay_and_loss_not_as_a_hang() {
    if !can_make_namespaces() {
        return;
    }
    let lab = Lab::new(3);
    let (exit, run) = lab.run(
        "--backend netns --throughput 2000 --mode one --message-size-bytes 65536 --heartbeat-millis 5 --timeout 8 \
         --warm-up-seconds 0 --drain-seconds 2",
    );
    assert_eq!(exit, Some(0), "{run:#}");
    let totals = &run["totals"];
    assert!(totals["delivery_ratio"].as_f64().unwrap() < 0.6, "{totals:#}");
    let median = &totals["delay"]["quantiles"][0];
    assert_eq!(median["quantile"], 0.5);
    let (value, at_least) = (median["value_micros"].as_u64(), median["at_least_micros"].as_u64());
    assert!(value.or(at_least).unwrap() > 500_000, "{totals:#}");
    assert_eq!(run["links"]["valid"], true, "the links themselves are as asked for");
}

#[test]
fn a_search_over_links_that_are_limited_by_a_flag_names_the_link() {
    if !can_make_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (scenario, output) = (folder.path().join("scenario.toml"), folder.path().join("search"));
    std::fs::write(
        &scenario,
        r#"
        nodes.count = 2
        measurement = { window_seconds = 3, warm_up_seconds = 0, drain_seconds = 20 }
        traffic = [{ name = "blocks", senders = "0", message_size_bytes = 16384, heartbeat_millis = 10 }]
        "#,
    )
    .unwrap();
    // 1.6 MB/s over 1 MB/s: one load, which fails.
    let ran = bench_command()
        .arg("search")
        .arg(&scenario)
        .args("--on netns --from 100 --to 200 --repeat 1 --expect".split(' '))
        .args(["reach_all_p99 <= 300ms", "--output"])
        .arg(&output)
        .args("-- --throughput 1000 --link-probe-seconds 1".split(' '))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(3), "{stderr}");
    let search: Value = serde_json::from_slice(&std::fs::read(output.join("search.json")).unwrap()).unwrap();
    assert_eq!((&search["holds"], &search["fails"]), (&Value::Null, &Value::from(100.0)), "{search:#}");
    // Other programs on the machine may be named beside the link.
    let names_the_link =
        |limit: &Value| limit["limit"] == "link" && limit["evidence"].as_str().unwrap().contains("of 1000 KB/s");
    assert!(search["limits"].as_array().unwrap().iter().any(names_the_link), "{search:#}");
}

#[test]
fn a_cut_network_recovers_and_each_phase_reports_its_deliveries() {
    if !can_make_namespaces() {
        return;
    }
    let lab = Lab::new(5);
    let args = ["--fault=2s partition 0-1 | 2-4", "--fault=5s heal"];
    let mut command = lab.command("--backend netns --timeout 9 --warm-up-seconds 0 --heartbeat-millis 100");
    let (exit, run) = result(Running::start(command.args(args)).output());
    assert_eq!(exit, Some(0), "{run:#}");
    let phases = run["phases"].as_array().unwrap();
    assert_eq!(phases.len(), 3);
    assert_eq!(phases[0]["delivery_ratio"], 1.0, "{phases:#?}");
    let (within, across) = (&phases[1]["groups"]["within"], &phases[1]["groups"]["across"]);
    assert_eq!(within["delivered"], within["expected"], "{within:#}");
    let in_time = across["delivered"].as_u64().unwrap() - across["delivered_after_end"].as_u64().unwrap();
    assert!(in_time <= across["expected"].as_u64().unwrap() / 10, "{across:#}");
    let last = phases[2]["delivery_ratio"].as_f64().unwrap();
    assert!(last > 0.9, "after it is healed: {phases:#?}");
    let seen = run["faults"][0]["seen"].as_str().unwrap();
    assert!(seen.ends_with("packets were cut off"), "{seen}");
}

#[test]
fn a_killed_node_returns_and_its_lives_are_one_row() {
    let lab = Lab::new(3);
    let args = ["--fault=2s kill 2", "--fault=4s restart 2", "--fault=6s pause 1", "--fault=7s resume 1"];
    let mut command = lab.command("--timeout 9 --warm-up-seconds 0 --heartbeat-millis 50");
    let (exit, run) = result(Running::start(command.args(args)).output());
    assert_eq!(exit, Some(0), "{run:#}");
    let phases = run["phases"].as_array().unwrap();
    let lost = |phase: usize| phases[phase]["lost"].as_u64().unwrap();
    assert_eq!((lost(0), lost(4)), (0, 0), "{phases:#?}");
    let missed = phases[1]["missed"].as_u64().unwrap();
    assert!(missed > 0, "what a dead node does not send is missed: {phases:#?}");
    assert!(lost(1) >= 50 + 2 * missed, "what was sent to a dead node is lost: {phases:#?}");
    assert!(phases[3]["delay"]["max_micros"].as_u64().unwrap() >= 500_000, "{phases:#?}");
    assert_eq!(run["nodes"].as_array().unwrap().len(), 3);
    let faults = run["faults"].as_array().unwrap();
    assert!(faults.iter().all(|fault| fault["seen"].is_string() && fault["done_seconds"].is_number()), "{faults:#?}");
}

#[test]
fn kill_9_of_the_runner_leaves_no_node_and_no_interface() {
    if !can_make_namespaces() {
        return;
    }
    let before = host_interfaces();
    let lab = Lab::new(3);
    let run =
        Running::start(&mut lab.command("--backend netns --throughput 20000 --timeout 60 --link-probe-seconds 1"));
    let processes = lab.processes();
    run.signal("KILL");
    for process in processes {
        wait_for("the node's end", || (!lives(process)).then_some(()));
    }
    assert_eq!(host_interfaces(), before);
    assert!(lab.output().join("manifest.json").is_file());
}

#[test]
fn a_user_without_privileges_gets_namespaces_of_her_own() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("apollo-bench");
    std::fs::copy(BENCH, &program).unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
    };
    let able = as_nobody().args(["unshare", "--user", "--net", "true"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        return skip("users can't make user namespaces here, or this test can't become another user");
    }
    let ports = support::free_ports(2);
    let output = as_nobody()
        .arg(&program)
        .args(["local", "--json", "--backend=netns", "--num-nodes=2", "--throughput=5000", "--timeout=1"])
        .args(["--warm-up-seconds=0", "--link-probe-seconds=1", &format!("--base-metric-port={ports}")])
        .arg("--output")
        .arg(folder.path().join("run"))
        .output()
        .unwrap();
    let (exit, run) = result(output);
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run["links"]["valid"], true);
    support::assert_all_delivered(&run);
}

#[test]
fn latency_without_netem_is_one_line_and_nothing_is_left() {
    if !can_make_namespaces() {
        return;
    }
    let has_netem =
        Command::new("unshare").args(["--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem"]).output();
    if has_netem.unwrap().status.success() {
        // The refusal does not exist on this kernel.
        return;
    }
    let lab = Lab::new(3);
    let output = lab.command("--backend netns --latency 50").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: this kernel has no netem (module sch_netem)"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!lab.output().exists());
}

#[test]
fn bad_links_and_faults_are_refused_in_one_line() {
    for (args, says) in [
        (vec!["--latency=50"], "add --backend netns or --docker"),
        (vec!["--backend=netns", "--latency=-1"], "--latency -1: give milliseconds"),
        (vec!["--backend=netns", "--jitter=5"], "--jitter 5 is above latency 0"),
        (vec!["--backend=netns", "--links=/nonexistent"], "--links /nonexistent: No such file"),
        (vec!["--ipv6"], "--ipv6 needs --backend netns"),
        (vec!["--fault=5s explode 1"], "none of kill, restart"),
        (vec!["--fault=5s kill 7"], "node 7 is outside"),
        (vec!["--fault=5s partition 0|1-2"], "needs links of their own"),
        (vec!["--congestion-control=reno"], "add --backend netns or --docker"),
        (vec!["--backend=netns", "--congestion-control=reno", "--quic"], "QUIC does not use the kernel's congestion"),
        (vec!["--backend=netns", "--congestion-control=nosuch"], "this kernel has "),
        (vec!["--backend=netns", "--fault=5s degrade 0:1 jitter=9"], "jitter 9 is above latency 0"),
    ] {
        let output = bench_command().arg("local").args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says) && text.lines().count() == 1, "{args:?}: {text}");
    }
}

#[test]
fn the_remaining_shape_of_a_removed_interface_is_removed() {
    if let Err(why) = support::can_limit_throughput() {
        return skip(&why);
    }
    // The other interface has a foreign qdisc.
    let script = "set -e
        ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up
        tc qdisc add dev e1 root handle 1: htb
        $BENCH shape --interface e0 --throughput 10000
        $BENCH shape --interface e0 --show
        ip link del e0
        $BENCH shape --interface e0 --remove
        $BENCH shape --interface e0 --remove
        ip -oneline link | grep -c apollo || true";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .env("BENCH", BENCH)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{error}");
    let lines: Vec<&str> = out.lines().rev().take(4).collect();
    assert_eq!(lines[0], "0", "{out}");
    assert!(
        lines[1].starts_with("no interface has the name e0;") && lines[1].ends_with("nothing to remove there"),
        "{out}"
    );
    assert!(
        lines[2].starts_with("apollo-in") && lines[2].contains("remained of an interface that no longer exists"),
        "{out}"
    );
    assert!(!out.contains("\"e1\""), "{out}");
}
