//! Bounds of a node's buffers: a pure function of its channels and of the two limits of a queue.

use super::Channel;
use crate::message::{MAX_EXPLORE_MESSAGE_SIZE, MAX_MESSAGE_SIZE};
use crate::scenario::{MAX_PROPELLER_FRAME, Protocol, data_shards};

/// Minimum number of messages in every queue, up to the sizes of explore mode.
const LEAST_MESSAGES: usize = 4;

/// Number of peers whose whole share of inbound memory fits at once: 512 MiB with the default of `--queue-bytes`. A
/// single peer gets the same as a sender stores for it, so that only a node that receives many large messages at once
/// makes its peers wait.
pub(super) const PEERS_AT_ONCE: usize = 8;

/// Maximum number of concurrent sessions of SQMR to one peer. yamux ends the connection above 512 streams of both sides
/// together.
pub(super) const MAX_SESSIONS_PER_PEER: usize = 128;

/// Bytes that a peer may send on a yamux stream before anything reads them.
const STREAM_WINDOW: usize = 256 << 10;

/// Bounds of the buffers of one node.
///
/// A queue to a peer is bounded by bytes. One message always fits, even if it is larger than the limit: a queue then
/// holds a single message, and the next one is dropped while that one waits. Four messages of up to 4 MiB always fit.
#[derive(Clone, Copy, Debug)]
pub struct BufferLimits<'a> {
    /// The traffic classes.
    pub channels: &'a [Channel],
    /// Maximum number of bytes that wait for one peer (`--queue-bytes`).
    pub queue_bytes: usize,
    /// Maximum number of messages that wait for one peer (`--buffer-size`); at least four.
    pub queue_messages: usize,
}

