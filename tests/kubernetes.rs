//! `apollo-bench cluster` with a server that simulates the API of a cluster, whose pods are real nodes on the loopback.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "for whoever reads the log of the test")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/playing_api_server/mod.rs"]
mod playing_api_server;
mod support;

use std::{
    fs,
    process::{Command, Output},
    sync::atomic::Ordering,
};

use playing_api_server::{Fate, PlayingApiServer};
use serde_json::{Value, json};
use support::{Running, get, wait_for};

/// A run of two nodes and two seconds, in the namespace `apollo-bench-one`.
const RUN: &str = "--name one --num-nodes 2 --image registry.example/bench:v1 --timeout 2 --warm-up-seconds 1 \
                   --heartbeat-millis 20 --ready-timeout-seconds 30";

const NAMESPACE: &str = "apollo-bench-one";

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Running::start(command).output();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    // The whole conversation, for `--nocapture`.
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    println!("$ apollo-bench {}\n{err}{out}", words.join(" "));
    (status.code(), out, err)
}

/// Runs a command that must succeed, and returns its standard output and standard error.
fn done(server: &PlayingApiServer, args: &str) -> (String, String) {
    let (code, out, err) = run(&mut server.command(args));
    assert_eq!(code, Some(0), "{args}\n{out}{err}");
    (out, err)
}

/// Runs a command that must fail with this exit code, and returns its last line, and all lines.
fn fails(server: &PlayingApiServer, args: &str, with: i32) -> (String, String) {
    let (code, out, err) = run(&mut server.command(args));
    assert_eq!(code, Some(with), "{args}\n{out}{err}");
    let last = err.lines().last().unwrap().to_owned();
    assert!(last.starts_with("error: "), "{err}");
    (last, err)
}

#[test]
fn a_run_is_started_watched_collected_and_removed() {
    let server = PlayingApiServer::start();
    let (_, told) = done(&server, &format!("start {RUN}"));
    assert!(told.contains("run one has begun with 2 nodes: measured from "), "{told}");
    assert!(told.contains("apollo-bench cluster collect --namespace apollo-bench-one"), "{told}");
    let map = server.object(NAMESPACE, "configmaps", "run");
    assert!(map["data"]["start.json"].as_str().unwrap().contains("start_unix_nanos"));
    assert_eq!(map["metadata"]["managedFields"][0]["manager"], "apollo-bench");

    let (table, _) = done(&server, "status");
    assert!(table.contains("node-1") && table.contains("grafana-0"), "{table}");
    let (status, _) = done(&server, "status --json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["pods"].as_array().unwrap().len(), 4, "{status:#}");
    let phase = status["phase"].as_str().unwrap();
    assert!(["starting", "warm-up", "measuring", "draining", "collectable"].contains(&phase), "{phase}");

    let output = server.folder.path().join("result");
    let (code, result, err) = run(server.command("collect --json --output").arg(&output));
    assert_eq!(code, Some(0), "{result}{err}");
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["verdict"]["valid"], true, "{result:#}");
    support::assert_all_delivered(&result);
    assert_eq!(result["totals"]["intended"], 2 * 100);
    let read = |name: &str| fs::read_to_string(output.join(name)).unwrap();
    let manifest: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    assert_eq!(manifest["backend"], "kubernetes");
    assert_eq!(manifest["cluster"]["server_version"], "v1.33.1-playing");
    assert_eq!(manifest["cluster"]["pods"].as_array().unwrap().len(), 4, "{manifest:#}");
    assert_eq!(read("logs/grafana-0.log"), "grafana is up\n");
    assert!(output.join("nodes/node-1.json").is_file());
    // The nodes were ended.
    wait_for("the nodes' end", || {
        server.pods(NAMESPACE).iter().filter(|pod| pod["status"]["phase"] == "Succeeded").count().eq(&2).then_some(())
    });
    assert!(done(&server, "status").0.contains("ended: its nodes have ended"));

    let (out, told) = done(&server, "stop");
    assert!(out.contains("none of its objects remains"), "{out}");
    for thing in
        ["Job/node", "StatefulSet/grafana", "PersistentVolumeClaim/data-grafana-0", "Namespace/apollo-bench-one"]
    {
        assert!(told.contains(&format!("removed {thing}\n")), "{thing}: {told}");
    }
    assert!(told.ends_with("removed ConfigMap/run\nremoved Namespace/apollo-bench-one\n"), "{told}");
    assert_eq!(server.everything(), Vec::<String>::new());
    let (out, _) = done(&server, &format!("stop --namespace {NAMESPACE}"));
    assert!(out.contains("no object of a run exists in the namespace apollo-bench-one"), "{out}");
}

#[test]
fn two_runs_exist_side_by_side_and_are_distinguished() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN}"));
    done(&server, &format!("start {}", RUN.replace("one", "two")));
    let (list, _) = done(&server, "list");
    assert!(list.contains("apollo-bench-one") && list.contains("apollo-bench-two"), "{list}");
    let (line, _) = fails(&server, "status", 2);
    assert_eq!(line, "error: several runs exist: give --namespace (apollo-bench-one, apollo-bench-two)");
    done(&server, &format!("stop --namespace {NAMESPACE}"));
    let (status, _) = done(&server, "status");
    assert!(status.contains("in namespace apollo-bench-two") && !status.contains("Failed"), "{status}");
    let (line, _) = fails(&server, &format!("start {}", RUN.replace("one", "two")), 2);
    assert!(line.contains("the namespace apollo-bench-two has a run already"), "{line}");
}

