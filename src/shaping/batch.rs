//! A plan as the lines of a `tc` batch.
//!
//! ```text
//! out, no peers:  [tbf ->] netem -> htb -> bfifo
//! out, peers:     one class a peer: [tbf ->] netem -> htb -> bfifo; before them tbf -> htb of the whole interface
//! in:             ingress -> IFB: tbf -> htb -> bfifo; blocked senders -> a second IFB that drops all
//! ```
//!
//! netem delays and loses packets, htb (a token bucket) limits its output, and bfifo, limited in bytes, is the queue
//! that waits for the rate. The kernel treats many frames as one packet (segmentation offload), which would be lost,
//! delayed or let through together: a tbf in front, whose bucket holds a single frame and which never waits, splits it.
//!
//! # Time of one message
//!
//! The number of htb's tokens may become negative: a frame leaves at once if any token is left, and the next one waits
//! until the frame's own time is over. The bucket holds no frame, only the bytes of the time by which the kernel's
//! timers may be late ([`burst_bytes`]). So a message arrives earlier than its bytes take at the rate, by its last
//! frame and by the content of the bucket, and never later; a message of a single frame does not wait at all. (tbf lets
//! a frame go when the tokens for all of it are there: its bucket must hold a whole frame, so that the first one is
//! free, which is usually longer than the last.) The output of a sender's bucket has the rate already: a receiver's
//! bucket of the same rate lets it pass, so that a message takes its serialisation time once.
//!
//! A frame counts as on Ethernet's wire, with [`WIRE_BYTES`] more than the kernel's own count: a link of 125,000 KB/s
//! is one of a gigabit.

use std::net::IpAddr;

use super::{
    handles::{APART, CLASSES, INTERFACE_APART, INTERFACE_RATE, NETEM, QUEUE, RATE, SINK},
    plan::InterfacePlan,
};
use crate::scenario::Shape;

/// Assumed length of packets, Ethernet header included, for queues that are counted in packets.
const FRAME: u64 = 1514;

/// Bytes of a frame on Ethernet's wire that the kernel does not count: 8 of preamble, 4 of checksum, and a gap of 12.
pub const WIRE_BYTES: u64 = 24;

/// Bytes of a frame beyond the interface's MTU: Ethernet's header, VLAN tags, and tbf's rounding.
const FRAME_SLACK: u64 = 32;

/// Assumed throughput of an unlimited link for the size of netem's queue, in bytes per second: 10 Gbit/s.
const FASTEST: u64 = 1_250_000_000;

/// Time by which a precise timer may be late, in microseconds: an interrupt, and the work that the kernel does before
/// it. A message arrives earlier by this time and by its last frame, so it is short if a frame takes long. It is longer
/// on a fast link, whose frame takes next to no time and which needs much work between two frames.
const TIMER_MICROS: u64 = 500;
const FAST_TIMER_MICROS: u64 = 1000;
const FAST_LINK: u64 = 10_000_000;

/// Minimum number of bytes in the queue of a limited link: the first flights of TCP for a message of 64 KiB to two
/// receivers. A shorter queue would drop parts of a single message that no home router drops, and the link would be
/// charged with a retransmission.
const LEAST_QUEUE: u64 = 128 << 10;

/// Time that a packet waits in the queue of a limited link before it is dropped, in milliseconds: the usual buffer of a
/// router, and at least the link's own round trip.
const QUEUE_MILLIS: f64 = 100.0;

/// Minimum number of packets in netem's queue.
const LEAST_PACKETS: u64 = 1000;

/// Number of packets in an IFB device; its default of 32 drops bursts that no real interface would.
const IFB_PACKETS: u32 = 10_000;

/// Rate of the bucket that only splits packets, in bytes per second: it never waits, because coarse timers would need a
/// tick for each frame.
const APART_RATE: u64 = 1_000_000_000_000;

/// Priorities of the filters: blocking filters come before the one that takes all packets.
const BLOCK_V4: u32 = 10;
const BLOCK_V6: u32 = 11;
const TAKE_ALL: u32 = 100;

