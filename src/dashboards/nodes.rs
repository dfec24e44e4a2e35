//! Dashboard of single nodes: everything that they export, one line a node.

use super::{
    dashboard::Dashboard,
    panel::{Panel, Unit},
    queries::{node, node_by_class, node_quantile, node_quantile_so_far, node_rate, nodes_rate_by},
    rules::{DROPPED, EVENTS},
};

const NODE: &str = "Node {{node}}";

/// Reason why a panel of gossipsub's own metrics is empty.
const WITHOUT_OWN: &str = "No event so far, or the run is without --gossipsub-metrics";

/// The dashboard.
pub(super) fn nodes() -> Dashboard {
    let sections = [broadcast(), receive(), network(), propeller(), events(), system(), tokio(), gossipsub()];
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
    Panel::lines(title, unit, description).width(8).sorted().query(NODE, expr)
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
            "Bytes per second that the schedule offers at the node: its share of all turns (solid), and the rate while \
             it has the turn (dashed). If fewer bytes are sent than the solid line shows, the sender is late.",
        )
        .width(8)
        .sorted()
        .query(NODE, node("broadcast_message_offered_throughput"))
        .dashed(NODE, node("broadcast_message_throughput")),
        Panel::lines(
            "Send lag",
            Unit::Seconds,
            "Time from the intended send time of a message to its handover to the network: maximum of 99 % (solid) and \
             of 50 % (dashed) of the messages. The lag is a part of the delay that receivers see.",
        )
        .width(8)
        .log()
        .sorted()
        .query(NODE, node_quantile(0.99, "broadcast_message_send_lag_seconds"))
        .dashed(NODE, node_quantile(0.5, "broadcast_message_send_lag_seconds")),
        third(
            "Time to hand over",
            Unit::Seconds,
            "Maximum time of handing over, for 99 of 100 messages: gossipsub's publish, or a whole session of SQMR. \
             Empty in reversed SQMR, in which receivers request messages.",
            node_quantile(0.99, "broadcast_message_send_delay_seconds"),
        )
        .log()
        .absent("Nothing was handed over: in reversed SQMR, receivers request messages"),
        Panel::lines(
            "Late and missed",
            Unit::Count,
            "Counts since the node started. Late (solid): messages handed over after the next one was due. Missed \
             (dashed): messages that were never sent, which are counted when the schedule ends.",
        )
        .width(8)
        .sorted()
        .query(NODE, node("broadcast_message_late_count"))
        .dashed(NODE, node("broadcast_message_missed_count")),
        Panel::lines(
            "Size of messages",
            Unit::Bytes,
            "Size of sent messages (solid), and of the last received one (dashed), header included. In mode explore it \
             changes with the trial.",
        )
        .sorted()
        .query("Node {{node}}, {{class}}", node_by_class("broadcast_message_bytes"))
        .dashed("Node {{node}}, {{class}}", node_by_class("receive_message_bytes")),
        Panel::lines(
            "Trial of mode explore",
            Unit::Count,
            "Number of the present trial, from 0; -1 in all other modes. All nodes are in the same trial.",
        )
        .sorted()
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
        )
        .log(),
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
            "Reordered (solid): messages that arrived after a later one of their sender. Gaps (dashed): arrivals that \
             skipped over messages that had not arrived.",
        )
        .width(8)
        .sorted()
        .query(NODE, node_rate("receive_message_reordered_count"))
        .dashed(NODE, node_rate("receive_message_gap_count")),
        Panel::lines(
            "Duplicates and undecided arrivals",
            Unit::MessagesPerSecond,
            "Duplicates (solid): arrivals of a message that had arrived before. Undecided (dashed): arrivals too late \
             to be distinguished from duplicates.",
        )
        .width(8)
        .sorted()
        .query(NODE, node_rate("receive_message_duplicate_count"))
        .dashed(NODE, node_rate("receive_message_undecided_count")),
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
        .sorted()
        .bad_from(&[(1.0, "red")])
        .query(NODE, node("receive_message_negative_delay_count")),
    ]
}

