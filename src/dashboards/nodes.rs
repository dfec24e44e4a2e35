//! Dashboard of single nodes: everything that they export, one line a node.

use super::{
    dashboard::Dashboard,
    panel::{Panel, Unit},
    queries::{node, node_by_class, node_quantile, node_quantile_so_far, node_rate, nodes_rate_by},
};

const NODE: &str = "Node {{node}}";

/// The dashboard.
pub(super) fn nodes() -> Dashboard {
    let sections = [broadcast(), receive(), network(), propeller(), events(), system(), tokio()];
    Dashboard {
        uid: "apollo-nodes",
        title: "Apollo network benchmark: nodes",
        description: "Single nodes side by side: sent and received messages, connections, and resources.",
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
        Panel::text(
            2,
            "### Broadcast\nMessages that each node sends, compared with its schedule. One line a node; \
             choose nodes above.",
        ),
        third(
            "Messages sent",
            Unit::MessagesPerSecond,
            "Messages handed to the network per second. In mode rr the nodes send in turns.",
            node_rate("broadcast_message_count"),
        ),
        third(
            "Bytes sent",
            Unit::BytesPerSecond,
            "Bytes of messages handed to the network per second, headers included.",
            node_rate("broadcast_message_bytes_sum"),
        ),
        Panel::lines(
            "Offered",
            Unit::BytesPerSecond,
            "Bytes per second that the schedule offers at the node: its share of all turns, and the rate while it has \
             the turn. If fewer bytes are sent than the first line shows, the sender is late.",
        )
        .width(8)
        .query("Node {{node}}", node("broadcast_message_offered_throughput"))
        .query("Node {{node}}, in its turn", node("broadcast_message_throughput")),
        Panel::lines(
            "Send lag",
            Unit::Seconds,
            "Time from the intended send time of a message to its handover to the network: maximum of 50 % and of 99 % \
             of the messages. The lag is a part of the delay that receivers see.",
        )
        .width(8)
        .query("Node {{node}}, p50", node_quantile(0.5, "broadcast_message_send_lag_seconds"))
        .query("Node {{node}}, p99", node_quantile(0.99, "broadcast_message_send_lag_seconds")),
        third(
            "Time to hand over",
            Unit::Seconds,
            "Maximum time of handing over, for 99 of 100 messages: gossipsub's publish, or a whole session of SQMR. \
             Empty in reversed SQMR, in which receivers request messages.",
            node_quantile(0.99, "broadcast_message_send_delay_seconds"),
        ),
        Panel::lines(
            "Late and missed",
            Unit::Count,
            "Counts since the node started. Late: messages handed over after the next one was due. Missed: messages \
             that were never sent, which are counted when the schedule ends.",
        )
        .width(8)
        .query("Node {{node}}, late", node("broadcast_message_late_count"))
        .query("Node {{node}}, missed", node("broadcast_message_missed_count")),
        Panel::lines(
            "Size of messages",
            Unit::Bytes,
            "Size of sent messages, and of the last received one, header included. In mode explore it changes with the \
             trial.",
        )
        .query("Node {{node}}, {{class}}, sent", node_by_class("broadcast_message_bytes"))
        .query("Node {{node}}, {{class}}, received", node_by_class("receive_message_bytes")),
        Panel::lines(
            "Trial of mode explore",
            Unit::Count,
            "Number of the present trial, from 0; -1 in all other modes. All nodes are in the same trial.",
        )
        .query(NODE, node("explore_trial")),
    ]
}