/// Devices that a plan uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// Interface that is shaped.
    pub interface: String,
    /// Its MTU, in bytes.
    pub mtu: u64,
    /// Time by which the kernel's timers may be late, in microseconds: their own resolution if they are coarse.
    pub timer_micros: u64,
    /// IFB device for incoming packets.
    pub ingress: String,
    /// IFB device in which blocked packets end.
    pub sink: String,
}

/// Lines for `ip -batch` and `tc -batch`, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Lines for `ip`.
    pub ip: Vec<String>,
    /// Lines for `tc`.
    pub tc: Vec<String>,
}

/// Bytes that the bucket of a link of `rate` bytes per second holds: the bytes of the time by which timers are late. A
/// frame leaves as long as the bucket is not overdrawn.
pub fn burst_bytes(rate: u64, timer_micros: u64) -> u64 {
    let least = if rate < FAST_LINK { TIMER_MICROS } else { FAST_TIMER_MICROS };
    let late = u128::from(rate) * u128::from(timer_micros.max(least)) / 1_000_000;
    // Sizes are 32 bits in the kernel, and `tc` replaces 0 by a size of its own choice.
    u64::try_from(late).unwrap_or(u64::MAX).clamp(1, 1 << 30)
}

/// The lines that make `plan`, on an interface without our qdiscs (`before` is none), or from the result of the plan
/// `before`. In a changed plan, only the peers' shapes and the blocked addresses may differ, as far as both plans
/// permit changes.
pub fn batch(plan: &InterfacePlan, devices: &Devices, before: Option<&InterfacePlan>) -> Batch {
    let mut batch = Batch::default();
    let Devices { interface, ingress, sink, .. } = devices;
    let tc = &mut batch.tc;
    let fresh = before.is_none();
    if plan.peers.is_empty() {
        leaf(tc, (interface, devices), "root", 0, &plan.egress, (false, false), fresh);
    } else {
        classes(tc, devices, plan, fresh);
    }
    let (takes_all, blocks) = (!plan.ingress.is_unshaped(), plan.blockable || !plan.blocked.is_empty());
    if fresh && (takes_all || blocks) {
        tc.push(format!("qdisc add dev {interface} handle ffff: ingress"));
    }
    if fresh && blocks {
        batch.ip.extend(new_ifb(sink));
        tc.push(format!("qdisc add dev {sink} root handle {SINK:x}: bfifo limit 1"));
    }
    if fresh && takes_all {
        batch.ip.extend(new_ifb(ingress));
        tc.push(format!(
            "filter add dev {interface} parent ffff: protocol all prio {TAKE_ALL} u32 match u32 0 0 action mirred egress \
             redirect dev {ingress}"
        ));
    }
    leaf(tc, (ingress, devices), "root", 0, &plan.ingress, (false, false), fresh);
    let blocked_before = before.map_or(&[][..], |before| &before.blocked);
    if plan.blocked != blocked_before {
        for (priority, protocol, v4) in [(BLOCK_V4, "ip", true), (BLOCK_V6, "ipv6", false)] {
            let of_family = |addresses: &[IpAddr]| -> Vec<IpAddr> {
                addresses.iter().copied().filter(|address| address.is_ipv4() == v4).collect()
            };
            if !of_family(blocked_before).is_empty() {
                tc.push(format!("filter del dev {interface} parent ffff: prio {priority}"));
            }
            for address in of_family(&plan.blocked) {
                tc.push(format!(
                    "filter add dev {interface} parent ffff: protocol {protocol} prio {priority} u32 match {} action \
                     mirred egress redirect dev {sink}",
                    matching("src", address)
                ));
            }
        }
    }
    batch
}

fn new_ifb(device: &str) -> [String; 2] {
    [format!("link add {device} txqueuelen {IFB_PACKETS} type ifb"), format!("link set {device} up")]
}

fn matching(side: &str, address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("ip {side} {address}/32"),
        IpAddr::V6(address) => format!("ip6 {side} {address}/128"),
    }
}

