//! Counts of propeller at one node, for the result of a run.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use hdrhistogram::Histogram;

use super::{open::Delivered, refusal::Refusal};
use crate::metrics::Metrics;

/// Units of one owner: those of all messages, and those that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerCounts {
    /// Messages of which a unit belongs to the owner.
    pub messages: u64,
    /// Units that arrived.
    pub arrived: u64,
}

/// Counts since the beginning of a measurement. Late units count in the measurement of their message.
#[derive(Clone, Debug)]
pub struct PropellerTotals {
    /// Units that this node sent to their owners, as a publisher.
    pub units_sent: u64,
    /// Copies of this node's own units that it sent on to the others.
    pub units_forwarded: u64,
    /// Bytes of all these units, their frames without the length included.
    pub unit_bytes: u64,
    /// Units that arrived while their message needed them.
    pub units_received: u64,
    /// Units that arrived when their message needed no more.
    pub units_wasted: u64,
    /// Units that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Messages that this node published.
    pub published: u64,
    /// Bytes of these messages.
    pub published_bytes: u64,
    /// Bytes of all their units, each once.
    pub published_unit_bytes: u64,
    /// Time for encoding, hashing and signing them, in nanoseconds.
    pub encode_nanos: u64,
    /// Messages that were put together from their data shards.
    pub systematic: u64,
    /// Messages of which data shards had to be computed.
    pub computed: u64,
    /// Time for putting messages together and for checking them, in nanoseconds.
    pub rebuild_nanos: u64,
    /// Delivered messages.
    pub delivered: u64,
    /// Bytes of these messages.
    pub delivered_bytes: u64,
    /// Messages that were given up.
    pub given_up: u64,
    /// Delivered messages by the number of units that were there.
    pub units_at_delivery: BTreeMap<usize, u64>,
    /// Microseconds from the first unit of a message to as many as it has data shards.
    pub to_data_micros: Histogram<u64>,
    /// Microseconds from the first unit of a message to its delivery.
    pub to_delivery_micros: Histogram<u64>,
    /// Units by the place of their owner.
    pub owners: Vec<OwnerCounts>,
}

impl PropellerTotals {
    fn new() -> Self {
        /// Digits of the histograms.
        const DIGITS: u8 = 3;
        #[allow(clippy::expect_used, reason = "the digits are a constant that the histogram supports")]
        let histogram = || Histogram::new(DIGITS).expect("three digits");
        Self {
            units_sent: 0,
            units_forwarded: 0,
            unit_bytes: 0,
            units_received: 0,
            units_wasted: 0,
            refused: BTreeMap::new(),
            published: 0,
            published_bytes: 0,
            published_unit_bytes: 0,
            encode_nanos: 0,
            systematic: 0,
            computed: 0,
            rebuild_nanos: 0,
            delivered: 0,
            delivered_bytes: 0,
            given_up: 0,
            units_at_delivery: BTreeMap::new(),
            to_data_micros: histogram(),
            to_delivery_micros: histogram(),
            owners: vec![],
        }
    }
}

/// Counts of the present measurement, shared by the node and its network.
#[derive(Clone, Debug)]
pub struct PropellerCounts {
    totals: Arc<Mutex<PropellerTotals>>,
    epoch: Arc<AtomicU32>,
}

impl Default for PropellerCounts {
    fn default() -> Self {
        Self { totals: Arc::new(Mutex::new(PropellerTotals::new())), epoch: Arc::default() }
    }
}

impl PropellerCounts {
    /// Begins a measurement: all counts are 0, and units of earlier messages count no more.
    pub fn begin(&self) {
        let mut totals = self.lock();
        self.epoch.fetch_add(1, Ordering::Relaxed);
        *totals = PropellerTotals::new();
    }

    /// Counts so far.
    pub fn totals(&self) -> PropellerTotals {
        self.lock().clone()
    }

    /// Number of the present measurement.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, PropellerTotals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts of the measurement `epoch`; none if it is over.
    fn of(&self, epoch: u32) -> Option<MutexGuard<'_, PropellerTotals>> {
        let totals = self.lock();
        (self.epoch() == epoch).then_some(totals)
    }
}

