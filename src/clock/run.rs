//! Clocks of this machine: the present wall clock, and the clock of a run, which nobody sets.
//!
//! The clock of a run is the wall clock at one moment, and the monotonic clock from there on. Schedules and delays
//! follow it, so that setting the wall clock during a run neither moves a message nor falsifies a delay.

use std::{
    fs,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Name of the variable in which a runner passes its base to the nodes that it starts, as text of [`Base`].
pub const BASE_VARIABLE: &str = "APOLLO_CLOCK_BASE";

/// Difference from the clock of a run from which on a wall clock counts as set.
pub const SET_BY: Duration = Duration::from_millis(1);

/// Number of readings of all clocks, of which the quickest is used: the thread may lose its processor between two of
/// them.
const READINGS: usize = 8;
/// Duration of a reading that is quick enough to be used without another, in nanoseconds.
const QUICK: u64 = 1000;

/// Nanoseconds since the Unix epoch by the wall clock, which may be set at any time; 0 for a clock before the epoch.
/// Sufficient until the year 2554.
pub fn wall_nanos() -> u64 {
    if let Some(now) = virtual_clock::now_nanos() {
        return now;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Date and time by the wall clock, for people.
pub fn timestamp() -> Timestamp {
    if let Some(now) = virtual_clock::now_nanos() {
        return Timestamp::from_nanosecond(now.into()).unwrap_or_default();
    }
    Timestamp::now()
}

/// Nanoseconds since the Unix epoch by the clock of the run, which nobody sets; on a thread that simulates, by its virtual
/// clock.
#[inline]
pub fn unix_nanos() -> u64 {
    virtual_clock::now_nanos().unwrap_or_else(|| RUN.now())
}

/// True if the time of this thread is virtual.
#[inline]
pub fn is_virtual() -> bool {
    virtual_clock::is_virtual()
}

/// Monotonic time of the machine since the first call, in virtual time too: the cost of a simulation.
pub fn machine_elapsed() -> Duration {
    static FIRST: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    FIRST.elapsed()
}

/// Takes the wall clock again, unless the clock of the run is settled. Used by a process that waits for its run,
/// because the wall clock may be set until then.
pub fn follow() {
    if is_virtual() {
        return;
    }
    RUN.follow(&Reading::now(), Duration::ZERO);
}

/// Takes the wall clock again if it was set meanwhile. Used by nodes that share nothing but the wall clock, and that
/// never settle.
pub fn follow_steps() {
    if is_virtual() {
        return;
    }
    RUN.follow(&Reading::now(), SET_BY);
}

/// Takes the wall clock for the last time: from now on the clock of the run follows the monotonic clock alone. Returns
/// its value at the zero of the monotonic clock; 0 in virtual time, which follows no clock.
pub fn settle() -> u64 {
    if is_virtual() {
        return 0;
    }
    RUN.settle(&Reading::now())
}

/// Takes over the base of the runner that started this process, if the runner passed one and runs on this machine.
pub fn adopt() {
    let given = std::env::var(BASE_VARIABLE).ok();
    if let (Some(base), Some(machine)) = (given.as_deref().and_then(Base::parse), machine())
        && base.machine == machine
    {
        RUN.adopt(base.unix_nanos);
    }
}

/// Value of the run's clock at the zero of the monotonic clock; none if the clock is not settled.
pub fn settled_base() -> Option<u64> {
    if is_virtual() {
        return Some(0);
    }
    RUN.settled.load(Ordering::Acquire).then(|| RUN.base.load(Ordering::Acquire))
}

/// Settled base of this process, for processes that it starts; none if the kernel does not name its boot.
pub fn base_for_others() -> Option<Base> {
    Some(Base { machine: machine()?.to_owned(), unix_nanos: settle() })
}

/// Zero of a monotonic clock, by the clock of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    machine: String,
    unix_nanos: u64,
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.unix_nanos, self.machine)
    }
}

impl Base {
    fn parse(text: &str) -> Option<Self> {
        let (unix_nanos, machine) = text.split_once(' ')?;
        Some(Self { machine: machine.to_owned(), unix_nanos: unix_nanos.parse().ok()? })
    }
}

static RUN: LazyLock<RunClock> = LazyLock::new(|| RunClock::new(&Reading::now()));

/// Clock of a run.
#[derive(Debug)]
struct RunClock {
    /// Value of this clock at the zero of the monotonic clock, in nanoseconds since the Unix epoch.
    base: AtomicU64,
    settled: AtomicBool,
}

impl RunClock {
    fn new(reading: &Reading) -> Self {
        Self { base: AtomicU64::new(reading.base()), settled: AtomicBool::new(false) }
    }

    fn now(&self) -> u64 {
        self.base.load(Ordering::Relaxed).saturating_add(nanos(ClockId::CLOCK_MONOTONIC))
    }

    fn follow(&self, reading: &Reading, beyond: Duration) {
        let by = u128::from(self.base.load(Ordering::Acquire).abs_diff(reading.base()));
        if !self.settled.load(Ordering::Acquire) && by >= beyond.as_nanos() {
            self.base.store(reading.base(), Ordering::Release);
        }
    }

    fn settle(&self, reading: &Reading) -> u64 {
        self.follow(reading, Duration::ZERO);
        self.settled.store(true, Ordering::Release);
        self.base.load(Ordering::Acquire)
    }

    fn adopt(&self, base: u64) {
        self.base.store(base, Ordering::Release);
        self.settled.store(true, Ordering::Release);
    }
}

