//! The threads of a simulation, which run apart for as long as no packet can come from one to another: the least latency of
//! any link (Chandy and Misra, 1979: conservative synchronisation).

use std::{cell::RefCell, rc::Rc};

use super::{
    host::LEAST_LATENCY,
    parameters::Simulation,
    shard::{Packets, Shard},
    world,
};

/// Maximum time for which threads run apart, in nanoseconds: between two such times a simulation can be interrupted.
const LONGEST: u64 = 100_000_000;

thread_local! {
    static CONDUCTOR: RefCell<Option<Rc<Conductor>>> = const { RefCell::new(None) };
}

/// The shards of a simulation; host `n` is in shard `n` modulo their number.
pub(super) struct Conductor {
    shards: Vec<Shard>,
    state: RefCell<State>,
}

struct State {
    /// Time that all shards have reached.
    now: u64,
    /// Least latency from each host to any other.
    latencies: Vec<u64>,
    /// Packets to the hosts of each shard.
    in_transit: Vec<Packets>,
}

/// Starts the shards of a simulation for this thread.
pub(super) fn begin(simulation: &Simulation) -> Result<(), String> {
    let threads = simulation.threads.max(1) as u64;
    let shards: Vec<Shard> =
        (0..threads).map(|number| Shard::start(simulation, number)).collect::<Result<_, String>>()?;
    let in_transit = shards.iter().map(|_| vec![]).collect();
    let state = RefCell::new(State { now: simulation.start_unix_nanos, latencies: vec![], in_transit });
    CONDUCTOR.set(Some(Rc::new(Conductor { shards, state })));
    Ok(())
}

/// Ends the shards of this thread.
pub(super) fn end() {
    drop(CONDUCTOR.take());
}

fn conductor() -> Option<Rc<Conductor>> {
    CONDUCTOR.with_borrow(Clone::clone)
}

/// Does something on the thread of a host, while all hosts stand still; none if this thread has no simulation.
pub(super) fn on_host<T: Send + 'static>(host: u32, act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if world::exists() {
        return Some(act());
    }
    conductor()?.shard(host)?.act(act)
}

/// Does something on all threads, and returns all results; none if this thread has no simulation.
pub(super) fn on_all<T: Send + 'static>(act: impl Fn() -> T + Clone + Send + 'static) -> Option<Vec<T>> {
    if world::exists() {
        return Some(vec![act()]);
    }
    conductor()?.shards.iter().map(|shard| shard.act(act.clone())).collect()
}

/// Notes the least latency from a host to any other.
pub(super) fn note_latency(host: u32, latency: u64) {
    let Some(conductor) = conductor() else { return };
    let latencies = &mut conductor.state.borrow_mut().latencies;
    let host = host as usize;
    if latencies.len() <= host {
        latencies.resize(host + 1, u64::MAX);
    }
    latencies[host] = latency;
}

/// Runs the shards of this thread towards `until`, for as long as they may run apart. Returns the time that they have reached,
/// and false if nothing can happen in them any more.
///
/// # Errors
/// One line if a shard has failed.
pub(super) fn run(until: Option<u64>) -> Result<(u64, bool), String> {
    let conductor = conductor().ok_or("no simulation on this thread")?;
    let mut state = conductor.state.borrow_mut();
    let mut apart = LONGEST;
    if conductor.shards.len() > 1 {
        apart = state.latencies.iter().copied().min().unwrap_or(apart).clamp(LEAST_LATENCY, LONGEST);
    }
    let limit = until.unwrap_or(u64::MAX).min(state.now + apart);
    let mut goes_on = false;
    let failed = || "the simulation has failed".to_owned();
    for (shard, arrivals) in conductor.shards.iter().zip(&mut state.in_transit) {
        goes_on |= !arrivals.is_empty();
        if !shard.run(limit, std::mem::take(arrivals)) {
            return Err(failed());
        }
    }
    for shard in &conductor.shards {
        let report = shard.report().ok_or_else(failed)?;
        goes_on |= report.has_more || !report.departures.is_empty();
        for packet in report.departures {
            let place = packet.1.to as usize % conductor.shards.len();
            state.in_transit[place].push(packet);
        }
    }
    // Packets that arrive at one time do so in the order of their shards, and of one shard in that of their departures.
    state.in_transit.iter_mut().for_each(|packets| packets.sort_by_key(|(at, _)| *at));
    state.now = limit;
    Ok((limit, goes_on))
}

impl Conductor {
    fn shard(&self, host: u32) -> Option<&Shard> {
        self.shards.get(host as usize % self.shards.len())
    }
}
