use std::{
    collections::HashMap,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use super::*;

struct Nothing;

impl Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

fn waker() -> Waker {
    Arc::new(Nothing).into()
}

/// Result of `run` on a new thread that simulates.
fn simulated<T: Send + 'static>(seed: u64, run: fn() -> T) -> T {
    let thread = thread::spawn(move || {
        let _simulation = enter(1_000, seed).unwrap();
        run()
    });
    thread.join().unwrap()
}

#[test]
fn the_clock_stands_still_until_an_event_moves_it() {
    simulated(0, || {
        let begun = instant();
        thread::sleep(Duration::from_millis(2));
        assert_eq!(instant(), begun);
        let (mut first, mut second) = (pin!(Sleep::until(3_000)), pin!(Sleep::until(2_000)));
        let waker = waker();
        let context = &mut Context::from_waker(&waker);
        assert!(first.as_mut().poll(context).is_pending() && second.as_mut().poll(context).is_pending());
        assert!(advance());
        assert_eq!((now_nanos(), instant() - begun), (Some(2_000), Duration::from_nanos(1_000)));
        assert_eq!(second.as_mut().poll(context), Poll::Ready(()));
        assert!(first.as_mut().poll(context).is_pending());
        assert!(advance());
        assert_eq!(first.as_mut().poll(context), Poll::Ready(()));
        assert!(!advance());
    });
}

#[test]
fn the_clock_moves_by_events_before_a_limit_and_then_to_a_time_between_two() {
    simulated(0, || {
        for at in [2_000, 3_000] {
            schedule(at, |_| true, 0);
        }
        assert_eq!(next_at(), Some(2_000));
        assert!(advance_until(3_000));
        assert!(!advance_until(3_000));
        assert_eq!((now_nanos(), next_at()), (Some(2_000), Some(3_000)));
        move_to(2_500);
        move_to(2_100);
        assert_eq!(now_nanos(), Some(2_500));
        assert!(advance());
        assert_eq!((now_nanos(), next_at(), advance()), (Some(3_000), None, false));
    });
}

#[test]
fn a_removed_timer_wakes_nobody_and_its_slot_is_used_again() {
    simulated(0, || {
        let waker = waker();
        let context = &mut Context::from_waker(&waker);
        for at in 2_000..2_100 {
            let mut sleep = pin!(Sleep::until(at));
            assert!(sleep.as_mut().poll(context).is_pending());
        }
        let mut last = pin!(Sleep::until(5_000));
        assert!(last.as_mut().poll(context).is_pending());
        assert!(advance());
        assert_eq!(now_nanos(), Some(5_000));
    });
}

#[test]
fn calls_of_one_time_happen_in_their_order() {
    thread_local! {
        static SEEN: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(vec![]) };
    }
    fn see(number: u64) -> bool {
        SEEN.with_borrow_mut(|seen| seen.push(number));
        number == 9
    }
    let seen = simulated(0, || {
        for number in [1, 2, 3, 9, 4] {
            schedule(7_000, see, number);
        }
        schedule(6_000, see, 0);
        advance();
        SEEN.take()
    });
    assert_eq!(seen, [0, 1, 2, 3, 9]);
}

/// Random numbers of std's hash maps, as an order and as a number.
fn hashes() -> (u64, Vec<u32>) {
    let map: HashMap<u32, ()> = (0..50).map(|key| (key, ())).collect();
    (RandomState::new().hash_one(1), map.into_keys().collect())
}

#[test]
fn random_numbers_of_a_simulation_follow_from_its_seed() {
    assert_eq!(simulated(5, hashes), simulated(5, hashes));
    assert_ne!(simulated(5, hashes), simulated(6, hashes));
    assert_ne!(thread::spawn(hashes).join().unwrap(), thread::spawn(hashes).join().unwrap());
}

#[test]
fn a_thread_simulates_once_at_a_time_and_other_threads_have_the_real_clock() {
    let simulation = enter(1, 1).unwrap();
    assert!(enter(1, 1).is_none());
    assert!(thread::spawn(|| !is_virtual() && now_nanos().is_none()).join().unwrap());
    drop(simulation);
    let before = instant();
    thread::sleep(Duration::from_millis(1));
    assert!(instant() > before && !is_virtual());
}