#[test]
fn a_namespace_of_somebody_else_stays_as_it_was() {
    let server = PlayingApiServer::start();
    server.make_namespace("team");
    done(&server, &format!("start {RUN} --namespace team"));
    done(&server, "stop --namespace team");
    assert_eq!(server.everything(), ["namespaces/team"]);
    assert!(server.object("", "namespaces", "team")["metadata"]["labels"].is_null());
}

#[test]
fn foreign_objects_with_the_same_instance_in_the_namespace_stay() {
    let server = PlayingApiServer::start();
    server.make_namespace("team");
    let labels = json!({ "app.kubernetes.io/instance": "team", "app.kubernetes.io/managed-by": "Helm" });
    for (plural, kind) in [("pods", "Pod"), ("persistentvolumeclaims", "PersistentVolumeClaim")] {
        let object = json!({
            "apiVersion": "v1", "kind": kind, "metadata": { "labels": labels }, "status": { "phase": "Succeeded" },
        });
        server.cluster.store.put("team", plural, "theirs", object);
    }
    let theirs = ["namespaces/team", "persistentvolumeclaims/theirs", "pods/theirs"];
    let everything = || {
        let mut all = server.everything();
        all.sort();
        all
    };
    // Only its name identifies the run.
    done(&server, "stop --namespace team");
    assert_eq!(everything(), theirs);
    server.cluster.faults.refuse("Job/node", 403, "Forbidden", "no", json!({}));
    fails(&server, &format!("start {} --namespace team", RUN.replace("one", "team")), 1);
    assert_eq!(everything(), theirs);
}

#[test]
fn of_two_concurrent_starts_the_second_is_refused_and_removes_nothing_of_the_first() {
    let server = PlayingApiServer::start();
    server.make_namespace("team");
    let labels = json!({
        "app.kubernetes.io/name": "apollo-network-benchmark", "app.kubernetes.io/instance": "one",
        "app.kubernetes.io/managed-by": "apollo-bench",
    });
    let first = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "labels": labels } });
    server.cluster.store.put("team", "configmaps", "nodes", first);
    // The object does not exist when the second start looks, and exists when it writes.
    server.cluster.faults.refuse("ConfigMap/run", 409, "AlreadyExists", "configmaps \"run\" already exists", json!({}));
    let (line, _) = fails(&server, &format!("start {RUN} --namespace team"), 2);
    assert!(line.contains("the namespace team has a run already"), "{line}");
    assert_eq!(server.everything(), ["namespaces/team", "configmaps/nodes"]);
}

