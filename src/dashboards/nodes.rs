//! Dashboard of single nodes: everything that they export, one line a node.

use super::{
    dashboard::Dashboard,
    panel::{Panel, Unit},
    queries::{node, node_by_class, node_quantile, node_quantile_so_far, node_rate, nodes_rate_by},
};

const NODE: &str = "Node {{node}}";

/// The dashboard.
pub(super) fn nodes() -> Dashboard {
    let sections = [broadcast(), receive(), network(), events(), system(), tokio()];
    Dashboard {
        uid: "apollo-nodes",
        title: "Apollo network benchmark: nodes",
        description: "Single nodes side by side: what each sends, receives, keeps open and uses.",
        by_node: true,
        panels: sections.into_iter().flatten().collect(),
    }
}

/// A panel of a third of the width with one line a node.
fn third(title: &'static str, unit: Unit, description: &'static str, expr: String) -> Panel {
    Panel::lines(title, unit, description).width(8).query(NODE, expr)
}

fn broadcast() -> Vec<Panel> {
    vec![
        Panel::text(2, "### Broadcast\nWhat each node sends, and whether it keeps its schedule. One line a node; choose nodes above."),
        third(
            "Messages sent",
            Unit::MessagesPerSecond,
            "Messages handed to the network in a second. In mode rr each node has its turns.",
            node_rate("broadcast_message_count"),
        ),
        third(
            "Bytes sent",
            Unit::BytesPerSecond,
            "Bytes of messages handed to the network in a second, headers included.",
            node_rate("broadcast_message_bytes_sum"),
        ),
        Panel::lines(
            "Offered",
            Unit::BytesPerSecond,
            "What the schedule asks of the node: its share of all turns, and while it has the turn. The bytes sent fall short \
             of the first when the sender is behind.",
        )
        .width(8)
        .query("Node {{node}}", node("broadcast_message_offered_throughput"))
        .query("Node {{node}}, in its turn", node("broadcast_message_throughput")),
        Panel::lines(
            "Behind the schedule",
            Unit::Seconds,
            "From the time the schedule intended for a message to the moment it was handed over: half of the messages, and 99 \
             of 100. It is part of the delay that receivers see.",
        )
        .width(8)
        .query("Node {{node}}, p50", node_quantile(0.5, "broadcast_message_send_lag_seconds"))
        .query("Node {{node}}, p99", node_quantile(0.99, "broadcast_message_send_lag_seconds")),
        third(
            "Time to hand over",
            Unit::Seconds,
            "What handing over took for 99 of 100 messages: gossipsub's publish, or a whole session of SQMR. Nothing in \
             reversed SQMR, where receivers ask.",
            node_quantile(0.99, "broadcast_message_send_delay_seconds"),
        ),
        Panel::lines(
            "Late and missed",
            Unit::Count,
            "Since the node began. Late: handed over after the next one was due. Missed: never sent, known when the schedule \
             ends.",
        )
        .width(8)
        .query("Node {{node}}, late", node("broadcast_message_late_count"))
        .query("Node {{node}}, missed", node("broadcast_message_missed_count")),
        Panel::lines(
            "Size of messages",
            Unit::Bytes,
            "Of the messages being sent, and of the one that came last; header included. In mode explore it changes with the \
             trial.",
        )
        .query("Node {{node}}, {{class}}, sent", node_by_class("broadcast_message_bytes"))
        .query("Node {{node}}, {{class}}, received", node_by_class("receive_message_bytes")),
        Panel::lines(
            "Trial of mode explore",
            Unit::Count,
            "Number of the trial that is under way, from 0; -1 in all other modes. All nodes are in the same one.",
        )
        .query(NODE, node("explore_trial")),
    ]
}

