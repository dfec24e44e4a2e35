//! State that the page receives. The JSON is documented in `docs/schema.md` under "live events".

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::history::{History, Percentiles, Point};
use crate::{
    clock::Instant,
    node::HistogramText,
    report::{
        Certificate, DelaySummary, FaultRow, LinkMeasured, LinkRow, PhaseRow, RunSummary, Totals, TrialRow, Verdict,
        WorkloadSummary,
    },
};

/// Version of the events' JSON; raised when a field changes its meaning or is removed.
pub const LIVE_SCHEMA_VERSION: u32 = 1;

/// Maximum number of links that are shown, those with problems first.
const MOST_LINKS: usize = 400;

/// Facts that do not change in a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunInfo {
    /// Version of the program.
    pub version: &'static str,
    /// Requested workload.
    #[serde(flatten)]
    pub workload: WorkloadSummary,
    /// Length of the measured window, in seconds; none in explore mode without an end.
    pub window_seconds: Option<f64>,
    /// Stages of the run, in their order.
    pub stages: Vec<&'static str>,
    /// Number of trials in explore mode.
    pub trials: usize,
    /// Run folder.
    pub folder: String,
}

/// Condition of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeCondition {
    /// Started, and has not answered yet.
    Starting,
    /// Answers, and is not connected to all its peers.
    Connecting,
    /// Connected, without traffic so far.
    Ready,
    /// Answers.
    Answering,
    /// Did not answer the last request.
    Silent,
    /// Stopped by a fault.
    Paused,
    /// Killed by a fault.
    Dead,
    /// Restarted, and has not answered yet.
    Returning,
    /// Ended with the run.
    Ended,
}

/// Row of a node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeState {
    /// Node id.
    pub node: u64,
    /// Condition of the node.
    pub state: NodeCondition,
    /// Connected peers in its last answer.
    pub connected_peers: Option<usize>,
    /// Messages sent in the window, by its present life.
    pub sent: u64,
    /// Messages of the window that it should have received so far; none if a class of traffic has no schedule.
    pub expected: Option<u64>,
    /// Messages received in the window.
    pub received: u64,
    /// Messages, or copies for single peers, that it dropped since it started.
    pub dropped: u64,
    /// Processor cores that it used in the last second; none if that is unknown.
    pub cores: Option<f64>,
    /// Highest resident memory since its start, in bytes.
    pub peak_memory_bytes: u64,
    /// 99th percentile of the send lag of the window.
    pub send_lag_p99_micros: Option<u64>,
    /// 99th percentile of the delay of the received messages.
    pub delay_p99_micros: Option<u64>,
}

/// Counts of the measured window, or of the current trial, over all nodes, and rates of the last second; in the result,
/// rates of the whole window.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) intended: u64,
    pub(super) sent: u64,
    pub(super) expected: u64,
    pub(super) delivered: u64,
    pub(super) delivery_ratio: Option<f64>,
    pub(super) pending: u64,
    /// Messages, or copies, that were dropped since the nodes started.
    pub(super) dropped: u64,
    /// Processor cores that all nodes used in the last second.
    pub(super) cores: Option<f64>,
    /// Sum of the highest resident memories of the nodes, in bytes.
    pub(super) peak_memory_bytes: u64,
    /// Highest 99th percentile of the send lag of a node.
    pub(super) send_lag_p99_micros: Option<u64>,
    pub(super) delay: Percentiles,
    pub(super) offered_per_second: Option<f64>,
    pub(super) delivered_per_second: Option<f64>,
    pub(super) delivered_bytes_per_second: Option<f64>,
}

/// Measurements of a link.
#[derive(Clone, Debug, Serialize)]
struct LinkFound {
    one_way_p50_micros: Option<u64>,
    packets: u64,
    lost: u64,
    throughput_bytes_per_second: Option<f64>,
}

/// Configured and measured shape of one direction of a link.
#[derive(Clone, Debug, Serialize)]
struct LinkState {
    from: u64,
    to: u64,
    latency_millis: f64,
    loss_percent: f64,
    throughput_kilobytes_per_second: Option<u64>,
    before: Option<LinkFound>,
    after: Option<LinkFound>,
    problems: Vec<String>,
}

impl LinkState {
    fn of(row: &LinkRow) -> Self {
        let found = |measured: &LinkMeasured| LinkFound {
            one_way_p50_micros: measured.one_way.as_ref().map(|times| times.p50_micros),
            packets: measured.packets,
            lost: measured.lost,
            throughput_bytes_per_second: measured.throughput_bytes_per_second,
        };
        Self {
            from: row.from,
            to: row.to,
            latency_millis: row.configured.latency_millis,
            loss_percent: row.configured.loss_percent,
            throughput_kilobytes_per_second: row.configured.throughput_kilobytes_per_second,
            before: row.before.as_ref().map(found),
            after: row.after.as_ref().map(found),
            problems: row.problems.clone(),
        }
    }
}