fn receive() -> Vec<Panel> {
    vec![
        Panel::text(
            2,
            "### Receive\nMessages that arrive at each node, their delay, and irregular arrivals. A node \
             that differs from the others is slow or badly connected.",
        ),
        third(
            "Messages received",
            Unit::MessagesPerSecond,
            "Different messages that arrived per second: those of all other sending nodes.",
            node_rate("receive_message_count"),
        ),
        third(
            "Bytes received",
            Unit::BytesPerSecond,
            "Bytes of different messages that arrived per second, headers included.",
            node_rate("receive_message_bytes_sum"),
        ),
        third(
            "Delay, 99 of 100",
            Unit::Seconds,
            "Maximum delay of 99 of 100 messages, from the intended send time to the arrival at this node, computed \
             from buckets.",
            node_quantile(0.99, "receive_message_delay_seconds"),
        ),
        third(
            "Pending",
            Unit::Count,
            "Messages that have not arrived although a later one of the same sender did. A line that only grows means \
             loss.",
            node("receive_message_pending_count"),
        ),
        Panel::lines(
            "Out of order",
            Unit::MessagesPerSecond,
            "Reordered: messages that arrived after a later one of their sender. Gaps: arrivals that skipped over \
             messages that had not arrived.",
        )
        .width(8)
        .query("Node {{node}}, reordered", node_rate("receive_message_reordered_count"))
        .query("Node {{node}}, gaps", node_rate("receive_message_gap_count")),
        Panel::lines(
            "Duplicates and undecided arrivals",
            Unit::MessagesPerSecond,
            "Duplicates: arrivals of a message that had arrived before. Undecided: arrivals too late to be \
             distinguished from duplicates.",
        )
        .width(8)
        .query("Node {{node}}, duplicates", node_rate("receive_message_duplicate_count"))
        .query("Node {{node}}, undecided", node_rate("receive_message_undecided_count")),
        Panel::lines(
            "Not messages of this run",
            Unit::MessagesPerSecond,
            "Arrivals that were not counted, by reason, over the chosen nodes. Any value above 0 means that another \
             program sends here.",
        )
        .bad_from(&[(1.0, "orange")])
        .query("{{reason}}", nodes_rate_by("reason", "receive_message_malformed_count")),
        Panel::lines(
            "Negative delays",
            Unit::Count,
            "Messages with a negative delay since the node started, counted as 0. They show that the hosts' clocks \
             differ.",
        )
        .bad_from(&[(1.0, "red")])
        .query(NODE, node("receive_message_negative_delay_count")),
    ]
}

