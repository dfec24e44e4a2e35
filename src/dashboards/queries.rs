//! Queries of the dashboards, each with a name. `$run`, `$node` and `$__rate_interval` are Grafana's variables.

/// Selector of the whole run.
const RUN: &str = r#"run="$run""#;

/// Selector of the chosen nodes.
const NODES: &str = r#"run="$run",node=~"$node""#;

/// A series that a rule records for each run.
pub(super) fn recorded(rule: &str) -> String {
    format!("{rule}{{{RUN}}}")
}

/// A gauge or a count of every node.
pub(super) fn each(metric: &str) -> String {
    format!("sum by (node) ({metric}{{{RUN}}})")
}

/// Growth of a counter of every node, per second.
pub(super) fn each_rate(metric: &str) -> String {
    format!("sum by (node) (rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// A quantile of a histogram for every node.
pub(super) fn each_quantile(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) (rate({histogram}_bucket{{{RUN}}}[$__rate_interval])))")
}

/// Sum over all nodes.
pub(super) fn total(metric: &str) -> String {
    format!("sum({metric}{{{RUN}}})")
}

/// Maximum, minimum or mean over all nodes.
pub(super) fn over_nodes(aggregate: &str, metric: &str) -> String {
    format!("{aggregate}({})", each(metric))
}

/// Growth of a counter over all nodes together, per second.
pub(super) fn total_rate(metric: &str) -> String {
    format!("sum(rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// Growth of a counter over all nodes together, per second, by a label.
pub(super) fn rate_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) (rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// A quantile of a histogram over all nodes, by a label.
pub(super) fn quantile_by(label: &str, quantile: f64, histogram: &str) -> String {
    format!(
        "histogram_quantile({quantile}, sum by ({label}, le) (rate({histogram}_bucket{{{RUN}}}[$__rate_interval])))"
    )
}

/// A quantile of the delay over the whole run.
pub(super) fn delay_quantile(quantile: f64) -> String {
    format!("histogram_quantile({quantile}, {})", recorded(super::rules::DELAY_BUCKETS))
}

/// Messages received by all nodes, divided by the number of receivers of each message: equal to the sent messages if
/// everything arrives.
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

/// Growth of a counter of the chosen nodes, per second.
pub(super) fn node_rate(metric: &str) -> String {
    format!("sum by (node) (rate({metric}{{{NODES}}}[$__rate_interval]))")
}

/// A quantile of a histogram for each chosen node.
pub(super) fn node_quantile(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) (rate({histogram}_bucket{{{NODES}}}[$__rate_interval])))")
}

/// A quantile of a histogram for each chosen node, over everything that it has seen.
pub(super) fn node_quantile_so_far(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) ({histogram}_bucket{{{NODES}}}))")
}

/// Growth of a labelled counter over the chosen nodes together, per second.
pub(super) fn nodes_rate_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) (rate({metric}{{{NODES}}}[$__rate_interval]))")
}

/// Alerts that fire.
pub(super) fn firing() -> String {
    format!(r#"ALERTS{{alertstate="firing",{RUN}}}"#)
}
