//! The clock that all nodes of one host share.

use std::{
    fs,
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch; 0 on a clock before it. Enough until the year 2554.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that a clock must have left until its last instant: the longest run, and whatever is added to a time of it.
const ROOM: u64 = 2 * 366 * 86_400 * 1_000_000_000;

/// Checks that times of a run can be counted in nanoseconds since the Unix epoch, in 64 bits.
///
/// # Errors
/// One line for a clock that shows a time outside of that.
pub fn check() -> Result<(), String> {
    match unix_nanos() {
        nanos if nanos > 0 && nanos < u64::MAX - ROOM => Ok(()),
        _ => Err("the clock of this machine shows a time before 1970 or after 2552: set it (date, timedatectl)".into()),
    }
}

/// What a host's clock shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// Nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// The kernel's name for this boot of it. Who has the same one has the same clock, in whatever container; none where
    /// the kernel does not tell.
    pub boot_id: Option<String>,
}

impl ClockReading {
    /// What this host's clock shows now.
    pub fn now() -> Self {
        static BOOT_ID: LazyLock<Option<String>> = LazyLock::new(|| {
            let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        });
        Self { boot_id: BOOT_ID.clone(), unix_nanos: unix_nanos() }
    }
}
