//! Conditions for starting the traffic.

use serde::{Deserialize, Serialize};

use super::UnreachedPeer;

/// Progress of a node towards readiness. A node is ready if its broadcasts reach all its neighbours; if all nodes are
/// ready, every broadcast reaches all its receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Number of peers that must be connected.
    pub expected_peers: usize,
    /// Number of expected peers that are connected.
    pub connected_peers: usize,
    /// Number of links that must be usable: subscriptions (gossipsub), open queries (reversed SQMR) or
    /// streams of units (propeller).
    pub expected_links: usize,
    /// Number of usable links.
    pub links: usize,
}

impl Readiness {
    /// True if nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.connected_peers >= self.expected_peers && self.links >= self.expected_links
    }
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} of {} peers connected, {} of {} subscriptions, queries or streams open",
            self.connected_peers, self.expected_peers, self.links, self.expected_links
        )
    }
}

/// Readiness, and the reasons why peers are missing: the answer of `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessReport {
    /// Progress towards readiness.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// Peers that could not be reached, with the last cause; a bounded part of them.
    #[serde(default)]
    pub unreached: Vec<UnreachedPeer>,
}

impl std::fmt::Display for ReadinessReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Maximum number of peers in a line.
        const SHOWN: usize = 3;
        write!(formatter, "{}", self.readiness)?;
        for peer in self.unreached.iter().take(SHOWN) {
            write!(formatter, "; {peer}")?;
        }
        match self.unreached.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}
