//! Transport of a simulation: TCP connections of the network's model (`crate::simulation`), over plain addresses.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    multiaddr::Protocol,
};

use crate::simulation::{Dial, Listener, Stream};

/// Transport of the host at an address.
pub(super) struct VirtualTransport {
    host: IpAddr,
    listeners: Vec<(ListenerId, Multiaddr, Listener)>,
    events: VecDeque<TransportEvent<Ready<io::Result<Stream>>, io::Error>>,
    waker: Option<Waker>,
}

impl VirtualTransport {
    pub(super) fn new(host: IpAddr) -> Self {
        Self { host, listeners: vec![], events: VecDeque::new(), waker: None }
    }

    fn tell(&mut self, event: TransportEvent<Ready<io::Result<Stream>>, io::Error>) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Address and port of TCP; none for any other address.
fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None | Some(Protocol::P2p(_))) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

fn multiaddr(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()))
}

impl Transport for VirtualTransport {
    type Output = Stream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Stream>>;
    type Dial = Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let Some(socket) = socket(&address) else { return Err(TransportError::MultiaddrNotSupported(address)) };
        let listener = Listener::bind(socket).map_err(TransportError::Other)?;
        self.tell(TransportEvent::NewAddress { listener_id: id, listen_addr: address.clone() });
        self.listeners.push((id, address, listener));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(place) = self.listeners.iter().position(|(known, ..)| *known == id) else { return false };
        self.listeners.remove(place);
        self.tell(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        true
    }

    fn dial(&mut self, address: Multiaddr, _options: DialOpts) -> Result<Dial, TransportError<io::Error>> {
        match socket(&address) {
            Some(socket) => Ok(Dial::new(self.host, socket)),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        for (id, address, listener) in &mut self.listeners {
            if let Poll::Ready((stream, remote)) = listener.poll_accept(context) {
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id: *id,
                    upgrade: ready(Ok(stream)),
                    local_addr: address.clone(),
                    send_back_addr: multiaddr(remote),
                });
            }
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
