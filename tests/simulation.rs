//! Networks in virtual time: repeatable, with every protocol, with faults, and with the files of all other runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

use serde_json::Value;
use support::bench_command;

/// Simulates with these flags into `folder`; returns the result.
fn simulate(folder: &Path, flags: &[&str]) -> Value {
    let ran = bench_command().arg("simulate").args(flags).args(["--json", "--output"]).arg(folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The result without the cost of the simulation.
fn without_cost(mut run: Value) -> Value {
    let simulation = run["simulation"].as_object_mut().unwrap();
    assert!(simulation["wall_seconds"].as_f64().unwrap() > 0.0);
    simulation.remove("wall_seconds");
    simulation.remove("peak_memory_bytes");
    run
}

const NETWORK: &[&str] = &[
    "--num-nodes=12",
    "--set=topology.kind=random",
    "--set=topology.peers=4",
    "--latency=20",
    "--jitter=5",
    "--loss=1",
    "--throughput=2000",
    "--message-size-bytes=2048",
    "--heartbeat-millis=500",
    "--warm-up-seconds=1",
    "--timeout=2",
];

#[test]
fn a_seed_gives_the_same_result_again_and_another_seed_another_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let first = simulate(&path("first"), NETWORK);
    let again = simulate(&path("again"), NETWORK);
    assert_eq!(without_cost(first.clone()), without_cost(again));
    let arrivals = |name: &str| fs::read(path(name).join("arrivals.parquet")).unwrap();
    assert!(arrivals("first") == arrivals("again"), "the arrivals differ");
    let other = simulate(&path("other"), &[NETWORK, &["--seed=9"]].concat());
    assert_eq!(other["simulation"]["seed"], 9);
    assert_ne!(first["totals"]["delay"], other["totals"]["delay"]);
    assert!(arrivals("first") != arrivals("other"));

    let totals = &first["totals"];
    assert_eq!((&first["verdict"]["valid"], &totals["delivery_ratio"]), (&Value::from(true), &Value::from(1.0)));
    // A message takes 20 ms a hop, with a jitter of 5 ms, and more if it is sent again.
    let median = totals["delay"]["p50_micros"].as_u64().unwrap();
    assert!((18_000..90_000).contains(&median), "{median}");
    for unknown in [&totals["cpu_seconds"], &totals["send_lag"]["p50_micros"], &first["peak_memory_bytes"]] {
        assert!(unknown.is_null(), "{unknown}");
    }
    assert!(first["nodes"][0]["cpu_seconds"].is_null() && first["nodes"][0]["peak_memory_bytes"].is_null());

    // The same result follows from the files.
    let report = bench_command().arg("report").arg(path("first")).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    let shown = bench_command().arg("show").arg(path("first")).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    for part in ["processors infinitely fast", "seed 0, 1 thread,", "times the measured value", "extrapolated"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn two_threads_repeat_their_result_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let flags = [NETWORK, &["--threads=2"]].concat();
    let first = simulate(&path("first"), &flags);
    assert_eq!((&first["simulation"]["threads"], &first["verdict"]["valid"]), (&2.into(), &true.into()));
    assert_eq!(without_cost(first.clone()), without_cost(simulate(&path("again"), &flags)));
    let with_faults =
        [&flags[..], &["--fault=1s kill 3", "--fault=1s restart 3", "--fault=1500ms degrade 0:1 latency=8"]].concat();
    let repeated = ["faults", "faults-again"].map(|name| without_cost(simulate(&path(name), &with_faults)));
    assert_eq!(repeated[0], repeated[1]);
    let one = simulate(&path("one"), &[NETWORK, &["--threads=1"]].concat());
    let facts = |run: &Value| (run["totals"]["delivered"].clone(), run["simulation"]["connections"].clone());
    assert_eq!(facts(&first), facts(&one));
    let median = |run: &Value| run["totals"]["delay"]["p50_micros"].as_f64().unwrap();
    let ratio = median(&first) / median(&one);
    assert!((0.7..1.4).contains(&ratio), "{ratio}");
}

#[test]
fn every_protocol_delivers_everything() {
    let folder = tempfile::tempdir().unwrap();
    for protocol in ["sqmr", "reversed-sqmr", "propeller"] {
        let flags = [
            "--num-nodes=5",
            "--latency=10",
            "--message-size-bytes=40000",
            "--heartbeat-millis=500",
            "--warm-up-seconds=1",
            "--timeout=2",
            &format!("--network-protocol={protocol}"),
        ];
        let run = simulate(&folder.path().join(protocol), &flags);
        let totals = &run["totals"];
        assert_eq!((&totals["delivery_ratio"], &totals["intended"]), (&1.0.into(), &20.into()), "{protocol}");
        assert!(totals["delay"]["p50_micros"].as_u64().unwrap() >= 10_000, "{protocol}");
    }
}

#[test]
fn a_processor_takes_its_time_for_each_message_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let network = [
        "--num-nodes=5",
        "--latency=10",
        "--message-size-bytes=1000",
        "--heartbeat-millis=500",
        "--warm-up-seconds=1",
        "--timeout=2",
    ];
    let slow = [&network[..], &["--processor-micros-per-message=2000", "--processor-nanos-per-byte=1000"]].concat();
    let path = |name: &str| folder.path().join(name);
    let (without, with) = (simulate(&path("without"), &network), simulate(&path("with"), &slow));
    assert_eq!(with["simulation"]["processors"], "of one core that takes 2000 µs a message and 1000 ns a byte");
    assert_eq!((&with["verdict"]["valid"], &with["totals"]["delivery_ratio"]), (&true.into(), &1.0.into()));
    let median = |run: &Value| run["totals"]["delay"]["p50_micros"].as_u64().unwrap();
    // The sender signs, and the receiver reads and checks, at least.
    assert!(median(&with) >= median(&without) + 6_000, "{} {}", median(&with), median(&without));
    assert!(median(&with) <= median(&without) + 60_000, "{} {}", median(&with), median(&without));
    assert_eq!(without_cost(with), without_cost(simulate(&path("again"), &slow)));

    // Runs in virtual time have no processor time that could give the costs.
    let from = format!("--processor-small-run={}", path("without").display());
    let large = format!("--processor-large-run={}", path("again").display());
    let ran = bench_command().arg("simulate").args([from, large]).output().unwrap();
    let line = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code() == Some(2) && line.contains("whose processor time and deliveries are known"), "{line}");
}

