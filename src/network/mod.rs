//! The libp2p side of a node: identity, transport, the protocols that broadcast, and the loop that drives them.
//!
//! A [`Network`] broadcasts what comes out of its outgoing channel and hands every arrival to its [`Traffic`]. It knows
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
mod queue;
mod readiness;
mod streams;
mod swarm;
#[cfg(test)]
mod tests;
mod transport;
mod unreached;

pub use address::{PeerAddress, PeerAddressError};
pub use backlog::Backlog;
pub use channel::{Broadcasters, Channel, DEFAULT_TOPIC};
pub use config::NetworkConfig;
pub use identity::{MAX_NODES, Roster, keypair, peer_id};
pub use limits::BufferLimits;
pub use readiness::{Readiness, ReadinessReport};
pub use swarm::Network;
pub use unreached::UnreachedPeer;

use libp2p::PeerId;
use thiserror::Error;

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
    /// Number of its traffic class: the place of the class's [`Channel`].
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

    /// True if the next message was due when this one was handed over.
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
