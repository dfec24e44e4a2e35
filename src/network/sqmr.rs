//! SQMR, Apollo's request protocol: its framing, and broadcasting by a session to every peer.
//!
//! A session is one stream. The querier writes the query without a length and closes its half; the server reads to the
//! end, answers with any number of length-prefixed responses, and closes its own half. A broadcast here is a session
//! to every connected peer whose query is the message; there are no responses.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use prometheus::IntGauge;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tracing::debug;

use super::{
    Backlog, Handover, NetworkConfig, Traffic,
    backlog::Held,
    budget::Budget,
    streams::{self, Opener},
};
use crate::{message::MAX_MESSAGE_SIZE, metrics::Metrics};

/// The protocol's name on the wire.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/stress-test/0.1.0");

/// Sessions to one peer that may be open at a time. yamux ends the connection above 512 streams, both sides' together.
const MAX_SESSIONS_PER_PEER: usize = 128;

/// Longest that one session of a broadcast may take; a peer that stops reading must not hold it for ever.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of responses that nobody asked for and that are passed over: one of the largest.
const MAX_UNASKED: u64 = MAX_MESSAGE_SIZE as u64 + 16;

/// First size of the buffer for a query or response of unknown or claimed length.
const FIRST_BUFFER: usize = 64 << 10;

/// Writes a query and closes the write half, which ends it.
///
/// # Errors
/// Those of the stream.
pub(super) async fn write_query(stream: &mut (impl AsyncWrite + Unpin), query: &[u8]) -> io::Result<()> {
    stream.write_all(query).await?;
    stream.close().await
}

/// Reads a query to its end.
///
/// # Errors
/// Those of the stream; `InvalidData` above `limit` bytes.
pub(super) async fn read_query(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut query = Vec::new();
    read_more(stream, &mut query, limit).await?;
    if query.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("query of more than {limit} bytes")));
    }
    Ok(query)
}

/// Reads on, until the end of the stream or one byte beyond `limit` in all.
async fn read_more(stream: &mut (impl AsyncRead + Unpin), query: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let more = (limit + 1).saturating_sub(query.len());
    stream.take(more as u64).read_to_end(query).await.map(drop)
}

