//! Gossipsub as this benchmark runs it.

use std::time::Duration;

use clap::Args;
use libp2p::{
    gossipsub::{
        self, ConfigBuilder, Message, MessageAuthenticity, MessageId, MetricsConfig, Sha256Topic, ValidationMode,
    },
    identity::Keypair,
};
use serde::{Deserialize, Serialize};

use super::{NetworkConfig, NetworkError};
use crate::message::MAX_MESSAGE_SIZE;

/// Name of the topic; on the wire it is the SHA-256 of it.
const TOPIC: &str = "stress_test_topic";

/// What is added to the largest message that any node may send to give `max_transmit_size`. libp2p compares that limit with all that is in
/// the read buffer, the start of the next message included, and drops the stream above it: near the message size,
/// back-to-back messages would vanish silently.
const TRANSMIT_HEADROOM: usize = 64 << 10;

/// Limit of control messages in one RPC, in bytes. With libp2p's 16 KiB a receiver closes the stream on an IHAVE of a
/// few hundred ids.
const MAX_CONTROL_MESSAGE_SIZE: usize = 4 << 20;

/// Settings of gossipsub; the defaults are those in effect in Apollo's own node.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Gossipsub")]
pub struct GossipSettings {
    /// Peers of the mesh that a node aims for (D).
    #[arg(long = "gossipsub-mesh-n", env = "APOLLO_GOSSIPSUB_MESH_N", value_name = "PEERS", default_value_t = 6)]
    pub mesh_n: usize,
    /// Fewest peers of the mesh before it adds some (D_low).
    #[arg(
        long = "gossipsub-mesh-n-low",
        env = "APOLLO_GOSSIPSUB_MESH_N_LOW",
        value_name = "PEERS",
        default_value_t = 5
    )]
    pub mesh_n_low: usize,
    /// Most peers of the mesh before it prunes some (D_high).
    #[arg(
        long = "gossipsub-mesh-n-high",
        env = "APOLLO_GOSSIPSUB_MESH_N_HIGH",
        value_name = "PEERS",
        default_value_t = 12
    )]
    pub mesh_n_high: usize,
    /// Fewest peers of the mesh that this node dialled (D_out); at most half of D.
    #[arg(
        long = "gossipsub-mesh-outbound-min",
        env = "APOLLO_GOSSIPSUB_MESH_OUTBOUND_MIN",
        value_name = "PEERS",
        default_value_t = 2
    )]
    pub mesh_outbound_min: usize,
    /// Milliseconds between gossipsub's own heartbeats (mesh upkeep and gossip; not the sending schedule).
    #[arg(
        // The schedule's argument has the field's name too.
        id = "gossipsub_heartbeat_millis",
        long = "gossipsub-heartbeat-millis",
        env = "APOLLO_GOSSIPSUB_HEARTBEAT_MILLIS",
        value_name = "MS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..=3_600_000)
    )]
    pub heartbeat_millis: u64,
    /// Whether a publisher sends to every subscribed peer, not only to its mesh.
    #[arg(
        long = "gossipsub-flood-publish",
        env = "APOLLO_GOSSIPSUB_FLOOD_PUBLISH",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub flood_publish: bool,
    /// Whether messages are signed, and every received copy is verified.
    #[arg(
        long = "gossipsub-signing",
        env = "APOLLO_GOSSIPSUB_SIGNING",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub signing: bool,
    /// Messages above this size are announced by IDONTWANT, so that peers need not send another copy.
    #[arg(
        long = "gossipsub-idontwant-threshold-bytes",
        env = "APOLLO_GOSSIPSUB_IDONTWANT_THRESHOLD_BYTES",
        value_name = "BYTES",
        default_value_t = 1000
    )]
    pub idontwant_threshold_bytes: usize,
}

