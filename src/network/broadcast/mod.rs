//! Broadcasting, with an implementation for each protocol. A network runs every protocol that one of its channels
//! names, once.
//!
//! A new protocol is a module with an implementation of [`Broadcast`] and a line in [`make`].

mod framing;
mod gossipsub;
mod inbound;
mod reversed_sqmr;
mod sqmr;
mod turns;
mod validation;

use std::{sync::Arc, time::Instant};

use libp2p::{PeerId, identity::Keypair};
use tokio::sync::Notify;

use self::{gossipsub::Gossipsub, inbound::Inbound, reversed_sqmr::ReversedSqmr, sqmr::Sqmr};
use super::{
    Handover, NetworkConfig, NetworkError, Traffic,
    behaviours::{Behaviours, BehavioursEvent},
    budget::Budget,
    streams,
};
use crate::{metrics::Metrics, scenario::Protocol};

/// One protocol as the task of the swarm drives it. All its methods return quickly.
pub(super) trait Broadcast: Send {
    /// Called when a peer has connected.
    fn connected(&mut self, _peer: PeerId) {}

    /// Called when a peer has disconnected.
    fn disconnected(&mut self, _peer: &PeerId) {}

    /// Hands a message of `class`, number `index` of this node, to the queues of its receivers.
    fn send(&mut self, behaviours: &mut Behaviours, class: u16, index: u64, bytes: Vec<u8>) -> Handover;

    /// Processes the report of a behaviour. Returns true if the number of links may have changed.
    fn on_event(&mut self, _behaviours: &mut Behaviours, _event: &BehavioursEvent) -> bool {
        false
    }

    /// Next time at which [`Self::work`] is to be called; none if nothing waits for a time.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does everything that is due by `now`.
    fn work(&mut self, _behaviours: &mut Behaviours, _now: Instant) {}

    /// Number of links that a broadcast of this node needs with `expected_peers`.
    fn expected_links(&self, expected_peers: usize) -> usize;

    /// Number of usable links.
    fn links(&self) -> usize;
}

/// Parts from which protocols are made, and parts of the behaviours that they need.
pub(super) struct Setup<'a> {
    pub(super) config: &'a NetworkConfig,
    pub(super) keypair: &'a Keypair,
    pub(super) metrics: &'a Metrics,
    pub(super) traffic: &'a Arc<dyn Traffic>,
    pub(super) budget: &'a Budget,
    /// Notified when a link opens or closes outside of the task of the swarm.
    pub(super) links_changed: &'a Arc<Notify>,
    /// Registry of libp2p's own metrics, if requested.
    pub(super) registry: Option<&'a mut prometheus_client::registry::Registry>,
    /// Behaviour of gossipsub, once a protocol needs it.
    pub(super) gossip: Option<libp2p::gossipsub::Behaviour>,
    /// Behaviour of all protocols with streams of their own.
    pub(super) streams: streams::Behaviour,
    inbound: Inbound,
}

impl<'a> Setup<'a> {
    pub(super) fn new(
        config: &'a NetworkConfig,
        keypair: &'a Keypair,
        metrics: &'a Metrics,
        traffic: &'a Arc<dyn Traffic>,
        budget: &'a Budget,
        links_changed: &'a Arc<Notify>,
        registry: Option<&'a mut prometheus_client::registry::Registry>,
    ) -> Self {
        let (gossip, streams, inbound) = (None, streams::Behaviour::default(), Inbound::default());
        Self { config, keypair, metrics, traffic, budget, links_changed, registry, gossip, streams, inbound }
    }
}

fn make(protocol: Protocol, setup: &mut Setup<'_>) -> Result<Box<dyn Broadcast>, NetworkError> {
    Ok(match protocol {
        Protocol::Gossipsub => Box::new(Gossipsub::new(setup)?),
        Protocol::Sqmr => Box::new(Sqmr::new(setup)),
        Protocol::ReversedSqmr => Box::new(ReversedSqmr::new(setup)),
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
        std::mem::take(&mut setup.inbound).serve(setup);
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
