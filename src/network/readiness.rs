//! What must be there before traffic makes sense.

use serde::{Deserialize, Serialize};

/// How far a node is from being ready. Ready means that a broadcast of this node reaches all expected peers; when all
/// nodes are ready, every broadcast reaches everyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Peers that must be connected.
    pub expected_peers: usize,
    /// Expected peers that are connected.
    pub connected_peers: usize,
    /// Links that must be usable: subscriptions (gossipsub) or open queries (reversed SQMR).
    pub expected_links: usize,
    /// Links that are usable.
    pub links: usize,
}

impl Readiness {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.connected_peers >= self.expected_peers && self.links >= self.expected_links
    }
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} of {} peers connected, {} of {} subscriptions or queries open",
            self.connected_peers, self.expected_peers, self.links, self.expected_links
        )
    }
}
