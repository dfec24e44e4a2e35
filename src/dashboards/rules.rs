//! Rules of Prometheus: series that the dashboards use more than once, and alerts.

use serde::Serialize;

/// Bytes of messages sent per second, in the whole run.
pub(super) const SENT_BYTES: &str = "run:broadcast_message_bytes_sum:rate";
/// Messages sent per second, in the whole run.
pub(super) const SENT: &str = "run:broadcast_message_count:rate";
/// Bytes of messages received per second, by all nodes together.
pub(super) const RECEIVED_BYTES: &str = "run:receive_message_bytes_sum:rate";
/// Messages received per second, by all nodes together.
pub(super) const RECEIVED: &str = "run:receive_message_count:rate";
/// Bytes per second that the schedules of all nodes offer.
pub(super) const OFFERED_BYTES: &str = "run:broadcast_message_offered_throughput:sum";
/// Buckets of the delay, of all nodes together.
pub(super) const DELAY_BUCKETS: &str = "run:receive_message_delay_seconds_bucket:rate";
/// Nodes of the run, including nodes that do not answer.
pub(super) const NODES: &str = "run:up:count";
/// Deliveries divided by the expected deliveries of all messages sent so far.
pub(super) const DELIVERY: &str = "run:delivery:ratio";

/// A recorded series, or an alert.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// A recorded series.
    Recording {
        /// Name of the series.
        record: &'static str,
        /// PromQL of the series.
        expr: String,
    },
    /// An alert.
    Alert {
        /// Name of the alert.
        alert: &'static str,
        /// PromQL; the alert fires for each series of its result.
        expr: String,
        /// Time for which the condition must hold.
        #[serde(rename = "for")]
        holds: &'static str,
        /// Severity of the alert.
        labels: Labels,
        /// Texts of the alert.
        annotations: Annotations,
    },
}

impl Rule {
    /// PromQL of the rule.
    pub fn expr(&self) -> &str {
        match self {
            Self::Recording { expr, .. } | Self::Alert { expr, .. } => expr,
        }
    }
}

/// Labels that an alert adds.
#[derive(Clone, Debug, Serialize)]
pub struct Labels {
    severity: &'static str,
}

/// Texts of an alert for people.
#[derive(Clone, Debug, Serialize)]
pub struct Annotations {
    summary: &'static str,
    description: &'static str,
}

/// Rules that are evaluated one after the other.
#[derive(Clone, Debug, Serialize)]
pub struct RuleGroup {
    name: &'static str,
    /// Rules of the group.
    pub rules: Vec<Rule>,
}

/// A file of rules.
#[derive(Clone, Debug, Serialize)]
pub struct Rules {
    /// Groups of the file.
    pub groups: Vec<RuleGroup>,
}

/// Rules for a Prometheus that scrapes at this interval or a shorter one.
pub fn rules(scrape_seconds: u64) -> Rules {
    Rules {
        groups: vec![
            RuleGroup { name: "apollo-series", rules: recordings(scrape_seconds) },
            RuleGroup { name: "apollo-alerts", rules: alerts() },
        ],
    }
}

fn recordings(scrape_seconds: u64) -> Vec<Rule> {
    // A rate takes two samples; four intervals contain them even if one scrape is lost.
    let window = (4 * scrape_seconds).max(5);
    let rate = |metric: &str| format!("sum by (run) (rate({metric}[{window}s]))");
    let recordings = [
        (NODES, "count by (run) (up{run!=\"\"})".to_owned()),
        (SENT_BYTES, rate("broadcast_message_bytes_sum")),
        (SENT, rate("broadcast_message_count")),
        (RECEIVED_BYTES, rate("receive_message_bytes_sum")),
        (RECEIVED, rate("receive_message_count")),
        (OFFERED_BYTES, "sum by (run) (broadcast_message_offered_throughput)".to_owned()),
        (DELAY_BUCKETS, format!("sum by (run, le) (rate(receive_message_delay_seconds_bucket[{window}s]))")),
        (
            DELIVERY,
            format!(
                "sum by (run) (receive_message_count) / (sum by (run) (broadcast_message_count) * ({NODES} - 1) > 0)"
            ),
        ),
    ];
    recordings.into_iter().map(|(record, expr)| Rule::Recording { record, expr }).collect()
}

fn alerts() -> Vec<Rule> {
    let alert = |alert, expr: String, holds, severity, summary, description| Rule::Alert {
        alert,
        expr,
        holds,
        labels: Labels { severity },
        annotations: Annotations { summary, description },
    };
    vec![
        alert(
            "NoPeers",
            format!("network_connected_peers == 0 and on (run) {NODES} > 1"),
            "10s",
            "critical",
            "Node {{ $labels.node }} has no peers",
            "The node has no connection, so none of its messages arrives. Read its log; dial_failure among its events \
             means that peers do not answer.",
        ),
        alert(
            "MessagesDropped",
            "sum by (run, node, drop_reason) (increase(network_dropped_broadcast_messages[1m])) > 0".to_owned(),
            "0s",
            "warning",
            "Node {{ $labels.node }} drops messages: {{ $labels.drop_reason }}",
            "Messages, or copies for single peers, are not sent. Full queues mean that the offered load exceeds the \
             capacity of the network.",
        ),
        alert(
            "PendingGrows",
            "min_over_time(receive_message_pending_count[30s]) > 0 and deriv(receive_message_pending_count[30s]) > 0.1"
                .to_owned(),
            "10s",
            "warning",
            "Node {{ $labels.node }} misses more and more messages",
            "Later messages of the same senders have arrived, but the missing ones have not: they are lost, or much \
             later.",
        ),
        alert(
            "ClocksDiffer",
            "sum by (run, node) (increase(receive_message_negative_delay_count[1m])) > 0".to_owned(),
            "0s",
            "warning",
            "Node {{ $labels.node }} receives messages with negative delays",
            "Messages arrive before their intended send time, because the clocks of the hosts differ. All delays \
             include that difference: synchronise the hosts' clocks.",
        ),
        alert(
            "MuchMemory",
            "system_process_memory_usage_bytes > 2 * 1024 ^ 3".to_owned(),
            "10s",
            "warning",
            "Node {{ $labels.node }} uses more than 2 GiB",
            "gossipsub keeps the messages of five heartbeats, and queues to slow peers fill up to --queue-bytes each. \
             On a host that swaps, the run measures the host instead of the network.",
        ),
    ]
}
