//! Table of metrics. Registration, help texts and the reference page all come from it.

use std::fmt::Write as _;

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, Registry};

use super::{
    kinds::{ByClass, Definition, Labelled, Registered},
    runner::RUNNER_DEFINITIONS,
};

/// Reasons why a broadcast, or one copy of it, was not sent.
pub const DROP_REASONS: &[&str] = &[
    "duplicate",
    "signing_error",
    "no_peers_subscribed_to_topic",
    "message_too_large",
    "transform_failed",
    "all_queues_full",
    "peer_queue_full",
    "session_failed",
    "no_peers_connected",
    "unknown_class",
    "encoding_queue_full",
];

/// Reasons why a frame, unit or message of propeller was refused.
pub const REFUSED_UNITS: &[&str] = &[
    "frame",
    "malformed",
    "other_committee",
    "wrong_publisher",
    "wrong_index",
    "wrong_sender",
    "wrong_shards",
    "wrong_length",
    "wrong_proof",
    "wrong_signature",
    "two_messages",
    "old_nonce",
    "duplicate",
    "no_room",
    "wrong_encoding",
];

/// Events that the network can report.
pub const NETWORK_EVENTS: &[&str] = &[
    "connections_established",
    "connections_closed",
    "dial_failure",
    "listen_failure",
    "listen_error",
    "new_listen_addrs",
    "expired_listen_addrs",
    "listener_closed",
    "new_external_addr_candidate",
    "external_addr_confirmed",
    "external_addr_expired",
    "new_external_addr_of_peer",
    "incoming_connection",
    "incoming_connection_error",
    "dialing",
    "ping_failure",
    "gossipsub_subscribed",
    "gossipsub_unsubscribed",
    "gossipsub_not_supported",
    "gossipsub_slow_peer",
    "gossipsub_stream_error",
    "gossipsub_validated_early",
    "gossipsub_validated_too_late",
    "session_opened",
    "session_closed",
    "session_failed",
];

/// Reasons why an arrival was not counted as a message of the run.
pub const MALFORMED_REASONS: &[&str] = &[
    "not_a_message",
    "unknown_sender",
    "wrong_sender",
    "other_run",
    "other_trial",
    "unknown_class",
    "not_for_this_node",
    "impossible_index",
];

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ty $([$label:literal: $values:expr])?;)*) => {
        /// Metrics of a node, one field for each row of the table.
        #[derive(Clone, Debug)]
        pub struct Metrics {$(
            $(#[doc = $help])+
            pub $name: $type,
        )*}

        /// Rows of the table, in its order.
        pub fn definitions() -> Vec<Definition> {
            vec![$(Definition {
                name: stringify!($name),
                kind: <$type as Registered>::KIND,
                label: <$type as Registered>::LABEL$(.or(Some(($label, $values as &'static [&'static str]))))?,
                help: concat!($($help),+).trim_ascii_start(),
            }),*]
        }

        impl Metrics {
            /// Creates all metrics for a network with a single traffic class, and registers them.
            ///
            /// # Errors
            /// Fails if two rows have the same name.
            pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
                Self::register_classes(registry, &[])
            }

            /// Creates all metrics, with a series for each of these traffic classes, by class number, and registers
            /// them.
            ///
            /// # Errors
            /// Fails if two rows or two classes have the same name.
            pub fn register_classes(registry: &Registry, classes: &[String]) -> Result<Self, prometheus::Error> {
                let definitions = definitions();
                let mut rows = definitions.iter();
                let mut next = || rows.next().ok_or_else(|| prometheus::Error::Msg("a row is missing".into()));
                Ok(Self {$($name: Registered::register(next()?, registry, classes)?,)*})
            }
        }
    };
}

