//! What a run looks like while it goes: Grafana's dashboards, Prometheus' rules and what it scrapes.
//!
//! All of it is made here, from the names in the table of metrics. The files in `dashboards/` are written from
//! [`files`], and a test keeps the two the same; runs on this machine and in clusters make their own from the same source.
//! The scrape configuration gives every series two labels: `run`, the name of the run, and `node`, the node's number.

mod dashboard;
mod grafana;
mod nodes;
mod overview;
mod panel;
mod prometheus;
mod queries;
mod rules;

pub use dashboard::Dashboard;
pub use grafana::{Provisioning, dashboards, datasource, ini, provider, settings};
pub use panel::{Panel, Query};
pub use prometheus::{Configuration, Host, Pods, Scraping, Targets, configuration};
pub use rules::{Rule, RuleGroup, Rules, rules};

use serde::Serialize;

/// Name that the dashboards know Prometheus by, whatever its address.
pub const DATASOURCE_UID: &str = "apollo-prometheus";

/// Path of the dashboard to open first, on Grafana's address.
pub const OVERVIEW_PATH: &str = "/d/apollo-overview";

/// Name of the scrape job, which is in the label `job` of every series.
pub const JOB: &str = "apollo";

/// Seconds between scrapes for which `dashboards/rules.yml` is made.
pub const SCRAPE_SECONDS: u64 = 5;

/// The files in `dashboards/`: names and contents.
pub fn files() -> Vec<(&'static str, String)> {
    let mut files: Vec<_> = dashboards().into_iter().map(|(name, dashboard)| (name, json(&dashboard))).collect();
    files.push(("rules.yml", json(&rules(SCRAPE_SECONDS))));
    files.push(("grafana.json", json(&settings())));
    files
}

/// A value as JSON to be read by people too. It is YAML as well, for programs that read that.
pub fn json(value: &impl Serialize) -> String {
    // None of the types here can fail: their maps have text as keys.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
