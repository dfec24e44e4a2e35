//! Protocol, transport and queues of the network, and the settings of each node's program.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::choice;

choice! {
    /// Protocol of a broadcast.
    pub enum Protocol {
        /// libp2p's gossipsub: a node publishes to a topic, and peers forward the message.
        Gossipsub = "gossipsub",
        /// Sequential Query Message Response: for each message, the sender opens a session to every peer.
        Sqmr = "sqmr",
        /// Each receiver opens one session, and the sender answers on all of them.
        ReversedSqmr = "reversed-sqmr",
        /// Apollo's erasure-coded broadcast: every node sends a part of the message on to all others.
        Propeller = "propeller",
    }
}

choice! {
    /// Transport below the protocols.
    #[derive(Default)]
    pub enum Transport {
        /// TCP with noise and yamux.
        #[default]
        Tcp = "tcp",
        /// QUIC.
        Quic = "quic",
    }
}

/// Number of nodes, and the settings of each node's program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// Number of nodes.
    pub count: u64,
    /// Maximum number of messages in each queue between the schedule, the network and a peer.
    pub buffer_size: u64,
    /// Log level: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub verbosity: u8,
    /// Threads that carry the network in each node; by default the nodes share the processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_threads: Option<u16>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { count: 3, buffer_size: 100_000, verbosity: 2, worker_threads: None }
    }
}

/// Protocol, transport and queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Protocol of the traffic classes that name none.
    pub protocol: Protocol,
    /// Transport.
    pub transport: Transport,
    /// Maximum number of bytes that wait for one peer.
    pub queue_bytes: u64,
    /// Export the metrics of libp2p's own gossipsub; this costs a copy of each message.
    pub gossipsub_metrics: bool,
    /// Export the metrics of the network's tokio runtime.
    pub tokio_metrics: bool,
    /// Settings of gossipsub.
    pub gossipsub: GossipSettings,
    /// Settings of propeller.
    pub propeller: PropellerSettings,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            protocol: Protocol::Gossipsub,
            transport: Transport::Tcp,
            queue_bytes: 64 << 20,
            gossipsub_metrics: false,
            tokio_metrics: false,
            gossipsub: GossipSettings::default(),
            propeller: PropellerSettings::default(),
        }
    }
}

/// Settings of gossipsub. The defaults are those in effect in Apollo's own node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GossipSettings {
    /// Number of mesh peers that a node aims for (D).
    pub mesh_n: usize,
    /// Number of mesh peers below which a node adds peers (D_low).
    pub mesh_n_low: usize,
    /// Number of mesh peers above which a node prunes peers (D_high).
    pub mesh_n_high: usize,
    /// Minimum number of mesh peers that this node dialled (D_out); at most half of D.
    pub mesh_outbound_min: usize,
    /// Interval of gossipsub's own heartbeats, in milliseconds: mesh upkeep and gossip, not the sending schedule.
    pub heartbeat_millis: u64,
    /// Let a publisher send to every subscribed peer, not only to its mesh.
    pub flood_publish: bool,
    /// Sign messages, and verify every received copy.
    pub signing: bool,
    /// Size above which a node announces a message by IDONTWANT, so that peers need not send another copy.
    pub idontwant_threshold_bytes: usize,
}

impl Default for GossipSettings {
    fn default() -> Self {
        Self {
            mesh_n: 6,
            mesh_n_low: 5,
            mesh_n_high: 12,
            mesh_outbound_min: 2,
            heartbeat_millis: 1000,
            flood_publish: true,
            signing: true,
            idontwant_threshold_bytes: 1000,
        }
    }
}

/// Settings of propeller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PropellerSettings {
    /// Time from the first unit of a message to the moment at which a node gives it up, in seconds.
    pub stale_seconds: u64,
}

impl Default for PropellerSettings {
    fn default() -> Self {
        Self { stale_seconds: 120 }
    }
}
