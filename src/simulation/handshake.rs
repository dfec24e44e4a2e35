//! Handshake of connections.

use std::{io, net::SocketAddr};

use super::{
    congestion::Congestion,
    connection::End,
    packet::{EndId, Packet},
    world::{Event, World, now},
};

/// Connections that wait to be accepted: Linux' `somaxconn`.
const MOST_WAITING: usize = 4096;

/// Time after which a SYN that nobody answers is sent again, which then doubles (RFC 6298), and the number of repetitions.
const SYN_AGAIN: u64 = 1_000_000_000;
const SYN_TRIES: u32 = 6;

impl World {
    pub(super) fn send_syn(&mut self, dial: u64) {
        let now = now();
        let Some(dialing) = self.dialing.get_mut(&dial) else { return };
        dialing.sent_at = now;
        let (from, to) = (dialing.from, dialing.to);
        match self.by_address.get(&to.ip()).copied() {
            Some(host) => self.post_now(from.0, host, Packet::Syn { dial, from: from.1, to }),
            None => self.syn_dropped(dial),
        }
    }

    /// A SYN was lost: it is sent again after a time.
    pub(super) fn syn_dropped(&mut self, dial: u64) {
        let Some(dialing) = self.dialing.get_mut(&dial) else { return };
        if dialing.tries >= SYN_TRIES {
            return self.refused(dial, io::ErrorKind::TimedOut);
        }
        let again_at = dialing.sent_at + (SYN_AGAIN << dialing.tries);
        dialing.tries += 1;
        self.plan(again_at, Event::SynAgain(dial));
    }

    /// A SYN arrives.
    pub(super) fn syn(&mut self, from: (u32, SocketAddr), to: (u32, SocketAddr), dial: u64) {
        if self.is_cut(from.0, to.0, 1) {
            return self.post_now(to.0, from.0, Packet::SynDropped { dial });
        }
        if self.listening.get(&to.1).is_none_or(|listening| listening.waiting.len() >= MOST_WAITING) {
            return self.post_now(to.0, from.0, Packet::Refused { dial });
        }
        let peer = self.make_end(to, from);
        self.post_now(to.0, from.0, Packet::SynAck { dial, peer });
    }

    fn make_end(&mut self, local: (u32, SocketAddr), remote: (u32, SocketAddr)) -> EndId {
        let link = self.host(local.0).and_then(|host| host.path(remote.0).bucket());
        self.keep(End::new(local, remote, now(), link))
    }

    /// The answer to a SYN arrives, from an end of a host.
    pub(super) fn answered(&mut self, (host, peer): (u32, EndId), own: u32, dial: u64) {
        let Some(dialing) = self.dialing.get(&dial) else {
            return self.post_now(own, host, Packet::Reset { to: peer, queued: false });
        };
        let (local, remote, sent_at) = (dialing.from, (host, dialing.to), dialing.sent_at);
        let id = self.make_end(local, remote);
        if let Some(end) = self.end(id) {
            end.peer = Some(peer);
            end.has_stream = true;
            end.sender.congestion = Congestion::new(now() - sent_at);
        }
        self.facts.connections += 1;
        self.post_now(own, host, Packet::Established { to: peer, from: id });
        self.settle(dial, Ok(id));
    }

    /// A connection attempt has failed.
    pub(super) fn refused(&mut self, dial: u64, kind: io::ErrorKind) {
        self.settle(dial, Err(kind));
    }

    fn settle(&mut self, dial: u64, outcome: Result<EndId, io::ErrorKind>) {
        if let Some(dialing) = self.dialing.get_mut(&dial) {
            dialing.outcome = Some(outcome);
            self.wakers.extend(dialing.waker.take());
        }
    }

    /// The third packet of the handshake arrives: the listener has the connection.
    pub(super) fn established(&mut self, (host, peer): (u32, EndId), own: u32, id: EndId) {
        let now = now();
        let Some(end) = self.end(id).filter(|end| !end.reset) else {
            return self.post_now(own, host, Packet::Reset { to: peer, queued: false });
        };
        end.peer = Some(peer);
        end.has_stream = true;
        end.sender.congestion = Congestion::new(now - end.made_at);
        let local = end.local;
        match self.listening.get_mut(&local) {
            Some(listening) => {
                listening.waiting.push_back(id);
                self.wakers.extend(listening.waker.take());
            }
            None => {
                self.post_now(own, host, Packet::Reset { to: peer, queued: false });
                self.forget(id);
            }
        }
    }
}
