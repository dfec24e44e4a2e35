//! Identities of the nodes: a node's key follows from its id, so every address is known before the node runs.

use std::collections::HashMap;

use libp2p::{PeerId, identity::Keypair};

/// Maximum number of nodes of one network. Every node derives the identity of every other at its start, some 20 us
/// each.
pub const MAX_NODES: u64 = 10_000;

/// Key of node `id` (ed25519): the secret is the id as 8 little-endian bytes, then zeros. It is not confidential.
pub fn keypair(id: u64) -> Keypair {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&id.to_le_bytes());
    #[allow(clippy::expect_used, reason = "every 32 bytes are an ed25519 secret key")]
    Keypair::ed25519_from_bytes(secret).expect("32 bytes")
}

/// The peer id of node `id`.
pub fn peer_id(id: u64) -> PeerId {
    keypair(id).public().to_peer_id()
}

/// Peer ids of all nodes of a network, in both directions.
#[derive(Debug)]
pub struct Roster {
    peers: Vec<PeerId>,
    ids: HashMap<PeerId, u64>,
}

impl Roster {
    /// The roster of nodes `0..num_nodes`, at most [`MAX_NODES`].
    pub fn new(num_nodes: u64) -> Self {
        let peers: Vec<PeerId> = (0..num_nodes.min(MAX_NODES)).map(peer_id).collect();
        let ids = (0..).zip(&peers).map(|(id, peer)| (*peer, id)).collect();
        Self { peers, ids }
    }

    /// The peer id of a node.
    pub fn peer(&self, id: u64) -> Option<PeerId> {
        self.peers.get(usize::try_from(id).ok()?).copied()
    }

    /// The id of a peer that belongs to the network.
    pub fn id(&self, peer: &PeerId) -> Option<u64> {
        self.ids.get(peer).copied()
    }

    /// All peer ids, by node id.
    pub fn peers(&self) -> &[PeerId] {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_for_machines_that_are_configured_by_hand_is_true() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/modules/peer-ids.json");
        let ids: Vec<String> = (0..1000).map(|id| peer_id(id).to_string()).collect();
        let table = serde_json::to_string_pretty(&ids).unwrap() + "\n";
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &table).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == table, "{path}: UPDATE_DOCS=1 cargo test writes it again");
    }

    #[test]
    fn peer_ids_are_those_of_apollos_node() {
        assert_eq!(peer_id(0).to_string(), "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
        assert_eq!(peer_id(1).to_string(), "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X");
        assert_eq!(peer_id(2).to_string(), "12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3");
        assert_eq!(peer_id(3).to_string(), "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo");
    }

    #[test]
    fn the_roster_knows_its_nodes_and_no_others() {
        let roster = Roster::new(3);
        assert_eq!(roster.peer(2), Some(peer_id(2)));
        assert_eq!(roster.id(&peer_id(1)), Some(1));
        assert_eq!((roster.peer(3), roster.id(&peer_id(3))), (None, None));
        assert_eq!(roster.peers().len(), 3);
    }
}
