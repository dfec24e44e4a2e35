//! Prometheus, which finds the nodes' pods itself.

use k8s_openapi::api::{
    core::v1::{Container, PodSpec, ServiceAccount},
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
};

use super::{
    parts::{Objects, Port, SCRAPE_SECONDS, config_map, metadata, service},
    pod::{DATA, container, files, mount, pod_spec, ready_at, resources, stateful_set},
};
use crate::{
    dashboards::{Pods, Scraping, Targets, configuration, json, rules},
    deploy::kubernetes::{
        names::{Component, PROMETHEUS, PROMETHEUS_HEADLESS, PROMETHEUS_PORT, selector_text},
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
    let metadata = || metadata(plan, PROMETHEUS, component);
    let account = ServiceAccount {
        metadata: metadata(),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    objects.add(&account)?;
    // Rights to list the pods and to watch for new ones.
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["pods".into()]),
        verbs: ["get", "list", "watch"].map(String::from).into(),
        ..PolicyRule::default()
    };
    objects.add(&Role { metadata: metadata(), rules: Some(vec![rule]) })?;
    let binding = RoleBinding {
        metadata: metadata(),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            name: PROMETHEUS.into(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: PROMETHEUS.into(),
            namespace: Some(plan.record.namespace.clone()),
            ..Subject::default()
        }]),
    };
    objects.add(&binding)?;

    let selector = selector_text(&plan.record.name, Component::Node);
    let pods = Pods { namespace: &plan.record.namespace, selector: &selector, port: plan.record.metric_port };
    let scraping =
        Scraping { run: &plan.record.name, seconds: SCRAPE_SECONDS, rules: RULES, targets: Targets::Pods(pods) };
    let settings =
        [(CONFIGURATION.to_owned(), json(&configuration(&scraping))), (RULES.to_owned(), json(&rules(SCRAPE_SECONDS)))];
    objects.add(&config_map(plan, PROMETHEUS, component, settings))?;

    let ports = [Port::tcp("http", PROMETHEUS_PORT)];
    objects.add(&service(plan, PROMETHEUS_HEADLESS, component, true, &ports))?;
    objects.add(&service(plan, PROMETHEUS, component, false, &ports))?;
    let places = (PROMETHEUS_HEADLESS, STORAGE);
    objects.add(&stateful_set(plan, metadata(), component, places, pod(plan, &ports)))
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
    pod.service_account_name = Some(PROMETHEUS.into());
    // Only this pod calls the API server.
    pod.automount_service_account_token = Some(true);
    pod
}
