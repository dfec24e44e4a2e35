//! Tasks of a host: they run together, stop together and end together.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::task::{AbortHandle, JoinHandle};

use virtual_clock::{Sleep, now_nanos};

use crate::clock;

/// Number of tasks from which on the ended ones are forgotten.
const FEW_TASKS: usize = 64;

thread_local! {
    static PRESENT: RefCell<Option<Arc<Life>>> = const { RefCell::new(None) };
}

/// One life of a host, from a start to a kill.
#[derive(Debug, Default)]
pub struct Life {
    paused: AtomicBool,
    /// Virtual time until which its processor is busy, in nanoseconds.
    busy_until: AtomicU64,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    handles: Vec<AbortHandle>,
    /// Number of handles at which ended ones are removed the next time.
    forget_at: usize,
    /// Tasks that would have run while the host was paused.
    waiting: Vec<Waker>,
}

impl Life {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, handle: AbortHandle) {
        let mut tasks = self.tasks();
        if tasks.handles.len() >= tasks.forget_at.max(FEW_TASKS) {
            tasks.handles.retain(|handle| !handle.is_finished());
            tasks.forget_at = tasks.handles.len() * 2;
        }
        tasks.handles.push(handle);
    }

    /// Starts a task of this host; its own tasks belong to the host too.
    pub fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task = tokio::spawn(OfHost { life: self.clone(), future: Box::pin(future), turn: None });
        self.add(task.abort_handle());
        task
    }

    /// Stops all tasks, until [`Life::resume`]. The kernel of the host goes on.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Lets all tasks run again.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        let waiting = std::mem::take(&mut self.tasks().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends all tasks, wherever they are.
    pub fn kill(&self) {
        let (handles, waiting) = {
            let mut tasks = self.tasks();
            (std::mem::take(&mut tasks.handles), std::mem::take(&mut tasks.waiting))
        };
        handles.iter().for_each(AbortHandle::abort);
        drop(waiting);
    }
}

/// A task of a host.
struct OfHost<F> {
    life: Arc<Life>,
    future: Pin<Box<F>>,
    /// End of the time in which the host is busy.
    turn: Option<Sleep>,
}

impl<F> OfHost<F> {
    /// True if the task must wait, because the host is busy.
    fn waits(&mut self, context: &mut Context<'_>) -> bool {
        let busy_until = self.life.busy_until.load(Ordering::Relaxed);
        if busy_until == 0 || now_nanos().is_none_or(|now| now >= busy_until) {
            self.turn = None;
            return false;
        }
        if self.turn.as_ref().is_none_or(|turn| turn.at() != busy_until) {
            self.turn = Some(Sleep::until(busy_until));
        }
        self.turn.as_mut().is_some_and(|turn| Pin::new(turn).poll(context).is_pending())
    }
}

impl<F: Future> Future for OfHost<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.life.paused.load(Ordering::Relaxed) {
            self.life.tasks().waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        if self.waits(context) {
            return Poll::Pending;
        }
        let before = PRESENT.replace(Some(self.life.clone()));
        let polled = self.future.as_mut().poll(context);
        PRESENT.set(before);
        polled
    }
}

/// Makes the present host busy for this time, in nanoseconds, after its work so far.
pub(super) fn work(nanos: u64) {
    PRESENT.with_borrow(|present| {
        if let (Some(life), Some(now)) = (present, now_nanos()) {
            let begin = life.busy_until.load(Ordering::Relaxed).max(now);
            life.busy_until.store(begin.saturating_add(nanos), Ordering::Relaxed);
        }
    });
}

/// Starts a task: in virtual time, one of the present host.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    if clock::is_virtual()
        && let Some(life) = PRESENT.with_borrow(Clone::clone)
    {
        return life.spawn(future);
    }
    tokio::spawn(future)
}
