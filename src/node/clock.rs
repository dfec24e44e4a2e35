//! The clock of the run, and waiting for it.

pub use crate::clock::run_nanos as unix_nanos;

use crate::clock;

/// Waits until the clock of the run shows `time`. Looks at the clock again on the way: a node that has no common start
/// follows a wall clock that is set.
pub(super) async fn sleep_until(time: u64) {
    loop {
        let now = unix_nanos();
        if now >= time {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_nanos((time - now).min(1_000_000_000))).await;
    }
}

/// How long before a start the wall clock is looked at for the last time, in nanoseconds.
const SHORTLY: u64 = 1_000_000_000;

/// Waits until the wall clock, which may be set meanwhile, shows a second before `time`.
pub(super) async fn sleep_until_shortly_before(time: u64) {
    loop {
        clock::follow();
        let left = time.saturating_sub(unix_nanos()).saturating_sub(SHORTLY);
        if left == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_nanos(left.min(1_000_000_000))).await;
    }
}
