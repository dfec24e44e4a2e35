//! Listening and dialling.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use virtual_clock::schedule;

use super::{
    dialing::{Dialing, Listening},
    end_id::{EndId, pack, unpack},
    stream::Stream,
    world::{World, act, now},
};

/// Connections that wait to be accepted: Linux' `somaxconn`.
const MOST_WAITING: usize = 4096;

/// Time after which a SYN that nobody answers is sent again, which then doubles (RFC 6298), and the number of repetitions.
const SYN_AGAIN: u64 = 1_000_000_000;
const SYN_TRIES: u32 = 6;

fn on_syn(dial: u64) -> bool {
    act(|world| world.syn(dial)).1
}

fn on_syn_again(dial: u64) -> bool {
    act(|world| world.send_syn(dial)).1
}

fn on_answer(dial: u64) -> bool {
    act(|world| world.answer(dial)).1
}

fn on_accept(argument: u64) -> bool {
    let (id, _) = unpack(argument);
    act(|world| world.accept(id)).1
}

impl World {
    fn send_syn(&mut self, dial: u64) {
        let Some(Dialing { from, to, tries, .. }) = self.dialing.get(&dial) else { return };
        let (from, target, tries) = (from.0, to.ip(), *tries);
        match self.by_address.get(&target).copied() {
            Some(to) if !self.is_cut(from, to) => {
                let at = now() + self.latency(from, to);
                schedule(at, on_syn, dial);
            }
            _ if tries >= SYN_TRIES => self.refuse(dial, io::ErrorKind::TimedOut, 0),
            _ => {
                if let Some(dialing) = self.dialing.get_mut(&dial) {
                    dialing.tries += 1;
                }
                schedule(now() + (SYN_AGAIN << tries), on_syn_again, dial);
            }
        }
    }

    fn refuse(&mut self, dial: u64, kind: io::ErrorKind, after: u64) {
        if let Some(dialing) = self.dialing.get_mut(&dial) {
            dialing.outcome = Some(Err(kind));
        }
        schedule(now() + after, on_answer, dial);
    }

    /// A SYN arrives.
    fn syn(&mut self, dial: u64) {
        let Some(Dialing { from, to, .. }) = self.dialing.get(&dial) else { return };
        let (from, to) = (*from, *to);
        let Some(host) = self.by_address.get(&to.ip()).copied() else { return };
        let back = self.latency(host, from.0);
        if self.listening.get(&to).is_none_or(|listening| listening.waiting.len() >= MOST_WAITING) {
            return self.refuse(dial, io::ErrorKind::ConnectionRefused, back);
        }
        let there = self.latency(from.0, host);
        let (own, other) = self.connect(from, (host, to), there + back);
        if let Some(dialing) = self.dialing.get_mut(&dial) {
            dialing.outcome = Some(Ok(own));
        }
        schedule(now() + back, on_answer, dial);
        // The listener has the connection when the third packet of the handshake arrives.
        schedule(now() + back + there, on_accept, pack(other, 0));
    }

    fn answer(&mut self, dial: u64) {
        if let Some(dialing) = self.dialing.get_mut(&dial) {
            dialing.has_answer = true;
            self.wakers.extend(dialing.waker.take());
        }
    }

    fn accept(&mut self, id: EndId) {
        let Some(local) = self.end(id).map(|end| end.local) else { return };
        match self.listening.get_mut(&local) {
            Some(listening) => {
                listening.waiting.push_back(id);
                self.wakers.extend(listening.waker.take());
            }
            None => self.dropped(id),
        }
    }
}

/// A listening port; it is free again when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: SocketAddr,
}

impl Listener {
    /// Listens on a port of a host of this thread's network.
    ///
    /// # Errors
    /// Fails if the port is taken, or there is no such host.
    pub fn bind(socket: SocketAddr) -> io::Result<Self> {
        let bound = act(|world| {
            if !world.by_address.contains_key(&socket.ip()) {
                return Err(io::ErrorKind::AddrNotAvailable);
            }
            if world.listening.contains_key(&socket) {
                return Err(io::ErrorKind::AddrInUse);
            }
            world.listening.insert(socket, Listening::default());
            Ok(Self { socket })
        });
        bound.0.unwrap_or(Err(io::ErrorKind::NotConnected)).map_err(io::Error::from)
    }

    /// The next connection, and the address of its other end.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(Stream, SocketAddr)> {
        let accepted = act(|world| {
            let listening = world.listening.get_mut(&self.socket)?;
            let Some(id) = listening.waiting.pop_front() else {
                listening.waker = Some(context.waker().clone());
                return None;
            };
            let remote = world.end(id)?.remote;
            Some((id, remote))
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
            let listening = world.listening.remove(&self.socket).unwrap_or_default();
            for id in listening.waiting {
                world.dropped(id);
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
            let host = *world.by_address.get(&from)?;
            let local = SocketAddr::new(from, world.port());
            world.dials += 1;
            let dial = world.dials;
            let dialing = Dialing { from: (host, local), to, tries: 0, outcome: None, has_answer: false, waker: None };
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
            if !dialing.has_answer {
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
