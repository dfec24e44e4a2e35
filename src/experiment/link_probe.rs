//! The links are measured, before the window and after it, by the nodes themselves.
//!
//! First every pair of nodes exchanges pings, all pairs at once, at a pace that loads neither the links nor the host. Then
//! single messages go round, each node to the next, over links that are idle otherwise; then trains go round, each node to
//! the next, at twice the throughput that was asked for: every interface is measured both ways. In a small network they go
//! to every other node in turn, so that every link is.

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

/// Shortest time from ping to ping on a link, and pings per second over all links.
const PING_INTERVAL: Duration = Duration::from_millis(10);
const PINGS_PER_SECOND: u64 = 5000;
/// Share of a link's throughput that pings may take.
const PING_SHARE: f64 = 0.05;

/// How much more than a link's throughput a train brings.
const TRAIN_FACTOR: f64 = 2.0;
/// Shortest time in which a token bucket's allowance and queue are filled; those are sized in time themselves.
const UNCOUNTED_MILLIS: f64 = 250.0;
/// A frame of the links' interfaces on the wire and the tick of coarse timers, for an estimate of the bytes sent ahead.
const USUAL_FRAME: u64 = 1538;
const COARSE_TIMER_MICROS: u64 = 10_000;
/// Counted time of a train: enough for so many packets, within bounds.
const TRAIN_PACKETS: f64 = 100.0;
const COUNTED_MILLIS: std::ops::RangeInclusive<f64> = 400.0..=15_000.0;
/// Bytes per second of all trains under way: what two processors send and receive beside all else.
const TRAINS_BYTES_PER_SECOND: u64 = 50_000_000;
/// How often what falls short is measured again, and how many links in a round: with more, the host is not at fault.
const MORE_TRAINS: usize = 3;
const MOST_AGAIN: usize = 10;
/// Seconds that a train and messages over the slowest link take, with the wait for the counts.
const LONGEST_TRAIN: u64 = 90;
/// Largest network in which every link gets a train of its own.
const TRAIN_TO_ALL: u64 = 5;

/// Bytes of a message, and of one over a link that is slower than that: many times the frame that a link sends ahead.
const MESSAGE: u64 = 64 << 10;
const SLOW_MESSAGE: u64 = 32 << 10;
const SLOW: u64 = 100_000;
/// Messages over each link; their median counts. One alone where it takes seconds.
const MESSAGES: u64 = 3;
/// Time for a message beyond twice its own, in milliseconds: a host with much to do is late, not the link.
const MESSAGE_SLACK: u64 = 500;

/// Longest time that an answer may take beyond the measurement itself.
const ANSWER_SLACK: Duration = Duration::from_secs(30);

/// Seconds that one measurement of all links between so many nodes may take, where pings go on for `pings`; a bound, not an
/// estimate.
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
        // A host that is out of breath carries less: what fell short gets more trains, with the host to itself.
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

    /// Pings between all pairs; each tells of both directions.
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
            // One way means something only where both ends have one clock.
            let one_clock = self.plan.share_a_clock(from, to);
            // What was lost on the way there can't be lost on the way back.
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

    /// The links from each node to the one that comes `round` later, as far as their throughput is limited.
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

    /// Messages over these links, at once where no answer has to be waited for behind another link's message.
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

    /// Trains over these links, so many at once.
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
            // One that never answered let nothing through.
            let train = probe.train;
            row.throughput_bytes_per_second = Some(train.map_or(0.0, |train| train.received_bytes_per_second));
            row.goodput_bytes_per_second = Some(train.map_or(0.0, |train| train.goodput_bytes_per_second));
        }
        Ok(())
    }
}

/// How long what a train leaves in the queues keeps an answer waiting, in milliseconds.
fn queue_millis(there: &Shape, back: &Shape, train: TrainOrder) -> u64 {
    let slowest = [there, back].into_iter().filter_map(Shape::bytes_per_second).min();
    let latency = there.latency_millis.max(back.latency_millis);
    let queued = slowest.map_or(0.0, |rate| 1000.0 * (queue_bytes(rate, latency) + burst(rate)) as f64 / rate as f64);
    (queued.ceil() as u64).min(train.uncounted_millis + train.counted_millis)
}

/// Bytes that a link of that rate may send ahead: those in its bucket, and the frame that overdraws it.
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
    // Sent ahead out of two buckets, that of the sender and that of the receiver.
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
