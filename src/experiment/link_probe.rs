//! Measurement of the links by the nodes themselves, before the window and after it.
//!
//! First, every pair of nodes exchanges pings, all pairs at once, at a rate that loads neither the links nor the host.
//! Then single messages go from each node to the next one, over links that are idle otherwise. Then trains go from each
//! node to the next one, at twice the configured throughput, so that every interface is measured in both directions. In
//! a small network the trains go to every other node in turn, so that every link is measured.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures::{StreamExt, future::join_all, stream};

use super::{client::NodeClient, plan::Plan};
use crate::{
    probe::{
        MAX_TRAIN_RATE, MessageOrder, PING_BYTES, ProbeOrder, ProbeResult, TRAIN_BYTES, TrainOrder, message_bytes,
    },
    report::{LinkMeasured, MessageMeasured, message_problem},
    scenario::{LinkPlan, Shape},
    shaping::{burst_bytes, queue_bytes},
};

/// Minimum interval of pings on a link, and maximum number of pings per second over all links.
const PING_INTERVAL: Duration = Duration::from_millis(10);
const PINGS_PER_SECOND: u64 = 5000;
/// Share of a link's throughput that pings may take.
const PING_SHARE: f64 = 0.05;

/// Rate of a train, relative to the link's throughput.
const TRAIN_FACTOR: f64 = 2.0;
/// Minimum time in which a token bucket's allowance and queue are filled; their sizes are defined as times.
const UNCOUNTED_MILLIS: f64 = 250.0;
/// Assumed frame of the links' interfaces on the wire, and tick of coarse timers, for an estimate of the bytes sent
/// ahead.
const USUAL_FRAME: u64 = 1538;
const COARSE_TIMER_MICROS: u64 = 10_000;
/// Number of packets that the counted time of a train suffices for, within bounds.
const TRAIN_PACKETS: f64 = 100.0;
const COUNTED_MILLIS: std::ops::RangeInclusive<f64> = 400.0..=15_000.0;
/// Bytes per second of all concurrent trains: the capacity of two processors beside all other work.
const TRAINS_BYTES_PER_SECOND: u64 = 50_000_000;
/// Number of repeated measurements of links that are too slow, and number of links in each: with more links, the host
/// is not the cause.
const MORE_TRAINS: usize = 3;
const MOST_AGAIN: usize = 10;
/// Seconds of a train and messages over the slowest link, including the wait for the counts.
const LONGEST_TRAIN: u64 = 90;
/// Maximum size of a network in which every link gets a train of its own.
const TRAIN_TO_ALL: u64 = 5;

/// Bytes of a message, and of one over a slower link: many times the frame that a link sends ahead.
const MESSAGE: u64 = 64 << 10;
const SLOW_MESSAGE: u64 = 32 << 10;
const SLOW: u64 = 100_000;
/// Number of messages over each link, of which the median is used. One message if it takes seconds.
const MESSAGES: u64 = 3;
/// Time for a message beyond twice its own, in milliseconds: a busy host is late, not the link.
const MESSAGE_SLACK: u64 = 500;

/// Maximum time of an answer beyond the measurement itself.
const ANSWER_SLACK: Duration = Duration::from_secs(30);

/// Maximum number of seconds of one measurement of all links between this number of nodes, if pings go on for `pings`;
/// a bound, not an estimate.
pub(crate) fn longest_seconds(pings: u64, num_nodes: u64) -> u64 {
    let second_trains = TRAIN_TO_ALL * (MORE_TRAINS * MOST_AGAIN) as u64;
    pings * 2 + 60 + LONGEST_TRAIN * (num_nodes.max(TRAIN_TO_ALL) + second_trains)
}

type Measured = BTreeMap<(u64, u64), LinkMeasured>;

/// Measures every link between nodes of `alive`.
pub(crate) async fn measure(
    plan: &Plan,
    clients: &[NodeClient],
    links: &LinkPlan,
    alive: &[u64],
) -> Result<Measured, String> {
    let prober = Prober { plan, clients, links, alive };
    let tolerance = plan.link_probe.tolerance.throughput_percent / 100.0;
    let mut measured = prober.ping().await?;
    for round in 1..=prober.train_rounds() {
        let limited = prober.limited(round);
        prober.messages(&limited, &mut measured).await?;
        for _ in 0..MORE_TRAINS {
            let off = |link: &Limited| prober.message_is_off(link, &measured);
            let again: Vec<Limited> = limited.iter().copied().filter(off).take(MOST_AGAIN).collect();
            for link in again {
                prober.messages(&[link], &mut measured).await?;
            }
        }
        let at_once = limited.iter().map(|link| link.rate).max().map_or(1, |fastest| TRAINS_BYTES_PER_SECOND / fastest);
        prober.train(&limited, usize::try_from(at_once).unwrap_or(usize::MAX).max(1), &mut measured).await?;
        // A busy host carries less, so slow links get more trains, without others at the same time.
        for _ in 0..MORE_TRAINS {
            let short = |link: &Limited| {
                let found = measured.get(&(link.from, link.to)).and_then(|link| link.throughput_bytes_per_second);
                found.is_some_and(|found| found < link.rate as f64 * (1.0 - tolerance))
            };
            let again: Vec<Limited> = limited.iter().copied().filter(short).take(MOST_AGAIN).collect();
            prober.train(&again, 1, &mut measured).await?;
        }
    }
    Ok(measured)
}

