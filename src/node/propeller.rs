//! Counts of propeller in a node's report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{bounded, histogram_text::HistogramText};
use crate::network::{MAX_NODES, PropellerTotals, Roster};

/// Maximum number of nodes, and of units of a message, in lists.
const MOST_NODES: usize = MAX_NODES as usize;

/// Units of one owner at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OwnerSummary {
    /// Node id of the owner.
    pub owner: u64,
    /// Messages of which a unit belongs to the owner, and of which some unit arrived.
    pub messages: u64,
    /// Units of the owner that arrived.
    pub arrived: u64,
}

/// Messages that had the same number of units when they were delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UnitsAtDelivery {
    /// Number of units, this node's own among them.
    pub units: u64,
    /// Number of messages.
    pub messages: u64,
}

/// Counts of propeller since the opening of the measured window: of messages whose first unit arrived after it, and of
/// messages that this node published after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PropellerSummary {
    /// Units that this node sent to their owners, as a publisher.
    pub units_sent: u64,
    /// Copies of this node's own units that it sent on to the others.
    pub units_forwarded: u64,
    /// Bytes of all these units, with the frames around them.
    pub unit_bytes: u64,
    /// Units that arrived while their message needed them.
    pub units_received: u64,
    /// Units that arrived after their message was delivered or given up.
    pub units_wasted: u64,
    /// Frames, units and messages that were refused, by reason.
    #[serde(deserialize_with = "bounded::labels")]
    pub refused: BTreeMap<String, u64>,
    /// Messages that this node published.
    pub published: u64,
    /// Bytes of these messages.
    pub published_bytes: u64,
    /// Bytes of all their units, each once.
    pub published_unit_bytes: u64,
    /// Time for encoding, hashing and signing them, in seconds.
    pub encode_seconds: f64,
    /// Messages that were put together from their data shards.
    pub systematic: u64,
    /// Messages of which data shards had to be computed.
    pub computed: u64,
    /// Time for putting messages together and for checking them, in seconds.
    pub rebuild_seconds: f64,
    /// Delivered messages.
    pub delivered: u64,
    /// Bytes of these messages.
    pub delivered_bytes: u64,
    /// Messages that were given up, because too few units arrived in time.
    pub given_up: u64,
    /// Delivered messages by the number of units that were there.
    #[serde(deserialize_with = "bounded::list::<_, _, MOST_NODES>")]
    pub units_at_delivery: Vec<UnitsAtDelivery>,
    /// Time from the first unit of a message to as many units as rebuild it, in microseconds.
    pub to_data_micros: HistogramText,
    /// Time from the first unit of a message to its delivery, in microseconds.
    pub to_delivery_micros: HistogramText,
    /// Units by their owner.
    #[serde(deserialize_with = "bounded::list::<_, _, MOST_NODES>")]
    pub owners: Vec<OwnerSummary>,
}

impl PropellerSummary {
    pub(super) fn new(totals: &PropellerTotals, roster: &Roster) -> Self {
        // A place of the committee is the number of a peer id in their order.
        let mut by_place: Vec<_> = roster.peers().iter().collect();
        by_place.sort_unstable();
        let owners = totals.owners.iter().zip(by_place);
        let owners = owners.filter_map(|(owner, peer)| {
            Some(OwnerSummary { owner: roster.id(peer)?, messages: owner.messages, arrived: owner.arrived })
        });
        let units_at_delivery = totals.units_at_delivery.iter();
        Self {
            units_sent: totals.units_sent,
            units_forwarded: totals.units_forwarded,
            unit_bytes: totals.unit_bytes,
            units_received: totals.units_received,
            units_wasted: totals.units_wasted,
            refused: totals.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            published: totals.published,
            published_bytes: totals.published_bytes,
            published_unit_bytes: totals.published_unit_bytes,
            encode_seconds: totals.encode_nanos as f64 / 1e9,
            systematic: totals.systematic,
            computed: totals.computed,
            rebuild_seconds: totals.rebuild_nanos as f64 / 1e9,
            delivered: totals.delivered,
            delivered_bytes: totals.delivered_bytes,
            given_up: totals.given_up,
            units_at_delivery: units_at_delivery
                .map(|(units, messages)| UnitsAtDelivery { units: *units as u64, messages: *messages })
                .collect(),
            to_data_micros: HistogramText::encode(&totals.to_data_micros),
            to_delivery_micros: HistogramText::encode(&totals.to_delivery_micros),
            owners: owners.filter(|owner| owner.messages > 0).collect(),
        }
    }
}
