//! Broadcasting over SQMR: a session to every connected peer, whose query is the message and which has no responses.

use std::{collections::HashMap, io, sync::Arc};

use bytes::Bytes;
use futures::AsyncReadExt;
use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use super::{
    framing::{Active, PROTOCOL, timed, write_query},
    protocol::Broadcast,
    setup::Setup,
    turns::Turns,
};
use crate::{
    clock::Instant,
    message::MAX_MESSAGE_SIZE,
    metrics::Metrics,
    network::{
        Backlog, Handover,
        behaviours::Behaviours,
        limits::MAX_SESSIONS_PER_PEER,
        queue::{Bounds, QueueReceiver, QueueSender, queue},
        streams::Opener,
    },
    scenario::Protocol,
    simulation::spawn,
};

/// Maximum number of bytes of unrequested responses that are skipped: the size of a largest response.
const MAX_UNASKED: u64 = MAX_MESSAGE_SIZE as u64 + 16;

/// Sends each message by a session to each peer.
pub(super) struct Sqmr {
    opener: Opener,
    metrics: Metrics,
    bounds: Bounds,
    backlog: Backlog,
    /// Classes whose messages go to one peer each.
    unicast: Vec<u16>,
    turns: Turns,
    peers: HashMap<PeerId, QueueSender>,
}

impl Sqmr {
    pub(super) fn new(setup: &mut Setup<'_>) -> Self {
        setup.inbound.take_messages(setup.traffic.clone(), setup.budget.clone());
        let config = setup.config;
        Self {
            opener: setup.streams.opener(PROTOCOL),
            metrics: setup.metrics.clone(),
            bounds: config.limits().into(),
            backlog: config.backlog.clone(),
            unicast: config.unicast_classes(Protocol::Sqmr),
            turns: Turns::new(config),
            peers: HashMap::new(),
        }
    }

    fn queue(&self, queue: &QueueSender, message: &Bytes, handover: &mut Handover) {
        if queue.try_send(self.backlog.hold(message.clone()), message.len()).is_ok() {
            handover.queued += 1;
        } else {
            handover.dropped += 1;
            self.metrics.network_dropped_broadcast_messages.of("peer_queue_full").inc();
        }
    }
}

impl Broadcast for Sqmr {
    /// Gives the peer its queue and the task that empties it.
    fn connected(&mut self, peer: PeerId) {
        let (queue, messages) = queue(self.bounds);
        self.peers.insert(peer, queue);
        spawn(query_all(peer, messages, Room::new(self.bounds), self.opener.clone(), self.metrics.clone()));
    }

    /// Drops the peer's queue; the messages in it fail.
    fn disconnected(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    fn send(&mut self, _behaviours: &mut Behaviours, class: u16, index: u64, bytes: Vec<u8>) -> Handover {
        let message = Bytes::from(bytes);
        let mut handover = Handover::default();
        if self.unicast.contains(&class) {
            match self.turns.of(index).and_then(|peer| self.peers.get(&peer)) {
                Some(queue) => self.queue(queue, &message, &mut handover),
                None => self.metrics.network_dropped_broadcast_messages.of("no_peers_connected").inc(),
            }
        } else if self.peers.is_empty() {
            self.metrics.network_dropped_broadcast_messages.of("no_peers_connected").inc();
        } else {
            self.peers.values().for_each(|queue| self.queue(queue, &message, &mut handover));
        }
        handover
    }

    fn expected_links(&self, _expected_peers: usize) -> usize {
        0
    }

    fn links(&self) -> usize {
        0
    }
}

/// Room for sessions to one peer. Bytes in a session are as much on their way to the peer as waiting ones, and are
/// bounded in the same way.
struct Room {
    sessions: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most_bytes: usize,
}

impl Room {
    fn new(bounds: Bounds) -> Self {
        let most_bytes = bounds.bytes.min(Semaphore::MAX_PERMITS);
        let sessions = Semaphore::new(bounds.messages.min(MAX_SESSIONS_PER_PEER));
        Self { sessions: Arc::new(sessions), bytes: Arc::new(Semaphore::new(most_bytes)), most_bytes }
    }

    /// Waits for a session with `bytes`; the room is free again when the result is dropped.
    async fn take(&self, bytes: usize) -> [Option<OwnedSemaphorePermit>; 2] {
        // A message that is larger than all room takes all of it. No semaphore is ever closed.
        let bytes = u32::try_from(bytes.min(self.most_bytes)).unwrap_or(u32::MAX);
        let session = self.sessions.clone().acquire_owned().await.ok();
        [session, self.bytes.clone().acquire_many_owned(bytes).await.ok()]
    }
}

async fn query_all(peer: PeerId, mut messages: QueueReceiver, room: Room, opener: Opener, metrics: Metrics) {
    while let Some(message) = messages.recv().await {
        let taken = room.take(message.bytes.len()).await;
        let (opener, metrics) = (opener.clone(), metrics.clone());
        spawn(async move {
            let started = Instant::now();
            let _active = Active::new(&metrics.network_active_outbound_sessions);
            match timed(message.bytes.len(), query(peer, &message.bytes, &opener)).await {
                Ok(()) => metrics.broadcast_message_send_delay_seconds.observe(started.elapsed().as_secs_f64()),
                Err(error) => {
                    debug!(%peer, %error, "outbound session failed");
                    metrics.network_dropped_broadcast_messages.of("session_failed").inc();
                }
            }
            drop(taken);
        });
    }
}

async fn query(peer: PeerId, message: &[u8], opener: &Opener) -> io::Result<()> {
    let mut stream = opener.open(peer).await?;
    write_query(&mut stream, message).await?;
    // The server's end of stream confirms that it has read everything. Responses are not requested, and take no memory.
    futures::io::copy(stream.take(MAX_UNASKED), &mut futures::io::sink()).await.map(drop)
}
