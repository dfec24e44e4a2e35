//! Resource usage of the process and its network namespace, read from the kernel.
#![allow(clippy::disallowed_methods, reason = "the use of the machine is measured, by its own clock")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nix::{
    sys::resource::{UsageWho, getrusage},
    unistd::{SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::Metrics;
use crate::environment::{Environment, memory_bytes, memory_share_in_use};

/// Resource usage of the process since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// Highest resident memory, in bytes.
    pub peak_memory_bytes: u64,
}

/// Resource usage of this process up to now.
pub fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Usage::default() };
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Usage {
        cpu_seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_memory_bytes: peak_memory_bytes(),
    }
}

/// From the status of the process, because ru_maxrss would include the parent's memory at the start of this process.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Minimum interval for a share of processor time: the kernel adds that time up in ticks of up to 10 ms.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

/// Refreshes the `system_*` metrics; call it at a steady pace.
pub struct SystemSampler {
    metrics: Metrics,
    /// None if the kernel does not show it; its metrics then stay 0.
    system: Option<System>,
    pid: Pid,
    processors: f64,
    /// Begin of the interval for the share of processor time, and the processor time until then.
    interval: (Instant, f64),
    /// Time of all processors in the last sample.
    ticks: Option<Ticks>,
    /// Bytes received and sent by each interface in the last sample.
    interfaces: BTreeMap<String, (Grown, Grown)>,
    segments_sent: Grown,
    segments_retransmitted: Grown,
}

impl SystemSampler {
    /// Makes a sampler that writes into `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        let limits = [memory_bytes(), Environment::of_this_process().cgroup_memory_bytes];
        metrics.system_memory_limit_bytes.set(limits.into_iter().flatten().min().unwrap_or_default().cast_signed());
        Self {
            metrics,
            system: System::new().ok(),
            pid: Pid::from_u32(std::process::id()),
            processors: processors(),
            interval: (Instant::now(), usage().cpu_seconds),
            ticks: None,
            interfaces: BTreeMap::new(),
            segments_sent: Grown::default(),
            segments_retransmitted: Grown::default(),
        }
    }

    /// Takes one sample.
    pub fn sample(&mut self) {
        self.sample_process();
        self.sample_machine();
        self.sample_interfaces();
        self.sample_tcp();
    }

    fn sample_process(&mut self) {
        let metrics = &self.metrics;
        let usage = usage();
        let spent = (usage.cpu_seconds - metrics.system_process_cpu_seconds_total.get()).max(0.0);
        metrics.system_process_cpu_seconds_total.inc_by(spent);
        let (since, before) = self.interval;
        let elapsed = since.elapsed();
        if elapsed >= SHORTEST_INTERVAL {
            let percent = percent_of_processor(usage.cpu_seconds - before, elapsed, self.processors);
            metrics.system_process_cpu_usage_percent.set(percent);
            self.interval = (Instant::now(), usage.cpu_seconds);
        }
        metrics.system_process_peak_memory_bytes.set(usage.peak_memory_bytes.cast_signed());
        let which = ProcessRefreshKind::nothing().with_memory();
        let Some(system) = &mut self.system else { return };
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), false, which);
        if let Some(process) = system.process(self.pid) {
            metrics.system_process_memory_usage_bytes.set(process.memory().cast_signed());
        }
    }

    fn sample_machine(&mut self) {
        if let Some(share) = memory_share_in_use() {
            self.metrics.system_machine_memory_usage_ratio.set(share);
        }
        let Some(now) = std::fs::read_to_string("/proc/stat").ok().as_deref().and_then(ticks) else { return };
        if let Some(before) = self.ticks.replace(now) {
            self.metrics.system_machine_cpu_usage_ratio.set(now.busy_since(before));
        }
    }

    fn sample_interfaces(&mut self) {
        // Counts of this network namespace; /sys shows the namespace of the process that mounted it.
        let Ok(text) = std::fs::read_to_string("/proc/net/dev") else { return };
        self.count_interfaces(&text);
    }

    fn count_interfaces(&mut self, text: &str) {
        let mut before = std::mem::take(&mut self.interfaces);
        for (name, received, sent) in interface_bytes(text) {
            let kind = if name == "lo" { "loopback" } else { "other" };
            let (mut last_received, mut last_sent) = before.remove(name).unwrap_or_default();
            self.metrics.system_network_bytes_received_total.of(kind).inc_by(last_received.by(received));
            self.metrics.system_network_bytes_sent_total.of(kind).inc_by(last_sent.by(sent));
            self.interfaces.insert(name.to_owned(), (last_received, last_sent));
        }
    }

    fn sample_tcp(&mut self) {
        // Counts of the network namespace: on a host shared with other programs they include everybody's segments.
        if let Some((sent, again)) = std::fs::read_to_string("/proc/net/snmp").ok().as_deref().and_then(tcp_segments) {
            self.count_segments(sent.saturating_add(again), again);
        }
    }

    fn count_segments(&mut self, sent: u64, again: u64) {
        let metrics = &self.metrics;
        // The first sample counts from the start of the machine, which gives no rate.
        let first = self.segments_sent.is_new();
        let (sent, again) = (self.segments_sent.by(sent), self.segments_retransmitted.by(again));
        metrics.system_tcp_segments_sent_total.inc_by(sent);
        metrics.system_tcp_segments_retransmitted_total.inc_by(again);
        if !first {
            let rate = if sent == 0 { 0.0 } else { (100.0 * again as f64 / sent as f64).min(100.0) };
            metrics.system_tcp_retransmit_rate_percent.set(rate);
        }
    }
}

