//! The queries of the dashboards, each named once. `$run`, `$node` and `$__rate_interval` are Grafana's variables.

/// The whole run.
const RUN: &str = r#"run="$run""#;

/// The nodes that are chosen.
const NODES: &str = r#"run="$run",node=~"$node""#;

/// A series that a rule records for each run.
pub(super) fn recorded(rule: &str) -> String {
    format!("{rule}{{{RUN}}}")
}

/// A gauge or a count of every node.
pub(super) fn each(metric: &str) -> String {
    format!("sum by (node) ({metric}{{{RUN}}})")
}

/// Growth of a counter of every node, a second.
pub(super) fn each_rate(metric: &str) -> String {
    format!("sum by (node) (rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// A quantile of a histogram for every node.
pub(super) fn each_quantile(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) (rate({histogram}_bucket{{{RUN}}}[$__rate_interval])))")
}

/// All nodes together.
pub(super) fn total(metric: &str) -> String {
    format!("sum({metric}{{{RUN}}})")
}

/// The largest, smallest or mean of all nodes.
pub(super) fn over_nodes(aggregate: &str, metric: &str) -> String {
    format!("{aggregate}({})", each(metric))
}

/// Growth of a counter of all nodes together, a second.
pub(super) fn total_rate(metric: &str) -> String {
    format!("sum(rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// The same, apart by a label.
pub(super) fn rate_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) (rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// A quantile of a histogram over all nodes, apart by a label.
pub(super) fn quantile_by(label: &str, quantile: f64, histogram: &str) -> String {
    format!(
        "histogram_quantile({quantile}, sum by ({label}, le) (rate({histogram}_bucket{{{RUN}}}[$__rate_interval])))"
    )
}

/// A quantile of the delay over the whole run.
pub(super) fn delay_quantile(quantile: f64) -> String {
    format!("histogram_quantile({quantile}, {})", recorded(super::rules::DELAY_BUCKETS))
}

/// What came to all nodes, for each of the others that sent it: equal to what was sent when everything arrives.
pub(super) fn by_receiver(rule: &str) -> String {
    format!("{} / ({} - 1 > 0)", recorded(rule), recorded(super::rules::NODES))
}

/// A gauge of the chosen nodes, or a count of all traffic classes.
pub(super) fn node(metric: &str) -> String {
    format!("sum by (node) ({metric}{{{NODES}}})")
}

/// A gauge of each traffic class of the chosen nodes.
pub(super) fn node_by_class(metric: &str) -> String {
    format!("max by (node, class) ({metric}{{{NODES}}})")
}

/// Growth of a counter of the chosen nodes, a second.
pub(super) fn node_rate(metric: &str) -> String {
    format!("sum by (node) (rate({metric}{{{NODES}}}[$__rate_interval]))")
}

/// A quantile of a histogram for each chosen node.
pub(super) fn node_quantile(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) (rate({histogram}_bucket{{{NODES}}}[$__rate_interval])))")
}

/// A quantile of a histogram for each chosen node, of all that it has seen.
pub(super) fn node_quantile_so_far(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) ({histogram}_bucket{{{NODES}}}))")
}

/// Growth of a labelled counter over the chosen nodes together, a second.
pub(super) fn nodes_rate_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) (rate({metric}{{{NODES}}}[$__rate_interval]))")
}

/// The alerts that fire.
pub(super) fn firing() -> String {
    format!(r#"ALERTS{{alertstate="firing",{RUN}}}"#)
}
