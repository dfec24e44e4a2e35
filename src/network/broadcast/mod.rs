//! Broadcasting, with an implementation for each protocol. A network runs every protocol that one of its channels
//! names, once.
//!
//! A new protocol is a module with an implementation of [`Broadcast`] and a line in [`make`].

mod framing;
mod gossipsub;
mod inbound;
mod propeller;
mod protocol;
mod reversed_sqmr;
mod sessions;
mod setup;
mod sqmr;
mod turns;
mod validation;

use libp2p::PeerId;

pub(super) use self::setup::Setup;
use self::{gossipsub::Gossipsub, propeller::Propeller, protocol::Broadcast, reversed_sqmr::ReversedSqmr, sqmr::Sqmr};
use super::{
    Handover, NetworkError,
    behaviours::{Behaviours, BehavioursEvent},
};
use crate::{clock::Instant, metrics::Metrics, scenario::Protocol};

fn make(protocol: Protocol, setup: &mut Setup<'_>) -> Result<Box<dyn Broadcast>, NetworkError> {
    Ok(match protocol {
        Protocol::Gossipsub => Box::new(Gossipsub::new(setup)?),
        Protocol::Sqmr => Box::new(Sqmr::new(setup)),
        Protocol::ReversedSqmr => Box::new(ReversedSqmr::new(setup)),
        Protocol::Propeller => Box::new(Propeller::new(setup)?),
    })
}

/// The protocols of one network.
pub(super) struct Broadcasts {
    protocols: Vec<Box<dyn Broadcast>>,
    /// Place of each class's protocol, by class number.
    by_class: Vec<usize>,
    metrics: Metrics,
}

impl Broadcasts {
    /// Makes every protocol that a channel names, and adds their needs to `setup`.
    ///
    /// # Errors
    /// Fails if the settings of a protocol do not go together.
    pub(super) fn new(setup: &mut Setup<'_>) -> Result<Self, NetworkError> {
        let mut names: Vec<Protocol> = vec![];
        let mut by_class = vec![];
        for channel in &setup.config.channels {
            let known = names.iter().position(|name| *name == channel.protocol);
            by_class.push(known.unwrap_or(names.len()));
            if known.is_none() {
                names.push(channel.protocol);
            }
        }
        let protocols = names.into_iter().map(|name| make(name, setup)).collect::<Result<_, _>>()?;
        std::mem::take(&mut setup.inbound).serve(setup.metrics, &mut setup.streams);
        Ok(Self { protocols, by_class, metrics: setup.metrics.clone() })
    }

    pub(super) fn connected(&mut self, peer: PeerId) {
        self.protocols.iter_mut().for_each(|protocol| protocol.connected(peer));
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.protocols.iter_mut().for_each(|protocol| protocol.disconnected(peer));
    }

    pub(super) fn send(&mut self, behaviours: &mut Behaviours, class: u16, index: u64, bytes: Vec<u8>) -> Handover {
        let place = self.by_class.get(usize::from(class));
        let Some(protocol) = place.and_then(|place| self.protocols.get_mut(*place)) else {
            self.metrics.network_dropped_broadcast_messages.of("unknown_class").inc();
            return Handover { queued: 0, dropped: 1 };
        };
        protocol.send(behaviours, class, index, bytes)
    }

    pub(super) fn on_event(&mut self, behaviours: &mut Behaviours, event: &BehavioursEvent) -> bool {
        self.protocols.iter_mut().fold(false, |changed, protocol| protocol.on_event(behaviours, event) | changed)
    }

    /// Next time at which a protocol has work to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.protocols.iter().filter_map(|protocol| protocol.due()).min()
    }

    /// Does everything that is due by `now`.
    pub(super) fn work(&mut self, behaviours: &mut Behaviours, now: Instant) {
        self.protocols.iter_mut().for_each(|protocol| protocol.work(behaviours, now));
    }

    /// Usable and expected links of all protocols together. A surplus of one protocol does not compensate for missing
    /// links of another.
    pub(super) fn links(&self, expected_peers: usize) -> (usize, usize) {
        if let [only] = &self.protocols[..] {
            return (only.links(), only.expected_links(expected_peers));
        }
        self.protocols.iter().fold((0, 0), |(links, expected), protocol| {
            let needed = protocol.expected_links(expected_peers);
            (links + protocol.links().min(needed), expected + needed)
        })
    }
}
