//! Accounts of a run: every intended message and every expected delivery has its place, also if nodes fail.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use support::{BENCH, Lab, Running, can_limit_throughput, result, skip};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn count(counts: &Value, field: &str) -> i128 {
    let found = &counts[field];
    i128::from(found.as_u64().unwrap_or_else(|| panic!("{field}: {found}")))
}

/// Exit code and result of a run with these faults, whose times are seconds with their unit.
fn run_with_faults(lab: &Lab, args: &str, faults: &[&str]) -> (Option<i32>, Value) {
    let mut command = lab.command(args);
    for fault in faults {
        command.args(["--fault", fault]);
    }
    result(Running::start(&mut command).output())
}

fn report(folder: &Path) -> Output {
    Command::new(BENCH).arg("report").arg(folder).arg("--json").output().unwrap()
}

/// Checks that `report` derives the same result from the files of the folder.
fn assert_derivable(lab: &Lab, run: &Value) {
    let derived = report(&lab.output());
    assert_eq!(derived.status.code(), Some(0), "{}", String::from_utf8_lossy(&derived.stderr));
    let derived: Value = serde_json::from_slice(&derived.stdout).unwrap();
    assert_eq!(&derived, run);
    assert_eq!(read(&lab.output().join("summary.json")), derived);
}

/// Checks that every intended message is sent, dropped or missed, and every expected delivery is delivered or lost.
fn assert_adds_up(counts: &Value, receivers: i128) {
    let of = |field: &str| count(counts, field);
    assert_eq!(of("intended"), of("sent") + of("dropped") + of("missed"), "{counts:#}");
    assert_eq!(of("expected"), of("intended") * receivers, "{counts:#}");
    assert_eq!(of("expected"), of("delivered") + of("lost"), "{counts:#}");
    let values = &counts["delay"];
    assert_eq!((count(values, "count"), count(values, "missing")), (of("delivered"), of("lost")), "{values:#}");
}

/// Checks the same for the totals, for every node and for every phase, and that each kind has the same sum.
fn assert_accounts(run: &Value) {
    let (totals, nodes) = (&run["totals"], run["nodes"].as_array().unwrap());
    let receivers = count(&run["workload"], "num_nodes") - 1;
    assert_adds_up(totals, receivers);
    let backlog = count(totals, "backlog_at_end");
    assert!((count(totals, "lost")..=count(totals, "expected")).contains(&backlog), "{totals:#}");
    for node in nodes {
        let of = |field: &str| count(node, field);
        assert_eq!(of("intended"), of("sent") + of("dropped") + of("missed"), "{node:#}");
        assert!((0..=of("expected")).contains(&of("received")), "{node:#}");
    }
    let sum = |rows: &[Value], field: &str| rows.iter().map(|row| count(row, field)).sum::<i128>();
    for field in ["intended", "sent", "dropped", "missed", "expected"] {
        assert_eq!(sum(nodes, field), count(totals, field), "{field} of the nodes");
    }
    assert_eq!(sum(nodes, "received"), count(totals, "delivered"));
    let phases = run["phases"].as_array().unwrap();
    for phase in phases {
        assert_adds_up(phase, receivers);
        assert!(count(phase, "delivered_after_end") <= count(phase, "delivered"), "{phase:#}");
    }
    for field in ["intended", "sent", "dropped", "missed", "expected", "delivered", "lost"] {
        assert!(phases.is_empty() || sum(phases, field) == count(totals, field), "{field} of the phases: {run:#}");
    }
}

