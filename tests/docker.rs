//! `apollo-bench local --docker`: properties of the containers, their measurements, and their removal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use support::{Lab, Running, has_docker, lives, result, signal, skip, wait_for};

const LABEL: &str = "org.apollo-network-benchmark";

/// Docker for one test at a time, or none.
fn docker_for_one() -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::new(());
    has_docker("nodes").then(|| ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A run of containers that lasts long enough to be examined.
struct Watched {
    lab: Lab,
    runner: Running,
    /// Value of the label of all its objects in Docker.
    run: String,
}

impl Watched {
    fn start(args: &str) -> Self {
        let lab = Lab::new(2);
        let mut command = lab.command(&format!("--docker --timeout 60 --warm-up-seconds 0 {args}"));
        let runner = Running::start(&mut command);
        let run = wait_for("the process that cleans up", || {
            let reaper = children(runner.id()).into_iter().find(|child| child.1.contains(&"reap-docker".to_owned()))?;
            reaper.1.last().cloned()
        });
        let watched = Self { lab, runner, run };
        watched.lab.processes();
        watched
    }

    fn reaper(&self) -> u32 {
        children(self.runner.id()).into_iter().find(|child| child.1.contains(&"reap-docker".to_owned())).unwrap().0
    }

    fn node(&self, id: u16) -> String {
        format!("apollo-bench-{}-node-{id}", self.run)
    }

    fn inspect(&self, id: u16) -> Value {
        serde_json::from_str::<Value>(&docker(&["inspect", &self.node(id)])).unwrap()[0].take()
    }
}

/// Processes that a process has started, and their arguments.
fn children(process: u32) -> Vec<(u32, Vec<String>)> {
    let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let arguments = |child: u32| {
        let text = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        (child, text.split_terminator('\0').map(str::to_owned).collect())
    };
    listed.split_whitespace().map(|child| arguments(child.parse().unwrap())).collect()
}

/// Objects of a run in Docker.
fn left(run: &str) -> String {
    let filter = format!("label={LABEL}.run={run}");
    docker(&["ps", "--all", "--quiet", "--filter", &filter])
        + &docker(&["network", "ls", "--quiet", "--filter", &filter])
}

/// Waits until all objects of a run are removed.
fn wait_until_gone(run: &str) {
    wait_for("everything to be gone", || left(run).is_empty().then_some(()));
}

fn list(value: &Value) -> BTreeSet<&str> {
    value.as_array().map(|list| list.iter().map(|one| one.as_str().unwrap()).collect()).unwrap_or_default()
}

#[test]
fn three_containers_deliver_exactly_and_nothing_is_left() {
    let Some(_docker) = docker_for_one() else { return };
    let lab = Lab::new(3);
    let (exit, run) = lab.run("--docker --timeout 2 --warm-up-seconds 1 --heartbeat-millis 20");
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run["verdict"]["valid"], true, "{run:#}");
    assert_eq!(run["totals"]["intended"], 3 * 100);
    support::assert_all_delivered(&run);
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(lab.output().join(name)).unwrap()).unwrap() };
    let manifest = read("manifest.json");
    assert_eq!(manifest["backend"], "docker");
    assert_eq!(manifest["arguments"]["containers"]["memory_limit"], "2g");
    assert!(manifest["image"]["id"].as_str().unwrap().starts_with("sha256:"));
    for node in 0..3 {
        assert_eq!(read(&format!("nodes/node-{node}.json"))["node"], node);
        assert!(lab.output().join(format!("logs/node-{node}.log")).is_file());
    }
    assert!(!lab.output().join("image").exists());
    let run = format!("{:x}", manifest["nodes"][0]["run_id"].as_u64().unwrap());
    assert_eq!(left(&run), "");
}

#[test]
fn a_container_may_do_nothing_that_a_node_need_not() {
    let Some(_docker) = docker_for_one() else { return };
    let watched = Watched::start("--memory-limit 256m --verbosity 3");
    let port = watched.lab.metric_port;
    for id in 0..2 {
        let container = watched.inspect(id);
        let host = &container["HostConfig"];
        assert_eq!(container["Config"]["User"], "65534:65534");
        assert_eq!(list(&host["CapDrop"]), ["ALL"].into());
        assert_eq!(list(&host["CapAdd"]), BTreeSet::new());
        assert_eq!(list(&host["SecurityOpt"]), ["no-new-privileges"].into());
        assert_eq!(host["ReadonlyRootfs"], true);
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["Memory"], 256 << 20);
        assert_eq!(host["MemorySwap"], 256 << 20);
        assert!(host["PidsLimit"].as_u64() > Some(0));
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "16m");
        assert_eq!(container["Config"]["Labels"][format!("{LABEL}.node")], id.to_string());
        let published: Vec<&Value> = container["NetworkSettings"]["Ports"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_array)
            .flatten()
            .collect();
        assert_eq!(published, [&serde_json::json!({ "HostIp": "127.0.0.1", "HostPort": (port + id).to_string() })]);
        let networks: BTreeSet<&String> =
            container["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
        assert_eq!(networks.len(), 2, "{networks:?}");
    }
    let data: Value =
        serde_json::from_str(&docker(&["network", "inspect", &format!("apollo-bench-{}-data", watched.run)])).unwrap();
    assert_eq!(data[0]["Internal"], true);
    // The log exists while the run goes on.
    wait_for("the log", || {
        let log = fs::read_to_string(watched.lab.output().join("logs/node-1.log")).ok()?;
        log.contains("node is up").then_some(())
    });
}

