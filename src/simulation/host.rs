//! A host: its interface, and its connections that wait for a turn.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use crate::{
    scenario::Shape,
    shaping::{InterfacePlan, WIRE_BYTES, burst_bytes, queue_bytes},
};

use super::{congestion::SEGMENT, packet::EndId};

/// Ethernet, IP and TCP headers with timestamps of a segment, in bytes.
pub(super) const HEADERS: u64 = 66;

/// Rate of an interface that is not shaped, in bytes per second: 10 Gbit/s.
const LINE_RATE: u64 = 1_250_000_000;

/// Bounds of the segments that a connection sends in one turn: Linux makes bursts of a millisecond, of at least two
/// segments and at most 64 KiB.
const TURN: (u64, u64) = (2, 44);
const TURN_NANOS: u64 = 1_000_000;

/// Least one-way time between two hosts, in nanoseconds: two kernels of one machine need about as long. It is also the
/// least time for which threads can run apart.
pub(super) const LEAST_LATENCY: u64 = 20_000;

const NANOS: u128 = 1_000_000_000;

/// A limit of a rate with a queue in front, as `htb` and `bfifo` of a shaped interface: a frame leaves at once unless the
/// bucket is overdrawn, and the bucket holds the bytes of a short time.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// Nanoseconds of the rate that the bucket holds.
    burst: u64,
    /// Maximum nanoseconds of the rate that wait; further bytes are dropped.
    limit: u64,
    /// Time at which all bytes so far are paid.
    paid_at: u64,
    /// True if the scenario limits the rate.
    is_shaped: bool,
}

impl Bucket {
    /// The bucket of a shaped interface or link; without a rate, that of a line.
    fn new(rate: Option<u64>, latency_millis: f64) -> Self {
        let mut bucket = Self {
            rate: rate.unwrap_or(LINE_RATE).max(1),
            burst: 0,
            limit: u64::MAX,
            paid_at: 0,
            is_shaped: rate.is_some(),
        };
        if let Some(rate) = rate {
            bucket.burst = bucket.nanos(burst_bytes(rate, 0));
            bucket.limit = bucket.nanos(queue_bytes(rate, latency_millis));
        }
        bucket
    }

    /// Time that these bytes take.
    pub(super) fn nanos(&self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * NANOS / u128::from(self.rate)).unwrap_or(u64::MAX)
    }

    pub(super) fn is_shaped(&self) -> bool {
        self.is_shaped
    }

    /// Bytes of `segments` with `payload` on the wire, and those of the last frame.
    pub(super) fn wire(&self, payload: u64, segments: u64) -> (u64, u64) {
        let headers = HEADERS + if self.is_shaped { WIRE_BYTES } else { 0 };
        let last = payload - payload.min((segments - 1) * SEGMENT);
        (payload + segments * headers, last + headers)
    }

    /// True if the queue has no room at `now`.
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.paid_at.saturating_sub(now) > self.limit
    }

    /// Lets bytes pass whose first one is here at `head` and whose last one at `tail`; returns the time at which the last
    /// frame, of `last` bytes, leaves.
    pub(super) fn pass(&mut self, head: u64, tail: u64, (bytes, last): (u64, u64)) -> u64 {
        let base = self.paid_at.max(head);
        self.paid_at = base + self.nanos(bytes);
        let before = if self.is_shaped { bytes - last } else { bytes };
        (base + self.nanos(before)).saturating_sub(self.burst).max(tail)
    }

    /// Time from which on a further frame leaves at once.
    pub(super) fn is_open_at(&self) -> u64 {
        self.paid_at.saturating_sub(self.burst)
    }

    /// Segments that a connection sends in one turn.
    pub(super) fn turn(&self) -> u64 {
        let bytes = u128::from(self.rate) * u128::from(TURN_NANOS) / NANOS;
        u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(SEGMENT).clamp(TURN.0, TURN.1)
    }
}

/// One direction of a link, apart from the interfaces at its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Path {
    /// One-way latency and its largest deviation, in nanoseconds.
    pub(super) latency: u64,
    pub(super) jitter: u64,
    /// Probability of the loss of a frame.
    pub(super) loss: f64,
    /// Rate of this link alone, in bytes per second.
    pub(super) rate: Option<u64>,
}

impl Path {
    fn new(shape: &Shape, rate: Option<u64>) -> Self {
        let nanos = |millis: f64| (millis * 1e6).round() as u64;
        Self {
            latency: nanos(shape.latency_millis),
            jitter: nanos(shape.jitter_millis),
            loss: shape.loss_percent / 100.0,
            rate,
        }
    }