/// One class for each peer and one for the rest, each shaped separately; then the throughput of the interface.
fn classes(tc: &mut Vec<String>, devices: &Devices, plan: &InterfacePlan, fresh: bool) {
    let device = devices.interface.as_str();
    let mut parent = "root".to_owned();
    if let Some(rate) = plan.egress.bytes_per_second() {
        tc.push(apart((device, devices), &parent, INTERFACE_APART));
        parent = format!("parent {INTERFACE_APART:x}:1");
        tc.extend(limit((device, devices), &parent, INTERFACE_RATE, rate, fresh));
        parent = format!("parent {INTERFACE_RATE:x}:1");
    }
    if fresh {
        tc.push(format!("qdisc add dev {device} {parent} handle {CLASSES:x}: htb default 1"));
    }
    let rest = Shape { throughput_kilobytes_per_second: None, ..plan.egress };
    let shapes = std::iter::once((&[][..], rest)).chain(plan.peers.iter().map(|p| (&p.addresses[..], p.shape)));
    for (at, (addresses, shape)) in (0_u32..).zip(shapes) {
        let class = format!("{CLASSES:x}:{:x}", at + 1);
        if fresh {
            // The class itself limits nothing.
            tc.push(format!(
                "class add dev {device} parent {CLASSES:x}: classid {class} htb rate {FASTEST}bps burst 1mb cburst 1mb quantum 60000"
            ));
        }
        leaf(
            tc,
            (device, devices),
            &format!("parent {class}"),
            at,
            &shape,
            (plan.adjustable_delay, plan.adjustable_rate),
            fresh,
        );
        if !fresh {
            continue;
        }
        for address in addresses {
            let (priority, protocol) = if address.is_ipv4() { (1, "ip") } else { (2, "ipv6") };
            let matching = matching("dst", *address);
            tc.push(format!(
                "filter add dev {device} parent {CLASSES:x}: protocol {protocol} prio {priority} u32 match {matching} flowid {class}"
            ));
        }
    }
}

/// netem, then a rate, if the shape needs them or may need them later (`adjustable`: delay, rate).
fn leaf(
    tc: &mut Vec<String>,
    (device, devices): (&str, &Devices),
    parent: &str,
    at: u32,
    shape: &Shape,
    adjustable: (bool, bool),
    fresh: bool,
) {
    let mut parent = parent.to_owned();
    let rate = shape.bytes_per_second().or(adjustable.1.then_some(FASTEST));
    if shape.is_by_packet() || adjustable.0 || rate.is_some() {
        let handle = APART + at;
        tc.push(apart((device, devices), &parent, handle));
        parent = format!("parent {handle:x}:1");
    }
    if shape.needs_netem() || adjustable.0 {
        let handle = NETEM + at;
        tc.push(format!("qdisc replace dev {device} {parent} handle {handle:x}: {}", netem(shape)));
        parent = format!("parent {handle:x}:1");
    }
    if let Some(rate) = rate {
        let (handle, queue) = (RATE + at, QUEUE + at);
        tc.extend(limit((device, devices), &parent, handle, rate, fresh));
        let bytes = queue_bytes(rate, shape.latency_millis);
        tc.push(format!("qdisc replace dev {device} parent {handle:x}:1 handle {queue:x}: bfifo limit {bytes}"));
    }
}

/// A tbf that splits packets into frames. Its own queue is never used, because netem or htb takes its place.
fn apart((device, devices): (&str, &Devices), parent: &str, handle: u32) -> String {
    let burst = devices.mtu + FRAME_SLACK;
    format!(
        "qdisc replace dev {device} {parent} handle {handle:x}: tbf rate {APART_RATE}bps burst {burst} limit {FASTEST}"
    )
}

/// htb that limits a rate; all packets go through its only class. The kernel changes its class, and refuses to replace
/// the qdisc.
fn limit((device, devices): (&str, &Devices), parent: &str, handle: u32, rate: u64, fresh: bool) -> Vec<String> {
    let burst = burst_bytes(rate, devices.timer_micros);
    let qdisc = format!("qdisc add dev {device} {parent} handle {handle:x}: htb default 1");
    let class = format!(
        "class replace dev {device} parent {handle:x}: classid {handle:x}:1 htb rate {rate}bps overhead {WIRE_BYTES} \
         burst {burst} cburst {burst} quantum {FRAME}"
    );
    fresh.then_some(qdisc).into_iter().chain([class]).collect()
}