#[test]
fn the_schedule_of_a_killed_node_continues_and_the_folder_gives_the_same_result() {
    let lab = Lab::new(3);
    let (exit, run) = run_with_faults(
        &lab,
        "--mode one --broadcaster 0 --timeout 3 --heartbeat-millis 10 --warm-up-seconds 1",
        &["1s kill 0", "2s restart 0"],
    );
    assert_eq!(exit, Some(0), "{run:#}");
    assert_accounts(&run);
    assert_eq!(count(&run["totals"], "intended"), 300);
    assert_eq!(count(&run["totals"], "expected"), 600);
    // About 100 messages are due between its death and its restart, and it does not return at once.
    assert!(count(&run["totals"], "missed") >= 90, "{:#}", run["totals"]);
    assert_eq!(run["totals"]["sustained"]["sustained"], false);

    let nodes = lab.output().join("nodes");
    let lives = ["node-0.1.json", "node-0.json"].map(|name| read(&nodes.join(name)));
    assert_ne!(lives[0]["process"], lives[1]["process"]);
    assert!(!nodes.join("node-0.2.json").exists() && !nodes.join("node-1.1.json").exists());
    let reported: i128 = lives.iter().map(|life| count(&life["measured"], "sent")).sum();
    assert!(reported <= count(&run["totals"], "sent"), "a message that somebody received was sent");
    assert_derivable(&lab, &run);

    let mut changed = read(&nodes.join("node-1.json"));
    changed["measured"]["received"] = (changed["measured"]["received"].as_u64().unwrap() + 1).into();
    fs::write(nodes.join("node-1.json"), changed.to_string()).unwrap();
    let refused = report(&lab.output());
    assert_eq!(refused.status.code(), Some(1));
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(line.contains("differs from the result of its nodes and observations"), "{line}");
}

#[test]
fn a_node_that_is_killed_again_before_it_has_returned_returns_later() {
    let lab = Lab::new(3);
    let (exit, run) = run_with_faults(
        &lab,
        "--timeout 3 --heartbeat-millis 20 --warm-up-seconds 0",
        &[
            "500ms kill 1",
            "1s restart 1",
            "1s kill 1",
            "2s restart 1",
            "2500ms kill 2",
            "2600ms restart 2",
            "2600ms kill 2",
        ],
    );
    assert_eq!(exit, Some(0), "{run:#}");
    assert_accounts(&run);
    let faults = run["faults"].as_array().unwrap();
    assert!(faults.iter().all(|fault| fault["seen"].is_string()), "{faults:#?}");
    assert_derivable(&lab, &run);
}

/// A run of 3 s whose broadcaster is paused from the given second to the end, and how long the run waited after it.
fn frozen_from(second: u32) -> (Value, u64) {
    let lab = Lab::new(3);
    let (exit, run) = run_with_faults(
        &lab,
        "--mode one --broadcaster 0 --timeout 3 --heartbeat-millis 10 --warm-up-seconds 1",
        &[&format!("{second}s pause 0")],
    );
    assert_eq!(exit, Some(0), "{run:#}");
    assert_accounts(&run);
    let observed = read(&lab.output().join("observations.json"));
    let counted = (0..3).map(|node| read(&lab.output().join(format!("nodes/node-{node}.json"))));
    let counted = counted.map(|node| node["counted_unix_nanos"].as_u64().unwrap()).max().unwrap();
    (run, (counted - observed["window"]["to_unix_nanos"].as_u64().unwrap()) / 1000)
}

