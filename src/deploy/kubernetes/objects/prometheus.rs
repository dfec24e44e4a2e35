//! Prometheus, which scrapes the nodes by their names in DNS: so it asks the API server nothing, and needs no rights.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{
    parts::{Objects, Port, SCRAPE_SECONDS, config_map, metadata, service},
    pod::{DATA, container, files, mount, pod_spec, ready_at, resources, stateful_set},
};
use crate::{
    dashboards::{Host, Scraping, configuration, json, rules},
    deploy::kubernetes::{
        names::{Component, PROMETHEUS, PROMETHEUS_HEADLESS, PROMETHEUS_PORT, node_host},
        plan::ClusterPlan,
    },
};

/// User of Prometheus: nobody, as in its image.
const USER: i64 = 65_534;

const CONFIGURATION: &str = "prometheus.yml";
const RULES: &str = "rules.yml";
/// Volume and folder of these files.
const FILES: &str = "configuration";
const FOLDER: &str = "/etc/apollo";

/// Size of the volume, and the permitted size of the data: smaller, because the data being written comes on top.
const STORAGE: &str = "16Gi";
const STORED: &str = "14GB";

const REQUESTS: [&str; 2] = ["500m", "1Gi"];
const LIMITS: [&str; 2] = ["2", "4Gi"];

pub(super) fn add(plan: &ClusterPlan, objects: &mut Objects) -> Result<(), serde_json::Error> {
    let component = Component::Prometheus;
    let record = &plan.record;
    let host = |node: u64| {
        let name = node_host(node, &record.namespace, &plan.pods.cluster_domain);
        Host { node, address: format!("{name}:{}", record.metric_port) }
    };
    let targets = (0..record.workload.num_nodes).map(host).collect();
    let scraping = Scraping { run: &record.name, seconds: SCRAPE_SECONDS, rules: RULES, targets };
    let settings =
        [(CONFIGURATION.to_owned(), json(&configuration(&scraping))), (RULES.to_owned(), json(&rules(SCRAPE_SECONDS)))];
    objects.add(&config_map(plan, PROMETHEUS, component, settings))?;

    let ports = [Port::tcp("http", PROMETHEUS_PORT)];
    objects.add(&service(plan, PROMETHEUS_HEADLESS, component, true, &ports))?;
    objects.add(&service(plan, PROMETHEUS, component, false, &ports))?;
    let places = (PROMETHEUS_HEADLESS, STORAGE);
    objects.add(&stateful_set(plan, metadata(plan, PROMETHEUS, component), component, places, pod(plan, &ports)))
}

fn pod(plan: &ClusterPlan, ports: &[Port]) -> PodSpec {
    let args = [
        format!("--config.file={FOLDER}/{CONFIGURATION}"),
        "--storage.tsdb.path=/prometheus".to_owned(),
        format!("--storage.tsdb.retention.size={STORED}"),
        format!("--web.listen-address=:{PROMETHEUS_PORT}"),
    ];
    let image = &plan.images.prometheus_image;
    let mut container = Container {
        args: Some(args.into()),
        readiness_probe: Some(ready_at("/-/ready", "http", 5)),
        ..container(PROMETHEUS, image, resources(REQUESTS, LIMITS), ports)
    };
    container
        .volume_mounts
        .get_or_insert_default()
        .extend([mount(FILES, FOLDER, true), mount(DATA, "/prometheus", false)]);
    let mut pod = pod_spec(plan, USER, vec![container]);
    pod.volumes.get_or_insert_default().push(files(
        FILES,
        PROMETHEUS,
        &[(CONFIGURATION, CONFIGURATION), (RULES, RULES)],
    ));
    pod
}
