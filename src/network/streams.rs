//! Raw streams of one or more protocols: opened on demand, and accepted without ever being dropped because of a slow
//! reader.
//!
//! The `libp2p-stream` crate does the same behind a channel with room for one stream, and drops streams if the channel
//! is full: two streams that a connection finishes negotiating in one poll are enough. Here the handler gives each
//! inbound stream to a function at once.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::{Ready, ready};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of concurrent negotiations of streams on one connection. The remote allows 128 by default.
const MAX_OPENING: usize = 64;

/// Maximum number of requests for a stream that may wait for one connection; further requesters wait.
const OPEN_QUEUE: usize = 16;

/// Accepts a new inbound stream. Runs inside the connection's task, so it must spawn everything that takes time.
pub(super) type Accept = Arc<dyn Fn(PeerId, Stream) + Send + Sync>;

/// A requested stream.
pub(super) struct Request {
    protocol: StreamProtocol,
    answer: oneshot::Sender<io::Result<Stream>>,
}

type Answer = oneshot::Sender<io::Result<Stream>>;
type Connections = Arc<Mutex<HashMap<PeerId, (ConnectionId, mpsc::Sender<Request>)>>>;

/// Opens streams of one protocol to connected peers.
#[derive(Clone)]
pub(super) struct Opener {
    protocol: StreamProtocol,
    connections: Connections,
}

impl Opener {
    /// Opens a stream.
    ///
    /// # Errors
    /// Fails if the peer is not connected, does not speak the protocol, or the connection ends.
    pub(super) async fn open(&self, peer: PeerId) -> io::Result<Stream> {
        let requests = {
            let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections.get(&peer).map(|(_, requests)| requests.clone())
        };
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let (answer, stream) = oneshot::channel();
        let request = Request { protocol: self.protocol.clone(), answer };
        requests.ok_or_else(closed)?.send(request).await.map_err(|_| closed())?;
        stream.await.map_err(|_| closed())?
    }
}

/// The behaviour: one handler a connection.
#[derive(Default)]
pub(super) struct Behaviour {
    served: Arc<Vec<(StreamProtocol, Accept)>>,
    connections: Connections,
    /// At most one entry for each connection that was just established.
    attach: VecDeque<(PeerId, ConnectionId, mpsc::Receiver<Request>)>,
}

impl Behaviour {
    /// Adds `protocol`, and gives its inbound streams to `accept`. Must be called before the first connection.
    pub(super) fn serve(&mut self, protocol: StreamProtocol, accept: Accept) {
        Arc::make_mut(&mut self.served).push((protocol, accept));
    }

    /// True if it speaks any protocol.
    pub(super) fn is_used(&self) -> bool {
        !self.served.is_empty()
    }

    /// A handle that opens streams of `protocol`.
    pub(super) fn opener(&self, protocol: StreamProtocol) -> Opener {
        Opener { protocol, connections: self.connections.clone() }
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler { peer, served: self.served.clone(), requests: None, opening: 0 }
    }
}

/// Negotiation of an inbound stream, whose outcome is the stream and its protocol.
pub(super) struct AnyOf(Arc<Vec<(StreamProtocol, Accept)>>);

impl UpgradeInfo for AnyOf {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|(protocol, _)| protocol.clone()).collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for AnyOf {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            // Only now it is certain that no other behaviour refuses the connection.
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                let (sender, receiver) = mpsc::channel(OPEN_QUEUE);
                connections.insert(peer_id, (connection_id, sender));
                self.attach.push_back((peer_id, connection_id, receiver));
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. })
                if connections.get(&peer_id).is_some_and(|(id, _)| *id == connection_id) =>
            {
                connections.remove(&peer_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // The swarm polls again after every event that it got, so no waker is needed.
        match self.attach.pop_front() {
            Some((peer_id, connection, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event })
            }
            None => Poll::Pending,
        }
    }
}

/// The handler of one connection.
pub(super) struct Handler {
    peer: PeerId,
    served: Arc<Vec<(StreamProtocol, Accept)>>,
    requests: Option<mpsc::Receiver<Request>>,
    opening: usize,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = mpsc::Receiver<Request>;
    type ToBehaviour = Infallible;
    type InboundProtocol = AnyOf;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Answer;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(AnyOf(self.served.clone()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Answer, Infallible>> {
        if self.opening < MAX_OPENING
            && let Some(requests) = &mut self.requests
            && let Poll::Ready(Some(request)) = requests.poll_recv(context)
        {
            self.opening += 1;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(request.protocol), request.answer),
            });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, requests: mpsc::Receiver<Request>) {
        self.requests = Some(requests);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Answer>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, name), .. }) => {
                if let Some((_, accept)) = self.served.iter().find(|(protocol, _)| *protocol == name) {
                    accept(self.peer, stream);
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                self.opening -= 1;
                // The requester may have given up.
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening -= 1;
                let _ = info.send(Err(io::Error::other(error.to_string())));
            }
            _ => {}
        }
    }
}
