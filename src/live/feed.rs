//! Events that the runner sends to the page: rates and percentiles of each second, computed from the nodes' counts so
//! far.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::{
    history::{Percentiles, Point},
    state::{Figures, NodeState, State},
};
use crate::{
    clock::Instant,
    node::{NodeSummary, WindowSummary},
    report::{Certificate, FaultRow, TrialRow},
};

/// Minimum time between two samples, and between two events without a new phase.
const PACE: Duration = Duration::from_millis(900);

/// Phases with traffic, and therefore with a rate.
const TRAFFIC: [&str; 4] = ["warm-up", "measure", "drain", "explore"];

/// Phases in which a line about the counts would repeat the figures.
const FIGURES_SAY_IT: [&str; 3] = ["warm-up", "measure", "drain"];

/// Counts that only grow, over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flow {
    intended: u64,
    delivered: u64,
    delivered_bytes: u64,
}

impl Flow {
    fn of(node: &NodeSummary) -> [Self; 2] {
        let one = |window: &WindowSummary| Self {
            intended: window.intended,
            delivered: window.received,
            delivered_bytes: window.received_bytes,
        };
        [one(&node.measured), one(&node.outside)]
    }

    fn add(&mut self, other: Self) {
        self.intended = self.intended.saturating_add(other.intended);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.delivered_bytes = self.delivered_bytes.saturating_add(other.delivered_bytes);
    }

    /// Growth since `earlier`; the whole count if it restarted, as in a new life and in a new trial.
    fn since(self, earlier: Self) -> Self {
        let growth = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Self {
            intended: growth(self.intended, earlier.intended),
            delivered: growth(self.delivered, earlier.delivered),
            delivered_bytes: growth(self.delivered_bytes, earlier.delivered_bytes),
        }
    }
}

/// Delays of all nodes up to now, and the lives that they belong to: only counts of the same lives have a meaningful
/// difference.
struct Delays {
    of: Vec<(u64, u32, usize)>,
    outside: bool,
    histogram: Histogram<u64>,
}

/// Last reports of the nodes.
pub struct Sample<'a> {
    /// Counts of the nodes.
    pub latest: &'a BTreeMap<u64, NodeSummary>,
    /// Rows of the nodes.
    pub nodes: Vec<NodeState>,
    /// Delays of all nodes in the measured window.
    pub delays: Option<&'a Histogram<u64>>,
}

/// Publishes the events of a run to its page, and never waits for a browser.
pub struct Feed {
    states: watch::Sender<Arc<State>>,
    /// State to publish next.
    state: State,
    num_nodes: u64,
    published: Option<Instant>,
    sampled: Option<Instant>,
    counted: BTreeMap<u64, [Flow; 2]>,
    /// Process of each node, and its processor time so far, in seconds.
    used: BTreeMap<u64, (u32, f64)>,
    flow: Flow,
    delays: Option<Delays>,
}

impl Feed {
    pub(super) fn new(states: watch::Sender<Arc<State>>) -> Self {
        let state = State::clone(&states.borrow());
        Self {
            states,
            num_nodes: state.run.workload.num_nodes,
            state,
            published: None,
            sampled: None,
            counted: BTreeMap::new(),
            used: BTreeMap::new(),
            flow: Flow::default(),
            delays: None,
        }
    }

    fn publish(&mut self) {
        self.published = Some(Instant::now());
        self.state.elapsed_seconds = self.state.began.elapsed().as_secs_f64();
        self.states.send_replace(Arc::new(self.state.clone()));
    }

    /// Begins a new phase, and publishes it at once.
    pub fn stage(&mut self, phase: &str, detail: &str) {
        let state = &mut self.state;
        // A phase of this name may occur twice; the next one is meant.
        let later = state.run.stages.iter().enumerate().skip(state.stage);
        if let Some((number, _)) = later.into_iter().find(|(_, stage)| **stage == phase) {
            state.stage = number;
        }
        (state.phase, state.detail, state.part) = (phase.to_owned(), detail.to_owned(), 0.0);
        if !TRAFFIC.contains(&phase) {
            let figures = &mut state.figures;
            (figures.offered_per_second, figures.delivered_per_second) = (None, None);
            figures.delivered_bytes_per_second = None;
        }
        self.publish();
    }

