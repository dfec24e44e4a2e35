//! Transmission: turns of the connections of a host, flights on the wire, acknowledgements and repetitions.

use super::{
    facts::Discipline,
    packet::{Ack, Data, EndId, Packet},
    world::{Event, World, now},
};

impl World {
    /// Sends all that may be sent now.
    pub(super) fn send(&mut self, id: EndId) {
        let Some(end) = self.end(id).filter(|end| !end.reset && end.peer.is_some()) else { return };
        let number = end.host;
        let Some(host) = self.host(number) else { return };
        let (turn, shaped) = (host.up.turn(), host.up.is_shaped());
        if shaped && self.discipline == Discipline::Fair {
            let Some(end) = self.end(id) else { return };
            if !end.is_waiting && end.sender.sendable() > 0 {
                end.is_waiting = true;
                if let Some(host) = self.host(number) {
                    host.waiting.push_back(id);
                }
            }
            return self.serve(number, false);
        }
        while let Some(end) = self.end(id) {
            let segments = end.sender.sendable();
            if segments == 0 {
                return;
            }
            let flight = end.sender.take_flight(now(), segments.min(turn));
            self.transmit(id, flight);
        }
    }

    /// Gives the connections of a host their turns, as long as its interface takes frames.
    pub(super) fn serve(&mut self, number: u32, was_scheduled: bool) {
        let now = now();
        let Some(host) = self.host(number) else { return };
        if was_scheduled {
            host.is_served = false;
        } else if host.is_served {
            return;
        }
        loop {
            let Some(host) = self.host(number) else { return };
            let Some(id) = host.waiting.front().copied() else { return };
            let open_at = host.up.is_open_at();
            if open_at > now {
                host.is_served = true;
                return self.plan_turn(open_at, number);
            }
            host.waiting.pop_front();
            let turn = host.up.turn();
            let Some(end) = self.end(id).filter(|end| end.is_waiting) else { continue };
            end.is_waiting = false;
            let segments = if end.reset { 0 } else { end.sender.sendable() };
            if segments == 0 {
                continue;
            }
            let flight = end.sender.take_flight(now, segments.min(turn));
            if end.sender.sendable() > 0 {
                end.is_waiting = true;
                if let Some(host) = self.host(number) {
                    host.waiting.push_back(id);
                }
            }
            self.transmit(id, flight);
        }
    }

    /// Puts a flight on the wire, the first time or again.
    fn transmit(&mut self, id: EndId, number: u32) {
        let now = now();
        let Some(end) = self.end(id) else { return };
        let (from, to, peer) = (end.host, end.peer_host, end.peer);
        let (Some((segments, payload)), Some(peer)) = (end.sender.transmit(now, number), peer) else { return };
        let Some(flight) = end.sender.flight(number) else { return };
        let again = flight.attempts > 1;
        let (bytes, whole, fin) = (flight.bytes.clone(), flight.segments, flight.fin);
        end.packets += segments;
        self.facts.packets += segments;
        self.facts.resent += if again { segments } else { 0 };
        let Some(host) = self.host(from) else { return };
        let path = host.path(to);
        if host.up.is_full(now) {
            self.facts.dropped += segments;
            return self.loses(id, number, segments);
        }
        let wire = host.up.wire(payload, segments);
        let (mut tail, mut slowest) = (host.up.pass(now, now, wire), host.up.nanos(1_000_000));
        if let Some(link) = self.end(id).and_then(|end| end.link.as_mut()) {
            if link.is_full(tail) {
                self.facts.dropped += segments;
                return self.loses(id, number, segments);
            }
            let wire = link.wire(payload, segments);
            (tail, slowest) = (link.pass(tail, tail, wire), slowest.max(link.nanos(1_000_000)));
        }
        if path.loss > 0.0 {
            let lost = self.losses(path.loss, segments);
            self.facts.lost += lost;
            if lost > 0 {
                return self.loses(id, number, lost);
            }
        }
        let data = Data { to: peer, from: id, number, bytes, segments: whole, fin, sent_at: now, again, slowest };
        let at = tail + self.latency(from, to);
        if let Some(end) = self.end(id) {
            end.sender.last_arrives_at = end.sender.last_arrives_at.max(at);
        }
        self.post(at, from, to, Packet::Data(Box::new(data)));
    }

    /// A flight has lost segments. Nothing but later acknowledgements and timers tells its sender.
    pub(super) fn loses(&mut self, id: EndId, number: u32, lost: u64) {
        let again_at = self.end(id).and_then(|end| end.sender.lose(number, lost));
        if let Some(again_at) = again_at {
            self.plan(again_at, Event::Resend(id, number));
        }
    }

    /// The sender gets an acknowledgement.
    pub(super) fn acknowledged(&mut self, ack: &Ack) {
        let id = ack.to;
        let Some(end) = self.end(id) else { return };
        let shown = end.sender.acknowledge(now(), ack);
        for number in shown {
            if let Some(end) = self.end(id) {
                let (sent, flight) = (end.sender.sent_segments, end.sender.flight(number).map(|flight| flight.first));
                if let Some(first) = flight {
                    end.sender.congestion.lost(first, sent);
                }
            }
            self.transmit(id, number);
        }
        self.has_room(id);
    }

    /// The receiver has read bytes for which the sender may have waited.
    pub(super) fn opened(&mut self, id: EndId, read: u64) {
        if let Some(end) = self.end(id) {
            end.sender.learn(read);
            self.has_room(id);
        }
    }

    fn has_room(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        if end.is_over() {
            return self.forget(id);
        }
        if end.sender.has_much_room()
            && let Some(waker) = end.sender.waker.take()
        {
            self.wakers.push(waker);
        }
        self.send(id);
    }

    /// The time to send a lost flight again, unless that has happened.
    pub(super) fn resend(&mut self, id: EndId, number: u32) {
        let now = now();
        let Some(end) = self.end(id).filter(|end| !end.reset) else { return };
        let (sent, probe_at) = (end.sender.sent_segments, end.sender.probe_at());
        let Some(flight) = end.sender.flight(number).filter(|flight| flight.lost > 0 && now >= flight.again_at) else {
            return;
        };
        let (first, attempts) = (flight.first, flight.attempts);
        if attempts <= 1 && probe_at > now {
            // A later transmission has started the timer again.
            flight.again_at = probe_at;
            return self.plan(probe_at, Event::Resend(id, number));
        }
        if attempts <= 1 {
            end.sender.congestion.lost(first, sent);
        } else {
            end.sender.congestion.timed_out(sent);
        }
        self.transmit(id, number);
    }
}
