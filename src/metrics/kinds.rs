//! The kinds of metric the table may use, and how each is made and registered.

use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Bucket bounds of every histogram, in seconds: 100 us to 60 s, about three a decade.
const BUCKETS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What Prometheus calls the type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// As the text format writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Name of the metric.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The label and its values, if it has one.
    pub label: Option<(&'static str, &'static [&'static str])>,
    /// What it means, with the unit.
    pub help: &'static str,
}

/// A type that a row of the table can have.
pub(super) trait Registered: Sized {
    const KIND: Kind;
    fn register(definition: &Definition, registry: &Registry) -> prometheus::Result<Self>;
}

fn registered<M: Collector + Clone + 'static>(metric: M, registry: &Registry) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

macro_rules! plain {
    ($($type:ty, $kind:ident;)*) => {$(
        impl Registered for $type {
            const KIND: Kind = Kind::$kind;
            fn register(definition: &Definition, registry: &Registry) -> prometheus::Result<Self> {
                registered(<$type>::new(definition.name, definition.help)?, registry)
            }
        }
    )*};
}

plain! {
    Counter, Counter;
    IntCounter, Counter;
    Gauge, Gauge;
    IntGauge, Gauge;
}

impl Registered for Histogram {
    const KIND: Kind = Kind::Histogram;
    fn register(definition: &Definition, registry: &Registry) -> prometheus::Result<Self> {
        let options = HistogramOpts::new(definition.name, definition.help).buckets(BUCKETS.to_vec());
        registered(Histogram::with_opts(options)?, registry)
    }
}

/// A counter with one label whose values are known; all its series are there from the start.
#[derive(Clone, Debug)]
pub struct Labelled(IntCounterVec);

impl Labelled {
    /// The counter of one value of the label.
    pub fn of(&self, value: &str) -> IntCounter {
        self.0.with_label_values(&[value])
    }
}

impl Registered for Labelled {
    const KIND: Kind = Kind::Counter;
    fn register(definition: &Definition, registry: &Registry) -> prometheus::Result<Self> {
        let (label, values) = definition.label.unwrap_or(("", &[]));
        let counters =
            registered(IntCounterVec::new(Opts::new(definition.name, definition.help), &[label])?, registry)?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(Self(counters))
    }
}
