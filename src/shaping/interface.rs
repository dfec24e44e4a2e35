//! A plan put on an interface of this network namespace, looked at, changed, and taken away again.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    batch::{Devices, batch, is_own_root},
    congestion::set_congestion_control,
    counters::{Qdisc, QdiscCounters, qdisc_counters, qdiscs},
    plan::InterfacePlan,
    tool::{self, ShapingError},
};

/// Names of the IFB devices begin so; the interface's index follows.
const INGRESS: &str = "apollo-in";
const SINK: &str = "apollo-no";

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
    /// Devices of interfaces that are gone.
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

/// Of one interface alone: what `tc` prints of the others may be unreadable, and concerns nobody here.
fn qdiscs_of(interface: &str) -> Result<Vec<Qdisc>, ShapingError> {
    tool::run("tc", &format!("qdisc show dev {interface}")).map(|text| qdiscs(&text))
}

fn counters_of(interface: &str) -> Result<Vec<QdiscCounters>, ShapingError> {
    let line = format!("-s -j qdisc show dev {interface}");
    let json = tool::run("tc", &line)?;
    let mut counters =
        qdisc_counters(&json).map_err(|words| ShapingError::Unreadable { program: "tc", line: line.clone(), words })?;
    for one in &mut counters {
        // Asked for one interface, some versions leave its name out.
        one.device = interface.to_owned();
    }
    if counters.iter().any(QdiscCounters::limits_a_rate) {
        // In words: as JSON, only the latest versions print it.
        let classes = tool::run("tc", &format!("class show dev {interface}"))?;
        counters.iter_mut().filter(|one| one.limits_a_rate()).for_each(|one| one.add_class(&classes));
    }
    Ok(counters)
}

/// Takes away the devices of ours whose interface is gone, with all that was shaped there; gives their names.
///
/// # Errors
/// Those of `ip`.
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
            // Another program was faster.
            Err(ShapingError::NoDevice { .. }) => {}
            done => {
                done?;
                removed.push(name.to_owned());
            }
        }
    }
    Ok(removed)
}

/// Time by which the timers of User-Mode Linux may be late, in microseconds: it calls them precise, and they are signals of
/// its host, which a busy guest takes late.
const USER_MODE_TIMER_MICROS: u64 = 2000;

/// The resolution of the timers that qdiscs wait by, in microseconds: less than one where the kernel has precise timers, a
/// tick where it has not.
fn timer_micros() -> u64 {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if processors.contains("User Mode Linux") {
        return USER_MODE_TIMER_MICROS;
    }
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
            ShapingError::NoInterface(format!("there is no interface {name}; there are {}", names.join(", ")))
        })
    }

    /// The interface that has that address.
    ///
    /// # Errors
    /// When none has.
    pub fn with_address(address: IpAddr) -> Result<Self, ShapingError> {
        let links = links()?;
        let found = links.iter().find(|link| link.addr_info.iter().any(|info| info.local == Some(address)));
        found.map(Self::of).ok_or_else(|| ShapingError::NoInterface(format!("no interface has the address {address}")))
    }

    /// Named by the index, since a name of an interface has at most 15 characters.
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

    /// Its name.
    pub fn name(&self) -> &str {
        &self.devices.interface
    }

    /// Counters of the qdiscs of the interface, and of those that shape what comes in.
    ///
    /// # Errors
    /// Those of `tc`.
    pub fn counters(&self) -> Result<Vec<QdiscCounters>, ShapingError> {
        let Devices { interface, ingress, sink, .. } = &self.devices;
        let mut all = counters_of(interface)?;
        for device in [ingress, sink] {
            match counters_of(device) {
                // A plan that does not need it has not made it.
                Err(ShapingError::NoDevice { .. }) => {}
                counters => all.extend(counters?),
            }
        }
        Ok(all)
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
        let foreign = qdiscs_of(interface)?.into_iter().find(|one| one.handle != "0:");
        let Some(Qdisc { kind, handle, .. }) = foreign else { return Ok(()) };
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
