//! Ways of the messages: direct from their sender, or forwarded by other nodes.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{arrivals::ArrivalRow, lives::empty_histogram};

/// Number of hops from which deliveries are counted together: far longer than a way in any network that works.
const MAX_HOPS: u32 = 32;

/// Number of nodes that are listed with the messages that they forwarded.
const MAX_FORWARDERS: usize = 10;

/// Deliveries that took the same number of hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HopRow {
    /// Number of hops; the last row has all longer ways too.
    pub hops: u32,
    /// Deliveries in the sample.
    pub deliveries: u64,
    /// Median of their delay from the intended send time, in microseconds.
    pub p50_micros: u64,
    /// 99th percentile of this delay.
    pub p99_micros: u64,
}

/// Deliveries that a node made in the place of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forwarder {
    /// Node id.
    pub node: u64,
    /// First copies in the sample that came from it, of messages of other nodes.
    pub deliveries: u64,
}

/// Ways of the messages in the sample. The peer that delivered the first copy of a message decides its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hops {
    /// Deliveries in the sample.
    pub deliveries: u64,
    /// Deliveries whose first copy came from the sender itself.
    pub direct: u64,
    /// Deliveries whose first copy came from another node.
    pub forwarded: u64,
    /// Deliveries by hops, ascending; without those whose way is not known.
    pub by_hops: Vec<HopRow>,
    /// The nodes that forwarded the largest numbers of first copies, at most ten.
    pub forwarders: Vec<Forwarder>,
}

/// Ways of these messages; none without deliveries.
pub(super) fn hops<'a>(messages: impl Iterator<Item = &'a [ArrivalRow]>) -> Option<Hops> {
    let mut all = Hops::default();
    let mut delays: BTreeMap<u32, Histogram<u64>> = BTreeMap::new();
    let mut forwarders: BTreeMap<u64, u64> = BTreeMap::new();
    for row in messages.flatten().filter(|row| row.receiver != row.arrival.sender) {
        all.deliveries += 1;
        match row.arrival.first_peer {
            Some(peer) if peer == row.arrival.sender => all.direct += 1,
            Some(peer) => {
                all.forwarded += 1;
                *forwarders.entry(peer).or_default() += 1;
            }
            None => {}
        }
        if let Some(hops) = row.hops {
            let nanos = row.arrival.arrived_unix_nanos.saturating_sub(row.arrival.intended_unix_nanos);
            let delays = delays.entry(hops.min(MAX_HOPS)).or_insert_with(empty_histogram);
            // The range of the histogram grows with its values.
            let _ = delays.record(nanos / 1000);
        }
    }
    all.by_hops = delays
        .into_iter()
        .map(|(hops, delays)| HopRow {
            hops,
            deliveries: delays.len(),
            p50_micros: delays.value_at_quantile(0.5),
            p99_micros: delays.value_at_quantile(0.99),
        })
        .collect();
    let mut by_count: Vec<Forwarder> =
        forwarders.into_iter().map(|(node, deliveries)| Forwarder { node, deliveries }).collect();
    by_count.sort_by_key(|forwarder| (std::cmp::Reverse(forwarder.deliveries), forwarder.node));
    by_count.truncate(MAX_FORWARDERS);
    all.forwarders = by_count;
    (all.deliveries > 0).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::ALL,
        report::arrivals::{Arrivals, tests::row},
    };

    #[test]
    fn direct_and_forwarded_deliveries_are_counted_apart() {
        let rows = vec![
            row(0, 1, 0, [0, 0], None),
            row(0, 1, 1, [0, 10], Some(0)),
            row(0, 1, 2, [0, 25], Some(1)),
            row(0, 1, 3, [0, 30], Some(1)),
        ];
        let arrivals = Arrivals::ordered(vec![ALL], rows);
        let hops = hops(arrivals.messages(0)).unwrap();
        assert_eq!((hops.deliveries, hops.direct, hops.forwarded), (3, 1, 2));
        let by_hops: Vec<(u32, u64)> = hops.by_hops.iter().map(|row| (row.hops, row.deliveries)).collect();
        assert_eq!(by_hops, [(1, 1), (2, 2)]);
        assert_eq!(hops.forwarders, [Forwarder { node: 1, deliveries: 2 }]);
    }
}
