//! A run: connect, warm up, measure, drain, collect, report.

mod elsewhere;
mod figures;
mod opening;

pub(super) use elsewhere::{Failed, Interrupted, begin, collect, unless_interrupted};

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use super::{
    backend::{Nodes, StartError},
    certify::{Links, Stage},
    client::NodeClient,
    faults::{Faults, Hands},
    manifest::Manifest,
    observers::Observers,
    plan::Plan,
    profile::Profiles,
    progress::Progress,
    seen::Nodes as SeenNodes,
};
use crate::{
    live::Live,
    metrics::usage,
    node::{Load, NodeSummary, Phase, StartOrder, TrialTimes, unix_nanos},
    report::{Certificate, Collected, RunSummary, Verdict, merge},
};

/// Why a run that was asked to end has ended.
pub(super) const TERMINATED: &str = "interrupted (SIGTERM)";

/// Pace at which readiness and the nodes' processes are looked at.
const READY_POLL: Duration = Duration::from_millis(100);
/// Pace of the live figures.
const LIVE_POLL: Duration = Duration::from_secs(1);
/// Pace of the figures while the network drains.
const DRAIN_POLL: Duration = Duration::from_millis(200);
/// A network that delivers nothing for this long has drained.
const QUIET: Duration = Duration::from_secs(2);

/// A runner that comes later than this into the window has not seen all of it, in nanoseconds.
const COMES_LATE: u64 = 1_000_000_000;

struct Experiment<'a> {
    plan: &'a Plan,
    clients: Vec<NodeClient>,
    nodes: Nodes,
    progress: Progress,
    /// What each node said last, and when it answered last.
    latest: BTreeMap<u64, NodeSummary>,
    answered: BTreeMap<u64, Instant>,
    started: Instant,
    ready_seconds: Option<f64>,
    order: Option<StartOrder>,
    trials_told: usize,
    runner_cpu_percent: Option<f64>,
    /// More has gone over the wire since the end of the drain than belongs to the window.
    too_late_for_bytes: bool,
    links: Links,
    faults: Faults,
    profiles: Profiles,
    observers: &'a mut Observers,
    warnings: Vec<String>,
}

/// Runs the plan, and shows it on the live page, if there is one.
///
/// # Errors
/// Only when nothing could be started at all. A run that was started has a result, if an invalid one.
pub(super) async fn run(plan: &Plan, observers: &mut Observers, live: Option<&Live>) -> Result<RunSummary, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Failed(error.to_string());
    plan.folder.write_json(&plan.folder.manifest(), &Manifest::new(plan)).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut progress = Progress::new(live.map(Live::feed));
    tokio::select! {
        started = observers.start(plan, &mut progress) => started.map_err(StartError::Failed)?,
        _ = interrupt.recv() => return Err(StartError::Failed("interrupted (SIGINT)".into())),
        _ = terminate.recv() => return Err(StartError::Failed(TERMINATED.into())),
    }
    let clients = clients(plan).map_err(StartError::Failed)?;
    let started = Instant::now();
    let nodes = Nodes::start(plan).await?;
    let mut experiment = Experiment { started, ..Experiment::new(plan, clients, nodes, progress, observers) };
    let ended = tokio::select! {
        ended = experiment.stages() => ended,
        _ = interrupt.recv() => Err("interrupted (SIGINT)".to_owned()),
        _ = terminate.recv() => Err(TERMINATED.to_owned()),
    };
    let mut run = experiment.finish(ended).await;
    if let Err(error) = plan.folder.write_json(&plan.folder.summary(), &run) {
        run.verdict.reasons.push(error.to_string());
        run.verdict.valid = false;
    }
    Ok(run)
}

/// The nodes' endpoints.
fn clients(plan: &Plan) -> Result<Vec<NodeClient>, String> {
    let http = NodeClient::http(plan.token.as_ref())?;
    Ok(plan
        .nodes
        .iter()
        .map(|node| NodeClient::new(node.id, format!("http://{}", plan.endpoint(node)), &http))
        .collect())
}

impl<'a> Experiment<'a> {
    /// Nothing is done yet.
    fn new(
        plan: &'a Plan,
        clients: Vec<NodeClient>,
        nodes: Nodes,
        progress: Progress,
        observers: &'a mut Observers,
    ) -> Self {
        Self {
            plan,
            clients,
            nodes,
            progress,
            latest: BTreeMap::new(),
            answered: BTreeMap::new(),
            started: Instant::now(),
            ready_seconds: None,
            order: None,
            trials_told: 0,
            runner_cpu_percent: None,
            too_late_for_bytes: false,
            links: Links::default(),
            faults: Faults::new(plan),
            profiles: Profiles::default(),
            observers,
            warnings: vec![],
        }
    }
}

