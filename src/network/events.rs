//! Network events as metrics.

use libp2p::{
    gossipsub::PublishError,
    swarm::{ListenError, SwarmEvent},
};
use tracing::{debug, info, warn};

use crate::metrics::Metrics;

/// Value of `event_type` for a swarm event; none for the reports of behaviours, which are counted where they are
/// handled.
pub(super) fn event_type<E>(event: &SwarmEvent<E>) -> Option<&'static str> {
    Some(match event {
        SwarmEvent::ConnectionEstablished { .. } => "connections_established",
        SwarmEvent::ConnectionClosed { .. } => "connections_closed",
        SwarmEvent::OutgoingConnectionError { .. } => "dial_failure",
        SwarmEvent::IncomingConnectionError { .. } => "incoming_connection_error",
        SwarmEvent::IncomingConnection { .. } => "incoming_connection",
        SwarmEvent::ListenerError { .. } => "listen_error",
        SwarmEvent::ListenerClosed { .. } => "listener_closed",
        SwarmEvent::NewListenAddr { .. } => "new_listen_addrs",
        SwarmEvent::ExpiredListenAddr { .. } => "expired_listen_addrs",
        SwarmEvent::Dialing { .. } => "dialing",
        SwarmEvent::NewExternalAddrCandidate { .. } => "new_external_addr_candidate",
        SwarmEvent::ExternalAddrConfirmed { .. } => "external_addr_confirmed",
        SwarmEvent::ExternalAddrExpired { .. } => "external_addr_expired",
        SwarmEvent::NewExternalAddrOfPeer { .. } => "new_external_addr_of_peer",
        _ => return None,
    })
}

/// Counts a swarm event and writes it to the log.
pub(super) fn record<E: std::fmt::Debug>(event: &SwarmEvent<E>, metrics: &Metrics) {
    let Some(event_type) = event_type(event) else { return };
    metrics.network_event_counter.of(event_type).inc();
    match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
            info!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
        }
        SwarmEvent::ConnectionClosed { peer_id, cause, .. } => {
            info!(peer = %peer_id, cause = cause.as_ref().map(tracing::field::display), "connection closed");
        }
        SwarmEvent::IncomingConnectionError { error: ListenError::Denied { .. }, peer_id, .. } => {
            metrics.network_event_counter.of("listen_failure").inc();
            debug!(peer = ?peer_id, "refused a connection");
        }
        SwarmEvent::IncomingConnectionError { error, .. } => {
            metrics.network_event_counter.of("listen_failure").inc();
            debug!(%error, "an incoming connection failed");
        }
        SwarmEvent::ListenerError { error, .. } => warn!(%error, "listener"),
        SwarmEvent::ListenerClosed { reason: Err(error), .. } => warn!(%error, "listener closed"),
        other => debug!(?other, "network event"),
    }
}

/// Value of `reason` for a message that gossipsub did not publish.
pub(super) fn drop_reason(error: &PublishError) -> &'static str {
    match error {
        PublishError::Duplicate => "duplicate",
        PublishError::SigningError(_) => "signing_error",
        PublishError::NoPeersSubscribedToTopic => "no_peers_subscribed_to_topic",
        PublishError::MessageTooLarge => "message_too_large",
        PublishError::TransformFailed(_) => "transform_failed",
        PublishError::AllQueuesFull(_) => "all_queues_full",
    }
}
