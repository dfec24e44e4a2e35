//! Configuration of Grafana: its settings, its data source, and the folder of the dashboards.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::{dashboard::Dashboard, nodes, overview, panel::DATASOURCE_UID};

/// All dashboards, with the names of their files; the first one is the entry page.
pub fn dashboards() -> Vec<(&'static str, Dashboard)> {
    vec![("overview.json", overview::overview()), ("nodes.json", nodes::nodes())]
}

/// Settings of every Grafana that is started for runs: everyone who reaches it may look, nobody can change anything,
/// and it requests nothing from the internet. A version ignores names that it does not know.
const SETTINGS: [(&str, &[(&str, &str)]); 10] = [
    (
        "analytics",
        &[
            ("reporting_enabled", "false"),
            ("check_for_updates", "false"),
            ("check_for_plugin_updates", "false"),
            ("feedback_links_enabled", "false"),
        ],
    ),
    ("auth", &[("disable_login_form", "true")]),
    // Nobody logs in, neither on the page nor with a password in a request.
    ("auth.basic", &[("enabled", "false")]),
    ("auth.anonymous", &[("enabled", "true"), ("org_role", "Viewer")]),
    ("dashboards", &[("min_refresh_interval", "1s")]),
    ("log", &[("mode", "console"), ("level", "warn")]),
    ("news", &[("news_feed_enabled", "false")]),
    // From version 11.3 on, Grafana would download plugins when it starts.
    (
        "plugins",
        &[
            ("plugin_admin_enabled", "false"),
            ("preinstall_disabled", "true"),
            ("preinstall_auto_update", "false"),
            ("public_key_retrieval_disabled", "true"),
        ],
    ),
    ("security", &[("disable_gravatar", "true"), ("disable_initial_admin_creation", "true")]),
    ("snapshots", &[("external_enabled", "false")]),
];

/// Settings as an object of sections, for programs that write the file themselves.
pub fn settings() -> Value {
    let value = |text: &str| text.parse().map_or_else(|_| Value::from(text), Value::Bool);
    let section = |(name, values): &(&str, &[(&str, &str)])| {
        let values = values.iter().map(|(key, text)| ((*key).to_owned(), value(text)));
        ((*name).to_owned(), Value::Object(values.collect()))
    };
    Value::Object(SETTINGS.iter().map(section).collect())
}

/// Settings as a file `grafana.ini`, for a Grafana that listens on `address`. The file contains no paths, because its
/// format takes `;` and `#` in them for comments; the environment passes them (`GF_PATHS_DATA` and so on).
pub fn ini(address: &str, port: u16) -> String {
    let mut text = String::new();
    let port = port.to_string();
    let server: [(&str, &str); 3] = [("http_addr", address), ("http_port", &port), ("domain", address)];
    let sections = SETTINGS.iter().copied().chain([("server", server.as_slice())]);
    for (section, settings) in sections {
        // Writing to a String can't fail.
        let _ = writeln!(text, "[{section}]");
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = {value}");
        }
    }
    text
}

/// A provisioning file.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisioning {
    api_version: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasources: Vec<Datasource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    providers: Vec<Provider>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Datasource {
    name: &'static str,
    uid: &'static str,
    r#type: &'static str,
    access: &'static str,
    url: String,
    is_default: bool,
    editable: bool,
    json_data: DatasourceOptions,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DatasourceOptions {
    time_interval: String,
    http_method: &'static str,
    prometheus_type: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: &'static str,
    r#type: &'static str,
    disable_deletion: bool,
    allow_ui_updates: bool,
    options: ProviderOptions,
}

#[derive(Clone, Debug, Serialize)]
struct ProviderOptions {
    path: String,
}

/// Address of Prometheus and scrape interval: `provisioning/datasources/apollo.yml`.
pub fn datasource(prometheus: &str, scrape_seconds: u64) -> Provisioning {
    let datasource = Datasource {
        name: "Prometheus",
        uid: DATASOURCE_UID,
        r#type: "prometheus",
        // Grafana queries Prometheus, not the browser.
        access: "proxy",
        url: literal(prometheus),
        is_default: true,
        editable: false,
        json_data: DatasourceOptions {
            time_interval: format!("{scrape_seconds}s"),
            http_method: "POST",
            prometheus_type: "Prometheus",
        },
    };
    Provisioning { api_version: 1, datasources: vec![datasource], providers: vec![] }
}

/// Folder of the dashboards: `provisioning/dashboards/apollo.yml`.
pub fn provider(folder: &str) -> Provisioning {
    let provider = Provider {
        name: "apollo",
        r#type: "file",
        disable_deletion: true,
        allow_ui_updates: false,
        options: ProviderOptions { path: literal(folder) },
    };
    Provisioning { api_version: 1, datasources: vec![], providers: vec![provider] }
}

/// Escapes a text, because Grafana replaces `$NAME` by variables of the environment.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