impl GossipSettings {
    /// Checks that the settings go together.
    ///
    /// # Errors
    /// One line that says which do not.
    pub fn validate(&self) -> Result<(), String> {
        let Self { mesh_n, mesh_n_low, mesh_n_high, mesh_outbound_min, .. } = *self;
        if !(mesh_n_low <= mesh_n && mesh_n <= mesh_n_high) {
            return Err(format!(
                "--gossipsub-mesh-n-low {mesh_n_low}, --gossipsub-mesh-n {mesh_n} and --gossipsub-mesh-n-high \
                 {mesh_n_high} must not fall in this order"
            ));
        }
        if mesh_outbound_min > mesh_n_low || mesh_outbound_min * 2 > mesh_n {
            return Err(format!(
                "--gossipsub-mesh-outbound-min {mesh_outbound_min} must be at most --gossipsub-mesh-n-low \
                 {mesh_n_low} and half of --gossipsub-mesh-n {mesh_n}"
            ));
        }
        Ok(())
    }
}

/// The topic that every node subscribes to.
pub(super) fn topic() -> Sha256Topic {
    Sha256Topic::new(TOPIC)
}

/// 16 bytes that are unique to (source, sequence number): the end of the source's public key, and the number.
/// libp2p's own id is about 71 bytes, which makes gossip four times as long.
fn message_id(message: &Message) -> MessageId {
    let mut id = [0; 16];
    if let Some(source) = message.source {
        let digest = source.as_ref().digest();
        if let Some(end) = digest.last_chunk::<8>() {
            id[..8].copy_from_slice(end);
        }
    }
    id[8..].copy_from_slice(&message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::from(id)
}

/// Makes the behaviour, subscribed to the topic; with its metrics in `registry` if there is one.
pub(super) fn behaviour(
    keypair: &Keypair,
    config: &NetworkConfig,
    registry: Option<&mut prometheus_client::registry::Registry>,
) -> Result<gossipsub::Behaviour, NetworkError> {
    let settings = &config.gossip;
    let refused = |error: &dyn std::fmt::Display| NetworkError::Gossipsub(error.to_string());
    let (authenticity, validation) = if settings.signing {
        (MessageAuthenticity::Signed(keypair.clone()), ValidationMode::Strict)
    } else {
        (MessageAuthenticity::Author(keypair.public().to_peer_id()), ValidationMode::Permissive)
    };
    let gossip_config = ConfigBuilder::default()
        .mesh_n(settings.mesh_n)
        .mesh_n_low(settings.mesh_n_low)
        .mesh_n_high(settings.mesh_n_high)
        .mesh_outbound_min(settings.mesh_outbound_min)
        .heartbeat_interval(Duration::from_millis(settings.heartbeat_millis))
        .flood_publish(settings.flood_publish)
        .validation_mode(validation)
        .idontwant_message_size_threshold(settings.idontwant_threshold_bytes)
        .connection_handler_queue_len(config.queue_length())
        .max_transmit_size(MAX_MESSAGE_SIZE + TRANSMIT_HEADROOM)
        .max_control_message_size(MAX_CONTROL_MESSAGE_SIZE)
        .message_id_fn(message_id)
        .build()
        .map_err(|error| refused(&error))?;
    let mut behaviour = gossipsub::Behaviour::new(authenticity, gossip_config).map_err(|error| refused(&error))?;
    if let Some(registry) = registry {
        behaviour = behaviour.with_metrics(registry.sub_registry_with_prefix("gossipsub"), MetricsConfig::default());
    }
    behaviour.subscribe(&topic()).map_err(|error| refused(&error))?;
    Ok(behaviour)
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::{IdentTopic, TopicHash};

    use super::*;

    #[test]
    fn the_topic_is_that_of_apollos_node() {
        assert_eq!(topic().hash(), TopicHash::from_raw("9pwO9iZEpm2K+wAEFbckQaShVNAVcmbmTr+sZZ/iW0s="));
        assert_ne!(topic().hash(), IdentTopic::new(TOPIC).hash());
    }

    #[test]
    fn message_ids_tell_sources_and_numbers_apart() {
        let message = |id: u64, number| Message {
            source: Some(super::super::peer_id(id)),
            data: vec![],
            sequence_number: Some(number),
            topic: topic().hash(),
        };
        let ids = [message(0, 0), message(0, 1), message(1, 0)].map(|message| message_id(&message));
        assert_eq!(ids[0], message_id(&message(0, 0)));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert_eq!(ids[0].0.len(), 16);
    }
}
