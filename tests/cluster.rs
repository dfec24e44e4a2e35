//! Output of `apollo-bench cluster manifests`: valid, unprivileged, consistent, reproducible.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use apollo_network_benchmark::{
    clock::unix_nanos,
    deploy::kubernetes::{RunRecord, names},
    network::peer_id,
    node::NodeConfig,
    scenario::{Measurement, read_toml},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use support::{Running, TOKEN, bench_command, free_ports, get, program, request, skip, wait_for};

/// Versions of Kubernetes whose schemas all objects must fit: the oldest one with all used features, and newer ones.
const VERSIONS: [&str; 4] = ["1.29", "1.31", "1.34", "1.37"];

/// Flags that make the output reproducible.
const FIXED: &str = "--name example --grafana-secret not-secret --image registry.example/bench:v1";

fn manifests(args: &str) -> Output {
    let mut command = bench_command();
    command.args(["cluster", "manifests"]).args(args.split(' ').filter(|word| !word.is_empty()));
    command.output().unwrap()
}

fn printed(args: &str) -> String {
    let output = manifests(&format!("{FIXED} {args}"));
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn objects(args: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&printed(&format!("--format json {args}"))).unwrap();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    list["items"].as_array().unwrap().clone()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is).unwrap_or_else(|| panic!("{kind} {name}"))
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Runs that cover every flag that changes objects.
fn runs() -> Vec<String> {
    let shapes = ["", "--latency 50", "--throughput 10000", "--latency 20 --jitter 5 --loss 0.5 --throughput 8000"];
    let traffic = [
        "--num-nodes 1",
        "--num-nodes 10 --mode explore --broadcaster 0",
        "--mode rr --quic --network-protocol reversed-sqmr --worker-threads 2 --verbosity 5",
        "--mode one --network-protocol sqmr --gossipsub-metrics --tokio-metrics --metric-port 3000 --p2p-port 3001",
    ];
    let places = [
        "",
        "--node-pool-role= --allow-colocation --storage-class fast",
        "--node-pool-label cloud.google.com/gke-nodepool --node-pool-role pool --toleration a=b:NoSchedule --toleration c",
        "--namespace elsewhere --cluster-domain k8s.example --cpu-requests 1 --cpu-limits 1.5 --memory-requests 1G \
         --memory-limits 2Gi",
    ];
    let mut runs = vec![];
    for (at, shape) in shapes.iter().enumerate() {
        for (next, run) in traffic.iter().enumerate() {
            // Each value together with each of the other kinds: a Latin square.
            runs.push(format!("{shape} {run} {}", places[(at + next) % places.len()]));
        }
    }
    runs
}

#[test]
fn every_rule_holds_in_every_run() {
    for run in runs() {
        let objects = objects(&run);
        let namespace = objects[0]["metadata"]["name"].as_str().unwrap();
        assert_eq!(objects[0]["kind"], "Namespace", "the namespace comes first");
        assert_eq!(objects.last().unwrap()["kind"], "Job", "the nodes come last, when all they need is there");
        let mut seen = BTreeSet::new();
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let what = format!("{run}: {} {name}", object["kind"]);
            assert!(names::is_dns_label(name), "{what}");
            assert!(seen.insert((object["kind"].to_string(), name.to_owned())), "{what} twice");
            if object["kind"] != "Namespace" {
                assert_eq!(object["metadata"]["namespace"], namespace, "{what}");
            }
            let labels = strings(&object["metadata"]["labels"]);
            let keys = ["name", "instance", "component", "part-of", "managed-by", "version"];
            assert!(keys.iter().all(|key| labels.contains_key(&format!("app.kubernetes.io/{key}"))), "{what}");
            assert_eq!(labels[names::INSTANCE_LABEL], "example", "{what}");
            assert!(labels.iter().all(|(key, value)| names::is_label_key(key) && names::is_label_value(value)));
            let template = &object["spec"]["template"];
            if template.is_object() {
                pod_rules(&what, &objects, template);
            }
            if object["kind"] == "StatefulSet" {
                let selected = &object["spec"]["selector"]["matchLabels"];
                selects(&what, selected, &template["metadata"]["labels"]);
                let service = find(&objects, "Service", object["spec"]["serviceName"].as_str().unwrap());
                assert_eq!(service["spec"]["clusterIP"], "None", "{what}");
            }
            if object["kind"] == "Service" {
                service_rules(&what, &objects, object);
            }
        }
        let admits = &objects[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        let shaped = run.contains("--latency") || run.contains("--throughput");
        assert_eq!(admits, if shaped { "privileged" } else { "restricted" }, "{run}");
        let with_token =
            objects.iter().filter(|object| object["spec"]["template"]["spec"]["automountServiceAccountToken"] == true);
        assert_eq!(with_token.count(), 0, "{run}");
    }
}

