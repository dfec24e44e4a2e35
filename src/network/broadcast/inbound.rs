//! Inbound sessions of SQMR's protocol name: messages, open queries, or both.
//!
//! SQMR and reversed SQMR share their name on the wire. A query of reversed SQMR is empty, and a message is never shorter than
//! its header, so a node that runs both tells them apart by that.

use std::{io, sync::Arc};

use libp2p::{PeerId, Stream};
use tracing::debug;

use super::{
    Setup,
    framing::{Active, PROTOCOL, read_more, timed},
    reversed_sqmr::Sessions,
};
use crate::{
    message::{HEADER_SIZE, MAX_MESSAGE_SIZE},
    metrics::Metrics,
    network::{Traffic, budget::Budget},
};

/// The kinds of session that this node serves.
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

/// An inbound session when its query was read.
enum Query {
    /// A message, which was handed over.
    Message,
    /// No message: the peer waits for responses.
    Open,
}

impl Inbound {
    /// Takes queries that are messages.
    pub(super) fn take_messages(&mut self, traffic: Arc<dyn Traffic>, budget: Budget) {
        self.messages = Some(Messages { traffic, budget });
    }

    /// Takes queries that wait for responses.
    pub(super) fn take_queries(&mut self, sessions: Sessions) {
        self.queries = Some(sessions);
    }

    /// Registers the protocol, if there is anything to serve.
    pub(super) fn serve(self, setup: &mut Setup<'_>) {
        if self.messages.is_none() && self.queries.is_none() {
            return;
        }
        let metrics = setup.metrics.clone();
        let accept = move |peer: PeerId, stream: Stream| {
            let (inbound, metrics) = (self.clone(), metrics.clone());
            tokio::spawn(inbound.session(peer, stream, metrics));
        };
        setup.streams.serve(PROTOCOL, Arc::new(accept));
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
            (Some(messages), queries) => match timed(messages.receive(&mut stream, peer, queries.is_some())).await? {
                Query::Message => stream.close().await,
                Query::Open => match queries {
                    Some(sessions) => sessions.respond_to(peer, stream).await,
                    None => stream.close().await,
                },
            },
            (None, Some(sessions)) => sessions.serve(peer, stream).await,
            (None, None) => Ok(()),
        }
    }
}

impl Messages {
    /// Reads a query to its end, as room for it permits, and hands it over if it is a message; what is shorter than a
    /// message's header is none where `may_be_open`.
    async fn receive(
        &self,
        stream: &mut (impl futures::AsyncRead + Unpin),
        peer: PeerId,
        may_be_open: bool,
    ) -> io::Result<Query> {
        let usual = self.budget.message_size();
        let mut query = Vec::new();
        if may_be_open {
            read_more(stream, &mut query, HEADER_SIZE - 1).await?;
            if query.len() < HEADER_SIZE {
                return Ok(Query::Open);
            }
        }
        let _room = self.budget.reserve(peer, usual).await;
        read_more(stream, &mut query, usual).await?;
        if query.len() > usual {
            let _more = self.budget.oversized(peer).await;
            read_more(stream, &mut query, MAX_MESSAGE_SIZE).await?;
            if query.len() > MAX_MESSAGE_SIZE {
                let line = format!("query of more than {MAX_MESSAGE_SIZE} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, line));
            }
            self.traffic.received(Some(peer), None, &query);
            return Ok(Query::Message);
        }
        self.traffic.received(Some(peer), None, &query);
        Ok(Query::Message)
    }
}
