//! The machine that a program runs on, as far as it decides the numbers of a benchmark.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    path::Path,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket, sockopt::TcpCongestion,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Port to which a connection is attempted, to see the congestion control that the kernel would use: `discard`, on
/// which nothing listens.
const DISCARD: u16 = 9;

/// Bytes from which on a limit of cgroup v1 means no limit: the kernel uses its largest number of pages for that.
const NO_LIMIT: u64 = 1 << 62;

/// Environment of a process. A field is none if it is unknown or does not exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Environment {
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Model of the processors.
    pub processor: Option<String>,
    /// Processors that this process may use.
    pub processors: usize,
    /// The first processor's frequency governor.
    pub governor: Option<String>,
    /// Processors' worth of time that the cgroup or one of its parents allows; none without a limit.
    pub cgroup_processors: Option<f64>,
    /// Bytes of memory that the cgroup or one of its parents allows; none without a limit.
    pub cgroup_memory_bytes: Option<u64>,
    /// Congestion control of TCP.
    pub congestion_control: Option<String>,
    /// Queue discipline of an interface that is given none.
    pub default_qdisc: Option<String>,
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

impl Environment {
    /// Environment of this process; the congestion control is the default of its network namespace.
    pub fn of_this_process() -> Self {
        let processor = read("/proc/cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let (cgroup_processors, cgroup_memory_bytes) = cgroup_limits();
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            processor,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            cgroup_processors,
            cgroup_memory_bytes,
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            default_qdisc: read("/proc/sys/net/core/default_qdisc"),
        }
    }
}

/// Congestion controls that this kernel has loaded.
pub fn congestion_controls() -> Vec<String> {
    let text = read("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Congestion control of TCP connections to `peer`, as a socket on the same route has it: a route may have one of its
/// own. The connection is attempted to the port `discard` and dropped at once.
pub fn congestion_control_to(peer: IpAddr) -> Option<String> {
    let family = if peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).ok()?;
    // Refused, or in progress: the kernel has chosen by then.
    let _ = connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(peer, DISCARD)));
    let name = getsockopt(&socket, TcpCongestion).ok()?.into_string().ok()?;
    Some(name.trim_end_matches('\0').to_owned()).filter(|name| !name.is_empty())
}

/// Smallest limits of this process's cgroups and their parents: processors, bytes of memory.
fn cgroup_limits() -> (Option<f64>, Option<u64>) {
    let (mut processors, mut memory): (Vec<f64>, Vec<u64>) = (vec![], vec![]);
    for line in read("/proc/self/cgroup").unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        for root in roots(controllers) {
            let folder = Path::new(&root).join(path.trim_start_matches('/'));
            for folder in folder.ancestors().take_while(|folder| folder.starts_with(&root)) {
                processors.extend(processors_of(folder));
                let limits = ["memory.max", "memory.limit_in_bytes"].map(|file| read(folder.join(file)));
                memory.extend(limits.into_iter().flatten().filter_map(|text| text.parse::<u64>().ok()));
            }
        }
    }
    (processors.into_iter().reduce(f64::min), memory.into_iter().filter(|bytes| *bytes < NO_LIMIT).min())
}

/// Mount points of the hierarchy of these controllers; cgroup v2 names no controllers in `/proc/self/cgroup`.
fn roots(controllers: &str) -> Vec<String> {
    if controllers.is_empty() {
        return vec!["/sys/fs/cgroup".into(), "/sys/fs/cgroup/unified".into()];
    }
    let names = std::iter::once(controllers).chain(controllers.split(','));
    names.map(|name| format!("/sys/fs/cgroup/{name}")).collect()
}

fn processors_of(folder: &Path) -> Option<f64> {
    let (quota, period) = match read(folder.join("cpu.max")) {
        Some(both) => both.split_once(' ').map(|(quota, period)| (quota.to_owned(), period.to_owned()))?,
        None => (read(folder.join("cpu.cfs_quota_us"))?, read(folder.join("cpu.cfs_period_us"))?),
    };
    // `max`, or -1 in cgroup v1, is no limit.
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Memory of this machine, in bytes, if the kernel reports it.
pub fn memory_bytes() -> Option<u64> {
    memory_line(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// Share of this machine's memory that is in use and can't be freed, 0 to 1.
pub fn memory_share_in_use() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let (all, available) = (memory_line(&text, "MemTotal:")?, memory_line(&text, "MemAvailable:")?);
    (all > 0).then(|| all.saturating_sub(available) as f64 / all as f64)
}

fn memory_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_one_of_the_kernels_congestion_controls() {
        let known = congestion_controls();
        let found = congestion_control_to("127.0.0.1".parse().unwrap()).unwrap();
        assert!(known.contains(&found), "{found} is none of {known:?}");
        assert_eq!(Environment::of_this_process().congestion_control, Some(found));
    }

    #[test]
    fn a_limit_of_either_cgroup_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let limit = || processors_of(folder.path());
        assert_eq!(limit(), None);
        fs::write(folder.path().join("cpu.cfs_quota_us"), "-1\n").unwrap();
        fs::write(folder.path().join("cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(limit(), None);
        fs::write(folder.path().join("cpu.cfs_quota_us"), "12000\n").unwrap();
        assert_eq!(limit(), Some(0.12));
        fs::write(folder.path().join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(limit(), None);
        fs::write(folder.path().join("cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(limit(), Some(1.5));
    }
}
