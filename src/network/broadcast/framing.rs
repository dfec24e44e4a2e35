//! Framing of SQMR, Apollo's request protocol.
//!
//! A session is one stream. The querier writes the query without a length and closes its half; the server reads to the
//! end, answers with any number of length-prefixed responses, and closes its own half.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use prometheus::IntGauge;

use crate::{clock::timeout, message::MAX_EXPLORE_MESSAGE_SIZE};

/// Name of the protocol on the wire.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/stress-test/0.1.0");

/// Maximum time of one session of a broadcast with a message of up to 4 MiB; a peer that stops reading must not hold it
/// for ever. Larger messages get the same time again for each 4 MiB: none needs a faster link than another.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// Initial size of the buffer for a query or response of unknown or claimed length.
const FIRST_BUFFER: usize = 64 << 10;

/// Writes a query and closes the write half, which ends it.
///
/// # Errors
/// Errors of the stream.
pub(super) async fn write_query(stream: &mut (impl AsyncWrite + Unpin), query: &[u8]) -> io::Result<()> {
    stream.write_all(query).await?;
    stream.close().await
}

/// Reads a query to its end.
///
/// # Errors
/// Errors of the stream; `InvalidData` above `limit` bytes.
pub(super) async fn read_query(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut query = Vec::new();
    read_more(stream, &mut query, limit).await?;
    if query.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("query of more than {limit} bytes")));
    }
    Ok(query)
}

/// Reads on, until the end of the stream or one byte beyond `limit` in all.
pub(super) async fn read_more(
    stream: &mut (impl AsyncRead + Unpin),
    query: &mut Vec<u8>,
    limit: usize,
) -> io::Result<()> {
    let more = (limit + 1).saturating_sub(query.len());
    stream.take(more as u64).read_to_end(query).await.map(drop)
}

/// A response in its format on the wire: its length as an unsigned varint, then its bytes.
pub(super) fn frame_response(response: &[u8]) -> Bytes {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    let prefix = unsigned_varint::encode::usize(response.len(), &mut prefix);
    [prefix, response].concat().into()
}

/// Reads the body of a response.
///
/// # Errors
/// Errors of the stream; `UnexpectedEof` when it ends before `length` bytes.
pub(super) async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    // The length is the peer's claim, so memory is taken as the bytes arrive.
    let mut response = Vec::with_capacity(length.min(FIRST_BUFFER));
    stream.take(length as u64).read_to_end(&mut response).await?;
    if response.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(response)
}

/// Raises a gauge as long as it lives.
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

/// Runs a session, or a part of one, that carries a message of at most `size` bytes.
///
/// # Errors
/// Errors of the session; `TimedOut` when it takes too long.
pub(super) async fn timed<T>(size: usize, session: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let parts = u32::try_from(size.div_ceil(MAX_EXPLORE_MESSAGE_SIZE)).unwrap_or(u32::MAX).max(1);
    let limit = SESSION_TIMEOUT.saturating_mul(parts);
    timeout(limit, session).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};
    use proptest::prelude::*;

    use super::*;
    use crate::network::prefixed::read_length;

    async fn read_response(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Option<Vec<u8>>> {
        match read_length(stream, limit).await? {
            Some(length) => read_body(stream, length).await.map(Some),
            None => Ok(None),
        }
    }

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
