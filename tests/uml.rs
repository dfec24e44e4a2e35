//! Shaped links on a kernel with netem: messages meet the configured shape.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/uml.rs"]
mod uml;

use std::path::Path;

use serde_json::Value;
use support::BENCH;

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

fn assert_certified(run: &Value, links: usize) {
    let certificate = &run["links"];
    assert_eq!(certificate["valid"], true, "{run:#}");
    assert_eq!(run["verdict"]["valid"], true, "{run:#}");
    let rows = certificate["links"].as_array().unwrap();
    assert_eq!(rows.len(), links);
    assert!(rows.iter().all(|row| row["before"].is_object() && row["after"].is_object()), "{certificate:#}");
}

/// Median one-way delay of a link before the window, in milliseconds.
fn one_way(run: &Value, from: u64, to: u64) -> f64 {
    let rows = run["links"]["links"].as_array().unwrap();
    let row = rows.iter().find(|row| row["from"] == from && row["to"] == to).unwrap();
    row["before"]["one_way"]["p50_micros"].as_f64().unwrap() / 1000.0
}

// One guest for all checks: it has one processor, and boots once.
#[test]
fn links_take_their_latency_jitter_loss_and_throughput_and_messages_meet_them() {
    if let Some(why) = uml::missing() {
        return support::skip(&why);
    }
    let folder = tempfile::tempdir().unwrap();
    let output = |name: &str| folder.path().join(name);
    let regions = r#"
        [regions]
        here = "0-1"
        there = 2
        [matrix]
        regions = ["here", "there"]
        latency = [[5, 40], [60, 0]]
        [[interface]]
        nodes = "0-2"
        throughput = 300
    "#;
    std::fs::write(output("links.toml"), regions).unwrap();
    // The guest is slow, and slower on a busy host: few messages, and much more time for its timers. A run by hand
    // measures the precision of the links, which is not judged here.
    let local = |name: &str, args: &str| {
        format!(
            "{BENCH} local --backend netns --mode one --warm-up-seconds 1 \
             --tolerance-millis 150 \
             --throughput-tolerance-percent 30 --output {} {args} || echo FAILED {name}\n",
            output(name).display()
        )
    };
    let message = |name: &str, rate: u32, size: u32, pace: u32| {
        local(
            name,
            &format!(
                "--timeout 6 --num-nodes 2 --certificate-seconds 1 --throughput {rate} --message-size-bytes {size} \
                 --heartbeat-millis {pace}"
            ),
        )
    };
    let script = [
        local("latency", "--timeout 6 --heartbeat-millis 200 --latency 50"),
        local("loss", "--timeout 6 --heartbeat-millis 200 --latency 20 --jitter 5 --loss 1 --ipv6"),
        local(
            "regions",
            &format!(
                "--links {} --timeout 24 --heartbeat-millis 200 --fault '4s degrade 0:1,2 latency=250' --fault '20s restore 0:1,2'",
                output("links.toml").display()
            ),
        ),
        message("slow", 100, 65536, 2000),
        message("small", 1000, 8192, 500),
        message("large", 1000, 65536, 500),
        "ip -oneline link | grep -vc ': lo:'; ls /proc/*/exe -l 2>/dev/null | grep -c apollo-bench; true\n".into(),
    ];
    let (status, printed) = uml::run(&script.concat());
    assert_eq!(status, 0, "{printed}");
    assert!(!printed.contains("FAILED"), "{printed}");

    let run = summary(&output("latency"));
    assert_certified(&run, 6);
    support::assert_all_delivered(&run);
    let delay = run["totals"]["network_delay"]["p50_micros"].as_f64().unwrap() / 1000.0;
    assert!((50.0..100.0).contains(&delay), "one way, sender to receiver, the latency is met once: {delay} ms");

    let run = summary(&output("loss"));
    assert_certified(&run, 6);
    let lost = run["links"]["loss"]["lost"].as_u64().unwrap();
    assert!(lost > 0, "{:#}", run["links"]["loss"]);

    let run = summary(&output("regions"));
    assert_certified(&run, 6);
    for (from, to, asked) in [(0, 1, 5.0), (0, 2, 40.0), (2, 0, 60.0)] {
        let found = one_way(&run, from, to);
        assert!((asked..asked + 60.0).contains(&found), "{from} -> {to}: {found} ms");
    }
    let phases = run["phases"].as_array().unwrap();
    // All links from the broadcaster are slow then. The guest needs time to make them so.
    let slowest = |phase: &Value| phase["delay"]["max_micros"].as_u64().unwrap();
    assert!(slowest(&phases[1]) >= 250_000, "{phases:#?}");
    let fault = &run["faults"][0];
    assert!(fault["seen"].as_str().unwrap().ends_with("packets went that way"), "{fault:#}");

    // A message is not earlier than its bytes take, except for its last frame and the bucket of the guest's late
    // timers.
    for (name, rate, bytes) in [("slow", 100.0, 68_600.0), ("small", 1000.0, 8600.0), ("large", 1000.0, 68_600.0)] {
        let run = summary(&output(name));
        assert_certified(&run, 2);
        let found = run["totals"]["network_delay"]["p50_micros"].as_f64().unwrap() / 1000.0;
        let asked = bytes / rate;
        let least = asked * 0.9 - 1.0 - 2.0;
        assert!((least..asked * 1.1 + 100.0).contains(&found), "{name}: {found:.2} ms, not {asked} ms");
    }

    // Bridge, veth, IFB and namespaces are removed, and no node is left.
    let left: Vec<&str> = printed.lines().rev().take(2).collect();
    assert_eq!(left, ["0", "0"], "{printed}");
}
