//! Network namespaces: one for each node, and one for the bridge that joins them.
//!
//! A namespace belongs to a thread of this process, has no name, and contains nothing of the host. It ends after the
//! thread and the node in it have ended in any way, and its interfaces and qdiscs end with it. The thread does all work
//! inside of the namespace. Without root, the process first enters a user namespace, in which it has the rights for all
//! of this.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Stdio,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Gid, Pid, Uid, gettid},
};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

use super::{
    capabilities::Capabilities,
    process::{self, Place},
};
use crate::shaping::{Interface, InterfacePlan, QdiscCounters, ShapingError, ip_batch};

/// Capabilities of processes in namespaces of their own.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    delays: true,
    rates: true,
    link_faults: true,
    congestion_control: true,
    ipv6: true,
    ..process::CAPABILITIES
};

/// Name of a node's interface in its namespace.
const INTERFACE: &str = "eth0";

/// First addresses of the namespaces, which nothing outside of them sees.
const V4: u32 = u32::from_be_bytes([10, 77, 0, 0]);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0);

/// Stack size of a thread that waits and starts programs, in bytes.
const STACK: usize = 512 << 10;

/// Addresses of a node, IPv4 and IPv6.
pub(crate) fn addresses(id: u64) -> [IpAddr; 2] {
    let host = u32::try_from(id + 1).unwrap_or(u32::MAX);
    let v6 = Ipv6Addr::from_bits(V6.to_bits() + u128::from(host));
    [Ipv4Addr::from_bits(V4.saturating_add(host)).into(), v6.into()]
}

/// Hardware address of a node's interface on the bridge: fixed, so that all nodes can know it beforehand.
fn link_address(id: u64) -> String {
    let [.., b, c, d] = u32::try_from(id + 1).unwrap_or(u32::MAX).to_be_bytes();
    format!("02:61:70:{b:02x}:{c:02x}:{d:02x}")
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace and its thread.
pub(crate) struct Namespace {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

fn live(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        job();
    }
}

impl Namespace {
    /// Makes an empty namespace.
    pub(crate) fn new() -> Result<Self, String> {
        // One job at a time, because the sender of a job waits for its end.
        let (jobs, received) = sync_channel::<Job>(1);
        let (ready, is_ready) = sync_channel(1);
        let body = move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid());
            let failed = entered.is_err();
            // The other end waits for it.
            let _ = ready.send(entered);
            if !failed {
                live(&received);
            }
        };
        let thread = std::thread::Builder::new().name("namespace".into()).stack_size(STACK).spawn(body);
        let thread = thread.map_err(|error| format!("a thread for a namespace: {error}"))?;
        let entered = is_ready.recv().map_err(|_| "the thread of a namespace has ended".to_owned())?;
        let tid = entered.map_err(|error| {
            restricted_by_apparmor().unwrap_or_else(|| {
                format!("network namespaces can't be made ({error}): run as root, or in a container with SYS_ADMIN")
            })
        })?;
        let path = format!("/proc/{}/task/{tid}/ns/net", Pid::this());
        Ok(Self { jobs: Some(jobs), thread: Some(thread), path })
    }

    /// Runs a job in the namespace, and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let (done, is_done) = sync_channel(1);
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        let gone = || "the thread of a namespace has ended".to_owned();
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        is_done.recv().map_err(|_| gone())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Namespaces of a run.
pub(crate) struct Network {
    nodes: Vec<Namespace>,
    /// Keeps the bridge alive; not used otherwise.
    _bridge: Namespace,
}