fn network() -> Vec<Panel> {
    vec![
        Panel::text(
            2,
            "### Network\nConnections, sessions and dropped messages. In a full network the number of peers \
                        is the number of nodes minus one.",
        ),
        Panel::lines(
            "Connected peers",
            Unit::Count,
            "Peers that are connected now. The number falls when a node has \
                                                      ended or is cut off.",
        )
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
            "Sessions that peers have opened here (solid), and that this node has opened (dashed); 0 over gossipsub. A \
             rising line means that messages arrive faster than sessions end.",
        )
        .width(8)
        .sorted()
        .query(NODE, node("network_active_inbound_sessions"))
        .dashed(NODE, node("network_active_outbound_sessions")),
        third(
            "Round trip to peers",
            Unit::Seconds,
            "Median round-trip time of libp2p's pings since the node started. A ping is sent to each peer every 5 \
             seconds.",
            node_quantile_so_far(0.5, "ping_latency_seconds"),
        )
        .log(),
        Panel::lines(
            "Dropped, by reason",
            Unit::MessagesPerSecond,
            "Messages, or copies of one for a single peer, that the chosen nodes did not send, by reason.",
        )
        .width(8)
        .bad_from(&[(1.0, "red")])
        .query("{{drop_reason}}", nodes_rate_by("drop_reason", DROPPED)),
        Panel::lines(
            "Sockets",
            Unit::BytesPerSecond,
            "Bytes written to (solid) and read from (dashed) the TCP sockets of the network, encryption and framing \
             included; 0 over QUIC.",
        )
        .sorted()
        .query(NODE, node_rate("network_socket_bytes_sent_total"))
        .dashed(NODE, node_rate("network_socket_bytes_received_total")),
        Panel::lines(
            "Gossipsub copies",
            Unit::MessagesPerSecond,
            "Copies of gossipsub messages of other nodes that arrive, duplicates included. Divided by the rate of \
             received messages they are the copies of each.",
        )
        .sorted()
        .query(NODE, node_rate("gossipsub_message_copies_received_total")),
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
            "Units that a publisher sends to their owners (solid), and copies of its own units that a node sends on to \
             the others (dashed).",
        )
        .width(8)
        .sorted()
        .query(NODE, node_rate("propeller_units_sent_total"))
        .dashed(NODE, node_rate("propeller_units_forwarded_total")),
        Panel::lines(
            "Units received",
            Unit::EventsPerSecond,
            "Units that arrive while their message needs them (solid), and wasted ones, which arrive after its delivery \
             (dashed).",
        )
        .width(8)
        .sorted()
        .query(NODE, node_rate("propeller_units_received_total"))
        .dashed(NODE, node_rate("propeller_units_wasted_total")),
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
            "Messages of which units have arrived and that are not delivered yet (solid), and messages that were given \
             up since the node started (dashed).",
        )
        .width(8)
        .sorted()
        .query(NODE, node("propeller_messages_open"))
        .dashed(NODE, node("propeller_messages_given_up_total")),
        Panel::lines(
            "Encoding and rebuilding, 99 of 100",
            Unit::Seconds,
            "Maximum time for encoding, hashing and signing 99 of 100 messages (solid), and for putting them together \
             from their units and checking them (dashed).",
        )
        .width(8)
        .log()
        .sorted()
        .absent("No message over propeller")
        .query(NODE, node_quantile(0.99, "propeller_encode_seconds"))
        .dashed(NODE, node_quantile(0.99, "propeller_rebuild_seconds")),
        Panel::lines(
            "From the first unit, 99 of 100",
            Unit::Seconds,
            "Maximum time from the first unit of a message to as many units as rebuild it (solid), and to its delivery \
             (dashed), for 99 of 100 messages.",
        )
        .width(8)
        .log()
        .sorted()
        .absent("No message over propeller")
        .query(NODE, node_quantile(0.99, "propeller_to_data_seconds"))
        .dashed(NODE, node_quantile(0.99, "propeller_to_delivery_seconds")),
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
        .query("{{event_type}}", nodes_rate_by("event_type", EVENTS)),
    ]
}

