//! Applying, reading, changing and removing a plan on an interface of this network namespace.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    batch::{Devices, batch},
    congestion::set_congestion_control,
    counters::{Qdisc, QdiscCounters, qdisc_counters, qdiscs},
    handles::is_own_root,
    plan::InterfacePlan,
    tool::{self, ShapingError},
};

/// Beginning of the names of the IFB devices; the interface's index follows.
const INGRESS: &str = "apollo-in";
const SINK: &str = "apollo-no";

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    devices: Devices,
}

/// Removed parts of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemovedParts {
    /// Shape of outgoing traffic.
    pub egress: bool,
    /// Shape of incoming traffic.
    pub ingress: bool,
    /// Devices whose interface no longer exists.
    pub leftovers: Vec<String>,
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

/// Output of one interface alone: `tc` may print unreadable lines for others, which do not matter here.
fn qdiscs_of(interface: &str) -> Result<Vec<Qdisc>, ShapingError> {
    tool::run("tc", &format!("qdisc show dev {interface}")).map(|text| qdiscs(&text))
}

fn counters_of(interface: &str) -> Result<Vec<QdiscCounters>, ShapingError> {
    let line = format!("-s -j qdisc show dev {interface}");
    let json = tool::run("tc", &line)?;
    let mut counters =
        qdisc_counters(&json).map_err(|words| ShapingError::Unreadable { program: "tc", line: line.clone(), words })?;
    for one in &mut counters {
        // Some versions leave the name out if one interface is requested.
        one.device = interface.to_owned();
    }
    if counters.iter().any(QdiscCounters::limits_a_rate) {
        // Read as text, because only the latest versions print JSON.
        let classes = tool::run("tc", &format!("class show dev {interface}"))?;
        counters.iter_mut().filter(|one| one.limits_a_rate()).for_each(|one| one.add_class(&classes));
    }
    Ok(counters)
}

/// Removes our devices whose interface no longer exists, with all shaping on them; returns their names.
///
/// # Errors
/// Errors of `ip`.
pub(crate) fn remove_leftovers() -> Result<Vec<String>, ShapingError> {
    let links = links()?;
    let is_left = |name: &&str| {
        let index = name.strip_prefix(INGRESS).or_else(|| name.strip_prefix(SINK));
        let index = index.and_then(|index| index.parse::<u32>().ok());
        index.is_some_and(|index| links.iter().all(|link| link.ifindex != index))
    };
    let mut removed = vec![];
    for name in links.iter().map(|link| link.ifname.as_str()).filter(is_left) {
        match tool::run("ip", &format!("link del {name}")) {
            // Another program has removed it.
            Err(ShapingError::NoDevice { .. }) => {}
            done => {
                done?;
                removed.push(name.to_owned());
            }
        }
    }
    Ok(removed)
}

/// Time by which the timers of User-Mode Linux may be late, in microseconds: it reports them as precise, but they are
/// signals of its host, which a busy guest takes late.
const USER_MODE_TIMER_MICROS: u64 = 2000;

/// Resolution of the timers that qdiscs use, in microseconds: below one if the kernel has precise timers, otherwise a
/// tick.
fn timer_micros() -> u64 {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if processors.contains("User Mode Linux") {
        return USER_MODE_TIMER_MICROS;
    }
    // The last of four hexadecimal numbers is the number of possible timer events a second.
    let text = std::fs::read_to_string("/proc/thread-self/net/psched").unwrap_or_default();
    let per_second = text.split_whitespace().nth(3).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    per_second.filter(|hz| *hz > 0).map_or(0, |hz| 1_000_000 / hz)
}

impl Interface {
    /// Interface with this name.
    ///
    /// # Errors
    /// Fails if there is none; the line lists those that are.
    pub fn named(name: &str) -> Result<Self, ShapingError> {
        let links = links()?;
        links.iter().find(|link| link.ifname == name).map(Self::of).ok_or_else(|| {
            let names: Vec<&str> = links.iter().map(|link| link.ifname.as_str()).collect();
            ShapingError::NoInterface(format!(
                "no interface has the name {name}; the interfaces are {}",
                names.join(", ")
            ))
        })
    }

