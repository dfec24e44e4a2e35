//! What the process and its network namespace use, read from the kernel.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::Metrics;

/// What the process has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// Highest resident memory, in bytes.
    pub peak_memory_bytes: u64,
}

/// The usage of this process up to now.
pub fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Usage::default() };
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Usage {
        cpu_seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_memory_bytes: peak_memory_bytes(),
    }
}

/// From the process's status: ru_maxrss would count what the parent had when it started this process.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Refreshes the `system_*` metrics; call it at a steady pace.
pub struct SystemSampler {
    metrics: Metrics,
    /// None where the kernel does not show it; its metrics then stay 0.
    system: Option<System>,
    pid: Pid,
    last: Instant,
}

impl SystemSampler {
    /// A sampler that writes into `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, system: System::new().ok(), pid: Pid::from_u32(std::process::id()), last: Instant::now() }
    }

    /// Takes one sample.
    pub fn sample(&mut self) {
        self.sample_process();
        self.sample_interfaces();
        self.sample_tcp();
    }

    fn sample_process(&mut self) {
        let metrics = &self.metrics;
        let usage = usage();
        let spent = (usage.cpu_seconds - metrics.system_process_cpu_seconds_total.get()).max(0.0);
        let elapsed = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        metrics.system_process_cpu_seconds_total.inc_by(spent);
        if elapsed > 0.0 {
            metrics.system_process_cpu_usage_percent.set(100.0 * spent / elapsed);
        }
        metrics.system_process_peak_memory_bytes.set(usage.peak_memory_bytes.cast_signed());
        let which = ProcessRefreshKind::nothing().with_memory();
        let Some(system) = &mut self.system else { return };
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), false, which);
        if let Some(process) = system.process(self.pid) {
            metrics.system_process_memory_usage_bytes.set(process.memory().cast_signed());
        }
    }

    fn sample_interfaces(&mut self) {
        // Of this network namespace; what /sys shows is that of whoever mounted it.
        let Ok(text) = std::fs::read_to_string("/proc/net/dev") else { return };
        for (kind, loopback) in [("loopback", true), ("other", false)] {
            let of_kind = || interface_bytes(&text).filter(|(name, ..)| (*name == "lo") == loopback);
            let received: u64 = of_kind().map(|(_, received, _)| received).sum();
            let sent: u64 = of_kind().map(|(_, _, sent)| sent).sum();
            raise(&self.metrics.system_network_bytes_sent_total.of(kind), sent);
            raise(&self.metrics.system_network_bytes_received_total.of(kind), received);
        }
    }

    fn sample_tcp(&mut self) {
        // Per network namespace: on a host shared with others these are everybody's segments.
        let Some((sent, again)) = std::fs::read_to_string("/proc/net/snmp").ok().as_deref().and_then(tcp_segments)
        else {
            return;
        };
        let metrics = &self.metrics;
        let sent_before = metrics.system_tcp_segments_sent_total.get();
        let sent_now = raise(&metrics.system_tcp_segments_sent_total, sent + again);
        let again_now = raise(&metrics.system_tcp_segments_retransmitted_total, again);
        // The first sample holds all since the machine started, which is no rate.
        if sent_before > 0 {
            let rate = if sent_now == 0 { 0.0 } else { 100.0 * again_now as f64 / sent_now as f64 };
            metrics.system_tcp_retransmit_rate_percent.set(rate);
        }
    }
}

/// Brings a counter up to a total that the kernel counts, and says by how much it grew.
fn raise(counter: &prometheus::IntCounter, total: u64) -> u64 {
    let growth = total.saturating_sub(counter.get());
    counter.inc_by(growth);
    growth
}

/// (interface, bytes received, bytes sent) of each line of `/proc/net/dev`.
fn interface_bytes(dev: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    dev.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace();
        Some((name.trim(), numbers.next()?.parse().ok()?, numbers.nth(7)?.parse().ok()?))
    })
}

/// (segments sent without retransmitted ones, segments retransmitted) out of the text of `/proc/net/snmp`.
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
}