fn system() -> Vec<Panel> {
    vec![
        Panel::text(2, "### System\nResources of each node's process. Traffic and TCP are counted for a whole network \
                        namespace, so nodes in the same namespace show the same values."),
        Panel::lines(
            "Processor",
            Unit::Percent,
            "Processor time of the process in percent of one core: over the last sampling interval by its own count \
             (solid), and between scrapes (dashed).",
        )
        .width(8)
        .sorted()
        .query(NODE, node("system_process_cpu_usage_percent"))
        .dashed(NODE, format!("100 * {}", node_rate("system_process_cpu_seconds_total"))),
        Panel::lines(
            "Memory",
            Unit::Bytes,
            "Present resident memory of the process (solid), its maximum so far (dashed), and the memory that it can use.",
        )
            .width(8)
            .sorted()
            .limit("Limit", "min(system_memory_limit_bytes{run=\"$run\",node=~\"$node\"} > 0)")
            .query(NODE, node("system_process_memory_usage_bytes"))
            .dashed(NODE, node("system_process_peak_memory_bytes")),
        third(
            "TCP segments sent again",
            Unit::Percent,
            "Retransmitted segments of the last sampling interval, in percent of those sent: a sign of lost packets.",
            node("system_tcp_retransmit_rate_percent"),
        ),
        Panel::lines(
            "Interfaces",
            Unit::BytesPerSecond,
            "Bytes sent (solid) and received (dashed) by all interfaces of the network namespace, the loopback included.",
        )
        .sorted()
        .query(NODE, node_rate("system_network_bytes_sent_total"))
        .dashed(NODE, node_rate("system_network_bytes_received_total")),
        Panel::lines(
            "TCP segments",
            Unit::EventsPerSecond,
            "TCP segments that the network namespace sent per second (solid), and the retransmitted ones among them \
             (dashed).",
        )
        .sorted()
        .query(NODE, node_rate("system_tcp_segments_sent_total"))
        .dashed(NODE, node_rate("system_tcp_segments_retransmitted_total")),
    ]
}

fn tokio() -> Vec<Panel> {
    vec![
        Panel::collapsed("Runtime of the threads that carry the network: only with --tokio-metrics"),
        Panel::lines(
            "Busy workers",
            Unit::Share,
            "Share of their time in which the network's threads work. Near 100 % the node is at its limit, even if the \
             machine has free processors: more --worker-threads may help.",
        )
        .width(8)
        .absent("The run is without --tokio-metrics")
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

fn gossipsub() -> Vec<Panel> {
    vec![
        Panel::collapsed("Metrics of gossipsub itself: only with --gossipsub-metrics"),
        third(
            "Mesh",
            Unit::Count,
            "Peers in the meshes of all topics of the node, to which it sends whole messages.",
            node("gossipsub_mesh_peer_counts"),
        )
        .absent(WITHOUT_OWN),
        Panel::lines(
            "Messages received by gossipsub",
            Unit::MessagesPerSecond,
            "Messages that arrived, before (solid) and after (dashed) duplicates were removed. Their quotient is the \
             number of copies of each message.",
        )
        .width(8)
        .sorted()
        .absent(WITHOUT_OWN)
        .query(NODE, node_rate("gossipsub_topic_msg_recv_counts_unfiltered_total"))
        .dashed(NODE, node_rate("gossipsub_topic_msg_recv_counts_total")),
        Panel::lines(
            "Messages sent by gossipsub",
            Unit::MessagesPerSecond,
            "Copies of messages that the node sent (solid), and messages that it published (dashed). The rest are \
             messages of others that it forwarded.",
        )
        .width(8)
        .sorted()
        .absent(WITHOUT_OWN)
        .query(NODE, node_rate("gossipsub_topic_msg_sent_counts_total"))
        .dashed(NODE, node_rate("gossipsub_topic_msg_published_total")),
        third(
            "Requests after gossip",
            Unit::MessagesPerSecond,
            "Messages that the node requested by IWANT, because gossip named them before they arrived over the mesh.",
            node_rate("gossipsub_topic_iwant_msgs_total"),
        )
        .absent(WITHOUT_OWN),
        third(
            "Refused copies",
            Unit::EventsPerSecond,
            "IDONTWANT messages that the node received: its peers have the message already and need no copy.",
            node_rate("gossipsub_idontwant_msgs_total"),
        )
        .absent(WITHOUT_OWN),
        third(
            "Changes of the mesh",
            Unit::EventsPerSecond,
            "Peers that left the mesh of the node per second, for all reasons.",
            node_rate("gossipsub_mesh_peer_churn_events_total"),
        )
        .absent(WITHOUT_OWN),
    ]
}