impl Experiment<'_> {
    /// The run up to its last delivery. An error is the reason why the run is not valid.
    async fn stages(&mut self) -> Result<(), String> {
        let order = self.open().await?;
        self.follow(order).await
    }

    /// Up to the start, which every node has then.
    async fn open(&mut self) -> Result<StartOrder, String> {
        self.connect().await?;
        self.certify(Stage::Before).await?;
        self.start().await
    }

    /// From the start on.
    async fn follow(&mut self, order: StartOrder) -> Result<(), String> {
        if self.plan.is_explore() {
            self.profiles.start(self.plan, &self.nodes)?;
            self.explore(order).await?;
            self.profiles.stop().await?;
            return self.certify(Stage::After).await;
        }
        self.progress.stage("warm-up", "");
        self.live_until(order.from_unix_nanos(), order.start_unix_nanos).await?;
        self.progress.stage("measure", "");
        self.profiles.start(self.plan, &self.nodes)?;
        let (since, cpu) = (Instant::now(), usage().cpu_seconds);
        let end = order.to_unix_nanos().unwrap_or(u64::MAX);
        // Whoever comes late has not carried the window.
        let all_of_it = unix_nanos() < order.from_unix_nanos() + COMES_LATE;
        let drained = end.saturating_add(self.plan.args.drain_seconds.saturating_mul(1_000_000_000));
        self.too_late_for_bytes = unix_nanos() > drained;
        self.live_until(end, order.from_unix_nanos()).await?;
        self.profiles.stop().await?;
        self.lift_faults().await?;
        if all_of_it {
            self.runner_cpu_percent = Some(100.0 * (usage().cpu_seconds - cpu) / since.elapsed().as_secs_f64());
        }
        self.progress.stage("drain", "");
        self.drain().await?;
        self.certify(Stage::After).await
    }

    /// Fails when a node has ended.
    fn check_processes(&mut self) -> Result<(), String> {
        self.nodes.died().map_or(Ok(()), Err)
    }

    /// What every node that can answer says of its counts.
    async fn summaries(&self) -> Vec<(u64, Result<NodeSummary, String>)> {
        let asked = self.clients.iter().filter(|client| self.faults.answers(client.id));
        join_all(asked.map(async |client| (client.id, client.summary().await))).await
    }

    /// Nobody is taken for silent because of what came before now.
    fn all_have_answered(&mut self) {
        let now = Instant::now();
        self.answered = self.clients.iter().map(|client| (client.id, now)).collect();
    }

    /// Asks every node that can answer for its counts, and says whether all have answered; fails when one has ended or
    /// does not answer for too long.
    async fn poll(&mut self) -> Result<bool, String> {
        self.check_processes()?;
        let hang_timeout = Duration::from_secs(self.plan.args.hang_timeout_seconds);
        let mut all = true;
        for (id, answer) in self.summaries().await {
            match answer {
                Ok(summary) => {
                    if let Some(objection) = self.nodes.objection(&summary, self.order.as_ref()) {
                        return Err(objection);
                    }
                    self.latest.insert(id, summary);
                    self.answered.insert(id, Instant::now());
                }
                Err(error) => {
                    all = false;
                    // A node that has died is named as such, not as one that hangs.
                    if let Some(died) = self.nodes.died() {
                        return Err(died);
                    }
                    let silent = self.answered.get(&id).map_or(hang_timeout, Instant::elapsed);
                    if silent >= hang_timeout {
                        let (log, silent) = (self.nodes.log_tail(id), silent.as_secs());
                        return Err(format!("node {id} has not answered for {silent} s: {error}{log}"));
                    }
                }
            }
        }
        Ok(all)
    }

    /// Shows the live figures until the wall clock shows `end`, and carries out the faults that are due until then.
    async fn live_until(&mut self, end: u64, begin: u64) -> Result<(), String> {
        let mut before: Option<(Instant, u64)> = None;
        let mut next_poll = Instant::now() + LIVE_POLL;
        let opening = self.order.as_ref().map_or(u64::MAX, StartOrder::from_unix_nanos);
        loop {
            let now = unix_nanos();
            let due = self.faults.due(self.plan, opening).filter(|due| *due < end);
            if due.is_some_and(|due| due <= now) {
                self.perform_fault(opening).await?;
                continue;
            }
            if now >= end {
                return Ok(());
            }
            let until_next = Duration::from_nanos(due.unwrap_or(end).min(end) - now);
            let pace = if self.faults.awaits_any() { READY_POLL } else { LIVE_POLL };
            sleep(next_poll.saturating_duration_since(Instant::now()).min(pace).min(until_next)).await;
            // A node that is slow to answer makes no fault late.
            let until_next = Duration::from_nanos(due.unwrap_or(end).saturating_sub(unix_nanos()));
            if let Ok(welcomed) = timeout(until_next, self.welcome()).await {
                welcomed?;
            }
            if next_poll > Instant::now() {
                continue;
            }
            next_poll = Instant::now() + LIVE_POLL;
            let until_next = Duration::from_nanos(due.unwrap_or(end).saturating_sub(unix_nanos()));
            if due.is_some() {
                match timeout(until_next, self.poll()).await {
                    Ok(polled) => polled?,
                    Err(_) => continue,
                };
            } else {
                self.poll().await?;
            }
            let phase = if self.sum(|node| node.measured.intended) > 0 { "measure" } else { "warm-up" };
            let figures = self.tell(phase);
            let delivered = self.sum(|node| node.measured.received + node.outside.received);
            let rate = before.map_or(0.0, |(then, count)| {
                delivered.saturating_sub(count) as f64 / then.elapsed().as_secs_f64().max(1e-3)
            });
            before = Some((Instant::now(), delivered));
            let part = unix_nanos().saturating_sub(begin) as f64 / end.saturating_sub(begin).max(1) as f64;
            self.progress.update(part, &format!("{rate:.0} deliveries/s, {figures}"));
        }
    }

    /// Carries out the fault that is due, in a window that opens at `from`.
    async fn perform_fault(&mut self, from: u64) -> Result<(), String> {
        let Self { plan, nodes, clients, latest, faults, .. } = self;
        faults.perform(&mut Hands { plan, nodes, clients, latest }, from).await?;
        // Whoever was paused or killed was not asked meanwhile.
        self.all_have_answered();
        self.show_faults();
        Ok(())
    }

    /// Gives nodes that were started again their start.
    async fn welcome(&mut self) -> Result<(), String> {
        if let (true, Some(order)) = (self.faults.awaits_any(), &self.order) {
            let limit = Duration::from_secs(self.plan.args.ready_timeout_seconds);
            let welcomed = self.faults.welcome(&self.clients, order, limit).await?;
            let any = !welcomed.is_empty();
            self.answered.extend(welcomed.into_iter().map(|id| (id, Instant::now())));
            if any {
                self.show_faults();
            }
        }
        Ok(())
    }

    /// After the window: what the faults have left is lifted, and whoever was started again is back.
    async fn lift_faults(&mut self) -> Result<(), String> {
        let Self { plan, nodes, clients, latest, faults, .. } = self;
        faults.lift(&mut Hands { plan, nodes, clients, latest }).await?;
        while self.faults.awaits_any() {
            self.welcome().await?;
            self.check_processes()?;
            sleep(READY_POLL).await;
        }
        self.all_have_answered();
        self.show_faults();
        Ok(())
    }

    /// Waits until everything that was sent has come, or nothing comes any more.
    async fn drain(&mut self) -> Result<(), String> {
        let limit = Duration::from_secs(self.plan.args.drain_seconds);
        let begun = Instant::now();
        let mut last_change = (Instant::now(), (0, 0));
        loop {
            let all_answered = self.poll().await?;
            let figures = self.tell("drain");
            let counts = (self.sum(|node| node.measured.sent), self.sum(|node| node.measured.received));
            let all_sent = counts.0 >= self.sum(|node| node.measured.intended);
            if counts != last_change.1 {
                last_change = (Instant::now(), counts);
            }
            let complete = all_sent && counts.1 >= self.expected();
            let over = complete || begun.elapsed() >= limit || last_change.0.elapsed() >= QUIET;
            // Only what every node has said after its window closed is a result; one that hangs fails the poll in time.
            if over && all_answered && self.latest.values().all(|node| node.phase == Phase::Draining) {
                return Ok(());
            }
            self.progress.update(begun.elapsed().as_secs_f64() / limit.as_secs_f64().max(1e-3), &figures);
            sleep(DRAIN_POLL).await;
        }
    }

    async fn explore(&mut self, order: StartOrder) -> Result<(), String> {
        let Load::Explore { cool_down, run, trials, .. } = &self.plan.workload.load else { return Ok(()) };
        self.progress.stage("explore", &format!("{} trials", trials.len()));
        self.progress.line(&format!(
            "{} trials, {} s each after {} s",
            trials.len(),
            run.as_secs(),
            cool_down.as_secs()
        ));
        let window = self.plan.window.and_then(|window| u64::try_from(window.as_nanos()).ok());
        let end = window.map(|window| order.start_unix_nanos.saturating_add(window));
        loop {
            self.poll().await?;
            self.tell_trials();
            if self.trials_told == trials.len() {
                return Ok(());
            }
            if end.is_some_and(|end| unix_nanos() >= end) {
                let done = self.trials_told;
                if done == 0 {
                    return Err("--timeout ended the run before its first trial was over".into());
                }
                self.warnings.push(format!("--timeout ended the run after {done} of {} trials", trials.len()));
                return Ok(());
            }
            let number = self.trials_told;
            let times = TrialTimes::new(order.start_unix_nanos, number, *cool_down, *run);
            let figures = self.tell(if unix_nanos() < times.from_unix_nanos { "cool-down" } else { "measure" });
            self.progress.update(number as f64 / trials.len() as f64, &format!("trial {number}: {figures}"));
            sleep(LIVE_POLL).await;
        }
    }

    /// Ends the nodes, and makes the result of what they said.
    async fn finish(mut self, ended: Result<(), String>) -> RunSummary {
        self.progress.stage("collect", "");
        let window_seconds = self.window_seconds();
        // An invalid run keeps what the nodes that still answer have counted.
        if ended.is_err() {
            let answers = self.summaries().await;
            let of_this_run = |summary: &NodeSummary| self.nodes.objection(summary, self.order.as_ref()).is_none();
            let answers = answers.into_iter().filter_map(|(id, answer)| Some((id, answer.ok().filter(of_this_run)?)));
            self.latest.extend(answers);
        }
        let certificate = self.links.certificate(self.plan, &self.faults.gone());
        self.warnings.extend(self.faults.late());
        let mut reasons: Vec<String> = certificate.as_ref().and_then(Certificate::reason).into_iter().collect();
        reasons.extend(ended.err());
        self.warnings.extend(self.observers.last_scrape(self.plan).await);
        let bad_ends = self.nodes.stop().await;
        if reasons.is_empty() {
            reasons.extend(bad_ends);
        }
        for client in &self.clients {
            // A node that ended in order has written its file itself.
            let path = self.plan.folder.node_summary(client.id);
            let Some(summary) = self.latest.get(&client.id) else { continue };
            if !path.is_file() || !self.nodes.ended_well(client.id) {
                reasons.extend(self.plan.folder.write_json(&path, summary).err().map(|error| error.to_string()));
            }
        }
        if let Err(error) = self.profiles.draw(&mut |line| self.progress.update(0.0, line)) {
            reasons.push(error);
        }
        self.progress.finish();
        // Their last words count connections that broke because the others ended first; what they said before does not.
        let (faults, lives, killed) = self.faults.result();
        let nodes: Vec<NodeSummary> = lives.into_iter().chain(self.latest.into_values()).collect();
        let verdict = Verdict { valid: false, reasons, warnings: self.warnings };
        let mut run = merge(Collected {
            nodes: &nodes,
            workload: self.plan.summary(),
            explore: self.plan.is_explore(),
            window_seconds,
            killed,
            phases: &self.plan.schedule.phases(),
            verdict,
        });
        run.faults = faults;
        run.ready_seconds = self.ready_seconds;
        run.runner_cpu_percent = self.runner_cpu_percent;
        run.links = certificate;
        if self.too_late_for_bytes {
            run.totals.wire_bytes_per_delivered_byte = None;
        }
        run.profiles = self.plan.folder.profile_names();
        run
    }

    /// How much of the measured window has passed, in seconds.
    fn window_seconds(&self) -> f64 {
        let Some(order) = &self.order else { return 0.0 };
        let end = order.to_unix_nanos().unwrap_or(u64::MAX).min(unix_nanos());
        end.saturating_sub(order.from_unix_nanos()) as f64 / 1e9
    }
}
