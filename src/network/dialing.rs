//! Dialling of the peers: its direction, and its repetition.

use std::{collections::HashMap, time::Duration};

use libp2p::{Multiaddr, PeerId};

use super::{PeerAddress, Roster, UnreachedPeer};
use crate::clock::Instant;

/// Pause after the first failed dial; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Maximum pause. Names of pods appear late, and must be found within two seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Time for which a peer is missing before a warning: nodes that start together miss each other for a moment.
const WARN_AFTER: Duration = Duration::from_secs(2);
/// Maximum number of warnings about one peer, whose cause may change for ever, and about all peers in a second.
const WARNINGS_PER_PEER: u32 = 8;
const WARNINGS_PER_SECOND: u32 = 20;

/// Maximum number of unreached peers that are reported: enough to see the cause.
const MOST_REPORTED: usize = 16;

/// Time for which the peer with the greater id leaves the first dial to the other one. If both dialled at once, each
/// could keep a different one of the two connections and close the other's.
const LEAVE_TO_OTHER: Duration = Duration::from_secs(3);

struct Peer {
    addresses: Vec<Multiaddr>,
    connected: bool,
    next: Instant,
    wait: Duration,
    leave: Duration,
    /// Address and cause of the last failed dial.
    failed: Option<Failed>,
    warnings: u32,
}

struct Failed {
    since: Instant,
    address: String,
    cause: String,
    warned: bool,
}

/// Effect of a failed dial on the reports.
pub(super) struct DialOutcome {
    /// True if the report of unreached peers has changed.
    pub(super) changed: bool,
    /// True if it is worth a warning.
    pub(super) warn: bool,
}

/// Expected peers, and the times of their next dials.
pub(super) struct Dialer {
    peers: HashMap<PeerId, Peer>,
    /// Second of the last warnings, and their number.
    warned: (Instant, u32),
}

impl Dialer {
    /// Expects every peer of `bootstrap` except `own`.
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
                    failed: None,
                    warnings: 0,
                })
                .addresses
                .push(address.clone());
        }
        Self { peers, warned: (now, 0) }
    }

    /// Number of expected peers.
    pub(super) fn expected(&self) -> usize {
        self.peers.len()
    }

    /// Expected peers that are connected.
    pub(super) fn connected_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.connected).count()
    }

    /// Records that a peer has connected; returns true if it was reported as unreached.
    pub(super) fn connected(&mut self, peer: &PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(peer) else { return false };
        peer.connected = true;
        peer.wait = FIRST_WAIT;
        peer.failed.take().is_some()
    }

    /// Records that a dial of a peer failed.
    pub(super) fn failed(&mut self, peer: &PeerId, address: String, cause: String, now: Instant) -> DialOutcome {
        let nothing = DialOutcome { changed: false, warn: false };
        let Some(peer) = self.peers.get_mut(peer).filter(|peer| !peer.connected) else { return nothing };
        let same = peer.failed.as_ref().is_some_and(|failed| failed.cause == cause && failed.address == address);
        let since = peer.failed.as_ref().map_or(now, |failed| failed.since);
        let warned = same && peer.failed.as_ref().is_some_and(|failed| failed.warned);
        if now.duration_since(self.warned.0) >= Duration::from_secs(1) {
            self.warned = (now, 0);
        }
        let warn = !warned
            && now.duration_since(since) >= WARN_AFTER
            && peer.warnings < WARNINGS_PER_PEER
            && self.warned.1 < WARNINGS_PER_SECOND;
        if warn {
            peer.warnings += 1;
            self.warned.1 += 1;
        }
        peer.failed = Some(Failed { since, address, cause, warned: warned || warn });
        DialOutcome { changed: !same, warn }
    }

    /// Peers whose dials failed, by id; a bounded part of them.
    pub(super) fn unreached(&self, roster: &Roster) -> Vec<UnreachedPeer> {
        let failed = self.peers.iter().filter_map(|(id, peer)| Some((id, peer.failed.as_ref()?)));
        let mut all: Vec<UnreachedPeer> = failed
            .take(MOST_REPORTED)
            .map(|(id, failed)| UnreachedPeer {
                node: roster.id(id),
                peer: id.to_string(),
                address: failed.address.clone(),
                cause: failed.cause.clone(),
            })
            .collect();
        all.sort_by(|one, other| (one.node, &one.peer).cmp(&(other.node, &other.peer)));
        all
    }

    /// Records that a peer has disconnected.
    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.connected = false;
            peer.next = Instant::now() + FIRST_WAIT + peer.leave;
        }
    }

    /// Peers to dial now, with their addresses; each is due again after a growing pause.
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
    fn a_peer_that_stays_away_is_warned_of_once_for_each_cause_and_reported_at_once() {
        let mut dialer = Dialer::new(peer_id(0), &addresses(&[0, 1]));
        let roster = Roster::new(2);
        let start = Instant::now();
        let fail = |dialer: &mut Dialer, seconds, cause: &str| {
            let at = start + Duration::from_secs(seconds);
            let outcome = dialer.failed(&peer_id(1), "/ip4/127.0.0.1/tcp/1".into(), cause.into(), at);
            (outcome.changed, outcome.warn)
        };
        assert_eq!(fail(&mut dialer, 0, "connection refused"), (true, false));
        assert_eq!(fail(&mut dialer, 1, "connection refused"), (false, false));
        assert_eq!(fail(&mut dialer, 2, "connection refused"), (false, true));
        assert_eq!(fail(&mut dialer, 3, "connection refused"), (false, false));
        assert_eq!(fail(&mut dialer, 4, "timed out"), (true, true));
        let unreached = dialer.unreached(&roster);
        assert_eq!(unreached[0].to_string(), "node 1 at /ip4/127.0.0.1/tcp/1: timed out");
        for again in 0..100 {
            fail(&mut dialer, 10 + again, &format!("cause {again}"));
        }
        assert_eq!(dialer.peers[&peer_id(1)].warnings, WARNINGS_PER_PEER);
        assert!(dialer.connected(&peer_id(1)));
        assert!(dialer.unreached(&roster).is_empty());
    }

    #[test]
    fn a_lost_peer_is_dialled_again_and_ever_more_rarely() {
        let mut dialer = Dialer::new(peer_id(0), &addresses(&[0, 1]));
        assert_eq!(dialer.expected(), 1);
        dialer.connected(&peer_id(1));
        let mut now = Instant::now() + LEAVE_TO_OTHER * 2;
        assert!(dialer.due(now).is_empty());
        dialer.disconnected(&peer_id(1));
        for wait in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(dialer.due(now).len(), 1);
            now += Duration::from_millis(wait - 1);
            assert!(dialer.due(now).is_empty());
            now += Duration::from_millis(1);
        }
    }
}
