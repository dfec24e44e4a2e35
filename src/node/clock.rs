//! The clock that all nodes of one host share.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch; 0 on a clock before it. Enough until the year 2554.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

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
