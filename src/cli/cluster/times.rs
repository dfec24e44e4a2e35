//! Times of a run in a cluster, as text.

use jiff::Timestamp;

use crate::node::StartOrder;

/// Time of the window.
pub(super) fn times(start: &StartOrder) -> String {
    let from = clock(start.from_unix_nanos());
    match start.to_unix_nanos() {
        Some(to) => format!("measured from {from} to {}", clock(to)),
        None => format!("trials from {from} on"),
    }
}

/// A time of day, with the day, in UTC.
pub(super) fn clock(unix_nanos: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(unix_nanos));
    time.map_or_else(|_| "?".into(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
