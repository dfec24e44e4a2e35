//! Docker starts the pod template of a run's Job: the containers of a cluster run, and are collected.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::{fs, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use support::{Running, bench_command, free_ports, has_docker, result};

const NODES: u16 = 5;

fn docker(args: &[String]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Text of a Secret, as a pod gets it.
fn secret_text(secret: &Value, key: &str) -> String {
    match secret["stringData"][key].as_str() {
        Some(text) => text.to_owned(),
        None => String::from_utf8(BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap(),
    }
}

/// Objects in Docker, removed when this is dropped.
struct Made {
    name: String,
}

impl Made {
    fn image(&self) -> String {
        format!("apollo-bench-test-{}:v1", self.name)
    }

    fn node(&self, id: u16) -> String {
        format!("apollo-bench-test-{}-{id}", self.name)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let quietly = |args: &str| drop(Command::new("docker").args(args.split_whitespace()).output());
        for id in 0..NODES {
            quietly(&format!("rm --force {}", self.node(id)));
        }
        quietly(&format!("network rm {}", self.node(NODES)));
        quietly(&format!("image rm --force {}", self.image()));
    }
}

/// Bytes of a quantity of memory such as `256Mi`.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    let (digits, power) = [("Ki", 10), ("Mi", 20), ("Gi", 30)]
        .into_iter()
        .find_map(|(unit, power)| Some((text.strip_suffix(unit)?, power)))
        .unwrap_or((text, 0));
    digits.parse::<u64>().unwrap() << power
}

/// Flags of `docker run` for the pod template. Panics about a part that has no flag.
fn flags(pod: &Value, config: &Value, secret: &Value, id: u16) -> Vec<String> {
    let container = &pod["containers"][0];
    let (of_pod, own) = (&pod["securityContext"], &container["securityContext"]);
    let mut flags = vec![format!("--user={}:{}", of_pod["runAsUser"], of_pod["runAsGroup"])];
    assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "which is Docker's default too");
    assert!(!own["privileged"].as_bool().unwrap_or(false));
    if own["readOnlyRootFilesystem"] == true {
        flags.push("--read-only".into());
    }
    if own["allowPrivilegeEscalation"] == false {
        flags.push("--security-opt=no-new-privileges".into());
    }
    for right in own["capabilities"]["drop"].as_array().unwrap() {
        flags.push(format!("--cap-drop={}", right.as_str().unwrap()));
    }
    assert!(own["capabilities"]["add"].is_null());
    for mount in container["volumeMounts"].as_array().unwrap() {
        let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let size = bytes(&volume["emptyDir"]["sizeLimit"]);
        let (path, group) = (mount["mountPath"].as_str().unwrap(), &of_pod["fsGroup"]);
        flags.push(format!("--tmpfs={path}:rw,mode=1770,size={size},gid={group}"));
    }
    flags.push(format!("--memory={}", bytes(&container["resources"]["limits"]["memory"])));
    for (name, value) in config["data"].as_object().unwrap() {
        flags.push(format!("--env={name}={}", value.as_str().unwrap()));
    }
    for variable in container["env"].as_array().unwrap() {
        let from = &variable["valueFrom"];
        if let Some(key) = from["secretKeyRef"]["key"].as_str() {
            flags.push(format!("--env={}={}", variable["name"].as_str().unwrap(), secret_text(secret, key)));
            continue;
        }
        let path = from["fieldRef"]["fieldPath"].as_str().unwrap();
        let value = match path {
            "metadata.annotations['batch.kubernetes.io/job-completion-index']" => id.to_string(),
            // Docker gives a container its address at the start, so the node listens on any address.
            "status.podIP" => "0.0.0.0".to_owned(),
            other => panic!("{other}"),
        };
        flags.push(format!("--env={}={value}", variable["name"].as_str().unwrap()));
    }
    flags
}

#[test]
fn the_containers_that_a_job_would_start_make_a_run_that_is_collected() {
    if !has_docker("the pod template of a Job") {
        return;
    }
    let made = Made { name: std::process::id().to_string() };
    let folder = tempfile::tempdir().unwrap();
    let image = bench_command()
        .args(["image", "--load", "--tag", &made.image(), "--output"])
        .arg(folder.path().join("image"))
        .output()
        .unwrap();
    assert!(image.status.success(), "{}", String::from_utf8_lossy(&image.stderr));

    let args = format!(
        "cluster manifests --format json --name docker --num-nodes {NODES} --image {} --timeout 3 --warm-up-seconds 1 \
         --heartbeat-millis 50 --cpu-requests 100m --cpu-limits 1 --memory-requests 64Mi --memory-limits 256Mi",
        made.image()
    );
    let printed = bench_command().args(words(&args)).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let list: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let find = |kind: &str, name: &str| {
        let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        list["items"].as_array().unwrap().iter().find(is).unwrap().clone()
    };
    let (job, config, secret) = (find("Job", "node"), find("ConfigMap", "nodes"), find("Secret", "run-token"));
    let reference = &job["spec"]["template"]["spec"]["containers"][0]["env"];
    assert!(reference.to_string().contains(r#""name":"run-token""#), "{reference}");
    let token = secret_text(&secret, "token");
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(job["spec"]["completions"], NODES);
    assert_eq!(container["image"], made.image().as_str());
    assert_eq!(container["envFrom"][0]["configMapRef"]["name"], "nodes");

    let network = made.node(NODES);
    docker(&words(&format!("network create {network}")));
    let (port, inside) = (free_ports(NODES), &container["ports"][0]["containerPort"]);
    for id in 0..NODES {
        let host = format!("{}-{id}", job["metadata"]["name"].as_str().unwrap());
        let domain = format!("{}.apollo-bench-docker.svc.cluster.local", pod["subdomain"].as_str().unwrap());
        let mut run = words(&format!(
            "run --detach --name {} --network {network} --network-alias {host}.{domain} --hostname {host} \
             --publish 127.0.0.1:{}:{inside} --entrypoint {}",
            made.node(id),
            port + id,
            container["command"][0].as_str().unwrap()
        ));
        run.extend(flags(pod, &config, &secret, id));
        run.push(made.image());
        run.extend(container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()));
        docker(&run);
    }

    let output = folder.path().join("run");
    let mut remote = bench_command();
    remote.env("APOLLO_TOKEN", token);
    remote.args(words("remote --json --timeout 3 --warm-up-seconds 1"));
    remote.args((0..NODES).map(|id| format!("--node=127.0.0.1:{}", port + id))).arg("--output").arg(&output);
    let (exit, run) = result(Running::start(&mut remote).output());
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run["verdict"]["valid"], true, "{run:#}");
    support::assert_all_delivered(&run);
    assert_eq!(run["totals"]["intended"], u64::from(NODES) * 60);
    for id in 0..NODES {
        let summary = fs::read(output.join(format!("nodes/node-{id}.json"))).unwrap();
        let summary: Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["node"], id);
    }
    // After the collection the nodes were ended, with the exit code that completes a Job.
    for id in 0..NODES {
        assert_eq!(docker(&words(&format!("wait {}", made.node(id)))).trim(), "0");
    }
}