fn faults_happen(threads: &str) {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        threads,
        "--num-nodes=6",
        "--latency=5",
        "--message-size-bytes=500",
        "--heartbeat-millis=200",
        "--warm-up-seconds=1",
        "--timeout=24",
        "--fault=2s kill 5",
        "--fault=5s restart 5",
        "--fault=9s pause 4",
        "--fault=10s resume 4",
        "--fault=12s partition 0-2 | 3-5",
        "--fault=14s heal",
        "--fault=17s degrade 0:1 latency=80",
        "--fault=20s restore 0:1",
    ];
    let run = simulate(&folder.path().join("run"), &flags);
    assert_eq!(run["verdict"]["valid"], true, "{}", run["verdict"]);
    let seen: Vec<&str> = run["faults"].as_array().unwrap().iter().map(|row| row["seen"].as_str().unwrap()).collect();
    assert!(seen[1].contains("answers again") && seen[4].contains("packets were cut off"), "{seen:?}");
    assert!(seen[6].contains("packets went that way"), "{seen:?}");
    let phases = run["phases"].as_array().unwrap();
    let part = |phase: usize, key: &str| phases[phase][key].as_f64().unwrap();
    assert!(part(1, "delivery_ratio") < 1.0, "a killed node receives nothing: {}", phases[1]);
    assert_eq!(part(0, "delivery_ratio"), 1.0);
    let largest = |phase: usize| phases[phase]["delay"]["max_micros"].as_u64().unwrap();
    assert!(largest(3) >= 500_000, "a paused node receives late: {}", phases[3]["delay"]);
    assert!(largest(7) >= 10_000 && largest(0) < 100_000, "{} {}", largest(7), largest(0));
}

#[test]
fn faults_happen_in_virtual_time() {
    faults_happen("--threads=1");
}

#[test]
fn faults_happen_to_hosts_of_two_threads() {
    faults_happen("--threads=2");
}

#[test]
fn a_node_that_is_restarted_at_once_can_be_dialled() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--num-nodes=4",
        "--latency=5",
        "--heartbeat-millis=200",
        "--warm-up-seconds=1",
        "--timeout=12",
        "--fault=2s kill 3",
        "--fault=2s restart 3",
    ];
    let run = simulate(&folder.path().join("run"), &flags);
    let last = run["phases"].as_array().unwrap().last().unwrap();
    assert_eq!(run["verdict"]["valid"], true, "{}", run["verdict"]);
    assert!(last["delivery_ratio"].as_f64().unwrap() > 0.8, "{last}");
}

#[test]
fn repetitions_in_a_comparison_have_seeds_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = "[nodes]\ncount = 4\n[measurement]\nwarm_up_seconds = 1\nwindow_seconds = 2\n[links.default]\nlatency_millis = \
                20\njitter_millis = 5\n[[traffic]]\nheartbeat_millis = 500\nmessage_size_bytes = 1000\n";
    fs::write(path("small.toml"), text).unwrap();
    let mut compare = bench_command();
    compare.arg("compare").arg("--run").arg(path("small.toml")).args(["--on", "simulation", "--repeat", "4"]);
    compare.args(["--vary", "links.default.latency_millis=40", "--measure", "delay_p50", "--output"]).arg(path("runs"));
    let ran = compare.output().unwrap();
    let table = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && table.contains("worse"), "{table} {}", String::from_utf8_lossy(&ran.stderr));
    let seed = |name: &str| {
        let text = fs::read_to_string(path("runs").join(name).join("summary.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["simulation"]["seed"].as_u64().unwrap()
    };
    assert_eq!(["001-a", "001-b", "002-a", "002-b", "004-a"].map(seed), [0, 0, 1, 1, 3]);
}

#[test]
fn a_model_that_does_not_exist_is_refused() {
    for (flags, says) in [
        (&["--quic"][..], "a simulation has TCP only"),
        (&["--congestion-control=bbr"], "a simulation has cubic only"),
        (&["--latency=5", "--reorder=1"], "no reordered packets"),
    ] {
        let ran = bench_command().arg("simulate").args(flags).output().unwrap();
        let line = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code() == Some(2) && line.contains(says), "{flags:?} {line}");
    }
}