/// A link with a limited throughput, in bytes per second.
#[derive(Clone, Copy)]
struct Limited {
    from: u64,
    to: u64,
    shape: Shape,
    rate: u64,
}

struct Prober<'a> {
    plan: &'a Plan,
    clients: &'a [NodeClient],
    links: &'a LinkPlan,
    alive: &'a [u64],
}

impl Prober<'_> {
    fn target(&self, id: u64) -> Result<SocketAddr, String> {
        self.plan.probe_targets.get(&id).copied().ok_or_else(|| format!("the links of node {id} can't be measured"))
    }

    async fn probe(&self, from: u64, to: u64, mut order: ProbeOrder) -> Result<ProbeResult, String> {
        let (there, back) = (self.links.effective_shape(from, to), self.links.effective_shape(to, from));
        let longest_trip =
            [there, back].iter().map(|shape| shape.latency_millis + shape.jitter_millis).sum::<f64>().ceil() as u64;
        let queue = order.train.map_or(0, |train| queue_millis(&there, &back, train));
        order.wait_millis = longest_trip + 250 + queue;
        let result = NodeClient::of(self.clients, from)?.probe(&order, order.longest() + ANSWER_SLACK).await;
        result.map_err(|error| format!("the link {from} -> {to} can't be measured: {error}"))
    }

    /// Pings between all pairs; each measures both directions.
    async fn ping(&self) -> Result<Measured, String> {
        let pairs: Vec<(u64, u64)> = self
            .alive
            .iter()
            .enumerate()
            .flat_map(|(at, from)| self.alive[at + 1..].iter().map(move |to| (*from, *to)))
            .collect();
        let paced = Duration::from_secs(1) * u32::try_from(pairs.len()).unwrap_or(u32::MAX)
            / u32::try_from(PINGS_PER_SECOND).unwrap_or(1);
        let probes = pairs.iter().map(|(from, to)| async {
            let rates = [self.links.effective_shape(*from, *to), self.links.effective_shape(*to, *from)];
            let slowest = rates.iter().filter_map(Shape::bytes_per_second).min();
            let gentle = slowest
                .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(PING_BYTES as f64 / (PING_SHARE * rate as f64)));
            let interval = PING_INTERVAL.max(paced).max(gentle);
            let window = Duration::from_secs(self.plan.link_probe.seconds);
            let pings = (window.as_secs_f64() / interval.as_secs_f64()).ceil().max(1.0) as u64;
            let interval_micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            let order = ProbeOrder {
                target: self.target(*to)?,
                pings,
                interval_micros,
                wait_millis: 0,
                message: None,
                train: None,
            };
            Ok::<_, String>(((*from, *to), self.probe(*from, *to, order).await?))
        });
        let mut measured = Measured::new();
        for result in join_all(probes).await {
            let ((from, to), probe) = result?;
            // One-way times mean something only if both ends have one clock.
            let one_clock = self.plan.share_a_clock(from, to);
            // Packets that were lost on the way there can't be lost on the way back.
            let there = probe.there.unwrap_or(0).min(probe.pings);
            let way_there = LinkMeasured {
                round_trip: probe.round_trip,
                one_way: probe.one_way_there.filter(|_| one_clock),
                packets: probe.pings,
                lost: probe.pings - there,
                duplicates: Some(probe.duplicates),
                reordered: Some(probe.reordered),
                ..LinkMeasured::default()
            };
            let way_back = LinkMeasured {
                round_trip: probe.round_trip,
                one_way: probe.one_way_back.filter(|_| one_clock),
                packets: there,
                lost: there.saturating_sub(probe.back),
                ..LinkMeasured::default()
            };
            measured.insert((from, to), way_there);
            measured.insert((to, from), way_back);
        }
        Ok(measured)
    }

    fn train_rounds(&self) -> usize {
        let others = self.alive.len().saturating_sub(1);
        if self.alive.len() as u64 <= TRAIN_TO_ALL { others } else { others.min(1) }
    }

    /// Links with a limited throughput from each node to the node that is `round` later.
    fn limited(&self, round: usize) -> Vec<Limited> {
        let count = self.alive.len();
        let links = (0..count).filter_map(|at| {
            let (from, to) = (self.alive[at], self.alive[(at + round) % count]);
            let shape = self.links.effective_shape(from, to);
            let rate = shape.bytes_per_second().filter(|_| shape.loss_percent < 100.0)?;
            Some(Limited { from, to, shape, rate })
        });
        links.collect()
    }

    /// Messages over these links, at once if no answer has to wait behind another link's message.
    async fn messages(&self, limited: &[Limited], measured: &mut Measured) -> Result<(), String> {
        let one_clock = limited.iter().all(|link| self.plan.share_a_clock(link.from, link.to));
        let at_once = if one_clock { limited.len().max(1) } else { 1 };
        let messages = limited.iter().map(|link| async move {
            let target = self.target(link.to)?;
            let message = message_order(&self.links.effective_shape(link.to, link.from), link);
            let order = ProbeOrder {
                target,
                pings: 0,
                interval_micros: 0,
                wait_millis: 0,
                message: Some(message),
                train: None,
            };
            let bytes = message_bytes(&message, target.is_ipv4());
            Ok::<_, String>((link, bytes, self.probe(link.from, link.to, order).await?))
        });
        let results: Vec<_> = stream::iter(messages).buffer_unordered(at_once).collect().await;
        for result in results {
            let (link, bytes, probe) = result?;
            let one_clock = self.plan.share_a_clock(link.from, link.to);
            let expected = link.shape.latency_millis * 1000.0 + bytes as f64 * 1e6 / link.rate as f64;
            measured.entry((link.from, link.to)).or_default().message = Some(MessageMeasured {
                bytes,
                expected_micros: expected.round() as u64,
                one_way_micros: probe.message.and_then(|found| found.one_way_micros).filter(|_| one_clock),
                round_trip_micros: probe.message.and_then(|found| found.round_trip_micros).filter(|_| !one_clock),
            });
        }
        Ok(())
    }

    fn message_is_off(&self, link: &Limited, measured: &Measured) -> bool {
        let tolerance = self.plan.link_probe.tolerance;
        let back = self.links.effective_shape(link.to, link.from).latency_millis;
        let message = measured.get(&(link.from, link.to)).and_then(|found| found.message);
        message.is_some_and(|message| message_problem(&link.shape, back, &message, &tolerance).is_some())
    }

    /// Trains over these links, `at_once` at a time.
    async fn train(&self, limited: &[Limited], at_once: usize, measured: &mut Measured) -> Result<(), String> {
        let trains = limited.iter().map(|Limited { from, to, shape, rate }| async {
            let order = ProbeOrder {
                target: self.target(*to)?,
                pings: 0,
                interval_micros: 0,
                wait_millis: 0,
                message: None,
                train: Some(train_order(shape, *rate)),
            };
            Ok::<_, String>(((*from, *to), self.probe(*from, *to, order).await?))
        });
        let results: Vec<_> = stream::iter(trains).buffer_unordered(at_once).collect().await;
        for result in results {
            let (link, probe) = result?;
            let row = measured.entry(link).or_default();
            // A link without any answer carried nothing.
            let train = probe.train;
            row.throughput_bytes_per_second = Some(train.map_or(0.0, |train| train.received_bytes_per_second));
            row.goodput_bytes_per_second = Some(train.map_or(0.0, |train| train.goodput_bytes_per_second));
        }
        Ok(())
    }
}

