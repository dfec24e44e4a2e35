//! Transport: TCP with noise and yamux, its socket bytes counted, or QUIC; with DNS in front. On a thread that simulates,
//! the network is a model.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identity::Keypair,
    noise, quic, tcp, yamux,
};
use prometheus::IntCounter;

use super::{NetworkConfig, NetworkError, PeerAddress, names::Resolving, virtual_transport::VirtualTransport};
use crate::{clock, metrics::Metrics};

/// Maximum time of encryption and multiplexing on a new connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds the transport. It contains only one of TCP and QUIC, so that a run certainly uses the requested one.
pub(super) fn build(
    keypair: &Keypair,
    config: &NetworkConfig,
    metrics: &Metrics,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetworkError> {
    let transport = if clock::is_virtual() {
        if config.quic {
            return Err(NetworkError::Libp2p("a simulation has TCP only".into()));
        }
        secured(VirtualTransport::new(config.listen_address), keypair, metrics)?
    } else if config.quic {
        quic::tokio::Transport::new(quic::Config::new(keypair))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    } else {
        secured(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)), keypair, metrics)?
    };
    if !config.bootstrap.iter().any(PeerAddress::is_name) {
        return Ok(transport);
    }
    Ok(Resolving::new(transport).boxed())
}

/// Noise and yamux over the streams of a transport, whose bytes are counted.
fn secured<T>(
    transport: T,
    keypair: &Keypair,
    metrics: &Metrics,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetworkError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let sent = metrics.network_socket_bytes_sent_total.clone();
    let received = metrics.network_socket_bytes_received_total.clone();
    Ok(transport
        .map(move |stream, _| Counted { stream, sent, received })
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux::Config::default())
        .timeout(UPGRADE_TIMEOUT)
        .boxed())
}

/// A TCP stream that counts its bytes.
struct Counted<S> {
    stream: S,
    sent: IntCounter,
    received: IntCounter,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(bytes)) = read {
            self.received.inc_by(bytes as u64);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        if let Poll::Ready(Ok(bytes)) = written {
            self.sent.inc_by(bytes as u64);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        if let Poll::Ready(Ok(bytes)) = written {
            self.sent.inc_by(bytes as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
