//! Who dials whom, and when again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use super::PeerAddress;

/// Wait after the first failed dial; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long the peer with the greater id leaves the first dial to the other. Were both to dial at once, each could keep
/// a different one of the two connections and close the other's.
const LEAVE_TO_OTHER: Duration = Duration::from_secs(3);

struct Peer {
    addresses: Vec<Multiaddr>,
    connected: bool,
    next: Instant,
    wait: Duration,
    leave: Duration,
}

/// The expected peers, and which of them are due to be dialled.
pub(super) struct Dialer {
    peers: HashMap<PeerId, Peer>,
}

impl Dialer {
    /// Expects every peer of `bootstrap` but `own`.
    pub(super) fn new(own: PeerId, bootstrap: &[PeerAddress]) -> Self {
        let now = Instant::now();
        let mut peers = HashMap::new();
        for PeerAddress { peer, address } in bootstrap.iter().filter(|entry| entry.peer != own) {
            let leave = if own.to_bytes() < peer.to_bytes() { Duration::ZERO } else { LEAVE_TO_OTHER };
            peers
                .entry(*peer)
                .or_insert_with(|| Peer {
                    addresses: vec![],
                    connected: false,
                    next: now + leave,
                    wait: FIRST_WAIT,
                    leave,
                })
                .addresses
                .push(address.clone());
        }
        Self { peers }
    }

    /// Number of expected peers.
    pub(super) fn expected(&self) -> usize {
        self.peers.len()
    }

    /// Expected peers that are connected.
    pub(super) fn connected_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.connected).count()
    }

    /// Takes note that a peer has connected.
    pub(super) fn connected(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.connected = true;
            peer.wait = FIRST_WAIT;
        }
    }

    /// Takes note that a peer is gone.
    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.connected = false;
            peer.next = Instant::now() + FIRST_WAIT + peer.leave;
        }
    }

    /// The peers to dial now, with their addresses; each is due again after a wait that grows.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = vec![];
        for (id, peer) in &mut self.peers {
            if !peer.connected && peer.next <= now {
                peer.next = now + peer.wait;
                peer.wait = (peer.wait * 2).min(LONGEST_WAIT);
                due.push((*id, peer.addresses.clone()));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::peer_id;

    fn addresses(ids: &[u64]) -> Vec<PeerAddress> {
        ids.iter().map(|id| format!("/ip4/127.0.0.1/tcp/1/p2p/{}", peer_id(*id)).parse().unwrap()).collect()
    }

    #[test]
    fn of_two_peers_exactly_one_dials_at_first() {
        let later = Instant::now() + Duration::from_millis(1);
        let zero_dials = !Dialer::new(peer_id(0), &addresses(&[0, 1])).due(later).is_empty();
        let one_dials = !Dialer::new(peer_id(1), &addresses(&[0, 1])).due(later).is_empty();
        assert!(zero_dials != one_dials);
    }

    #[test]
    fn a_lost_peer_is_dialled_again_and_ever_more_rarely() {
        let mut dialer = Dialer::new(peer_id(0), &addresses(&[0, 1]));
        assert_eq!(dialer.expected(), 1);
        dialer.connected(&peer_id(1));
        let mut now = Instant::now() + LEAVE_TO_OTHER * 2;
        assert!(dialer.due(now).is_empty());
        dialer.disconnected(&peer_id(1));
        for wait in [100, 200, 400, 800, 1600, 2000, 2000] {
            assert_eq!(dialer.due(now).len(), 1);
            now += Duration::from_millis(wait - 1);
            assert!(dialer.due(now).is_empty());
            now += Duration::from_millis(1);
        }
    }
}