fn selects(what: &str, selector: &Value, labels: &Value) {
    let (selector, labels) = (strings(selector), strings(labels));
    assert!(!selector.is_empty(), "{what}");
    assert!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)), "{what}: {selector:?} {labels:?}");
}

/// Checks that a Service selects pods of one kind, and that each of its ports leads to a port of theirs.
fn service_rules(what: &str, objects: &[Value], service: &Value) {
    let selector = strings(&service["spec"]["selector"]);
    let selected = |object: &&Value| {
        let labels = strings(&object["spec"]["template"]["metadata"]["labels"]);
        !labels.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let targets: Vec<&Value> = objects.iter().filter(selected).collect();
    assert_eq!(targets.len(), 1, "{what}");
    let containers = list(&targets[0]["spec"]["template"]["spec"]["containers"]);
    let ports: Vec<&Value> = containers.iter().flat_map(|container| list(&container["ports"])).collect();
    for port in list(&service["spec"]["ports"]) {
        let target = ports.iter().find(|target| target["name"] == port["targetPort"]);
        let target = target.unwrap_or_else(|| panic!("{what}: {port}"));
        assert_eq!((&target["containerPort"], &target["protocol"]), (&port["port"], &port["protocol"]), "{what}");
    }
}

fn pod_rules(what: &str, objects: &[Value], template: &Value) {
    let pod = &template["spec"];
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_ne!(pod[host], true, "{what}");
    }
    assert!(pod["automountServiceAccountToken"].is_boolean(), "{what}");
    assert_eq!(pod["enableServiceLinks"], false, "{what}");
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true, "{what}");
    assert!(security["runAsUser"].as_i64().unwrap() > 0, "{what}");
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{what}");
    let volumes: BTreeMap<&str, &Value> =
        list(&pod["volumes"]).iter().map(|volume| (volume["name"].as_str().unwrap(), volume)).collect();
    assert!(volumes.values().all(|volume| volume["hostPath"].is_null()), "{what}");
    for volume in volumes.values().filter(|volume| volume["configMap"].is_object()) {
        let data = strings(&find(objects, "ConfigMap", volume["configMap"]["name"].as_str().unwrap())["data"]);
        for item in list(&volume["configMap"]["items"]) {
            assert!(data.contains_key(item["key"].as_str().unwrap()), "{what}: {item}");
        }
    }
    for volume in volumes.values().filter(|volume| volume["emptyDir"].is_object()) {
        assert!(volume["emptyDir"]["sizeLimit"].is_string(), "{what}: {volume}");
    }
    // Claims of the same object.
    let claims: Vec<&str> = objects
        .iter()
        .filter(|object| object["spec"]["template"] == *template)
        .flat_map(|object| list(&object["spec"]["volumeClaimTemplates"]))
        .map(|claim| claim["metadata"]["name"].as_str().unwrap())
        .collect();
    let containers = list(&pod["containers"]).iter().map(|container| (container, false));
    let starters = list(&pod["initContainers"]).iter().map(|container| (container, true));
    for (container, starts) in containers.chain(starters) {
        let what = format!("{what}, {}", container["name"]);
        container_rules(&what, objects, container, starts);
        for mount in list(&container["volumeMounts"]) {
            let name = mount["name"].as_str().unwrap();
            assert!(volumes.contains_key(name) || claims.contains(&name), "{what}: {mount}");
        }
        let ports: Vec<&Value> = list(&container["ports"]).iter().map(|port| &port["name"]).collect();
        let probe = &container["readinessProbe"];
        assert!(starts || ports.contains(&&probe["httpGet"]["port"]), "{what}: {probe}");
        assert!(container["livenessProbe"].is_null() && container["startupProbe"].is_null(), "{what}");
    }
}

