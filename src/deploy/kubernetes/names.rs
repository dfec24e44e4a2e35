//! Names, labels and selectors of a run's objects in a cluster.

use std::collections::BTreeMap;

/// Owner of the applied fields, in the sense of server-side apply.
pub const FIELD_MANAGER: &str = "apollo-bench";

/// Label that names the application; the same for all runs.
pub const APP_LABEL: &str = "app.kubernetes.io/name";
/// Label that names the run.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label that distinguishes the parts of a run; see [`Component`].
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label of the larger whole that an object belongs to.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// Label of the program that created it: this program may remove it again.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Label of the version of the program that created it.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// Annotation of a pod of an Indexed Job: the number of its node.
pub const INDEX_ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";

/// Label of the same name and value, from Kubernetes 1.28 on.
pub const INDEX_LABEL: &str = INDEX_ANNOTATION;

/// Value of [`APP_LABEL`] and [`PART_OF_LABEL`].
pub const APP: &str = "apollo-network-benchmark";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGER: &str = "apollo-bench";

/// Job of the nodes. Its pods have the host names `node-0`, `node-1` and so on.
pub const JOB: &str = "node";
/// Container of a node, in its pod.
pub const NODE_CONTAINER: &str = "node";
/// Container that shapes a node's network before the node starts.
pub const SHAPE_CONTAINER: &str = "shape";
/// Headless Service that gives every node a name in DNS.
pub const NODES_SERVICE: &str = "nodes";
/// ConfigMap with the environment of the nodes.
pub const NODES_CONFIG_MAP: &str = "nodes";
/// ConfigMap that describes the run: [`ARGUMENTS_KEY`], [`RUN_KEY`] and, after the start, [`START_KEY`].
pub const RUN_CONFIG_MAP: &str = "run";
/// All arguments in effect.
pub const ARGUMENTS_KEY: &str = "arguments.json";
/// The [`RunRecord`](super::RunRecord).
pub const RUN_KEY: &str = "run.json";
/// Start that the nodes received.
pub const START_KEY: &str = "start.json";
/// StatefulSet, Service and ConfigMap of Prometheus.
pub const PROMETHEUS: &str = "prometheus";
/// Headless Service of Prometheus.
pub const PROMETHEUS_HEADLESS: &str = "prometheus-headless";
/// Port of Prometheus.
pub const PROMETHEUS_PORT: u16 = 9090;
/// Secret with the token of a run, which the nodes require for orders.
pub const TOKEN_SECRET: &str = "run-token";
/// Key of the token in its Secret.
pub const TOKEN_KEY: &str = "token";

/// StatefulSet, Service, Secret and ConfigMap of Grafana.
pub const GRAFANA: &str = "grafana";
/// Headless Service of Grafana.
pub const GRAFANA_HEADLESS: &str = "grafana-headless";
/// Port of Grafana.
pub const GRAFANA_PORT: u16 = 3000;
/// ConfigMap with the dashboards.
pub const DASHBOARDS_CONFIG_MAP: &str = "dashboards";

/// Prefix of a namespace, before the run's name.
const NAMESPACE_PREFIX: &str = "apollo-bench-";
/// Maximum length of a label in DNS, and of a value of a label, in characters.
const LONGEST_LABEL: usize = 63;
/// Maximum length of a run's name, so that the namespace's name is a label in DNS, in characters.
pub const LONGEST_NAME: usize = LONGEST_LABEL - NAMESPACE_PREFIX.len();

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The nodes.
    Node,
    /// Prometheus.
    Prometheus,
    /// Grafana.
    Grafana,
    /// Objects that belong to the run as a whole.
    Run,
}

impl Component {
    /// Value of [`COMPONENT_LABEL`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Prometheus => "prometheus",
            Self::Grafana => "grafana",
            Self::Run => "run",
        }
    }
}

/// Selector of a part of the run with this name: labels that never change.
pub fn selector(run: &str, component: Component) -> BTreeMap<String, String> {
    let labels = [(APP_LABEL, APP), (INSTANCE_LABEL, run), (COMPONENT_LABEL, component.name())];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Selector as text, as in `kubectl get pods -l`.
pub fn selector_text(run: &str, component: Component) -> String {
    let parts: Vec<String> = selector(run, component).iter().map(|(key, value)| format!("{key}={value}")).collect();
    parts.join(",")
}

/// All labels of an object.
pub fn labels(run: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(run, component);
    for (key, value) in [(PART_OF_LABEL, APP), (MANAGED_BY_LABEL, MANAGER), (VERSION_LABEL, env!("CARGO_PKG_VERSION"))]
    {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// Default namespace of a run.
pub fn namespace_of(run: &str) -> String {
    format!("{NAMESPACE_PREFIX}{run}")
}

/// Name of a node in DNS.
pub fn node_host(id: u64, namespace: &str, cluster_domain: &str) -> String {
    format!("{JOB}-{id}.{NODES_SERVICE}.{namespace}.svc.{cluster_domain}")
}

/// True if a text is a label of DNS, as most names in Kubernetes have to be.
pub fn is_dns_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=LONGEST_LABEL).contains(&text.len());
    fits && text.chars().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

/// True if a text is labels of DNS with dots between them, as the other names have to be.
pub fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// True if a text can be the value of a label, a taint or a toleration.
pub fn is_label_value(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    let inside = |c: char| end(c) || matches!(c, '-' | '_' | '.');
    text.is_empty()
        || (text.len() <= LONGEST_LABEL && text.chars().all(inside) && text.starts_with(end) && text.ends_with(end))
}

/// True if a text can be the key of a label, a taint or a toleration: a name, after a domain and a slash or without.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_dns_name(domain) && !name.is_empty() && is_label_value(name),
        None => !text.is_empty() && is_label_value(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for good in ["a", "20261122-143015", "a-b"] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
        assert!(is_dns_name("a.b-c.d") && !is_dns_name("a..b") && !is_dns_name(""));
        assert!(is_label_key("role") && is_label_key("cloud.google.com/gke-nodepool"));
        assert!(!is_label_key("") && !is_label_key("a/") && !is_label_key("/a") && !is_label_key("a/b/c"));
        assert!(is_label_value("") && is_label_value("A_b.c") && !is_label_value("a b") && !is_label_value("-a"));
    }

    #[test]
    fn the_longest_name_makes_a_namespace() {
        assert!(is_dns_label(&namespace_of(&"a".repeat(LONGEST_NAME))));
        assert!(!is_dns_label(&namespace_of(&"a".repeat(LONGEST_NAME + 1))));
    }

    #[test]
    fn selectors_are_a_part_of_the_labels() {
        let labels = labels("r", Component::Node);
        assert!(selector("r", Component::Node).iter().all(|(key, value)| labels.get(key) == Some(value)));
        assert_eq!(
            selector_text("r", Component::Node),
            "app.kubernetes.io/component=node,app.kubernetes.io/instance=r,\
             app.kubernetes.io/name=apollo-network-benchmark"
        );
    }
}
