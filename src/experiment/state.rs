//! A run: connect, warm up, measure, drain, collect, report.

mod closing;
mod drain;
mod elsewhere;
mod figures;
mod opening;
mod trials;
mod watch;

pub(super) use elsewhere::{Failed, Interrupted, begin, collect, unless_interrupted};

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use self::watch::Watch;
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
    node::{NodeSummary, SEND_GRACE, StartOrder, unix_nanos},
    report::{DrainSummary, RunSummary},
    signals::Interrupts,
};

/// Pace at which readiness and the nodes' processes are looked at.
const READY_POLL: Duration = Duration::from_millis(100);
/// Pace of the live figures.
const LIVE_POLL: Duration = Duration::from_secs(1);
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
    drained: Option<DrainSummary>,
    links: Links,
    faults: Faults,
    profiles: Profiles,
    observers: &'a mut Observers,
    warnings: Vec<String>,
    watch: Watch,
}

/// Runs the plan, and shows it on the live page, if there is one.
///
/// # Errors
/// Only when nothing could be started at all. A run that was started has a result, if an invalid one.
pub(super) async fn run(plan: &Plan, observers: &mut Observers, live: Option<&Live>) -> Result<RunSummary, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Failed(error.to_string());
    plan.folder.write_json(&plan.folder.manifest(), &Manifest::new(plan)).map_err(|error| failed(&error))?;
    let mut interrupts = Interrupts::new().map_err(|error| failed(&error))?;
    let mut progress = Progress::new(live.map(Live::feed));
    tokio::select! {
        started = observers.start(plan, &mut progress) => started.map_err(StartError::Failed)?,
        cause = interrupts.next() => return Err(StartError::Failed(cause.reason())),
    }
    let clients = clients(plan).map_err(StartError::Failed)?;
    let started = Instant::now();
    let nodes = Nodes::start(plan).await?;
    let mut experiment = Experiment { started, ..Experiment::new(plan, clients, nodes, progress, observers) };
    let ended = tokio::select! {
        ended = experiment.stages() => ended,
        cause = interrupts.next() => Err(cause.reason()),
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
            drained: None,
            links: Links::default(),
            faults: Faults::new(plan),
            profiles: Profiles::default(),
            observers,
            warnings: vec![],
            watch: Watch::start(),
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
            self.watch.machine.window_opens();
            self.explore(order).await?;
            self.watch.machine.window_closes();
            self.profiles.stop().await?;
            return self.certify(Stage::After).await;
        }
        self.progress.stage("warm-up", "");
        self.live_until(order.from_unix_nanos(), order.start_unix_nanos).await?;
        self.progress.stage("measure", "");
        self.profiles.start(self.plan, &self.nodes)?;
        let (since, cpu) = (Instant::now(), usage().cpu_seconds);
        self.watch.machine.window_opens();
        let end = order.to_unix_nanos().unwrap_or(u64::MAX);
        // Whoever comes late has not carried the window.
        let all_of_it = unix_nanos() < order.from_unix_nanos() + COMES_LATE;
        self.live_until(end, order.from_unix_nanos()).await?;
        self.watch.machine.window_closes();
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
            let delivered = self.sum(|node| node.measured.received.saturating_add(node.outside.received));
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
        if faults.pauses_any() {
            // A node that was paused to the end of the window has not sent its last messages: woken before its deadline,
            // it would send them all at once.
            let deadline =
                self.order.as_ref().and_then(StartOrder::to_unix_nanos).unwrap_or(0).saturating_add(SEND_GRACE);
            while let Some(left @ 1..) = deadline.checked_sub(unix_nanos()) {
                sleep(Duration::from_nanos(left)).await;
            }
        }
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
}