impl BufferLimits<'_> {
    /// Maximum message size of all classes, in bytes.
    pub fn message_size(&self) -> usize {
        self.channels.iter().map(|channel| channel.message_size).max().unwrap_or(0)
    }

    /// Minimum number of messages that fit into a queue, for any size.
    pub(super) fn least_messages(&self) -> usize {
        (LEAST_MESSAGES * MAX_EXPLORE_MESSAGE_SIZE / self.message_size().max(1)).clamp(1, LEAST_MESSAGES)
    }

    /// Maximum number of bytes in a queue to one peer.
    pub fn peer_bytes(&self) -> usize {
        self.queue_bytes.max(self.least_messages().saturating_mul(self.message_size()))
    }

    /// Maximum number of messages in a queue to one peer.
    pub(super) fn peer_messages(&self) -> usize {
        self.queue_messages.max(LEAST_MESSAGES)
    }

    /// Length of a queue that counts messages of all classes: the number that fits [`Self::queue_bytes`] in their mix.
    pub fn queue_length(&self) -> usize {
        self.length(|_| true)
    }

    /// Length of gossipsub's queue to one peer, which counts messages. In the mix that the weights of the classes
    /// state, these are [`Self::queue_bytes`]; a queue of messages of the largest class alone would be larger.
    pub(super) fn gossip_queue_length(&self) -> usize {
        self.length(|channel| channel.protocol == Protocol::Gossipsub)
    }

    fn length(&self, wanted: impl Fn(&Channel) -> bool) -> usize {
        let (mut bytes, mut messages) = (0_u128, 0_u128);
        for channel in self.channels.iter().filter(|channel| wanted(channel)) {
            let weight = u128::from(channel.weight.max(1));
            bytes += weight * channel.message_size as u128;
            messages += weight;
        }
        // A bound in messages alone does not bound memory: 5,000 messages of 4 MiB are 20 GiB for each peer.
        let mean = usize::try_from(bytes.div_ceil(messages.max(1))).unwrap_or(usize::MAX);
        (self.queue_bytes / mean.max(1)).clamp(self.least_messages(), self.peer_messages())
    }

    /// Maximum number of bytes of the messages of one publisher of propeller that are in progress in a network of
    /// `nodes`: those of a queue to a peer, with all their shards.
    pub(super) fn unit_bytes(&self, nodes: usize) -> usize {
        let units = nodes.saturating_sub(1).max(1);
        self.peer_bytes().saturating_mul(units.div_ceil(data_shards(nodes)))
    }

    /// Maximum memory of the buffers of a node with `peers` connections if all of them are full, in bytes: queues to
    /// the peers, messages under way in both directions, and unread windows. Copies of a message that wait in several
    /// queues of SQMR or reversed SQMR share their memory, so this maximum is reached only if every peer falls behind
    /// by itself. Not included is gossipsub's cache, which grows with the traffic: five of its heartbeats of all
    /// messages, and more of them with a validation delay.
    pub fn buffer_bytes(&self, peers: usize) -> u64 {
        let carries = |protocol| self.channels.iter().any(|channel| channel.protocol == protocol);
        let message = self.message_size();
        let queue = self.peer_bytes().min(self.peer_messages().saturating_mul(message));
        let mut per_peer = 0_usize;
        if carries(Protocol::Gossipsub) {
            // A message is in memory twice while it is written, and once while it is read.
            per_peer = per_peer.saturating_add(queue).saturating_add(3 * message + STREAM_WINDOW);
        }
        if carries(Protocol::Sqmr) {
            // As many bytes may be in sessions as wait for one.
            per_peer = per_peer.saturating_add(queue.saturating_mul(2)).saturating_add(message);
            per_peer += MAX_SESSIONS_PER_PEER * STREAM_WINDOW;
        }
        if carries(Protocol::ReversedSqmr) {
            per_peer = per_peer.saturating_add(queue).saturating_add(message + STREAM_WINDOW);
        }
        if carries(Protocol::Propeller) {
            // A frame is in memory while it is written, and one while it is read.
            per_peer = per_peer.saturating_add(queue).saturating_add(2 * MAX_PROPELLER_FRAME + STREAM_WINDOW);
        }
        let units = if carries(Protocol::Propeller) {
            // Messages that are encoded wait in a queue of their own; those in progress are in memory with all shards.
            let publishers = peers.min(PEERS_AT_ONCE).saturating_mul(self.unit_bytes(peers + 1));
            publishers.saturating_add(queue)
        } else {
            0
        };
        let inbound = if carries(Protocol::Sqmr) || carries(Protocol::ReversedSqmr) {
            self.peer_bytes().saturating_mul(peers.min(PEERS_AT_ONCE)).saturating_add(MAX_MESSAGE_SIZE)
        } else {
            0
        };
        // The queue between the schedule and the network holds messages of all classes.
        let outgoing = self.queue_bytes.min(self.queue_length().saturating_mul(message));
        per_peer.saturating_mul(peers).saturating_add(inbound).saturating_add(units).saturating_add(outgoing) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Broadcasters;

    const MIB: usize = 1 << 20;

    fn class(protocol: Protocol, message_size: usize, weight: u32) -> Channel {
        Channel { weight, ..Channel::of_default_class(protocol, Broadcasters::All, message_size) }
    }

    fn limits(channels: &[Channel], queue_bytes: usize) -> BufferLimits<'_> {
        BufferLimits { channels, queue_bytes, queue_messages: 5000 }
    }

    #[test]
    fn a_queue_of_one_class_is_as_long_as_its_bytes_allow() {
        for (size, queue_bytes, length) in [
            (1000, 64 * MIB, 5000),
            (MIB, 64 * MIB, 64),
            (4 * MIB, 64 * MIB, 16),
            (4 * MIB, MIB, 4),
            (8 * MIB, MIB, 2),
            (32 * MIB, 64 * MIB, 2),
            (32 * MIB, MIB, 1),
        ] {
            let channels = [class(Protocol::Gossipsub, size, 1)];
            let limits = limits(&channels, queue_bytes);
            assert_eq!((limits.queue_length(), limits.gossip_queue_length()), (length, length), "{size} {queue_bytes}");
            assert!(limits.peer_bytes() >= size, "one message always fits");
        }
    }

    #[test]
    fn small_messages_among_large_ones_make_the_queue_longer() {
        let channels = [class(Protocol::Gossipsub, 3 * MIB, 10), class(Protocol::Gossipsub, 160, 200)];
        assert_eq!(limits(&channels, 64 * MIB).gossip_queue_length(), 447);
        let channels = [class(Protocol::Gossipsub, MIB, 1), class(Protocol::Sqmr, 100, 1_000_000)];
        assert_eq!(limits(&channels, 64 * MIB).gossip_queue_length(), 64, "other protocols have queues of their own");
    }

    #[test]
    fn the_memory_grows_with_peers_and_messages_and_knows_its_protocols() {
        let need = |protocol, size, peers| limits(&[class(protocol, size, 1)], 64 * MIB).buffer_bytes(peers) >> 20;
        // A queue of 64 MiB and three messages for each peer, and 64 MiB from the schedule.
        assert_eq!(need(Protocol::Gossipsub, 4 * MIB, 10), 10 * (64 + 12) + 64 + 2);
        assert_eq!(need(Protocol::Gossipsub, 32 * MIB, 10), 10 * (64 + 96) + 64 + 2);
        // 5,000 messages of 1 KiB are far below the limit in bytes.
        assert_eq!(need(Protocol::Gossipsub, 1024, 1), 10);
        // Twice the queue, one message, 128 windows; 8 peers at once and an oversized message come in.
        assert_eq!(need(Protocol::Sqmr, 4 * MIB, 10), 10 * (128 + 4 + 32) + 8 * 64 + 32 + 64);
        assert_eq!(need(Protocol::ReversedSqmr, 4 * MIB, 1), 64 + 4 + 64 + 32 + 64);
        assert_eq!(limits(&[], 64 * MIB).buffer_bytes(10), 0);
    }
}
