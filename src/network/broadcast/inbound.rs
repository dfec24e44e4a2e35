//! Inbound sessions of SQMR's protocol name: messages, open queries, or both.
//!
//! SQMR and reversed SQMR share their name on the wire. A query of reversed SQMR is empty, and a message is never
//! shorter than its header, so a node that runs both distinguishes them by that.

use std::{io, sync::Arc};

use libp2p::{PeerId, Stream};
use tracing::debug;

use super::{
    framing::{Active, PROTOCOL, read_more, timed},
    sessions::Sessions,
};
use crate::{
    message::{HEADER_SIZE, MAX_MESSAGE_SIZE, stated_size},
    metrics::Metrics,
    network::{Traffic, budget::Budget, streams},
    simulation::{processor, spawn},
};

/// Kinds of sessions that this node serves.
#[derive(Clone, Default)]
pub(super) struct Inbound {
    messages: Option<Messages>,
    queries: Option<Sessions>,
}

#[derive(Clone)]
struct Messages {
    traffic: Arc<dyn Traffic>,
    budget: Budget,
}

/// An inbound session whose query was read.
enum Query {
    /// The query was a message, which was handed over.
    Message,
    /// The query was no message: the peer waits for responses.
    Open,
}

impl Inbound {
    /// Accepts queries that are messages.
    pub(super) fn take_messages(&mut self, traffic: Arc<dyn Traffic>, budget: Budget) {
        self.messages = Some(Messages { traffic, budget });
    }

    /// Accepts queries that wait for responses.
    pub(super) fn take_queries(&mut self, sessions: Sessions) {
        self.queries = Some(sessions);
    }

    /// Registers the protocol, if any kind of session is served.
    pub(super) fn serve(self, metrics: &Metrics, streams: &mut streams::Behaviour) {
        if self.messages.is_none() && self.queries.is_none() {
            return;
        }
        let metrics = metrics.clone();
        let accept = move |peer: PeerId, stream: Stream| {
            let (inbound, metrics) = (self.clone(), metrics.clone());
            spawn(inbound.session(peer, stream, metrics));
        };
        streams.serve(PROTOCOL, Arc::new(accept));
    }

    async fn session(self, peer: PeerId, stream: Stream, metrics: Metrics) {
        let _active = Active::new(&metrics.network_active_inbound_sessions);
        if let Err(error) = self.run(peer, stream).await {
            debug!(%peer, %error, "inbound session failed");
            metrics.network_event_counter.of("session_failed").inc();
        }
    }

    async fn run(self, peer: PeerId, mut stream: Stream) -> io::Result<()> {
        use futures::AsyncWriteExt;
        match (&self.messages, &self.queries) {
            (Some(messages), queries) => {
                let receiving = messages.receive(&mut stream, peer, queries.is_some());
                match (timed(messages.budget.message_size(), receiving).await?, queries) {
                    (Query::Open, Some(sessions)) => sessions.respond_to(peer, stream).await,
                    _ => stream.close().await,
                }
            }
            (None, Some(sessions)) => sessions.serve(peer, stream).await,
            (None, None) => Ok(()),
        }
    }
}

impl Messages {
    /// Reads a query to its end, as room for it permits, and hands it over if it is a message; if `may_be_open`, a
    /// query shorter than a message's header is none. Its header is read first, so that a small message takes little
    /// room.
    async fn receive(
        &self,
        stream: &mut (impl futures::AsyncRead + Unpin),
        peer: PeerId,
        may_be_open: bool,
    ) -> io::Result<Query> {
        let mut query = Vec::new();
        read_more(stream, &mut query, HEADER_SIZE - 1).await?;
        let Some(header) = query.first_chunk() else {
            if may_be_open {
                return Ok(Query::Open);
            }
            self.received(peer, &query).await;
            return Ok(Query::Message);
        };
        let Some(stated) = usize::try_from(stated_size(header)).ok().filter(|stated| *stated <= MAX_MESSAGE_SIZE)
        else {
            let line = format!("query of more than {MAX_MESSAGE_SIZE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, line));
        };
        let _room = self.budget.reserve(peer, stated).await;
        let oversized = stated > self.budget.message_size();
        let _more = if oversized { Some(self.budget.oversized(peer, stated).await) } else { None };
        query.reserve_exact(stated + 1 - query.len());
        // A byte beyond the stated ones makes the message malformed, and is read to detect it.
        read_more(stream, &mut query, stated).await?;
        self.received(peer, &query).await;
        Ok(Query::Message)
    }

    async fn received(&self, peer: PeerId, query: &[u8]) {
        processor::work(1, 0);
        processor::done().await;
        self.traffic.received(Some(peer), Some(peer), None, query);
    }
}
