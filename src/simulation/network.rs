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

use super::{
    conductor::{note_latency, on_all, on_host},
    host::{Host, LEAST_LATENCY},
    world::act,
};
use crate::shaping::InterfacePlan;

/// Adds the host of this number, with this address, without any shape; false if this thread has no simulation.
pub fn add_host(number: u32, address: IpAddr) -> bool {
    let known = on_all(move || {
        act(|world| {
            world.by_address.insert(address, number);
        });
    });
    let added = on_host(number, move || {
        act(|world| {
            let place = number as usize;
            if world.hosts.len() <= place {
                world.hosts.resize_with(place + 1, || None);
            }
            world.hosts[place] = Some(Box::new(Host::new(address)));
        });
    });
    note_latency(number, LEAST_LATENCY);
    known.is_some() && added.is_some()
}

/// Gives the interface of a host this shape. Bytes under way stay.
pub fn shape(number: u32, plan: &InterfacePlan) {
    let plan = plan.clone();
    let shaped = on_host(number, move || {
        act(|world| {
            let by_address = std::mem::take(&mut world.by_address);
            let latency = world.host(number).map(|host| {
                host.shape(&plan, |address| by_address.get(address).copied());
                host.least_latency(by_address.len())
            });
            world.by_address = by_address;
            world.link_again(number);
            latency
        })
        .0
        .flatten()
    });
    if let Some(latency) = shaped.flatten() {
        note_latency(number, latency);
    }
}

/// Closes all connections of a host, and its ports, as its kernel does when the process is killed.
pub fn kill(host: u32) {
    on_host(host, move || act(|world| world.kill(host)));
}

/// Bytes that the sockets of the host at `address` hold: sent and not acknowledged, or received and not read; none if this
/// thread has no such host.
pub fn held_bytes(address: IpAddr) -> Option<u64> {
    act(|world| {
        let host = world.host_at(address)?;
        Some(world.held(host))
    })
    .0
    .flatten()
}

/// Packets that a host has sent to others, by host, and packets to it that were dropped because their sender is blocked.
pub fn packets(host: u32, to: Vec<u32>) -> (BTreeMap<u32, u64>, u64) {
    let counted = on_host(host, move || {
        act(|world| {
            let cut_off = world.host(host).map_or(0, |host| host.cut_off);
            (to.iter().map(|to| (*to, world.packets(host, *to))).collect(), cut_off)
        })
        .0
    });
    counted.flatten().unwrap_or_default()
}

/// Facts about all traffic so far.
pub fn facts() -> Facts {
    on_all(|| act(|world| world.facts).0.unwrap_or_default()).unwrap_or_default().into_iter().sum()
}