fn network() -> Vec<Panel> {
    vec![
        Panel::text(2, "### Network\nConnections, sessions and dropped messages. In a full network the number of peers \
                        is the number of nodes minus one."),
        Panel::lines("Connected peers", Unit::Count, "Peers that are connected now. The number falls when a node has \
                                                      ended or is cut off.")
            .width(8)
            .query(NODE, node("network_connected_peers")),
        third(
            "Ready",
            Unit::Count,
            "1 if all expected peers are connected and ready to receive, otherwise 0.",
            node("network_ready"),
        ),
        third(
            "Refused strangers",
            Unit::Count,
            "Peers that are not in the network's list, tried to connect, and were refused.",
            node("network_blacklisted_peers"),
        ),
        Panel::lines(
            "Open SQMR sessions",
            Unit::Count,
            "Sessions that peers have opened here, and that this node has opened; 0 over gossipsub. A rising line \
             means that messages arrive faster than sessions end.",
        )
        .width(8)
        .query("Node {{node}}, by peers", node("network_active_inbound_sessions"))
        .query("Node {{node}}, by itself", node("network_active_outbound_sessions")),
        third(
            "Round trip to peers",
            Unit::Seconds,
            "Median round-trip time of libp2p's pings since the node started. A ping is sent to each peer every 5 \
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

fn propeller() -> Vec<Panel> {
    vec![
        Panel::text(
            2,
            "### Propeller\nUnits of the erasure-coded broadcast. All of these panels are 0, or empty, over other \
             protocols.",
        ),
        Panel::lines(
            "Units sent",
            Unit::EventsPerSecond,
            "Units that a publisher sends to their owners, and copies of its own units that a node sends on to the \
             others.",
        )
        .width(8)
        .query("Node {{node}}, published", node_rate("propeller_units_sent_total"))
        .query("Node {{node}}, forwarded", node_rate("propeller_units_forwarded_total")),
        Panel::lines(
            "Units received",
            Unit::EventsPerSecond,
            "Units that arrive while their message needs them, and wasted ones, which arrive after its delivery.",
        )
        .width(8)
        .query("Node {{node}}, needed", node_rate("propeller_units_received_total"))
        .query("Node {{node}}, wasted", node_rate("propeller_units_wasted_total")),
        Panel::lines(
            "Units refused, by reason",
            Unit::EventsPerSecond,
            "Frames, units and messages that the chosen nodes refuse, by reason. Any value above 0 means that a peer \
             is faulty, or that the messages in progress take all their room.",
        )
        .width(8)
        .bad_from(&[(1.0, "red")])
        .query("{{reason}}", nodes_rate_by("reason", "propeller_units_refused_total")),
        Panel::lines(
            "Messages in progress",
            Unit::Count,
            "Messages of which units have arrived and that are not delivered yet, and messages that were given up \
             since the node started.",
        )
        .width(8)
        .query("Node {{node}}, in progress", node("propeller_messages_open"))
        .query("Node {{node}}, given up", node("propeller_messages_given_up_total")),
        Panel::lines(
            "Encoding and rebuilding, 99 of 100",
            Unit::Seconds,
            "Maximum time for encoding, hashing and signing 99 of 100 messages, and for putting them together from \
             their units and checking them.",
        )
        .width(8)
        .query("Node {{node}}, encode", node_quantile(0.99, "propeller_encode_seconds"))
        .query("Node {{node}}, rebuild", node_quantile(0.99, "propeller_rebuild_seconds")),
        Panel::lines(
            "From the first unit, 99 of 100",
            Unit::Seconds,
            "Maximum time from the first unit of a message to as many units as rebuild it, and to its delivery, for 99 \
             of 100 messages.",
        )
        .width(8)
        .query("Node {{node}}, to the data", node_quantile(0.99, "propeller_to_data_seconds"))
        .query("Node {{node}}, to the delivery", node_quantile(0.99, "propeller_to_delivery_seconds")),
    ]
}

fn events() -> Vec<Panel> {
    vec![
        Panel::text(
            2,
            "### Events\nReports of the network layer. A burst at the start comes from connecting the \
             network; later bursts need attention.",
        ),
        Panel::lines(
            "Events, by type",
            Unit::EventsPerSecond,
            "Events of the chosen nodes per second, by type: connections, dials, subscriptions, sessions, failures. \
             SQMR opens sessions for messages; failures should be 0.",
        )
        .width(24)
        .query("{{event_type}}", nodes_rate_by("event_type", "network_event_counter")),
    ]
}

fn system() -> Vec<Panel> {
    vec![
        Panel::text(2, "### System\nResources of each node's process. Traffic and TCP are counted for a whole network \
                        namespace, so nodes in the same namespace show the same values."),
        Panel::lines(
            "Processor",
            Unit::Percent,
            "Processor time of the process in percent of one core: over the last sampling interval by its own count, and \
             between scrapes.",
        )
        .width(8)
        .query("Node {{node}}", node("system_process_cpu_usage_percent"))
        .query("Node {{node}}, between scrapes", format!("100 * {}", node_rate("system_process_cpu_seconds_total"))),
        Panel::lines("Memory", Unit::Bytes, "Present resident memory of the process, and its maximum so far.")
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
            "Bytes sent and received by the interfaces of the network namespace, separately for the loopback and the \
             others.",
        )
        .query("Node {{node}}, {{interface}}, sent", node_rate("system_network_bytes_sent_total"))
        .query("Node {{node}}, {{interface}}, received", node_rate("system_network_bytes_received_total")),
        Panel::lines(
            "TCP segments",
            Unit::EventsPerSecond,
            "TCP segments that the network namespace sent per second, and the retransmitted ones among them.",
        )
        .query("Node {{node}}, sent", node_rate("system_tcp_segments_sent_total"))
        .query("Node {{node}}, sent again", node_rate("system_tcp_segments_retransmitted_total")),
    ]
}

fn tokio() -> Vec<Panel> {
    vec![
        Panel::text(
            2,
            "### Runtime\nThreads that carry the network. All of these panels are 0, or empty, unless the \
             nodes run with `--tokio-metrics`.",
        ),
        Panel::lines(
            "Busy workers",
            Unit::Share,
            "Share of their time in which the network's threads work. Near 100 % the node is at its limit, even if the \
             machine has free processors: more --worker-threads may help.",
        )
        .width(8)
        .bad_from(&[(0.9, "orange")])
        .query(NODE, format!("{} / ({} > 0)", node_rate("tokio_workers_busy_seconds_total"), node("tokio_workers"))),
        third(
            "Tasks",
            Unit::Count,
            "Tasks alive in the network's runtime. A number that grows without end means a \
                                     leak.",
            node("tokio_alive_tasks"),
        ),
        third(
            "Tasks that wait",
            Unit::Count,
            "Tasks in the runtime's global queue, which no thread has taken yet.",
            node("tokio_global_queue_depth"),
        ),
    ]
}
