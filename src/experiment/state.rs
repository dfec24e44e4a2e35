//! Run in progress: the known state of its nodes.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use hdrhistogram::Histogram;

use super::{
    certificate::CertificateBuilder, client::NodeClient, faults::Faults, plan::Plan, profile::Profiles,
    progress::Progress, watch::Watch,
};
use crate::{
    clock::Instant,
    deploy::Deployment,
    http,
    monitoring::Observers,
    node::{NodeSummary, StartOrder, WindowSummary},
    report::{DrainSummary, SimulationFacts},
};

/// Interval of checking readiness and the nodes' processes.
pub(super) const READY_POLL: Duration = Duration::from_millis(100);
/// Interval of the live figures.
pub(super) const LIVE_POLL: Duration = Duration::from_secs(1);

/// A run in progress.
pub(super) struct Experiment<'a> {
    pub(super) plan: &'a Plan,
    pub(super) clients: Vec<NodeClient>,
    pub(super) deployment: &'a mut dyn Deployment,
    pub(super) progress: Progress,
    /// Last report of each node, and the time of its last answer.
    pub(super) latest: BTreeMap<u64, NodeSummary>,
    pub(super) answered: BTreeMap<u64, Instant>,
    pub(super) started: Instant,
    pub(super) ready_seconds: Option<f64>,
    pub(super) order: Option<StartOrder>,
    pub(super) trials_told: usize,
    /// Delays of the window up to the last point of the time series.
    pub(super) earlier_delays: Option<Histogram<u64>>,
    pub(super) runner_cpu_percent: Option<f64>,
    pub(super) drained: Option<DrainSummary>,
    pub(super) links: CertificateBuilder,
    pub(super) faults: Faults,
    pub(super) profiles: Profiles,
    pub(super) observers: &'a mut Observers,
    pub(super) warnings: Vec<String>,
    pub(super) watch: Watch,
    /// Model of a run in virtual time.
    pub(super) simulation: Option<SimulationFacts>,
}

/// Clients of the nodes' endpoints.
pub(super) fn clients(plan: &Plan) -> Result<Vec<NodeClient>, String> {
    let http = http::client(plan.token.as_ref())?;
    Ok(plan.endpoints.iter().map(|(id, endpoint)| NodeClient::new(*id, format!("http://{endpoint}"), &http)).collect())
}

impl<'a> Experiment<'a> {
    /// State before the first stage.
    pub(super) fn new(
        plan: &'a Plan,
        clients: Vec<NodeClient>,
        deployment: &'a mut dyn Deployment,
        progress: Progress,
        observers: &'a mut Observers,
    ) -> Self {
        Self {
            plan,
            clients,
            deployment,
            progress,
            latest: BTreeMap::new(),
            answered: BTreeMap::new(),
            started: Instant::now(),
            ready_seconds: None,
            order: None,
            trials_told: 0,
            earlier_delays: None,
            runner_cpu_percent: None,
            drained: None,
            links: CertificateBuilder::default(),
            faults: Faults::new(plan),
            profiles: Profiles::default(),
            observers,
            warnings: vec![],
            watch: Watch::start(),
            simulation: None,
        }
    }
}

impl Experiment<'_> {
    /// Fails if a node has ended.
    pub(super) fn check_processes(&mut self) -> Result<(), String> {
        self.deployment.died().map_or(Ok(()), Err)
    }

    /// Counts of every node that can answer.
    pub(super) async fn summaries(&self) -> Vec<(u64, Result<NodeSummary, String>)> {
        let asked = self.clients.iter().filter(|client| self.faults.answers(client.id));
        join_all(asked.map(async |client| (client.id, client.summary().await))).await
    }

    /// Restarts the time of silence of all nodes.
    pub(super) fn all_have_answered(&mut self) {
        let now = Instant::now();
        self.answered = self.clients.iter().map(|client| (client.id, now)).collect();
    }

    /// Requests the counts of every node that can answer, and returns true if all have answered; fails if a node has
    /// ended or does not answer for too long.
    pub(super) async fn poll(&mut self) -> Result<bool, String> {
        self.check_processes()?;
        let hang_timeout = self.plan.timing.hang;
        let mut all = true;
        for (id, answer) in self.summaries().await {
            match answer {
                Ok(summary) => {
                    if let Some(reason) = self.deployment.rejection_reason(&summary, self.order.as_ref()) {
                        return Err(reason);
                    }
                    self.latest.insert(id, summary);
                    self.answered.insert(id, Instant::now());
                }
                Err(error) => {
                    all = false;
                    // A dead node is reported as dead, not as hung.
                    if let Some(died) = self.deployment.died() {
                        return Err(died);
                    }
                    let silent = self.answered.get(&id).map_or(hang_timeout, Instant::elapsed);
                    if silent >= hang_timeout {
                        let (log, silent) = (self.deployment.log_tail(id), silent.as_secs());
                        return Err(format!("node {id} has not answered for {silent} s: {error}{log}"));
                    }
                }
            }
        }
        Ok(all)
    }

    /// Sum of a figure over all nodes.
    pub(super) fn sum(&self, field: impl Fn(&NodeSummary) -> u64) -> u64 {
        self.latest.values().map(field).fold(0, u64::saturating_add)
    }

    /// Deliveries that the messages of the window should make.
    pub(super) fn expected(&self) -> u64 {
        self.deliveries([].into_iter(), |window| window.intended)
    }

    /// Deliveries that these numbers of messages of all nodes, and of `others`, should make.
    pub(super) fn deliveries<'b>(
        &self,
        others: impl Iterator<Item = &'b NodeSummary>,
        messages: fn(&WindowSummary) -> u64,
    ) -> u64 {
        let reach = self.plan.workload.reach();
        let all = self.latest.values().map(|node| reach.deliveries(node, messages));
        all.chain(others.map(|node| reach.deliveries(node, messages))).fold(0, u64::saturating_add)
    }
}