impl Network {
    /// Makes one namespace for each plan, shaped by it, all on one bridge.
    pub(crate) fn new(plans: &[InterfacePlan]) -> Result<Self, String> {
        // Otherwise the first IFB device loads the module with two more devices, which stay on the host.
        if plans.iter().any(|plan| !plan.is_unshaped()) {
            let _ = std::process::Command::new("modprobe")
                .args(["--quiet", "ifb", "numifbs=0"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        let nodes: Vec<Namespace> = plans.iter().map(|_| Namespace::new()).collect::<Result<_, _>>()?;
        let bridge = Namespace::new()?;
        let mut lines = vec!["link add br0 type bridge".to_owned(), "link set br0 up".to_owned()];
        for (id, node) in nodes.iter().enumerate() {
            let address = link_address(id as u64);
            lines.push(format!("link add v{id} type veth peer name {INTERFACE} address {address} netns {}", node.path));
            lines.push(format!("link set v{id} master br0 up"));
        }
        let refusal = |error: ShapingError| match error {
            ShapingError::NotPermitted { .. } => restricted_by_apparmor().unwrap_or_else(|| error.to_string()),
            error => error.to_string(),
        };
        bridge.run(move || ip_batch(&lines))?.map_err(refusal)?;
        for (id, (node, plan)) in nodes.iter().zip(plans).enumerate() {
            let [v4, v6] = addresses(id as u64);
            let plan = plan.clone();
            // Nodes need no lookup of neighbours: the kernel's table is small and shared by the whole host, and a
            // lookup would cross the shaped links.
            let others = (0..nodes.len() as u64).filter(|other| *other != id as u64);
            let neighbours = |family: usize| -> Vec<String> {
                let line = |other: u64| {
                    let (ip, link) = (addresses(other)[family], link_address(other));
                    format!("neigh add {ip} lladdr {link} dev {INTERFACE} nud permanent")
                };
                others.clone().map(line).collect()
            };
            let (v4_neighbours, v6_neighbours) = (neighbours(0), neighbours(1));
            let set_up = move || -> Result<(), ShapingError> {
                ip_batch(&[
                    "link set lo up".to_owned(),
                    format!("address add {v4}/16 dev {INTERFACE}"),
                    format!("link set {INTERFACE} up"),
                ])?;
                ip_batch(&v4_neighbours)?;
                // A kernel without IPv6 does not need the address; a run that requests IPv6 gets the error from the
                // node.
                let v6 = format!("address add {v6}/64 dev {INTERFACE} nodad");
                let _ = ip_batch(&[v6]).and_then(|()| ip_batch(&v6_neighbours));
                if plan.is_unshaped() { Ok(()) } else { Interface::named(INTERFACE)?.apply(&plan) }
            };
            node.run(set_up)?.map_err(refusal)?;
        }
        Ok(Self { nodes, _bridge: bridge })
    }

    /// Namespace of a node.
    fn node(&self, id: u64) -> Result<&Namespace, String> {
        let namespace = usize::try_from(id).ok().and_then(|at| self.nodes.get(at));
        namespace.ok_or_else(|| format!("node {id} has no namespace"))
    }
}

impl Place for Network {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn hands_endpoints(&self) -> bool {
        true
    }

    fn spawn(&self, id: u64, mut command: Command) -> Result<io::Result<Child>, String> {
        let runtime = Handle::current();
        let spawn = move || {
            let _entered = runtime.enter();
            command.spawn()
        };
        self.node(id)?.run(spawn)
    }

    fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        let counters = || Interface::named(INTERFACE)?.counters();
        self.node(id)?.run(counters)?.map_err(|error| format!("node {id}: {error}"))
    }

    fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        let (before, after) = (before.clone(), after.clone());
        let change = move || Interface::named(INTERFACE)?.change(&before, &after);
        self.node(id)?.run(change)?.map_err(|error| format!("node {id}: {error}"))
    }
}

/// Enters a user namespace in which this user is root, unless it is root already. Possible only before a second thread
/// exists.
pub(crate) fn become_root() -> Result<(), String> {
    let (user, group) = (Uid::effective(), Gid::effective());
    if user.is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| {
        refused_by_apparmor(&switch()).unwrap_or_else(|| {
            format!(
                "network namespaces take root, or a kernel that lets users make user namespaces ({error}): run as root, or \
                 see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone"
            )
        })
    })?;
    let map = || -> io::Result<()> {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))
    };
    map().map_err(|error| {
        let refused = refused_by_apparmor(&switch()).filter(|_| error.kind() == io::ErrorKind::PermissionDenied);
        refused.unwrap_or_else(|| format!("the user namespace can't be set up: {error}"))
    })
}

/// State of the restriction by Ubuntu's AppArmor; empty if it does not exist.
fn switch() -> String {
    fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or_default()
}

/// Reason and fix, if AppArmor takes every capability from a program in a user namespace. The namespace itself can be
/// made, so the refusal comes later, as one of a map, of a network namespace or of `ip`.
fn refused_by_apparmor(switch: &str) -> Option<String> {
    (switch.trim() == "1").then(|| {
        "AppArmor keeps users without root from using user namespaces here (kernel.apparmor_restrict_unprivileged_userns \
         is 1, as on Ubuntu 24.04): run as root, or allow it with 'sudo sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0'"
            .into()
    })
}

/// The same, for this process in the user namespace that it has entered; root's own is not restricted.
fn restricted_by_apparmor() -> Option<String> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let users = map.split_whitespace().nth(2);
    refused_by_apparmor(&switch()).filter(|_| users == Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_apparmor_names_its_switch_and_the_fix_in_one_line() {
        let line = refused_by_apparmor("1\n").unwrap();
        assert!(line.contains("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert_eq!(refused_by_apparmor("0\n").or(refused_by_apparmor("")), None);
    }
}
