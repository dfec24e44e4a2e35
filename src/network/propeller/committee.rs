//! Committee of a network, and the owners of the units of a message.

use std::collections::HashMap;

use libp2p::{PeerId, identity::PublicKey};
use sha2::{Digest, Sha256};

use super::merkle::Hash;
use crate::scenario::data_shards;

/// Number of data and of coding shards of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Shards that are the message itself; any as many units rebuild it.
    pub(super) data: usize,
    /// Shards that are computed.
    pub(super) coding: usize,
}

impl Shape {
    /// Number of units of a message.
    pub(super) fn units(self) -> usize {
        self.data + self.coding
    }

    /// Number of units at which a message counts as received: then all other nodes can rebuild it too, although as many
    /// units as it has data shards are lost.
    pub(super) fn enough(self) -> usize {
        // Networks of up to three nodes have no second unit for everyone.
        if self.units() < 3 { self.data } else { 2 * self.data }
    }
}

/// All nodes of the network, sorted by peer id. A node's place is its number in this list.
#[derive(Debug)]
pub(super) struct Committee {
    members: Vec<PeerId>,
    /// Keys of the members, by place; none for a member whose peer id does not contain it.
    keys: Vec<Option<PublicKey>>,
    places: HashMap<PeerId, usize>,
    id: Hash,
}

impl Committee {
    /// Makes the committee of these nodes, and its id: the SHA-256 hash of all peer ids in their order.
    pub(super) fn new(members: &[PeerId]) -> Self {
        let mut members = members.to_vec();
        members.sort_unstable();
        members.dedup();
        let mut hash = Sha256::new();
        members.iter().for_each(|member| hash.update(member.to_bytes()));
        let key = |member: &PeerId| PublicKey::try_decode_protobuf(member.as_ref().digest()).ok();
        let keys = members.iter().map(key).collect();
        let places = members.iter().enumerate().map(|(place, member)| (*member, place)).collect();
        Self { members, keys, places, id: hash.finalize().into() }
    }

    /// Name of the committee in signatures and units.
    pub(super) fn id(&self) -> &Hash {
        &self.id
    }

    /// The same committee under another id.
    #[cfg(test)]
    pub(super) fn with_id(self, id: Hash) -> Self {
        Self { id, ..self }
    }

    /// Place of a member.
    pub(super) fn place(&self, peer: &PeerId) -> Option<usize> {
        self.places.get(peer).copied()
    }

    /// Member at a place.
    pub(super) fn member(&self, place: usize) -> Option<PeerId> {
        self.members.get(place).copied()
    }

    /// Public key of the member at a place.
    pub(super) fn key(&self, place: usize) -> Option<&PublicKey> {
        self.keys.get(place)?.as_ref()
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Shards of every message.
    pub(super) fn shape(&self) -> Shape {
        let data = data_shards(self.len());
        Shape { data, coding: self.len().saturating_sub(1 + data) }
    }

    /// Place of the owner of a publisher's unit `index`, below the number of units.
    pub(super) fn owner(publisher: usize, index: usize) -> usize {
        if index < publisher { index } else { index + 1 }
    }

    /// Index of the unit of a publisher that belongs to the member at `place`; none for the publisher itself.
    pub(super) fn index(publisher: usize, place: usize) -> Option<usize> {
        match place.cmp(&publisher) {
            std::cmp::Ordering::Less => Some(place),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(place - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{keypair, peer_id};

    #[test]
    fn members_are_sorted_and_their_keys_known() {
        let committee = Committee::new(&[peer_id(2), peer_id(0), peer_id(1), peer_id(0)]);
        assert_eq!(committee.len(), 3);
        assert!(committee.members.is_sorted());
        for id in 0..3 {
            let place = committee.place(&peer_id(id)).unwrap();
            assert_eq!(committee.member(place), Some(peer_id(id)));
            assert_eq!(committee.key(place), Some(&keypair(id).public()));
        }
        assert_eq!(committee.place(&peer_id(3)), None);
        assert_ne!(committee.id(), Committee::new(&[peer_id(0), peer_id(1)]).id());
    }

    #[test]
    fn every_unit_belongs_to_one_node_and_none_to_the_publisher() {
        for publisher in 0..5 {
            let owners: Vec<usize> = (0..4).map(|index| Committee::owner(publisher, index)).collect();
            assert!(owners.is_sorted() && !owners.contains(&publisher), "{owners:?}");
            for (index, owner) in owners.into_iter().enumerate() {
                assert_eq!(Committee::index(publisher, owner), Some(index));
            }
            assert_eq!(Committee::index(publisher, publisher), None);
        }
    }

    #[test]
    fn small_networks_deliver_at_their_first_unit() {
        let shape = |nodes: u64| Committee::new(&(0..nodes).map(peer_id).collect::<Vec<_>>()).shape();
        let facts = |nodes| (shape(nodes).data, shape(nodes).coding, shape(nodes).enough());
        assert_eq!([2, 3, 4, 7, 10].map(facts), [(1, 0, 1), (1, 1, 1), (1, 2, 2), (2, 4, 4), (3, 6, 6)]);
    }
}