fn container_rules(what: &str, objects: &[Value], container: &Value, starts: bool) {
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
    assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
    assert_ne!(security["privileged"], true, "{what}");
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{what}");
    // Only the container that shapes has rights, and only those that it needs.
    let added = &security["capabilities"]["add"];
    assert_eq!(added, &if starts { json!(["NET_ADMIN"]) } else { Value::Null }, "{what}");
    assert_eq!(security["runAsUser"] == 0, starts, "{what}");
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            assert!(container["resources"][kind][resource].is_string(), "{what}: {kind} of {resource}");
        }
    }
    let image = container["image"].as_str().unwrap();
    let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{what}: {image}"));
    assert!(!tag.is_empty() && tag != "latest" && !tag.contains('/'), "{what}: {image}");
    for variable in list(&container["env"]) {
        let key = &variable["valueFrom"]["secretKeyRef"];
        if key.is_object() {
            let secret = find(objects, "Secret", key["name"].as_str().unwrap());
            assert!(strings(&secret["data"]).contains_key(key["key"].as_str().unwrap()), "{what}: {variable}");
        }
    }
    for source in list(&container["envFrom"]) {
        find(objects, "ConfigMap", source["configMapRef"]["name"].as_str().unwrap());
    }
}

/// Configuration in the environment of a node.
fn config(environment: &BTreeMap<String, String>) -> NodeConfig {
    read_toml("APOLLO_CONFIG_TEXT", &environment["APOLLO_CONFIG_TEXT"]).unwrap()
}