    /// Bucket of the link; none if only the interfaces limit it.
    pub(super) fn bucket(&self) -> Option<Bucket> {
        self.rate.map(|rate| Bucket::new(Some(rate), self.latency as f64 / 1e6))
    }
}

/// A host of the network.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: IpAddr,
    pub(super) up: Bucket,
    pub(super) down: Bucket,
    default: Path,
    /// Peers with a path of their own.
    paths: BTreeMap<u32, Path>,
    /// Hosts whose packets are dropped on arrival.
    pub(super) blocked: BTreeSet<u32>,
    /// Packets that were dropped for that reason.
    pub(super) cut_off: u64,
    /// Packets to each host over connections that are gone.
    pub(super) packets_to: BTreeMap<u32, u64>,
    /// Connections that wait for a turn, and true if the next turn is scheduled.
    pub(super) waiting: VecDeque<EndId>,
    pub(super) is_served: bool,
    /// Ends of connections.
    pub(super) ends: BTreeSet<u32>,
}

impl Host {
    /// A host without any shape.
    pub(super) fn new(address: IpAddr) -> Self {
        Self {
            address,
            up: Bucket::new(None, 0.0),
            down: Bucket::new(None, 0.0),
            default: Path::default(),
            paths: BTreeMap::new(),
            blocked: BTreeSet::new(),
            cut_off: 0,
            packets_to: BTreeMap::new(),
            waiting: VecDeque::new(),
            is_served: false,
            ends: BTreeSet::new(),
        }
    }

    /// Gives the interface this shape; bytes under way stay.
    pub(super) fn shape(&mut self, plan: &InterfacePlan, host_of: impl Fn(&IpAddr) -> Option<u32>) {
        let renew = |bucket: &mut Bucket, shape: &Shape| {
            let paid_at = bucket.paid_at;
            *bucket = Bucket { paid_at, ..Bucket::new(shape.bytes_per_second(), shape.latency_millis) };
        };
        renew(&mut self.up, &plan.egress);
        renew(&mut self.down, &plan.ingress);
        self.default = Path::new(&plan.egress, None);
        let peers = plan.peers.iter().filter_map(|peer| {
            let host = peer.addresses.iter().find_map(&host_of)?;
            Some((host, Path::new(&peer.shape, peer.shape.bytes_per_second())))
        });
        self.paths = peers.collect();
        self.blocked = plan.blocked.iter().filter_map(host_of).collect();
    }

    /// Least time that a packet takes to any other of `hosts` hosts, in nanoseconds.
    pub(super) fn least_latency(&self, hosts: usize) -> u64 {
        let has_default = self.paths.len() + 1 < hosts;
        let paths = self.paths.values().chain(has_default.then_some(&self.default));
        let least = paths.map(|path| path.latency.saturating_sub(path.jitter)).min();
        least.unwrap_or(0).max(LEAST_LATENCY)
    }

    /// Path to a host.
    pub(super) fn path(&self, to: u32) -> Path {
        self.paths.get(&to).copied().unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn a_message_takes_its_bytes_at_the_rate_without_its_last_frame_and_the_content_of_the_bucket() {
        let mut bucket = Bucket::new(Some(1_000_000), 0.0);
        let wire = bucket.wire(64 * 1024, 46);
        assert_eq!(wire, (64 * 1024 + 46 * 90, 376 + 90));
        let left = bucket.pass(0, 0, wire);
        assert_eq!(left, (wire.0 - wire.1) * 1000 - 500_000);
        // The next frame waits for the first ones.
        let next = bucket.pass(10, 10, bucket.wire(100, 1));
        assert_eq!(next, wire.0 * 1000 - 500_000);
    }

    #[test]
    fn a_receivers_bucket_of_the_same_rate_lets_a_paced_message_pass() {
        let (mut up, mut down) = (Bucket::new(Some(1_000_000), 0.0), Bucket::new(Some(1_000_000), 0.0));
        let wire = up.wire(64 * 1024, 46);
        let left = up.pass(1000 * MILLI, 1000 * MILLI, wire);
        let head = left - up.nanos(wire.0);
        assert_eq!(down.pass(head, left, wire), left);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut bucket = Bucket::new(Some(1_000_000), 0.0);
        assert!(!bucket.is_full(0));
        bucket.pass(0, 0, (200_000, 1514));
        assert!(bucket.is_full(0) && !bucket.is_full(100 * MILLI));
        assert_eq!(
            (bucket.turn(), Bucket::new(None, 0.0).turn(), Bucket::new(Some(12_500_000), 0.0).turn()),
            (2, 44, 9)
        );
    }
}
