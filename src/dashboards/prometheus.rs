//! Scrape configuration of Prometheus: one function for nodes at known addresses and for pods of a cluster.

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
    /// Targets of scraping.
    pub targets: Targets<'a>,
}

/// Places of the nodes.
#[derive(Clone, Debug)]
pub enum Targets<'a> {
    /// Nodes at known addresses: processes and containers.
    Hosts(Vec<Host>),
    /// Nodes in a Kubernetes cluster.
    Pods(Pods<'a>),
}

/// A node at a known address.
#[derive(Clone, Debug)]
pub struct Host {
    /// Number of the node, the label `node`.
    pub node: u64,
    /// Host and port of its metrics, as Prometheus reaches them.
    pub address: String,
}

/// Pods of an indexed job. Prometheus must have the right to get, list and watch the pods of the namespace.
#[derive(Clone, Debug)]
pub struct Pods<'a> {
    /// Namespace of the pods.
    pub namespace: &'a str,
    /// Selector of the pods, as in `kubectl get pods -l`.
    pub selector: &'a str,
    /// Port of the metrics; the container must declare it.
    pub port: u16,
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

#[derive(Clone, Debug, Default, Serialize)]
struct ScrapeConfig {
    job_name: &'static str,
    body_size_limit: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    static_configs: Vec<StaticConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_sd_configs: Vec<KubernetesConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relabel_configs: Vec<Relabel>,
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

#[derive(Clone, Debug, Serialize)]
struct KubernetesConfig {
    role: &'static str,
    namespaces: Namespaces,
    selectors: Vec<Selector>,
}

#[derive(Clone, Debug, Serialize)]
struct Namespaces {
    names: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Selector {
    role: &'static str,
    label: String,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Relabel {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_labels: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_label: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<String>,
}

impl Relabel {
    /// Keeps or drops the targets whose label matches.
    fn filter(action: &'static str, label: &'static str, regex: String) -> Self {
        Self { source_labels: vec![label], regex: Some(regex), action, ..Self::default() }
    }

    /// Copies one label to another.
    fn copy(from: &'static str, to: &'static str) -> Self {
        Self {
            source_labels: vec![from],
            regex: Some("(.+)".into()),
            action: "replace",
            target_label: Some(to),
            ..Self::default()
        }
    }
}

/// Name of the scrape job of the runner, whose series have no label `node`.
const RUNNER_JOB: &str = "apollo-runner";

impl Configuration {
    /// Adds the runner's own endpoint, at a host and port.
    pub fn with_runner(mut self, run: &str, address: String) -> Self {
        let labels = TargetLabels { run: run.to_owned(), node: None };
        self.scrape_configs.push(ScrapeConfig {
            job_name: RUNNER_JOB,
            body_size_limit: BODY_LIMIT,
            static_configs: vec![StaticConfig { targets: vec![address], labels }],
            ..ScrapeConfig::default()
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
    let mut scrape = ScrapeConfig { job_name: JOB, body_size_limit: BODY_LIMIT, ..ScrapeConfig::default() };
    match &scraping.targets {
        Targets::Hosts(hosts) => {
            scrape.static_configs = hosts
                .iter()
                .map(|host| StaticConfig {
                    targets: vec![host.address.clone()],
                    labels: TargetLabels { run: scraping.run.to_owned(), node: Some(host.node.to_string()) },
                })
                .collect();
        }
        Targets::Pods(pods) => {
            scrape.kubernetes_sd_configs = vec![KubernetesConfig {
                role: "pod",
                namespaces: Namespaces { names: vec![pods.namespace.to_owned()] },
                selectors: vec![Selector { role: "pod", label: pods.selector.to_owned() }],
            }];
            scrape.relabel_configs = relabel(scraping.run, pods.port);
        }
    }
    Configuration {
        rule_files: vec![scraping.rules.to_owned()],
        scrape_configs: vec![scrape],
        ..Configuration::of_stored_data(scraping.seconds)
    }
}

fn relabel(run: &str, port: u16) -> Vec<Relabel> {
    // Prometheus would take a dollar sign for the name of a group.
    let run = run.replace('$', "$$");
    vec![
        // A pod has a target for each port that it declares.
        Relabel::filter("keep", "__meta_kubernetes_pod_container_port_number", port.to_string()),
        Relabel::filter("drop", "__meta_kubernetes_pod_phase", "Succeeded|Failed".into()),
        // Kubernetes provides the index as an annotation in all versions, and as a label since 1.28.
        Relabel::copy("__meta_kubernetes_pod_label_batch_kubernetes_io_job_completion_index", "node"),
        Relabel::copy("__meta_kubernetes_pod_annotation_batch_kubernetes_io_job_completion_index", "node"),
        Relabel::copy("__meta_kubernetes_pod_name", "instance"),
        Relabel { action: "replace", target_label: Some("run"), replacement: Some(run), ..Relabel::default() },
    ]
}