#[test]
fn links_of_containers_have_the_throughput_that_was_asked_for() {
    let Some(_docker) = docker_for_one() else { return };
    if let Err(why) = support::can_limit_throughput() {
        return skip(&why);
    }
    let lab = Lab::new(3);
    let (exit, run) = lab.run("--docker --timeout 2 --warm-up-seconds 1 --throughput 10000 --link-probe-seconds 1");
    assert_eq!(exit, Some(0), "{run:#}");
    let links = run["links"]["links"].as_array().unwrap();
    assert_eq!(links.len(), 6);
    for link in links {
        for stage in ["before", "after"] {
            let rate = link[stage]["throughput_bytes_per_second"].as_f64().unwrap();
            assert!((9.5e6..=10.5e6).contains(&rate), "{stage} {rate}: {link:#}");
        }
    }
}

#[test]
fn faults_hit_containers_and_a_restarted_one_is_cut_off_still() {
    let Some(_docker) = docker_for_one() else { return };
    if let Err(why) = support::can_limit_throughput() {
        return skip(&why);
    }
    let lab = Lab::new(3);
    let mut command = lab.command("--docker --timeout 28 --warm-up-seconds 1 --heartbeat-millis 20");
    // Docker needs time for each fault on a busy machine.
    for fault in ["2s partition 0 | 1-2", "8s kill 2", "12s restart 2", "18s pause 1", "20s resume 1", "24s heal"] {
        command.args(["--fault", fault]);
    }
    let (exit, run) = result(Running::start(&mut command).output());
    assert_eq!(exit, Some(0), "{run:#}");
    let seen: Vec<&str> =
        run["faults"].as_array().unwrap().iter().map(|fault| fault["seen"].as_str().unwrap()).collect();
    assert!(seen[0].ends_with("packets were cut off"), "{seen:?}");
    assert!(seen[1].starts_with("ended by SIGKILL"), "{seen:?}");
    assert!(seen[2].starts_with("answers again"), "{seen:?}");
    // Until the network was healed nothing crossed the cut, not even to the restarted node.
    for phase in run["phases"].as_array().unwrap().iter().skip(3).take(3) {
        let across = &phase["groups"]["across"];
        assert!(across["expected"].as_u64() > Some(0), "{phase:#}");
        assert_eq!(across["delivered"], across["delivered_after_end"], "{phase:#}");
    }
}

