//! Stories of `apollo-bench cluster` on clusters as they are: few rights, faults of machines, an API server that is away.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the log of the test shows the conversation")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

#[path = "support/playing_api_server/mod.rs"]
mod playing_api_server;
mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use playing_api_server::{Fate, PlayingApiServer};
use serde_json::{Value, json};
use support::{Running, wait_for};

/// A run of two nodes and two seconds, in the namespace `apollo-bench-one`.
const RUN: &str = "--name one --num-nodes 2 --image registry.example/bench:v1 --timeout 2 --warm-up-seconds 1 \
                   --heartbeat-millis 20 --ready-timeout-seconds 30";

const NAMESPACE: &str = "apollo-bench-one";

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Running::start(command).output();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
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
    (err.lines().last().unwrap().to_owned(), err)
}

fn collect(server: &PlayingApiServer, args: &str) {
    let output = server.folder.path().join("result");
    let (code, out, err) = run(server.command(&format!("collect {args} --output")).arg(output));
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn manifests_that_kubectl_applied_are_started_by_their_name() {
    let server = PlayingApiServer::start();
    let (list, _) = done(&server, &format!("manifests {RUN} --format json"));
    let list: Value = serde_json::from_str(&list).unwrap();
    for object in list["items"].as_array().unwrap() {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        server.cluster.store.put(namespace, &plural, object["metadata"]["name"].as_str().unwrap(), object.clone());
    }
    let (line, _) = fails(&server, &format!("start {} --latency 5", RUN), 2);
    assert!(line.contains("was created with other arguments: give --name one alone"), "{line}");
    let (_, told) = done(&server, "start --name one");
    assert!(told.contains("run one has begun with 2 nodes"), "{told}");
    let (line, _) = fails(&server, "start --name one", 2);
    assert!(line.contains("has a run already that has begun"), "{line}");
    collect(&server, "");
}

#[test]
fn a_start_that_was_killed_is_continued_once_its_claim_has_ended() {
    let server = PlayingApiServer::start();
    server.cluster.faults.set("node-1", Fate::Creating);
    let running = Running::start(&mut server.command(&format!("start {RUN}")));
    wait_for("the pods", || (server.pods(NAMESPACE).len() == 4).then_some(()));
    running.signal("KILL");
    running.output();
    server.cluster.faults.clear("node-1");
    let (line, _) = fails(&server, "start --name one", 2);
    assert!(line.contains("another program is starting the run"), "{line}");
    wait_for("the end of the claim", || (run(&mut server.command(&format!("start {RUN}"))).0 == Some(0)).then_some(()));
    collect(&server, "");
}

#[test]
fn nodes_whose_start_was_not_recorded_are_collected() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN}"));
    let forget = |map: &mut Value| drop(map["data"].as_object_mut().unwrap().remove("start.json"));
    server.cluster.store.change(NAMESPACE, "configmaps", "run", forget).unwrap();
    collect(&server, "");
}

#[test]
fn the_printed_rights_in_one_namespace_are_enough() {
    let server = PlayingApiServer::start();
    server.make_namespace("team");
    let (role, told) = done(&server, "manifests --rbac --namespace team --format json");
    assert!(told.contains("kubectl create rolebinding"), "{told}");
    let role: Value = serde_json::from_str(&role).unwrap();
    *server.cluster.faults.role.lock().unwrap() = Some(role["items"][0].clone());
    done(&server, &format!("start {RUN} --namespace team"));
    done(&server, "status --namespace team");
    collect(&server, "--namespace team");
    done(&server, "stop --namespace team");
    assert_eq!(server.everything(), ["namespaces/team"]);
    let (line, _) = fails(&server, "list", 2);
    assert!(line.contains("cannot list resource \"configmaps\"") && line.ends_with("give --namespace"), "{line}");
}

#[test]
fn a_cluster_without_a_default_storage_class_is_found_before_the_start() {
    let server = PlayingApiServer::start();
    let (line, _) = fails(&server, &format!("start {RUN} --storage-class fast"), 2);
    assert!(
        line.contains(
            "--storage-class fast: the cluster has no such storage class: give --storage-class with one of standard"
        ),
        "{line}"
    );
    server.cluster.store.remove("", "storageclasses", "standard");
    let (line, _) = fails(&server, &format!("start {RUN}"), 2);
    assert!(line.contains("no default storage class") && line.contains("--no-monitoring"), "{line}");
    let (_, told) = done(&server, &format!("start {RUN} --no-monitoring"));
    assert!(!told.contains("port-forward"), "{told}");
    assert_eq!(server.pods(NAMESPACE).len(), 2);
    collect(&server, "");
    let (line, _) = fails(&server, "port-forward", 2);
    assert!(line.contains("--no-monitoring"), "{line}");
}

