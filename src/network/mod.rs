//! The libp2p side of a node: identity, transport, the three protocols, and the loop that drives them.
//!
//! A [`Network`] broadcasts what comes out of its outgoing channel and hands every arrival to its [`Traffic`]. It knows
//! nothing of schedules or of counting.

mod address;
mod backlog;
mod budget;
mod dialing;
mod events;
mod gossip;
mod identity;
mod names;
mod readiness;
mod reversed_sqmr;
mod sqmr;
mod streams;
mod swarm;
mod transport;
mod unreached;

pub use address::{PeerAddress, PeerAddressError};
pub use backlog::Backlog;
pub use gossip::GossipSettings;
pub use identity::{MAX_NODES, Roster, keypair, peer_id};
pub use readiness::{Readiness, ReadinessReport};
pub use swarm::Network;
pub use unreached::UnreachedPeer;

use std::{net::IpAddr, sync::Arc};

use clap::ValueEnum;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a broadcast travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// libp2p's gossipsub: publish to a topic, peers pass it on.
    Gossipsub,
    /// Sequential Query Message Response: a session to every peer for each message, opened by the sender.
    Sqmr,
    /// The receivers open one session each, and the sender answers on all of them.
    ReversedSqmr,
}

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// When the schedule meant it to leave, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// When the next message is due; later than that, this one is late.
    pub next_unix_nanos: u64,
    /// When it was handed to the network, in nanoseconds since the Unix epoch; 0 before.
    pub handed_over_unix_nanos: u64,
    /// The trial of explore mode it belongs to.
    pub trial: u32,
    /// Number of its traffic class.
    pub class: u16,
    /// Its number among the messages of this node and class, from 0.
    pub index: u64,
    /// The whole message; empty once it was handed over.
    pub bytes: Vec<u8>,
}

impl Outgoing {
    /// Nanoseconds from the intended to the real send time.
    pub fn send_lag_nanos(&self) -> u64 {
        self.handed_over_unix_nanos.saturating_sub(self.intended_unix_nanos)
    }

    /// Whether the next message was due when this one was handed over.
    pub fn is_late(&self) -> bool {
        self.handed_over_unix_nanos >= self.next_unix_nanos
    }
}

/// What the queues to the peers made of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Copies that a queue took; gossipsub's copies count as one.
    pub queued: u64,
    /// Copies that a full queue, or none, dropped.
    pub dropped: u64,
}

/// What the node does at both ends of the network. Called on the network's tasks: it must be quick.
pub trait Traffic: Send + Sync + 'static {
    /// Just before a message is handed over: stamps it. `false` when it is too late to send it.
    fn about_to_send(&self, message: &mut Outgoing) -> bool;

    /// A message of `size` bytes was handed over: counts it as sent, or as dropped when no queue took it.
    fn handed_over(&self, message: &Outgoing, size: u64, handover: Handover);

    /// A message came. `source` is the peer that made it, by its signature or its session; none when unsigned. `class` is
    /// that of its topic; none for the session protocols, and for a topic of several classes: the payload has it there.
    fn received(&self, source: Option<PeerId>, class: Option<u16>, bytes: &[u8]);
}

/// Everything a network is made from.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// This node's id.
    pub id: u64,
    /// The golden identities of the network's nodes.
    pub roster: Arc<Roster>,
    /// Address to listen on.
    pub listen_address: IpAddr,
    /// Port to listen on, TCP or UDP.
    pub port: u16,
    /// Peers to connect to; this node itself is left out.
    pub bootstrap: Vec<PeerAddress>,
    /// QUIC in place of TCP.
    pub quic: bool,
    /// How broadcasts travel.
    pub protocol: Protocol,
    /// Ids of the nodes that broadcast.
    pub broadcasters: Broadcasters,
    /// Settings of gossipsub.
    pub gossip: GossipSettings,
    /// Most bytes that wait for one peer.
    pub queue_bytes: usize,
    /// Most messages that wait for one peer.
    pub queue_messages: usize,
    /// Copies that wait in this network's queues and sessions.
    pub backlog: Backlog,
    /// Largest message while this network lasts, in bytes; queues are as long as it allows.
    pub message_size: usize,
}

/// Which nodes broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcasters {
    /// Every node, at once or in turn.
    All,
    /// One node.
    One(u64),
}

impl Broadcasters {
    /// Whether node `id` is one of them.
    pub fn contains(self, id: u64) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == id,
        }
    }
}

impl NetworkConfig {
    /// Messages that may wait for one peer: as many as fit [`Self::queue_bytes`], at least a few, at most
    /// [`Self::queue_messages`].
    pub fn queue_length(&self) -> usize {
        // A bound in messages alone is none in memory: 5,000 messages of 4 MiB are 20 GiB for each peer.
        (self.queue_bytes / self.message_size.max(1)).clamp(4, self.queue_messages.max(4))
    }
}

/// The network could not be started.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The port can't be listened on.
    #[error("can't listen on {address}: {reason}; give another --p2p-port")]
    Listen {
        /// The address that was tried.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The settings of gossipsub contradict each other.
    #[error("gossipsub settings: {0}")]
    Gossipsub(String),
    /// The encryption could not be set up.
    #[error("noise: {0}")]
    Noise(#[from] libp2p::noise::Error),
    /// libp2p refused the behaviour or the transport.
    #[error("libp2p: {0}")]
    Libp2p(String),
}
