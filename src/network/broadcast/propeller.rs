//! Broadcasting over propeller: the units of a message go to the nodes of the committee, which send them on.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libp2p::{PeerId, Stream};
use tokio::sync::Notify;

use super::{protocol::Broadcast, setup::Setup};
use crate::{
    clock::Instant,
    metrics::Metrics,
    network::{
        Backlog, Handover, NetworkError,
        behaviours::Behaviours,
        propeller::{PROTOCOL, Relay, read_units, write_units},
        queue::{Bounds, QueueReceiver, QueueSender, queue},
        streams::Opener,
    },
    simulation::spawn,
};

/// Interval of looking for stale messages.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Maximum number of streams from one peer that are read at once. A peer has one; while it is replaced, two.
const MAX_STREAMS_PER_PEER: usize = 2;

/// Propeller at one node.
pub(super) struct Propeller {
    relay: Arc<Relay>,
    opener: Opener,
    bounds: Bounds,
    backlog: Backlog,
    metrics: Metrics,
    /// Messages that wait to be encoded.
    encoding: QueueSender,
    links: Links,
    expire_at: Instant,
}

/// Peers to which a stream is open.
#[derive(Clone)]
struct Links {
    open: Arc<Mutex<HashSet<PeerId>>>,
    changed: Arc<Notify>,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, HashSet<PeerId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, peer: PeerId, open: bool) {
        let mut links = self.lock();
        if open {
            links.insert(peer)
        } else {
            links.remove(&peer)
        };
        self.changed.notify_one();
    }
}

impl Propeller {
    pub(super) fn new(setup: &mut Setup<'_>) -> Result<Self, NetworkError> {
        let config = setup.config;
        let relay = Relay::new(config, setup.keypair.clone(), setup.traffic.clone(), setup.metrics)
            .ok_or_else(|| NetworkError::Libp2p("propeller: this node is not one of its network".into()))?;
        let relay = Arc::new(relay);
        setup.streams.serve(PROTOCOL, Arc::new(accept(relay.clone(), setup.metrics.clone())));
        let bounds = Bounds::from(config.limits());
        let (encoding, messages) = queue(bounds);
        spawn(encode_all(relay.clone(), messages));
        Ok(Self {
            relay,
            opener: setup.streams.opener(PROTOCOL),
            bounds,
            backlog: config.backlog.clone(),
            metrics: setup.metrics.clone(),
            encoding,
            links: Links { open: Arc::default(), changed: setup.links_changed.clone() },
            expire_at: Instant::now() + EXPIRE_EVERY,
        })
    }
}

/// Reads the streams of the peers, a bounded number of each.
fn accept(relay: Arc<Relay>, metrics: Metrics) -> impl Fn(PeerId, Stream) + Send + Sync {
    let reading: Arc<Mutex<HashMap<PeerId, usize>>> = Arc::default();
    move |peer, stream| {
        {
            let mut streams = reading.lock().unwrap_or_else(PoisonError::into_inner);
            let count = streams.entry(peer).or_default();
            if *count >= MAX_STREAMS_PER_PEER {
                return metrics.network_event_counter.of("session_failed").inc();
            }
            *count += 1;
        }
        let (relay, reading) = (relay.clone(), reading.clone());
        spawn(async move {
            read_units(relay, peer, stream).await;
            let mut streams = reading.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = streams.get_mut(&peer) {
                *count -= 1;
            }
        });
    }
}

/// Encodes messages one after the other, in their order.
async fn encode_all(relay: Arc<Relay>, mut messages: QueueReceiver) {
    while let Some(message) = messages.recv().await {
        relay.publish(message).await;
    }
}

impl Broadcast for Propeller {
    /// Gives the peer its queue and the task that empties it.
    fn connected(&mut self, peer: PeerId) {
        let (queue, units) = queue(self.bounds);
        self.relay.connected(peer, queue);
        let (opener, links, metrics) = (self.opener.clone(), self.links.clone(), self.metrics.clone());
        spawn(async move {
            let unsent = write_units(peer, units, opener, |open| links.set(peer, open)).await;
            metrics.network_dropped_broadcast_messages.of("session_failed").inc_by(unsent);
        });
    }

    fn disconnected(&mut self, peer: &PeerId) {
        self.relay.disconnected(peer);
    }

    fn send(&mut self, _behaviours: &mut Behaviours, _class: u16, _index: u64, bytes: Vec<u8>) -> Handover {
        let started = Instant::now();
        if self.links.lock().is_empty() {
            self.metrics.network_dropped_broadcast_messages.of("no_peers_connected").inc();
            return Handover { queued: 0, dropped: 1 };
        }
        let size = bytes.len();
        if self.encoding.try_send(self.backlog.hold(Bytes::from(bytes)), size).is_err() {
            self.metrics.network_dropped_broadcast_messages.of("encoding_queue_full").inc();
            return Handover { queued: 0, dropped: 1 };
        }
        self.metrics.broadcast_message_send_delay_seconds.observe(started.elapsed().as_secs_f64());
        Handover { queued: 1, dropped: 0 }
    }

    fn due(&self) -> Option<Instant> {
        Some(self.expire_at)
    }

    fn work(&mut self, _behaviours: &mut Behaviours, now: Instant) {
        if now >= self.expire_at {
            self.relay.expire(now);
            self.expire_at = now + EXPIRE_EVERY;
        }
    }

    /// Units of a message go to the whole committee, so all other members are needed.
    fn expected_links(&self, _expected_peers: usize) -> usize {
        self.relay.others()
    }

    fn links(&self) -> usize {
        self.links.lock().len()
    }
}

impl Drop for Propeller {
    fn drop(&mut self) {
        self.relay.end();
    }
}