fn netem(shape: &Shape) -> String {
    let Shape { latency_millis: latency, jitter_millis: jitter, reorder_percent: reorder, .. } = *shape;
    let micros = |millis: f64| (millis * 1000.0).round() as u64;
    // Bandwidth times delay, in packets. netem delays before the token bucket, so packets arrive here at full speed.
    let held = FASTEST as f64 * (latency + jitter + QUEUE_MILLIS) / 1000.0;
    let limit = ((held / FRAME as f64).ceil() as u64).max(LEAST_PACKETS);
    let mut text = format!("netem limit {limit} delay {}us", micros(latency));
    if jitter > 0.0 {
        text.push_str(&format!(" {}us", micros(jitter)));
    }
    for (name, percent) in [("loss", shape.loss_percent), ("duplicate", shape.duplicate_percent), ("reorder", reorder)]
    {
        if percent > 0.0 {
            text.push_str(&format!(" {name} {percent}%"));
        }
    }
    text
}

/// Maximum number of bytes that wait for the rate of a link; further ones are dropped.
pub fn queue_bytes(rate: u64, latency_millis: f64) -> u64 {
    let queue = rate as f64 * (2.0 * latency_millis).max(QUEUE_MILLIS) / 1000.0;
    // Its size is 32 bits in the kernel.
    (queue.ceil() as u64).clamp(LEAST_QUEUE, u32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::PeerRule;

    fn devices() -> Devices {
        Devices { interface: "eth0".into(), mtu: 1500, timer_micros: 0, ingress: "in".into(), sink: "sink".into() }
    }

    fn lines(plan: &InterfacePlan, before: Option<&InterfacePlan>) -> String {
        let batch = batch(plan, &devices(), before);
        batch.ip.iter().chain(&batch.tc).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_free_plan_does_nothing() {
        assert_eq!(lines(&InterfacePlan::default(), None), "");
    }

    #[test]
    fn latency_goes_out_once_and_throughput_is_limited_both_ways() {
        let plan = InterfacePlan::symmetric("latency=50,jitter=5,loss=1,throughput=10000".parse().unwrap());
        assert_eq!(
            lines(&plan, None),
            "link add in txqueuelen 10000 type ifb\n\
             link set in up\n\
             qdisc replace dev eth0 root handle 7000: tbf rate 1000000000000bps burst 1532 limit 1250000000\n\
             qdisc replace dev eth0 parent 7000:1 handle 5000: netem limit 127973 delay 50000us 5000us loss 1%\n\
             qdisc add dev eth0 parent 5000:1 handle 6000: htb default 1\n\
             class replace dev eth0 parent 6000: classid 6000:1 htb rate 10000000bps overhead 24 burst 10000 cburst 10000 quantum 1514\n\
             qdisc replace dev eth0 parent 6000:1 handle 4000: bfifo limit 1000000\n\
             qdisc add dev eth0 handle ffff: ingress\n\
             filter add dev eth0 parent ffff: protocol all prio 100 u32 match u32 0 0 action mirred egress redirect dev in\n\
             qdisc replace dev in root handle 7000: tbf rate 1000000000000bps burst 1532 limit 1250000000\n\
             qdisc add dev in parent 7000:1 handle 6000: htb default 1\n\
             class replace dev in parent 6000: classid 6000:1 htb rate 10000000bps overhead 24 burst 10000 cburst 10000 quantum 1514\n\
             qdisc replace dev in parent 6000:1 handle 4000: bfifo limit 1000000\n"
        );
    }

    #[test]
    fn a_bucket_holds_only_the_bytes_of_late_timers() {
        assert_eq!(burst_bytes(100_000, 0), 50);
        assert_eq!(burst_bytes(1_000_000, 0), 500);
        assert_eq!(burst_bytes(1_000_000, 4000), 4000, "timers that fire each 4 ms");
        assert_eq!(burst_bytes(10_000_000, 0), 10_000);
        assert_eq!(burst_bytes(u64::MAX, 0), 1 << 30, "within the kernel's 32 bits");
        assert_eq!(burst_bytes(0, 0), 1, "none would be the choice of tc");
    }

    #[test]
    fn the_queue_of_a_slow_link_holds_a_large_message() {
        assert!(queue_bytes(8_000, 0.0) >= 64 << 10);
        assert_eq!(queue_bytes(10_000_000, 0.0), 1_000_000);
        assert_eq!(queue_bytes(10_000_000, 100.0), 2_000_000, "no less than a round trip");
    }

    #[test]
    fn a_peer_gets_a_class_found_by_both_families() {
        let addresses = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let peers = vec![PeerRule { addresses, shape: "latency=9".parse().unwrap() }];
        let plan = InterfacePlan { egress: "throughput=1000".parse().unwrap(), peers, ..InterfacePlan::default() };
        let text = lines(&plan, None);
        for part in [
            "qdisc replace dev eth0 root handle ab3: tbf rate 1000000000000bps burst 1532",
            "qdisc add dev eth0 parent ab3:1 handle ab0: htb default 1",
            "class replace dev eth0 parent ab0: classid ab0:1 htb rate 1000000bps overhead 24 burst 500 ",
            "qdisc add dev eth0 parent ab0:1 handle ab1: htb default 1",
            "match ip dst 10.0.0.2/32 flowid ab1:2",
            "match ip6 dst fd00::2/128 flowid ab1:2",
            "qdisc replace dev eth0 parent ab1:2 handle 5001: netem",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn a_change_replaces_only_shapes_and_blocked_addresses() {
        let peers = vec![PeerRule { addresses: vec!["10.0.0.2".parse().unwrap()], shape: Shape::default() }];
        let before = InterfacePlan { peers, blockable: true, adjustable_delay: true, ..InterfacePlan::default() };
        let mut after = before.clone();
        after.peers[0].shape = "latency=200".parse().unwrap();
        after.blocked = vec!["10.0.0.3".parse().unwrap(), "fd00::3".parse().unwrap()];
        let text = lines(&after, Some(&before));
        assert!(text.contains("parent 7001:1 handle 5001: netem limit 247689 delay 200000us\n"), "{text}");
        assert!(text.contains("prio 10 u32 match ip src 10.0.0.3/32 action mirred egress redirect dev sink"), "{text}");
        assert!(text.contains("prio 11 u32 match ip6 src fd00::3/128"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("qdisc replace") || line.starts_with("filter add")), "{text}");
        let healed = lines(&before, Some(&after));
        assert!(healed.contains("filter del dev eth0 parent ffff: prio 10\n"), "{healed}");
    }

    #[test]
    fn a_changed_rate_is_that_of_the_class_that_is_there() {
        let peers = vec![PeerRule { addresses: vec!["10.0.0.2".parse().unwrap()], shape: Shape::default() }];
        let egress = "throughput=5000".parse().unwrap();
        let before = InterfacePlan { egress, peers, adjustable_rate: true, ..InterfacePlan::default() };
        let fresh = lines(&before, None);
        assert!(fresh.contains("qdisc add dev eth0 parent 7001:1 handle 6001: htb default 1\n"), "{fresh}");
        assert!(fresh.contains("classid 6001:1 htb rate 1250000000bps overhead 24 burst 1250000 "), "{fresh}");
        let mut after = before.clone();
        after.peers[0].shape = "throughput=100".parse().unwrap();
        let text = lines(&after, Some(&before));
        assert!(
            text.contains(
                "class replace dev eth0 parent 6001: classid 6001:1 htb rate 100000bps overhead 24 burst 50 "
            ),
            "{text}"
        );
        assert!(text.contains("qdisc replace dev eth0 parent 6001:1 handle 4001: bfifo limit 131072\n"), "{text}");
        assert!(!text.contains("qdisc add") && !text.contains("class add"), "{text}");
    }
}
