//! Arrivals of single messages, of a sample that all nodes take alike.
//!
//! A hash of class, sender and logical message decides if a message is in the sample: it is if the hash is at most a
//! threshold. A node begins with the threshold at which every message is, and halves it whenever its room is full, so
//! that its memory is bounded for any load. The hash is the same at every node: a message below the lowest threshold of
//! all nodes was recorded by each of them, and whoever reads the records keeps these alone.

use serde::{Deserialize, Serialize};

use super::{bounded, plan::TrafficPlan};
use crate::scenario::MAX_CLASSES;

/// Version of the JSON of [`ArrivalReport`]; raised when a field changes its meaning or is removed.
pub const ARRIVALS_SCHEMA_VERSION: u32 = 1;

/// Maximum number of arrivals that a node records, over all classes: 6 MiB, and enough for the 99.9th percentile of ten
/// classes.
pub(super) const MAX_ARRIVALS: usize = 100_000;

/// Maximum number of arrivals that all nodes of a run record together, which bounds the memory of the runner to some
/// 100 MiB.
const MAX_ARRIVALS_OF_RUN: u64 = 2_000_000;

/// Threshold at which every message is in the sample.
pub const ALL: u64 = u64::MAX;

/// Number that decides if a logical message is in the sample. The mixing function is the one of SplitMix64 (Steele, Lea,
/// Flood, "Fast splittable pseudorandom number generators", 2014).
pub fn sample_hash(class: u16, sender: u64, logical: u64) -> u64 {
    let mix = |state: u64| {
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ (state >> 31)
    };
    mix(mix(mix(u64::from(class)) ^ sender) ^ logical)
}

/// Number of arrivals that one of `num_nodes` nodes may record, if it is permitted to record `max_arrivals`.
pub(super) fn capacity(max_arrivals: u64, num_nodes: u64) -> usize {
    let share = MAX_ARRIVALS_OF_RUN / num_nodes.max(1);
    usize::try_from(max_arrivals.min(share)).unwrap_or(MAX_ARRIVALS).min(MAX_ARRIVALS)
}

/// First copy of a message at a node; at its sender, the handover to the network. Times are nanoseconds since the Unix
/// epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Node id of the sender.
    pub sender: u64,
    /// Number among the messages of its sender and class.
    pub index: u64,
    /// Intended send time.
    pub intended_unix_nanos: u64,
    /// Time of the arrival; at the sender, of the handover.
    pub arrived_unix_nanos: u64,
    /// Node that delivered this first copy; none at the sender.
    pub first_peer: Option<u64>,
    /// Time from the intended to the real send time, in microseconds; none if the sender does not state it.
    pub send_lag_micros: Option<u64>,
}

/// Records of one class at a node, in a bounded room.
#[derive(Clone, Debug)]
pub(super) struct ArrivalLog {
    class: u16,
    burst: u64,
    threshold: u64,
    capacity: usize,
    rows: Vec<Arrival>,
}

impl ArrivalLog {
    /// Room for `capacity` records of a class whose logical messages have `burst` parts.
    pub(super) fn new(class: u16, burst: u64, capacity: usize) -> Self {
        Self { class, burst: burst.max(1), threshold: ALL, capacity, rows: vec![] }
    }

    fn hash(&self, arrival: &Arrival) -> u64 {
        sample_hash(self.class, arrival.sender, arrival.index / self.burst)
    }

    /// True if a message is in the sample.
    pub(super) fn wants(&self, sender: u64, index: u64) -> bool {
        self.capacity > 0 && sample_hash(self.class, sender, index / self.burst) <= self.threshold
    }

    /// Records an arrival of a message that is in the sample.
    pub(super) fn push(&mut self, arrival: Arrival) {
        while self.rows.len() >= self.capacity {
            if self.threshold == 0 {
                return;
            }
            self.threshold /= 2;
            let rows = std::mem::take(&mut self.rows);
            self.rows = rows.into_iter().filter(|row| self.hash(row) <= self.threshold).collect();
        }
        if self.hash(&arrival) <= self.threshold {
            self.rows.push(arrival);
        }
    }
}

/// Logs of all classes of a node, which share its room.
pub(super) fn logs(traffic: &TrafficPlan, capacity: usize) -> impl Iterator<Item = ArrivalLog> + '_ {
    let share = capacity / traffic.classes.len().max(1);
    traffic.numbered().map(move |(number, class)| ArrivalLog::new(number, class.burst(), share))
}

/// Records of one class, column by column: value `i` of each column belongs to record `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassArrivals {
    /// Largest hash of a message in the sample.
    pub threshold: u64,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_ARRIVALS>")]
    sender: Vec<u64>,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_ARRIVALS>")]
    index: Vec<u64>,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_ARRIVALS>")]
    intended_unix_nanos: Vec<u64>,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_ARRIVALS>")]
    arrived_unix_nanos: Vec<u64>,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_ARRIVALS>")]
    first_peer: Vec<Option<u64>>,
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_ARRIVALS>")]
    send_lag_micros: Vec<Option<u64>>,
}

