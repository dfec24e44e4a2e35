//! Rotation of the peers that receive unicast messages.

use libp2p::PeerId;

use crate::network::{NetworkConfig, Roster};

/// Neighbours of a node by node id, connected or not: receivers know from a message's index which neighbour it is for.
pub(super) struct Turns {
    peers: Vec<PeerId>,
}

impl Turns {
    /// Listed neighbours of a node; without a list all other nodes, which connect to this one.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self::of_peers(config.bootstrap.iter().map(|entry| entry.peer).collect(), config.id, &config.roster)
    }

    fn of_peers(listed: Vec<PeerId>, own: u64, roster: &Roster) -> Self {
        let mut ids: Vec<u64> = listed.iter().filter_map(|peer| roster.id(peer)).filter(|id| *id != own).collect();
        if ids.is_empty() {
            ids = (0..roster.peers().len() as u64).filter(|id| *id != own).collect();
        }
        ids.sort_unstable();
        ids.dedup();
        Self { peers: ids.into_iter().filter_map(|id| roster.peer(id)).collect() }
    }

    /// Peer that receives message `index`; none in a network of one node.
    pub(super) fn of(&self, index: u64) -> Option<PeerId> {
        let place = index.checked_rem(self.peers.len() as u64)?;
        self.peers.get(usize::try_from(place).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::peer_id;

    fn order(listed: &[u64], own: u64) -> Vec<PeerId> {
        let turns = Turns::of_peers(listed.iter().map(|id| peer_id(*id)).collect(), own, &Roster::new(5));
        (0..4).map(|index| turns.of(index).unwrap()).collect()
    }

    #[test]
    fn the_listed_neighbours_take_turns_by_node_id() {
        assert_eq!(order(&[4, 1, 2, 3, 1], 2), [1, 3, 4, 1].map(peer_id));
    }

    #[test]
    fn a_node_without_a_list_has_all_others() {
        assert_eq!(order(&[], 2), [0, 1, 3, 4].map(peer_id));
        assert_eq!(Turns::of_peers(vec![], 0, &Roster::new(1)).of(0), None);
    }
}
