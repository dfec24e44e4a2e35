//! Waiting for the wall clock.

pub use crate::clock::unix_nanos;

/// Waits until the wall clock shows `unix_nanos`. Looks at the clock again on the way, so that a clock that is set
/// meanwhile does not make it late by more than a second.
pub(super) async fn sleep_until(time: u64) {
    loop {
        let now = unix_nanos();
        if now >= time {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_nanos((time - now).min(1_000_000_000))).await;
    }
}