#[test]
fn freezing_a_broadcaster_to_the_end_lowers_the_ratio_and_improves_no_percentile() {
    let (late, waited_late) = frozen_from(2);
    let (early, waited_early) = frozen_from(1);
    for (run, sent_at_most) in [(&late, 290), (&early, 190)] {
        let totals = &run["totals"];
        assert_eq!(count(totals, "intended"), 300);
        assert_eq!(count(totals, "delivered"), count(totals, "sent") * 2, "what was sent has come: {totals:#}");
        // The pause may begin late on a busy host, and never early.
        assert!(count(totals, "missed") > 0 && count(totals, "sent") <= sent_at_most, "{totals:#}");
        assert_eq!(totals["sustained"]["sustained"], false);
        assert!(totals["sustained"]["reason"].as_str().unwrap().contains("messages were missed"), "{totals:#}");
        assert!(count(totals, "backlog_at_end") >= count(totals, "lost"));
        assert_eq!(totals["delay"]["p99_micros"], Value::Null);
        let ratio = count(totals, "delivered") as f64 / 600.0;
        assert!((totals["delivery_ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{totals:#}");
    }
    let quantiles = |run: &Value| run["totals"]["delay"]["quantiles"].as_array().unwrap().clone();
    let (shorter, longer) = (quantiles(&late), quantiles(&early));
    assert_eq!(shorter.len(), longer.len());
    for (shorter, longer) in shorter.iter().zip(&longer) {
        assert_eq!(shorter["quantile"], longer["quantile"]);
        let known = |of: &Value| (of["value_micros"].as_u64(), of["at_least_micros"].as_u64());
        match (known(shorter), known(longer)) {
            // The length of the wait after the window depends on the machine.
            ((None, Some(shorter)), (None, Some(longer))) => {
                assert!(longer.saturating_sub(waited_early) >= shorter.saturating_sub(waited_late));
            }
            ((Some(came), None), (None, Some(at_least))) => assert!(at_least >= came, "{at_least} {came}"),
            // Both arrived; the faster one of two quick deliveries means nothing.
            ((Some(_), None), (Some(_), None)) => {}
            other => panic!("a longer pause has made a value of what never came: {other:?}"),
        }
    }
    let p99 = longer.iter().find(|quantile| quantile["quantile"] == 0.99).unwrap();
    assert!(p99["at_least_micros"].as_u64() > Some(1_000_000), "{p99:#}");
}

#[test]
fn a_window_without_a_message_is_invalid_with_the_reason() {
    let lab = Lab::new(2);
    let (exit, run) =
        lab.run("--heartbeat-millis 60000 --timeout 2 --send-phase aligned --warm-up-seconds 1 --drain-seconds 1");
    assert_eq!(exit, Some(1), "{run:#}");
    assert_eq!(run["verdict"]["valid"], false);
    let reasons = run["verdict"]["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let reason = reasons[0].as_str().unwrap();
    assert!(
        reason.starts_with("no message was to be sent in the measured window: give a longer --timeout"),
        "{reason}"
    );
    let totals = &run["totals"];
    assert_eq!([&totals["intended"], &totals["expected"], &totals["delivered"]], [0, 0, 0]);
    assert_eq!(totals["delivery_ratio"], Value::Null, "a ratio of nothing is none");
    assert_eq!(totals["sustained"]["sustained"], Value::Null);
}

/// Offsets of three nodes, in nanoseconds, as a run reports them.
fn offsets(flags: &str) -> Vec<u64> {
    let lab = Lab::new(3);
    let (exit, run) = lab.run(&format!("--timeout 1 --warm-up-seconds 0 --heartbeat-millis 50 {flags}"));
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(count(&run["totals"], "intended"), 3 * 20);
    assert_accounts(&run);
    let offsets = &read(&lab.output().join("manifest.json"))["send_offsets_nanos"];
    assert_eq!(offsets.as_object().unwrap().len(), 3);
    (0..3).map(|node: u64| offsets[node.to_string()].as_u64().unwrap()).collect()
}

#[test]
fn the_offsets_of_the_senders_are_in_the_manifest_and_come_from_the_seed() {
    let spread = offsets("--send-phase spread --send-phase-seed 7");
    assert!(spread.iter().all(|offset| *offset < 50_000_000), "{spread:?}");
    assert!(spread[0] != spread[1] && spread[1] != spread[2] && spread[0] != spread[2], "{spread:?}");
    assert_eq!(offsets("--send-phase spread --send-phase-seed 7"), spread);
    assert_ne!(offsets("--send-phase spread --send-phase-seed 8"), spread);
    assert_eq!(offsets("--send-phase aligned"), [0, 0, 0]);
}

#[test]
fn trials_have_accounts_of_their_own_and_the_frontier_is_made_of_the_valid_ones() {
    let lab = Lab::new(2);
    // Time for two trials of the lightest load; the third would open its window at second 11.
    let (exit, run) = lab.run(
        "--mode explore --broadcaster 0 --explore-cool-down-duration-seconds 3 --explore-run-duration-seconds 1 \
         --timeout 11",
    );
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run.get("totals"), Some(&Value::Null), "counts of different loads are not added up");
    let trials = run["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2, "{run:#}");
    for (number, trial) in trials.iter().enumerate() {
        assert_eq!(trial["trial"], number);
        let heartbeat = count(&trial["plan"], "heartbeat_millis");
        assert_eq!(count(trial, "intended"), 1000 / heartbeat, "{trial:#}");
        assert_adds_up(trial, 1);
        assert!(trial["problems"].is_array() && trial["sustained"]["reason"].is_string(), "{trial:#}");
    }
    let frontier = run["frontier"].as_array().unwrap();
    let carried = |trial: &Value| trial["problems"] == serde_json::json!([]) && trial["sustained"]["sustained"] == true;
    for row in frontier {
        let trial = trials.iter().find(|trial| trial["trial"] == row["trial"]).unwrap();
        assert!(carried(trial) && trial["plan"] == row["plan"], "{trial:#}");
    }
    assert_eq!(frontier.is_empty(), !trials.iter().any(carried), "{run:#}");
    let best = run["best_trial"].as_u64();
    assert_eq!(best.is_some(), !frontier.is_empty());
    assert!(best.is_none_or(|best| frontier.iter().any(|row| row["trial"] == best)), "{run:#}");
    // A trial outside of the frontier states the reason.
    for trial in trials.iter().filter(|trial| !carried(trial)) {
        let unsaid = trial["problems"] == serde_json::json!([]) && trial["sustained"]["reason"] == "";
        assert!(!unsaid, "{trial:#}");
    }
    assert_derivable(&lab, &run);
}

#[test]
fn an_overloaded_link_delivers_no_more_than_it_carries_and_is_not_sustained() {
    let namespaces = Command::new("unshare").args(["--net", "true"]).output();
    if !namespaces.is_ok_and(|output| output.status.success()) {
        return skip("network namespaces can't be made here (not root)");
    }
    if let Err(why) = can_limit_throughput() {
        return skip(&why);
    }
    let lab = Lab::new(3);
    let (exit, run) = lab.run(
        "--backend netns --throughput 2000 --link-probe-seconds 1 --mode one --broadcaster 0 --network-protocol sqmr \
         --message-size-bytes 32768 --heartbeat-millis 20 --timeout 4 --warm-up-seconds 0 --drain-seconds 1",
    );
    assert_eq!(exit, Some(0), "{run:#}");
    assert_accounts(&run);
    let totals = &run["totals"];
    // Both receivers share the interface of the broadcaster: 3.3 MB/s are offered to 2 MB/s.
    let delivered = totals["delivered_bytes_per_second"].as_f64().unwrap();
    assert!(0.0 < delivered && delivered <= 2e6 * 1.05, "{totals:#}");
    assert!(totals["offered_bytes_per_second"].as_f64().unwrap() > 3e6, "{totals:#}");
    assert!(count(totals, "backlog_at_end") > 0, "{totals:#}");
    assert_eq!(totals["sustained"]["sustained"], false, "{totals:#}");
    assert!(totals["sustained"]["reason"].as_str().unwrap().contains("the backlog grew"), "{totals:#}");
    assert!(totals["delivery_ratio"].as_f64().unwrap() < 1.0, "{totals:#}");
}

/// Random numbers of a seed, by Marsaglia's xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

/// Condition of a node after the faults so far.
#[derive(Clone, Copy, PartialEq)]
enum Condition {
    Up,
    Dead,
    Paused,
}

/// Faults that are possible, one each quarter of a second, in a window of 4 s.
fn random_faults(seed: u64, num_nodes: usize) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut conditions = vec![Condition::Up; num_nodes];
    (1..16)
        .map(|quarter| {
            let node = dice.roll(num_nodes);
            let (action, after) = match conditions[node] {
                Condition::Up if dice.roll(2) == 0 => ("kill", Condition::Dead),
                Condition::Up => ("pause", Condition::Paused),
                Condition::Dead => ("restart", Condition::Up),
                Condition::Paused => ("resume", Condition::Up),
            };
            conditions[node] = after;
            format!("{}ms {action} {node}", quarter * 250)
        })
        .collect()
}

#[test]
fn random_faults_leave_no_message_and_no_delivery_without_an_account() {
    let lab = Lab::new(4);
    let faults = random_faults(0x5eed, 4);
    let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
    let (exit, run) = run_with_faults(&lab, "--timeout 4 --heartbeat-millis 20 --warm-up-seconds 1", &faults);
    assert_eq!(exit, Some(0), "{faults:?} {run:#}");
    assert_eq!(run["phases"].as_array().unwrap().len(), 16);
    assert_accounts(&run);
    assert_eq!(count(&run["totals"], "intended"), 4 * 200);
    assert_derivable(&lab, &run);
}