/// Time that an answer waits behind the rest of a train in the queues, in milliseconds.
fn queue_millis(there: &Shape, back: &Shape, train: TrainOrder) -> u64 {
    let slowest = [there, back].into_iter().filter_map(Shape::bytes_per_second).min();
    let latency = there.latency_millis.max(back.latency_millis);
    let queued = slowest.map_or(0.0, |rate| 1000.0 * (queue_bytes(rate, latency) + burst(rate)) as f64 / rate as f64);
    (queued.ceil() as u64).min(train.uncounted_millis + train.counted_millis)
}

/// Bytes that a link of this rate may send ahead: those in its bucket, and the frame that overdraws it.
fn burst(rate: u64) -> u64 {
    burst_bytes(rate, COARSE_TIMER_MICROS) + USUAL_FRAME
}

fn message_order(back: &Shape, Limited { shape, rate, .. }: &Limited) -> MessageOrder {
    let bytes = if *rate < SLOW { SLOW_MESSAGE } else { MESSAGE };
    let count = if *rate < SLOW { 1 } else { MESSAGES };
    let trip = [shape, back].map(|shape| shape.latency_millis + shape.jitter_millis).iter().sum::<f64>();
    let takes = 1000.0 * bytes as f64 / *rate as f64;
    MessageOrder { bytes, count, wait_millis: (2.0 * takes + trip).ceil() as u64 + MESSAGE_SLACK }
}

fn train_order(shape: &Shape, rate: u64) -> TrainOrder {
    let through = 1.0 - shape.loss_percent / 100.0;
    // Bytes that are sent ahead from two buckets, those of the sender and of the receiver.
    let burst_millis = 2000.0 * burst(rate) as f64 / rate as f64;
    let rate = rate as f64;
    let uncounted = UNCOUNTED_MILLIS + shape.latency_millis + shape.jitter_millis + burst_millis;
    let counted =
        (1000.0 * TRAIN_PACKETS * TRAIN_BYTES as f64 / rate).clamp(*COUNTED_MILLIS.start(), *COUNTED_MILLIS.end());
    TrainOrder {
        bytes_per_second: ((TRAIN_FACTOR * rate / through.max(0.01)) as u64).min(MAX_TRAIN_RATE),
        uncounted_millis: uncounted.ceil() as u64,
        counted_millis: counted.ceil() as u64,
    }
}