#[test]
fn a_wrong_cluster_domain_is_reported_for_each_peer() {
    let server = PlayingApiServer::start();
    let short = RUN.replace("ready-timeout-seconds 30", "ready-timeout-seconds 12");
    let (line, _) = fails(&server, &format!("start {short} --cluster-domain wrong.invalid"), 1);
    assert!(line.contains("is not ready after"), "{line}");
    assert!(line.contains("; node 1 at /dns/node-1.nodes.apollo-bench-one.svc.wrong.invalid/"), "{line}");
}

#[test]
fn a_dry_run_tries_pods_and_prints_the_warnings_of_the_server() {
    let server = PlayingApiServer::start();
    server.make_namespace("default");
    let security = |mode: &str| {
        let label = format!("pod-security.kubernetes.io/{mode}");
        let change = |namespace: &mut Value| namespace["metadata"]["labels"] = json!({ label: "restricted" });
        server.cluster.store.change("", "namespaces", "default", change).unwrap();
    };
    security("warn");
    let (_, told) = done(&server, &format!("start {RUN} --latency 5 --dry-run"));
    assert!(told.contains("warning of the server: would violate PodSecurity"), "{told}");
    assert!(told.contains("as root with NET_ADMIN"), "{told}");
    security("enforce");
    let (line, _) = fails(&server, &format!("start {RUN} --latency 5 --dry-run"), 1);
    assert!(line.contains("a pod of Job/node: forbidden: ") && line.contains("violates PodSecurity"), "{line}");
    "team policy: no".clone_into(&mut server.cluster.faults.policy_warning.lock().unwrap());
    let (_, told) = done(&server, &format!("start {RUN} --dry-run"));
    assert_eq!(told.matches("warning of the server: team policy: no\n").count(), 1, "{told}");
    assert_eq!(server.everything(), ["namespaces/default"]);
}

#[test]
fn events_of_pods_and_claims_and_a_missing_pool_are_named() {
    let short = RUN.replace("ready-timeout-seconds 30", "ready-timeout-seconds 6");
    let sandbox = Fate::Event("Pod", "node-1-x1yz", "FailedCreatePodSandBox", "plugin calico failed");
    let claim = Fate::Event("PersistentVolumeClaim", "data-prometheus-0", "ProvisioningFailed", "no disk is left");
    for (label, fate, says) in [
        ("node-1", sandbox, "node-1 (FailedCreatePodSandBox: plugin calico failed)"),
        ("prometheus", claim, "prometheus-0 (its claim data-prometheus-0: ProvisioningFailed: no disk is left)"),
    ] {
        let server = PlayingApiServer::start();
        server.cluster.faults.set(label, fate);
        let (line, _) = fails(&server, &format!("start {short}"), 1);
        assert!(line.contains(says), "{line}");
    }
    let server = PlayingApiServer::start();
    server.cluster.store.remove("", "nodes", "machine-1");
    server.cluster.faults.set("node-1", Fate::Unschedulable);
    let (line, told) = fails(&server, &format!("start {short}"), 1);
    assert!(told.contains("note: no machine has the label role=apollo-network-benchmark"), "{told}");
    assert!(line.contains("--node-pool-role ''") && line.contains("--node-pool-label KEY"), "{line}");
}

#[test]
fn forbidden_ports_end_the_wait_in_the_words_of_the_server() {
    let server = PlayingApiServer::start();
    "pods/portforward".clone_into(&mut server.cluster.faults.forbidden.lock().unwrap());
    let since = Instant::now();
    let (line, _) = fails(&server, &format!("start {}", RUN.replace("seconds 30", "seconds 300")), 1);
    assert!(line.contains("User \"tester\" cannot get resource \"pods/portforward\""), "{line}");
    assert!(since.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_lost_machine_is_named_with_its_pod() {
    let server = PlayingApiServer::start();
    "node-1-x1yz".clone_into(&mut server.cluster.faults.unreachable.lock().unwrap());
    let (line, _) = fails(&server, &format!("start {}", RUN.replace("seconds 30", "seconds 12")), 1);
    assert!(line.contains("node 1 (pod node-1-x1yz on machine-1") && !line.contains("127.0.0.1:"), "{line}");
}

#[test]
fn a_failing_credential_plugin_and_a_list_of_kubeconfigs_are_read_as_by_kubectl() {
    let server = PlayingApiServer::start();
    let folder = server.folder.path();
    let list = std::env::join_paths([folder.join("missing"), server.kubeconfig()]).unwrap();
    let (code, _, err) = run(server.command("list").env("KUBECONFIG", list));
    assert_eq!((code, err.as_str()), (Some(0), "there are no runs\n"));
    let plugin = folder.join("login");
    fs::write(&plugin, "#!/bin/sh\necho trace >&2\necho 'the session has expired' >&2\nexit 3\n").unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(server.kubeconfig()).unwrap()).unwrap();
    config["users"][0]["user"] = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "Never",
        "env": [{ "name": "HIDDEN", "value": "topsecret" }],
    } });
    fs::write(server.kubeconfig(), config.to_string()).unwrap();
    let (line, _) = fails(&server, "list", 1);
    assert!(
        line.starts_with("error: no credentials for this context: the session has expired: the program "),
        "{line}"
    );
    assert!(line.contains("/login of the kubeconfig") && !line.contains("topsecret") && line.len() < 400, "{line}");
}

