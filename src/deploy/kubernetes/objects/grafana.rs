//! Grafana, with Prometheus and the dashboards in it from the start.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Container, EnvVar, EnvVarSource, PodSpec, Secret, SecretKeySelector},
};

use super::{
    parts::{Objects, Port, SCRAPE_SECONDS, config_map, metadata, service},
    pod::{DATA, container, files, mount, pod_spec, ready_at, resources, stateful_set},
};
use crate::{
    dashboards::{dashboards, datasource, ini, json, provider},
    deploy::kubernetes::{
        names::{
            Component, DASHBOARDS_CONFIG_MAP, GRAFANA, GRAFANA_HEADLESS, GRAFANA_PORT, PROMETHEUS, PROMETHEUS_PORT,
        },
        plan::ClusterPlan,
    },
};

/// User of Grafana in its image.
const USER: i64 = 472;

/// Folders, and the volumes that are mounted there.
const FOLDER: &str = "/etc/apollo";
const FILES: &str = "configuration";
const DASHBOARDS: &str = "/etc/apollo-dashboards";
const DASHBOARDS_VOLUME: &str = "dashboards";
const KEPT: &str = "/var/lib/grafana";

const STORAGE: &str = "8Gi";

const REQUESTS: [&str; 2] = ["100m", "256Mi"];
const LIMITS: [&str; 2] = ["1", "1Gi"];

/// Keys of the ConfigMap, and their places in the folder. Grafana complains about missing folders, so two of them have
/// a file that provisions nothing.
const PLACES: [(&str, &str); 5] = [
    ("grafana.ini", "grafana.ini"),
    ("datasource.yml", "provisioning/datasources/apollo.yml"),
    ("dashboards.yml", "provisioning/dashboards/apollo.yml"),
    ("nothing.yml", "provisioning/plugins/nothing.yml"),
    ("nothing.yml", "provisioning/alerting/nothing.yml"),
];

/// Keys of the Secret, and the corresponding settings.
const SECRETS: [(&str, &str); 2] =
    [("admin-password", "GF_SECURITY_ADMIN_PASSWORD"), ("secret-key", "GF_SECURITY_SECRET_KEY")];

pub(super) fn add(plan: &ClusterPlan, objects: &mut Objects) -> Result<(), serde_json::Error> {
    let component = Component::Grafana;
    let source = datasource(&format!("http://{PROMETHEUS}:{PROMETHEUS_PORT}"), SCRAPE_SECONDS);
    let settings = [
        ("grafana.ini", ini("0.0.0.0", GRAFANA_PORT)),
        ("datasource.yml", json(&source)),
        ("dashboards.yml", json(&provider(DASHBOARDS))),
        ("nothing.yml", json(&BTreeMap::from([("apiVersion", 1)]))),
    ];
    let settings = settings.map(|(key, text)| (key.to_owned(), text));
    objects.add(&config_map(plan, GRAFANA, component, settings))?;
    let shown = dashboards().into_iter().map(|(name, dashboard)| (name.to_owned(), json(&dashboard)));
    objects.add(&config_map(plan, DASHBOARDS_CONFIG_MAP, component, shown))?;
    let secrets = SECRETS.map(|(key, _)| (key.to_owned(), ByteString(plan.derived_secret(key).into_bytes())));
    let secret = Secret {
        metadata: metadata(plan, GRAFANA, component),
        data: Some(secrets.into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    objects.add(&secret)?;

    let ports = [Port::tcp("http", GRAFANA_PORT)];
    objects.add(&service(plan, GRAFANA_HEADLESS, component, true, &ports))?;
    objects.add(&service(plan, GRAFANA, component, false, &ports))?;
    let places = (GRAFANA_HEADLESS, STORAGE);
    let metadata = metadata(plan, GRAFANA, component);
    objects.add(&stateful_set(plan, metadata, component, places, pod(plan, &ports)))
}

fn pod(plan: &ClusterPlan, ports: &[Port]) -> PodSpec {
    let settings = [
        ("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", format!("{DASHBOARDS}/overview.json")),
        ("GF_PATHS_CONFIG", format!("{FOLDER}/grafana.ini")),
        ("GF_PATHS_DATA", KEPT.to_owned()),
        ("GF_PATHS_LOGS", format!("{KEPT}/log")),
        ("GF_PATHS_PLUGINS", format!("{KEPT}/plugins")),
        ("GF_PATHS_PROVISIONING", format!("{FOLDER}/provisioning")),
        // Users reach Grafana through a port of their own machine.
        ("GF_SERVER_DOMAIN", "localhost".to_owned()),
    ];
    let settings = settings.map(|(name, value)| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() });
    let secrets = SECRETS.map(|(key, name)| {
        let key = SecretKeySelector { name: GRAFANA.into(), key: key.into(), ..SecretKeySelector::default() };
        let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
        EnvVar { name: name.into(), value_from: Some(source), ..EnvVar::default() }
    });
    let mut container = Container {
        env: Some(settings.into_iter().chain(secrets).collect()),
        readiness_probe: Some(ready_at("/api/health", "http", 5)),
        ..container(GRAFANA, &plan.images.grafana_image, resources(REQUESTS, LIMITS), ports)
    };
    container.volume_mounts.get_or_insert_default().extend([
        mount(FILES, FOLDER, true),
        mount(DASHBOARDS_VOLUME, DASHBOARDS, true),
        mount(DATA, KEPT, false),
    ]);
    let mut pod = pod_spec(plan, USER, vec![container]);
    let names: Vec<&str> = dashboards().iter().map(|(name, _)| *name).collect();
    let shown: Vec<(&str, &str)> = names.into_iter().map(|name| (name, name)).collect();
    pod.volumes
        .get_or_insert_default()
        .extend([files(FILES, GRAFANA, &PLACES), files(DASHBOARDS_VOLUME, DASHBOARDS_CONFIG_MAP, &shown)]);
    pod
}
