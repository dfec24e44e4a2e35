//! Result of propeller: units, their bytes, and the times of encoding and rebuilding, over all nodes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    lives::{add_all, merge_histograms, sum},
    quantiles::{DelaySummary, Missing},
    units::{NONE, time},
};
use crate::node::{NodeSummary, OwnerSummary, PropellerSummary, UnitsAtDelivery};

/// Counts of propeller over all nodes since the opening of the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PropellerRow {
    /// Units that publishers sent to their owners.
    pub units_sent: u64,
    /// Units that their owners sent on to the others.
    pub units_forwarded: u64,
    /// Units that arrived while their message needed them.
    pub units_received: u64,
    /// Units that arrived after their message was delivered or given up.
    pub units_wasted: u64,
    /// Frames, units and messages that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Deliveries.
    pub delivered: u64,
    /// Messages that a node gave up, because too few units arrived in time.
    pub given_up: u64,
    /// Messages that a node put together from their data shards.
    pub systematic: u64,
    /// Messages of which a node had to compute data shards.
    pub computed: u64,
    /// Mean time for encoding, hashing and signing a message, in microseconds; none without a published message.
    pub encode_micros: Option<f64>,
    /// Mean time for putting a message together and for checking it, in microseconds; none without one.
    pub rebuild_micros: Option<f64>,
    /// Bytes of all sent units, with the frames around them, per byte of the delivered messages.
    pub unit_bytes_per_delivered_byte: Option<f64>,
    /// The same if every node sends its unit to every other one exactly once: the minimum of the protocol without
    /// losses.
    pub least_bytes_per_delivered_byte: Option<f64>,
    /// Time from the first unit of a delivered message to as many units as rebuild it.
    pub to_data: DelaySummary,
    /// Time from the first unit of a message to its delivery.
    pub to_delivery: DelaySummary,
    /// Deliveries by the number of units that were there.
    pub units_at_delivery: Vec<UnitsAtDelivery>,
    /// Owners of which units did not arrive, over all receivers.
    pub missing_owners: Vec<OwnerSummary>,
}

impl PropellerRow {
    /// Adds up the reports of the nodes, all lives of a restarted node among them; none without propeller.
    pub(super) fn of(nodes: &[&NodeSummary], problems: &mut Vec<String>) -> Option<Self> {
        let with: Vec<(u64, &PropellerSummary)> =
            nodes.iter().filter_map(|node| Some((node.node, node.propeller.as_ref()?))).collect();
        if with.is_empty() {
            return None;
        }
        let total = |field: fn(&PropellerSummary) -> u64| sum(with.iter().map(|(_, summary)| field(summary)));
        let seconds = |field: fn(&PropellerSummary) -> f64| with.iter().map(|(_, summary)| field(summary)).sum::<f64>();
        let mean = |seconds: f64, count: u64| (count > 0).then(|| seconds * 1e6 / count as f64);
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let mut refused = BTreeMap::new();
        let (mut at_delivery, mut owners) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, (u64, u64)>::new());
        for (_, summary) in &with {
            add_all(&mut refused, &summary.refused);
            for UnitsAtDelivery { units, messages } in &summary.units_at_delivery {
                let count = at_delivery.entry(*units).or_default();
                *count = count.saturating_add(*messages);
            }
            for owner in &summary.owners {
                let (messages, arrived) = owners.entry(owner.owner).or_default();
                *messages = messages.saturating_add(owner.messages);
                *arrived = arrived.saturating_add(owner.arrived);
            }
        }
        let to_data = merge_histograms(with.iter().map(|(node, summary)| (*node, &summary.to_data_micros)), problems);
        let to_delivery =
            merge_histograms(with.iter().map(|(node, summary)| (*node, &summary.to_delivery_micros)), problems);
        let (systematic, computed) = (total(|summary| summary.systematic), total(|summary| summary.computed));
        Some(Self {
            units_sent: total(|summary| summary.units_sent),
            units_forwarded: total(|summary| summary.units_forwarded),
            units_received: total(|summary| summary.units_received),
            units_wasted: total(|summary| summary.units_wasted),
            refused,
            delivered: total(|summary| summary.delivered),
            given_up: total(|summary| summary.given_up),
            systematic,
            computed,
            encode_micros: mean(seconds(|summary| summary.encode_seconds), total(|summary| summary.published)),
            rebuild_micros: mean(seconds(|summary| summary.rebuild_seconds), systematic.saturating_add(computed)),
            unit_bytes_per_delivered_byte: ratio(
                total(|summary| summary.unit_bytes),
                total(|summary| summary.delivered_bytes),
            ),
            // Each unit travels to as many nodes as the message does.
            least_bytes_per_delivered_byte: ratio(
                total(|summary| summary.published_unit_bytes),
                total(|summary| summary.published_bytes),
            ),
            to_data: DelaySummary::of(&to_data, &Missing::default()),
            to_delivery: DelaySummary::of(&to_delivery, &Missing::default()),
            units_at_delivery: at_delivery
                .into_iter()
                .map(|(units, messages)| UnitsAtDelivery { units, messages })
                .collect(),
            missing_owners: owners
                .into_iter()
                .filter(|(_, (messages, arrived))| arrived < messages)
                .map(|(owner, (messages, arrived))| OwnerSummary { owner, messages, arrived })
                .collect(),
        })
    }

    /// Rows of the table of a run: name and text.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let number = |value: Option<f64>| value.map_or_else(|| NONE.into(), |value| format!("{value:.3}"));
        let micros = |value: Option<f64>| time(value.map(|value| value.round() as u64));
        let mut rows = vec![
            (
                "propeller units",
                format!(
                    "{} sent, {} forwarded, {} received, {} wasted after the delivery",
                    self.units_sent, self.units_forwarded, self.units_received, self.units_wasted
                ),
            ),
            (
                "propeller bytes",
                format!(
                    "{} of units sent per byte delivered, {} at least by the protocol",
                    number(self.unit_bytes_per_delivered_byte),
                    number(self.least_bytes_per_delivered_byte)
                ),
            ),
            (
                "propeller times",
                format!(
                    "encode {} and rebuild {} on average; from the first unit to the data p50 {} p99 {}, to the \
                     delivery p50 {} p99 {}",
                    micros(self.encode_micros),
                    micros(self.rebuild_micros),
                    time(self.to_data.p50_micros),
                    time(self.to_data.p99_micros),
                    time(self.to_delivery.p50_micros),
                    time(self.to_delivery.p99_micros)
                ),
            ),
            (
                "rebuilt",
                format!(
                    "{} from computed shards, {} from the data shards alone, {} given up",
                    self.computed, self.systematic, self.given_up
                ),
            ),
        ];
        if !self.refused.is_empty() {
            let kinds: Vec<String> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            rows.push(("refused units", kinds.join(", ")));
        }
        if !self.missing_owners.is_empty() {
            /// Maximum number of owners in the table; the result has all.
            const SHOWN: usize = 5;
            let of = |owner: &OwnerSummary| {
                format!("{} of {} of node {}", owner.messages - owner.arrived, owner.messages, owner.owner)
            };
            let mut shown: Vec<String> = self.missing_owners.iter().take(SHOWN).map(of).collect();
            if let Some(more) = self.missing_owners.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                shown.push(format!("and units of {more} more nodes"));
            }
            rows.push(("missing units", shown.join(", ")));
        }
        rows
    }
}
