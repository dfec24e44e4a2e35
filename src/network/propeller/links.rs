//! Streams of units: one to each peer, and one from each.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, Stream};
use tokio::task::coop::consume_budget;
use tracing::debug;

use super::{refusal::Refusal, relay::Relay, wire::Units};
use crate::{
    clock::sleep,
    network::{backlog::Held, prefixed::read_length, queue::QueueReceiver, streams::Opener},
    scenario::MAX_PROPELLER_FRAME,
    simulation::processor,
};

/// Pause before a stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// Body of a frame above which it is not copied behind other ones: the copy would cost more than another write.
const GATHER: usize = 16 << 10;

/// Writes the units of a queue to a peer, over one stream after the other, until the queue ends. `open` is true while
/// there is a stream.
pub(in crate::network) async fn write_units(
    peer: PeerId,
    mut units: QueueReceiver,
    opener: Opener,
    open: impl Fn(bool) + Send,
) -> u64 {
    while !units.is_closed() {
        match opener.open(peer).await {
            Ok(mut stream) => {
                open(true);
                let written = write_all(&mut stream, &mut units).await;
                open(false);
                match written {
                    Ok(()) => break,
                    Err(error) => debug!(%peer, %error, "stream of units ended"),
                }
            }
            Err(error) => debug!(%peer, %error, "no stream of units"),
        }
        sleep(REOPEN_AFTER).await;
    }
    units.close()
}

/// Writes all units of a queue. Units that wait go into one frame.
async fn write_all(stream: &mut (impl AsyncWrite + Unpin), units: &mut QueueReceiver) -> io::Result<()> {
    let mut next = units.recv().await;
    while let Some(first) = next.take() {
        let mut frame: Vec<Held> = vec![first];
        let mut length = frame[0].bytes.len();
        while let Some(more) = units.try_recv() {
            if length + more.bytes.len() > MAX_PROPELLER_FRAME {
                next = Some(more);
                break;
            }
            length += more.bytes.len();
            frame.push(more);
        }
        write_frame(stream, frame.iter().map(|held| &held.bytes), length).await?;
        drop(frame);
        if next.is_none() {
            stream.flush().await?;
            next = units.recv().await;
        }
    }
    stream.close().await
}

/// Writes one frame: the length of all bodies, then the bodies.
async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    bodies: impl Iterator<Item = &Bytes>,
    length: usize,
) -> io::Result<()> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let mut gathered = unsigned_varint::encode::usize(length, &mut buffer).to_vec();
    for body in bodies {
        if body.len() < GATHER {
            gathered.extend_from_slice(body);
        }
        if gathered.len() >= GATHER || body.len() >= GATHER {
            stream.write_all(&gathered).await?;
            gathered.clear();
        }
        if body.len() >= GATHER {
            stream.write_all(body).await?;
        }
    }
    stream.write_all(&gathered).await
}

/// Reads units of a peer and hands them to the relay, until the stream ends. The next frame is read only after all
/// units of the last one were checked, so a peer that sends more than this node can check has to wait.
pub(in crate::network) async fn read_units(relay: Arc<Relay>, peer: PeerId, mut stream: Stream) {
    let Some(from) = relay.place(&peer) else { return };
    loop {
        match read_frame(&mut stream).await {
            Ok(Some(body)) => take_all(&relay, peer, from, body).await,
            Ok(None) => return,
            Err(error) => {
                debug!(%peer, %error, "stream of units ended");
                if error.kind() == io::ErrorKind::InvalidData {
                    relay.refuse(&peer, Refusal::Frame);
                }
                return;
            }
        }
    }
}

/// Hands all units of a frame to the relay, and counts those that it refuses.
pub(super) async fn take_all(relay: &Relay, peer: PeerId, from: usize, body: Bytes) {
    let frame = body.len();
    let mut units = Units::of(body);
    loop {
        // A frame has room for thousands of small units, whose signatures are verified in place.
        consume_budget().await;
        match units.next_unit() {
            Ok(Some(unit)) => {
                // A unit that stays in memory must not keep the rest of its frame there.
                processor::work(1, 0);
                processor::done().await;
                let unit = if unit.len() < frame / 2 { Bytes::copy_from_slice(&unit) } else { unit };
                if let Err(refusal) = relay.take(from, unit).await {
                    relay.refuse(&peer, refusal);
                }
            }
            Ok(None) => return,
            Err(_) => return relay.refuse(&peer, Refusal::Malformed),
        }
    }
}

/// Reads the body of a frame; none at the end of the stream.
///
/// # Errors
/// Errors of the stream; `InvalidData` for a length that is no varint or above the limit.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let Some(length) = read_length(stream, MAX_PROPELLER_FRAME).await? else { return Ok(None) };
    // The system gives zeroed memory page by page, as the bytes arrive.
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(body.into()))
}
