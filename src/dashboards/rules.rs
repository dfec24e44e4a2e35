//! Rules of Prometheus: series that the dashboards use more than once, and alerts.
//!
//! Series of a run begin with `run:`, those of a node with `node:`, those of a traffic class with `class:`. Figures of the
//! moment end with the measured window, so that their last value is not that of nodes that stop.

use serde::Serialize;

/// Nodes of the run, including nodes that do not answer.
pub(super) const NODES: &str = "run:up:count";
/// 1 from the opening of the measured window, or of that of a trial, to its end.
pub(super) const WINDOW_OPEN: &str = "run:window:open";
/// End of the measured window, once it is over.
const WINDOW_OVER: &str = "run:window:over";
/// Exists while traffic should flow: from the first expected message to the end of the window.
const TRAFFIC: &str = "run:traffic:on";
/// Share of the nodes whose peers are all connected.
pub(super) const READY: &str = "run:nodes_ready:ratio";
/// Deliveries divided by the expected deliveries so far.
pub(super) const DELIVERY: &str = "run:delivery:ratio";
/// The same of the last seconds; above 1 while a backlog arrives.
pub(super) const DELIVERY_NOW: &str = "run:delivery:ratio_now";
/// 99th percentile of the delay.
pub(super) const DELAY: &str = "run:delay_seconds:p99";
/// The same by traffic class.
pub(super) const CLASS_DELAY: &str = "class:delay_seconds:p99";
/// Time within which messages of a traffic class should arrive.
pub(super) const DEADLINE: &str = "class:deadline_seconds:max";
/// 99th percentile of the delay, divided by the deadline; the worst traffic class.
pub(super) const LATENESS: &str = "run:lateness:ratio";
/// Closeness to each limit, 1 at the limit, by the label `limit`.
pub(super) const LIMITS: &str = "run:limit:ratio";
/// 1 for a node that answers, 0 for one that does not.
pub(super) const ANSWERS: &str = "node:up:last";
/// Connected peers.
pub(super) const PEERS: &str = "node:connected_peers:last";
/// Deliveries divided by the expected ones so far.
pub(super) const NODE_DELIVERY: &str = "node:delivery:ratio";
/// Expected messages that have not arrived, those under way included.
pub(super) const MISSING: &str = "node:deliveries_missing:count";
/// 99th percentile of the delay.
pub(super) const NODE_DELAY: &str = "node:delay_seconds:p99";
/// 99th percentile of the send lag.
pub(super) const NODE_LAG: &str = "node:send_lag_seconds:p99";
/// Bytes of messages sent and received per second.
pub(super) const NODE_SENDS: &str = "node:sent_bytes:rate";
pub(super) const NODE_RECEIVES: &str = "node:received_bytes:rate";
/// Share of the messages that were sent after the next one was due.
const NODE_LATE: &str = "node:late_messages:ratio";
/// Processor cores in use.
pub(super) const NODE_CORES: &str = "node:cores:rate";
/// Resident memory.
pub(super) const NODE_MEMORY: &str = "node:memory_bytes:last";
/// Dropped messages and events under names that end as Prometheus requires of counters; the nodes' own names are given.
pub(super) const DROPPED: &str = "node:network_dropped_broadcast_messages_total";
pub(super) const EVENTS: &str = "node:network_event_total";

/// The delivery of the moment counts a message this many seconds after its intended time: until then, it may be under
/// way.
const GRACE: u64 = 2;

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
    // A rate takes two samples; four intervals contain them even if one scrape is lost.
    let window = (4 * scrape_seconds).max(5);
    // Alerts are in the same group, because groups are evaluated at different moments.
    let mut all = recordings(window);
    all.extend(alerts(window));
    Rules { groups: vec![RuleGroup { name: "apollo", rules: all }] }
}