#[test]
fn only_shaping_takes_a_right_and_the_node_does_not_have_it() {
    let Some(_docker) = docker_for_one() else { return };
    if let Err(why) = support::can_limit_throughput() {
        return skip(&why);
    }
    let watched = Watched::start("--throughput 10000 --link-probe-seconds 1");
    let container = watched.inspect(0);
    let host = &container["HostConfig"];
    let added: BTreeSet<&str> = list(&host["CapAdd"]).into_iter().map(|cap| cap.trim_start_matches("CAP_")).collect();
    assert_eq!(added, ["NET_ADMIN", "SETGID", "SETUID"].into());
    assert_eq!(list(&host["CapDrop"]), ["ALL"].into());
    let process = container["State"]["Pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    assert_eq!(value("CapEff:"), "0000000000000000");
    assert!(value("Uid:").split_whitespace().all(|user| user == "65534"), "{status}");
}

#[test]
fn the_objects_of_a_killed_runner_are_removed_soon_after() {
    let Some(_docker) = docker_for_one() else { return };
    let watched = Watched::start("");
    watched.runner.signal("KILL");
    wait_until_gone(&watched.run);
}

#[test]
fn ctrl_c_ends_the_containers_and_reports() {
    let Some(_docker) = docker_for_one() else { return };
    let Watched { lab, runner, run } = Watched::start("");
    lab.wait_until_measuring(0);
    runner.signal("INT");
    let (exit, summary) = result(runner.output());
    assert_eq!(exit, Some(1));
    assert_eq!(summary["verdict"]["reasons"][0], "interrupted (SIGINT)");
    assert!(summary["totals"]["delivered"].as_u64() > Some(0));
    assert_eq!(left(&run), "");
}

#[test]
fn a_container_that_is_killed_makes_the_run_invalid_by_name() {
    let Some(_docker) = docker_for_one() else { return };
    let watched = Watched::start("");
    docker(&["kill", &watched.node(1)]);
    let Watched { runner, run, .. } = watched;
    let (exit, summary) = result(runner.output());
    assert_eq!(exit, Some(1));
    let reason = summary["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("node 1 ended with exit code 137 (SIGKILL)"), "{reason}");
    assert_eq!(left(&run), "");
}

#[test]
fn a_node_that_exceeds_its_memory_limit_is_named_with_the_fix() {
    let Some(_docker) = docker_for_one() else { return };
    let lab = Lab::new(3);
    let args = "--docker --memory-limit 16m --timeout 60 --warm-up-seconds 0 --message-size-bytes 1048576 \
                --heartbeat-millis 10";
    let (exit, summary) = lab.run(args);
    assert_eq!(exit, Some(1));
    let reason = summary["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.contains("more than --memory-limit 16m"), "{reason}");
}

#[test]
fn the_next_run_removes_the_remains_of_a_dead_runner_and_its_dead_reaper() {
    let Some(_docker) = docker_for_one() else { return };
    let dead = Watched::start("");
    let reaper = dead.reaper();
    signal(reaper, "KILL");
    dead.runner.signal("KILL");
    let run = dead.run.clone();
    wait_for("their end", || (!lives(reaper) && !lives(dead.runner.id())).then_some(()));
    drop(dead);
    assert_eq!(left(&run).lines().count(), 4, "{}", left(&run));
    // The objects of a living runner stay.
    let living = Watched::start("");
    assert_eq!(left(&run), "");
    let output = Running::start(Lab::new(2).command("--docker --timeout 1 --warm-up-seconds 0").arg("--quic")).output();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(lives(living.reaper()));
    assert_eq!(left(&living.run).lines().count(), 4);
    let Watched { runner, .. } = living;
    runner.signal("TERM");
    let output = runner.output();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("2 containers, 2 networks"), "{said}");
}

/// Checks that the arguments are refused: one line, exit code 2, no remaining objects.
fn assert_refused(args: &str, says: &str) {
    let lab = Lab::new(2);
    let output = Running::start(&mut lab.command(args)).output();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args}: {said}");
    assert!(said.starts_with("error: ") && said.contains(says) && said.lines().count() == 1, "{args}: {said}");
    assert!(!lab.output().exists());
}

#[test]
fn an_image_that_docker_does_not_have_is_refused_in_one_line() {
    let Some(_docker) = docker_for_one() else { return };
    assert_refused("--docker --image apollo-network-benchmark-test:none", "Docker does not have it");
    // A kernel with netem has nothing to report.
    if !support::has_netem() {
        assert_refused("--docker --latency 50", "this kernel has no netem");
    }
}

#[test]
fn flags_of_containers_go_with_containers_alone() {
    assert_refused("--image x", "--image is for containers: add --docker");
    assert_refused("--fast-docker", "--fast-docker is for containers");
    assert_refused("--backend netns --memory-limit 1g", "--memory-limit is for containers");
    assert_refused("--docker --memory-limit 1m", "no less than 6m");
    assert_refused("--docker --node-binary /bin/true", "give --image in its place");
    assert_refused("--docker --fast-docker --image x", "--image");
    assert_refused("--docker --ipv6", "--ipv6 needs --backend netns");
}

#[test]
fn an_unusable_docker_is_named_with_the_fix() {
    let without = |name: &str, value: &str, says: &str| {
        let lab = Lab::new(2);
        let output = Running::start(lab.command("--docker").env(name, value)).output();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        assert!(!lab.output().exists());
    };
    without("PATH", "/nowhere", "docker is not found in PATH: apt-get install docker.io");
    if has_docker("what is said of one that does not run") {
        without("DOCKER_HOST", "unix:///nowhere/docker.sock", "systemctl start docker");
        without("DOCKER_HOST", "ssh://nobody@nowhere.invalid", "use one of this machine");
    }
}

/// An image need not be built if another program writes it, as in Nix.
#[test]
fn an_image_can_come_from_a_program_that_writes_it() {
    let Some(_docker) = docker_for_one() else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = "apollo-network-benchmark-test:streamed";
    let image = folder.path().join("image");
    let built = Command::new(env!("CARGO_BIN_EXE_apollo-bench"))
        .args(["image", "--tag", name, "--output"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let stream_of = |name: &str, program: &Path| format!("{name}={}", program.display());
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let stream = program("stream", &format!("cat {}", image.join("image.tar").display()));
    let lab = Lab::new(2);
    let mut command = lab.command("--docker --timeout 1 --warm-up-seconds 0 --heartbeat-millis 20");
    let (exit, run) = result(command.env("APOLLO_BENCH_IMAGE_STREAM", stream_of(name, &stream)).output().unwrap());
    assert_eq!((exit, &run["totals"]["delivery_ratio"]), (Some(0), &Value::from(1.0)), "{run:#}");
    let manifest: Value = serde_json::from_slice(&fs::read(lab.output().join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["image"]["name"], name);
    docker(&["rmi", name]);

    let broken = program("broken", "exit 3");
    let lab = Lab::new(2);
    let output = lab
        .command("--docker --timeout 1")
        .env("APOLLO_BENCH_IMAGE_STREAM", stream_of("broken:v1", &broken))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("broken writes no image"), "{said}");
}
