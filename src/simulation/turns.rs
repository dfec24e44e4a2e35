//! A runtime that never sleeps: whenever no task can run, a step of the simulation is made.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::runtime;

/// Wakes the main future of a thread, and remembers that.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// True if the main future can go on.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[derive(Default)]
struct Turns {
    main: Mutex<Option<Waker>>,
    flag: Arc<Flag>,
    ended: Mutex<Option<String>>,
}

/// Runs `future` on this thread. Whenever it and all tasks wait, `step` is called, which gets the flag of the future, and
/// fails with a reason to end.
///
/// # Errors
/// The reason of `step`, or one line if the runtime does not start.
pub(super) fn run<T>(
    future: impl Future<Output = T>,
    step: impl Fn(&Flag) -> Result<(), String> + Send + Sync + 'static,
) -> Result<T, String> {
    let turns = Arc::new(Turns::default());
    turns.flag.clone().wake();
    let parked = turns.clone();
    let next = move || {
        if let Err(reason) = step(&parked.flag) {
            *parked.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
        let main = parked.main.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(main) = main {
            main.wake();
        }
    };
    // Without drivers, because their time is real.
    let runtime = runtime::Builder::new_current_thread().on_thread_park(next).build();
    let runtime = runtime.map_err(|error| format!("the runtime does not start: {error}"))?;
    // The waker keeps the runtime, and the runtime the waker.
    let apart = Apart(&turns);
    let ended = runtime.block_on(drive(future, &turns));
    // Tasks that are dropped close their connections.
    drop(runtime);
    drop(apart);
    ended
}

/// Forgets the waker of the main future, after a panic too.
struct Apart<'a>(&'a Turns);

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        drop(self.0.main.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Polls `future` when it was woken.
async fn drive<T>(future: impl Future<Output = T>, turns: &Turns) -> Result<T, String> {
    let mut future = pin!(future);
    let flag = turns.flag.clone();
    let own: Waker = flag.clone().into();
    std::future::poll_fn(move |context: &mut Context<'_>| {
        turns
            .main
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| context.waker().clone())
            .clone_from(context.waker());
        while flag.0.swap(false, Ordering::AcqRel) {
            let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(&own));
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Ok(output));
            }
        }
        match turns.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => Poll::Ready(Err(reason)),
            None => Poll::Pending,
        }
    })
    .await
}
