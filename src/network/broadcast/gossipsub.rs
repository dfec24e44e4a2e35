//! Gossipsub: a node publishes to a topic, and peers forward the message.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use libp2p::{
    PeerId,
    gossipsub::{
        self, ConfigBuilder, Event, Message, MessageAcceptance, MessageAuthenticity, MessageId, MetricsConfig,
        Sha256Topic, TopicHash, ValidationMode,
    },
};
use tracing::debug;

use super::{
    protocol::Broadcast,
    setup::Setup,
    validation::{MAX_DELAY, Validation, history_length},
};
use crate::{
    clock::Instant,
    message::MAX_MESSAGE_SIZE,
    metrics::Metrics,
    network::{
        Handover, NetworkError, Traffic,
        behaviours::{Behaviours, BehavioursEvent},
        events, peer_id,
    },
    scenario::Protocol,
    simulation::processor,
};

/// Bytes that are added to the size of the largest message of any node to give `max_transmit_size`. libp2p compares
/// that limit with everything in the read buffer, the start of the next message included, and drops the stream above
/// it: near the message size, back-to-back messages would be lost silently.
const TRANSMIT_HEADROOM: usize = 64 << 10;

/// Limit of control messages in one RPC, in bytes. With libp2p's 16 KiB a receiver closes the stream on an IHAVE of a
/// few hundred ids.
const MAX_CONTROL_MESSAGE_SIZE: usize = 4 << 20;

/// Gossipsub with one topic or several. Every node subscribes to all of them.
pub(super) struct Gossipsub {
    topics: Topics,
    /// Subscriptions of connected peers to our topics.
    subscribed: HashSet<(PeerId, TopicHash)>,
    /// Messages that are forwarded later; none if each is forwarded at once.
    validation: Option<Validation>,
    traffic: Arc<dyn Traffic>,
    metrics: Metrics,
}

/// The topics of the classes.
#[derive(Default)]
struct Topics {
    all: Vec<Sha256Topic>,
    by_class: HashMap<u16, TopicHash>,
    /// Class of each topic; none if several classes share it.
    classes: HashMap<TopicHash, Option<u16>>,
}

impl Topics {
    fn new<'a>(channels: impl Iterator<Item = (u16, &'a str)>) -> Self {
        let mut topics = Self::default();
        for (class, name) in channels {
            let topic = Sha256Topic::new(name);
            let hash = topic.hash();
            match topics.classes.entry(hash.clone()) {
                Entry::Occupied(mut shared) => drop(shared.insert(None)),
                Entry::Vacant(new) => {
                    new.insert(Some(class));
                    topics.all.push(topic);
                }
            }
            topics.by_class.insert(class, hash);
        }
        topics
    }
}

impl Gossipsub {
    pub(super) fn new(setup: &mut Setup<'_>) -> Result<Self, NetworkError> {
        let channels = setup.config.channels_of(Protocol::Gossipsub);
        let topics = Topics::new(channels.map(|(class, channel)| (class, channel.topic.as_str())));
        setup.gossip = Some(behaviour(setup, &topics)?);
        let delay = setup.config.validation_delay;
        let validation = (!delay.is_zero()).then(|| Validation::new(delay, setup.config.backlog.clone()));
        let (traffic, metrics) = (setup.traffic.clone(), setup.metrics.clone());
        Ok(Self { topics, subscribed: HashSet::new(), validation, traffic, metrics })
    }

    /// Forwards a message that arrived from `from`.
    fn accept(&self, behaviours: &mut Behaviours, id: &MessageId, from: &PeerId) {
        let Some(gossip) = behaviours.gossip.as_mut() else { return };
        if !gossip.report_message_validation_result(id, from, MessageAcceptance::Accept) {
            self.metrics.network_event_counter.of("gossipsub_validated_too_late").inc();
        }
    }
}

impl Broadcast for Gossipsub {
    fn disconnected(&mut self, peer: &PeerId) {
        self.subscribed.retain(|(subscriber, _)| subscriber != peer);
    }

    fn send(&mut self, behaviours: &mut Behaviours, class: u16, _index: u64, bytes: Vec<u8>) -> Handover {
        let (Some(topic), Some(gossip)) = (self.topics.by_class.get(&class), behaviours.gossip.as_mut()) else {
            return Handover::default();
        };
        let started = Instant::now();
        match gossip.publish(topic.clone(), bytes) {
            Ok(_) => {
                let elapsed = started.elapsed().as_secs_f64();
                self.metrics.broadcast_message_send_delay_seconds.observe(elapsed);
                Handover { queued: 1, dropped: 0 }
            }
            Err(error) => {
                debug!(%error, "not published");
                self.metrics.network_dropped_broadcast_messages.of(events::drop_reason(&error)).inc();
                Handover { queued: 0, dropped: 1 }
            }
        }
    }

    fn on_event(&mut self, behaviours: &mut Behaviours, event: &BehavioursEvent) -> bool {
        let BehavioursEvent::Gossip(event) = event else { return false };
        let (counted, changed) = match event {
            Event::Message { message, message_id, propagation_source } => {
                let class = self.topics.classes.get(&message.topic).copied().flatten();
                self.traffic.received(message.source, Some(*propagation_source), class, &message.data);
                if let Some(validation) = &mut self.validation
                    && !validation.wait(message_id.clone(), *propagation_source, Instant::now())
                {
                    self.metrics.network_event_counter.of("gossipsub_validated_early").inc();
                    self.accept(behaviours, message_id, propagation_source);
                }
                return false;
            }
            Event::Subscribed { peer_id, topic } => {
                let ours = self.topics.classes.contains_key(topic);
                let changed = ours && self.subscribed.insert((*peer_id, topic.clone()));
                ("gossipsub_subscribed", changed)
            }
            Event::Unsubscribed { peer_id, topic } => {
                ("gossipsub_unsubscribed", self.subscribed.remove(&(*peer_id, topic.clone())))
            }
            Event::GossipsubNotSupported { .. } => ("gossipsub_not_supported", false),
            Event::SlowPeer { peer_id, failed_messages } => {
                self.traffic.not_sent_to(peer_id, failed_messages.non_priority as u64);
                ("gossipsub_slow_peer", false)
            }
        };
        self.metrics.network_event_counter.of(counted).inc();
        changed
    }

