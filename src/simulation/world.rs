//! The network of a simulation: hosts, connections, and the events that move bytes between them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    task::Waker,
};

use virtual_clock::{now_nanos, schedule};

use super::{
    congestion::{Acknowledged, SEGMENT},
    connection::{Ack, End, Place},
    dialing::{Dialing, Listening},
    end_id::{EndId, NUMBERS, pack, unpack},
    facts::{Discipline, Facts},
    host::{HEADERS, Host},
    random::Random,
};

/// Segments after a lost one whose acknowledgement shows the loss (RFC 5681).
const SHOW_LOSS: u64 = 3;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) discipline: Discipline,
    random: Random,
    pub(super) hosts: Vec<Host>,
    pub(super) by_address: HashMap<IpAddr, u32>,
    ends: Vec<Option<Box<End>>>,
    generations: Vec<u16>,
    free: Vec<u32>,
    pub(super) listening: BTreeMap<SocketAddr, Listening>,
    pub(super) dialing: BTreeMap<u64, Dialing>,
    pub(super) dials: u64,
    next_port: u32,
    pub(super) wakers: Vec<Waker>,
    pub(super) facts: Facts,
}

/// Begins the network of this thread.
pub(super) fn begin(seed: u64, discipline: Discipline) {
    let world = World {
        discipline,
        random: Random::new(seed),
        hosts: vec![],
        by_address: HashMap::new(),
        ends: vec![],
        generations: vec![],
        free: vec![],
        listening: BTreeMap::new(),
        dialing: BTreeMap::new(),
        dials: 0,
        next_port: 0,
        wakers: vec![],
        facts: Facts::default(),
    };
    WORLD.set(Some(world));
}

/// Ends the network of this thread.
pub(super) fn end() {
    drop(WORLD.try_with(RefCell::take));
}

/// Does something in the network of this thread, and wakes the tasks concerned; none on a thread without one. Also true
/// if a task was woken.
pub(super) fn act<T>(act: impl FnOnce(&mut World) -> T) -> (Option<T>, bool) {
    let acted = WORLD.try_with(|world| {
        let mut world = world.try_borrow_mut().ok()?;
        let world = world.as_mut()?;
        Some((act(world), std::mem::take(&mut world.wakers)))
    });
    let Some((result, wakers)) = acted.ok().flatten() else { return (None, false) };
    // Nothing is borrowed here: a waker may drop a task, and a task its streams.
    let woke = !wakers.is_empty();
    wakers.into_iter().for_each(Waker::wake);
    (Some(result), woke)
}

pub(super) fn now() -> u64 {
    now_nanos().unwrap_or(0)
}

fn on_arrival(argument: u64) -> bool {
    let (id, number) = unpack(argument);
    act(|world| world.arrives(id, number)).1
}

fn on_delivery(argument: u64) -> bool {
    let (id, number) = unpack(argument);
    act(|world| world.delivers(id, number)).1
}

fn on_ack(argument: u64) -> bool {
    let (id, _) = unpack(argument);
    act(|world| world.acknowledged(id)).1
}

fn on_timer(argument: u64) -> bool {
    let (id, number) = unpack(argument);
    act(|world| world.timer(id, number)).1
}

fn on_window(argument: u64) -> bool {
    let (id, _) = unpack(argument);
    act(|world| world.send(id.place, id.generation)).1
}

fn on_reset(argument: u64) -> bool {
    let (id, _) = unpack(argument);
    act(|world| world.reset(id)).1
}

fn on_turn(host: u64) -> bool {
    act(|world| world.serve(host as u32, true)).1
}

impl World {
    pub(super) fn end(&mut self, id: EndId) -> Option<&mut End> {
        if self.generations.get(id.place as usize) != Some(&id.generation) {
            return None;
        }
        self.ends.get_mut(id.place as usize)?.as_deref_mut()
    }

    fn id(&self, place: u32) -> EndId {
        EndId { place, generation: self.generations.get(place as usize).copied().unwrap_or(0) }
    }

