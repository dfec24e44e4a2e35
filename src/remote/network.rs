//! A network of existing nodes, from its endpoints to the result of its run.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use thiserror::Error;
use tokio::sync::watch;

use super::clocks::{self, Clock};
use crate::{
    clock::{Instant, sleep},
    deploy::remote::RemoteNodes,
    experiment::{
        self, BeginError, Interrupted, Manifest, NodeClient, Plan, Progress, StartedRun, monitor, start_live,
        unless_interrupted,
    },
    live::Live,
    monitoring::Observers,
    node::{NodeSummary, StartOrder, UsageError},
    paths::read_text,
    report::{ClockRow, Clocks, FolderError, Observations, RunFolder, RunSummary, clock_warning},
    signals::Interrupts,
    terminal::tell,
};

/// Maximum size of a start file, in bytes: with every link of a network of 100 nodes, it is a tenth of it.
const START_LIMIT: u64 = 64 << 20;

/// Maximum time to wait for a node that was requested to end: it closes its connections and writes its summary first.
const END_PATIENCE: Duration = Duration::from_secs(10);
const END_POLL: Duration = Duration::from_millis(50);

/// Reason why a whole run has no result.
#[derive(Debug, Error)]
pub(crate) enum RemoteError {
    /// The request can't be done with these nodes, or here; nothing was begun, and nothing was written.
    #[error("{0}")]
    Refused(String),
    /// Ctrl-C, SIGTERM or SIGHUP. The nodes continue, and written files stay.
    #[error("interrupted")]
    Interrupted,
    /// The run failed before the start was sent; the result with the reason is in the folder.
    #[error("the run is not valid")]
    Invalid(Box<RunSummary>),
}