    /// Interface with this address.
    ///
    /// # Errors
    /// Fails if no interface has the address.
    pub fn with_address(address: IpAddr) -> Result<Self, ShapingError> {
        let links = links()?;
        let found = links.iter().find(|link| link.addr_info.iter().any(|info| info.local == Some(address)));
        found.map(Self::of).ok_or_else(|| ShapingError::NoInterface(format!("no interface has the address {address}")))
    }

    /// Devices are named by the index, because a name of an interface has at most 15 characters.
    fn of(link: &Link) -> Self {
        let Link { ifindex, ifname, mtu, .. } = link;
        let devices = Devices {
            interface: ifname.clone(),
            mtu: *mtu,
            timer_micros: timer_micros(),
            ingress: format!("{INGRESS}{ifindex}"),
            sink: format!("{SINK}{ifindex}"),
        };
        Self { devices }
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.devices.interface
    }

    /// Counters of the qdiscs of the interface, and of those that shape its incoming traffic.
    ///
    /// # Errors
    /// Errors of `tc`.
    pub fn counters(&self) -> Result<Vec<QdiscCounters>, ShapingError> {
        let Devices { interface, ingress, sink, .. } = &self.devices;
        let mut all = counters_of(interface)?;
        for device in [ingress, sink] {
            match counters_of(device) {
                // A plan that does not need the device has not made it.
                Err(ShapingError::NoDevice { .. }) => {}
                counters => all.extend(counters?),
            }
        }
        Ok(all)
    }

    /// Applies a plan to an interface, in place of an earlier plan of ours.
    ///
    /// # Errors
    /// Errors of `tc`, and a foreign qdisc that would be lost. No part of the plan remains then.
    pub fn apply(&self, plan: &InterfacePlan) -> Result<(), ShapingError> {
        self.remove()?;
        self.refuse_foreign()?;
        let batch = batch(plan, &self.devices, None);
        let applied = tool::batch("ip", &batch.ip)
            .and_then(|()| tool::batch("tc", &batch.tc))
            .and_then(|()| set_congestion_control(self.name(), plan.congestion_control.as_deref()));
        if applied.is_err() {
            // The first error is the one to report.
            let _ = self.remove();
        }
        applied
    }

    /// Changes the shapes of peers, and the blocked addresses, while traffic flows, as far as both plans permit it; the
    /// rest of the plans must be the same.
    ///
    /// # Errors
    /// Errors of `tc`.
    pub fn change(&self, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), ShapingError> {
        let batch = batch(after, &self.devices, Some(before));
        tool::batch("ip", &batch.ip)?;
        tool::batch("tc", &batch.tc)
    }

    fn refuse_foreign(&self) -> Result<(), ShapingError> {
        let interface = &self.devices.interface;
        // A qdisc that the kernel has made by itself has no handle.
        let foreign = qdiscs_of(interface)?.into_iter().find(|one| one.handle != "0:");
        let Some(Qdisc { kind, handle, .. }) = foreign else { return Ok(()) };
        let place = if kind == "ingress" || kind == "clsact" { kind.as_str() } else { "root" };
        Err(ShapingError::Conflict(format!(
            "{interface} has a foreign qdisc, {kind} {handle} remove it first (tc qdisc del dev {interface} \
             {place})"
        )))
    }

    /// Removes everything that a plan of ours has made there; foreign qdiscs stay.
    ///
    /// # Errors
    /// Errors of `tc`.
    pub fn remove(&self) -> Result<RemovedParts, ShapingError> {
        let Devices { interface, ingress, sink, .. } = &self.devices;
        let mut removed = RemovedParts { leftovers: remove_leftovers()?, ..RemovedParts::default() };
        set_congestion_control(interface, None)?;
        let here = qdiscs_of(interface)?;
        let has_ingress = here.iter().any(|one| one.kind == "ingress");
        if here.iter().any(|one| one.root && is_own_root(&one.kind, &one.handle)) {
            tool::run("tc", &format!("qdisc del dev {interface} root"))?;
            removed.egress = true;
        }
        let names: Vec<String> = links()?.into_iter().map(|link| link.ifname).collect();
        if has_ingress && (names.contains(ingress) || names.contains(sink)) {
            // A qdisc whose filters lead to another device is foreign.
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
