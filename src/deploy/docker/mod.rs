//! Nodes in Docker containers, on networks of their own run.
//!
//! A container has two interfaces. Over the data network, which has no way out, the nodes reach one another; the
//! container's entry point shapes its links. Over the control network, which is never shaped and on which nodes can't
//! reach one another, the runner reaches the metric port, published on 127.0.0.1 alone.

mod arguments;
mod client;
mod container;
mod prepare;
mod reaper;
mod subnet;

pub use arguments::{DockerArgs, MemoryLimit};

pub(crate) use prepare::{Prepared, Request, prepare};
pub(crate) use reaper::{reap, sweep};

use std::{
    collections::{BTreeSet, VecDeque},
    sync::PoisonError,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use self::{
    client::{NEVER, ask},
    container::{Container, Recipe, plan_argument, shape},
};
use super::{
    capabilities::Capabilities,
    deployment::{Deployment, StartError},
    launch::Launch,
    netns,
};
use crate::{
    children::log_tail,
    clock::{Instant, sleep},
    shaping::{InterfacePlan, QdiscCounters},
    terminal::tell,
};

/// Capabilities of containers.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    process_ids: false,
    ipv6: false,
    profiles: false,
    host_program: false,
    images: true,
    ..netns::CAPABILITIES
};

/// Maximum number of containers that are created or started at once.
const AT_ONCE: usize = 8;

/// Maximum time for containers to start, and the interval of asking Docker.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(50);

/// Maximum time of an entry point to shape its interface.
const SHAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for a node to end cleanly after SIGTERM, and for a container after SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
const TERM_EVERY: Duration = Duration::from_secs(1);
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit code after SIGKILL.
const KILLED: i64 = 128 + 9;

/// Running containers. Dropping it removes them all.
pub(crate) struct Containers {
    nodes: Vec<Container>,
    memory: MemoryLimit,
    prepared: Prepared,
}

impl Containers {
    /// Creates and starts a container for every node, from the prepared parts.
    pub(crate) async fn start(launch: Launch<'_>, prepared: Prepared, memory: MemoryLimit) -> Result<Self, StartError> {
        let made = launch.nodes.iter().zip(launch.interfaces).map(|(node, interface)| {
            let log = launch.folder.node_log(node.id);
            let recipe = Recipe { node, interface: interface.clone(), memory, token: launch.token };
            Container::make(recipe, &prepared, log)
        });
        let made: Vec<_> = stream::iter(made).buffered(AT_ONCE).try_collect().await?;
        let warnings: BTreeSet<&String> = made.iter().flat_map(|(_, warnings)| warnings).collect();
        for warning in warnings {
            tell(&format!("docker: {warning}"));
        }
        let nodes = made.into_iter().map(|(container, _)| container).collect();
        let mut containers = Self { nodes, memory, prepared };
        let all = (0..containers.nodes.len()).collect();
        containers.start_all(all).await.map_err(StartError::Failed)?;
        Ok(containers)
    }

    /// Starts the containers at these places, a few at a time, and waits until they run.
    async fn start_all(&mut self, mut waiting: VecDeque<usize>) -> Result<(), String> {
        let since = Instant::now();
        let mut starting: Vec<usize> = vec![];
        loop {
            while starting.len() < AT_ONCE
                && let Some(at) = waiting.pop_front()
            {
                self.nodes[at].follow()?;
                starting.push(at);
            }
            if starting.is_empty() {
                return Ok(());
            }
            sleep(START_POLL).await;
            // Ended clients are read first, because the state that is read next is newer.
            let ended: Vec<bool> = starting.iter().map(|at| self.nodes[*at].end().is_some()).collect();
            let names: Vec<&str> = starting.iter().map(|at| self.nodes[*at].name.as_str()).collect();
            let states = client::states(&names).await?;
            let mut still = vec![];
            for ((at, ended), state) in starting.into_iter().zip(ended).zip(states) {
                let node = &mut self.nodes[at];
                if state.started_at != node.started_at && state.started_at != NEVER {
                    node.started_at = state.started_at;
                } else if ended {
                    return Err(self.obituary(&self.nodes[at]));
                } else {
                    still.push(at);
                }
            }
            starting = still;
            if since.elapsed() > START_TIMEOUT + START_POLL * u32::try_from(self.nodes.len()).unwrap_or(u32::MAX) {
                return Err(format!("Docker has not started the containers after {} s", since.elapsed().as_secs()));
            }
        }
    }

