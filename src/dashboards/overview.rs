//! Entry dashboard: the run as a whole.

use super::{
    dashboard::Dashboard,
    panel::{Panel, Unit},
    queries::{
        by_receiver, delay_quantile, each, each_quantile, each_rate, firing, over_nodes, quantile_by, rate_by,
        recorded, total, total_rate,
    },
    rules::{DELAY_BUCKETS, DELIVERY, NODES, OFFERED_BYTES, RECEIVED, RECEIVED_BYTES, SENT, SENT_BYTES},
};

const HOW_TO_READ: &str = "**Reading this page.** From left to right, top to bottom: state of the network (first row), \
                           throughput, delay, loss, costs. In a good run the three lines of *Throughput* lie on one \
                           another, *Delivery* is 100 %, nothing is pending or dropped for long, and p99 stays flat. \
                           The first panel that changes its shape shows the first point of failure; the information \
                           icon of a panel explains it. The figures are live and include warm-up and drain: the exact \
                           result of the measured window is in the program's output and in `summary.json`.";

/// The dashboard.
pub(super) fn overview() -> Dashboard {
    let mut panels = vec![Panel::text(3, HOW_TO_READ)];
    panels.extend(numbers());
    panels.extend(throughput());
    panels.extend(delay());
    panels.extend(losses());
    panels.extend(resources());
    panels.push(nodes());
    Dashboard {
        uid: "apollo-overview",
        title: "Apollo network benchmark: overview",
        description: "One run as a whole: offered and delivered load, delays, losses and costs.",
        by_node: false,
        panels,
    }
}

fn numbers() -> Vec<Panel> {
    let ready = format!("{} / {}", total("network_ready"), recorded_sum(NODES));
    vec![
        Panel::stat(
            "Nodes ready",
            Unit::Share,
            "Share of the nodes whose peers are all connected and ready to receive. Below 100 % in a run, a node has \
             ended or has lost a peer.",
        )
        .good_from(&[(0.5, "orange"), (1.0, "green")])
        .query("", ready),
        Panel::stat(
            "Delivery so far",
            Unit::Share,
            "Deliveries divided by the expected deliveries of all messages sent so far: each message to every other \
             node. Messages under way keep it just below 100 % during a run. A restarted node restarts its counts.",
        )
        .good_from(&[(0.95, "orange"), (0.999, "green")])
        .decimals(2)
        .query("", recorded(DELIVERY)),
        Panel::stat(
            "Delay, 99 of 100",
            Unit::Seconds,
            "Maximum delay of 99 of 100 messages from the intended send time, over the last seconds. Read it together \
             with the delivery, because a message that never arrived has no delay.",
        )
        .bad_from(&[(0.5, "orange"), (2.0, "red")])
        .query("", delay_quantile(0.99)),
        Panel::stat(
            "Sent",
            Unit::MessagesPerSecond,
            "Messages that all nodes together hand to the network per second.",
        )
        .query("", recorded(SENT)),
        Panel::stat(
            "Dropped",
            Unit::Count,
            "Messages, or copies of one for a single peer, that were not sent since the nodes started. Any value above \
             0 is a loss; the panel \"Dropped, by reason\" shows the reasons.",
        )
        .bad_from(&[(1.0, "red")])
        .query("", total("network_dropped_broadcast_messages")),
        Panel::stat(
            "Negative delays",
            Unit::Count,
            "Messages that arrived before their intended send time, by the clocks of the two hosts. Any value above 0 \
             means that the clocks differ, and that all delays include the difference.",
        )
        .bad_from(&[(1.0, "red")])
        .query("", total("receive_message_negative_delay_count")),
    ]
}

fn recorded_sum(rule: &str) -> String {
    format!("sum({})", recorded(rule))
}

