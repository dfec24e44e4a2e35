//! Limits on the probes that a node makes on order: only to its peers, and only a bounded number.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::net::lookup_host;

use crate::{
    clock::{Instant, timeout},
    network::PeerAddress,
    probe::{MAX_TRAIN_RATE, ProbeOrder},
};

/// Minimum interval of two pings, in microseconds: a runner orders one each 10 ms.
const LEAST_INTERVAL_MICROS: u64 = 1000;

/// Permitted orders in a minute, in addition to two for each node of the network: a runner repeats at most 155 trains
/// from one node.
const ORDERS_PER_MINUTE: u64 = 256;

/// Permitted orders in the life of a node, in minutes' worth: a node has one run, with two measurements of the links,
/// and some reserve.
const MINUTES_IN_ALL: u64 = 16;

/// Maximum time to look up the name of a peer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Taken {
    since: Option<Instant>,
    in_this_minute: u64,
    in_all: u64,
    /// Probed ports at each address: no more than peers there.
    ports: HashMap<IpAddr, BTreeSet<u16>>,
}

/// Decides on each order.
#[derive(Debug)]
pub(super) struct ProbeGate {
    per_minute: u64,
    taken: Mutex<Taken>,
}

/// Reason why an order is refused, in one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The order itself is invalid.
    Order(String),
    /// Too many orders.
    TooMany(&'static str),
}

impl ProbeGate {
    /// Makes the gate of a node in a network of `num_nodes` nodes.
    pub(super) fn new(num_nodes: u64) -> Self {
        Self { per_minute: ORDERS_PER_MINUTE + 2 * num_nodes, taken: Mutex::default() }
    }

    /// Accepts an order of a node with these peers, or refuses it.
    pub(super) async fn admit(&self, order: &ProbeOrder, peers: &[PeerAddress]) -> Result<(), Refusal> {
        if order.pings > 1 && order.interval_micros < LEAST_INTERVAL_MICROS {
            return Err(Refusal::Order(format!("interval_micros must be {LEAST_INTERVAL_MICROS} or more")));
        }
        if order.train.is_some_and(|train| train.bytes_per_second > MAX_TRAIN_RATE) {
            return Err(Refusal::Order(format!("bytes_per_second must be {MAX_TRAIN_RATE} or less")));
        }
        let at_target = peers_at(order.target.ip(), peers).await;
        self.take(order, at_target, Instant::now())
    }

    fn take(&self, order: &ProbeOrder, at_target: usize, now: Instant) -> Result<(), Refusal> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if at_target == 0 {
            return Err(Refusal::Order("the target is no peer of this node".into()));
        }
        if taken.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(60)) {
            taken.since = Some(now);
            taken.in_this_minute = 0;
        }
        if taken.in_this_minute >= self.per_minute {
            return Err(Refusal::TooMany("too many probes in a minute"));
        }
        if taken.in_all >= self.per_minute * MINUTES_IN_ALL {
            return Err(Refusal::TooMany("too many probes in the life of this node: restart it"));
        }
        let ports = taken.ports.entry(order.target.ip()).or_default();
        // A peer answers at one port: an order for more ports looks for other services there.
        if !ports.contains(&order.target.port()) && ports.len() >= at_target {
            return Err(Refusal::Order("the peers at the target were probed at other ports".into()));
        }
        ports.insert(order.target.port());
        taken.in_this_minute += 1;
        taken.in_all += 1;
        Ok(())
    }
}

/// Number of peers at an address. A peer with a name is at the present address of its name.
async fn peers_at(target: IpAddr, peers: &[PeerAddress]) -> usize {
    let mut count = peers.iter().filter(|peer| peer.ip() == Some(target)).count();
    let names: BTreeSet<String> = peers.iter().filter_map(PeerAddress::name).collect();
    if count > 0 || names.is_empty() {
        return count;
    }
    for name in names {
        let found = timeout(LOOKUP_TIMEOUT, lookup_host((name.as_str(), 0))).await;
        if let Ok(Ok(mut addresses)) = found
            && addresses.any(|address| address.ip() == target)
        {
            count += peers.iter().filter(|peer| peer.name().as_ref() == Some(&name)).count();
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(target: &str) -> ProbeOrder {
        ProbeOrder {
            target: target.parse().unwrap(),
            pings: 1,
            interval_micros: 0,
            wait_millis: 0,
            message: None,
            train: None,
        }
    }

    #[test]
    fn only_peers_are_probed_and_at_no_more_ports_than_they_have() {
        let gate = ProbeGate::new(3);
        let now = Instant::now();
        assert!(matches!(gate.take(&order("10.0.0.9:7"), 0, now), Err(Refusal::Order(_))));
        assert_eq!(gate.take(&order("10.0.0.1:9999"), 1, now), Ok(()));
        assert!(matches!(gate.take(&order("10.0.0.1:22"), 1, now), Err(Refusal::Order(_))));
        assert_eq!(gate.take(&order("10.0.0.1:9999"), 1, now), Ok(()));
        assert_eq!(gate.take(&order("10.0.0.2:22"), 1, now), Ok(()));
    }

    #[test]
    fn probes_are_bounded_in_a_minute_and_in_all() {
        let gate = ProbeGate::new(2);
        let mut now = Instant::now();
        for _ in 0..MINUTES_IN_ALL {
            for _ in 0..gate.per_minute {
                assert_eq!(gate.take(&order("10.0.0.1:9999"), 1, now), Ok(()));
            }
            assert!(matches!(gate.take(&order("10.0.0.1:9999"), 1, now), Err(Refusal::TooMany(_))));
            now += Duration::from_secs(60);
        }
        let last = gate.take(&order("10.0.0.1:9999"), 1, now);
        assert!(matches!(last, Err(Refusal::TooMany(line)) if line.contains("life")), "{last:?}");
    }
}