/// A finished trial.
#[derive(Clone, Debug, Serialize)]
struct TrialState {
    trial: u32,
    message_size: usize,
    heartbeat_millis: u64,
    ready: bool,
    expected: u64,
    delivered: u64,
    delivery_ratio: Option<f64>,
    missed: u64,
    delay: Percentiles,
}

/// Facts that seldom change, and are sent only after a change.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Seldom {
    faults: Vec<FaultRow>,
    links: Vec<LinkState>,
    /// Number of measured links, shown or not.
    links_count: usize,
    trials: Vec<TrialState>,
}

impl Seldom {
    pub(super) fn set_faults(&mut self, faults: &[FaultRow]) {
        self.faults = faults.to_vec();
    }

    pub(super) fn set_links(&mut self, certificate: &Certificate) {
        let (good, bad): (Vec<_>, Vec<_>) = certificate.links.iter().partition(|link| link.problems.is_empty());
        self.links_count = certificate.links.len();
        self.links = bad.into_iter().chain(good).take(MOST_LINKS).map(LinkState::of).collect();
    }

    pub(super) fn set_trials(&mut self, trials: &[TrialRow]) {
        let state = |row: &TrialRow| TrialState {
            trial: row.trial,
            message_size: row.plan.message_size,
            heartbeat_millis: row.plan.heartbeat_millis,
            ready: row.ready,
            expected: row.totals.expected,
            delivered: row.totals.delivered,
            delivery_ratio: row.totals.delivery_ratio,
            missed: row.totals.missed,
            delay: percentiles(&row.totals.delay),
        };
        self.trials = trials.iter().map(state).collect();
    }
}

fn percentiles(delay: &DelaySummary) -> Percentiles {
    let DelaySummary { p50_micros, p90_micros, p99_micros, p999_micros, .. } = *delay;
    Percentiles { p50_micros, p90_micros, p99_micros, p999_micros }
}

/// Result: the part of `summary.json` that a page shows, without histograms.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LiveResult {
    verdict: Verdict,
    ready_seconds: Option<f64>,
    totals: Option<Totals>,
    phases: Vec<PhaseRow>,
    peak_memory_bytes: u64,
    runner_cpu_percent: Option<f64>,
}

impl LiveResult {
    fn of(run: &RunSummary) -> Self {
        let bare = |delay: &mut DelaySummary| delay.histogram = HistogramText::default();
        let (mut totals, mut phases) = (run.totals.clone(), run.phases.clone());
        let of_window = totals.iter_mut().flat_map(|totals| {
            let reach = [&mut totals.reach_1_3, &mut totals.reach_2_3, &mut totals.reach_all];
            let delays = [&mut totals.delay, &mut totals.network_delay, &mut totals.send_lag];
            delays.into_iter().chain(reach.into_iter().flatten())
        });
        of_window.chain(phases.iter_mut().map(|phase| &mut phase.delay)).for_each(bare);
        // The page shows the number of the messages alone, not those that missed their deadline, their regions and ways.
        if let Some(facts) = totals.as_mut().and_then(|totals| totals.reach.as_mut()) {
            (facts.missed, facts.regions, facts.hops) = (vec![], vec![], None);
        }
        Self {
            verdict: run.verdict.clone(),
            ready_seconds: run.ready_seconds,
            totals,
            phases,
            peak_memory_bytes: run.peak_memory_bytes.unwrap_or(0),
            runner_cpu_percent: run.runner_cpu_percent,
        }
    }
}

/// Present state of a run, and its history. Cloning is cheap, and happens every second.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) run: Arc<RunInfo>,
    pub(super) began: Instant,
    pub(super) phase: String,
    /// Position in the stages of the run.
    pub(super) stage: usize,
    pub(super) detail: String,
    /// Finished part of the phase, 0 to 1.
    pub(super) part: f64,
    pub(super) elapsed_seconds: f64,
    /// Time at which the measured window opened, in seconds since the run began.
    pub(super) opening_seconds: Option<f64>,
    pub(super) figures: Figures,
    pub(super) nodes: Vec<NodeState>,
    pub(super) history: History,
    pub(super) seldom: Arc<Seldom>,
    pub(super) result: Option<Arc<LiveResult>>,
}

impl State {
    pub(super) fn new(run: RunInfo) -> Self {
        Self {
            run: Arc::new(run),
            began: Instant::now(),
            phase: "start".into(),
            stage: 0,
            detail: String::new(),
            part: 0.0,
            elapsed_seconds: 0.0,
            opening_seconds: None,
            figures: Figures::default(),
            nodes: vec![],
            history: History::default(),
            seldom: Arc::default(),
            result: None,
        }
    }