fn recordings(window: u64) -> Vec<Rule> {
    let in_window = |expr: String| format!("({expr}) unless on (run) {WINDOW_OVER}");
    let by_node = |metric: &str| format!("sum by (run, node) ({metric})");
    let rate = |by: &str, metric: &str| format!("sum by ({by}) (rate({metric}[{window}s]))");
    let p99 = |by: &str, histogram: &str| {
        // The comparison leaves out the result of no messages, which is no number.
        format!("histogram_quantile(0.99, {}) >= 0", rate(&format!("{by}, le"), &format!("{histogram}_bucket")))
    };
    // Messages of classes without a schedule arrive too, and nobody knows their number in advance.
    let scheduled = "and on (run, node, class) (receive_message_expected_count > 0)";
    let received = format!("(receive_message_count {scheduled})");
    let received_rate = format!("(rate(receive_message_count[{window}s]) {scheduled})");
    let node_rate = |metric: &str| in_window(rate("run, node", metric));
    let recordings = [
        (NODES, "count by (run) (up{run!=\"\",node!=\"\"})".to_owned()),
        (WINDOW_OVER, "max by (run) (run_window_end_seconds > 0) <= time()".to_owned()),
        (
            WINDOW_OPEN,
            "(max by (run) (run_window_begin_seconds > 0) <= bool time()) == 1 \
             and on (run) max by (run) (run_window_end_seconds) > time()"
                .to_owned(),
        ),
        (
            TRAFFIC,
            "sum by (run) (receive_message_expected_count) > 0 \
             and on (run) max by (run) (run_window_end_seconds) > time()"
                .to_owned(),
        ),
        (READY, in_window(format!("sum by (run) (network_ready) / {NODES}"))),
        (
            DELIVERY,
            format!("clamp_max(sum by (run) {received} / sum by (run) (receive_message_expected_count > 0), 1)"),
        ),
        (
            DELIVERY_NOW,
            format!(
                "sum by (run) {received_rate} \
                 / (sum by (run) (rate(receive_message_expected_count[{window}s] offset {GRACE}s)) > 0) \
                 and on (run) max by (run) (run_window_begin_seconds > 0) <= time() - {} \
                 and on (run) {TRAFFIC}",
                // While traffic begins, and between two trials, one of both intervals has more of it than the other.
                window + GRACE,
            ),
        ),
        (DELAY, in_window(p99("run", "receive_message_delay_seconds"))),
        (CLASS_DELAY, in_window(p99("run, class", "receive_message_delay_seconds"))),
        (
            DEADLINE,
            // Two seconds, if the scenario has no deadline.
            "max by (run, class) (broadcast_message_deadline_seconds > 0 or broadcast_message_deadline_seconds + 2)"
                .to_owned(),
        ),
        (LATENESS, format!("max by (run) ({CLASS_DELAY} / on (run, class) {DEADLINE})")),
        (ANSWERS, in_window("max by (run, node) (up{run!=\"\",node!=\"\"})".to_owned())),
        (PEERS, in_window(by_node("network_connected_peers"))),
        (
            NODE_DELIVERY,
            format!(
                "clamp_max(sum by (run, node) {received} / sum by (run, node) (receive_message_expected_count > 0), 1)"
            ),
        ),
        (MISSING, format!("sum by (run, node) (receive_message_expected_count > 0) - sum by (run, node) {received}")),
        (NODE_DELAY, in_window(p99("run, node", "receive_message_delay_seconds"))),
        (NODE_LAG, in_window(p99("run, node", "broadcast_message_send_lag_seconds"))),
        (NODE_SENDS, node_rate("broadcast_message_bytes_sum")),
        (NODE_RECEIVES, node_rate("receive_message_bytes_sum")),
        (
            NODE_LATE,
            in_window(format!(
                "{} / ({} > 0)",
                rate("run, node", "broadcast_message_late_count"),
                rate("run, node", "broadcast_message_count")
            )),
        ),
        (NODE_CORES, node_rate("system_process_cpu_seconds_total")),
        (NODE_MEMORY, in_window(by_node("system_process_memory_usage_bytes"))),
        (DROPPED, "network_dropped_broadcast_messages".to_owned()),
        (EVENTS, "network_event_counter".to_owned()),
        (LIMITS, in_window(limits(window))),
    ];
    recordings.into_iter().map(|(record, expr)| Rule::Recording { record, expr }).collect()
}

/// Closeness to each limit of a run, 1 at the limit.
fn limits(window: u64) -> String {
    let named = |name: &str, expr: String| format!("label_replace({expr}, \"limit\", \"{name}\", \"\", \"\")");
    [
        named("Processors", "max by (run) (system_machine_cpu_usage_ratio)".to_owned()),
        named("Memory", "max by (run) (system_machine_memory_usage_ratio)".to_owned()),
        named("Senders late", format!("max by (run) ({NODE_LATE})")),
        // A twentieth of all segments sent again is a link that loses its throughput.
        named(
            "Lost segments",
            format!(
                "clamp_max(max by (run) (rate(system_tcp_segments_retransmitted_total[{window}s]) \
                 / (rate(system_tcp_segments_sent_total[{window}s]) > 0)) / 0.05, 1)"
            ),
        ),
        named(
            "Full queues",
            format!(
                "clamp_max(sum by (run) (rate({DROPPED}[{window}s])) \
                 / (sum by (run) (rate(broadcast_message_count[{window}s])) > 0), 1)"
            ),
        ),
    ]
    .join(" or ")
}