metrics! {
    /// Messages that the node handed to the network.
    broadcast_message_count: ByClass<IntCounter>;
    /// Size of the messages being sent, in bytes, header included.
    broadcast_message_bytes: ByClass<IntGauge>;
    /// Bytes of all messages that the node handed to the network.
    broadcast_message_bytes_sum: ByClass<IntCounter>;
    /// Bytes per second that the schedule offers at this node while it has the turn.
    broadcast_message_throughput: ByClass<Gauge>;
    /// Bytes per second that the schedule offers at this node now, its share of all turns; 0 before the start and after
    /// the end.
    broadcast_message_offered_throughput: ByClass<Gauge>;
    /// Seconds for handing a message to the network: gossipsub's publish, or an SQMR session from opening to its end.
    broadcast_message_send_delay_seconds: Histogram;
    /// Seconds from the intended send time of a message to its handover to the network.
    broadcast_message_send_lag_seconds: ByClass<Histogram>;
    /// Messages handed over after the next one was due.
    broadcast_message_late_count: ByClass<IntCounter>;
    /// Messages of the schedule that could not be sent before its end.
    broadcast_message_missed_count: ByClass<IntCounter>;
    /// Seconds within which a message has to arrive, by the scenario; 0 without a deadline.
    broadcast_message_deadline_seconds: ByClass<Gauge>;
    /// Messages that other nodes should have sent to this node so far, by their schedules; 0 for a class that answers
    /// another, which has no schedule.
    receive_message_expected_count: ByClass<IntCounter>;
    /// Different messages that arrived.
    receive_message_count: ByClass<IntCounter>;
    /// Size of the last message that arrived, in bytes, header included.
    receive_message_bytes: ByClass<IntGauge>;
    /// Bytes of all different messages that arrived.
    receive_message_bytes_sum: ByClass<IntCounter>;
    /// Seconds from the intended send time of a message to its arrival, by the clocks of both hosts.
    receive_message_delay_seconds: ByClass<Histogram>;
    /// Messages with a negative delay, which is counted as 0: the hosts' clocks differ.
    receive_message_negative_delay_count: ByClass<IntCounter>;
    /// Messages that are missing although a later one of the same sender arrived.
    receive_message_pending_count: ByClass<IntGauge>;
    /// Arrivals of a message that had arrived before.
    receive_message_duplicate_count: ByClass<IntCounter>;
    /// Different messages that arrived after a later one of the same sender.
    receive_message_reordered_count: ByClass<IntCounter>;
    /// Arrivals that skipped over messages of their sender that had not arrived.
    receive_message_gap_count: ByClass<IntCounter>;
    /// Arrivals too late to be distinguished from duplicates.
    receive_message_undecided_count: ByClass<IntCounter>;
    /// Arrivals that were not counted as messages of this run, by reason.
    receive_message_malformed_count: Labelled ["reason": MALFORMED_REASONS];
    /// Connected peers.
    network_connected_peers: IntGauge;
    /// Peers outside the network's list that tried to connect and were refused.
    network_blacklisted_peers: IntGauge;
    /// 1 if all expected peers are connected and ready to receive, otherwise 0.
    network_ready: IntGauge;
    /// SQMR sessions that peers have opened here and that have not ended.
    network_active_inbound_sessions: IntGauge;
    /// SQMR sessions that this node has opened and that have not ended.
    network_active_outbound_sessions: IntGauge;
    /// Broadcasts, or copies of one for a single peer, that were not sent, by reason.
    network_dropped_broadcast_messages: Labelled ["drop_reason": DROP_REASONS];
    /// Events of the network layer, by type.
    network_event_counter: Labelled ["event_type": NETWORK_EVENTS];
    /// Bytes written to the TCP sockets of the network, encryption and framing included; 0 over QUIC.
    network_socket_bytes_sent_total: IntCounter;
    /// Bytes read from the TCP sockets of the network, encryption and framing included; 0 over QUIC.
    network_socket_bytes_received_total: IntCounter;
    /// Copies of gossipsub messages of other nodes that arrived, duplicates included.
    gossipsub_message_copies_received_total: IntCounter;
    /// Units that this node sent to their owners, as the publisher of a message of propeller.
    propeller_units_sent_total: IntCounter;
    /// Copies of its own units of propeller that this node sent on to the others.
    propeller_units_forwarded_total: IntCounter;
    /// Units of propeller that arrived while their message needed them.
    propeller_units_received_total: IntCounter;
    /// Units of propeller that arrived after their message was delivered or given up.
    propeller_units_wasted_total: IntCounter;
    /// Frames, units and messages of propeller that were refused, by reason.
    propeller_units_refused_total: Labelled ["reason": REFUSED_UNITS];
    /// Messages of propeller of which units have arrived, and that are not delivered yet.
    propeller_messages_open: IntGauge;
    /// Messages of propeller that were given up, because too few units arrived in time.
    propeller_messages_given_up_total: IntCounter;
    /// Seconds for encoding, hashing and signing a message of propeller.
    propeller_encode_seconds: Histogram;
    /// Seconds for putting a message of propeller together from its units, and for checking it.
    propeller_rebuild_seconds: Histogram;
    /// Seconds from the first unit of a delivered message of propeller to as many units as rebuild it.
    propeller_to_data_seconds: Histogram;
    /// Seconds from the first unit of a message of propeller to its delivery.
    propeller_to_delivery_seconds: Histogram;
    /// Round trip time to a peer by libp2p's ping, in seconds.
    ping_latency_seconds: Histogram;
    /// Opening of the measured window, or of that of the present trial, in seconds since the Unix epoch; 0 before the
    /// node has its start.
    run_window_begin_seconds: Gauge;
    /// End of this window, in seconds since the Unix epoch; infinite for a window without an end, 0 before the node has
    /// its start.
    run_window_end_seconds: Gauge;
    /// Present trial of explore mode, from 0; -1 outside of explore mode.
    explore_trial: IntGauge;
    /// Processor time of the process over the last sampling interval, in percent of one core.
    system_process_cpu_usage_percent: Gauge;
    /// Processor time of the process, user and system, in seconds.
    system_process_cpu_seconds_total: Counter;
    /// Resident memory of the process, in bytes.
    system_process_memory_usage_bytes: IntGauge;
    /// Highest resident memory of the process so far, in bytes.
    system_process_peak_memory_bytes: IntGauge;
    /// Memory that the process can use, in bytes: that of the machine, or the limit of its control group.
    system_memory_limit_bytes: IntGauge;
    /// Share of the machine's processors that all programs used over the last sampling interval, 0 to 1.
    system_machine_cpu_usage_ratio: Gauge;
    /// Share of the machine's memory that is in use and can't be freed, 0 to 1.
    system_machine_memory_usage_ratio: Gauge;
    /// Bytes sent by the interfaces of the process's network namespace, separately for loopback and the others.
    system_network_bytes_sent_total: Labelled ["interface": &["loopback", "other"]];
    /// Bytes received by the interfaces of the process's network namespace, separately for loopback and the others.
    system_network_bytes_received_total: Labelled ["interface": &["loopback", "other"]];
    /// TCP segments that the network namespace sent, retransmitted ones included.
    system_tcp_segments_sent_total: IntCounter;
    /// TCP segments that the network namespace retransmitted.
    system_tcp_segments_retransmitted_total: IntCounter;
    /// Retransmitted TCP segments of the last sampling interval, in percent of those sent: a proxy for packet loss.
    system_tcp_retransmit_rate_percent: Gauge;
    /// Worker threads of the network's runtime; only with --tokio-metrics.
    tokio_workers: IntGauge;
    /// Tasks alive in the network's runtime; only with --tokio-metrics.
    tokio_alive_tasks: IntGauge;
    /// Tasks waiting in the runtime's global queue; only with --tokio-metrics.
    tokio_global_queue_depth: IntGauge;
    /// Seconds that the runtime's workers were busy, in total; only with --tokio-metrics.
    tokio_workers_busy_seconds_total: Counter;
}

