//! libp2p side of a node: identity, transport, the protocols that broadcast, and the loop that drives them.
//!
//! A [`Network`] broadcasts the messages of its outgoing channel and hands every arrival to its [`Traffic`]. It knows
//! nothing of schedules or of counting.

mod address;
mod backlog;
mod behaviours;
mod broadcast;
mod budget;
mod channel;
mod config;
mod dialing;
mod events;
mod identity;
mod limits;
mod names;
mod prefixed;
mod propeller;
mod queue;
mod readiness;
mod streams;
mod swarm;
#[cfg(test)]
mod tests;
mod transport;
mod unreached;
mod virtual_transport;

pub use address::{PeerAddress, PeerAddressError};
pub use backlog::Backlog;
pub use channel::{Broadcasters, Channel, DEFAULT_TOPIC};
pub use config::NetworkConfig;
pub use identity::{MAX_NODES, Roster, keypair, peer_id};
pub use limits::BufferLimits;
pub use propeller::{OwnerCounts, PropellerCounts, PropellerTotals};
pub use readiness::{Readiness, ReadinessReport};
pub use swarm::Network;
pub use unreached::UnreachedPeer;

use libp2p::PeerId;
use thiserror::Error;

/// An outgoing message.
#[derive(Debug)]
pub struct Outgoing {
    /// Intended send time by the schedule, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// Time at which the next message is due; after it, this message is late.
    pub next_unix_nanos: u64,
    /// Time at which it was handed to the network, in nanoseconds since the Unix epoch; 0 before.
    pub handed_over_unix_nanos: u64,
    /// Trial of explore mode that it belongs to.
    pub trial: u32,
    /// Number of its traffic class: the place of the class's [`Channel`].
    pub class: u16,
    /// Number among the messages of this node and class, from 0.
    pub index: u64,
    /// The whole message; empty after it was handed over.
    pub bytes: Vec<u8>,
}

impl Outgoing {
    /// Nanoseconds from the intended to the real send time.
    pub fn send_lag_nanos(&self) -> u64 {
        self.handed_over_unix_nanos.saturating_sub(self.intended_unix_nanos)
    }

    /// True if the next message was due when this one was handed over.
    pub fn is_late(&self) -> bool {
        self.handed_over_unix_nanos >= self.next_unix_nanos
    }
}

/// Result of handing a broadcast to the queues of the peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Copies that a queue took; gossipsub's copies count as one.
    pub queued: u64,
    /// Copies that a full or missing queue dropped.
    pub dropped: u64,
}

/// Callbacks of the node at both ends of the network. They are called on the network's tasks, so they must be quick.
pub trait Traffic: Send + Sync + 'static {
    /// Called just before a message is handed over, to stamp it. `false` if it is too late to send it.
    fn about_to_send(&self, message: &mut Outgoing) -> bool;

    /// Called after a message of `size` bytes was handed over, to count it as sent, or as dropped if no queue took it.
    fn handed_over(&self, message: &Outgoing, size: u64, handover: Handover);

    /// Called when queues to a peer had no room for `copies` of messages, or held them for too long.
    fn not_sent_to(&self, peer: &PeerId, copies: u64);

    /// Called for each arriving message. `source` is the peer that made it, by its signature or its session; none if
    /// unsigned. `from` is the peer that delivered this copy; none if many peers had parts of it. `class` is that of its topic; none for the session protocols, and for a topic of several classes,
    /// whose payload names the class.
    fn received(&self, source: Option<PeerId>, from: Option<PeerId>, class: Option<u16>, bytes: &[u8]);
}

/// Reason why the network could not be started.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The port can't be listened on.
    #[error("can't listen on {address}: {reason}; give another --p2p-port")]
    Listen {
        /// Address that was tried.
        address: String,
        /// Error of the system.
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