/// Reads a query that is a message to its end, as room for it permits, and hands it over.
async fn receive_query(
    stream: &mut (impl AsyncRead + Unpin),
    peer: PeerId,
    traffic: &dyn Traffic,
    budget: &Budget,
) -> io::Result<()> {
    let usual = budget.message_size();
    let _room = budget.reserve(peer, usual).await;
    let mut query = Vec::new();
    read_more(stream, &mut query, usual).await?;
    if query.len() > usual {
        let _more = budget.oversized(peer).await;
        read_more(stream, &mut query, MAX_MESSAGE_SIZE).await?;
        if query.len() > MAX_MESSAGE_SIZE {
            let line = format!("query of more than {MAX_MESSAGE_SIZE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, line));
        }
        traffic.received(Some(peer), None, &query);
        return Ok(());
    }
    traffic.received(Some(peer), None, &query);
    Ok(())
}

/// A response as it goes over the wire: its length as an unsigned varint, then its bytes.
pub(super) fn frame_response(response: &[u8]) -> Bytes {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    let prefix = unsigned_varint::encode::usize(response.len(), &mut prefix);
    [prefix, response].concat().into()
}

/// Reads one response; none when the server has ended the session.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` when it ends inside a response, `InvalidData` for a length that is no varint or
/// above `limit`.
#[cfg(test)]
async fn read_response(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Option<Vec<u8>>> {
    match read_length(stream, limit).await? {
        Some(length) => read_body(stream, length).await.map(Some),
        None => Ok(None),
    }
}

/// Reads the body of a response.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` when it ends before `length` bytes.
pub(super) async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    // The length is the peer's claim: memory is taken as the bytes come.
    let mut response = Vec::with_capacity(length.min(FIRST_BUFFER));
    stream.take(length as u64).read_to_end(&mut response).await?;
    if response.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(response)
}

/// Reads the length of the next response; none when the server has ended the session.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` when it ends inside the length, `InvalidData` for one that is no varint or above
/// `limit`.
pub(super) async fn read_length(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Option<usize>> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    for at in 0..buffer.len() {
        if stream.read(&mut buffer[at..=at]).await? == 0 {
            return if at == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if unsigned_varint::decode::is_last(buffer[at]) {
            return match unsigned_varint::decode::usize(&buffer[..=at]) {
                Ok((length, _)) if length > limit => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("response of {length} bytes, more than {limit}"),
                )),
                Ok((length, _)) => Ok(Some(length)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "length of a response is too long"))
}

/// Raises a gauge for as long as it lives.
pub(super) struct Active(IntGauge);

impl Active {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The behaviour that serves queries: each one is an arrival.
pub(super) fn server(traffic: Arc<dyn Traffic>, budget: Budget, metrics: &Metrics) -> streams::Behaviour {
    let metrics = metrics.clone();
    let accept = move |peer: PeerId, stream: Stream| {
        let (traffic, budget, metrics) = (traffic.clone(), budget.clone(), metrics.clone());
        tokio::spawn(async move {
            let _active = Active::new(&metrics.network_active_inbound_sessions);
            if let Err(error) = timed(serve(stream, peer, &*traffic, &budget)).await {
                debug!(%peer, %error, "inbound session failed");
                metrics.network_event_counter.of("session_failed").inc();
            }
        });
    };
    streams::Behaviour::new(PROTOCOL, Arc::new(accept))
}

async fn serve(mut stream: Stream, peer: PeerId, traffic: &dyn Traffic, budget: &Budget) -> io::Result<()> {
    receive_query(&mut stream, peer, traffic, budget).await?;
    stream.close().await
}

pub(super) async fn timed<T>(session: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(SESSION_TIMEOUT, session).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Broadcasts by a session to every connected peer.
pub(super) struct Querier {
    opener: Opener,
    metrics: Metrics,
    queue_length: usize,
    backlog: Backlog,
    peers: HashMap<PeerId, mpsc::Sender<Held>>,
}

impl Querier {
    pub(super) fn new(opener: Opener, config: &NetworkConfig, metrics: &Metrics) -> Self {
        let (queue_length, backlog) = (config.queue_length(), config.backlog.clone());
        Self { opener, metrics: metrics.clone(), queue_length, backlog, peers: HashMap::new() }
    }

    /// A peer has connected: its queue and the task that works it off.
    pub(super) fn connected(&mut self, peer: PeerId) {
        let (queue, messages) = mpsc::channel(self.queue_length);
        self.peers.insert(peer, queue);
        // What is in a session is as much on its way to the peer as what waits for one, and is bounded likewise.
        let sessions = Arc::new(Semaphore::new(self.queue_length.min(MAX_SESSIONS_PER_PEER)));
        tokio::spawn(query_all(peer, messages, sessions, self.opener.clone(), self.metrics.clone()));
    }

    /// A peer is gone; what waits for it fails.
    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// Queues a message for every connected peer.
    pub(super) fn broadcast(&self, message: Vec<u8>) -> Handover {
        if self.peers.is_empty() {
            self.metrics.network_dropped_broadcast_messages.of("no_peers_connected").inc();
        }
        let message = Bytes::from(message);
        let mut handover = Handover::default();
        for queue in self.peers.values() {
            if queue.try_send(self.backlog.hold(message.clone())).is_ok() {
                handover.queued += 1;
            } else {
                handover.dropped += 1;
                self.metrics.network_dropped_broadcast_messages.of("peer_queue_full").inc();
            }
        }
        handover
    }
}

async fn query_all(
    peer: PeerId,
    mut messages: mpsc::Receiver<Held>,
    sessions: Arc<Semaphore>,
    opener: Opener,
    metrics: Metrics,
) {
    while let Some(message) = messages.recv().await {
        // The semaphore is never closed.
        let Ok(permit) = sessions.clone().acquire_owned().await else { return };
        let (opener, metrics) = (opener.clone(), metrics.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            let _active = Active::new(&metrics.network_active_outbound_sessions);
            match timed(query(peer, &message.bytes, &opener)).await {
                Ok(()) => metrics.broadcast_message_send_delay_seconds.observe(started.elapsed().as_secs_f64()),
                Err(error) => {
                    debug!(%peer, %error, "outbound session failed");
                    metrics.network_dropped_broadcast_messages.of("session_failed").inc();
                }
            }
            drop(permit);
        });
    }
}

async fn query(peer: PeerId, message: &[u8], opener: &Opener) -> io::Result<()> {
    let mut stream = opener.open(peer).await?;
    write_query(&mut stream, message).await?;
    // The server's end of stream says that it has read all. Responses are not asked for, and take no memory.
    futures::io::copy(stream.take(MAX_UNASKED), &mut futures::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_its_bytes_alone() {
        let mut wire = Cursor::new(vec![]);
        block_on(write_query(&mut wire, b"query")).unwrap();
        assert_eq!(wire.into_inner(), b"query");
        assert_eq!(block_on(read_query(&mut Cursor::new(b"query"), 5)).unwrap(), b"query");
        let error = block_on(read_query(&mut Cursor::new(b"longer"), 5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_response_has_its_length_before_it() {
        assert_eq!(*frame_response(b"abc"), [3, b'a', b'b', b'c']);
        let long = frame_response(&[7; 300]);
        assert_eq!(long[..3], [0xac, 0x02, 7]);
        assert_eq!(long.len(), 2 + 300);
    }

    #[test]
    fn the_end_between_responses_is_the_end_and_inside_one_an_error() {
        let read = |bytes: &[u8]| block_on(read_response(&mut Cursor::new(bytes.to_vec()), 10));
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[0]).unwrap(), Some(vec![]));
        assert_eq!(read(&[2, 1]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&[0x80]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&[11]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&[0xff; 20]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn responses_come_out_as_they_went_in(
            responses in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let framed: Vec<Bytes> = responses.iter().map(|response| frame_response(response)).collect();
            let mut wire = Cursor::new(framed.concat());
            for response in responses {
                prop_assert_eq!(block_on(read_response(&mut wire, 300)).unwrap(), Some(response));
            }
            prop_assert_eq!(block_on(read_response(&mut wire, 300)).unwrap(), None);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut wire = Cursor::new(bytes);
            while let Ok(Some(response)) = block_on(read_response(&mut wire, 40)) {
                prop_assert!(response.len() <= 40);
            }
        }
    }
}
