//! Model of the network: hosts with one interface each, links between them, and TCP connections.
//!
//! A host sends at the rate of its interface, and receives at it; each direction has a queue that is limited in bytes and
//! drops what has no room. A message passes both at once ("cut-through"): it takes its serialisation time once if the
//! rates are equal. Between them a packet takes the latency of the link and a uniformly distributed jitter, or is lost.
//! A frame counts with all headers, and acknowledgements take room too. Connections start with a window of ten segments
//! that grows as Linux' CUBIC does (`congestion.rs`); lost segments are sent again after the times of RFC 5681 and 8985.
//! Packets of one connection never overtake one another.

use std::{collections::BTreeMap, net::IpAddr};

pub use super::facts::{Discipline, Facts};

use super::world::{self, act};
use crate::shaping::InterfacePlan;

/// Begins the network of a simulation.
pub(super) fn begin(seed: u64, discipline: Discipline) {
    world::begin(seed, discipline);
}

/// Ends it.
pub(super) fn end() {
    world::end();
}

/// Adds a host with this address, without any shape, and returns its number: hosts are numbered from 0.
pub fn add_host(address: IpAddr) -> Option<u32> {
    act(|world| {
        let number = u32::try_from(world.hosts.len()).ok()?;
        world.hosts.push(super::host::Host::new(address));
        world.by_address.insert(address, number);
        Some(number)
    })
    .0
    .flatten()
}

/// Gives the interface of a host this shape. Bytes under way stay.
pub fn shape(host: u32, plan: &InterfacePlan) {
    act(|world| {
        let by_address = std::mem::take(&mut world.by_address);
        if let Some(host) = world.hosts.get_mut(host as usize) {
            host.shape(plan, |address| by_address.get(address).copied());
        }
        world.by_address = by_address;
        world.link_again(host);
    });
}

/// Closes all connections of a host, and its ports, as its kernel does when the process is killed.
pub fn kill(host: u32) {
    act(|world| world.kill(host));
}

/// Bytes that the sockets of the host at `address` hold: sent and not acknowledged, or received and not read; none if this
/// thread has no such host.
pub fn held_bytes(address: IpAddr) -> Option<u64> {
    act(|world| {
        let host = *world.by_address.get(&address)?;
        Some(world.held(host))
    })
    .0
    .flatten()
}

/// Packets that a host has sent to others, by host, and packets to it that were dropped because their sender is blocked.
pub fn packets(host: u32, to: &[u32]) -> (BTreeMap<u32, u64>, u64) {
    let counted = act(|world| {
        let cut_off = world.hosts.get(host as usize).map_or(0, |host| host.cut_off);
        (to.iter().map(|to| (*to, world.packets(host, *to))).collect(), cut_off)
    });
    counted.0.unwrap_or_default()
}

/// Facts about all traffic so far.
pub fn facts() -> Facts {
    act(|world| world.facts).0.unwrap_or_default()
}
