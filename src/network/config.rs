//! The description that a network is made from.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Backlog, BufferLimits, Channel, PeerAddress, Roster};
use crate::scenario::{GossipSettings, Protocol};

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
    /// This node's neighbours in the topology, which have this node in their lists too: the node connects to them, waits for
    /// them, and takes connections of no others. This node itself is left out. Empty: every node of the roster may come.
    pub bootstrap: Vec<PeerAddress>,
    /// QUIC in place of TCP.
    pub quic: bool,
    /// The traffic classes, by class number: one network carries all of them.
    pub channels: Vec<Channel>,
    /// Time that this node takes before it passes a message of gossipsub on, up to 30 s; its own arrival does not wait. 0:
    /// gossipsub passes messages on by itself.
    pub validation_delay: Duration,
    /// Settings of gossipsub.
    pub gossip: GossipSettings,
    /// Maximum bytes that wait for one peer; see [`BufferLimits`].
    pub queue_bytes: usize,
    /// Maximum messages that wait for one peer.
    pub queue_messages: usize,
    /// Copies that wait in this network's queues and sessions.
    pub backlog: Backlog,
}

impl NetworkConfig {
    /// The channels that `protocol` carries, with their class numbers.
    pub(super) fn channels_of(&self, protocol: Protocol) -> impl Iterator<Item = (u16, &Channel)> {
        (0..).zip(&self.channels).filter(move |(_, channel)| channel.protocol == protocol)
    }

    /// Classes of `protocol` whose messages go to one peer each.
    pub(super) fn unicast_classes(&self, protocol: Protocol) -> Vec<u16> {
        self.channels_of(protocol).filter(|(_, channel)| channel.unicast).map(|(class, _)| class).collect()
    }

    /// True when node `id` broadcasts over `protocol`.
    pub(super) fn broadcasts_over(&self, protocol: Protocol, id: u64) -> bool {
        self.channels_of(protocol).any(|(_, channel)| channel.broadcasters.contains(id))
    }

    /// Bounds of this network's buffers.
    pub fn limits(&self) -> BufferLimits<'_> {
        let Self { channels, queue_bytes, queue_messages, .. } = self;
        BufferLimits { channels, queue_bytes: *queue_bytes, queue_messages: *queue_messages }
    }
}
