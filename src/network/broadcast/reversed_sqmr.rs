//! Reversed SQMR: receivers keep one query open to each broadcaster, and a broadcast is a response on all of them.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use futures::AsyncReadExt;
use libp2p::PeerId;
use tokio::task::AbortHandle;
use tracing::debug;

use super::{
    framing::{Active, PROTOCOL, read_body, timed, write_query},
    protocol::Broadcast,
    sessions::Sessions,
    setup::Setup,
    turns::Turns,
};
use crate::{
    clock::sleep,
    message::MAX_MESSAGE_SIZE,
    metrics::Metrics,
    network::{
        Handover, NetworkConfig, Traffic, behaviours::Behaviours, budget::Budget, prefixed::read_length,
        streams::Opener,
    },
    scenario::Protocol,
    simulation::{processor, spawn},
};

/// Pause before a query is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

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
            self.pulls.insert(peer, Pull(spawn(pull).abort_handle()));
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

/// The receiver's side of one broadcaster: opens the query, counts every response, and opens it again when it ends.
/// Ends only when it is aborted.
async fn pull(broadcaster: PeerId, opener: Opener, traffic: Arc<dyn Traffic>, budget: Budget, metrics: Metrics) {
    loop {
        if let Err(error) = pull_once(broadcaster, &opener, &*traffic, &budget, &metrics).await {
            debug!(%broadcaster, %error, "query ended");
        }
        sleep(REOPEN_AFTER).await;
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
        processor::work(1, 0);
        processor::done().await;
        traffic.received(Some(broadcaster), Some(broadcaster), None, &response);
    }
    Ok(())
}
