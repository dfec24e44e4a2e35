//! Parts that the protocols of one network share.

use std::sync::Arc;

use libp2p::identity::Keypair;
use tokio::sync::Notify;

use super::inbound::Inbound;
use crate::{
    metrics::Metrics,
    network::{NetworkConfig, Traffic, budget::Budget, streams},
};

/// The parts that protocols are made from, and the parts of the behaviours that they ask for.
pub(in crate::network) struct Setup<'a> {
    pub(in crate::network) config: &'a NetworkConfig,
    pub(in crate::network) keypair: &'a Keypair,
    pub(in crate::network) metrics: &'a Metrics,
    pub(in crate::network) traffic: &'a Arc<dyn Traffic>,
    pub(in crate::network) budget: &'a Budget,
    /// Told when a link opens or closes outside of the task of the swarm.
    pub(in crate::network) links_changed: &'a Arc<Notify>,
    /// Registry of libp2p's own metrics, where they are asked for.
    pub(in crate::network) registry: Option<&'a mut prometheus_client::registry::Registry>,
    /// The behaviour of gossipsub, once a protocol needs it.
    pub(in crate::network) gossip: Option<libp2p::gossipsub::Behaviour>,
    /// The behaviour of all protocols with streams of their own.
    pub(in crate::network) streams: streams::Behaviour,
    pub(super) inbound: Inbound,
}

impl<'a> Setup<'a> {
    pub(in crate::network) fn new(
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