/// Time of all processors of the machine, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { (self.busy.saturating_sub(before.busy) as f64 / all as f64).min(1.0) }
    }
}

/// First line of /proc/stat: user, nice, system, idle, waiting for a disk, interrupts, soft interrupts, stolen. The time
/// of guests that follows is in that of users.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let all = times.iter().copied().fold(0, u64::saturating_add);
    let idle = times.get(3)?.saturating_add(*times.get(4)?);
    Some(Ticks { busy: all.saturating_sub(idle), all })
}

/// Percent of one processor, limited to the number of processors.
fn percent_of_processor(cpu_seconds: f64, elapsed: Duration, processors: f64) -> f64 {
    (100.0 * cpu_seconds / elapsed.as_secs_f64()).clamp(0.0, 100.0 * processors)
}

/// Number of processors: a quota is a mean, and may be exceeded for a moment.
fn processors() -> f64 {
    sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().map_or(1.0, |online| online.max(1) as f64)
}

/// Last value of a total that the kernel counts.
#[derive(Clone, Copy, Debug, Default)]
struct Grown(Option<u64>);

impl Grown {
    fn is_new(self) -> bool {
        self.0.is_none()
    }

    /// Growth to `total`: a total below the last one restarted at 0.
    fn by(&mut self, total: u64) -> u64 {
        let before = self.0.replace(total).unwrap_or_default();
        total.checked_sub(before).unwrap_or(total)
    }
}

/// (interface, bytes received, bytes sent) from each line of `/proc/net/dev`.
fn interface_bytes(dev: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    dev.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace();
        Some((name.trim(), numbers.next()?.parse().ok()?, numbers.nth(7)?.parse().ok()?))
    })
}