/// Counts of the owner at a place, which is below the size of the committee.
fn at(owners: &mut Vec<OwnerCounts>, place: usize) -> &mut OwnerCounts {
    if owners.len() <= place {
        owners.resize(place + 1, OwnerCounts::default());
    }
    &mut owners[place]
}

/// A published message.
#[derive(Default)]
pub(super) struct Published {
    /// Bytes of the message.
    pub(super) message_bytes: u64,
    /// Bytes of all its units.
    pub(super) unit_bytes: u64,
    /// Units that a queue took, and their bytes.
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    /// Time for encoding, hashing and signing, in nanoseconds.
    pub(super) encode_nanos: u64,
}

/// The counts and the metrics of one network, which receive the same facts.
pub(super) struct Counters {
    pub(super) counts: PropellerCounts,
    pub(super) metrics: Metrics,
}

impl Counters {
    pub(super) fn published(&self, epoch: u32, published: &Published) {
        self.metrics.propeller_units_sent_total.inc_by(published.sent);
        self.metrics.propeller_encode_seconds.observe(published.encode_nanos as f64 / 1e9);
        if let Some(mut totals) = self.counts.of(epoch) {
            totals.units_sent += published.sent;
            totals.unit_bytes += published.sent_bytes;
            totals.published += 1;
            totals.published_bytes += published.message_bytes;
            totals.published_unit_bytes += published.unit_bytes;
            totals.encode_nanos += published.encode_nanos;
        }
    }

    pub(super) fn forwarded(&self, epoch: u32, units: u64, bytes: u64) {
        self.metrics.propeller_units_forwarded_total.inc_by(units);
        if let Some(mut totals) = self.counts.of(epoch) {
            totals.units_forwarded += units;
            totals.unit_bytes += bytes;
        }
    }

    /// A unit arrived from the owner at place `owner`; `opened` are the places of all owners if it is the first of its
    /// message.
    pub(super) fn arrived(&self, epoch: u32, owner: usize, wasted: bool, opened: impl Iterator<Item = usize>) {
        let counter = if wasted {
            &self.metrics.propeller_units_wasted_total
        } else {
            &self.metrics.propeller_units_received_total
        };
        counter.inc();
        let Some(mut totals) = self.counts.of(epoch) else { return };
        *(if wasted { &mut totals.units_wasted } else { &mut totals.units_received }) += 1;
        let owners = &mut totals.owners;
        opened.for_each(|place| at(owners, place).messages += 1);
        at(owners, owner).arrived += 1;
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.metrics.propeller_units_refused_total.of(refusal.name()).inc();
        *self.counts.lock().refused.entry(refusal.name()).or_default() += 1;
    }

    pub(super) fn rebuilt(&self, epoch: u32, systematic: bool, nanos: u64) {
        self.metrics.propeller_rebuild_seconds.observe(nanos as f64 / 1e9);
        if let Some(mut totals) = self.counts.of(epoch) {
            *(if systematic { &mut totals.systematic } else { &mut totals.computed }) += 1;
            totals.rebuild_nanos += nanos;
        }
    }

    pub(super) fn delivered(&self, epoch: u32, delivered: &Delivered) {
        self.metrics.propeller_to_data_seconds.observe(delivered.to_data_nanos as f64 / 1e9);
        self.metrics.propeller_to_delivery_seconds.observe(delivered.to_enough_nanos as f64 / 1e9);
        if let Some(mut totals) = self.counts.of(epoch) {
            totals.delivered += 1;
            totals.delivered_bytes += delivered.message.len() as u64;
            *totals.units_at_delivery.entry(delivered.units).or_default() += 1;
            // The histograms grow to every value.
            let _ = totals.to_data_micros.record(delivered.to_data_nanos / 1000);
            let _ = totals.to_delivery_micros.record(delivered.to_enough_nanos / 1000);
        }
    }

    pub(super) fn given_up(&self, epochs: &[u32]) {
        self.metrics.propeller_messages_given_up_total.inc_by(epochs.len() as u64);
        for epoch in epochs {
            if let Some(mut totals) = self.counts.of(*epoch) {
                totals.given_up += 1;
            }
        }
    }
}