fn receive() -> Vec<Panel> {
    vec![
        Panel::text(2, "### Receive\nWhat comes to each node, how late, and what is wrong with it. A node apart from the others is slow or badly connected."),
        third(
            "Messages received",
            Unit::MessagesPerSecond,
            "Different messages that came in a second: those of all other nodes that send.",
            node_rate("receive_message_count"),
        ),
        third(
            "Bytes received",
            Unit::BytesPerSecond,
            "Bytes of different messages that came in a second, headers included.",
            node_rate("receive_message_bytes_sum"),
        ),
        third(
            "Delay, 99 of 100",
            Unit::Seconds,
            "From the time the senders' schedules intended to the arrival here, 99 of 100 messages, from buckets.",
            node_quantile(0.99, "receive_message_delay_seconds"),
        ),
        third(
            "Pending",
            Unit::Count,
            "Messages that have not come although a later one of the same sender did. A line that only grows is loss.",
            node("receive_message_pending_count"),
        ),
        Panel::lines(
            "Out of order",
            Unit::MessagesPerSecond,
            "Reordered: came after a later one of its sender. Gaps: arrivals that skipped over messages that had not come.",
        )
        .width(8)
        .query("Node {{node}}, reordered", node_rate("receive_message_reordered_count"))
        .query("Node {{node}}, gaps", node_rate("receive_message_gap_count")),
        Panel::lines(
            "Twice, or too late to tell",
            Unit::MessagesPerSecond,
            "Arrivals of a message that had come before, and those so late that they can't be told from such.",
        )
        .width(8)
        .query("Node {{node}}, duplicates", node_rate("receive_message_duplicate_count"))
        .query("Node {{node}}, undecided", node_rate("receive_message_undecided_count")),
        Panel::lines(
            "Not messages of this run",
            Unit::MessagesPerSecond,
            "Arrivals that were not counted, by reason, over the chosen nodes. Anything but 0: something else sends here.",
        )
        .bad_from(&[(1.0, "orange")])
        .query("{{reason}}", nodes_rate_by("reason", "receive_message_malformed_count")),
        Panel::lines(
            "Messages from the future",
            Unit::Count,
            "Messages since the node began whose delay came out negative and was counted as 0: the hosts' clocks differ.",
        )
        .bad_from(&[(1.0, "red")])
        .query(NODE, node("receive_message_negative_delay_count")),
    ]
}

fn network() -> Vec<Panel> {
    vec![
        Panel::text(2, "### Network\nConnections, sessions and what was not sent. Peers are the number of nodes less one in a full network."),
        Panel::lines("Connected peers", Unit::Count, "Peers that are connected now. It falls when a node is gone or cut off.")
            .width(8)
            .query(NODE, node("network_connected_peers")),
        third(
            "Ready",
            Unit::Count,
            "1 when all expected peers are connected and ready to receive, else 0.",
            node("network_ready"),
        ),
        third(
            "Refused strangers",
            Unit::Count,
            "Peers outside of the network's list that tried to connect and were refused.",
            node("network_blacklisted_peers"),
        ),
        Panel::lines(
            "Open SQMR sessions",
            Unit::Count,
            "Sessions that peers have opened here, and that this node has opened; 0 over gossipsub. A line that climbs: \
             messages come faster than sessions end.",
        )
        .width(8)
        .query("Node {{node}}, by peers", node("network_active_inbound_sessions"))
        .query("Node {{node}}, by itself", node("network_active_outbound_sessions")),
        third(
            "Round trip to peers",
            Unit::Seconds,
            "Half of libp2p's pings since the node began came back within this time. One is sent to each peer every 15 \
             seconds.",
            node_quantile_so_far(0.5, "ping_latency_seconds"),
        ),
        Panel::lines(
            "Dropped, by reason",
            Unit::MessagesPerSecond,
            "Messages, or copies of one for a single peer, that the chosen nodes did not send, by reason.",
        )
        .width(8)
        .bad_from(&[(1.0, "red")])
        .query("{{drop_reason}}", nodes_rate_by("drop_reason", "network_dropped_broadcast_messages")),
        Panel::lines(
            "Sockets",
            Unit::BytesPerSecond,
            "Bytes written to and read from the TCP sockets of the network, encryption and framing included; 0 over QUIC.",
        )
        .width(12)
        .query("Node {{node}}, written", node_rate("network_socket_bytes_sent_total"))
        .query("Node {{node}}, read", node_rate("network_socket_bytes_received_total")),
        Panel::lines(
            "Gossipsub copies",
            Unit::MessagesPerSecond,
            "Copies of gossipsub messages of other nodes that arrive, duplicates included. Divided by the rate of received messages they are the copies of each.",
        )
        .width(12)
        .query("Node {{node}}", node_rate("gossipsub_message_copies_received_total")),
    ]
}