    /// The end whose bytes `id` reads.
    pub(super) fn peer(&mut self, id: EndId) -> Option<&mut End> {
        let peer = self.end(id)?.peer;
        self.ends.get_mut(peer as usize)?.as_deref_mut()
    }

    fn place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.ends.push(None);
            self.generations.push(0);
            u32::try_from(self.ends.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// One-way time from a host to another, for a packet that waits nowhere.
    pub(super) fn latency(&mut self, from: u32, to: u32) -> u64 {
        let Some(host) = self.hosts.get(from as usize) else { return 0 };
        let path = host.path(to);
        let off = if path.jitter == 0 { 0.0 } else { self.random.symmetric() * path.jitter as f64 };
        (path.latency as f64 + off).max(0.0) as u64
    }

    /// True if packets from a host to another are dropped.
    pub(super) fn is_cut(&mut self, from: u32, to: u32) -> bool {
        let Some(host) = self.hosts.get_mut(to as usize) else { return true };
        let cut = host.blocked.contains(&from);
        host.cut_off += u64::from(cut);
        cut
    }

    /// Gives the connections of a host the rates of its links.
    pub(super) fn link_again(&mut self, host: u32) {
        let Some(known) = self.hosts.get(host as usize) else { return };
        for place in &known.ends {
            if let Some(end) = self.ends.get_mut(*place as usize).and_then(|end| end.as_deref_mut()) {
                end.link = known.path(end.peer_host).bucket();
            }
        }
    }

    /// A port for an outgoing connection.
    pub(super) fn port(&mut self) -> u16 {
        self.next_port = (self.next_port + 1) % 28_000;
        32_768 + self.next_port as u16
    }

    /// Makes both ends of a connection, that of the host that dialled first.
    pub(super) fn connect(
        &mut self,
        from: (u32, SocketAddr),
        to: (u32, SocketAddr),
        round_trip: u64,
    ) -> (EndId, EndId) {
        let (one, other) = (self.place(), self.place());
        for (place, peer, own, remote) in [(one, other, from, to), (other, one, to, from)] {
            let link = self.hosts.get(own.0 as usize).and_then(|host| host.path(remote.0).bucket());
            let place_of = Place { host: own.0, peer, peer_host: remote.0, local: own.1, remote: remote.1 };
            if let Some(end) = self.ends.get_mut(place as usize) {
                *end = Some(Box::new(End::new(place_of, round_trip, link)));
            }
            if let Some(host) = self.hosts.get_mut(own.0 as usize) {
                host.ends.insert(place);
            }
        }
        self.facts.connections += 1;
        (self.id(one), self.id(other))
    }

    /// Sends all that may be sent now.
    pub(super) fn send(&mut self, place: u32, generation: u16) {
        let id = EndId { place, generation };
        let Some(end) = self.end(id).filter(|end| !end.reset) else { return };
        let number = end.host;
        let Some(host) = self.hosts.get(number as usize) else { return };
        let (turn, shaped) = (host.up.turn(), host.up.is_shaped());
        if shaped && self.discipline == Discipline::Fair {
            let Some(end) = self.end(id) else { return };
            if !end.is_waiting && end.sendable() > 0 {
                end.is_waiting = true;
                self.hosts[number as usize].waiting.push_back(place);
            }
            return self.serve(number, false);
        }
        while let Some(end) = self.end(id) {
            let segments = end.sendable();
            if segments == 0 {
                return;
            }
            let flight = end.take_flight(now(), segments.min(turn));
            self.transmit(id, flight);
        }
    }

    /// Gives the connections of a host their turns, as long as its interface takes frames.
    fn serve(&mut self, number: u32, was_scheduled: bool) {
        let now = now();
        let Some(host) = self.hosts.get_mut(number as usize) else { return };
        if was_scheduled {
            host.is_served = false;
        } else if host.is_served {
            return;
        }
        loop {
            let Some(host) = self.hosts.get_mut(number as usize) else { return };
            let Some(place) = host.waiting.front().copied() else { return };
            let open_at = host.up.is_open_at();
            if open_at > now {
                host.is_served = true;
                return schedule(open_at, on_turn, number.into());
            }
            host.waiting.pop_front();
            let turn = host.up.turn();
            let id = self.id(place);
            let Some(end) = self.end(id).filter(|end| end.host == number && end.is_waiting) else { continue };
            end.is_waiting = false;
            let segments = if end.reset { 0 } else { end.sendable() };
            if segments == 0 {
                continue;
            }
            let flight = end.take_flight(now, segments.min(turn));
            if end.sendable() > 0 {
                end.is_waiting = true;
                self.hosts[number as usize].waiting.push_back(place);
            }
            self.transmit(id, flight);
        }
    }

    /// Puts a flight on the wire, the first time or again.
    fn transmit(&mut self, id: EndId, number: u32) {
        let now = now();
        let Some(end) = self.end(id) else { return };
        let (from, to) = (end.host, end.peer_host);
        let Some(flight) = end.flight(number) else { return };
        // Only lost segments are sent again.
        let again = flight.attempts > 0;
        let segments = if again { flight.lost.max(1) } else { flight.segments };
        let payload = if again { flight.bytes.min(segments * SEGMENT) } else { flight.bytes };
        (flight.sent_at, flight.lost, flight.acked_after) = (now, 0, 0);
        flight.attempts += 1;
        end.packets += segments;
        end.last_sent_at = now;
        self.facts.packets += segments;
        self.facts.resent += if again { segments } else { 0 };
        let path = self.hosts[from as usize].path(to);
        let up = &mut self.hosts[from as usize].up;
        let mut lost = if up.is_full(now) { segments } else { 0 };
        let mut tail = now;
        if lost == 0 {
            let wire = up.wire(payload, segments);
            tail = up.pass(now, now, wire);
            if let Some(link) = self.end(id).and_then(|end| end.link.as_mut()) {
                if link.is_full(tail) {
                    lost = segments;
                } else {
                    let wire = link.wire(payload, segments);
                    tail = link.pass(tail, tail, wire);
                }
            }
        }
        self.facts.dropped += lost;
        if lost == 0 && self.hosts[to as usize].blocked.contains(&from) {
            self.hosts[to as usize].cut_off += segments;
            lost = segments;
        }
        if lost == 0 && path.loss > 0.0 {
            lost = (0..segments).map(|_| u64::from(self.random.happens(path.loss))).sum();
            self.facts.lost += lost;
        }
        if lost > 0 {
            return self.loses(id, number, lost);
        }
        let arrives_at = tail + self.latency(from, to);
        schedule(arrives_at, on_arrival, pack(id, number));
    }

    /// A flight has lost segments, which its sender finds out later.
    fn loses(&mut self, id: EndId, number: u32, lost: u64) {
        let now = now();
        let Some(end) = self.end(id) else { return };
        let alone = end.sent_segments - end.acked_segments <= 1;
        let probe = end.congestion.probe_after(alone);
        let Some(attempts) = end.flight(number).map(|flight| flight.attempts) else { return };
        let wait = if attempts <= 1 { probe } else { end.congestion.timeout(attempts - 2) };
        if let Some(flight) = end.flight(number) {
            (flight.lost, flight.again_at) = (lost, now + wait);
        }
        schedule(now + wait, on_timer, pack(id, number));
    }

    /// A flight is at its receiver's interface.
    fn arrives(&mut self, id: EndId, number: u32) {
        let now = now();
        let Some(end) = self.end(id) else { return };
        let (from, to, packets) = (end.host, end.peer_host, end.link.as_ref().map(|link| link.nanos(1_000_000)));
        let Some(flight) = end.flight(number) else { return };
        let (payload, segments) = (flight.bytes, flight.segments);
        let slowest = self.hosts[from as usize].up.nanos(1_000_000).max(packets.unwrap_or(0));
        let down = &mut self.hosts[to as usize].down;
        if !down.is_shaped() {
            return self.delivers(id, number);
        }
        if down.is_full(now) {
            self.facts.dropped += segments;
            return self.loses(id, number, segments);
        }
        let wire = down.wire(payload, segments);
        // The first byte came earlier than the last one by the time that they took on the slowest part of the way.
        let head = now.saturating_sub(slowest.saturating_mul(wire.0) / 1_000_000);
        let leaves_at = down.pass(head, now, wire);
        if leaves_at > now {
            schedule(leaves_at, on_delivery, pack(id, number));
        } else {
            self.delivers(id, number);
        }
    }

    /// A flight is at its receiver, which acknowledges it.
    fn delivers(&mut self, id: EndId, number: u32) {
        let now = now();
        let Some(end) = self.end(id) else { return };
        let (from, to, peer) = (end.host, end.peer_host, end.peer);
        let Some(flight) = end.flight(number).filter(|flight| !flight.has_arrived) else { return };
        flight.has_arrived = true;
        let ack = Ack {
            number,
            bytes: flight.bytes,
            segments: flight.segments,
            sent_at: flight.sent_at,
            again: flight.attempts > 1,
        };
        let delivered = end.deliver();
        let reader = self.ends.get_mut(peer as usize).and_then(|end| end.as_deref_mut());
        if let Some(reader) = reader {
            if reader.dropped || reader.reset {
                let at = now + self.latency(to, from);
                return schedule(at, on_reset, pack(id, 0));
            }
            if delivered && let Some(waker) = reader.reader.take() {
                self.wakers.push(waker);
            }
        }
        // An acknowledgement for every second segment.
        let count = ack.segments.div_ceil(2);
        let up = &mut self.hosts[to as usize].up;
        let wire = up.wire(0, count);
        let wire = (wire.0, wire.1.min(HEADERS + 24));
        let mut left = up.pass(now, now, wire);
        if self.discipline == Discipline::Fair || !self.hosts[to as usize].up.is_shaped() {
            // It does not wait behind other connections.
            left = now;
        }
        let at = left + self.latency(to, from);
        let Some(end) = self.end(id) else { return };
        end.last_ack_at = end.last_ack_at.max(at);
        end.acks.push_back(ack);
        schedule(end.last_ack_at, on_ack, pack(id, 0));
    }

    /// The sender gets an acknowledgement.
    fn acknowledged(&mut self, id: EndId) {
        let now = now();
        let Some(end) = self.end(id) else { return };
        let Some(ack) = end.acks.pop_front() else { return };
        end.unacked -= ack.bytes;
        end.acked_segments += ack.segments;
        let state = Acknowledged {
            segments: ack.segments,
            round_trip: now - ack.sent_at,
            acked: end.acked_segments,
            sent: end.sent_segments,
            limited: end.limited,
        };
        if !ack.again {
            end.congestion.acknowledged(now, &state);
        }
        let wanted = end.unsent.div_ceil(SEGMENT);
        end.limited = wanted > 0;
        let mut again = vec![];
        if end.flights.iter().any(|flight| flight.lost > 0) {
            let own = ack.number.wrapping_sub(end.first_flight) & NUMBERS;
            for (at, flight) in (0..).zip(end.flights.iter_mut()) {
                let earlier = own > NUMBERS / 2 || at < own;
                if flight.lost > 0 && earlier && ack.sent_at >= flight.sent_at {
                    flight.acked_after += ack.segments;
                    if flight.acked_after >= SHOW_LOSS {
                        flight.again_at = u64::MAX;
                        again.push((end.first_flight.wrapping_add(at) & NUMBERS, flight.first));
                    }
                }
            }
        }
        // A flight later than all others is beyond the last one that can't be read: it counts for none.
        for (number, first) in again {
            if let Some(end) = self.end(id) {
                let sent = end.sent_segments;
                end.congestion.lost(first, sent);
            }
            self.transmit(id, number);
        }
        if let Some(end) = self.end(id).filter(|end| end.has_much_room())
            && let Some(waker) = end.writer.take()
        {
            self.wakers.push(waker);
        }
        self.send(id.place, id.generation);
    }

    /// The time to send a lost flight again, unless that has happened.
    fn timer(&mut self, id: EndId, number: u32) {
        let now = now();
        let Some(end) = self.end(id).filter(|end| !end.reset) else { return };
        let (sent, last, alone) = (end.sent_segments, end.last_sent_at, end.sent_segments - end.acked_segments <= 1);
        let probe_at = last + end.congestion.probe_after(alone);
        let Some(flight) = end.flight(number).filter(|flight| flight.lost > 0 && now >= flight.again_at) else {
            return;
        };
        let (first, attempts) = (flight.first, flight.attempts);
        if attempts <= 1 && probe_at > now {
            // A later transmission has started the timer again.
            flight.again_at = probe_at;
            return schedule(probe_at, on_timer, pack(id, number));
        }
        flight.again_at = u64::MAX;
        if attempts <= 1 {
            end.congestion.lost(first, sent);
        } else {
            end.congestion.timed_out(sent);
        }
        self.transmit(id, number);
    }

    /// A stream has read: its sender may have waited for that.
    pub(super) fn has_read(&mut self, id: EndId) {
        let Some((peer, from, to)) = self.end(id).map(|end| (end.peer, end.host, end.peer_host)) else { return };
        let sender = self.id(peer);
        if self.end(sender).is_some_and(|sender| std::mem::take(&mut sender.awaits_window)) {
            let at = now() + self.latency(from, to);
            schedule(at, on_window, pack(sender, 0));
        }
    }

    /// The connection is broken for this end.
    fn reset(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        end.reset = true;
        let wakers = [end.reader.take(), end.writer.take()];
        self.wakers.extend(wakers.into_iter().flatten());
    }

    /// A stream was dropped: what it has written is still sent.
    pub(super) fn dropped(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        (end.dropped, end.closed) = (true, true);
        (end.reader, end.writer) = (None, None);
        let (peer, from, to) = (end.peer, end.host, end.peer_host);
        let peer_id = self.id(peer);
        let Some(other) = self.end(peer_id) else { return };
        if other.dropped {
            self.forget(id);
            return self.forget(peer_id);
        }
        if other.readable > 0 {
            let at = now() + self.latency(from, to);
            schedule(at, on_reset, pack(peer_id, 0));
        }
        self.send(id.place, id.generation);
    }

    fn forget(&mut self, id: EndId) {
        let Some(end) = self.ends.get_mut(id.place as usize).and_then(Option::take) else { return };
        self.generations[id.place as usize] = id.generation.wrapping_add(1);
        self.free.push(id.place);
        if let Some(host) = self.hosts.get_mut(end.host as usize) {
            host.ends.remove(&id.place);
            *host.packets_to.entry(end.peer_host).or_default() += end.packets;
        }
    }

    /// The kernel of a host closes all connections of a process that was killed.
    pub(super) fn kill(&mut self, host: u32) {
        let Some(known) = self.hosts.get(host as usize) else { return };
        let (address, ends) = (known.address, known.ends.clone());
        self.listening.retain(|socket, _| socket.ip() != address);
        for place in ends {
            let id = self.id(place);
            self.reset(id);
            let Some((peer, to)) = self.end(id).map(|end| (end.peer, end.peer_host)) else { continue };
            let at = now() + self.latency(host, to);
            let peer = self.id(peer);
            schedule(at, on_reset, pack(peer, 0));
        }
    }

    /// Bytes that a host's sockets hold: sent and not acknowledged, or received and not read.
    pub(super) fn held(&mut self, host: u32) -> u64 {
        let Some(known) = self.hosts.get(host as usize) else { return 0 };
        let of_end = |place: &u32| {
            let end = self.ends.get(*place as usize)?.as_deref()?;
            let peer = self.ends.get(end.peer as usize)?.as_deref()?;
            Some(end.unsent + end.unacked + peer.readable)
        };
        known.ends.iter().filter_map(of_end).sum()
    }

    /// Packets that a host has sent to another.
    pub(super) fn packets(&self, from: u32, to: u32) -> u64 {
        let Some(host) = self.hosts.get(from as usize) else { return 0 };
        let of_end = |place: &u32| {
            let end = self.ends.get(*place as usize)?.as_deref()?;
            (end.peer_host == to).then_some(end.packets)
        };
        host.packets_to.get(&to).copied().unwrap_or(0) + host.ends.iter().filter_map(of_end).sum::<u64>()
    }
}