    /// Sets the opening of the measured window, in seconds from now; negative if it is past.
    pub fn opens_in(&mut self, seconds: f64) {
        self.state.opening_seconds = Some(self.state.began.elapsed().as_secs_f64() + seconds);
    }

    /// Continues the phase; `part` of it is done, 0 to 1. Published if nothing was for a second. In phases whose
    /// figures say everything, the text is left out.
    pub fn progress(&mut self, part: f64, detail: &str) {
        self.state.part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        let said = FIGURES_SAY_IT.contains(&self.state.phase.as_str());
        self.state.detail = if said { String::new() } else { detail.to_owned() };
        if self.published.is_none_or(|then| then.elapsed() >= PACE) {
            self.publish();
        }
    }

    /// Sets the rows of the nodes, as long as no counts exist.
    pub fn nodes(&mut self, nodes: Vec<NodeState>) {
        self.state.nodes = nodes;
    }

    /// Sets the faults so far, and the nodes' rows without delays; published at once.
    pub fn faults(&mut self, faults: &[FaultRow], mut nodes: Vec<NodeState>) {
        for (node, before) in nodes.iter_mut().zip(&self.state.nodes) {
            (node.delay_p99_micros, node.cores) = (before.delay_p99_micros, before.cores);
        }
        Arc::make_mut(&mut self.state.seldom).set_faults(faults);
        self.state.nodes = nodes;
        self.publish();
    }

    /// Sets the measured links; published at once.
    pub fn links(&mut self, certificate: &Certificate) {
        Arc::make_mut(&mut self.state.seldom).set_links(certificate);
        self.publish();
    }

    /// Sets the finished trials.
    pub fn trials(&mut self, trials: &[TrialRow]) {
        Arc::make_mut(&mut self.state.seldom).set_trials(trials);
    }

    /// Takes the nodes' counts; published with the next progress.
    pub fn sample(&mut self, sample: Sample<'_>) {
        let before: BTreeMap<u64, Option<f64>> = self.state.nodes.iter().map(|node| (node.node, node.cores)).collect();
        self.state.nodes = sample.nodes;
        for node in &mut self.state.nodes {
            node.cores = before.get(&node.node).copied().flatten();
        }
        self.count(sample.latest, sample.delays);
        let since = self.sampled.map(|then| then.elapsed());
        if since.is_some_and(|since| since < PACE) {
            return;
        }
        self.sampled = Some(Instant::now());
        self.count_cores(sample.latest, since);
        let before = self.flow;
        for (id, node) in sample.latest {
            let now = Flow::of(node);
            let earlier = self.counted.insert(*id, now).unwrap_or_default();
            now.into_iter().zip(earlier).for_each(|(now, earlier)| self.flow.add(now.since(earlier)));
        }
        let others = self.num_nodes.saturating_sub(1);
        let rate = |now: u64, before: u64| since.map(|since| (now - before) as f64 / since.as_secs_f64());
        let figures = &mut self.state.figures;
        figures.offered_per_second =
            rate(self.flow.intended.saturating_mul(others), before.intended.saturating_mul(others));
        figures.delivered_per_second = rate(self.flow.delivered, before.delivered);
        figures.delivered_bytes_per_second = rate(self.flow.delivered_bytes, before.delivered_bytes);
        let delay = self.delays_since(sample.latest, sample.delays);
        self.state.history.push(Point {
            seconds: self.state.began.elapsed().as_secs_f64(),
            offered: self.flow.intended.saturating_mul(others),
            delivered: self.flow.delivered,
            delay,
        });
    }