    fn obituary(&self, node: &Container) -> String {
        let end = node.end().map_or_else(|| "does not end".to_owned(), |end| end.describe(self.memory));
        format!("node {} {end}{}", node.id, log_tail(&node.log))
    }

    fn at(&self, id: u64) -> Result<usize, String> {
        self.nodes.iter().position(|node| node.id == id).ok_or_else(|| format!("there is no node {id}"))
    }

    fn running(&mut self, id: u64) -> Result<&mut Container, String> {
        let at = self.at(id)?;
        let node = &mut self.nodes[at];
        if node.end().is_some() { Err(format!("node {id} is not running")) } else { Ok(node) }
    }

    async fn freeze(&mut self, id: u64, paused: bool) -> Result<(), String> {
        let node = self.running(id)?;
        let of_node = |line| format!("node {id}: {line}");
        ask(&[if paused { "pause" } else { "unpause" }, &node.name]).await.map_err(of_node)?;
        node.paused = paused;
        let state = client::state(&node.name).await.map_err(of_node)?;
        if state.paused == paused {
            return Ok(());
        }
        Err(format!(
            "node {id} is {}paused although Docker was requested to change that",
            if state.paused { "" } else { "not " }
        ))
    }

    async fn change_now(&self, node: &Container, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        let (before, after) = (plan_argument(before)?, plan_argument(after)?);
        self.in_network(node, &["--change-from", &before, "--plan", &after]).await.map(drop)
    }

    /// Runs `apollo-bench shape` at a container's interface. Nothing can be run in a paused container, so another
    /// container joins its network.
    async fn in_network(&self, node: &Container, rest: &[&str]) -> Result<String, String> {
        let Prepared { image, labels, .. } = &self.prepared;
        let mut args: Vec<String> = if node.paused {
            let mut args: Vec<String> =
                ["run", "--rm", "--pull=never", "--user=0:0", "--cap-drop=ALL", "--cap-add=NET_ADMIN"]
                    .map(str::to_owned)
                    .into();
            args.extend(labels.flags());
            args.extend([
                format!("--network=container:{}", node.name),
                "--entrypoint=apollo-bench".into(),
                image.id.clone(),
            ]);
            args
        } else {
            ["exec", "--user=0:0", &node.name, "apollo-bench"].map(str::to_owned).into()
        };
        args.extend(shape(node.address, rest));
        ask(&args).await.map_err(|line| format!("node {}: {line}", node.id))
    }

    /// Waits until all containers have ended.
    async fn wait(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for node in &mut self.nodes {
            node.wait(deadline.duration_since(Instant::now())).await;
        }
    }
}

#[async_trait(?Send)]
impl Deployment for Containers {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn died(&mut self) -> Option<String> {
        self.nodes.iter().find(|node| node.end().is_some() && !node.killed).map(|node| self.obituary(node))
    }

    fn log_tail(&self, id: u64) -> String {
        self.nodes.iter().find(|node| node.id == id).map_or_else(String::new, |node| log_tail(&node.log))
    }

    async fn kill(&mut self, id: u64) -> Result<(), String> {
        let node = self.running(id)?;
        node.killed = true;
        if let Err(line) = ask(&["kill", "--signal=KILL", &node.name]).await {
            node.killed = false;
            return Err(format!("node {id}: {line}"));
        }
        node.paused = false;
        match node.wait(KILL_TIMEOUT).await {
            Some(container::End::Ended(state)) if state.exit_code == KILLED => Ok(()),
            Some(end) => Err(format!("node {id} had ended before: it {}", end.describe(self.memory))),
            None => Err(format!("node {id} still runs {} s after it was killed", KILL_TIMEOUT.as_secs())),
        }
    }

