//! End of connections: closed streams, killed hosts, broken connections.

use super::{
    packet::{EndId, Packet},
    world::World,
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

    /// A stream was dropped: the bytes that it has written are still sent, unless it leaves others unread.
    pub(super) fn dropped(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        (end.dropped, end.sender.closed) = (true, true);
        (end.receiver.waker, end.sender.waker) = (None, None);
        let (own, other, peer) = (end.host, end.peer_host, end.peer);
        if end.receiver.readable() > 0 {
            end.reset = true;
            if let Some(peer) = peer {
                self.post_now(own, other, Packet::Reset { to: peer });
            }
        }
        if self.end(id).is_some_and(|end| end.is_over()) {
            return self.forget(id);
        }
        self.send(id);
    }

    pub(super) fn forget(&mut self, id: EndId) {
        if self.end(id).is_none() {
            return;
        }
        let Some(end) = self.ends.get_mut(id.place as usize).and_then(Option::take) else { return };
        self.generations[id.place as usize] = id.generation.wrapping_add(1);
        self.free.push(id.place);
        if let Some(host) = self.host(end.host) {
            host.ends.remove(&id.place);
            *host.packets_to.entry(end.peer_host).or_default() += end.packets;
        }
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
            let Some((peer, to)) = self.end(id).map(|end| (end.peer, end.peer_host)) else { continue };
            self.reset(id);
            if let Some(peer) = peer {
                self.post_now(host, to, Packet::Reset { to: peer });
            }
        }
        waiting.into_iter().for_each(|id| self.dropped(id));
    }
}
