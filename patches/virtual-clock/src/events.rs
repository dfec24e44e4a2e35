//! Clock of a simulation, and its events by time.

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    collections::BinaryHeap,
    task::Waker,
};

use super::random;

/// Function that the simulation calls at a time; true if it has woken a task.
pub type Call = fn(u64) -> bool;

#[derive(Clone, Copy)]
enum Event {
    Timer { slot: u32, generation: u32 },
    Call(Call, u64),
}

struct Entry {
    at: u64,
    /// Number of the event: events of one time happen in the order in which they were made.
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, because the heap gives the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// A timer. A slot is used again after its timer, with the next generation.
#[derive(Default)]
struct Slot {
    generation: u32,
    is_over: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Events {
    heap: BinaryHeap<Entry>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    made: u64,
}

thread_local! {
    static IS_VIRTUAL: Cell<bool> = const { Cell::new(false) };
    static NOW: Cell<u64> = const { Cell::new(0) };
    static START: Cell<u64> = const { Cell::new(0) };
    static EVENTS: RefCell<Events> = RefCell::default();
}

/// A simulation on this thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Guard {
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        IS_VIRTUAL.set(false);
        random::end();
        let events = EVENTS.try_with(|events| std::mem::take(&mut *events.borrow_mut()));
        // A waker that is dropped may drop timers, which look for their events.
        drop(events);
    }
}

/// Begins a simulation on this thread at `start`, in nanoseconds since the Unix epoch. Libraries keep random numbers of a
/// thread, so a simulation can be repeated only on a new thread; none if this one simulates already.
pub fn enter(start: u64, seed: u64) -> Option<Guard> {
    if IS_VIRTUAL.get() {
        return None;
    }
    IS_VIRTUAL.set(true);
    START.set(start);
    NOW.set(start);
    random::begin(seed);
    Some(Guard { _of_this_thread: std::marker::PhantomData })
}

/// True if this thread simulates.
#[inline]
pub fn is_virtual() -> bool {
    IS_VIRTUAL.get()
}

/// Virtual time in nanoseconds since the Unix epoch; none if this thread does not simulate.
#[inline]
pub fn now_nanos() -> Option<u64> {
    IS_VIRTUAL.get().then(|| NOW.get())
}

/// Time at which the simulation of this thread began, in nanoseconds since the Unix epoch.
#[inline]
pub fn start_nanos() -> u64 {
    START.get()
}

impl Events {
    fn push(&mut self, at: u64, event: Event) {
        self.made += 1;
        self.heap.push(Entry { at, number: self.made, event });
    }
}

/// Calls `call` with `argument` at `at`, in nanoseconds since the Unix epoch, or at once if it is past. Events of one
/// time happen in the order in which they were scheduled.
pub fn schedule(at: u64, call: Call, argument: u64) {
    EVENTS.with_borrow_mut(|events| events.push(at, Event::Call(call, argument)));
}

/// Makes a timer, and returns its slot and generation.
pub(super) fn add_timer(at: u64, waker: &Waker) -> (u32, u32) {
    EVENTS.with_borrow_mut(|events| {
        let slot = events.free.pop().unwrap_or_else(|| {
            events.slots.push(Slot::default());
            u32::try_from(events.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let known = &mut events.slots[slot as usize];
        known.is_over = false;
        known.waker = Some(waker.clone());
        let generation = known.generation;
        events.push(at, Event::Timer { slot, generation });
        (slot, generation)
    })
}

/// True if the timer is over; else its waker is replaced.
pub(super) fn poll_timer((slot, generation): (u32, u32), waker: &Waker) -> bool {
    EVENTS.with_borrow_mut(|events| {
        let Some(known) = events.slots.get_mut(slot as usize).filter(|known| known.generation == generation) else {
            return true;
        };
        if known.is_over {
            return true;
        }
        match &mut known.waker {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    })
}

/// Removes a timer. Its event stays, and does nothing.
pub(super) fn remove_timer((slot, generation): (u32, u32)) {
    // At the end of a thread, its timers may be gone.
    let waker = EVENTS.try_with(|events| {
        let mut events = events.try_borrow_mut().ok()?;
        let known = events.slots.get_mut(slot as usize).filter(|known| known.generation == generation)?;
        known.generation = known.generation.wrapping_add(1);
        let waker = known.waker.take();
        events.free.push(slot);
        waker
    });
    drop(waker);
}

/// Moves the clock to the next events, until one of them has woken a task. False if no event is left.
pub fn advance() -> bool {
    advance_until(u64::MAX)
}

/// Moves the clock to the next events before `limit`, until one of them has woken a task. False if none of them is left;
/// the clock stands at the last one then.
pub fn advance_until(limit: u64) -> bool {
    loop {
        let next = EVENTS.with_borrow_mut(|events| {
            if events.heap.peek()?.at >= limit {
                return None;
            }
            let Entry { at, event, .. } = events.heap.pop()?;
            NOW.set(at.max(NOW.get()));
            Some(match event {
                Event::Call(call, argument) => Ok((call, argument)),
                Event::Timer { slot, generation } => {
                    let known = events.slots.get_mut(slot as usize).filter(|known| known.generation == generation);
                    Err(known.and_then(|known| {
                        known.is_over = true;
                        known.waker.take()
                    }))
                }
            })
        });
        // Nothing is borrowed here: wakers and calls may schedule more.
        let woke = match next {
            None => return false,
            Some(Ok((call, argument))) => call(argument),
            Some(Err(Some(waker))) => {
                waker.wake();
                true
            }
            Some(Err(None)) => false,
        };
        if woke {
            return true;
        }
    }
}

/// Time of the next event, in nanoseconds since the Unix epoch; none if none is left. Timers that were removed count.
pub fn next_at() -> Option<u64> {
    EVENTS.with_borrow(|events| events.heap.peek().map(|entry| entry.at))
}

/// Moves the clock to a time between two events, in nanoseconds since the Unix epoch. It never goes back.
pub fn move_to(now: u64) {
    NOW.set(now.max(NOW.get()));
}
