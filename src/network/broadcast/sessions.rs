//! Open queries that a broadcaster of reversed SQMR serves.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::AsyncWriteExt;
use libp2p::{PeerId, Stream};
use tokio::sync::Notify;

use super::framing::{frame_response, read_query, timed};
use crate::{
    clock::Instant,
    metrics::Metrics,
    network::{
        Backlog, Handover, NetworkConfig,
        queue::{Bounds, QueueReceiver, QueueSender, Refused, queue},
    },
};

/// Open queries of one peer that are served; one is enough, and the rest is refused.
const MAX_QUERIES_PER_PEER: usize = 4;

/// Largest query that is read, in bytes. It says nothing that matters, and most are empty.
const MAX_QUERY: usize = 4096;

struct Session {
    peer: PeerId,
    responses: QueueSender,
}

/// The broadcaster's side: all open queries.
#[derive(Clone)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<u64, Session>>>,
    next: Arc<AtomicU64>,
    bounds: Bounds,
    backlog: Backlog,
    metrics: Metrics,
    /// Told when a query is opened or ends.
    changed: Arc<Notify>,
}

impl Sessions {
    pub(super) fn new(config: &NetworkConfig, metrics: &Metrics, changed: Arc<Notify>) -> Self {
        Self {
            open: Arc::default(),
            next: Arc::default(),
            bounds: config.limits().into(),
            backlog: config.backlog.clone(),
            metrics: metrics.clone(),
            changed,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a query, and keeps it open until its stream or this node ends.
    pub(super) async fn serve(&self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        // The content of the query does not matter, only its existence.
        timed(MAX_QUERY, read_query(&mut stream, MAX_QUERY)).await?;
        self.respond_to(peer, stream).await
    }

    /// Keeps a query that was read open until its stream or this node ends.
    pub(super) async fn respond_to(&self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        let (sender, mut responses) = queue(self.bounds);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut open = self.lock();
            if open.values().filter(|session| session.peer == peer).count() >= MAX_QUERIES_PER_PEER {
                return Err(io::Error::other("too many open queries"));
            }
            open.insert(id, Session { peer, responses: sender });
        }
        self.metrics.network_event_counter.of("session_opened").inc();
        self.changed.notify_one();
        let served = self.respond(&mut stream, &mut responses).await;
        self.lock().remove(&id);
        let unsent = u64::from(served.is_err()) + responses.close();
        self.metrics.network_dropped_broadcast_messages.of("session_failed").inc_by(unsent);
        self.metrics.network_event_counter.of("session_closed").inc();
        self.changed.notify_one();
        served
    }

    async fn respond(&self, stream: &mut Stream, responses: &mut QueueReceiver) -> io::Result<()> {
        while let Some(response) = responses.recv().await {
            let started = Instant::now();
            stream.write_all(&response.bytes).await?;
            stream.flush().await?;
            self.metrics.broadcast_message_send_delay_seconds.observe(started.elapsed().as_secs_f64());
        }
        stream.close().await
    }

    /// Queues a message on every open query.
    pub(super) fn broadcast(&self, message: &[u8]) -> Handover {
        let open = self.lock();
        self.queue(open.values(), message)
    }

    /// Queues a message on the open query of one peer.
    pub(super) fn send_to(&self, peer: Option<PeerId>, message: &[u8]) -> Handover {
        let open = self.lock();
        self.queue(open.values().find(|session| Some(session.peer) == peer).into_iter(), message)
    }

    fn queue<'a>(&self, sessions: impl Iterator<Item = &'a Session>, message: &[u8]) -> Handover {
        let mut sessions = sessions.peekable();
        if sessions.peek().is_none() {
            self.metrics.network_dropped_broadcast_messages.of("no_peers_connected").inc();
        }
        let response = frame_response(message);
        let mut handover = Handover::default();
        for session in sessions {
            let reason = match session.responses.try_send(self.backlog.hold(response.clone()), message.len()) {
                Ok(()) => {
                    handover.queued += 1;
                    continue;
                }
                Err(Refused::Full) => "peer_queue_full",
                Err(Refused::Closed) => "session_failed",
            };
            handover.dropped += 1;
            self.metrics.network_dropped_broadcast_messages.of(reason).inc();
        }
        handover
    }

    /// The peer is gone, and its queries with it.
    pub(super) fn disconnected(&self, peer: &PeerId) {
        self.lock().retain(|_, session| session.peer != *peer);
    }

    /// Different peers with an open query.
    pub(super) fn peers(&self) -> usize {
        self.lock().values().map(|session| session.peer).collect::<HashSet<_>>().len()
    }
}