    /// Restarts a killed node in the same container. Its entry point applies the first plan to the interface, and later
    /// changes are applied again.
    async fn restart(&mut self, id: u64) -> Result<(), String> {
        let at = self.at(id)?;
        if self.nodes[at].end().is_none() {
            return Err(format!("node {id} is running already"));
        }
        let written = self.nodes[at].log_size();
        self.start_all([at].into()).await?;
        self.nodes[at].killed = false;
        let node = &self.nodes[at];
        let now = node.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if now == node.first_plan {
            return Ok(());
        }
        // The entry point reports its work at the interface; only then the change can follow.
        let since = Instant::now();
        while node.log_size() <= written {
            if node.end().is_some() {
                return Err(self.obituary(node));
            }
            if since.elapsed() > SHAPE_TIMEOUT {
                return Err(format!(
                    "node {id} has not shaped its interface {} s after its start",
                    since.elapsed().as_secs()
                ));
            }
            sleep(START_POLL).await;
        }
        self.change_now(node, &node.first_plan, &now).await
    }

    async fn pause(&mut self, id: u64) -> Result<(), String> {
        self.freeze(id, true).await
    }

    async fn resume(&mut self, id: u64) -> Result<(), String> {
        self.freeze(id, false).await
    }

    /// Counters of the qdiscs at a node's interface, over all of its lives; for a node that does not run, the last
    /// ones.
    async fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        let node = &self.nodes[self.at(id)?];
        if node.end().is_some() {
            return Ok(node.last_counters());
        }
        let json = self.in_network(node, &["--show"]).await?;
        Ok(node.count(serde_json::from_str(&json).map_err(|error| format!("node {id}: {error}"))?))
    }

    /// Changes the shaping of a node's interface; for a node that does not run, at its next start.
    async fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        let node = &self.nodes[self.at(id)?];
        if node.end().is_none() {
            self.change_now(node, before, after).await?;
        }
        *node.plan.lock().unwrap_or_else(PoisonError::into_inner) = after.clone();
        Ok(())
    }

    /// Ends all nodes: SIGTERM, and SIGKILL for those that do not end in time; then removes everything that the run has
    /// made in Docker. Returns a line about the end of each node that did not end in order.
    async fn stop(&mut self) -> Vec<String> {
        let order = |command: &[&str], nodes: Vec<&Container>| {
            let args: Vec<String> =
                command.iter().copied().chain(nodes.iter().map(|node| node.name.as_str())).map(str::to_owned).collect();
            let some = !nodes.is_empty();
            // A container that has ended meanwhile refuses the signal.
            async move {
                if some {
                    drop(ask(&args).await)
                }
            }
        };
        // A paused container takes no signal.
        order(&["unpause"], self.nodes.iter().filter(|node| node.paused).collect()).await;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline && self.nodes.iter().any(|node| node.end().is_none()) {
            // The signal is sent more than once, because the first process of a container does not receive it before it
            // has asked for it.
            order(&["kill", "--signal=TERM"], self.nodes.iter().filter(|node| node.end().is_none()).collect()).await;
            self.wait(TERM_EVERY).await;
        }
        order(&["kill", "--signal=KILL"], self.nodes.iter().filter(|node| node.end().is_none()).collect()).await;
        self.wait(KILL_TIMEOUT).await;
        let bad = |node: &&Container| !node.killed && !node.end().is_some_and(|end| end.is_good());
        let lines = self.nodes.iter().filter(bad).map(|node| self.obituary(node)).collect();
        // A failed removal does not affect the measurement.
        if let Err(line) = self.prepared.reaper.finish(true) {
            tell(&format!("warning: {line}"));
        }
        lines
    }
}