    /// Sets the processor cores that each node has used since the last sample, `since` before now.
    fn count_cores(&mut self, latest: &BTreeMap<u64, NodeSummary>, since: Option<Duration>) {
        for node in &mut self.state.nodes {
            let Some(known) = latest.get(&node.node) else {
                node.cores = None;
                continue;
            };
            let now = (known.process, known.usage.cpu_seconds);
            let earlier = self.used.insert(node.node, now).filter(|(process, _)| *process == known.process);
            node.cores = earlier.zip(since).map(|((_, cpu), since)| (now.1 - cpu).max(0.0) / since.as_secs_f64());
        }
        let known: Vec<f64> = self.state.nodes.iter().filter_map(|node| node.cores).collect();
        self.state.figures.cores = (!known.is_empty()).then(|| known.iter().sum());
    }

    fn count(&mut self, latest: &BTreeMap<u64, NodeSummary>, delays: Option<&Histogram<u64>>) {
        let sum = |field: fn(&NodeSummary) -> u64| {
            latest.values().map(field).fold(0, |sum: u64, one| sum.saturating_add(one))
        };
        let sent = sum(|node| node.measured.sent);
        let intended = sum(|node| node.measured.intended);
        let expected = intended.saturating_mul(self.num_nodes.saturating_sub(1));
        let delivered = sum(|node| node.measured.received);
        self.state.figures = Figures {
            intended,
            sent,
            expected,
            delivered,
            delivery_ratio: (expected > 0).then(|| delivered as f64 / expected as f64),
            pending: sum(|node| node.pending),
            dropped: sum(|node| node.dropped.values().sum()),
            peak_memory_bytes: sum(|node| node.usage.peak_memory_bytes),
            send_lag_p99_micros: self.state.nodes.iter().filter_map(|node| node.send_lag_p99_micros).max(),
            delay: delays.map(percentiles).unwrap_or_default(),
            ..self.state.figures
        };
    }

    /// Percentiles of the deliveries since the last call; before the window opens, those of the warm-up.
    fn delays_since(&mut self, latest: &BTreeMap<u64, NodeSummary>, measured: Option<&Histogram<u64>>) -> Percentiles {
        let measured = measured.filter(|delays| !delays.is_empty());
        let (outside, histogram) = match measured {
            Some(delays) => (false, delays.clone()),
            None => match warm_up_delays(latest) {
                Some(delays) => (true, delays),
                None => return Percentiles::default(),
            },
        };
        let of = latest.values().map(|node| (node.node, node.process, node.trials.len())).collect();
        let now = Delays { of, outside, histogram };
        let mut new = now.histogram.clone();
        let whole = match &self.delays {
            None => true,
            // All first delays of the window are new.
            Some(before) if before.outside && !now.outside => true,
            Some(before) => {
                (before.outside, &before.of) == (now.outside, &now.of) && new.subtract(&before.histogram).is_ok()
            }
        };
        self.delays = Some(now);
        if whole { percentiles(&new) } else { Percentiles::default() }
    }
}

fn warm_up_delays(latest: &BTreeMap<u64, NodeSummary>) -> Option<Histogram<u64>> {
    let mut delays = Histogram::<u64>::new(3).ok()?;
    for node in latest.values().filter(|node| node.outside.received > 0) {
        delays.add(node.outside.delay_micros.decode().ok()?).ok()?;
    }
    (!delays.is_empty()).then_some(delays)
}

fn percentiles(delays: &Histogram<u64>) -> Percentiles {
    let at = |quantile: f64| (!delays.is_empty()).then(|| delays.value_at_quantile(quantile));
    Percentiles { p50_micros: at(0.5), p90_micros: at(0.9), p99_micros: at(0.99), p999_micros: at(0.999) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_count_loses_nothing_and_never_falls() {
        let flow = |intended, delivered| Flow { intended, delivered, delivered_bytes: 10 * delivered };
        let mut all = Flow::default();
        let mut before = Flow::default();
        // The third flow is that of a node that was killed and returned.
        for now in [flow(10, 20), flow(15, 30), flow(2, 4), flow(2, 5)] {
            all.add(now.since(before));
            before = now;
        }
        assert_eq!(all, flow(17, 35));
    }
}
