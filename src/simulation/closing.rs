//! End of connections: closed streams, killed hosts, broken connections.

use super::{
    packet::{EndId, Packet},
    world::{World, now},
};

impl World {
    /// The connection is broken for this end.
    pub(super) fn reset(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        end.reset = true;
        let wakers = [end.receiver.waker.take(), end.sender.waker.take()];
        let needed = end.has_stream && !end.dropped;
        self.wakers.extend(wakers.into_iter().flatten());
        if !needed {
            self.forget(id);
        }
    }

    /// Tells the other end, after all that it was sent, that the connection is broken.
    fn tell_reset(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        let (own, other, peer, last) = (end.host, end.peer_host, end.peer, end.sender.last_arrives_at);
        if let Some(peer) = peer {
            let at = (now() + self.latency(own, other)).max(last);
            self.post(at, own, other, Packet::Reset { to: peer, queued: false });
        }
    }

    /// A reset is at the interface of its receiver, where it waits behind other packets, or has waited.
    pub(super) fn reset_arrives(&mut self, (from, to): (u32, u32), id: EndId, queued: bool) {
        let open_at = self.host(to).filter(|host| host.down.is_shaped()).map_or(0, |host| host.down.is_open_at());
        if !queued && open_at > now() {
            return self.post(open_at, from, to, Packet::Reset { to: id, queued: true });
        }
        self.reset(id);
    }

    /// A stream was dropped: the bytes that it has written are still sent, unless it leaves others unread.
    pub(super) fn dropped(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        (end.dropped, end.sender.closed) = (true, true);
        (end.receiver.waker, end.sender.waker) = (None, None);
        if end.receiver.readable() > 0 {
            end.reset = true;
            self.tell_reset(id);
        }
        if self.end(id).is_some_and(|end| end.is_over()) {
            return self.forget(id);
        }
        self.send(id);
    }

    /// The kernel of a host closes all connections of a process that was killed.
    pub(super) fn kill(&mut self, host: u32) {
        let Some(known) = self.host(host) else { return };
        let (address, ends) = (known.address, known.ends.clone());
        let ports: Vec<_> = self.listening.keys().filter(|socket| socket.ip() == address).copied().collect();
        let waiting: Vec<EndId> =
            ports.iter().filter_map(|port| self.listening.remove(port)).flat_map(|port| port.waiting).collect();
        for place in ends {
            let id = self.id(place);
            self.tell_reset(id);
            self.reset(id);
        }
        waiting.into_iter().for_each(|id| self.dropped(id));
    }
}
