//! Behaviours of a node, as libp2p drives them.

use libp2p::{
    allow_block_list::{self, AllowedPeers},
    connection_limits, gossipsub, ping,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::streams;

/// One behaviour for each concern; those of the protocols exist only if a channel needs them.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviours {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) allowed: allow_block_list::Behaviour<AllowedPeers>,
    pub(super) ping: ping::Behaviour,
    pub(super) gossip: Toggle<gossipsub::Behaviour>,
    pub(super) streams: Toggle<streams::Behaviour>,
}