impl From<UsageError> for RemoteError {
    fn from(error: UsageError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<Interrupted> for RemoteError {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

pub(super) fn refused(error: impl ToString) -> RemoteError {
    RemoteError::Refused(error.to_string())
}

/// A network of existing nodes, all of which were found and fit together.
pub(crate) struct RemoteNetwork {
    pub(super) plan: Plan,
    pub(super) clients: Vec<NodeClient>,
    pub(super) died: Option<watch::Receiver<Option<String>>>,
    pub(super) start: Option<StartOrder>,
    pub(super) lost: Option<String>,
    pub(super) known: BTreeMap<u64, NodeSummary>,
    pub(super) clocks: BTreeMap<u64, Clock>,
    pub(super) warnings: Vec<String>,
    pub(super) observers: Observers,
    pub(super) live: Option<Live>,
}

impl RemoteNetwork {
    /// Start that the nodes have, if their run has begun.
    pub(crate) fn start(&self) -> Option<&StartOrder> {
        self.start.as_ref()
    }

    /// Run folder.
    pub(crate) fn folder(&self) -> &RunFolder {
        &self.plan.folder
    }

    /// Number of nodes of the network.
    pub(crate) fn num_nodes(&self) -> u64 {
        self.plan.num_nodes
    }

    /// Shows the run on its page and starts Prometheus and Grafana, if [`super::RemoteRun`] requests them.
    ///
    /// # Errors
    /// Fails if one does not start.
    pub(crate) async fn watch(&mut self) -> Result<(), RemoteError> {
        self.live = start_live(&self.plan, &[]).map_err(refused)?;
        if let Some(live) = &self.live {
            tell(&format!("Watch this run at {live}"));
        }
        let Self { plan, observers, live, .. } = self;
        let mut progress = Progress::new(live.as_ref().map(Live::feed), observers.status().clone());
        unless_interrupted(monitor(plan, observers, &mut progress)).await?.map_err(refused)
    }

    /// Begins the run: waits until the nodes are ready, measures the links, and sends all of them one start. Writes
    /// `manifest.json` and `start.json`.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] if the nodes have a start already or a clock is off; [`RemoteError::Invalid`] with the
    /// result so far, which is also in the folder. Nodes that may have received a start are then ended, if they answer.
    pub(crate) async fn begin(&mut self) -> Result<StartedRun, RemoteError> {
        if self.start.is_some() {
            return Err(RemoteError::Refused("the nodes have a start already: collect their run first".into()));
        }
        if let Some(line) = clocks::rejection_reason(&self.clocks) {
            return Err(RemoteError::Refused(line));
        }
        self.write_manifest()?;
        let mut nodes = RemoteNodes::new(self.died.clone());
        match experiment::begin(&self.plan, &mut nodes, &mut self.observers, self.live.as_ref()).await {
            Ok(started) => {
                let clocks = self.clocks.iter().map(|(id, clock)| (*id, clock.offset)).collect();
                let started = StartedRun { clocks, ..started };
                let folder = &self.plan.folder;
                folder.write_json(&folder.start(), &started).map_err(refused)?;
                self.start = Some(started.start.clone());
                Ok(started)
            }
            Err(BeginError::Interrupted) => Err(RemoteError::Interrupted),
            Err(BeginError::Invalid(mut run, given)) => {
                if given {
                    // Some nodes wait for a start that others don't know: after a restart, they can receive another.
                    self.end().await;
                }
                run.verdict.warnings.append(&mut self.warnings);
                self.write_summary(&mut run);
                Err(RemoteError::Invalid(run))
            }
        }
    }

    /// Collects the run that the nodes are in, or were in: waits for the end of its window and for pending messages,
    /// and writes the folder. `started` is the result of [`Self::begin`]; without it, the folder's `start.json` is used
    /// if it exists, otherwise the nodes' reports. The nodes continue: see [`Self::end`].
    ///
    /// # Errors
    /// [`RemoteError::Refused`] if the nodes have no run, or another one; [`RemoteError::Interrupted`]. An invalid run
    /// is no error.
    pub(crate) async fn collect(&mut self, started: Option<StartedRun>) -> Result<RunSummary, RemoteError> {
        let Some(start) = self.start.clone() else {
            return Err(RemoteError::Refused("the nodes have no start yet: there is no run to collect".into()));
        };
        let file = self.plan.folder.start();
        let started = match started {
            Some(started) => started,
            None if file.is_file() => {
                let failed = |error: String| RemoteError::Refused(format!("{}: {error}", file.display()));
                let text = read_text(&file, START_LIMIT).map_err(failed)?;
                serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?
            }
            None => StartedRun { start: start.clone(), ready_seconds: None, links: vec![], clocks: BTreeMap::new() },
        };
        if started.start != start {
            return Err(RemoteError::Refused(format!(
                "{} belongs to another run than the present one of the nodes: give another --output",
                self.plan.folder.root().display()
            )));
        }
        match (started.links.is_empty(), self.plan.links.is_unshaped()) {
            (true, false) if self.plan.num_nodes > 1 => {
                return Err(refused(
                    "the links were not measured before the window: leave out the flags that set their shapes, or \
                     give the --output of the program that began the run",
                ));
            }
            (false, true) => {
                return Err(refused("the links were measured before the window: give the flags that set their shapes"));
            }
            _ => {}
        }
        if !self.plan.folder.manifest().is_file() {
            self.write_manifest()?;
        }
        if !file.is_file() {
            // Another program with this folder continues the same run.
            self.plan.folder.write_json(&file, &started).map_err(refused)?;
        }
        let mut nodes = RemoteNodes::new(self.died.clone());
        let known = std::mem::take(&mut self.known);
        let Self { plan, lost, observers, live, .. } = self;
        let mut run =
            experiment::collect(plan, &mut nodes, &started, known, lost.clone(), observers, live.as_ref()).await?;
        let clocks = self.clocks_of(&started).await;
        let warnings = std::mem::take(&mut self.warnings);
        run.verdict.warnings.extend(warnings.iter().cloned());
        run.verdict.warnings.extend(clock_warning(&clocks, &run));
        run.clocks = Some(clocks);
        self.complete_observations(&run, warnings).map_err(refused)?;
        self.write_summary(&mut run);
        Ok(run)
    }

    /// Adds facts to the observations that became known after the run's end.
    fn complete_observations(&self, run: &RunSummary, warnings: Vec<String>) -> Result<(), FolderError> {
        let folder = &self.plan.folder;
        if !folder.observations().is_file() {
            return Ok(());
        }
        let mut observed: Observations = folder.read_json(&folder.observations())?;
        observed.clocks = run.clocks.clone();
        observed.verdict.warnings.extend(warnings);
        folder.write_json(&folder.observations(), &observed)
    }

    async fn clocks_of(&self, started: &StartedRun) -> Clocks {
        let after = clocks::measure(&self.clients).await;
        let clock_of = self.plan.clock_of.as_ref();
        let row = |client: &NodeClient| ClockRow {
            node: client.id,
            clock_of: clock_of.and_then(|of| of.get(&client.id)).copied().unwrap_or(client.id),
            before: started.clocks.get(&client.id).copied(),
            after: after.get(&client.id).and_then(|clock| Some(clock.as_ref().ok()?.offset)),
        };
        Clocks::new(self.clients.iter().map(row).collect())
    }

    fn write_manifest(&self) -> Result<(), RemoteError> {
        let folder = &self.plan.folder;
        folder.write_json(&folder.manifest(), &Manifest::new(&self.plan)).map_err(refused)
    }

    fn write_summary(&self, run: &mut RunSummary) {
        let folder = &self.plan.folder;
        if let Err(error) = folder.write_json(&folder.summary(), run) {
            run.verdict.reasons.push(error.to_string());
            run.verdict.valid = false;
        }
    }

    /// Ends all nodes in order, with exit code 0: their service manager may restart them for the next run. Reports the
    /// nodes that could not be reached.
    pub(crate) async fn end(&self) -> Vec<String> {
        join_all(self.clients.iter().map(async |client| self.end_one(client).await))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// Ends a node, and waits until it has ended or lives again: the next run must not meet this life in it.
    async fn end_one(&self, client: &NodeClient) -> Option<String> {
        if let Err(error) = client.end().await {
            return Some(format!("node {} can't be ended: {error}", client.id));
        }
        let since = Instant::now();
        while client.summary().await.is_ok_and(|summary| summary.start.is_some() && summary.start == self.start) {
            if since.elapsed() > END_PATIENCE {
                return Some(format!("node {} was requested to end, and still lives", client.id));
            }
            sleep(END_POLL).await;
        }
        None
    }

    /// Shows the result on the page and in the monitoring, leaves them up until Ctrl-C if requested, and ends them.
    pub(crate) async fn close(mut self, run: Option<&RunSummary>) {
        if let (Some(live), Some(run)) = (&self.live, run) {
            live.end(run);
        }
        self.observers.end(run, run.is_some() && self.plan.keep_open).await;
        let Some(live) = self.live else { return };
        if let (true, Some(_), Ok(mut interrupt)) = (self.plan.keep_open, run, Interrupts::new()) {
            tell(&format!("The page stays open at {live} until Ctrl-C"));
            interrupt.next().await;
        }
        live.close();
    }
}