#[test]
fn a_run_whose_record_can_not_be_read_is_listed_and_can_be_removed() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN}"));
    let spoil = |map: &mut Value| map["data"]["run.json"] = json!("{}");
    server.cluster.store.change(NAMESPACE, "configmaps", "run", spoil).unwrap();
    let (list, _) = done(&server, "list");
    assert!(list.contains(NAMESPACE) && list.contains("can't be read"), "{list}");
    done(&server, &format!("stop --namespace {NAMESPACE}"));
    assert_eq!(server.everything(), Vec::<String>::new());
}

#[test]
fn nodes_that_could_not_be_reached_for_a_while_stay_and_are_collected_later() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {}", RUN.replace("ready-timeout-seconds 30", "ready-timeout-seconds 15")));
    wait_for("the end of the window", || {
        let status: Value = serde_json::from_str(&done(&server, "status --json").0).unwrap();
        ["draining", "collectable"].contains(&status["phase"].as_str()?).then_some(())
    });
    "node-1-x1yz".clone_into(&mut server.cluster.faults.unreachable.lock().unwrap());
    let (code, _, err) = run(server.command("collect --json --output").arg(server.folder.path().join("first")));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("the nodes are alive and keep running"), "{err}");
    assert!(server.pods(NAMESPACE).iter().all(|pod| pod["status"]["phase"] == "Running"));
    server.cluster.faults.unreachable.lock().unwrap().clear();
    let (code, result, err) = run(server.command("collect --json --output").arg(server.folder.path().join("second")));
    assert_eq!(code, Some(0), "{result}{err}");
}

#[test]
fn a_dry_run_asks_the_server_and_leaves_nothing() {
    let server = PlayingApiServer::start();
    server.make_namespace("default");
    let (_, told) = done(&server, &format!("start {RUN} --dry-run"));
    assert!(told.contains("objects, and a pod of each of 3 kinds; nothing was made"), "{told}");
    assert_eq!(server.everything(), ["namespaces/default"]);
}

#[test]
fn a_refused_object_is_named_in_the_servers_words_and_earlier_objects_are_removed() {
    for (code, reason, message, details, says) in [
        (
            403,
            "Forbidden",
            "jobs.batch \"node\" is forbidden: exceeded quota: team",
            json!({}),
            "Job/node: forbidden: jobs.batch \"node\" is forbidden: exceeded quota: team",
        ),
        (
            422,
            "Invalid",
            "Job.batch \"node\" is invalid: spec.template: Invalid value: field is immutable",
            json!({}),
            "Job/node: Job.batch \"node\" is invalid: spec.template: Invalid value: field is immutable (422)",
        ),
        (
            409,
            "Conflict",
            "Apply failed with 1 conflict",
            json!({ "causes": [{
            "reason": "FieldManagerConflict", "field": ".spec.parallelism", "message": "conflict with \"argocd\" using batch/v1"
        }] }),
            "Job/node: some of its fields belong to another manager: .spec.parallelism (conflict with \"argocd\" using batch/v1)",
        ),
    ] {
        let server = PlayingApiServer::start();
        server.cluster.faults.refuse("Job/node", code, reason, message, details);
        let (line, told) = fails(&server, &format!("start {RUN}"), 1);
        assert_eq!(line, format!("error: {says}"));
        assert!(told.contains("removed Namespace/apollo-bench-one\n"), "{told}");
        assert_eq!(server.everything(), Vec::<String>::new());
    }
}

#[test]
fn links_that_are_not_as_asked_for_are_measured_from_outside_and_refuse_the_start() {
    let server = PlayingApiServer::start();
    // Nothing shapes the loopback, so the measurement of the links finds no latency.
    let (line, _) = fails(&server, &format!("start {RUN} --latency 400"), 1);
    assert!(line.contains("its latency was") && line.contains("not 400 ms"), "{line}");
    assert_eq!(server.everything(), Vec::<String>::new());
}

#[test]
fn objects_to_be_kept_on_failure_are_kept() {
    let server = PlayingApiServer::start();
    server.cluster.faults.refuse("Job/node", 403, "Forbidden", "no", json!({}));
    let (_, told) = fails(&server, &format!("start {RUN} --keep-on-failure"), 1);
    assert!(told.contains("'apollo-bench cluster stop --namespace apollo-bench-one' removes it"), "{told}");
    assert!(server.everything().contains(&"statefulsets/grafana".to_owned()));
    done(&server, &format!("stop --namespace {NAMESPACE}"));
    assert_eq!(server.everything(), Vec::<String>::new());
}

