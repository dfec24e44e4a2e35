//! Events of a simulated network: the code that each of them calls.

use super::{
    facts::Discipline,
    packet::{Envelope, Packet},
    world::{self, Event, Handlers, World, act},
};

/// Begins the part of the network that this thread has: `number` tells it apart from others.
pub(super) fn begin(seed: u64, number: u64, discipline: Discipline) {
    world::begin(seed, number, discipline, Handlers { event: on_event, turn: on_turn });
}

fn on_event(key: u64) -> bool {
    act(|world| {
        if let Some(event) = world.event(key) {
            world.happens(event);
        }
    })
    .1
}

fn on_turn(host: u64) -> bool {
    act(|world| world.serve(host as u32, true)).1
}

impl World {
    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrival(Envelope { from, to, packet }) => match packet {
                Packet::Syn { dial, from: remote, to: local } => self.syn((from, remote), (to, local), dial),
                Packet::SynAck { dial, peer } => self.answered((from, peer), to, dial),
                Packet::Refused { dial } => self.refused(dial, std::io::ErrorKind::ConnectionRefused),
                Packet::SynDropped { dial } => self.syn_dropped(dial),
                Packet::Established { to: end, from: peer } => self.established((from, peer), to, end),
                Packet::Data(data) => self.arrives(from, to, data),
                Packet::Received(data) => self.receives(from, to, *data),
                Packet::Ack(ack) => self.acknowledged(&ack),
                Packet::Window { to: end, read } => self.opened(end, read),
                Packet::Reset { to: end, queued } => self.reset_arrives((from, to), end, queued),
                Packet::Dropped { to: end, number, segments } => self.loses(end, number, segments),
            },
            Event::Resend(id, number) => self.resend(id, number),
            Event::SynAgain(dial) => self.send_syn(dial),
        }
    }
}