impl ClassArrivals {
    /// The records; columns of different lengths end with the shortest.
    pub fn rows(&self) -> impl Iterator<Item = Arrival> + '_ {
        let columns = self.sender.iter().zip(&self.index).zip(&self.intended_unix_nanos);
        let columns = columns.zip(&self.arrived_unix_nanos).zip(&self.first_peer).zip(&self.send_lag_micros);
        columns.map(|(((((sender, index), intended), arrived), first_peer), send_lag)| Arrival {
            sender: *sender,
            index: *index,
            intended_unix_nanos: *intended,
            arrived_unix_nanos: *arrived,
            first_peer: *first_peer,
            send_lag_micros: *send_lag,
        })
    }

    fn of(log: &ArrivalLog) -> Self {
        Self {
            threshold: log.threshold,
            sender: log.rows.iter().map(|row| row.sender).collect(),
            index: log.rows.iter().map(|row| row.index).collect(),
            intended_unix_nanos: log.rows.iter().map(|row| row.intended_unix_nanos).collect(),
            arrived_unix_nanos: log.rows.iter().map(|row| row.arrived_unix_nanos).collect(),
            first_peer: log.rows.iter().map(|row| row.first_peer).collect(),
            send_lag_micros: log.rows.iter().map(|row| row.send_lag_micros).collect(),
        }
    }
}

/// Records of a node: the messages of the measured window that are in its sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivalReport {
    /// [`ARRIVALS_SCHEMA_VERSION`] of the node that wrote it.
    pub schema_version: u32,
    /// Node id.
    pub node: u64,
    /// Records of each class, by class number.
    #[serde(deserialize_with = "bounded::list::<_, _, MAX_CLASSES>")]
    pub classes: Vec<ClassArrivals>,
}

impl ArrivalReport {
    pub(super) fn of(node: u64, logs: &[ArrivalLog]) -> Self {
        let classes = logs.iter().map(ClassArrivals::of).collect();
        Self { schema_version: ARRIVALS_SCHEMA_VERSION, node, classes }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn arrival(sender: u64, index: u64) -> Arrival {
        Arrival {
            sender,
            index,
            intended_unix_nanos: index,
            arrived_unix_nanos: index + 1,
            first_peer: Some(sender),
            send_lag_micros: None,
        }
    }

    #[test]
    fn the_room_of_a_node_shrinks_with_the_size_of_the_network() {
        assert_eq!((capacity(u64::MAX, 3), capacity(u64::MAX, 1_000), capacity(500, 3)), (MAX_ARRIVALS, 2_000, 500));
        assert_eq!(capacity(0, 3), 0);
    }

    #[test]
    fn a_log_without_room_wants_nothing() {
        assert!(!ArrivalLog::new(0, 1, 0).wants(1, 1));
    }

    #[test]
    fn the_records_survive_their_columns() {
        let mut log = ArrivalLog::new(3, 1, 10);
        log.push(arrival(1, 5));
        log.push(Arrival { first_peer: None, send_lag_micros: Some(7), ..arrival(2, 6) });
        let report = ArrivalReport::of(9, &[log.clone()]);
        let text = serde_json::to_string(&report).unwrap();
        let read: ArrivalReport = serde_json::from_str(&text).unwrap();
        assert_eq!(read.classes[0].rows().collect::<Vec<_>>(), log.rows);
    }

    #[test]
    fn a_longer_column_than_a_node_can_have_is_refused() {
        let zeros = vec!["0"; MAX_ARRIVALS + 1].join(",");
        let text = format!(r#"{{"threshold":1,"sender":[{zeros}]}}"#);
        assert!(serde_json::from_str::<ClassArrivals>(&text).unwrap_err().to_string().contains("at most"));
    }

    proptest! {
        #[test]
        fn a_full_log_keeps_exactly_the_messages_of_its_threshold(
            messages in prop::collection::btree_set((0..4_u64, 0..400_u64), 0..600), capacity in 1..200_usize, burst in 1..4_u64,
        ) {
            let mut log = ArrivalLog::new(2, burst, capacity);
            for (sender, index) in &messages {
                if log.wants(*sender, *index) {
                    log.push(arrival(*sender, *index));
                }
            }
            let kept: BTreeSet<(u64, u64)> = log.rows.iter().map(|row| (row.sender, row.index)).collect();
            let of_threshold = |(sender, index): &&(u64, u64)| sample_hash(2, *sender, *index / burst) <= log.threshold;
            prop_assert_eq!(kept, messages.iter().filter(of_threshold).copied().collect());
            prop_assert!(log.rows.len() <= capacity);
        }
    }
}
