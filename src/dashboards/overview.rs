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

const HOW_TO_READ: &str = "\
**How to read this.** From left to right, top to bottom: does it work (first row), how much goes through, how late it comes, \
what is lost, what it costs. When all is well, the three lines of *Throughput* lie on one another, *Delivery* is 100 %, \
nothing is pending or dropped for long, and p99 stays flat. What breaks first is the first panel that changes its shape; \
the dots in the corners say how each is read. These are live figures of the whole run, warm-up and drain included: the \
exact result of the measured window is what the program prints and writes to `summary.json`.";

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
        description: "One run as a whole: what is offered and delivered, how late, what is lost, at what cost.",
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
            "Nodes that have all their peers connected and ready to receive, of all nodes of the run. Below 100 % in a run: \
             a node is gone, or has lost a peer.",
        )
        .good_from(&[(0.5, "orange"), (1.0, "green")])
        .query("", ready),
        Panel::stat(
            "Delivery so far",
            Unit::Share,
            "Deliveries made, of those that are to be made of all messages sent so far: each message to every other node. \
             Messages under way keep it just below 100 % while a run goes. A node that was restarted counts anew.",
        )
        .good_from(&[(0.95, "orange"), (0.999, "green")])
        .decimals(2)
        .query("", recorded(DELIVERY)),
        Panel::stat(
            "Delay, 99 of 100",
            Unit::Seconds,
            "99 of 100 messages came within this time after their sender's schedule had them, over the last seconds. Read \
             it beside the delivery: what never came has no delay.",
        )
        .bad_from(&[(0.5, "orange"), (2.0, "red")])
        .query("", delay_quantile(0.99)),
        Panel::stat(
            "Sent",
            Unit::MessagesPerSecond,
            "Messages that all nodes together hand to the network in a second.",
        )
        .query("", recorded(SENT)),
        Panel::stat(
            "Dropped",
            Unit::Count,
            "Messages, or copies of one for a single peer, that were not sent since the nodes began. Anything but 0 is a \
             loss; the panel of reasons below says why.",
        )
        .bad_from(&[(1.0, "red")])
        .query("", total("network_dropped_broadcast_messages")),
        Panel::stat(
            "Messages from the future",
            Unit::Count,
            "Messages that came before their sender's schedule had them, by the clocks of the two hosts. Anything but 0 \
             says that the clocks differ, and that all delays carry the difference.",
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
            "Bytes of messages in a second. Offered: what the schedules ask for. Sent: what was handed to the network. \
             Delivered: what came to a receiver on average. Sent below offered: the senders are behind. Delivered below \
             sent: messages are lost or late.",
        )
        .query("Offered", recorded(OFFERED_BYTES))
        .query("Sent", recorded(SENT_BYTES))
        .query("Delivered to each receiver", by_receiver(RECEIVED_BYTES)),
        Panel::lines(
            "Messages: sent, delivered",
            Unit::MessagesPerSecond,
            "Messages in a second: handed to the network by all nodes together, and come to a receiver on average. The two \
             lines are one when all arrives.",
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
            "From the time the sender's schedule intended to the arrival, over all nodes; lateness of the sender is part of \
             it. p99: 99 of 100 messages came faster. From buckets, so exact to the bucket's bounds (about three a decade); \
             the exact percentiles are in the result.",
        )
        .bad_from(&[(2.0, "red")])
        .query("p50", delay_quantile(0.5))
        .query("p90", delay_quantile(0.9))
        .query("p99", delay_quantile(0.99))
        .query("p99.9", delay_quantile(0.999)),
        Panel::heatmap(
            "How many came how late",
            Unit::Seconds,
            "Each column is a moment, each row a range of delays; the darker, the more messages came in that range. Two \
             bands: some receivers are one hop farther away. A band that rises: a queue fills.",
        )
        .query("{{le}}", recorded(DELAY_BUCKETS)),
        Panel::lines(
            "How far senders are behind",
            Unit::Seconds,
            "From the time a schedule intended for a message to the moment it was handed over, 99 of 100, for each node. Near \
             a heartbeat or above: this sender can't keep its schedule, and what follows is its delay, not the network's.",
        )
        .query("Node {{node}}", each_quantile(0.99, "broadcast_message_send_lag_seconds")),
        Panel::lines(
            "Late and missed",
            Unit::MessagesPerSecond,
            "Late: handed over after the next message of the same sender was due. Missed: never sent; they are counted when \
             the schedule ends. Both are 0 on a machine that keeps up.",
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
            "Deliveries made of those that are to be made so far. It dips when messages are late, comes back when they \
             arrive, and stays down when they are lost.",
        )
        .maximum(1.0)
        .query("Delivered", recorded(DELIVERY)),
        Panel::lines(
            "Pending messages",
            Unit::Count,
            "Messages that a node has not got although a later one of the same sender came. A few for a moment are \
             messages that overtook one another; a line that only grows is loss.",
        )
        .bad_from(&[(100.0, "orange")])
        .query("All nodes", total("receive_message_pending_count"))
        .query("Worst node", over_nodes("max", "receive_message_pending_count")),
        Panel::lines(
            "Dropped, by reason",
            Unit::MessagesPerSecond,
            "Messages, or copies of one for a single peer, that were not sent. Full queues: more is offered than the network \
             carries. No peers: the network is not connected. In a good run all lines are 0.",
        )
        .bad_from(&[(1.0, "red")])
        .query("{{drop_reason}}", rate_by("drop_reason", "network_dropped_broadcast_messages")),
        Panel::lines(
            "Arrivals that do not count",
            Unit::MessagesPerSecond,
            "Duplicates: came before; gossipsub filters most of them itself. The others are no messages of this run, by \
             reason: something else sends here, or an earlier run still does.",
        )
        .query("Duplicates", total_rate("receive_message_duplicate_count"))
        .query("{{reason}}", rate_by("reason", "receive_message_malformed_count")),
        Panel::lines(
            "Delivered, by traffic class",
            Unit::BytesPerSecond,
            "Bytes of different messages of each traffic class that came to all nodes in a second. A class that falls short \
             beside others is crowded out by them.",
        )
        .query("{{class}}", rate_by("class", "receive_message_bytes_sum")),
        Panel::lines(
            "Delay by traffic class, 99 of 100",
            Unit::Seconds,
            "From the intended send time to the arrival for 99 of 100 messages of each traffic class, from buckets. A small \
             class whose delay follows that of a large one waits behind it.",
        )
        .query("{{class}}", quantile_by("class", 0.99, "receive_message_delay_seconds")),
        Panel::lines(
            "Connected peers",
            Unit::Count,
            "Peers of the node that has fewest, and of the one that has most. Both are the number of nodes less one in a \
             full network; the lower line falls when a node is gone or cut off.",
        )
        .query("Fewest", over_nodes("min", "network_connected_peers"))
        .query("Most", over_nodes("max", "network_connected_peers")),
        Panel::labels(
            "Alerts that fire",
            &["alertname", "severity", "node", "drop_reason"],
            "Prometheus' alerts of this run that fire now; empty is good. What each means, and what to do, is on \
             Prometheus' own page /alerts.",
        )
        .query("", firing()),
    ]
}