fn alerts(window: u64) -> Vec<Rule> {
    let alert = |alert, expr: String, holds, severity, summary, description| Rule::Alert {
        alert,
        expr,
        holds,
        labels: Labels { severity },
        annotations: Annotations { summary, description },
    };
    let growth = |by: &str, metric: &str| format!("sum by ({by}) (increase({metric}[{window}s])) > 0");
    vec![
        alert(
            "NodeDown",
            format!("max by (run, node) (up{{run!=\"\",node!=\"\"}}) == 0 and on (run) {TRAFFIC}"),
            "2s",
            "critical",
            "Node {{ $labels.node }} does not answer",
            "The node has ended, is stopped, or is too busy to answer within the scrape interval. Read its log.",
        ),
        alert(
            "NoPeers",
            format!(
                "max by (run, node) (network_connected_peers) == 0 and on (run) {NODES} > 1 and on (run) {TRAFFIC}"
            ),
            "3s",
            "critical",
            "Node {{ $labels.node }} has no peers",
            "The node has no connection, so none of its messages arrives. Read its log; dial_failure among its events \
             means that peers do not answer.",
        ),
        alert(
            "DeliveryLow",
            format!("{DELIVERY_NOW} < 0.98"),
            "3s",
            "critical",
            "Only {{ $value | humanizePercentage }} of the expected messages arrive",
            "Messages are lost, or more than two seconds late, or a sender is gone. The table of nodes shows the \
             receivers that miss messages.",
        ),
        alert(
            "SenderBehind",
            format!("{NODE_LATE} > 0.1"),
            "3s",
            "warning",
            "Node {{ $labels.node }} sends {{ $value | humanizePercentage }} of its messages late",
            "The node hands messages over after the next one is due: it has too little processor time, or its network \
             takes no more.",
        ),
        alert(
            "LoadNotSent",
            format!(
                "sum by (run) (rate(broadcast_message_bytes_sum[{window}s])) \
                 < 0.9 * sum by (run) (avg_over_time(broadcast_message_offered_throughput[{window}s])) \
                 and on (run) sum by (run) (broadcast_message_offered_throughput) * {window} \
                 > 20 * max by (run) (broadcast_message_bytes) and on (run) {TRAFFIC}"
            ),
            "5s",
            "warning",
            "The nodes send less than their schedules offer",
            "The senders are late together, or one of them is gone. The results hold for the load that was sent.",
        ),
        alert(
            "DelayHigh",
            format!("{CLASS_DELAY} > on (run, class) {DEADLINE}"),
            "3s",
            "warning",
            "More than 1 % of the messages of class {{ $labels.class }} arrive after the deadline",
            "The deadline is that of the scenario, or two seconds without one.",
        ),
        alert(
            "MessagesDropped",
            growth("run, node, drop_reason", DROPPED),
            "0s",
            "warning",
            "Node {{ $labels.node }} drops messages: {{ $labels.drop_reason }}",
            "Messages, or copies for single peers, are not sent. Full queues mean that the offered load exceeds the \
             capacity of the network.",
        ),
        alert(
            "PendingGrows",
            // A few messages overtake one another in every run; 1 % of all that arrive do not.
            format!(
                "(min by (run, node) (min_over_time(receive_message_pending_count[{window}s])) > 0) \
                 and on (run, node) (sum by (run, node) (deriv(receive_message_pending_count[{window}s])) \
                 > 0.01 * sum by (run, node) (rate(receive_message_count[{window}s])))"
            ),
            "3s",
            "warning",
            "Node {{ $labels.node }} misses more and more messages",
            "Later messages of the same senders have arrived, but the missing ones have not: they are lost, or much \
             later.",
        ),
        alert(
            "ClocksDiffer",
            growth("run, node", "receive_message_negative_delay_count"),
            "0s",
            "warning",
            "Node {{ $labels.node }} receives messages with negative delays",
            "Messages arrive before their intended send time, because the clocks of the hosts differ. All delays \
             include that difference: synchronise the hosts' clocks.",
        ),
        alert(
            "MuchMemory",
            "max by (run, node) (system_process_memory_usage_bytes > 2 * 1024 ^ 3 \
             or system_process_memory_usage_bytes > 0.8 * system_memory_limit_bytes > 0)"
                .to_owned(),
            "3s",
            "warning",
            "Node {{ $labels.node }} uses {{ $value | humanize1024 }}B of memory",
            "gossipsub keeps the messages of five heartbeats, and queues to slow peers fill up to --queue-bytes each. \
             On a host that swaps, the run measures the host instead of the network.",
        ),
        alert(
            "MachineMemoryLow",
            "max by (run) (system_machine_memory_usage_ratio) > 0.95".to_owned(),
            "3s",
            "warning",
            "A machine of the run uses {{ $value | humanizePercentage }} of its memory",
            "The kernel ends a program when no memory is left, and a machine that swaps measures itself.",
        ),
    ]
}