    fn due(&self) -> Option<Instant> {
        self.validation.as_ref()?.due()
    }

    fn work(&mut self, behaviours: &mut Behaviours, now: Instant) {
        while let Some((id, from)) = self.validation.as_mut().and_then(|validation| validation.next(now)) {
            self.accept(behaviours, &id, &from);
        }
    }

    fn expected_links(&self, expected_peers: usize) -> usize {
        expected_peers * self.topics.all.len()
    }

    fn links(&self) -> usize {
        self.subscribed.len()
    }
}

/// 16 bytes that are unique to (source, sequence number): the end of the source's public key, and the number. libp2p's
/// own id has about 71 bytes, which makes gossip four times as long.
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

/// Makes the behaviour, subscribed to the topics; with its metrics in the registry if one is given.
fn behaviour(setup: &mut Setup<'_>, topics: &Topics) -> Result<gossipsub::Behaviour, NetworkError> {
    let (config, settings) = (setup.config, &setup.config.gossip);
    let (own, copies) = (peer_id(config.id), setup.metrics.gossipsub_message_copies_received_total.clone());
    let refused = |error: &dyn std::fmt::Display| NetworkError::Gossipsub(error.to_string());
    let (authenticity, validation) = if settings.signing {
        (MessageAuthenticity::Signed(setup.keypair.clone()), ValidationMode::Strict)
    } else {
        (MessageAuthenticity::Author(setup.keypair.public().to_peer_id()), ValidationMode::Permissive)
    };
    let heartbeat = Duration::from_millis(settings.heartbeat_millis);
    let mut builder = ConfigBuilder::default();
    if config.validation_delay > MAX_DELAY {
        let (delay, most) = (config.validation_delay.as_millis(), MAX_DELAY.as_millis());
        return Err(refused(&format!("a validation delay of {delay} ms is too long, give at most {most} ms")));
    }
    if !config.validation_delay.is_zero() {
        builder.validate_messages().history_length(history_length(config.validation_delay, heartbeat));
    }
    let gossip_config = builder
        .mesh_n(settings.mesh_n)
        .mesh_n_low(settings.mesh_n_low)
        .mesh_n_high(settings.mesh_n_high)
        .mesh_outbound_min(settings.mesh_outbound_min)
        .heartbeat_interval(heartbeat)
        .flood_publish(settings.flood_publish)
        .validation_mode(validation)
        .idontwant_message_size_threshold(settings.idontwant_threshold_bytes)
        .connection_handler_queue_len(config.limits().gossip_queue_length())
        .max_transmit_size(MAX_MESSAGE_SIZE + TRANSMIT_HEADROOM)
        .max_control_message_size(MAX_CONTROL_MESSAGE_SIZE)
        .message_id_fn(move |message| {
            // gossipsub asks for the id of every copy, before it drops duplicates; for a published message it asks too.
            if message.source.is_some_and(|source| source != own) {
                copies.inc();
                processor::work(1, 0);
            }
            message_id(message)
        })
        .build()
        .map_err(|error| refused(&error))?;
    let mut behaviour = gossipsub::Behaviour::new(authenticity, gossip_config).map_err(|error| refused(&error))?;
    if let Some(registry) = &mut setup.registry {
        behaviour = behaviour.with_metrics(registry.sub_registry_with_prefix("gossipsub"), MetricsConfig::default());
    }
    for topic in &topics.all {
        behaviour.subscribe(topic).map_err(|error| refused(&error))?;
    }
    Ok(behaviour)
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::IdentTopic;

    use super::*;
    use crate::network::{DEFAULT_TOPIC, peer_id};

    #[test]
    fn the_topic_of_the_default_class_is_that_of_apollos_node() {
        let topics = Topics::new([(0, DEFAULT_TOPIC)].into_iter());
        assert_eq!(topics.by_class[&0], TopicHash::from_raw("9pwO9iZEpm2K+wAEFbckQaShVNAVcmbmTr+sZZ/iW0s="));
        assert_ne!(topics.by_class[&0], IdentTopic::new(DEFAULT_TOPIC).hash());
    }

    #[test]
    fn a_topic_identifies_its_class_unless_several_share_it() {
        let topics = Topics::new([(0, "own"), (2, "shared"), (5, "shared")].into_iter());
        let class = |class| topics.classes[&topics.by_class[&class]];
        assert_eq!((class(0), class(2), class(5)), (Some(0), None, None));
        assert_eq!(topics.all.len(), 2);
    }

    #[test]
    fn message_ids_tell_sources_and_numbers_apart() {
        let message = |id: u64, number| Message {
            source: Some(peer_id(id)),
            data: vec![],
            sequence_number: Some(number),
            topic: Sha256Topic::new(DEFAULT_TOPIC).hash(),
        };
        let ids = [message(0, 0), message(0, 1), message(1, 0)].map(|message| message_id(&message));
        assert_eq!(ids[0], message_id(&message(0, 0)));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert_eq!(ids[0].0.len(), 16);
    }
}
