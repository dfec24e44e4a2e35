//! End of a run: the nodes are stopped, and the result is made of everything that is known.

use super::{phases::phases, state::Experiment};
use crate::{
    clock::unix_nanos,
    node::{ArrivalReport, Load, NodeSummary, StartOrder},
    report::{
        Arrivals, Certificate, Collected, Observations, Place, PlannedWindow, RunSummary, Verdict, add_arrivals, judge,
        merge, write_arrivals,
    },
};

impl Experiment<'_> {
    /// Ends the nodes, and makes the result of their reports.
    pub(super) async fn finish(mut self, ended: Result<(), String>) -> RunSummary {
        self.progress.stage("collect", "");
        // An invalid run keeps the counts of the nodes that still answer.
        if ended.is_err() {
            let answers = self.summaries().await;
            let of_this_run =
                |summary: &NodeSummary| self.deployment.rejection_reason(summary, self.order.as_ref()).is_none();
            let answers = answers.into_iter().filter_map(|(id, answer)| Some((id, answer.ok().filter(of_this_run)?)));
            self.latest.extend(answers);
        }
        let reports = self.arrivals().await;
        // After the last count, so that no node can have sent more than the schedule of the time that passed.
        let ended_unix_nanos = self.order.is_some().then(unix_nanos);
        let links = self.links.certificate(self.plan, &self.faults.gone());
        self.warnings.extend(self.faults.late());
        let mut reasons: Vec<String> = links.as_ref().and_then(Certificate::reason).into_iter().collect();
        reasons.extend(ended.err());
        self.warnings.extend(self.observers.last_scrape().await);
        let bad_ends = self.deployment.stop().await;
        if reasons.is_empty() {
            reasons.extend(bad_ends);
        }
        if let Err(error) = self.profiles.draw(&mut |line| self.progress.update(0.0, line)) {
            reasons.push(error);
        }
        self.progress.finish();
        let simulation = self.simulated();
        let folder = &self.plan.folder;
        let (window, places) = (self.planned_window(), self.places());
        let (faults, lives, killed) = self.faults.result();
        // The final report of a node counts connections that broke because others ended first, so the files contain the
        // reports before it, of which the result is made.
        reasons.extend(folder.write_nodes(&lives, self.latest.values()).err().map(|error| error.to_string()));
        let nodes: Vec<NodeSummary> = lives.into_iter().chain(self.latest.into_values()).collect();
        let mut observed = Observations {
            workload: self.plan.summary.clone(),
            explore_broadcaster: match &self.plan.workload.load {
                Load::Explore { broadcaster, .. } => Some(*broadcaster),
                Load::Steady { .. } => None,
            },
            window,
            places,
            ended_unix_nanos,
            killed,
            phases: phases(&self.plan.faults),
            ready_seconds: self.ready_seconds,
            drain: self.drained,
            links,
            clocks: None,
            faults,
            runner_cpu_percent: self.runner_cpu_percent,
            runner: self.watch.report(),
            profiles: folder.profile_names(),
            objectives: self.plan.scenario.expect.clone(),
            simulation,
            verdict: Verdict { valid: false, reasons, warnings: self.warnings },
        };
        if let Err(error) = folder.write_json(&folder.observations(), &observed) {
            observed.verdict.reasons.push(error.to_string());
        }
        let window = observed.window.as_ref();
        let arrivals = reports.zip(window).map(|(reports, window)| Arrivals::of(&reports, &window.plan));
        let written = arrivals.as_ref().map(|arrivals| write_arrivals(&folder.arrivals(), arrivals, &observed));
        if let Some(Err(error)) = written {
            observed.verdict.reasons.push(error.to_string());
        }
        let mut run = merge(Collected { nodes: &nodes, observed: &observed });
        if let Some(arrivals) = &arrivals {
            add_arrivals(&mut run, arrivals, &observed, &nodes);
        }
        judge(&mut run, &observed.objectives);
        run
    }

    /// Arrivals that the nodes recorded, of all their lives; none if they record none, or if the records of a node are
    /// missing, because its deliveries would look lost.
    async fn arrivals(&mut self) -> Option<Vec<ArrivalReport>> {
        let mut reports = self.faults.take_arrivals();
        if self.order.is_none() || self.plan.is_explore() || self.plan.scenario.measurement.max_arrivals == 0 {
            return None;
        }
        let asked = self.clients.iter().filter(|client| self.latest.contains_key(&client.id));
        for client in asked.filter(|client| self.faults.answers(client.id)) {
            match client.arrivals().await {
                Ok(report) => reports.push(report),
                Err(error) => {
                    let id = client.id;
                    self.warnings
                        .push(format!("times to reach are unknown: node {id} does not report arrivals: {error}"));
                    return None;
                }
            }
        }
        Some(reports)
    }

    /// Weights and regions of the nodes.
    fn places(&self) -> Vec<Place> {
        let scenario = &self.plan.scenario;
        if scenario.groups.is_empty() {
            return vec![];
        }
        let place = |node| match scenario.group_of(node) {
            Some(group) => Place { weight: group.weight, region: group.region.clone() },
            None => Place { weight: 1.0, region: None },
        };
        (0..scenario.nodes.count).map(place).collect()
    }

    /// Schedule of the nodes and the measured window, after the start; none in mode explore.
    fn planned_window(&self) -> Option<PlannedWindow> {
        let order: &StartOrder = self.order.as_ref()?;
        let to_unix_nanos = order.to_unix_nanos()?;
        let start = order.start_unix_nanos;
        let plan = self.plan.workload.traffic_plan(start, Some(to_unix_nanos), true)?;
        Some(PlannedWindow { plan, from_unix_nanos: order.from_unix_nanos(), to_unix_nanos })
    }
}
