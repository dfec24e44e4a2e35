//! Traffic classes as the network carries them.

use std::collections::BTreeSet;

use crate::scenario::Protocol;

/// Topic of the traffic class named `default`, before it is hashed. Apollo's own node uses the same.
pub const DEFAULT_TOPIC: &str = "stress_test_topic";

/// The way of one traffic class through the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Protocol that carries the class. All classes of one protocol share its sessions or its mesh.
    pub protocol: Protocol,
    /// Topic of gossipsub, before it is hashed; the session protocols have none.
    pub topic: String,
    /// Each message goes to one connected peer, in turn over their sorted ids, not to all; session protocols only.
    pub unicast: bool,
    /// Nodes that broadcast messages of this class.
    pub broadcasters: Broadcasters,
    /// Largest message of this class while the network lasts, in bytes.
    pub message_size: usize,
    /// Messages of this class in a typical mix of all classes, 1 or more: queues that count messages are as long as the mix
    /// allows.
    pub weight: u32,
}

impl Channel {
    /// The channel of the class named `default` for messages of `message_size` bytes; its names on the wire are those of
    /// Apollo's node.
    pub fn of_default_class(protocol: Protocol, broadcasters: Broadcasters, message_size: usize) -> Self {
        Self { protocol, topic: DEFAULT_TOPIC.into(), unicast: false, broadcasters, message_size, weight: 1 }
    }
}

/// The nodes that broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcasters {
    /// Every node, at once or in turn.
    All,
    /// One node.
    One(u64),
    /// Several nodes, by id.
    Several(BTreeSet<u64>),
}

impl Broadcasters {
    /// True when node `id` is one of them.
    pub fn contains(&self, id: u64) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => *one == id,
            Self::Several(ids) => ids.contains(&id),
        }
    }
}