#[test]
fn the_trouble_of_pods_is_named_with_its_reason_and_no_object_is_left() {
    let short = RUN.replace("ready-timeout-seconds 30", "ready-timeout-seconds 4");
    let out_of_memory = "node-1 on machine-1: OOMKilled: container node needed more memory than its limit: give a higher --memory-limits";
    for (fate, says) in [
        (Fate::Unschedulable, "node-1 (Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.)"),
        (
            Fate::NoImage,
            "node-1 on machine-1: ImagePullBackOff: Back-off pulling image \"registry.example/bench:v1\": not found",
        ),
        (Fate::OutOfMemory, out_of_memory),
        (Fate::Evicted, "node-1 on machine-1: Evicted: The node was low on resource: memory."),
        (Fate::NoConfiguration, "node-1 on machine-1: CreateContainerConfigError: configmap \"nodes\" not found"),
        (
            Fate::InitFails,
            "node-1 on machine-1: Failed: init container shape ended with exit code 2; its last lines: tc: RTNETLINK",
        ),
        (Fate::Creating, "waiting for: node-1 (node: ContainerCreating)"),
        (Fate::Forbidden, "Job/node gets no pods: Error creating: pods \"node-0-\" is forbidden: exceeded quota: team"),
    ] {
        let server = PlayingApiServer::start();
        server.cluster.faults.set("node-1", fate);
        let (line, told) = fails(&server, &format!("start {short}"), 1);
        assert!(line.contains(says), "{line}");
        assert!(told.contains("removed Job/node\n") && told.contains("none of its objects remains"), "{told}");
        assert_eq!(server.everything(), Vec::<String>::new());
    }
}

#[test]
fn ctrl_c_before_the_start_leaves_nothing() {
    let server = PlayingApiServer::start();
    server.cluster.faults.set("node-1", Fate::Creating);
    let running = Running::start(&mut server.command(&format!("start {RUN}")));
    server.object(NAMESPACE, "jobs", "node");
    wait_for("the pods", || (server.pods(NAMESPACE).len() == 4).then_some(()));
    running.signal("INT");
    let output = running.output();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("none of its objects remains") && told.ends_with("error: interrupted before the start\n"),
        "{told}"
    );
    assert_eq!(server.everything(), Vec::<String>::new());
}

#[test]
fn a_watch_that_is_cut_or_too_old_continues() {
    let server = PlayingApiServer::start();
    let faults = &server.cluster.faults;
    faults.cut_watch_after.store(1, Ordering::Relaxed);
    faults.gone_events.store(1, Ordering::Relaxed);
    faults.gone_statuses.store(1, Ordering::Relaxed);
    done(&server, &format!("start {RUN}"));
    assert!(faults.watches.load(Ordering::Relaxed) > 2);
}

#[test]
fn logs_that_are_cut_in_the_middle_of_a_line_arrive_completely_and_once() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN}"));
    let lines: Vec<String> = (0..60).map(|line| format!("line {line} of the pod")).collect();
    for node in 0..2 {
        server.cluster.faults.set(&format!("node-{node}"), Fate::Says(lines.clone()));
        let pod = format!("node-{node}-x{node}yz");
        server.cluster.kubelet.end(NAMESPACE, &pod);
    }
    wait_for("the pods' end", || {
        server.pods(NAMESPACE).iter().filter(|pod| pod["status"]["phase"] == "Succeeded").count().eq(&2).then_some(())
    });
    server.cluster.faults.cut_log_after.store(13, Ordering::Relaxed);
    for args in ["logs --component node", "logs --component node --no-follow"] {
        let (out, told) = done(&server, args);
        assert_eq!(told, "");
        for node in 0..2 {
            let prefix = format!("node-{node}       | ");
            let got: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
            assert_eq!(got, lines, "{args}\n{out}");
        }
    }
    assert!(server.cluster.faults.logs.load(Ordering::Relaxed) > 8);
}