/// Environment of node 0, as its container would receive it.
fn environment(objects: &[Value]) -> BTreeMap<String, String> {
    let mut variables = strings(&find(objects, "ConfigMap", "nodes")["data"]);
    let container = &find(objects, "Job", "node")["spec"]["template"]["spec"]["containers"][0];
    let own: Vec<(&str, &str)> = list(&container["env"])
        .iter()
        .filter(|own| own["valueFrom"]["fieldRef"].is_object())
        .map(|own| (own["name"].as_str().unwrap(), own["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap()))
        .collect();
    let index = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    assert_eq!(own, [("APOLLO_ID", index), ("APOLLO_P2P_ADDRESS", "status.podIP")]);
    assert_eq!((&container["command"], &container["args"]), (&json!(["apollo-bench"]), &json!(["node"])));
    for (name, value) in [("APOLLO_ID", "0"), ("APOLLO_P2P_ADDRESS", "127.0.0.1")] {
        assert_eq!(variables.insert(name.into(), value.into()), None);
    }
    variables
}

#[test]
fn the_environment_of_the_nodes_is_the_nodes_own() {
    for run in runs() {
        let objects = objects(&run);
        let variables = environment(&objects);
        let output = bench_command().args(["node", "--check"]).env_clear().envs(&variables).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{run}: {said}");
        let node = config(&variables);
        let record: RunRecord =
            serde_json::from_str(find(&objects, "ConfigMap", "run")["data"]["run.json"].as_str().unwrap()).unwrap();
        assert_eq!(node.run_id, record.run_id);
        assert!(node.controlled && node.run_id > 0);
        let job = &find(&objects, "Job", "node")["spec"];
        let Measurement { warm_up_seconds, window_seconds, drain_seconds, ready_timeout_seconds, .. } =
            record.scenario.measurement;
        let longest = warm_up_seconds + window_seconds.unwrap_or_default() + drain_seconds;
        let least = ready_timeout_seconds + longest + record.retain_seconds;
        assert!(node.lifetime_seconds >= least, "{run}: {} < {least}", node.lifetime_seconds);
        // A pod may start as late as the wait for all nodes permits.
        assert_eq!(job["activeDeadlineSeconds"], record.deadline_seconds);
        assert!(record.deadline_seconds >= node.lifetime_seconds + ready_timeout_seconds);
        assert_eq!(job["ttlSecondsAfterFinished"], record.retain_seconds);
        assert_eq!(
            (&job["completions"], &job["parallelism"]),
            (&json!(node.scenario.nodes.count), &json!(node.scenario.nodes.count))
        );
        assert_eq!((&job["completionMode"], &job["backoffLimitPerIndex"]), (&json!("Indexed"), &json!(0)));
    }
}

#[test]
fn peers_are_known_by_the_names_that_the_service_gives_them() {
    let objects = objects("--num-nodes 3 --namespace bench --quic");
    let service = find(&objects, "Service", "nodes");
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    let pod = &find(&objects, "Job", "node")["spec"]["template"]["spec"];
    assert_eq!((&pod["subdomain"], &pod["hostname"]), (&service["metadata"]["name"], &Value::Null));
    let expected: Vec<String> = (0..3)
        .map(|id| format!("/dns/node-{id}.nodes.bench.svc.cluster.local/udp/10000/quic-v1/p2p/{}", peer_id(id)))
        .collect();
    assert_eq!(environment(&objects)["APOLLO_BOOTSTRAP"], expected.join(","));
}

#[test]
fn a_node_starts_with_the_environment_of_its_container() {
    let ports = free_ports(2);
    let objects = objects(&format!("--num-nodes 1 --metric-port {ports} --p2p-port {}", ports + 1));
    let node =
        Running::start(bench_command().arg("node").env_clear().env("APOLLO_TOKEN", TOKEN).envs(environment(&objects)));
    wait_for("readiness", || get(ports, "/readyz")?.0.starts_with("HTTP/1.1 200").then_some(()));
    let summary: Value = serde_json::from_str(&get(ports, "/summary").unwrap().1).unwrap();
    assert_eq!(summary["configuration"]["controlled"], true);
    assert_eq!(summary["phase"], "connecting", "it waits for its start");
    let tomorrow = unix_nanos() + 24 * 3600 * 1_000_000_000;
    let order = json!({ "start_unix_nanos": tomorrow }).to_string();
    assert!(request(ports, "POST", "/start", &order).unwrap().0.contains(" 202 "));
    node.signal("TERM");
    assert!(node.output().status.success());
}

#[test]
fn links_are_shaped_by_a_container_of_their_own() {
    let pod = |args: &str| find(&objects(args), "Job", "node")["spec"]["template"]["spec"].clone();
    assert_eq!(pod("")["initContainers"], Value::Null);
    let shaped = pod("--latency 50 --jitter 5 --throughput 10000");
    let shape = &shaped["initContainers"][0];
    let args =
        ["shape", "--address=$(POD_IP)", "--egress=latency=50,jitter=5,throughput=10000", "--ingress=throughput=10000"];
    assert_eq!(shape["args"], json!(args));
    assert_eq!(shape["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP");
    assert_eq!(shape["image"], shaped["containers"][0]["image"]);
    assert_eq!(shape["resources"], shaped["containers"][0]["resources"]);
    let only_out = pod("--latency 50");
    assert_eq!(list(&only_out["initContainers"][0]["args"]).len(), 3, "{only_out}");
    // A kubelet's request must not fail because of the configured latency.
    let patience = pod("--latency 30000")["containers"][0]["readinessProbe"]["timeoutSeconds"].as_i64();
    assert!(patience.unwrap() >= 65);
    let told = String::from_utf8(manifests(&format!("{FIXED} --latency 50")).stderr).unwrap();
    assert!(told.contains("root with NET_ADMIN") && told.lines().count() == 1, "{told}");
    assert_eq!(manifests(FIXED).stderr, b"");
}

#[test]
fn nodes_keep_apart_unless_they_are_allowed_to_share() {
    let pod = |args: &str| find(&objects(args), "Job", "node")["spec"]["template"]["spec"].clone();
    let apart = pod("--toleration dedicated=bench:NoSchedule --toleration spot");
    let term = &apart["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(apart["nodeSelector"], json!({ "role": "apollo-network-benchmark" }));
    assert_eq!(
        apart["tolerations"],
        json!([
            { "key": "dedicated", "operator": "Equal", "value": "bench", "effect": "NoSchedule" },
            { "key": "spot", "operator": "Exists" },
        ])
    );
    let shared = pod("--allow-colocation --node-pool-role=");
    assert_eq!((&shared["affinity"], &shared["nodeSelector"]), (&Value::Null, &Value::Null));
    assert_eq!(shared["topologySpreadConstraints"][0]["maxSkew"], 1);
}

#[test]
fn the_record_of_a_run_is_sufficient_to_continue_it() {
    let objects = objects("--num-nodes 4 --mode explore --latency 5 --metric-port 2500");
    let data = &find(&objects, "ConfigMap", "run")["data"];
    let record: RunRecord = serde_json::from_str(data["run.json"].as_str().unwrap()).unwrap();
    assert_eq!((record.name.as_str(), record.namespace.as_str()), ("example", "apollo-bench-example"));
    assert_eq!((record.metric_port, record.workload.num_nodes, record.trials), (2500, 4, 169));
    assert_eq!((record.scenario.measurement.window_seconds, record.scenario.links.default.latency_millis), (None, 5.0));
    let arguments: Value = serde_json::from_str(data["arguments.json"].as_str().unwrap()).unwrap();
    assert_eq!(record.scenario.explore.unwrap().broadcaster, 0, "defaults are in it");
    assert_eq!(arguments["pods"]["cpu_limits"], "7500m");
    assert!(!data.to_string().contains("not-secret"));
}

#[test]
fn prometheus_and_grafana_have_the_same_configuration_as_on_a_local_machine() {
    let objects = objects("");
    let dashboards = &find(&objects, "ConfigMap", "dashboards")["data"];
    let told = &find(&objects, "ConfigMap", "prometheus")["data"];
    for (name, text) in [("overview.json", dashboards), ("nodes.json", dashboards), ("rules.yml", told)] {
        let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)).unwrap();
        assert_eq!(text[name].as_str(), Some(file.as_str()), "{name}");
    }
    let told: Value = serde_json::from_str(told["prometheus.yml"].as_str().unwrap()).unwrap();
    let node = &told["scrape_configs"][0]["static_configs"][1];
    let host = "node-1.nodes.apollo-bench-example.svc.cluster.local:2000";
    assert_eq!(node, &json!({ "targets": [host], "labels": { "run": "example", "node": "1" } }));
    // Prometheus asks the API server nothing.
    assert!(
        objects
            .iter()
            .all(|object| !["Role", "RoleBinding", "ServiceAccount"].contains(&object["kind"].as_str().unwrap()))
    );
    let storage = |name: &str, class: &Value| {
        let claim = &find(&objects, "StatefulSet", name)["spec"]["volumeClaimTemplates"][0]["spec"];
        assert_eq!(&claim["storageClassName"], class);
        claim["resources"]["requests"]["storage"].clone()
    };
    assert_eq!((storage("prometheus", &Value::Null), storage("grafana", &Value::Null)), (json!("16Gi"), json!("8Gi")));
}

#[test]
fn prometheus_takes_its_configuration() {
    let Some(tool) = program("promtool") else { return };
    let objects = objects("--quic");
    let told = &find(&objects, "ConfigMap", "prometheus")["data"];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("prometheus.yml"), told["prometheus.yml"].as_str().unwrap()).unwrap();
    fs::write(folder.path().join("rules.yml"), told["rules.yml"].as_str().unwrap()).unwrap();
    let output =
        Command::new(tool).args(["check", "config"]).arg(folder.path().join("prometheus.yml")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("rules found"),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_same_arguments_give_the_same_bytes_and_secrets_are_secret() {
    assert_eq!(printed("--num-nodes 7"), printed("--num-nodes 7"));
    let random = || {
        let output = manifests("--name example --image bench:v1 --format json");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--grafana-secret makes them the same"));
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        strings(&find(list["items"].as_array().unwrap(), "Secret", "grafana")["data"])
    };
    let (one, other) = (random(), random());
    assert_eq!(one.len(), 2);
    let all: BTreeSet<&String> = one.values().chain(other.values()).collect();
    assert_eq!(all.len(), 4, "password and key differ from each other and from run to run");
    let run_id = |args: &str| config(&environment(&objects(args))).run_id;
    assert_ne!(run_id(""), run_id("--namespace other"));
}

#[test]
fn the_token_of_the_nodes_is_in_a_secret_alone() {
    let objects = objects("");
    let container = &find(&objects, "Job", "node")["spec"]["template"]["spec"]["containers"][0];
    let variable = list(&container["env"]).iter().find(|variable| variable["name"] == "APOLLO_TOKEN").unwrap();
    assert_eq!(variable["valueFrom"]["secretKeyRef"], json!({ "name": "run-token", "key": "token" }));
    let token = strings(&find(&objects, "Secret", "run-token")["data"])["token"].clone();
    let token = String::from_utf8(BASE64_STANDARD.decode(token).unwrap()).unwrap();
    assert!(token.len() >= 32 && token != strings(&find(&objects, "Secret", "grafana")["data"])["secret-key"]);
    for object in objects.iter().filter(|object| object["kind"] != "Secret") {
        assert!(!object.to_string().contains(&token), "{}", object["kind"]);
    }
}

#[test]
fn a_run_without_a_name_is_named_by_the_time() {
    let output = manifests("--image bench:v1 --grafana-secret x --format json");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    let digits = name.strip_prefix("apollo-bench-").unwrap().replace('-', "");
    assert!(digits.len() == 14 && digits.chars().all(|c| c.is_ascii_digit()), "{name}");
}

#[test]
fn the_printed_manifests_equal_the_snapshot() {
    let mut text = printed("--num-nodes 3 --latency 50 --throughput 10000 --toleration dedicated=bench:NoSchedule");
    // The dashboards have a folder of their own, and are long.
    for name in ["overview.json", "nodes.json"] {
        let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(name)).unwrap();
        let block: String = file.lines().map(|line| format!("    {line}\n")).collect();
        assert!(text.contains(&block), "{name} stands there as it is");
        text = text.replace(&block, &format!("    (dashboards/{name})\n"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/cluster.yaml");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, &text).unwrap();
    }
    let file = fs::read_to_string(path).unwrap_or_default();
    assert!(file == text, "run UPDATE_DOCS=1 cargo test --test cluster to write {path}, and read what is new in it");
}

/// A program in the folder that `scripts/test` installs kubernetes-validate into; without it the test is skipped.
fn validator(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes-validate/bin").join(name);
    if !path.is_file() {
        skip("kubernetes-validate is not in target/kubernetes-validate: scripts/test installs it");
        return None;
    }
    Some(path)
}

fn validate(program: &Path, file: &Path) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(VERSIONS.iter().flat_map(|version| ["--kubernetes-version", version]));
    let output = command.arg("--strict").arg(file).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn every_object_fits_the_schemas_of_several_versions_of_kubernetes() {
    let Some(program) = validator("kubernetes-validate") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.yaml");
    let runs = runs();
    // The runs on the diagonal of the rules' runs: each shape, each traffic, and places with and without everything.
    for run in [&runs[0], &runs[5], &runs[10], &runs[15]] {
        fs::write(&file, printed(run)).unwrap();
        let (good, text) = validate(&program, &file);
        assert!(good, "{run}: {text}");
        let passed = text.lines().filter(|line| line.contains(" passed for resource ")).count();
        // A version would only warn about a kind that it does not know.
        assert_eq!(passed, objects(run).len() * VERSIONS.len(), "{run}: {text}");
    }
    let text = printed("");
    let wrong = text.replace("completionMode:", "completionModus:");
    assert_ne!(wrong, text);
    fs::write(&file, wrong).unwrap();
    let (good, text) = validate(&program, &file);
    assert!(!good && text.contains("completionModus"), "a wrong field would be found: {text}");
}

#[test]
fn other_readers_of_yaml_read_the_same_as_json() {
    let Some(python) = validator("python") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.yaml");
    // Values that YAML 1.1 would read as something else.
    for run in ["--name 1e3", "--name 0x1f --toleration on=off", "--name no --namespace yes --storage-class 1.0"] {
        let run = format!("--grafana-secret x --image bench:1.0 {run}");
        fs::write(&file, manifests(&run).stdout).unwrap();
        let read = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
        let output = Command::new(&python).args(["-c", read]).arg(&file).output().unwrap();
        let yaml: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{run}: {}", String::from_utf8_lossy(&output.stderr)));
        let json: Value = serde_json::from_slice(&manifests(&format!("{run} --format json")).stdout).unwrap();
        assert_eq!(yaml, json["items"], "{run}");
    }
}

#[test]
fn bad_arguments_get_one_line_with_the_fix() {
    let image = "--image bench:v1";
    for (args, says) in [
        ("", "give --image NAME:TAG, or --registry"),
        ("--fast-docker", "give --image NAME:TAG, or --registry"),
        ("--image bench", "give a tag that stays"),
        ("--image bench:latest", "give a tag that stays"),
        ("--image Bench:v1", "no name of an image"),
        ("--image bench@sha256:12", "no name of an image"),
        ("--registry a//b", "--registry a//b"),
        (&format!("{image} --registry r.example"), "cannot be used with"),
        (&format!("{image} --grafana-image grafana/grafana"), "give a tag that stays"),
        (&format!("{image} --name Big"), "small letters"),
        (&format!("{image} --name {}", "a".repeat(51)), "at most 50"),
        (&format!("{image} --namespace default"), "a namespace of its own"),
        (&format!("{image} --namespace kube-system"), "a namespace of its own"),
        (&format!("{image} --namespace a.b"), "--namespace a.b"),
        (&format!("{image} --num-nodes 2000"), "the addresses of at most"),
        (&format!("{image} --num-nodes 151 --latency 5"), "at most 150 nodes"),
        (&format!("{image} --num-nodes 0"), "--num-nodes 0"),
        (&format!("{image} --cpu-requests 8000m"), "is more than --cpu-limits 7500m"),
        (&format!("{image} --memory-requests 11Gi"), "is more than --memory-limits 10Gi"),
        (&format!("{image} --cpu-limits 7500"), "such as 7500m"),
        (&format!("{image} --cpu-limits two"), "no amount"),
        (&format!("{image} --memory-limits 10GB"), "no amount"),
        (&format!("{image} --memory-requests 10m"), "at least 64Mi"),
        (&format!("{image} --toleration a=b:Sometimes"), "no effect of a taint"),
        (&format!("{image} --toleration =b"), "no taint"),
        (&format!("{image} --node-pool-label a/b/c"), "--node-pool-label"),
        (&format!("{image} --node-pool-role a/b"), "--node-pool-role"),
        (&format!("{image} --storage-class A"), "--storage-class A"),
        (&format!("{image} --cluster-domain .local"), "--cluster-domain"),
        (&format!("{image} --metric-port 80"), "--metric-port"),
        (&format!("{image} --metric-port 10000"), "are both 10000"),
        (&format!("{image} --p2p-port 9999"), "choose another"),
        (&format!("{image} --mode one --broadcaster 3"), "--broadcaster 3 is outside"),
        (&format!("{image} --jitter 5"), "jitter 5 is above latency 0"),
        (&format!("{image} --gossipsub-mesh-n 2"), "--gossipsub-mesh-n 2"),
        (&format!("{image} --grafana-secret="), "--grafana-secret is empty"),
        (&format!("{image} --mode explore --explore-run-duration-seconds 31000000"), "shorten --timeout"),
    ] {
        let output = manifests(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {text}");
        assert!(text.contains(says) && text.starts_with("error: "), "{args}: {text}");
        assert_eq!((text.lines().count(), output.stdout.len()), (1, 0), "{args}: {text}");
    }
}
