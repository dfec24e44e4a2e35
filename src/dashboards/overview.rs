//! Entry dashboard: the run as a whole.

use super::{
    dashboard::Dashboard,
    panel::{Panel, Unit},
    queries::{
        buckets, firing, growth, last, median, over_nodes, quantile, rate_by, rate_of_a_receiver, recorded, total,
        total_rate, worst,
    },
    rules::{
        ANSWERS, CLASS_DELAY, DEADLINE, DELAY, DELIVERY, DELIVERY_NOW, DROPPED, LATENESS, LIMITS, MISSING, NODE_CORES,
        NODE_DELAY, NODE_DELIVERY, NODE_LAG, NODE_MEMORY, NODE_RECEIVES, NODE_SENDS, PEERS, READY, WINDOW_OPEN,
    },
};

const READING: &str = "**Reading this page.** The first row answers: is everything delivered, in time, which limit is \
                       near, which node is the worst. The table below has the worst nodes first. The colours above the \
                       charts show the phases, the faults and the alerts. The information icon of a panel explains it. \
                       Figures of the moment stop with the measured window; counts include warm-up and drain: the exact \
                       result of the window is in the program's output and in `summary.json`.";

const DELAYS: &str = "receive_message_delay_seconds";
const NODE: &str = "Node {{node}}";

/// Column or panel without colours.
const PLAIN: &[(Option<f64>, &str)] = &[];
/// Red from 1 on.
const NONE_IS_GOOD: &[(Option<f64>, &str)] = &[(None, "transparent"), (Some(1.0), "red")];
/// Red below 99 %, orange below 99.9 %, because messages under way have not arrived.
const ALL_IS_GOOD: &[(Option<f64>, &str)] = &[(None, "red"), (Some(0.99), "orange"), (Some(0.999), "transparent")];

/// The dashboard.
pub(super) fn overview() -> Dashboard {
    let mut panels = vec![Panel::text(3, READING)];
    panels.extend(numbers());
    panels.push(nodes());
    panels.push(reach());
    panels.extend(states());
    panels.push(strip());
    panels.push(Panel::row("Throughput and delivery"));
    panels.extend(throughput());
    panels.push(Panel::row("Delay"));
    panels.extend(delay());
    panels.push(Panel::row("Limits"));
    panels.extend(resources());
    panels.push(Panel::collapsed("Trials of mode explore"));
    panels.extend(trials());
    panels.push(Panel::collapsed("Losses in detail: all of these are 0 in a good run"));
    panels.extend(losses());
    Dashboard {
        uid: "apollo-overview",
        title: "Apollo network benchmark: overview",
        description: "One run as a whole: delivery, delays, limits and nodes, and the faults of the run.",
        by_node: false,
        panels,
    }
}

fn numbers() -> Vec<Panel> {
    vec![
        Panel::stat(
            "Delivery so far",
            Unit::Share,
            "Deliveries divided by the deliveries that the schedules expect so far. Messages under way keep it just below \
             100 % during a run. A restarted node restarts its counts.",
        )
        .good_from(&[(0.95, "orange"), (0.999, "green")])
        .decimals(2)
        .query("", recorded(DELIVERY)),
        Panel::stat(
            "Delivery now",
            Unit::Share,
            "Deliveries of the last seconds divided by the expected ones, two seconds after their intended time. Above \
             100 % while a backlog arrives. Known from some seconds after the opening of the window on.",
        )
        .absent("Unknown: the window was not open for long enough")
        .good_from(&[(0.95, "orange"), (0.99, "green")])
        .decimals(1)
        .query("", recorded(DELIVERY_NOW)),
        Panel::stat(
            "Delay, 99 of 100",
            Unit::Seconds,
            "Maximum delay of 99 of 100 messages from the intended send time, over the last seconds. Read it together \
             with the delivery, because a message that never arrived has no delay.",
        )
        .query("", recorded(DELAY)),
        Panel::stat(
            "Delay of the deadline",
            Unit::Share,
            "Delay of 99 of 100 messages divided by the deadline of their traffic class in the scenario, 2 s without one; \
             the worst class. Above 100 % messages come too late.",
        )
        .bad_from(&[(0.5, "orange"), (1.0, "red")])
        .decimals(0)
        .query("", recorded(LATENESS)),
        Panel::stat(
            "Nearest limit",
            Unit::Share,
            "Limit that the run is nearest to, and the distance: 100 % is at the limit. Processors and memory are those \
             of the whole machine; the panel \"Limits\" shows all of them over time.",
        )
        .bad_from(&[(0.7, "orange"), (0.9, "red")])
        .decimals(0)
        .query("{{limit}}", format!("topk(1, max by (limit) (last_over_time({LIMITS}{{run=\"$run\"}}[$__range])))")),
        Panel::stat(
            "Worst node",
            Unit::Count,
            "Node that misses the largest number of messages, and their number. Messages under way are included: a few \
             in every run.",
        )
        .bad_from(&[(10.0, "orange"), (100.0, "red")])
        .query(NODE, format!("topk(1, {})", last(MISSING))),
        Panel::stat(
            "Nodes ready",
            Unit::Share,
            "Share of the nodes whose peers are all connected and ready to receive. Below 100 % in a run, a node has \
             ended or has lost a peer.",
        )
        .good_from(&[(0.5, "orange"), (1.0, "green")])
        .decimals(0)
        .query("", recorded(READY)),
        Panel::stat(
            "Sent",
            Unit::MessagesPerSecond,
            "Messages that all nodes together hand to the network per second.",
        )
        .query("", total_rate("broadcast_message_count") + " and on () " + &total(WINDOW_OPEN)),
    ]
}

