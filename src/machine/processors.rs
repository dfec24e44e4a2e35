//! Time that this process waited for a processor, and the users of the processors meanwhile.
#![allow(clippy::disallowed_methods, reason = "the machine itself is measured, by its own clock")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::unistd::{SysconfVar, sysconf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::usage;

/// Folders with the groups of the processor's quotas: of version 2, and of version 1 under its usual names.
const GROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"];
/// Maximum number of levels of groups that are read.
const DEEPEST: usize = 32;

/// Processors in a window. A field is none if the kernel does not show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessorReport {
    /// Length of the window.
    pub window_seconds: f64,
    /// Processors of the machine.
    pub processors: u64,
    /// Processor time of this process.
    pub cpu_seconds: f64,
    /// Time for which the thread of the schedule was ready to run and had no processor.
    pub schedule_waited_seconds: Option<f64>,
    /// The same for the thread of the network that waited longest.
    pub network_waited_seconds: Option<f64>,
    /// The same for the main thread: the endpoint of a node, everything of a runner.
    pub main_waited_seconds: Option<f64>,
    /// Processor time of all programs of the machine, without interrupts.
    pub machine_seconds: Option<f64>,
    /// Processor time that the hypervisor gave to other machines while this one needed it.
    pub stolen_seconds: Option<f64>,
    /// Number of times that the quota of this process's control group, or of one of its parents, stopped its threads.
    pub throttled: Option<u64>,
    /// Time for which the quota stopped them, summed over processors.
    pub throttled_seconds: Option<f64>,
}

impl ProcessorReport {
    /// Sum of two windows.
    pub(super) fn and(&self, other: &Self) -> Self {
        let sum = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
        Self {
            window_seconds: self.window_seconds + other.window_seconds,
            processors: self.processors.max(other.processors),
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            schedule_waited_seconds: sum(self.schedule_waited_seconds, other.schedule_waited_seconds),
            network_waited_seconds: sum(self.network_waited_seconds, other.network_waited_seconds),
            main_waited_seconds: sum(self.main_waited_seconds, other.main_waited_seconds),
            machine_seconds: sum(self.machine_seconds, other.machine_seconds),
            stolen_seconds: sum(self.stolen_seconds, other.stolen_seconds),
            throttled: self.throttled.zip(other.throttled).map(|(one, other)| one.saturating_add(other)),
            throttled_seconds: sum(self.throttled_seconds, other.throttled_seconds),
        }
    }
}

/// Role of a thread in the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Schedule,
    Network,
    Main,
    Other,
}

fn role(thread: u32, name: &str) -> Role {
    match name {
        "pacer" => Role::Schedule,
        "network" | "tokio-rt-worker" => Role::Network,
        _ if thread == std::process::id() => Role::Main,
        _ => Role::Other,
    }
}

/// Counters that only grow, at one moment.
#[derive(Clone, Debug)]
pub(super) struct Processors {
    at: Instant,
    cpu_seconds: f64,
    /// Role of each thread and the nanoseconds that it has waited; none if the kernel does not count them.
    waited: Option<BTreeMap<u32, (Role, u64)>>,
    /// Busy and stolen time of the machine, in ticks.
    machine: Option<(u64, u64)>,
    /// Number and microseconds of the stops, for each control group.
    throttled: Vec<(u64, u64)>,
}

impl Processors {
    /// Growth from `earlier` to this moment.
    pub(super) fn since(&self, earlier: &Self) -> ProcessorReport {
        let waits = self.waited.as_ref().zip(earlier.waited.as_ref());
        let waited = |role: Role| {
            let (now, before) = waits?;
            let of_role = now.iter().filter(|(_, (of, _))| *of == role);
            let grown = of_role.map(|(thread, (_, waited))| {
                waited.saturating_sub(before.get(thread).map_or(0, |(_, before)| *before))
            });
            grown.max().map(|nanos| nanos as f64 / 1e9)
        };
        let ticks = ticks_per_second();
        let machine = self.machine.zip(earlier.machine);
        let of_machine = |now: u64, before: u64| now.saturating_sub(before) as f64 / ticks;
        let throttled = self.throttled.iter().zip(&earlier.throttled);
        // The tightest quota of the group and its parents stops the threads.
        let throttled = throttled
            .map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1)))
            .max_by_key(|(_, micros)| *micros);
        ProcessorReport {
            window_seconds: self.at.saturating_duration_since(earlier.at).as_secs_f64(),
            processors: processors(),
            cpu_seconds: (self.cpu_seconds - earlier.cpu_seconds).max(0.0),
            schedule_waited_seconds: waited(Role::Schedule),
            network_waited_seconds: waited(Role::Network),
            main_waited_seconds: waited(Role::Main),
            machine_seconds: machine.map(|(now, before)| of_machine(now.0, before.0)),
            stolen_seconds: machine.map(|(now, before)| of_machine(now.1, before.1)),
            throttled: throttled.map(|(times, _)| times),
            throttled_seconds: throttled.map(|(_, micros)| micros as f64 / 1e6),
        }
    }
}

/// Files that are read for each sample.
#[derive(Debug)]
pub(super) struct Sources {
    /// `cpu.stat` of this process's control group and of all its parents.
    groups: Vec<PathBuf>,
}

