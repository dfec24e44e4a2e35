//! Interface between the task of the swarm and a protocol.

use libp2p::PeerId;

use crate::{
    clock::Instant,
    network::{
        Handover,
        behaviours::{Behaviours, BehavioursEvent},
    },
};

/// One protocol as the task of the swarm drives it. All its methods are quick.
pub(super) trait Broadcast: Send {
    /// A peer has connected.
    fn connected(&mut self, _peer: PeerId) {}

    /// A peer is gone.
    fn disconnected(&mut self, _peer: &PeerId) {}

    /// Hands a message of `class`, number `index` of this node, to the queues of its receivers.
    fn send(&mut self, behaviours: &mut Behaviours, class: u16, index: u64, bytes: Vec<u8>) -> Handover;

    /// Takes note of what a behaviour reports. The answer is true when the number of links may have changed.
    fn on_event(&mut self, _behaviours: &mut Behaviours, _event: &BehavioursEvent) -> bool {
        false
    }

    /// The next time at which [`Self::work`] is to be called; none when nothing waits for a time.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does what is due by `now`.
    fn work(&mut self, _behaviours: &mut Behaviours, _now: Instant) {}

    /// Links that a broadcast of this node needs when it has `expected_peers`.
    fn expected_links(&self, expected_peers: usize) -> usize;

    /// Links that are usable now.
    fn links(&self) -> usize;
}
