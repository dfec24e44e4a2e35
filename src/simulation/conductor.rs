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
    /// Least latency of all when the shards ran last.
    before: u64,
    /// Packets to the hosts of each shard.
    in_transit: Vec<Packets>,
    /// Time before which nothing happens in any shard; none if nothing ever does.
    quiet_until: Option<u64>,
}

/// Starts the shards of a simulation for this thread.
pub(super) fn begin(simulation: &Simulation) -> Result<(), String> {
    let threads = simulation.threads.max(1) as u64;
    let shards: Vec<Shard> =
        (0..threads).map(|number| Shard::start(simulation, number)).collect::<Result<_, String>>()?;
    let in_transit = shards.iter().map(|_| vec![]).collect();
    let now = simulation.start_unix_nanos;
    let state = State { now, latencies: vec![], before: LEAST_LATENCY, in_transit, quiet_until: Some(now) };
    let state = RefCell::new(state);
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
pub fn on_host<T: Send + 'static>(host: u32, act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if world::exists() {
        return Some(act());
    }
    let conductor = conductor()?;
    conductor.disturb();
    conductor.shard(host)?.act(act)
}

/// Does something on all threads, and returns all results; none if this thread has no simulation.
pub(super) fn on_all<T: Send + 'static>(act: impl Fn() -> T + Clone + Send + 'static) -> Option<Vec<T>> {
    if world::exists() {
        return Some(vec![act()]);
    }
    let conductor = conductor()?;
    conductor.disturb();
    conductor.shards.iter().map(|shard| shard.act(act.clone())).collect()
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
    let State { now, latencies, before, in_transit, quiet_until } = &mut *state;
    let mut apart = LONGEST;
    if conductor.shards.len() > 1 {
        let least = latencies.iter().copied().min().unwrap_or(apart).clamp(LEAST_LATENCY, LONGEST);
        // Packets of acts are exchanged after this run: a latency that has just grown was shorter for them.
        apart = least.min(*before);
        *before = least;
    }
    if until.is_none() && quiet_until.is_none() {
        return Ok((*now, false));
    }
    let quiet_until = quiet_until.unwrap_or(u64::MAX);
    let limit = until.unwrap_or(u64::MAX).min(quiet_until.max(*now).saturating_add(apart));
    let failed = || "the simulation has failed".to_owned();
    for (shard, arrivals) in conductor.shards.iter().zip(in_transit.iter_mut()) {
        if !shard.run(limit, std::mem::take(arrivals)) {
            return Err(failed());
        }
    }
    let mut next_at: Option<u64> = None;
    for shard in &conductor.shards {
        let report = shard.report().ok_or_else(failed)?;
        let departures = report.departures.iter().map(|(at, _)| *at);
        next_at = next_at.into_iter().chain(report.next_at).chain(departures).min();
        for packet in report.departures {
            let place = packet.1.to as usize % conductor.shards.len();
            in_transit[place].push(packet);
        }
    }
    // Packets that arrive at one time do so in the order of their shards, and of one shard in that of their departures.
    in_transit.iter_mut().for_each(|packets| packets.sort_by_key(|(at, _)| *at));
    (state.now, state.quiet_until) = (limit, next_at);
    Ok((limit, next_at.is_some()))
}

impl Conductor {
    /// Something may happen now, because of an act.
    fn disturb(&self) {
        let mut state = self.state.borrow_mut();
        state.quiet_until = Some(state.now);
    }

    fn shard(&self, host: u32) -> Option<&Shard> {
        self.shards.get(host as usize % self.shards.len())
    }
}