fn nodes() -> Panel {
    let late = &[(None, "transparent"), (Some(0.1), "orange"), (Some(1.0), "red")];
    Panel::table(
        "Nodes, worst first",
        "Missing",
        "State of every node at the end of the time range, or of the measured window; click a node for its details. \
         Missing: messages that should have arrived by the schedules, and have not; those under way are included. A node \
         that was killed keeps its last figures.",
    )
    .column("Missing", Unit::Count, PLAIN, last(MISSING))
    .column("Delivery", Unit::Share, ALL_IS_GOOD, last(NODE_DELIVERY))
    .column("Answers", Unit::Count, &[(None, "red"), (Some(1.0), "transparent")], last(ANSWERS))
    .column("Peers", Unit::Count, &[(None, "red"), (Some(1.0), "transparent")], last(PEERS))
    .column("Delay, 99 of 100", Unit::Seconds, PLAIN, last(NODE_DELAY))
    .column("Send lag, 99 of 100", Unit::Seconds, late, last(NODE_LAG))
    .column("Sends", Unit::BytesPerSecond, PLAIN, last(NODE_SENDS))
    .column("Receives", Unit::BytesPerSecond, PLAIN, last(NODE_RECEIVES))
    .column(
        "Dropped",
        Unit::Count,
        NONE_IS_GOOD,
        format!("sum by (node) (last_over_time({DROPPED}{{run=\"$run\"}}[$__range]))"),
    )
    .column("Cores", Unit::Count, PLAIN, last(NODE_CORES))
    .column("Memory", Unit::Bytes, PLAIN, last(NODE_MEMORY))
}