fn events() -> Vec<Panel> {
    vec![
        Panel::text(2, "### Events\nWhat the network layer reports. A burst at the start is the network being connected; later ones are worth a look."),
        Panel::lines(
            "Events, by type",
            Unit::EventsPerSecond,
            "Events of the chosen nodes in a second, by type: connections, dials, subscriptions, sessions, failures. Sessions \
             go with messages over SQMR; failures should be 0.",
        )
        .width(24)
        .query("{{event_type}}", nodes_rate_by("event_type", "network_event_counter")),
    ]
}

fn system() -> Vec<Panel> {
    vec![
        Panel::text(2, "### System\nWhat each node's process uses. Traffic and TCP are counted for a whole network namespace: nodes that share one show the same."),
        Panel::lines(
            "Processor",
            Unit::Percent,
            "Processor time of the process in percent of one core: over the last sampling interval by its own count, and \
             between scrapes.",
        )
        .width(8)
        .query("Node {{node}}", node("system_process_cpu_usage_percent"))
        .query("Node {{node}}, between scrapes", format!("100 * {}", node_rate("system_process_cpu_seconds_total"))),
        Panel::lines("Memory", Unit::Bytes, "Resident memory of the process now, and its highest so far.")
            .width(8)
            .query("Node {{node}}", node("system_process_memory_usage_bytes"))
            .query("Node {{node}}, highest", node("system_process_peak_memory_bytes")),
        third(
            "TCP segments sent again",
            Unit::Percent,
            "Retransmitted segments of the last sampling interval, in percent of those sent: a sign of lost packets.",
            node("system_tcp_retransmit_rate_percent"),
        ),
        Panel::lines(
            "Interfaces",
            Unit::BytesPerSecond,
            "Bytes sent and received by the interfaces of the network namespace, the loopback apart from the others.",
        )
        .query("Node {{node}}, {{interface}}, sent", node_rate("system_network_bytes_sent_total"))
        .query("Node {{node}}, {{interface}}, received", node_rate("system_network_bytes_received_total")),
        Panel::lines(
            "TCP segments",
            Unit::EventsPerSecond,
            "Segments that the network namespace sent in a second, and those of them that it sent again.",
        )
        .query("Node {{node}}, sent", node_rate("system_tcp_segments_sent_total"))
        .query("Node {{node}}, sent again", node_rate("system_tcp_segments_retransmitted_total")),
    ]
}

fn tokio() -> Vec<Panel> {
    vec![
        Panel::text(2, "### Runtime\nThe threads that carry the network. All of these are 0, or empty, unless the nodes run with `--tokio-metrics`."),
        Panel::lines(
            "Busy workers",
            Unit::Share,
            "How much of their time the network's threads work. Near 100 % the node is at its limit, whatever the machine \
             has left: more --worker-threads may help.",
        )
        .width(8)
        .bad_from(&[(0.9, "orange")])
        .query(
            NODE,
            format!("{} / ({} > 0)", node_rate("tokio_workers_busy_seconds_total"), node("tokio_workers")),
        ),
        third("Tasks", Unit::Count, "Tasks alive in the network's runtime. One that grows without end is a leak.", node("tokio_alive_tasks")),
        third(
            "Tasks that wait",
            Unit::Count,
            "Tasks in the runtime's global queue: work that no thread has taken yet.",
            node("tokio_global_queue_depth"),
        ),
    ]
}
