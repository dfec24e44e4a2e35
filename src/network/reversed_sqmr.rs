//! Reversed SQMR: receivers keep one query open to each broadcaster, and a broadcast is a response on all of them.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};
use tracing::debug;

use super::{
    Backlog, Handover, NetworkConfig, Traffic,
    backlog::Held,
    budget::Budget,
    sqmr::{Active, PROTOCOL, frame_response, read_body, read_length, read_query, timed, write_query},
    streams::{self, Opener},
};
use crate::{message::MAX_MESSAGE_SIZE, metrics::Metrics};

/// Pause before a query is opened anew.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// Open queries of one peer that are served; one is enough, and the rest is refused.
const MAX_QUERIES_PER_PEER: usize = 4;

/// Largest query that is read, in bytes. It says nothing that matters, and most are empty.
const MAX_QUERY: usize = 4096;

struct Session {
    peer: PeerId,
    responses: mpsc::Sender<Held>,
}

/// The broadcaster's side: all open queries.
#[derive(Clone)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<u64, Session>>>,
    next: Arc<AtomicU64>,
    queue_length: usize,
    backlog: Backlog,
    metrics: Metrics,
    /// Told when a query is opened or ends.
    pub(super) changed: Arc<Notify>,
}

impl Sessions {
    pub(super) fn new(config: &NetworkConfig, metrics: &Metrics) -> Self {
        Self {
            open: Arc::default(),
            next: Arc::default(),
            queue_length: config.queue_length(),
            backlog: config.backlog.clone(),
            metrics: metrics.clone(),
            changed: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The behaviour that takes queries and keeps them open.
    pub(super) fn server(&self) -> streams::Behaviour {
        let sessions = self.clone();
        let accept = move |peer: PeerId, stream: Stream| {
            let sessions = sessions.clone();
            tokio::spawn(async move {
                let _active = Active::new(&sessions.metrics.network_active_inbound_sessions);
                if let Err(error) = sessions.serve(peer, stream).await {
                    debug!(%peer, %error, "inbound query ended");
                    sessions.metrics.network_event_counter.of("session_failed").inc();
                }
            });
        };
        streams::Behaviour::new(PROTOCOL, Arc::new(accept))
    }

    async fn serve(&self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        // What the query says does not matter; that it is there does.
        timed(read_query(&mut stream, MAX_QUERY)).await?;
        let (sender, mut responses) = mpsc::channel(self.queue_length);
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
        responses.close();
        let mut unsent = u64::from(served.is_err());
        while responses.try_recv().is_ok() {
            unsent += 1;
        }
        self.metrics.network_dropped_broadcast_messages.of("session_failed").inc_by(unsent);
        self.metrics.network_event_counter.of("session_closed").inc();
        self.changed.notify_one();
        served
    }

    async fn respond(&self, stream: &mut Stream, responses: &mut mpsc::Receiver<Held>) -> io::Result<()> {
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
        if open.is_empty() {
            self.metrics.network_dropped_broadcast_messages.of("no_peers_connected").inc();
        }
        let response = frame_response(message);
        let mut handover = Handover::default();
        for session in open.values() {
            let reason = match session.responses.try_send(self.backlog.hold(response.clone())) {
                Ok(()) => {
                    handover.queued += 1;
                    continue;
                }
                Err(TrySendError::Full(_)) => "peer_queue_full",
                Err(TrySendError::Closed(_)) => "session_failed",
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

/// The receiver's side of one broadcaster: opens the query, counts every response, and opens it again when it ends.
/// Ends only when it is aborted.
pub(super) async fn pull(
    broadcaster: PeerId,
    opener: Opener,
    traffic: Arc<dyn Traffic>,
    budget: Budget,
    metrics: Metrics,
) {
    loop {
        if let Err(error) = pull_once(broadcaster, &opener, &*traffic, &budget, &metrics).await {
            debug!(%broadcaster, %error, "query ended");
        }
        tokio::time::sleep(REOPEN_AFTER).await;
    }
}

async fn pull_once(
    broadcaster: PeerId,
    opener: &Opener,
    traffic: &dyn Traffic,
    budget: &Budget,
    metrics: &Metrics,
) -> io::Result<()> {
    let stream = opener.open(broadcaster).await?;
    let _active = Active::new(&metrics.network_active_outbound_sessions);
    let (mut reader, mut writer) = stream.split();
    write_query(&mut writer, &[]).await?;
    while let Some(length) = read_length(&mut reader, MAX_MESSAGE_SIZE).await? {
        let _room = budget.reserve(broadcaster, length).await;
        let _more = if length > budget.message_size() { Some(budget.oversized(broadcaster).await) } else { None };
        // Whoever stops in the middle of a response must not keep its room from the others.
        let response = timed(read_body(&mut reader, length)).await?;
        traffic.received(Some(broadcaster), None, &response);
    }
    Ok(())
}
