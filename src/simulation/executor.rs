//! Execution of a simulation: a thread that conducts, and the threads of the hosts.

use std::{future::Future, thread};

use super::{conductor, parameters::Simulation, shard, turns};

/// Runs the future that `begin` makes in virtual time, on a new thread, and returns its result. The hosts run on threads of
/// their own; the future acts on them between two moments of their time.
///
/// # Errors
/// One line, if a thread does not start or fails, or nothing can ever happen in the simulation any more.
pub fn run<T, F>(simulation: Simulation, begin: impl FnOnce() -> F + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let work = move || {
        // Its random numbers are others than those of the hosts.
        let seed = shard::seed_of(simulation.seed, u64::MAX);
        let Some(guard) = virtual_clock::enter(simulation.start_unix_nanos, seed) else {
            return Err("a simulation inside of a simulation".to_owned());
        };
        conductor::begin(&simulation)?;
        let interrupt = simulation.interrupt;
        let ended = turns::run(begin(), move |flag| {
            interrupt.deliver();
            step(flag)
        });
        conductor::end();
        drop(guard);
        ended
    };
    let thread = thread::Builder::new().name("simulation".into()).stack_size(shard::STACK).spawn(work);
    let thread = thread.map_err(|error| format!("the thread of the simulation does not start: {error}"))?;
    thread.join().map_err(|_| "the simulation has failed".to_owned())?
}

/// Lets the hosts run up to the next event of this thread, or shorter, and then lets that event happen.
fn step(flag: &turns::Flag) -> Result<(), String> {
    if flag.is_set() {
        return Ok(());
    }
    let due = virtual_clock::next_at();
    let now = virtual_clock::now_nanos().unwrap_or(0);
    if due.is_none_or(|due| due > now) {
        let (reached, goes_on) = conductor::run(due)?;
        virtual_clock::move_to(reached);
        if due.is_none() && !goes_on && !flag.is_set() {
            return Err("the simulation stands still: no event is left".into());
        }
    }
    if due.is_some_and(|due| Some(due) <= virtual_clock::now_nanos()) {
        virtual_clock::advance_until(due.map_or(0, |due| due + 1));
    }
    Ok(())
}
