//! Arrivals of the sampled messages at all nodes: one record for each message and node.

use std::collections::BTreeMap;

use crate::node::{ALL, Arrival, ArrivalReport, TrafficPlan, sample_hash};

/// Maximum number of records of a run: some 150 MiB. Nodes record fewer, unless many of them were killed and restarted.
const MAX_ROWS: usize = 2_500_000;

/// Arrival of a message at a node; at its sender, the handover to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalRow {
    /// Number of the traffic class.
    pub class: u16,
    /// Node that received it.
    pub receiver: u64,
    /// The arrival itself.
    pub arrival: Arrival,
    /// Number of nodes that passed the message on to reach this one, its sender included; 0 at the sender, none if the
    /// way is not known.
    pub hops: Option<u32>,
}

impl ArrivalRow {
    fn key(&self) -> (u16, u64, u64) {
        (self.class, self.arrival.sender, self.arrival.index)
    }
}

/// Arrivals of a run, ordered by class, sender, message and time. A message of the sample has a record for every node
/// that received it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Largest hash of a message in the sample, by class number.
    thresholds: Vec<u64>,
    rows: Vec<ArrivalRow>,
}

impl Arrivals {
    /// Puts the records of all nodes together, all lives of each. Records that can't be true are left out, and those of
    /// messages that one of the nodes did not sample.
    pub fn of(reports: &[ArrivalReport], traffic: &TrafficPlan) -> Self {
        let lowest =
            |class: usize| reports.iter().filter_map(|report| Some(report.classes.get(class)?.threshold)).min();
        let mut thresholds: Vec<u64> = (0..traffic.classes.len()).map(|class| lowest(class).unwrap_or(ALL)).collect();
        let of_report = |report: &ArrivalReport| {
            let node = report.node;
            let classes = (0..).zip(report.classes.clone());
            let rows = classes.flat_map(move |(class, records)| {
                let row = move |arrival| ArrivalRow { class, receiver: node, arrival, hops: None };
                records.rows().map(row).collect::<Vec<_>>()
            });
            rows.collect::<Vec<_>>()
        };
        let mut rows: Vec<ArrivalRow> = vec![];
        for report in reports {
            rows.extend(of_report(report).into_iter().filter(|row| is_possible(row, traffic)));
            rows.retain(|row| is_in_sample(row, traffic, &thresholds));
            while rows.len() > MAX_ROWS {
                thresholds.iter_mut().for_each(|threshold| *threshold /= 2);
                rows.retain(|row| is_in_sample(row, traffic, &thresholds));
            }
        }
        Self::ordered(thresholds, rows)
    }

    /// Orders the records, keeps the first of each message and node, and derives the hops.
    pub(super) fn ordered(thresholds: Vec<u64>, mut rows: Vec<ArrivalRow>) -> Self {
        rows.sort_unstable_by_key(|row| (row.key(), row.receiver, row.arrival.arrived_unix_nanos));
        rows.dedup_by_key(|row| (row.key(), row.receiver));
        rows.sort_unstable_by_key(|row| (row.key(), row.arrival.arrived_unix_nanos, row.receiver));
        for message in rows.chunk_by_mut(|one, other| one.key() == other.key()) {
            count_hops(message);
        }
        Self { thresholds, rows }
    }

    /// All records.
    pub fn rows(&self) -> &[ArrivalRow] {
        &self.rows
    }

    /// Records of one message after the other.
    pub(super) fn messages(&self, class: u16) -> impl Iterator<Item = &[ArrivalRow]> {
        self.of_class(class).chunk_by(|one, other| one.key() == other.key())
    }

    /// Records of one class.
    pub(super) fn of_class(&self, class: u16) -> &[ArrivalRow] {
        let begin = self.rows.partition_point(|row| row.class < class);
        let end = self.rows.partition_point(|row| row.class <= class);
        self.rows.get(begin..end).unwrap_or(&[])
    }

    /// Largest hash of a message in the sample, by class number.
    pub fn thresholds(&self) -> &[u64] {
        &self.thresholds
    }

    /// True if a logical message is in the sample.
    pub(super) fn samples(&self, class: u16, sender: u64, logical: u64) -> bool {
        sample_hash(class, sender, logical) <= self.threshold(class)
    }

    /// True if every message of a class is in the sample.
    pub(super) fn is_whole(&self, class: u16) -> bool {
        self.threshold(class) == ALL
    }

    fn threshold(&self, class: u16) -> u64 {
        self.thresholds.get(usize::from(class)).copied().unwrap_or(0)
    }

    /// Share of the messages of a class that are in the sample, 0 to 1.
    pub(super) fn share(&self, class: u16) -> f64 {
        (self.threshold(class) as f64 + 1.0) / (ALL as f64 + 1.0)
    }
}