    /// Sets the result; nothing follows it.
    pub(super) fn end(&mut self, run: &RunSummary) {
        self.phase = "finished".into();
        self.stage = self.run.stages.len();
        self.detail.clear();
        self.part = 1.0;
        self.elapsed_seconds = self.began.elapsed().as_secs_f64();
        // A run of trials ends with the figures of the last one on the page.
        let totals = run.totals.as_ref();
        let others = run.workload.num_nodes.saturating_sub(1);
        if let Some(totals) = totals {
            let measured = totals.window_seconds > 0.0;
            let rate = |count: u64| measured.then(|| count as f64 / totals.window_seconds);
            self.figures = Figures {
                intended: totals.intended,
                sent: totals.sent,
                expected: totals.expected,
                delivered: totals.delivered,
                delivery_ratio: totals.delivery_ratio,
                delay: percentiles(&totals.delay),
                pending: 0,
                dropped: run.nodes.iter().flat_map(|node| node.drop_reasons.values()).sum(),
                cores: totals.cpu_seconds.filter(|_| measured).map(|seconds| seconds / totals.window_seconds),
                peak_memory_bytes: run.peak_memory_bytes.unwrap_or(0),
                send_lag_p99_micros: totals.send_lag.p99_micros,
                offered_per_second: rate(totals.intended.saturating_mul(others)),
                delivered_per_second: rate(totals.delivered_in_window),
                delivered_bytes_per_second: measured.then_some(totals.delivered_bytes_per_second),
            };
        }
        let dead = |state| matches!(state, NodeCondition::Dead);
        let dead: BTreeSet<u64> = self.nodes.iter().filter(|node| dead(node.state)).map(|node| node.node).collect();
        let window_seconds = totals.map(|totals| totals.window_seconds).filter(|seconds| *seconds > 0.0);
        let row = |row: &crate::report::NodeRow| NodeState {
            node: row.node,
            state: if dead.contains(&row.node) { NodeCondition::Dead } else { NodeCondition::Ended },
            connected_peers: Some(row.connected_peers),
            sent: row.sent,
            expected: Some(row.expected),
            received: row.received,
            dropped: row.drop_reasons.values().sum(),
            cores: window_seconds.and_then(|seconds| Some(row.cpu_seconds? / seconds)),
            peak_memory_bytes: row.peak_memory_bytes.unwrap_or(0),
            send_lag_p99_micros: row.send_lag.p99_micros,
            delay_p99_micros: row.delay.p99_micros,
        };
        self.nodes = run.nodes.iter().map(row).collect();
        let seldom = Arc::make_mut(&mut self.seldom);
        seldom.set_faults(&run.faults);
        seldom.set_trials(&run.trials);
        run.links.iter().for_each(|certificate| seldom.set_links(certificate));
        self.result = Some(Arc::new(LiveResult::of(run)));
    }
}

/// Parts that a browser has seen, so that it receives only new parts.
#[derive(Default)]
pub(super) struct Seen {
    run: bool,
    generation: u32,
    points: usize,
    seldom: Option<Arc<Seldom>>,
}

/// One event.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a RunInfo>,
    phase: &'a str,
    stage: usize,
    detail: &'a str,
    part: f64,
    elapsed_seconds: f64,
    opening_seconds: Option<f64>,
    figures: Figures,
    nodes: &'a [NodeState],
    /// Number of the first point: the points replace all from it on.
    points_from: usize,
    points: &'a [Point],
    #[serde(flatten)]
    seldom: Option<&'a Seldom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a LiveResult>,
}

impl<'a> Message<'a> {
    /// Message for a browser that has `seen` these parts; afterwards it has seen the new ones too.
    pub(super) fn new(state: &'a State, seen: &mut Seen) -> Self {
        let points = state.history.points();
        // The last point may have grown since then.
        let known = if seen.generation == state.history.generation() { seen.points.saturating_sub(1) } else { 0 };
        let same = seen.seldom.as_ref().is_some_and(|seldom| Arc::ptr_eq(seldom, &state.seldom));
        let message = Self {
            schema_version: LIVE_SCHEMA_VERSION,
            run: (!seen.run).then_some(&*state.run),
            phase: &state.phase,
            stage: state.stage,
            detail: &state.detail,
            part: state.part,
            elapsed_seconds: state.elapsed_seconds,
            opening_seconds: state.opening_seconds,
            figures: state.figures,
            nodes: &state.nodes,
            points_from: known,
            points: points.get(known..).unwrap_or_default(),
            seldom: (!same).then_some(&*state.seldom),
            result: state.result.as_deref(),
        };
        *seen = Seen {
            run: true,
            generation: state.history.generation(),
            points: points.len(),
            seldom: Some(Arc::clone(&state.seldom)),
        };
        message
    }
}
