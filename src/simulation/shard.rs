//! A thread with a part of the hosts. It runs them up to a time, and then waits for the next one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use super::{events, packet::Envelope, parameters::Simulation, processor, turns, world};

/// Memory for the stack of a thread of a simulation, in bytes: tasks of libp2p are polled deep.
pub(super) const STACK: usize = 32 << 20;

/// Packets with the time of their arrival.
pub(super) type Packets = Vec<(u64, Envelope)>;

/// An order to a shard.
pub(super) enum Order {
    /// Do this now.
    Act(Box<dyn FnOnce() + Send>),
    /// Run up to `limit`, with these packets from other shards.
    Run { limit: u64, arrivals: Packets },
}

/// State of a shard that has run.
#[derive(Debug)]
pub(super) struct Report {
    /// Packets to hosts of other shards.
    pub(super) departures: Packets,
    /// Time of the next event.
    pub(super) next_at: Option<u64>,
}

/// A shard. It ends when this is dropped.
pub(super) struct Shard {
    orders: Option<SyncSender<Order>>,
    reports: Mutex<Receiver<Report>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Shard {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A shard that has failed has closed its channels, which ends the simulation.
            drop(thread.join());
        }
    }
}

/// The loop of a shard between two turns of its runtime.
struct Loop {
    orders: Receiver<Order>,
    reports: SyncSender<Report>,
    limit: u64,
    /// True if a report is due.
    runs: bool,
}

const ENDED: &str = "the simulation has ended";

impl Loop {
    /// Moves the clock to the next event before the limit; without one, waits for the next limit.
    fn step(&mut self) -> Result<(), String> {
        if virtual_clock::advance_until(self.limit) {
            return Ok(());
        }
        virtual_clock::move_to(self.limit);
        if std::mem::take(&mut self.runs) {
            let departures = world::act(|world| world.departures()).0.unwrap_or_default();
            let report = Report { departures, next_at: virtual_clock::next_at() };
            self.reports.send(report).map_err(|_| ENDED.to_owned())?;
        }
        loop {
            match self.orders.recv().map_err(|_| ENDED.to_owned())? {
                Order::Act(act) => act(),
                Order::Run { limit, arrivals } => {
                    world::act(|world| world.take_in(arrivals));
                    (self.limit, self.runs) = (limit, true);
                    return Ok(());
                }
            }
        }
    }
}

/// Closes the channels of a shard that ends, after a panic too: the conductor waits for them.
struct Closing(Arc<Mutex<Option<Loop>>>);

impl Drop for Closing {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Shard {
    /// Starts a shard of a simulation; its number tells it apart.
    pub(super) fn start(simulation: &Simulation, number: u64) -> Result<Self, String> {
        let (orders, to_do) = sync_channel(1);
        let (done, reports) = sync_channel(1);
        let Simulation { seed, start_unix_nanos: start, discipline, processor, .. } = *simulation;
        let work = move || {
            let Some(guard) = virtual_clock::enter(start, seed_of(seed, number)) else { return };
            events::begin(seed, number, discipline);
            processor::begin(processor);
            let state = Arc::new(Mutex::new(Some(Loop { orders: to_do, reports: done, limit: start, runs: false })));
            let closing = Closing(state.clone());
            let step = move |_: &turns::Flag| {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.as_mut().map_or_else(|| Err(ENDED.into()), Loop::step)
            };
            // Ends when the orders do.
            drop(turns::run(std::future::pending::<()>(), step));
            drop(closing);
            world::end();
            drop(guard);
        };
        let thread = thread::Builder::new().name(format!("shard {number}")).stack_size(STACK).spawn(work);
        let thread = thread.map_err(|error| format!("a thread of the simulation does not start: {error}"))?;
        let shard = Self { orders: Some(orders), reports: Mutex::new(reports), thread: Some(thread) };
        // One after the other: a runtime takes its number from a counter of the process.
        shard.act(|| ()).ok_or("a thread of the simulation has failed")?;
        Ok(shard)
    }

    /// Gives an order; false if the shard has failed.
    fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }

    /// Runs up to `limit`, beginning with packets from other shards; false if the shard has failed.
    pub(super) fn run(&self, limit: u64, arrivals: Packets) -> bool {
        self.order(Order::Run { limit, arrivals })
    }

    /// The report of [`Shard::run`]; none if the shard has failed.
    pub(super) fn report(&self) -> Option<Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    /// Does something on the thread of the shard, while it does not run; none if the shard has failed.
    pub(super) fn act<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, result) = sync_channel(1);
        let act = move || {
            // Nobody waits if the simulation has ended.
            drop(sender.send(act()));
        };
        if !self.order(Order::Act(Box::new(act))) {
            return None;
        }
        result.recv().ok()
    }
}

/// Seed of the random numbers of a thread.
pub(super) fn seed_of(seed: u64, number: u64) -> u64 {
    // SplitMix64's increment: seeds of threads are as far apart as its numbers.
    seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17))
}