/// All clocks of this machine at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock, since the Unix epoch.
    pub wall: u64,
    /// The monotonic clock: nobody sets it, time services make it faster or slower, and it stops while the machine is
    /// suspended.
    pub monotonic: u64,
    /// The processor's counter, which no time service makes faster or slower.
    pub raw: u64,
    /// The monotonic clock plus the time for which the machine was suspended.
    pub boot: u64,
    /// Maximum time between these readings.
    pub error: u64,
}

impl Reading {
    /// Reads all clocks.
    pub fn now() -> Self {
        let mut best = Self::once();
        for _ in 1..READINGS {
            if best.error <= QUICK {
                break;
            }
            let next = Self::once();
            if next.error < best.error {
                best = next;
            }
        }
        best
    }

    fn once() -> Self {
        let before = nanos(ClockId::CLOCK_MONOTONIC);
        let (wall, boot) = (wall_nanos(), nanos(ClockId::CLOCK_BOOTTIME));
        let raw = nanos(ClockId::CLOCK_MONOTONIC_RAW);
        let error = nanos(ClockId::CLOCK_MONOTONIC).saturating_sub(before);
        Self { wall, monotonic: before + error / 2, raw, boot, error }
    }

    fn base(&self) -> u64 {
        self.wall.saturating_sub(self.monotonic)
    }
}

/// Value of a clock that the kernel always has; 0 if it does not.
fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Kernel's identifier of the present boot. Processes with the same one have the same wall clock, in any container;
/// none if the kernel does not name it.
fn boot_id() -> Option<&'static str> {
    static BOOT_ID: LazyLock<Option<String>> = LazyLock::new(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    });
    BOOT_ID.as_deref()
}

/// Identifier of the present boot and its monotonic clock, which a time namespace may shift: processes with the same
/// one share all clocks.
pub fn machine() -> Option<&'static str> {
    static MACHINE: LazyLock<Option<String>> = LazyLock::new(|| {
        let namespace = fs::read_link("/proc/self/ns/time").unwrap_or_default();
        Some(format!("{} {}", boot_id()?, namespace.display()))
    });
    MACHINE.as_deref()
}

/// Minimum number of nanoseconds before a clock's last instant: the longest run, and every span that is added to a time
/// of it.
const ROOM: u64 = 2 * 366 * 86_400 * 1_000_000_000;

/// Checks that times of a run fit into 64 bits as nanoseconds since the Unix epoch.
///
/// # Errors
/// One line for a clock that shows a time outside of that.
pub fn check() -> Result<(), String> {
    match wall_nanos() {
        nanos if nanos > 0 && nanos < u64::MAX - ROOM => Ok(()),
        _ => Err("the clock of this machine shows a time before 1970 or after 2552: set it (date, timedatectl)".into()),
    }
}

/// Reading of a host's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// Nanoseconds since the Unix epoch by the clock of the run, from which delays are computed.
    pub unix_nanos: u64,
    /// Kernel's identifier of the present boot. Hosts with the same one have the same clock, in any container; none if
    /// the kernel does not name it.
    pub boot_id: Option<String>,
}

impl ClockReading {
    /// Reads the clock of the run: before a run, this host's wall clock.
    pub fn now() -> Self {
        follow();
        Self { boot_id: boot_id().map(str::to_owned), unix_nanos: unix_nanos() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn reading(wall: u64) -> Reading {
        Reading { wall, monotonic: 10 * SECOND, ..Reading::default() }
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_the_clock_of_a_run_before_it_is_settled_and_not_afterwards() {
        let clock = RunClock::new(&reading(100 * SECOND));
        let base = || clock.base.load(Ordering::Relaxed) / SECOND;
        assert_eq!(base(), 90);
        clock.follow(&reading(105 * SECOND), Duration::ZERO);
        assert_eq!(base(), 95);
        assert_eq!(clock.settle(&reading(107 * SECOND)), 97 * SECOND);
        clock.follow(&reading(500 * SECOND), Duration::ZERO);
        assert_eq!(clock.settle(&reading(500 * SECOND)), 97 * SECOND);
        let now = clock.now();
        assert!((97 * SECOND..).contains(&now) && clock.now() >= now);
    }

    #[test]
    fn nodes_that_follow_the_wall_clock_follow_its_steps_alone() {
        let clock = RunClock::new(&reading(100 * SECOND));
        clock.follow(&reading(100 * SECOND + 999_999), SET_BY);
        assert_eq!(clock.base.load(Ordering::Relaxed), 90 * SECOND);
        clock.follow(&reading(98 * SECOND), SET_BY);
        assert_eq!(clock.base.load(Ordering::Relaxed), 88 * SECOND);
    }

    #[test]
    fn a_base_survives_its_text_and_nonsense_is_none() {
        let base = Base { machine: machine().unwrap().to_owned(), unix_nanos: 42 };
        assert_eq!(Base::parse(&base.to_string()), Some(base));
        for nonsense in ["", "42", "x y", "-1 m"] {
            assert_eq!(Base::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_reading_holds_the_clocks_of_one_moment() {
        let (one, two) = (Reading::now(), Reading::now());
        assert!(two.wall >= one.wall && two.monotonic > one.monotonic && two.boot + two.error >= two.monotonic);
        let apart = (two.wall - one.wall).abs_diff(two.monotonic - one.monotonic);
        assert!(apart <= one.error + two.error, "{one:?} {two:?}");
    }
}
