//! Description from which a network is made.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Backlog, BufferLimits, Channel, PeerAddress, PropellerCounts, Roster};
use crate::scenario::{GossipSettings, Protocol};

/// Topic of the traffic class named `default`, before it is hashed. Apollo's own node uses the same.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// This node's id.
    pub id: u64,
    /// Fixed identities of the network's nodes.
    pub roster: Arc<Roster>,
    /// Address to listen on.
    pub listen_address: IpAddr,
    /// Port to listen on, TCP or UDP.
    pub port: u16,
    /// Neighbours of this node in the topology, which have this node in their lists too: the node connects to them,
    /// waits for them, and accepts connections of no others. This node itself is left out. If empty, every node of the
    /// roster may connect.
    pub bootstrap: Vec<PeerAddress>,
    /// Use QUIC instead of TCP.
    pub quic: bool,
    /// The traffic classes, by class number: one network carries all of them.
    pub channels: Vec<Channel>,
    /// Time that this node waits before it forwards a message of gossipsub, up to 30 s; its own arrival does not wait.
    /// With 0, gossipsub forwards messages by itself.
    pub validation_delay: Duration,
    /// Time after which a message of propeller is given up.
    pub propeller_stale: Duration,
    /// Counts of propeller.
    pub propeller_counts: PropellerCounts,
    /// Settings of gossipsub.
    pub gossip: GossipSettings,
    /// Maximum number of bytes that wait for one peer; see [`BufferLimits`].
    pub queue_bytes: usize,
    /// Maximum number of messages that wait for one peer.
    pub queue_messages: usize,
    /// Copies that wait in this network's queues and sessions.
    pub backlog: Backlog,
}

impl NetworkConfig {
    /// Channels that `protocol` carries, with their class numbers.
    pub(super) fn channels_of(&self, protocol: Protocol) -> impl Iterator<Item = (u16, &Channel)> {
        (0..).zip(&self.channels).filter(move |(_, channel)| channel.protocol == protocol)
    }

    /// Classes of `protocol` whose messages go to one peer each.
    pub(super) fn unicast_classes(&self, protocol: Protocol) -> Vec<u16> {
        self.channels_of(protocol).filter(|(_, channel)| channel.unicast).map(|(class, _)| class).collect()
    }

    /// True if node `id` broadcasts over `protocol`.
    pub(super) fn broadcasts_over(&self, protocol: Protocol, id: u64) -> bool {
        self.channels_of(protocol).any(|(_, channel)| channel.broadcasters.contains(id))
    }

    /// Bounds of this network's buffers.
    pub fn limits(&self) -> BufferLimits<'_> {
        let Self { channels, queue_bytes, queue_messages, .. } = self;
        BufferLimits { channels, queue_bytes: *queue_bytes, queue_messages: *queue_messages }
    }
}