#[test]
fn the_logs_end_where_no_pod_has_come_to_its_node() {
    let server = PlayingApiServer::start();
    for node in ["node-0", "node-1"] {
        server.cluster.faults.set(node, Fate::InitFails);
    }
    fails(&server, &format!("start {RUN} --keep-on-failure"), 1);
    wait_for("the pods' end", || {
        server.pods(NAMESPACE).iter().filter(|pod| pod["status"]["phase"] == "Failed").count().eq(&2).then_some(())
    });
    done(&server, "logs --component node");
}

#[test]
fn ports_stay_open_through_the_restart_of_a_pod_and_refusals_of_the_server() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN}"));
    let port = support::free_ports(2);
    let ports = format!("port-forward --grafana-port {port} --prometheus-port {}", port + 1);
    let forwarding = Running::start(&mut server.command(&ports));
    let answers = |port: u16| get(port, "/").map(|(_, body)| body);
    wait_for("Grafana", || (answers(port)? == "grafana").then_some(()));
    wait_for("Prometheus", || (answers(port + 1)? == "prometheus").then_some(()));
    server.cluster.faults.refuse_forwards.store(2, Ordering::Relaxed);
    wait_for("Grafana behind refusals", || (answers(port)? == "grafana").then_some(()));
    // Another pod of the same name, on another port of its machine.
    server.cluster.kubelet.end(NAMESPACE, "grafana-0");
    server.cluster.store.remove(NAMESPACE, "pods", "grafana-0");
    wait_for("the new pod of Grafana", || (answers(port)? == "grafana").then_some(()));
    forwarding.signal("INT");
    let output = forwarding.output();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("grafana: broken: ") && told.contains("grafana: back\n"), "{told}");
}

#[test]
fn a_run_that_has_lost_a_node_is_collected_as_invalid_with_the_reason_and_all_logs() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {}", RUN.replace("timeout 2", "timeout 4")));
    server.cluster.faults.set("node-1", Fate::OutOfMemory);
    wait_for("its death", || server.pods(NAMESPACE).iter().any(|pod| pod["status"]["phase"] == "Failed").then_some(()));
    server.cluster.kubelet.end(NAMESPACE, "node-1-x1yz");
    let output = server.folder.path().join("result");
    let (code, result, err) = run(server.command("collect --json --output").arg(&output));
    assert_eq!(code, Some(1), "{result}{err}");
    let result: Value = serde_json::from_str(&result).unwrap();
    let reasons = result["verdict"]["reasons"].to_string();
    assert!(
        reasons.contains("node 1 has ended on machine-1: OOMKilled: container node needed more memory"),
        "{reasons}"
    );
    assert!(output.join("summary.json").is_file() && output.join("nodes/node-0.json").is_file());
    done(&server, "stop");
}

#[test]
fn a_namespace_that_is_held_by_finalizers_is_named_and_stopping_may_be_repeated() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN}"));
    server.cluster.faults.held.store(true, Ordering::Relaxed);
    let (line, _) = fails(&server, "stop --timeout-seconds 2", 1);
    assert!(
        line.contains(
            "Namespace/apollo-bench-one is still being removed: Some content in the namespace has finalizers"
        ),
        "{line}"
    );
    server.cluster.faults.held.store(false, Ordering::Relaxed);
    done(&server, "stop");
    assert_eq!(server.everything(), Vec::<String>::new());
    assert_eq!(done(&server, "stop").0, "no object of a run exists in context playing\n");
}