fn is_in_sample(row: &ArrivalRow, traffic: &TrafficPlan, thresholds: &[u64]) -> bool {
    let burst = traffic.class(row.class).map_or(1, |class| class.burst());
    let threshold = thresholds.get(usize::from(row.class)).copied().unwrap_or(0);
    sample_hash(row.class, row.arrival.sender, row.arrival.index / burst) <= threshold
}

/// True if a node can have recorded this.
fn is_possible(row: &ArrivalRow, traffic: &TrafficPlan) -> bool {
    let Arrival { sender, index, first_peer, .. } = row.arrival;
    let known = |node: u64| node < traffic.num_nodes;
    if traffic.class(row.class).is_none() || !known(sender) || !known(row.receiver) {
        return false;
    }
    first_peer.is_none_or(known) && (sender == row.receiver || traffic.expects(row.class, sender, row.receiver, index))
}

/// Derives the hops of the records of one message: one more than those of the node that delivered it first.
fn count_hops(message: &mut [ArrivalRow]) {
    let mut hops: BTreeMap<u64, u32> = BTreeMap::new();
    let mut open = message.len();
    // Records are ordered by time, so that one pass is enough, unless the clocks of the nodes differ.
    loop {
        for row in message.iter_mut().filter(|row| row.hops.is_none()) {
            row.hops = match row.arrival.first_peer {
                _ if row.receiver == row.arrival.sender => Some(0),
                Some(peer) if peer == row.arrival.sender => Some(1),
                Some(peer) => hops.get(&peer).map(|hops| hops + 1),
                None => None,
            };
            if let Some(known) = row.hops {
                hops.insert(row.receiver, known);
            }
        }
        let left = message.iter().filter(|row| row.hops.is_none()).count();
        if left == 0 || left == open {
            return;
        }
        open = left;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::node::{ClassPlan, SendPlan, Turn};

    /// A record of class 0, with times in milliseconds.
    pub(in crate::report) fn row(
        sender: u64,
        index: u64,
        receiver: u64,
        times: [u64; 2],
        from: Option<u64>,
    ) -> ArrivalRow {
        let arrival = Arrival {
            sender,
            index,
            intended_unix_nanos: times[0] * 1_000_000,
            arrived_unix_nanos: times[1] * 1_000_000,
            first_peer: from,
            send_lag_micros: Some(0),
        };
        ArrivalRow { class: 0, receiver, arrival, hops: None }
    }

    #[test]
    fn hops_follow_the_peers_that_delivered_first() {
        // 0 sends to 1, 1 forwards to 2, and 2 to 3, whose clock is behind; nobody knows the way to 4.
        let rows = vec![
            row(0, 7, 0, [0, 0], None),
            row(0, 7, 1, [0, 10], Some(0)),
            row(0, 7, 2, [0, 20], Some(1)),
            row(0, 7, 3, [0, 5], Some(2)),
            row(0, 7, 4, [0, 30], Some(5)),
        ];
        let arrivals = Arrivals::ordered(vec![ALL], rows);
        let hops: BTreeMap<u64, Option<u32>> = arrivals.rows().iter().map(|row| (row.receiver, row.hops)).collect();
        assert_eq!(hops, [(0, Some(0)), (1, Some(1)), (2, Some(2)), (3, Some(3)), (4, None)].into());
    }

    #[test]
    fn of_two_records_of_a_message_at_a_node_the_first_counts() {
        let rows = vec![row(0, 1, 1, [0, 20], Some(0)), row(0, 1, 1, [0, 10], Some(0))];
        let arrivals = Arrivals::ordered(vec![ALL], rows);
        assert_eq!(arrivals.rows().iter().map(|row| row.arrival.arrived_unix_nanos).collect::<Vec<_>>(), [10_000_000]);
    }

    #[test]
    fn impossible_records_are_left_out() {
        let plan = SendPlan::new(3, Turn::All, 10);
        let traffic = TrafficPlan { classes: vec![ClassPlan::only(plan.clone(), 100)], ..TrafficPlan::only(plan, 100) };
        for (possible, wrong) in [
            (true, row(0, 1, 1, [0, 1], Some(2))),
            (true, row(0, 1, 0, [0, 1], None)),
            (false, row(3, 1, 1, [0, 1], Some(2))),
            (false, row(0, 1, 3, [0, 1], Some(2))),
            (false, row(0, 1, 1, [0, 1], Some(3))),
            (false, ArrivalRow { class: 1, ..row(0, 1, 1, [0, 1], Some(2)) }),
        ] {
            assert_eq!(is_possible(&wrong, &traffic), possible, "{wrong:?}");
        }
    }
}