fn resources() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Processor",
            Unit::Count,
            "Cores that all nodes together keep busy, and the busiest node. At the number of the machine's cores the machine \
             is full: from there on it measures itself.",
        )
        .query("All nodes", total_rate("system_process_cpu_seconds_total"))
        .query("Busiest node", "max(".to_owned() + &each_rate("system_process_cpu_seconds_total") + ")"),
        Panel::lines(
            "Memory",
            Unit::Bytes,
            "Resident memory of all nodes together, and of the largest. It grows with the throughput up to gossipsub's cache \
             of five heartbeats; beyond that queues grow.",
        )
        .query("All nodes", total("system_process_memory_usage_bytes"))
        .query("Largest node", over_nodes("max", "system_process_memory_usage_bytes")),
        Panel::lines(
            "On the wire",
            Unit::BytesPerSecond,
            "Bytes written to the TCP sockets of all nodes, encryption and framing included, beside the bytes of messages \
             that came. Their quotient is what a delivered byte costs. 0 over QUIC, where it is not measured.",
        )
        .query("Written to sockets", total_rate("network_socket_bytes_sent_total"))
        .query("Messages delivered", recorded(RECEIVED_BYTES)),
        Panel::lines(
            "TCP segments sent again",
            Unit::Percent,
            "Share of TCP segments that were sent again, a sign of lost packets, by the node that sees most. Counted for a \
             whole network namespace: nodes that share one show the host's.",
        )
        .bad_from(&[(1.0, "orange")])
        .query("Worst node", over_nodes("max", "system_tcp_retransmit_rate_percent")),
    ]
}

fn nodes() -> Panel {
    Panel::table(
        "Nodes",
        "Every node as it is now; click a node for its details. A node that stands out from the others in a column is where \
         to look.",
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
