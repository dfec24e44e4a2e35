//! Queries of the dashboards, each with a name. `$run`, `$node` and `$__rate_interval` are Grafana's variables.

/// Selector of the whole run.
const RUN: &str = r#"run="$run""#;

/// Selector of the chosen nodes.
const NODES: &str = r#"run="$run",node=~"$node""#;

/// A series that a rule records for each run or node.
pub(super) fn recorded(rule: &str) -> String {
    format!("{rule}{{{RUN}}}")
}

/// Last value of a recorded series of every node within the time range.
pub(super) fn last(rule: &str) -> String {
    format!("max by (node) (last_over_time({rule}{{{RUN}}}[$__range]))")
}

/// A recorded series of the five nodes with its highest values within the time range.
pub(super) fn worst(rule: &str) -> String {
    format!("{rule}{{{RUN}}} and on (node) topk(5, max_over_time({rule}{{{RUN}}}[$__range] @ end()))")
}

/// Median of a recorded series over all nodes.
pub(super) fn median(rule: &str) -> String {
    format!("quantile(0.5, {rule}{{{RUN}}})")
}

/// Sum over all nodes.
pub(super) fn total(metric: &str) -> String {
    format!("sum({metric}{{{RUN}}})")
}

/// Maximum, minimum or mean over all nodes.
pub(super) fn over_nodes(aggregate: &str, metric: &str) -> String {
    format!("{aggregate}(sum by (node) ({metric}{{{RUN}}}))")
}

/// Growth of a counter over all nodes together, per second.
pub(super) fn total_rate(metric: &str) -> String {
    format!("sum(rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// The same for a receiver on average: equal to the growth of the sent messages if every message reaches all nodes.
pub(super) fn rate_of_a_receiver(metric: &str) -> String {
    format!("{} / ({} - 1 > 0)", total_rate(metric), total(super::rules::NODES))
}

/// Growth of a counter over all nodes together, per second, by a label.
pub(super) fn rate_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) (rate({metric}{{{RUN}}}[$__rate_interval]))")
}

/// Growth of a counter over all nodes within the time range.
pub(super) fn growth(metric: &str) -> String {
    format!("ceil(sum(increase({metric}{{{RUN}}}[$__range])))")
}

/// A quantile of a histogram over all nodes.
pub(super) fn quantile(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, {})", buckets(histogram))
}

/// Buckets of a histogram over all nodes, as rates.
pub(super) fn buckets(histogram: &str) -> String {
    format!("sum by (le) (rate({histogram}_bucket{{{RUN}}}[$__rate_interval]))")
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
    // The comparison leaves out the result of no values, which is no number.
    format!(
        "histogram_quantile({quantile}, sum by (node, le) (rate({histogram}_bucket{{{NODES}}}[$__rate_interval]))) >= 0"
    )
}

/// A quantile of a histogram for each chosen node, over everything that it has seen.
pub(super) fn node_quantile_so_far(quantile: f64, histogram: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (node, le) ({histogram}_bucket{{{NODES}}}))")
}

/// Growth of a labelled counter over the chosen nodes together, per second.
pub(super) fn nodes_rate_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) (rate({metric}{{{NODES}}}[$__rate_interval]))")
}

/// Number of firing alerts by name; 0 for an alert that fired before, within the time range.
pub(super) fn firing() -> String {
    let alerts = format!(r#"ALERTS{{alertstate="firing",{RUN}}}"#);
    format!("count by (alertname) ({alerts}) or 0 * max by (alertname) (max_over_time({alerts}[$__range]))")
}
