//! A plan put on an interface of this network namespace, looked at, changed, and taken away again.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    batch::{Devices, batch, is_own_root},
    congestion::set_congestion_control,
    counters::{QdiscCounters, qdisc_counters},
    plan::InterfacePlan,
    tool::{self, ShapingError},
};

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    devices: Devices,
}

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemovedParts {
    /// The shape of what leaves.
    pub egress: bool,
    /// The shape of what comes in.
    pub ingress: bool,
}

#[derive(Deserialize)]
struct Link {
    ifindex: u32,
    ifname: String,
    #[serde(default = "usual_mtu")]
    mtu: u64,
    #[serde(default)]
    addr_info: Vec<Address>,
}

fn usual_mtu() -> u64 {
    1500
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    local: Option<IpAddr>,
}

fn links() -> Result<Vec<Link>, ShapingError> {
    let line = "-j address show";
    let json = tool::run("ip", line)?;
    serde_json::from_str(&json).map_err(|error| ShapingError::Unreadable {
        program: "ip",
        line: line.into(),
        words: error.to_string(),
    })
}

/// The resolution of the timers that qdiscs wait by, in microseconds: less than one where the kernel has precise timers, a
/// tick where it has not.
fn timer_micros() -> u64 {
    // The last of four hexadecimal numbers: how many times a second a timer may fire.
    let text = std::fs::read_to_string("/proc/thread-self/net/psched").unwrap_or_default();
    let per_second = text.split_whitespace().nth(3).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    per_second.filter(|hz| *hz > 0).map_or(0, |hz| 1_000_000 / hz)
}

impl Interface {
    /// The interface of that name.
    ///
    /// # Errors
    /// When there is none; the line lists those that are.
    pub fn named(name: &str) -> Result<Self, ShapingError> {
        let links = links()?;
        links.iter().find(|link| link.ifname == name).map(Self::of).ok_or_else(|| {
            let names: Vec<&str> = links.iter().map(|link| link.ifname.as_str()).collect();
            ShapingError::Conflict(format!("there is no interface {name}; there are {}", names.join(", ")))
        })
    }

    /// The interface that has that address.
    ///
    /// # Errors
    /// When none has.
    pub fn with_address(address: IpAddr) -> Result<Self, ShapingError> {
        let links = links()?;
        let found = links.iter().find(|link| link.addr_info.iter().any(|info| info.local == Some(address)));
        found.map(Self::of).ok_or_else(|| ShapingError::Conflict(format!("no interface has the address {address}")))
    }

    /// Named by the index, since a name of an interface has at most 15 characters.
    fn of(link: &Link) -> Self {
        let Link { ifindex, ifname, mtu, .. } = link;
        let devices = Devices {
            interface: ifname.clone(),
            mtu: *mtu,
            timer_micros: timer_micros(),
            ingress: format!("apollo-in{ifindex}"),
            sink: format!("apollo-no{ifindex}"),
        };
        Self { devices }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.devices.interface
    }

    /// Counters of the qdiscs of the interface, and of those that shape what comes in.
    ///
    /// # Errors
    /// Those of `tc`.
    pub fn counters(&self) -> Result<Vec<QdiscCounters>, ShapingError> {
        let line = "-s -j qdisc show";
        let all = qdisc_counters(&tool::run("tc", line)?).map_err(|words| ShapingError::Unreadable {
            program: "tc",
            line: line.into(),
            words,
        })?;
        let Devices { interface, ingress, sink, .. } = &self.devices;
        Ok(all.into_iter().filter(|one| [interface, ingress, sink].contains(&&one.device)).collect())
    }

    /// Puts a plan on an interface, in place of an earlier one of ours.
    ///
    /// # Errors
    /// Those of `tc`, and somebody else's qdisc that would be lost. Nothing of the plan is left then.
    pub fn apply(&self, plan: &InterfacePlan) -> Result<(), ShapingError> {
        self.remove()?;
        self.refuse_foreign()?;
        let batch = batch(plan, &self.devices, None);
        let applied = tool::batch("ip", &batch.ip)
            .and_then(|()| tool::batch("tc", &batch.tc))
            .and_then(|()| set_congestion_control(self.name(), plan.congestion_control.as_deref()));
        if applied.is_err() {
            // The first error is the one to tell.
            let _ = self.remove();
        }
        applied
    }

    /// Changes the shapes of peers, and what is blocked, while traffic flows, as far as both plans say that they may; the
    /// rest of them must be the same.
    ///
    /// # Errors
    /// Those of `tc`.
    pub fn change(&self, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), ShapingError> {
        let batch = batch(after, &self.devices, Some(before));
        tool::batch("ip", &batch.ip)?;
        tool::batch("tc", &batch.tc)
    }

    fn refuse_foreign(&self) -> Result<(), ShapingError> {
        let interface = &self.devices.interface;
        // What the kernel puts there by itself has no handle.
        let foreign = self.counters()?.into_iter().find(|one| one.device == *interface && one.handle != "0:");
        let Some(QdiscCounters { kind, handle, .. }) = foreign else { return Ok(()) };
        let place = if kind == "ingress" || kind == "clsact" { kind.as_str() } else { "root" };
        Err(ShapingError::Conflict(format!(
            "{interface} has a qdisc of somebody else, {kind} {handle} take it away first (tc qdisc del dev {interface} \
             {place})"
        )))
    }

    /// Takes away what a plan of ours has made there; what is somebody else's stays.
    ///
    /// # Errors
    /// Those of `tc`.
    pub fn remove(&self) -> Result<RemovedParts, ShapingError> {
        let Devices { interface, ingress, sink, .. } = &self.devices;
        let mut removed = RemovedParts::default();
        set_congestion_control(interface, None)?;
        let counters = self.counters()?;
        let mut here = counters.iter().filter(|one| one.device == *interface);
        let has_ingress = here.clone().any(|one| one.kind == "ingress");
        if here.any(|one| one.root && is_own_root(&one.kind, &one.handle)) {
            tool::run("tc", &format!("qdisc del dev {interface} root"))?;
            removed.egress = true;
        }
        let names: Vec<String> = links()?.into_iter().map(|link| link.ifname).collect();
        if has_ingress && (names.contains(ingress) || names.contains(sink)) {
            // One whose filters lead elsewhere is somebody else's.
            let filters = tool::run("tc", &format!("filter show dev {interface} parent ffff:"))?;
            let led = |device: &str| filters.contains(&format!("device {device})"));
            if filters.trim().is_empty() || led(ingress) || led(sink) {
                tool::run("tc", &format!("qdisc del dev {interface} ingress"))?;
                removed.ingress = true;
            }
        }
        for device in [ingress, sink] {
            if names.contains(device) {
                tool::run("ip", &format!("link del {device}"))?;
            }
        }
        Ok(removed)
    }
}