impl Sources {
    pub(super) fn find() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let files = group_paths(&text).into_iter().flat_map(|path| {
            GROUPS.iter().map(move |root| Path::new(root).join(path.trim_start_matches('/')).join("cpu.stat"))
        });
        let mut groups: Vec<PathBuf> = files.filter(|file| throttling(file).is_some()).collect();
        groups.sort();
        groups.dedup();
        Self { groups }
    }

    pub(super) fn read(&self) -> Processors {
        Processors {
            at: Instant::now(),
            cpu_seconds: usage().cpu_seconds,
            waited: waits(),
            machine: fs::read_to_string("/proc/stat").ok().as_deref().and_then(busy_and_stolen),
            throttled: self.groups.iter().map(|file| throttling(file).unwrap_or_default()).collect(),
        }
    }
}

/// Groups of a process that may have a quota, and all their parents, from the text of `/proc/self/cgroup`.
fn group_paths(text: &str) -> Vec<String> {
    let mut paths = vec![];
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        if controllers.is_empty() || controllers.split(',').any(|controller| controller == "cpu") {
            paths.extend(Path::new(path).ancestors().take(DEEPEST).map(|path| path.display().to_string()));
        }
    }
    paths
}

/// (number, microseconds) from a group's `cpu.stat`.
fn throttling(file: &Path) -> Option<(u64, u64)> {
    parse_throttling(&fs::read_to_string(file).ok()?)
}

fn parse_throttling(text: &str) -> Option<(u64, u64)> {
    let value = |wanted: &str| -> Option<u64> {
        text.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == wanted)?.1.trim().parse().ok())
    };
    // Version 1 counts nanoseconds.
    let micros = value("throttled_usec").or_else(|| Some(value("throttled_time")? / 1000))?;
    Some((value("nr_throttled")?, micros))
}

/// (ticks of programs, ticks stolen) from the text of `/proc/stat`.
fn busy_and_stolen(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; user and nice include guests.
    match ticks.as_slice() {
        [user, nice, system, _, _, _, _, stolen, ..] => {
            Some((user.saturating_add(*nice).saturating_add(*system), *stolen))
        }
        _ => None,
    }
}

fn waits() -> Option<BTreeMap<u32, (Role, u64)>> {
    let mut waits = BTreeMap::new();
    let mut counted = false;
    for entry in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A thread may end meanwhile.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        let mut numbers = text.split_whitespace().map_while(|number| number.parse::<u64>().ok());
        let (Some(ran), Some(waited)) = (numbers.next(), numbers.next()) else { continue };
        counted |= ran > 0;
        waits.insert(thread, (role(thread, name.trim()), waited));
    }
    // A kernel that does not count shows zeros.
    counted.then_some(waits)
}

/// Processors of the machine, even if this process may use only a share of them.
fn processors() -> u64 {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|online| u64::try_from(online).ok()).unwrap_or(1).max(1)
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().filter(|ticks| *ticks > 0).unwrap_or(100) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_a_quota_are_found_with_all_above_them_in_both_versions() {
        assert_eq!(group_paths("0::/a/b\n"), ["/a/b", "/a", "/"]);
        assert_eq!(group_paths("9:name=systemd:/x\n4:memory:/m\n1:cpu,cpuacct:/q\n"), ["/q", "/"]);
        assert!(group_paths("nonsense").is_empty());
    }

    #[test]
    fn throttling_is_read_in_both_versions() {
        let new = "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1500\n";
        assert_eq!(parse_throttling(new), Some((3, 1500)));
        assert_eq!(parse_throttling("nr_periods 9\nnr_throttled 3\nthrottled_time 1500000\n"), Some((3, 1500)));
        assert_eq!(parse_throttling("usage_usec 5\n"), None);
    }

    #[test]
    fn the_time_of_programs_and_stolen_time_are_found_by_column() {
        assert_eq!(busy_and_stolen("cpu  1 2 4 100 100 100 100 8 0 0\ncpu0 9\n"), Some((7, 8)));
        assert_eq!(busy_and_stolen("cpu 1 2"), None);
    }

    #[test]
    fn waits_are_those_of_the_thread_that_waited_most_since_the_window_opened() {
        let at = Instant::now();
        let moment = |threads: &[(u32, Role, u64)], machine, throttled| Processors {
            at,
            cpu_seconds: 0.0,
            waited: Some(threads.iter().map(|(thread, role, waited)| (*thread, (*role, *waited))).collect()),
            machine: Some(machine),
            throttled,
        };
        let before = moment(&[(1, Role::Network, 5_000_000_000)], (100, 0), vec![(5, 0), (1, 1)]);
        let threads =
            [(1, Role::Network, 6_000_000_000), (2, Role::Network, 3_000_000_000), (3, Role::Schedule, 500_000_000)];
        let seen = moment(&threads, (300, 100), vec![(5, 0), (4, 2_000_001)]).since(&before);
        assert_eq!((seen.network_waited_seconds, seen.schedule_waited_seconds), (Some(3.0), Some(0.5)));
        assert_eq!(seen.main_waited_seconds, None);
        assert_eq!((seen.throttled, seen.throttled_seconds), (Some(3), Some(2.0)));
        let ticks = ticks_per_second();
        assert_eq!((seen.machine_seconds, seen.stolen_seconds), (Some(200.0 / ticks), Some(100.0 / ticks)));
        assert_eq!(seen.and(&seen).network_waited_seconds, Some(6.0));
    }

    #[test]
    fn this_process_is_seen() {
        let sources = Sources::find();
        let before = sources.read();
        while usage().cpu_seconds - before.cpu_seconds < 0.05 {
            std::hint::spin_loop();
        }
        let seen = sources.read().since(&before);
        assert!(seen.window_seconds > 0.0 && seen.cpu_seconds > 0.0 && seen.processors > 0);
        assert!(seen.machine_seconds.is_some() && seen.stolen_seconds.is_some());
    }
}