/// (segments sent without retransmitted ones, segments retransmitted) from the text of `/proc/net/snmp`.
fn tcp_segments(snmp: &str) -> Option<(u64, u64)> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted)?;
        values.split_whitespace().nth(at)?.parse().ok()
    };
    Some((value("OutSegs")?, value("RetransSegs")?))
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn segments_are_found_by_name() {
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoMin InSegs OutSegs RetransSegs\nTcp: 200 5 70 3\nUdp: A\nUdp: 1\n";
        assert_eq!(tcp_segments(snmp), Some((70, 3)));
        assert_eq!(tcp_segments("Tcp: OutSegs\n"), None);
        assert_eq!(tcp_segments(""), None);
    }

    #[test]
    fn bytes_of_interfaces_are_found_by_column() {
        let dev = "Inter-|   Receive\n face |bytes packets\n    lo: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n  eth0:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n";
        assert_eq!(interface_bytes(dev).collect::<Vec<_>>(), [("lo", 10, 20), ("eth0", 7, 8)]);
    }

    #[test]
    fn a_sample_shows_this_process() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut sampler = SystemSampler::new(metrics.clone());
        let started = Instant::now();
        while usage().cpu_seconds == 0.0 && started.elapsed().as_secs() < 10 {
            std::hint::spin_loop();
        }
        sampler.sample();
        assert!(metrics.system_process_cpu_seconds_total.get() > 0.0);
        assert!(metrics.system_process_memory_usage_bytes.get() > 1 << 20);
        assert!(metrics.system_process_peak_memory_bytes.get() > 1 << 20);
    }

    #[test]
    fn the_share_of_the_processors_is_never_more_than_there_are_from_the_first_sample_on() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        // The processor time that this process has used so far comes before the sampler.
        while usage().cpu_seconds < 0.1 {
            std::hint::spin_loop();
        }
        let mut sampler = SystemSampler::new(metrics.clone());
        let begun = Instant::now();
        while begun.elapsed() < 2 * SHORTEST_INTERVAL {
            sampler.sample();
            let percent = metrics.system_process_cpu_usage_percent.get();
            assert!((0.0..=100.0 * processors()).contains(&percent), "{percent}");
        }
        assert!(metrics.system_process_cpu_usage_percent.get() > 0.0);
        assert_eq!(percent_of_processor(37.26, Duration::from_secs(2), 2.0), 200.0);
        assert_eq!(percent_of_processor(0.5, Duration::from_secs(2), 2.0), 25.0);
    }

    #[test]
    fn the_share_of_the_machine_is_the_busy_part_of_an_interval() {
        let at = |text: &str| ticks(text).unwrap();
        let (before, now) = (at("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1"), at("cpu  30 0 20 130 20 0 0 0 9 0\n"));
        assert_eq!(before, Ticks { busy: 20, all: 100 });
        assert_eq!(now.busy_since(before), 0.3);
        assert_eq!(now.busy_since(now), 0.0);
        assert_eq!(ticks("intr 5"), None);
    }

    #[test]
    fn counters_of_the_kernel_that_begin_again_or_go_are_added_up() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut sampler = SystemSampler::new(metrics.clone());
        let line = |name: &str, received: u64| format!("{name}: {received} 1 0 0 0 0 0 0 {received} 1 0 0 0 0 0 0\n");
        let received = || metrics.system_network_bytes_received_total.of("other").get();
        for (text, total) in [
            (line("a", 100) + &line("b", 1000), 1100),
            (line("a", 150), 1150),
            (line("a", 30) + &line("lo", 7), 1180),
            (line("a", 40) + &line("b", 5), 1195),
        ] {
            sampler.count_interfaces(&text);
            assert_eq!(received(), total, "{text}");
        }
    }

    #[test]
    fn the_rate_of_retransmissions_is_of_an_interval_and_at_most_all() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut sampler = SystemSampler::new(metrics.clone());
        let rate = || metrics.system_tcp_retransmit_rate_percent.get();
        for (sent, again, percent) in [(1000, 900, 0.0), (1100, 910, 10.0), (1100, 910, 0.0), (5, 5, 100.0)] {
            sampler.count_segments(sent, again);
            assert_eq!(rate(), percent);
        }
        assert_eq!(metrics.system_tcp_segments_sent_total.get(), 1105);
    }
}
