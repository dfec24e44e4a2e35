//! Stages up to the start, and the measurement of the links at both ends of the run.

use std::time::Duration;

use futures::future::join_all;

use super::{
    certificate::Stage,
    client::NodeClient,
    live_view::unready,
    state::{Experiment, READY_POLL},
};
use crate::{
    clock::{sleep, unix_nanos},
    node::StartOrder,
};

/// Time between the order to start and the start: every node must have the order by then.
const START_AHEAD: Duration = Duration::from_millis(500);
/// The same if every order crosses a network.
const START_AHEAD_DISTANT: Duration = Duration::from_secs(2);
const START_AHEAD_PER_NODE: Duration = Duration::from_millis(5);
/// Wait for queues to run empty that can't be read.
const BLIND_SETTLE: Duration = Duration::from_secs(2);

impl Experiment<'_> {
    /// Measures the links, if they are shaped. After the window the network is closed first, so that the links are idle
    /// otherwise.
    pub(super) async fn probe_links(&mut self, stage: Stage) -> Result<(), String> {
        // The links of a simulation are its model: they have their shapes.
        if self.plan.links.is_unshaped() || self.deployment.capabilities().virtual_time {
            return Ok(());
        }
        self.progress.stage("links", &stage.to_string());
        let alive: Vec<NodeClient> =
            self.clients.iter().filter(|client| !self.faults.gone().contains(&client.id)).cloned().collect();
        if stage == Stage::After {
            for (client, answer) in alive.iter().zip(join_all(alive.iter().map(NodeClient::quiesce)).await) {
                answer.map_err(|error| format!("node {} does not close its network: {error}", client.id))?;
            }
            if !self.deployment.capabilities().visible_queues {
                sleep(BLIND_SETTLE).await;
            }
            self.links.settle(self.deployment, &alive).await?;
        }
        self.links.measure(stage, self.plan, self.deployment, &alive).await?;
        let certificate = self.links.certificate(self.plan, &self.faults.gone());
        if let (Some(feed), Some(certificate)) = (self.progress.feed(), &certificate) {
            feed.links(certificate);
        }
        self.check_processes()?;
        match certificate.and_then(|certificate| certificate.reason()) {
            // After the window, the reason is part of the result.
            Some(_) if stage == Stage::Before => Err("no traffic was sent".into()),
            _ => Ok(()),
        }
    }

    /// Waits until all nodes are ready, and checks that they belong to this run.
    pub(super) async fn connect(&mut self) -> Result<(), String> {
        let count = self.clients.len();
        self.progress.stage("connect", &format!("{count} nodes"));
        let limit = self.plan.timing.ready;
        let mut waiting: Vec<NodeClient> = self.clients.clone();
        loop {
            self.check_processes()?;
            let answers = join_all(waiting.iter().map(NodeClient::readiness)).await;
            let missing: Vec<_> = waiting
                .iter()
                .zip(answers)
                .filter(|(_, answer)| !answer.as_ref().is_ok_and(|report| report.readiness.is_ready()))
                .map(|(client, answer)| (client.clone(), answer))
                .collect();
            let ready = count - missing.len();
            if let Some(feed) = self.progress.feed() {
                feed.nodes(unready(&self.clients, &missing));
            }
            self.progress.update(ready as f64 / count as f64, &format!("{ready} of {count} nodes are ready"));
            let Some((first, answer)) = missing.first() else { break };
            if self.started.elapsed() > limit {
                let state = answer.as_ref().map_or_else(Clone::clone, ToString::to_string);
                let log = self.deployment.log_tail(first.id);
                return Err(format!("node {} is not ready after {} s: {state}{log}", first.id, limit.as_secs()));
            }
            waiting = missing.into_iter().map(|(client, _)| client).collect();
            sleep(READY_POLL).await;
        }
        for checked in join_all(self.clients.iter().map(NodeClient::check_token)).await {
            checked?;
        }
        self.ready_seconds = Some(self.started.elapsed().as_secs_f64());
        self.check_congestion_control().await
    }

    /// Compares the congestion control of every node's connections with the requested one.
    async fn check_congestion_control(&self) -> Result<(), String> {
        let Some(asked) = &self.plan.congestion_control else { return Ok(()) };
        for (client, summary) in self.clients.iter().zip(join_all(self.clients.iter().map(NodeClient::summary)).await) {
            let summary = summary.map_err(|error| format!("node {}: {error}", client.id))?;
            let found = summary.environment.and_then(|environment| environment.congestion_control);
            if found.as_ref() != Some(asked) {
                let found = found.as_deref().unwrap_or("unknown");
                return Err(format!("the congestion control of node {} is {found}, not {asked}", client.id));
            }
        }
        Ok(())
    }

    /// Sends every node the same start.
    pub(super) async fn start(&mut self) -> Result<StartOrder, String> {
        let nodes = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let least = if self.deployment.capabilities().distant { START_AHEAD_DISTANT } else { START_AHEAD };
        let per_node = if self.deployment.capabilities().virtual_time { Duration::ZERO } else { START_AHEAD_PER_NODE };
        let ahead = least + per_node * nodes;
        // Nodes that were started by hand may have no run id, but every message must name its run.
        let run_id = self.plan.nodes.first().map_or(0, |node| node.run_id);
        let order = StartOrder {
            run_id: if run_id == 0 { unix_nanos() } else { run_id },
            start_unix_nanos: unix_nanos() + u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX),
            warm_up_millis: if self.plan.is_explore() {
                0
            } else {
                u64::try_from(self.plan.timing.warm_up.as_millis()).unwrap_or(u64::MAX)
            },
            measure_millis: match (self.plan.window, self.plan.is_explore()) {
                (Some(window), false) => u64::try_from(window.as_millis()).ok(),
                _ => None,
            },
            phase_millis: self.plan.faults.boundaries_millis(),
            ..StartOrder::at(0)
        };
        self.order = Some(order.clone());
        let answers = join_all(self.clients.iter().map(|client| client.start(&order))).await;
        for (client, answer) in self.clients.iter().zip(answers) {
            answer.map_err(|error| format!("node {} refuses the start: {error}", client.id))?;
        }
        self.all_have_answered();
        Ok(order)
    }
}
