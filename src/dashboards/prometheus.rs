//! Scrape configuration of Prometheus: the nodes at their known addresses, which in a cluster are names.

use serde::Serialize;

/// Name of the scrape job, the value of the label `job` of every series.
pub const JOB: &str = "apollo";

/// Maximum size of a node's answer: even with all metrics of libp2p, an answer is far below it.
const BODY_LIMIT: &str = "32MB";

/// Targets and interval of scraping.
#[derive(Clone, Debug)]
pub struct Scraping<'a> {
    /// Name of the run, the label `run` of every series.
    pub run: &'a str,
    /// Scrape interval, in seconds.
    pub seconds: u64,
    /// Path of the file of rules, relative to the folder of the configuration.
    pub rules: &'a str,
    /// Nodes to scrape.
    pub targets: Vec<Host>,
}

/// A node at a known address.
#[derive(Clone, Debug)]
pub struct Host {
    /// Number of the node, the label `node`.
    pub node: u64,
    /// Host and port of its metrics, as Prometheus reaches them.
    pub address: String,
}

/// Configuration of Prometheus.
#[derive(Clone, Debug, Serialize)]
pub struct Configuration {
    global: Global,
    rule_files: Vec<String>,
    scrape_configs: Vec<ScrapeConfig>,
}

#[derive(Clone, Debug, Serialize)]
struct Global {
    scrape_interval: String,
    scrape_timeout: String,
    evaluation_interval: String,
}

#[derive(Clone, Debug, Serialize)]
struct ScrapeConfig {
    job_name: &'static str,
    body_size_limit: &'static str,
    static_configs: Vec<StaticConfig>,
}

#[derive(Clone, Debug, Serialize)]
struct StaticConfig {
    targets: Vec<String>,
    labels: TargetLabels,
}

#[derive(Clone, Debug, Serialize)]
struct TargetLabels {
    run: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

/// Name of the scrape job of the runner, whose series have no label `node`.
pub const RUNNER_JOB: &str = "apollo-runner";

impl Configuration {
    /// Adds the runner's own endpoint, at a host and port.
    pub fn with_runner(mut self, run: &str, address: String) -> Self {
        let labels = TargetLabels { run: run.to_owned(), node: None };
        self.scrape_configs.push(ScrapeConfig {
            job_name: RUNNER_JOB,
            body_size_limit: BODY_LIMIT,
            static_configs: vec![StaticConfig { targets: vec![address], labels }],
        });
        self
    }

    /// Configuration that scrapes and computes nothing, for stored data.
    pub fn of_stored_data(seconds: u64) -> Self {
        let interval = format!("{}s", seconds.max(1));
        let global = Global {
            scrape_interval: interval.clone(),
            scrape_timeout: interval.clone(),
            evaluation_interval: interval,
        };
        Self { global, rule_files: vec![], scrape_configs: vec![] }
    }
}

/// Configuration of Prometheus for a run.
pub fn configuration(scraping: &Scraping<'_>) -> Configuration {
    let hosts = scraping.targets.iter().map(|host| StaticConfig {
        targets: vec![host.address.clone()],
        labels: TargetLabels { run: scraping.run.to_owned(), node: Some(host.node.to_string()) },
    });
    let scrape = ScrapeConfig { job_name: JOB, body_size_limit: BODY_LIMIT, static_configs: hosts.collect() };
    Configuration {
        rule_files: vec![scraping.rules.to_owned()],
        scrape_configs: vec![scrape],
        ..Configuration::of_stored_data(scraping.seconds)
    }
}
