//! The turns of the peers to get a message that goes to one of them.

use libp2p::PeerId;

use crate::network::Roster;

/// The connected peers by node id; those that are not of the roster come last.
#[derive(Default)]
pub(super) struct Turns {
    peers: Vec<(u64, PeerId)>,
}

impl Turns {
    pub(super) fn insert(&mut self, peer: PeerId, roster: &Roster) {
        let entry = (roster.id(&peer).unwrap_or(u64::MAX), peer);
        if let Err(place) = self.peers.binary_search(&entry) {
            self.peers.insert(place, entry);
        }
    }

    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.peers.retain(|(_, other)| other != peer);
    }

    /// The peer that gets message `index`; none when none is connected.
    pub(super) fn of(&self, index: u64) -> Option<PeerId> {
        let place = index.checked_rem(self.peers.len() as u64)?;
        self.peers.get(usize::try_from(place).ok()?).map(|(_, peer)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::peer_id;

    #[test]
    fn the_peers_take_turns_by_node_id_whatever_the_order_they_came_in() {
        let roster = Roster::new(5);
        let mut turns = Turns::default();
        assert_eq!(turns.of(0), None);
        for id in [7, 4, 1, 3, 1] {
            turns.insert(peer_id(id), &roster);
        }
        let order: Vec<_> = (0..5).map(|index| turns.of(index).unwrap()).collect();
        assert_eq!(order, [1, 3, 4, 7, 1].map(peer_id));
        turns.remove(&peer_id(3));
        assert_eq!(turns.of(1), Some(peer_id(4)));
    }
}