/// Times to reach of one share, at two quantiles.
fn reach() -> Panel {
    let of = |share: &str, quantile: &str| {
        format!(r#"max by (class) (run_reach_seconds{{run="$run",share="{share}",quantile="{quantile}"}})"#)
    };
    Panel::stat(
        "Time to reach the nodes",
        Unit::Seconds,
        "Time from the intended send time of a message until nodes with a third, two thirds and all of the weight had it, \
         at the median (p50) and the 99th percentile over the messages of the whole window. It is known at the end of the \
         run, because a message is then joined over all its receivers; infinite if messages never reached the share.",
    )
    .width(24)
    .height(4)
    .absent("Known at the end of the run. In a cluster, 'apollo-bench cluster collect' prints it.")
    .query("{{class}}: 1/3, p50", of("1/3", "0.5"))
    .query("{{class}}: 1/3, p99", of("1/3", "0.99"))
    .query("{{class}}: 2/3, p50", of("2/3", "0.5"))
    .query("{{class}}: 2/3, p99", of("2/3", "0.99"))
    .query("{{class}}: all, p50", of("all", "0.5"))
    .query("{{class}}: all, p99", of("all", "0.99"))
}

fn states() -> Vec<Panel> {
    vec![
        Panel::states(
            "Phases, measured window and faults",
            "blue",
            7,
            "Phases of the run, the measured window, and each fault from its begin to its end. In a cluster, the runner \
             can't be scraped, and only the window is known.",
        )
        .query("{{phase}}", r#"max by (phase) (run_phase{run="$run"})"#)
        .query("measured window", format!("max by (run) ({}) or 0 * max by (run) (run_window_begin_seconds{{run=\"$run\"}})", recorded(WINDOW_OPEN)))
        .query("fault {{number}}: {{fault}}", r#"max by (number, fault) (run_fault_active{run="$run"})"#),
        Panel::states(
            "Alerts",
            "red",
            5,
            "Prometheus' alerts of this run, red while they fire; empty in a good run. Prometheus' own page /alerts \
             explains the meaning and the fix of each.",
        )
        .absent("No alert has fired")
        .query("{{alertname}}", firing()),
    ]
}

fn strip() -> Panel {
    Panel::stat(
        "Zero in a good run",
        Unit::Count,
        "Growth within the time range, over all nodes. Dropped: messages, or copies for single peers, that were not sent. \
         Late: handed over after the next message was due. Missed: never sent. Negative delays: clocks of the hosts \
         differ. Strangers and foreign messages: another program takes part. Malformed streams and failed sessions are \
         events of the network.",
    )
    .width(24)
    .height(4)
    .bad_from(&[(1.0, "red")])
    .decimals(0)
    .query("Dropped", growth(DROPPED))
    .query("Late", growth("broadcast_message_late_count"))
    .query("Missed", growth("broadcast_message_missed_count"))
    .query("Negative delays", growth("receive_message_negative_delay_count"))
    .query("Duplicates", growth("receive_message_duplicate_count"))
    .query("Foreign messages", growth("receive_message_malformed_count"))
    .query("Strangers", total("network_blacklisted_peers"))
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
        .query("Offered", total("broadcast_message_offered_throughput"))
        .query("Sent", total_rate("broadcast_message_bytes_sum"))
        .query("Delivered to each receiver", rate_of_a_receiver("receive_message_bytes_sum")),
        Panel::lines(
            "Delivery: now and so far",
            Unit::Share,
            "Deliveries divided by the expected ones: of the last seconds, and since the start. The line of the moment \
             falls at once if messages are late or lost, and rises above 100 % while a backlog arrives; the other one \
             returns only if the messages arrive after all.",
        )
        .query("Now", recorded(DELIVERY_NOW))
        .query("So far", recorded(DELIVERY)),
        Panel::lines(
            "Missing messages, five worst nodes",
            Unit::Count,
            "Messages that should have arrived and have not, those under way included, of the five worst nodes, and the \
             median of all nodes. A step that stays is a loss; one that returns was a delay.",
        )
        .sorted()
        .query(NODE, worst(MISSING))
        .query("Median", median(MISSING)),
        Panel::lines(
            "Delivered, by traffic class",
            Unit::BytesPerSecond,
            "Bytes of different messages of each traffic class that arrived at all nodes per second. Other classes \
             crowd out a class that falls behind them.",
        )
        .query("{{class}}", rate_by("class", "receive_message_bytes_sum")),
    ]
}

fn delay() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Delay",
            Unit::Seconds,
            "Time from the intended send time to the arrival, over all nodes, which includes the lag of the sender. \
             p99: 99 of 100 messages arrived faster. Computed from buckets, so exact to the bucket's bounds (three a \
             decade, more above 5 s); 60 s means 60 s or more. The exact percentiles are in the result. The limit is the \
             shortest deadline of the scenario, 2 s without one.",
        )
        .log()
        .query("p50", quantile(0.5, DELAYS))
        .query("p90", quantile(0.9, DELAYS))
        .query("p99", quantile(0.99, DELAYS))
        .query("p99.9", quantile(0.999, DELAYS))
        .limit("Deadline", format!("min({DEADLINE}{{run=\"$run\"}})")),
        Panel::heatmap(
            "Distribution of delays",
            Unit::Seconds,
            "Each column is a moment, each row a range of delays; a darker cell means more messages. Two bands mean \
             that some receivers are one hop farther away. A rising band means that a queue fills.",
        )
        .query("{{le}}", buckets(DELAYS)),
        Panel::lines(
            "Delay by traffic class, 99 of 100",
            Unit::Seconds,
            "Maximum time from the intended send time to the arrival, for 99 of 100 messages of each traffic class, \
             computed from buckets. A small class whose delay follows that of a large one waits behind it.",
        )
        .log()
        .query("{{class}}", recorded(CLASS_DELAY)),
        Panel::lines(
            "Send lag, 99 of 100, five worst nodes",
            Unit::Seconds,
            "Maximum time from the intended send time to the handover, for 99 of 100 messages, of the five worst nodes \
             and the median of all. Near a heartbeat or above, this sender can't keep its schedule, and the delays are its \
             own, not the network's.",
        )
        .log()
        .sorted()
        .query(NODE, worst(NODE_LAG))
        .query("Median", median(NODE_LAG)),
    ]
}