#[test]
fn an_unusable_cluster_is_reported_in_one_line_with_the_fix() {
    let says = |command: &mut Command, with: i32, words: &str| {
        let (code, out, err) = run(command);
        assert_eq!((code, err.lines().count()), (Some(with), 1), "{out}{err}");
        assert!(err.starts_with("error: ") && err.contains(words), "{err}");
    };
    let server = PlayingApiServer::start();
    says(
        &mut playing_api_server::bare_command("list"),
        2,
        "no kubeconfig exists at /nowhere/.kube/config: give --kubeconfig",
    );
    says(&mut server.command("list --context third"), 2, "has no context third: it has playing, other");
    says(&mut server.command("status"), 2, "no run exists in context playing: 'apollo-bench cluster start' starts one");
    server.cluster.faults.unauthorized.store(true, Ordering::Relaxed);
    says(&mut server.command("list"), 1, "refuses the credentials of this context (401: Unauthorized): log in again");
    server.write_kubeconfig("http://127.0.0.1:1");
    says(&mut server.command("list"), 1, "no answer from http://127.0.0.1:1: ");
    server.write_kubeconfig(&format!("https://127.0.0.1:{}", server.port));
    says(&mut server.command("list"), 1, &format!("no answer from https://127.0.0.1:{}", server.port));
    fs::write(server.kubeconfig(), "clusters: [").unwrap();
    says(&mut server.command("list"), 2, "the kubeconfig: ");
}

/// A folder that contains only these programs, as a PATH; none if one is missing.
fn path_of(programs: &[&str]) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for program in programs {
        let mut places =
            std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|place| place.join(program));
        let Some(found) = places.find(|file| file.is_file()) else {
            support::skip(&format!("{program} is not installed"));
            return None;
        };
        std::os::unix::fs::symlink(found, folder.path().join(program)).unwrap();
    }
    Some(folder)
}

#[test]
fn the_image_of_this_machine_is_pushed_and_run_by_its_digest() {
    let Some(registry_path) = path_of(&["docker-registry"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = support::free_ports(1);
    let config = folder.path().join("registry.yml");
    let storage = folder.path().join("storage");
    let text = json!({
        "version": 0.1, "storage": { "filesystem": { "rootdirectory": storage } }, "http": { "addr": format!("127.0.0.1:{port}") },
        "log": { "level": "error" },
    });
    fs::write(&config, text.to_string()).unwrap();
    let mut command = Command::new(registry_path.path().join("docker-registry"));
    let _registry = Running::start(command.arg("serve").arg(&config));
    wait_for("the registry", || get(port, "/v2/"));
    for pusher in ["skopeo", "docker"] {
        if pusher == "docker" && !support::has_docker("a push by docker") {
            return;
        }
        let Some(path) = path_of(&["ip", "tc", pusher]) else { return };
        let server = PlayingApiServer::start();
        let args = RUN.replace("--image registry.example/bench:v1", &format!("--registry 127.0.0.1:{port}/{pusher}"));
        let (code, out, err) = run(server.command(&format!("start {args}")).env("PATH", path.path()));
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(err.contains(&format!("with {pusher}\n")), "{err}");
        let job = server.object(NAMESPACE, "jobs", "node");
        let image = job["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        let (name, digest) = image.split_once('@').unwrap();
        assert!(name.starts_with(&format!("127.0.0.1:{port}/{pusher}/apollo-network-benchmark:")), "{image}");
        let repository = storage.join("docker/registry/v2/repositories").join(pusher).join("apollo-network-benchmark");
        let manifest = repository.join("_manifests/revisions").join(digest.replace(':', "/")).join("link");
        assert!(manifest.is_file(), "{}", manifest.display());
        if pusher == "docker" {
            let _ = Command::new("docker").args(["image", "rm", "--force", name]).output();
        }
    }
}

#[test]
fn a_server_with_an_unknown_certificate_is_not_trusted() {
    let Some(path) = path_of(&["openssl"]) else { return };
    let (server, port) = (PlayingApiServer::start(), support::free_ports(1));
    let folder = server.folder.path();
    let make = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1";
    let openssl = || Command::new(path.path().join("openssl"));
    assert!(openssl().args(make.split(' ')).current_dir(folder).output().unwrap().status.success());
    let serve = format!("s_server -accept {port} -cert cert.pem -key key.pem -www");
    let _server = Running::start(openssl().args(serve.split(' ')).current_dir(folder));
    wait_for("the server", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    server.write_kubeconfig(&format!("https://127.0.0.1:{port}"));
    let (line, _) = fails(&server, "list", 1);
    assert!(line.contains(&format!("the certificate of https://127.0.0.1:{port} is not trusted: ")), "{line}");
}
