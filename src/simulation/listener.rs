//! Listening and dialling.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    dialing::{Dialing, Listening},
    stream::Stream,
    world::act,
};

/// A listening port; it is free again when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: SocketAddr,
    number: u64,
}

impl Listener {
    /// Listens on a port of a host of this thread's network.
    ///
    /// # Errors
    /// Fails if the port is taken, or there is no such host.
    pub fn bind(socket: SocketAddr) -> io::Result<Self> {
        let bound = act(|world| {
            world.host_at(socket.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
            if world.listening.contains_key(&socket) {
                return Err(io::ErrorKind::AddrInUse);
            }
            let number = world.number();
            world.listening.insert(socket, Listening { number, ..Listening::default() });
            Ok(Self { socket, number })
        });
        bound.0.unwrap_or(Err(io::ErrorKind::NotConnected)).map_err(io::Error::from)
    }

    /// The next connection, and the address of its other end.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(Stream, SocketAddr)> {
        let accepted = act(|world| {
            loop {
                let listening = world.listening.get_mut(&self.socket).filter(|port| port.number == self.number)?;
                let Some(id) = listening.waiting.pop_front() else {
                    listening.waker = Some(context.waker().clone());
                    return None;
                };
                if let Some(end) = world.end(id) {
                    return Some((id, end.remote));
                }
            }
        });
        match accepted.0.flatten() {
            Some((id, remote)) => Poll::Ready((Stream::new(id), remote)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        act(|world| {
            if world.listening.get(&self.socket).is_some_and(|port| port.number == self.number) {
                let waiting = world.listening.remove(&self.socket).unwrap_or_default().waiting;
                waiting.into_iter().for_each(|id| world.dropped(id));
            }
        });
    }
}

/// A connection attempt of a host.
#[derive(Debug)]
pub struct Dial {
    dial: Option<u64>,
}

impl Dial {
    /// Dials from the host at `from`.
    pub fn new(from: IpAddr, to: SocketAddr) -> Self {
        let dial = act(|world| {
            let host = world.host_at(from)?;
            let local = SocketAddr::new(from, world.port());
            let dial = world.number();
            let dialing = Dialing { from: (host, local), to, tries: 0, sent_at: 0, outcome: None, waker: None };
            world.dialing.insert(dial, dialing);
            world.send_syn(dial);
            Some(dial)
        });
        Self { dial: dial.0.flatten() }
    }
}

impl Future for Dial {
    type Output = io::Result<Stream>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let Some(dial) = self.dial else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let answer = act(|world| {
            let dialing = world.dialing.get_mut(&dial)?;
            if dialing.outcome.is_none() {
                dialing.waker = Some(context.waker().clone());
                return Some(None);
            }
            Some(world.dialing.remove(&dial)?.outcome)
        });
        match answer.0.flatten() {
            Some(None) => Poll::Pending,
            Some(Some(outcome)) => {
                self.dial = None;
                Poll::Ready(outcome.map(Stream::new).map_err(io::Error::from))
            }
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        let Some(dial) = self.dial else { return };
        act(|world| {
            if let Some(Dialing { outcome: Some(Ok(id)), .. }) = world.dialing.remove(&dial) {
                world.dropped(id);
            }
        });
    }
}
