//! Execution of a simulation: a new thread, its runtime, and the order of tasks and events.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use tokio::runtime;

use super::{network, processor, processor::Processor};

/// Memory for the stack of a simulation's thread, in bytes: tasks of libp2p are polled deep.
const STACK: usize = 32 << 20;

/// Number of turns of the clock after which the simulation looks for an interruption.
const LOOK_EVERY: u64 = 256;

/// Request to end a simulation, which another thread may make.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Interrupting>);

#[derive(Debug, Default)]
struct Interrupting {
    asked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Interrupt {
    /// Asks the simulation to end.
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::Release);
    }

    /// True if it was asked to end.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    fn waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is asked; only inside of the simulation.
    pub async fn asked(&self) {
        std::future::poll_fn(|context| {
            if self.is_asked() {
                return Poll::Ready(());
            }
            *self.waker() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn deliver(&self) {
        if self.is_asked()
            && let Some(waker) = self.waker().take()
        {
            waker.wake();
        }
    }
}

/// Parameters of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Simulation {
    /// Seed of all random numbers.
    pub seed: u64,
    /// Begin of virtual time, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Order of service between the connections of a host.
    pub discipline: network::Discipline,
    /// Processor of each host.
    pub processor: Processor,
    /// Request to end it.
    pub interrupt: Interrupt,
}

/// Wakes the future of a simulation, and remembers that.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The thread never sleeps: before it would, the clock goes on, and then the loop of the runtime does.
struct Turn {
    main: Mutex<Option<Waker>>,
    /// True if the future of the simulation can go on: then the clock must not.
    flag: Arc<Flag>,
    turns: AtomicU64,
    stalled: AtomicBool,
    interrupt: Interrupt,
}

impl Turn {
    fn next(&self) {
        if !self.flag.0.load(Ordering::Relaxed) && !virtual_clock::advance() {
            self.stalled.store(true, Ordering::Relaxed);
        }
        if self.turns.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
            self.interrupt.deliver();
        }
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(main) = main {
            main.wake();
        }
    }
}

/// Runs the future that `begin` makes in virtual time, on a new thread, and returns its result.
///
/// # Errors
/// One line, if the thread does not start, or nothing can ever happen in the simulation any more.
pub fn run<T, F>(simulation: Simulation, begin: impl FnOnce() -> F + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let work = move || {
        let Simulation { seed, start_unix_nanos, discipline, processor, interrupt } = simulation;
        let Some(guard) = virtual_clock::enter(start_unix_nanos, seed) else {
            return Err("a simulation inside of a simulation".to_owned());
        };
        network::begin(seed, discipline);
        processor::begin(processor);
        let turn = Arc::new(Turn {
            main: Mutex::default(),
            flag: Arc::new(Flag(AtomicBool::new(true))),
            turns: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            interrupt,
        });
        let parked = turn.clone();
        // Without drivers, because their time is real.
        let runtime = runtime::Builder::new_current_thread().on_thread_park(move || parked.next()).build();
        let runtime = runtime.map_err(|error| format!("the runtime does not start: {error}"))?;
        let ended = runtime.block_on(drive(begin(), &turn));
        // Tasks that are dropped close their connections.
        drop(runtime);
        network::end();
        drop(guard);
        ended
    };
    let thread = thread::Builder::new().name("simulation".into()).stack_size(STACK).spawn(work);
    let thread = thread.map_err(|error| format!("the thread of the simulation does not start: {error}"))?;
    thread.join().map_err(|_| "the simulation has failed".to_owned())?
}

/// Polls `future` when it was woken, and lets the clock go on whenever nothing else can run.
async fn drive<T>(future: impl Future<Output = T>, turn: &Turn) -> Result<T, String> {
    let mut future = pin!(future);
    let flag = turn.flag.clone();
    let own: Waker = flag.clone().into();
    std::future::poll_fn(move |context: &mut Context<'_>| {
        turn.main
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| context.waker().clone())
            .clone_from(context.waker());
        while flag.0.swap(false, Ordering::Relaxed) {
            let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(&own));
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Ok(output));
            }
        }
        if turn.stalled.swap(false, Ordering::Relaxed) {
            return Poll::Ready(Err("the simulation stands still: no event is left".into()));
        }
        Poll::Pending
    })
    .await
}