#[test]
fn a_removal_survives_a_server_that_is_away() {
    let server = PlayingApiServer::start();
    done(&server, &format!("start {RUN} --no-monitoring"));
    server.cluster.faults.held.store(true, Ordering::Relaxed);
    let stopping = Running::start(&mut server.command("stop"));
    let deleted = || Some(!server.object("", "namespaces", NAMESPACE)["metadata"]["deletionTimestamp"].is_null());
    wait_for("the deletion of the namespace", || deleted().filter(|deleted| *deleted));
    server.cluster.faults.go_away(Duration::from_secs(3));
    server.cluster.faults.held.store(false, Ordering::Relaxed);
    let output = stopping.output();
    let told = String::from_utf8(output.stderr).unwrap();
    println!("{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("etcdserver: leader changed (500); trying again"), "{told}");
    assert_eq!(server.everything(), Vec::<String>::new());
}

#[test]
fn a_second_interrupt_ends_the_removal_and_prints_the_command_that_finishes_it() {
    let server = PlayingApiServer::start();
    server.cluster.faults.set("node-1", Fate::Creating);
    server.cluster.faults.held.store(true, Ordering::Relaxed);
    let running = Running::start(&mut server.command(&format!("start {RUN}")));
    wait_for("the pods", || (server.pods(NAMESPACE).len() == 4).then_some(()));
    running.signal("INT");
    let deleted = || Some(!server.object("", "namespaces", NAMESPACE)["metadata"]["deletionTimestamp"].is_null());
    wait_for("the deletion of the namespace", || deleted().filter(|deleted| *deleted));
    running.signal("INT");
    let output = running.output();
    let told = String::from_utf8(output.stderr).unwrap();
    println!("{told}");
    assert_eq!(output.status.code(), Some(1), "{told}");
    let finish = "interrupted again; some objects may remain: 'apollo-bench cluster stop --namespace apollo-bench-one'";
    assert!(told.contains(finish), "{told}");
    server.cluster.faults.held.store(false, Ordering::Relaxed);
}

#[test]
fn a_queue_admits_the_nodes_and_pull_secrets_are_given_to_all_pods() {
    let server = PlayingApiServer::start();
    let starting = Running::start(&mut server.command(&format!("start {RUN} --queue batch --image-pull-secret login")));
    let job = server.object(NAMESPACE, "jobs", "node");
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "batch");
    wait_for("the other pods", || (server.pods(NAMESPACE).len() == 2).then_some(()));
    server.cluster.store.change(NAMESPACE, "jobs", "node", |job| job["spec"]["suspend"] = json!(false)).unwrap();
    let output = starting.output();
    let told = String::from_utf8(output.stderr).unwrap();
    println!("{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
    let pods = server.pods(NAMESPACE);
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| pod["spec"]["imagePullSecrets"] == json!([{ "name": "login" }])));
}

#[test]
fn a_cluster_that_refuses_the_default_selector_gets_pods_without_it() {
    let server = PlayingApiServer::start();
    server.make_namespace("default");
    server.cluster.faults.selector_is_refused.store(true, Ordering::Relaxed);
    let (_, told) = done(&server, &format!("start {RUN} --safe-to-evict"));
    assert!(
        told.contains("the cluster refuses the default selector of machines, so the nodes use any machine"),
        "{told}"
    );
    let template = &server.object(NAMESPACE, "jobs", "node")["spec"]["template"];
    assert!(template["spec"]["nodeSelector"].is_null(), "{template}");
    assert_eq!(template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"], "true");
}

#[test]
fn a_restart_of_prometheus_is_no_failure_of_the_run() {
    let server = PlayingApiServer::start();
    server.cluster.faults.set("node-1", Fate::Creating);
    server.cluster.faults.set("prometheus", Fate::Evicted);
    let starting = Running::start(&mut server.command(&format!("start {RUN}")));
    let evicted = |pod: &Value| pod["metadata"]["name"] == "prometheus-0" && pod["status"]["phase"] == "Failed";
    wait_for("the eviction", || server.pods(NAMESPACE).iter().any(evicted).then_some(()));
    // The program sees the eviction before the new pod.
    std::thread::sleep(Duration::from_secs(1));
    server.cluster.faults.clear("prometheus");
    server.cluster.store.remove(NAMESPACE, "pods", "prometheus-0");
    server.cluster.faults.clear("node-1");
    let output = starting.output();
    let told = String::from_utf8(output.stderr).unwrap();
    println!("{told}");
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("prometheus-0: Evicted: "), "{told}");
    let (table, _) = done(&server, "status");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}