fn resources() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Limits",
            Unit::Share,
            "Closeness to each limit. Processors and memory: use of the machine by all programs. Senders late: share of \
             the messages of the worst sender that were sent after the next one was due. Lost segments: 100 % is a \
             twentieth of all TCP segments sent again. Full queues: dropped copies for each sent message.",
        )
        .bad_from(&[(0.9, "red")])
        .query("{{limit}}", recorded(LIMITS)),
        Panel::lines(
            "Processor, five busiest nodes",
            Unit::Count,
            "Processor cores that the five busiest nodes use, the median of all nodes, and all nodes together. At the \
             number of the machine's cores, the run measures the machine instead of the network.",
        )
        .sorted()
        .query(NODE, worst(NODE_CORES))
        .query("Median", median(NODE_CORES))
        .query("All nodes", total_rate("system_process_cpu_seconds_total")),
        Panel::lines(
            "Memory, five largest nodes",
            Unit::Bytes,
            "Resident memory of the five largest nodes, the median of all nodes, and all nodes together. It grows with the \
             throughput because of gossipsub's cache of five heartbeats; further growth means growing queues.",
        )
        .sorted()
        .query(NODE, worst(NODE_MEMORY))
        .query("Median", median(NODE_MEMORY))
        .query("All nodes", total("system_process_memory_usage_bytes")),
        Panel::lines(
            "On the wire",
            Unit::BytesPerSecond,
            "Bytes written to the TCP sockets of all nodes, encryption and framing included, and the bytes of messages \
             that arrived. Their quotient is the cost of a delivered byte. 0 over QUIC, for which it is not measured.",
        )
        .query("Written to sockets", total_rate("network_socket_bytes_sent_total"))
        .query("Messages delivered", total_rate("receive_message_bytes_sum")),
    ]
}

fn trials() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Present trial",
            Unit::Count,
            "Number of the present trial, from 0, and -1 outside of mode explore: by the runner, and by the nodes, which \
             follow their clocks. The lines of both are the same while no node is behind.",
        )
        .query("Runner", r#"max(run_trial{run="$run"})"#)
        .dashed("Nodes", over_nodes("max", "explore_trial")),
        Panel::lines(
            "Finished trials",
            Unit::Count,
            "Trials that all nodes have finished, by the runner. In a cluster the runner can't be scraped, and the panel is \
             empty.",
        )
        .query("Finished", r#"max(run_trials_finished{run="$run"})"#),
    ]
}

fn losses() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Dropped, by reason",
            Unit::MessagesPerSecond,
            "Messages, or copies of one for a single peer, that were not sent. Full queues mean that the offered load \
             exceeds the capacity of the network. No peers means that the network is not connected. In a good run all \
             lines are 0.",
        )
        .bad_from(&[(1.0, "red")])
        .query("{{drop_reason}}", rate_by("drop_reason", DROPPED)),
        Panel::lines(
            "Late and missed",
            Unit::MessagesPerSecond,
            "Late: messages handed over after the next message of the same sender was due. Missed: messages that were \
             never sent, which are counted when the schedule ends. Both are 0 on a machine that is fast enough.",
        )
        .bad_from(&[(1.0, "orange")])
        .query("Late", total_rate("broadcast_message_late_count"))
        .query("Missed", total_rate("broadcast_message_missed_count")),
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
            "Arrivals that do not count",
            Unit::MessagesPerSecond,
            "Duplicates: messages that had arrived before; gossipsub filters nearly all of them itself. The other \
             arrivals, by reason, do not belong to this run: another program sends here, or an earlier run still does.",
        )
        .query("Duplicates", total_rate("receive_message_duplicate_count"))
        .query("{{reason}}", rate_by("reason", "receive_message_malformed_count")),
        Panel::lines(
            "Connected peers",
            Unit::Count,
            "Minimum and maximum number of connected peers of a node. Both are the number of nodes minus one in a full \
             network; the lower line falls when a node has ended or is cut off.",
        )
        .query("Minimum", over_nodes("min", "network_connected_peers"))
        .query("Maximum", over_nodes("max", "network_connected_peers")),
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