fn throughput() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Throughput: offered, sent, delivered",
            Unit::BytesPerSecond,
            "Bytes of messages per second. Offered: by the schedules. Sent: handed to the network. Delivered: arrived \
             at a receiver on average. Sent below offered means that the senders are late. Delivered below sent means \
             that messages are lost or late.",
        )
        .query("Offered", recorded(OFFERED_BYTES))
        .query("Sent", recorded(SENT_BYTES))
        .query("Delivered to each receiver", by_receiver(RECEIVED_BYTES)),
        Panel::lines(
            "Messages: sent, delivered",
            Unit::MessagesPerSecond,
            "Messages per second: handed to the network by all nodes together, and arrived at a receiver on average. \
             The two lines are equal if every message arrives.",
        )
        .query("Sent", recorded(SENT))
        .query("Delivered to each receiver", by_receiver(RECEIVED)),
    ]
}

fn delay() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Delay",
            Unit::Seconds,
            "Time from the intended send time to the arrival, over all nodes, which includes the lag of the sender. \
             p99: 99 of 100 messages arrived faster. Computed from buckets, so exact to the bucket's bounds (about \
             three a decade); the exact percentiles are in the result.",
        )
        .bad_from(&[(2.0, "red")])
        .query("p50", delay_quantile(0.5))
        .query("p90", delay_quantile(0.9))
        .query("p99", delay_quantile(0.99))
        .query("p99.9", delay_quantile(0.999)),
        Panel::heatmap(
            "Distribution of delays",
            Unit::Seconds,
            "Each column is a moment, each row a range of delays; a darker cell means more messages. Two bands mean \
             that some receivers are one hop farther away. A rising band means that a queue fills.",
        )
        .query("{{le}}", recorded(DELAY_BUCKETS)),
        Panel::lines(
            "Send lag, 99 of 100",
            Unit::Seconds,
            "Maximum time from the intended send time to the handover, for 99 of 100 messages of each node. Near a \
             heartbeat or above, this sender can't keep its schedule, and the delays are its own, not the network's.",
        )
        .query("Node {{node}}", each_quantile(0.99, "broadcast_message_send_lag_seconds")),
        Panel::lines(
            "Late and missed",
            Unit::MessagesPerSecond,
            "Late: messages handed over after the next message of the same sender was due. Missed: messages that were \
             never sent, which are counted when the schedule ends. Both are 0 on a machine that is fast enough.",
        )
        .bad_from(&[(1.0, "orange")])
        .query("Late", total_rate("broadcast_message_late_count"))
        .query("Missed", total_rate("broadcast_message_missed_count")),
    ]
}

fn losses() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Delivery",
            Unit::Share,
            "Deliveries divided by the expected deliveries so far. The line falls if messages are late, returns when \
             they arrive, and stays down if they are lost.",
        )
        .maximum(1.0)
        .query("Delivered", recorded(DELIVERY)),
        Panel::lines(
            "Pending messages",
            Unit::Count,
            "Messages that a node has not received although a later one of the same sender arrived. A few for a moment \
             overtook one another; a line that only grows means loss.",
        )
        .bad_from(&[(100.0, "orange")])
        .query("All nodes", total("receive_message_pending_count"))
        .query("Worst node", over_nodes("max", "receive_message_pending_count")),
        Panel::lines(
            "Dropped, by reason",
            Unit::MessagesPerSecond,
            "Messages, or copies of one for a single peer, that were not sent. Full queues mean that the offered load \
             exceeds the capacity of the network. No peers means that the network is not connected. In a good run all \
             lines are 0.",
        )
        .bad_from(&[(1.0, "red")])
        .query("{{drop_reason}}", rate_by("drop_reason", "network_dropped_broadcast_messages")),
        Panel::lines(
            "Arrivals that do not count",
            Unit::MessagesPerSecond,
            "Duplicates: messages that had arrived before; gossipsub filters nearly all of them itself. The other \
             arrivals, by reason, do not belong to this run: another program sends here, or an earlier run still does.",
        )
        .query("Duplicates", total_rate("receive_message_duplicate_count"))
        .query("{{reason}}", rate_by("reason", "receive_message_malformed_count")),
        Panel::lines(
            "Delivered, by traffic class",
            Unit::BytesPerSecond,
            "Bytes of different messages of each traffic class that arrived at all nodes per second. Other classes \
             crowd out a class that falls behind them.",
        )
        .query("{{class}}", rate_by("class", "receive_message_bytes_sum")),
        Panel::lines(
            "Delay by traffic class, 99 of 100",
            Unit::Seconds,
            "Maximum time from the intended send time to the arrival, for 99 of 100 messages of each traffic class, \
             computed from buckets. A small class whose delay follows that of a large one waits behind it.",
        )
        .query("{{class}}", quantile_by("class", 0.99, "receive_message_delay_seconds")),
        Panel::lines(
            "Connected peers",
            Unit::Count,
            "Minimum and maximum number of connected peers of a node. Both are the number of nodes minus one in a full \
             network; the lower line falls when a node has ended or is cut off.",
        )
        .query("Minimum", over_nodes("min", "network_connected_peers"))
        .query("Maximum", over_nodes("max", "network_connected_peers")),
        Panel::labels(
            "Alerts that fire",
            &["alertname", "severity", "node", "drop_reason"],
            "Prometheus' alerts of this run that fire now; empty in a good run. Prometheus' own page /alerts explains \
             the meaning and the fix of each.",
        )
        .query("", firing()),
    ]
}

