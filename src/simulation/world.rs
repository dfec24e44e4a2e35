//! The part of a simulated network that one thread has: its hosts, their ends of connections, and the events that concern
//! them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    task::Waker,
};

use slab::Slab;
use virtual_clock::{Call, now_nanos, schedule};

use super::{
    connection::End,
    dialing::{Dialing, Listening},
    facts::{Discipline, Facts},
    host::{Host, LEAST_LATENCY},
    packet::{EndId, Envelope, Packet},
    random::Random,
};

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Something that happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A packet arrives.
    Arrival(Envelope),
    /// The time to send lost segments of a flight again.
    Resend(EndId, u32),
    /// The time to send a SYN again.
    SynAgain(u64),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) discipline: Discipline,
    random: Random,
    /// Hosts by number; none for those of other threads.
    pub(super) hosts: Vec<Option<Box<Host>>>,
    /// All hosts.
    pub(super) by_address: HashMap<IpAddr, u32>,
    pub(super) ends: Vec<Option<Box<End>>>,
    pub(super) generations: Vec<u32>,
    pub(super) free: Vec<u32>,
    pub(super) listening: BTreeMap<SocketAddr, Listening>,
    pub(super) dialing: BTreeMap<u64, Dialing>,
    numbers: u64,
    next_port: u32,
    handlers: Handlers,
    events: Slab<Event>,
    /// Packets to hosts of other threads, with the time of their arrival.
    departures: Vec<(u64, Envelope)>,
    pub(super) wakers: Vec<Waker>,
    pub(super) facts: Facts,
}

/// Functions that the clock calls, with the number of an event or of a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handlers {
    /// An event happens.
    pub(super) event: Call,
    /// A host has its next turn.
    pub(super) turn: Call,
}

