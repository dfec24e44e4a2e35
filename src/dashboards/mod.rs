//! Monitoring of a run: dashboards for Grafana, and rules and scrape configuration for Prometheus.
//!
//! Everything is generated here from the names in the table of metrics. The files in `dashboards/` are written from
//! [`files`], and a test compares them; runs on this machine and in clusters generate their own files from the same
//! source. The scrape configuration gives every series of a node two labels: `run`, the name of the run, and `node`, the
//! node's number. Series of the runner have the label `run` alone.

mod dashboard;
mod grafana;
mod nodes;
mod overview;
mod panel;
mod panel_json;
mod prometheus;
mod queries;
mod rules;

pub use dashboard::Dashboard;
pub use grafana::{Provisioning, dashboards, datasource, ini, provider, settings};
pub use panel::{DATASOURCE_UID, Panel, Query};
pub use prometheus::{Configuration, Host, JOB, RUNNER_JOB, Scraping, configuration};
pub use rules::{Rule, RuleGroup, Rules, rules};

use serde::Serialize;

/// Path of the entry dashboard, on Grafana's address.
pub const OVERVIEW_PATH: &str = "/d/apollo-overview";

/// Scrape interval of `dashboards/rules.yml`, in seconds.
pub const SCRAPE_SECONDS: u64 = 5;

/// The files in `dashboards/`: names and contents.
pub fn files() -> Vec<(&'static str, String)> {
    let mut files: Vec<_> = dashboards().into_iter().map(|(name, dashboard)| (name, json(&dashboard))).collect();
    files.push(("rules.yml", json(&rules(SCRAPE_SECONDS))));
    files.push(("grafana.json", json(&settings())));
    files
}

/// A value as JSON that people can read too. JSON is also YAML, for programs that read YAML.
pub fn json(value: &impl Serialize) -> String {
    // The types here can't fail: the keys of their maps are text.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
