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
use tokio::{sync::Notify, task::AbortHandle};
use tracing::debug;

use super::{
    Broadcast, Setup,
    framing::{Active, PROTOCOL, frame_response, read_body, read_length, read_query, timed, write_query},
    turns::Turns,
};
use crate::{
    message::MAX_MESSAGE_SIZE,
    metrics::Metrics,
    network::{
        Backlog, Handover, NetworkConfig, Traffic,
        behaviours::Behaviours,
        budget::Budget,
        queue::{Bounds, QueueReceiver, QueueSender, Refused, queue},
        streams::Opener,
    },
    scenario::Protocol,
};

/// Pause before a query is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// Maximum number of open queries of one peer that are served; one is enough, and the rest is refused.
const MAX_QUERIES_PER_PEER: usize = 4;

/// Maximum size of a query, in bytes. Its content does not matter, and it is usually empty.
const MAX_QUERY: usize = 4096;

/// Both sides of reversed SQMR: open queries of the receivers, and queries of this node to the broadcasters.
pub(super) struct ReversedSqmr {
    sessions: Sessions,
    opener: Opener,
    config: NetworkConfig,
    traffic: Arc<dyn Traffic>,
    budget: Budget,
    metrics: Metrics,
    /// Classes whose messages go to one peer each.
    unicast: Vec<u16>,
    turns: Turns,
    /// Queries to the connected broadcasters.
    pulls: HashMap<PeerId, Pull>,
}

/// A query that is kept open as long as this lives.
struct Pull(AbortHandle);

impl Drop for Pull {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReversedSqmr {
    pub(super) fn new(setup: &mut Setup<'_>) -> Self {
        let sessions = Sessions::new(setup.config, setup.metrics, setup.links_changed.clone());
        setup.inbound.take_queries(sessions.clone());
        Self {
            sessions,
            opener: setup.streams.opener(PROTOCOL),
            config: setup.config.clone(),
            traffic: setup.traffic.clone(),
            budget: setup.budget.clone(),
            metrics: setup.metrics.clone(),
            unicast: setup.config.unicast_classes(Protocol::ReversedSqmr),
            turns: Turns::new(setup.config),
            pulls: HashMap::new(),
        }
    }

    /// True if `peer` may broadcast; also true for peers outside of the roster.
    fn may_broadcast(&self, peer: &PeerId) -> bool {
        let id = self.config.roster.id(peer);
        id.is_none_or(|id| self.config.broadcasts_over(Protocol::ReversedSqmr, id))
    }
}

impl Broadcast for ReversedSqmr {
    fn connected(&mut self, peer: PeerId) {
        if self.may_broadcast(&peer) {
            let (opener, traffic) = (self.opener.clone(), self.traffic.clone());
            let pull = pull(peer, opener, traffic, self.budget.clone(), self.metrics.clone());
            self.pulls.insert(peer, Pull(tokio::spawn(pull).abort_handle()));
        }
    }

    fn disconnected(&mut self, peer: &PeerId) {
        self.sessions.disconnected(peer);
        self.pulls.remove(peer);
    }

    fn send(&mut self, _behaviours: &mut Behaviours, class: u16, index: u64, bytes: Vec<u8>) -> Handover {
        if self.unicast.contains(&class) {
            return self.sessions.send_to(self.turns.of(index), &bytes);
        }
        self.sessions.broadcast(&bytes)
    }

    fn expected_links(&self, expected_peers: usize) -> usize {
        if self.config.broadcasts_over(Protocol::ReversedSqmr, self.config.id) { expected_peers } else { 0 }
    }

    fn links(&self) -> usize {
        self.sessions.peers()
    }
}

struct Session {
    peer: PeerId,
    responses: QueueSender,
}

/// Side of the broadcaster: all open queries.
#[derive(Clone)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<u64, Session>>>,
    next: Arc<AtomicU64>,
    bounds: Bounds,
    backlog: Backlog,
    metrics: Metrics,
    /// Notified when a query is opened or ends.
    changed: Arc<Notify>,
}

impl Sessions {
    fn new(config: &NetworkConfig, metrics: &Metrics, changed: Arc<Notify>) -> Self {
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
        // Only the existence of the query matters, not its content.
        timed(MAX_QUERY, read_query(&mut stream, MAX_QUERY)).await?;
        self.respond_to(peer, stream).await
    }

    /// Keeps a received query open until its stream or this node ends.
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
    fn broadcast(&self, message: &[u8]) -> Handover {
        let open = self.lock();
        self.queue(open.values(), message)
    }

    /// Queues a message on the open query of one peer.
    fn send_to(&self, peer: Option<PeerId>, message: &[u8]) -> Handover {
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

    /// Drops the queries of a disconnected peer.
    fn disconnected(&self, peer: &PeerId) {
        self.lock().retain(|_, session| session.peer != *peer);
    }

    /// Number of peers with an open query.
    fn peers(&self) -> usize {
        self.lock().values().map(|session| session.peer).collect::<HashSet<_>>().len()
    }
}

/// Side of the receiver for one broadcaster: opens the query, counts every response, and opens it again after its end.
/// Ends only when it is aborted.
async fn pull(broadcaster: PeerId, opener: Opener, traffic: Arc<dyn Traffic>, budget: Budget, metrics: Metrics) {
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
        let _more =
            if length > budget.message_size() { Some(budget.oversized(broadcaster, length).await) } else { None };
        // A broadcaster that stops in the middle of a response must not keep its room from the others.
        let response = timed(length, read_body(&mut reader, length)).await?;
        traffic.received(Some(broadcaster), None, &response);
    }
    Ok(())
}