fn resources() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Processor",
            Unit::Count,
            "Processor cores that all nodes together use, and those of the busiest node. At the number of the \
             machine's cores, the run measures the machine instead of the network.",
        )
        .query("All nodes", total_rate("system_process_cpu_seconds_total"))
        .query("Busiest node", "max(".to_owned() + &each_rate("system_process_cpu_seconds_total") + ")"),
        Panel::lines(
            "Memory",
            Unit::Bytes,
            "Resident memory of all nodes together, and of the largest node. It grows with the throughput because of \
             gossipsub's cache of five heartbeats; further growth means growing queues.",
        )
        .query("All nodes", total("system_process_memory_usage_bytes"))
        .query("Largest node", over_nodes("max", "system_process_memory_usage_bytes")),
        Panel::lines(
            "On the wire",
            Unit::BytesPerSecond,
            "Bytes written to the TCP sockets of all nodes, encryption and framing included, and the bytes of messages \
             that arrived. Their quotient is the cost of a delivered byte. 0 over QUIC, for which it is not measured.",
        )
        .query("Written to sockets", total_rate("network_socket_bytes_sent_total"))
        .query("Messages delivered", recorded(RECEIVED_BYTES)),
        Panel::lines(
            "TCP segments sent again",
            Unit::Percent,
            "Maximum share of retransmitted TCP segments of a node, a sign of lost packets. Counted for a whole \
             network namespace, so nodes on the host's network show the host's value.",
        )
        .bad_from(&[(1.0, "orange")])
        .query("Worst node", over_nodes("max", "system_tcp_retransmit_rate_percent")),
    ]
}

fn nodes() -> Panel {
    Panel::table(
        "Nodes",
        "Present state of every node; click a node for its details. Examine a node that differs from the others in a \
         column.",
    )
    .column("Answers", Unit::Count, each("up"))
    .column("Peers", Unit::Count, each("network_connected_peers"))
    .column("Sends", Unit::BytesPerSecond, each_rate("broadcast_message_bytes_sum"))
    .column("Receives", Unit::BytesPerSecond, each_rate("receive_message_bytes_sum"))
    .column("Delay, 99 of 100", Unit::Seconds, each_quantile(0.99, "receive_message_delay_seconds"))
    .column("Pending", Unit::Count, each("receive_message_pending_count"))
    .column("Dropped", Unit::Count, each("network_dropped_broadcast_messages"))
    .column("Cores", Unit::Count, each_rate("system_process_cpu_seconds_total"))
    .column("Memory", Unit::Bytes, each("system_process_memory_usage_bytes"))
}
