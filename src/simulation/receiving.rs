//! Arrival: the queue of the receiver's interface, delivery, and what the sender is told.

use super::{
    facts::Discipline,
    host::HEADERS,
    packet::{Ack, Data, EndId, Packet},
    world::{World, now},
};

impl World {
    /// A flight is at its receiver's interface.
    pub(super) fn arrives(&mut self, from: u32, to: u32, data: Box<Data>) {
        let now = now();
        let (segments, payload) = (data.segments, data.bytes.len() as u64);
        if self.is_cut(from, to, segments) {
            return self.tell_dropped(from, to, &data);
        }
        let Some(down) = self.host(to).map(|host| &mut host.down) else { return };
        if !down.is_shaped() {
            return self.receives(from, to, *data);
        }
        if down.is_full(now) {
            self.facts.dropped += segments;
            return self.tell_dropped(from, to, &data);
        }
        let wire = down.wire(payload, segments);
        // The first byte came earlier than the last one by the time that they took on the slowest part of the way.
        let head = now.saturating_sub(data.slowest.saturating_mul(wire.0) / 1_000_000);
        let leaves_at = down.pass(head, now, wire);
        if leaves_at > now {
            self.post(leaves_at, from, to, Packet::Received(data));
        } else {
            self.receives(from, to, *data);
        }
    }

    /// Tells the sender of a flight that this host has dropped it.
    fn tell_dropped(&mut self, from: u32, to: u32, data: &Data) {
        let at = self.ordered(data.to, to, from, now());
        let packet = Packet::Dropped { to: data.from, number: data.number, segments: data.segments };
        self.post(at, to, from, packet);
    }

    /// Time at which an answer of an end that leaves now is at the other host, after all earlier ones.
    fn ordered(&mut self, id: EndId, own: u32, other: u32, leaves_at: u64) -> u64 {
        let at = leaves_at + self.latency(own, other);
        let Some(end) = self.end(id) else { return at };
        end.receiver.last_ack_at = end.receiver.last_ack_at.max(at);
        end.receiver.last_ack_at
    }

    /// A flight is at its receiver, which acknowledges it.
    pub(super) fn receives(&mut self, from: u32, to: u32, data: Data) {
        let now = now();
        let Data { to: id, from: peer, number, bytes, segments, fin, sent_at, again, .. } = data;
        let Some(end) = self.end(id).filter(|end| !end.dropped && !end.reset) else {
            return self.post_now(to, from, Packet::Reset { to: peer, queued: false });
        };
        end.peer = Some(peer);
        let waker = if end.receiver.take(number, bytes, fin) { end.receiver.waker.take() } else { None };
        let read = end.receiver.tell();
        self.wakers.extend(waker);
        // An acknowledgement for every second segment.
        let fair = self.discipline == Discipline::Fair;
        let Some(up) = self.host(to).map(|host| &mut host.up) else { return };
        let wire = up.wire(0, segments.div_ceil(2));
        let wire = (wire.0, wire.1.min(HEADERS + 24));
        let left = up.pass(now, now, wire);
        // In turns, it does not wait behind other connections.
        let leaves_at = if fair || !up.is_shaped() { now } else { left };
        let at = self.ordered(id, to, from, leaves_at);
        self.post(at, to, from, Packet::Ack(Ack { to: peer, number, sent_at, again, read }));
    }

    /// A stream has read: its sender may have waited for that.
    pub(super) fn has_read(&mut self, id: EndId) {
        let Some(end) = self.end(id).filter(|end| end.receiver.must_tell()) else { return };
        let (own, other, peer, read) = (end.host, end.peer_host, end.peer, end.receiver.tell());
        if let Some(peer) = peer {
            self.post_now(own, other, Packet::Window { to: peer, read });
        }
    }
}
