//! Clock of the run, and waiting for it.

pub use crate::clock::run_nanos as unix_nanos;

use crate::clock;

/// Waits until the clock of the run reaches `time`. Reads the clock again on the way, because a node without a common
/// start follows a wall clock that may be set.
pub(super) async fn sleep_until(time: u64) {
    loop {
        let now = unix_nanos();
        if now >= time {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_nanos((time - now).min(1_000_000_000))).await;
    }
}

/// Time before a start at which the wall clock is read for the last time, in nanoseconds.
const SHORTLY: u64 = 1_000_000_000;

/// Waits until one second before `time` by the wall clock, which may be set meanwhile.
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