/// The reference page of all metrics, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade from the tables in `src/metrics/`; a test keeps page and tables the same.\n\n\
         ## Metrics of a node\n\n",
    );
    table(&mut page, &definitions());
    page.push_str(
        "\nHistograms have buckets from 100 us to 60 s. A quantile of 60 s means 60 s or more. With \
         `--gossipsub-metrics` the metrics of libp2p's own gossipsub follow, named `gossipsub_*`.\n\n\
         ## Metrics of the runner\n\nWith `--observe`, the runner has an endpoint on 127.0.0.1 for Prometheus, with the \
         phases and faults of the run.\n\n",
    );
    table(&mut page, &RUNNER_DEFINITIONS);
    page
}

fn table(page: &mut String, rows: &[Definition]) {
    page.push_str("| name | type | label | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let label = match row.label {
            Some(("class", [])) => "`class`: name of the traffic class".to_owned(),
            Some((label, [])) => format!("`{label}`"),
            Some((label, values)) => format!("`{label}`: {}", values.join(", ")),
            None => String::new(),
        };
        // Writing to a String can't fail.
        let _ = writeln!(page, "| `{}` | {} | {label} | {} |", row.name, row.kind.name(), row.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let registry = Registry::new();
        let _metrics = Metrics::register(&registry).unwrap();
        let text = super::super::render(&registry, None).unwrap();
        for row in definitions() {
            assert!(text.contains(&format!("# TYPE {} {}\n", row.name, row.kind.name())), "{}", row.name);
            for value in row.label.map_or(&[][..], |(_, values)| values) {
                assert!(text.contains(&format!("=\"{value}\"}} 0\n")), "{} {value}", row.name);
            }
        }
        assert!(text.contains("receive_message_count{class=\"default\"} 0\n"));
        assert!(text.contains("receive_message_delay_seconds_bucket{class=\"default\",le=\"0.0001\"} 0\n"));
        assert!(text.contains("receive_message_delay_seconds_bucket{class=\"default\",le=\"60\"} 0\n"));
    }

    #[test]
    fn each_class_has_its_series() {
        let registry = Registry::new();
        let metrics = Metrics::register_classes(&registry, &["proposal".into(), "vote".into()]).unwrap();
        metrics.receive_message_count.of(1).inc();
        let text = super::super::render(&registry, None).unwrap();
        assert!(
            text.contains("receive_message_count{class=\"proposal\"} 0\nreceive_message_count{class=\"vote\"} 1\n")
        );
    }

    #[test]
    fn the_reference_page_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, reference(), "run UPDATE_DOCS=1 cargo test to write {path}");
    }
}