/// Begins the part of the network that this thread has: `number` tells it apart from others.
pub(super) fn begin(seed: u64, number: u64, discipline: Discipline, handlers: Handlers) {
    let world = World {
        discipline,
        random: Random::new(seed, number),
        hosts: vec![],
        by_address: HashMap::new(),
        ends: vec![],
        generations: vec![],
        free: vec![],
        listening: BTreeMap::new(),
        dialing: BTreeMap::new(),
        numbers: 0,
        next_port: 0,
        handlers,
        events: Slab::new(),
        departures: vec![],
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

/// True if this thread has hosts.
pub(super) fn exists() -> bool {
    WORLD.try_with(|world| world.try_borrow().is_ok_and(|world| world.is_some())).unwrap_or(false)
}

pub(super) fn now() -> u64 {
    now_nanos().unwrap_or(0)
}

impl World {
    /// A host of this thread.
    pub(super) fn host(&mut self, number: u32) -> Option<&mut Host> {
        self.hosts.get_mut(number as usize)?.as_deref_mut()
    }

    /// An end that still exists.
    pub(super) fn end(&mut self, id: EndId) -> Option<&mut End> {
        if self.generations.get(id.place as usize) != Some(&id.generation) {
            return None;
        }
        self.ends.get_mut(id.place as usize)?.as_deref_mut()
    }

    pub(super) fn id(&self, place: u32) -> EndId {
        EndId { place, generation: self.generations.get(place as usize).copied().unwrap_or(0) }
    }

    /// Keeps a new end.
    pub(super) fn keep(&mut self, end: End) -> EndId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.ends.push(None);
            self.generations.push(0);
            u32::try_from(self.ends.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(host) = self.host(end.host) {
            host.ends.insert(place);
        }
        if let Some(free) = self.ends.get_mut(place as usize) {
            *free = Some(Box::new(end));
        }
        self.id(place)
    }

    /// Forgets an end of which nothing is needed any more.
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

    /// One-way time from a host of this thread to another, for a packet that waits nowhere.
    pub(super) fn latency(&mut self, from: u32, to: u32) -> u64 {
        let Some(path) = self.host(from).map(|host| host.path(to)) else { return LEAST_LATENCY };
        let off = if path.jitter == 0 { 0.0 } else { self.random.symmetric() * path.jitter as f64 };
        ((path.latency as f64 + off).max(0.0) as u64).max(LEAST_LATENCY)
    }

    /// Number of segments that a link loses of these.
    pub(super) fn losses(&mut self, probability: f64, segments: u64) -> u64 {
        (0..segments).map(|_| u64::from(self.random.happens(probability))).sum()
    }

    /// True if a host of this thread drops the packets of another.
    pub(super) fn is_cut(&mut self, from: u32, to: u32, packets: u64) -> bool {
        let Some(host) = self.host(to) else { return true };
        let cut = host.blocked.contains(&from);
        host.cut_off += if cut { packets } else { 0 };
        cut
    }

    /// Gives the connections of a host the rates of its links.
    pub(super) fn link_again(&mut self, host: u32) {
        let Some(known) = self.hosts.get(host as usize).and_then(Option::as_deref) else { return };
        for place in &known.ends {
            if let Some(end) = self.ends.get_mut(*place as usize).and_then(|end| end.as_deref_mut()) {
                end.link = known.path(end.peer_host).bucket();
            }
        }
    }

    /// A number that this thread's network has not used yet.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Number of the host at an address, if this thread has it.
    pub(super) fn host_at(&mut self, address: IpAddr) -> Option<u32> {
        let number = *self.by_address.get(&address)?;
        self.host(number).is_some().then_some(number)
    }

    /// A port for an outgoing connection.
    pub(super) fn port(&mut self) -> u16 {
        self.next_port = (self.next_port + 1) % 28_000;
        32_768 + self.next_port as u16
    }

    /// Lets something happen at a time.
    pub(super) fn plan(&mut self, at: u64, event: Event) {
        let key = self.events.insert(event);
        schedule(at, self.handlers.event, key as u64);
    }

    /// Lets a host of this thread have its next turn at a time.
    pub(super) fn plan_turn(&self, at: u64, host: u32) {
        schedule(at, self.handlers.turn, host.into());
    }

    /// The event of this number, which happens now.
    pub(super) fn event(&mut self, key: u64) -> Option<Event> {
        self.events.try_remove(usize::try_from(key).ok()?)
    }

    /// Sends a packet of a host of this thread, which arrives at `at`.
    pub(super) fn post(&mut self, at: u64, from: u32, to: u32, packet: Packet) {
        let envelope = Envelope { from, to, packet };
        if self.host(to).is_some() {
            self.plan(at, Event::Arrival(envelope));
        } else {
            self.departures.push((at, envelope));
        }
    }

    /// Sends a packet that waits nowhere.
    pub(super) fn post_now(&mut self, from: u32, to: u32, packet: Packet) {
        let at = now() + self.latency(from, to);
        self.post(at, from, to, packet);
    }

    /// Takes packets of hosts of other threads, with the time of their arrival.
    pub(super) fn take_in(&mut self, arrivals: Vec<(u64, Envelope)>) {
        for (at, envelope) in arrivals {
            debug_assert!(at >= now(), "a packet comes too late by {} ns", now() - at);
            self.plan(at, Event::Arrival(envelope));
        }
    }

    /// Packets to hosts of other threads since the last call.
    pub(super) fn departures(&mut self) -> Vec<(u64, Envelope)> {
        std::mem::take(&mut self.departures)
    }

    /// Bytes that a host's sockets hold: sent and not acknowledged, or received and not read.
    pub(super) fn held(&mut self, host: u32) -> u64 {
        let Some(known) = self.hosts.get(host as usize).and_then(Option::as_deref) else { return 0 };
        let of_end = |place: &u32| {
            let end = self.ends.get(*place as usize)?.as_deref()?;
            Some(end.sender.held() + end.receiver.readable())
        };
        known.ends.iter().filter_map(of_end).sum()
    }

    /// Packets that a host has sent to another.
    pub(super) fn packets(&self, from: u32, to: u32) -> u64 {
        let Some(host) = self.hosts.get(from as usize).and_then(Option::as_deref) else { return 0 };
        let of_end = |place: &u32| {
            let end = self.ends.get(*place as usize)?.as_deref()?;
            (end.peer_host == to).then_some(end.packets)
        };
        host.packets_to.get(&to).copied().unwrap_or(0) + host.ends.iter().filter_map(of_end).sum::<u64>()
    }
}
