//! Kinds of metrics in the table, and their creation and registration.

use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::{Atomic, Collector, GenericCounter, GenericCounterVec, GenericGauge, GenericGaugeVec},
};

use crate::scenario::DEFAULT_CLASS;

/// Bucket bounds of every histogram, in seconds: 100 us to 60 s, about three a decade, and more from 5 s on, because a
/// quantile inside a bucket is a guess, which is off by many seconds in a wide one.
const BUCKETS: [f64; 25] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 12.5,
    15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0,
];

/// Type of a metric in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// Name in the text format.
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
    /// Type of the metric.
    pub kind: Kind,
    /// Label and its values, if it has one. The values of `class` are the names of the traffic classes of a run.
    pub label: Option<(&'static str, &'static [&'static str])>,
    /// Meaning, with the unit.
    pub help: &'static str,
}

/// A type that a row of the table can have.
pub(super) trait Registered: Sized {
    const KIND: Kind;
    const LABEL: Option<(&'static str, &'static [&'static str])> = None;
    /// `classes` are the names of the traffic classes.
    fn register(definition: &Definition, registry: &Registry, classes: &[String]) -> prometheus::Result<Self>;
}

fn registered<M: Collector + Clone + 'static>(metric: M, registry: &Registry) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

macro_rules! plain {
    ($($type:ty, $kind:ident;)*) => {$(
        impl Registered for $type {
            const KIND: Kind = Kind::$kind;
            fn register(definition: &Definition, registry: &Registry, _: &[String]) -> prometheus::Result<Self> {
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
    fn register(definition: &Definition, registry: &Registry, _: &[String]) -> prometheus::Result<Self> {
        let options = HistogramOpts::new(definition.name, definition.help).buckets(BUCKETS.to_vec());
        registered(Histogram::with_opts(options)?, registry)
    }
}

/// A counter with one label whose values are known; all its series exist from the start.
#[derive(Clone, Debug)]
pub struct Labelled(IntCounterVec);

impl Labelled {
    /// Counter of one value of the label.
    pub fn of(&self, value: &str) -> IntCounter {
        self.0.with_label_values(&[value])
    }
}

impl Registered for Labelled {
    const KIND: Kind = Kind::Counter;
    fn register(definition: &Definition, registry: &Registry, _: &[String]) -> prometheus::Result<Self> {
        let (label, values) = definition.label.unwrap_or(("", &[]));
        let counters =
            registered(IntCounterVec::new(Opts::new(definition.name, definition.help), &[label])?, registry)?;
        for value in values {
            counters.with_label_values(&[value]);
        }
        Ok(Self(counters))
    }
}

/// Label of the metrics of messages.
const CLASS: &str = "class";

/// A metric with a series for each traffic class.
#[derive(Clone, Debug)]
pub struct ByClass<M> {
    first: M,
    others: Vec<M>,
}

impl<M> ByClass<M> {
    /// Series of a class, by its number; series of class 0 for an unknown number.
    pub fn of(&self, class: u16) -> &M {
        usize::from(class).checked_sub(1).and_then(|place| self.others.get(place)).unwrap_or(&self.first)
    }

    fn new(classes: &[String], series: impl Fn(&str) -> M) -> Self {
        let (first, others) = match classes {
            [first, others @ ..] => (first.as_str(), others),
            [] => (DEFAULT_CLASS, [].as_slice()),
        };
        Self { first: series(first), others: others.iter().map(|name| series(name)).collect() }
    }
}

/// A single metric, or one series of it.
pub(super) trait Series: Sized {
    const KIND: Kind;
    fn by_class(definition: &Definition, registry: &Registry, classes: &[String]) -> prometheus::Result<ByClass<Self>>;
}

impl<P: Atomic + 'static> Series for GenericCounter<P> {
    const KIND: Kind = Kind::Counter;
    fn by_class(definition: &Definition, registry: &Registry, classes: &[String]) -> prometheus::Result<ByClass<Self>> {
        let options = Opts::new(definition.name, definition.help);
        let family = registered(GenericCounterVec::<P>::new(options, &[CLASS])?, registry)?;
        Ok(ByClass::new(classes, |class| family.with_label_values(&[class])))
    }
}

impl<P: Atomic + 'static> Series for GenericGauge<P> {
    const KIND: Kind = Kind::Gauge;
    fn by_class(definition: &Definition, registry: &Registry, classes: &[String]) -> prometheus::Result<ByClass<Self>> {
        let options = Opts::new(definition.name, definition.help);
        let family = registered(GenericGaugeVec::<P>::new(options, &[CLASS])?, registry)?;
        Ok(ByClass::new(classes, |class| family.with_label_values(&[class])))
    }
}

impl Series for Histogram {
    const KIND: Kind = Kind::Histogram;
    fn by_class(definition: &Definition, registry: &Registry, classes: &[String]) -> prometheus::Result<ByClass<Self>> {
        let options = HistogramOpts::new(definition.name, definition.help).buckets(BUCKETS.to_vec());
        let family = registered(HistogramVec::new(options, &[CLASS])?, registry)?;
        Ok(ByClass::new(classes, |class| family.with_label_values(&[class])))
    }
}

impl<M: Series> Registered for ByClass<M> {
    const KIND: Kind = M::KIND;
    const LABEL: Option<(&'static str, &'static [&'static str])> = Some((CLASS, &[]));
    fn register(definition: &Definition, registry: &Registry, classes: &[String]) -> prometheus::Result<Self> {
        M::by_class(definition, registry, classes)
    }
}
