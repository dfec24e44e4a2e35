//! Two halves of a run: one program can begin it and another collect it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    certificate::CertificateBuilder,
    plan::Plan,
    progress::Progress,
    state::{Experiment, clients},
};
use crate::{
    clock::Instant,
    deploy::Deployment,
    live::Live,
    monitoring::Observers,
    node::{NodeSummary, StartOrder},
    report::{ClockOffset, LinkMeasured, RunSummary},
    signals::Interrupts,
};

/// Measurement of a link before the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MeasuredLink {
    /// Sender.
    pub(crate) from: u64,
    /// Receiver.
    pub(crate) to: u64,
    /// Measurements.
    pub(crate) measured: LinkMeasured,
}

/// A run that has its start: the facts that the program that collects it needs, and the nodes don't know. It is
/// `start.json` of the run folder, and may be stored in other places as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartedRun {
    /// Start that every node has.
    pub(crate) start: StartOrder,
    /// Seconds until the last node was ready.
    pub(crate) ready_seconds: Option<f64>,
    /// Links, if they were measured.
    pub(crate) links: Vec<MeasuredLink>,
    /// Offset of each node's clock from that of the program that began the run.
    pub(crate) clocks: BTreeMap<u64, ClockOffset>,
}

/// The user has interrupted the program; the nodes continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Reason why the beginning of a run failed.
pub(crate) enum BeginError {
    /// The user has interrupted it.
    Interrupted,
    /// Result so far; true if any node may have received the start.
    Invalid(Box<RunSummary>, bool),
}

/// Result of `work`, unless Ctrl-C, SIGTERM or SIGHUP comes first.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    let Ok(mut interrupts) = Interrupts::new() else { return Ok(work.await) };
    tokio::select! {
        done = work => Ok(done),
        _ = interrupts.next() => Err(Interrupted),
    }
}

/// Waits until the nodes are ready, measures the links, and sends the start.
pub(crate) async fn begin(
    plan: &Plan,
    deployment: &mut dyn Deployment,
    observers: &mut Observers,
    live: Option<&Live>,
) -> Result<StartedRun, BeginError> {
    let progress = Progress::new(live.map(Live::feed), observers.status().clone());
    let mut experiment = match clients(plan) {
        Ok(clients) => Experiment::new(plan, clients, deployment, progress, observers),
        Err(line) => {
            return Err(BeginError::Invalid(Box::new(RunSummary::failed(plan.summary.clone(), line)), false));
        }
    };
    let opened = match unless_interrupted(experiment.open()).await {
        Ok(opened) => opened,
        Err(Interrupted) if experiment.order.is_none() => {
            experiment.progress.finish();
            return Err(BeginError::Interrupted);
        }
        Err(Interrupted) => Err("interrupted while the start was given".into()),
    };
    match opened {
        Ok(start) => {
            let links = experiment.links.before().map(|((from, to), measured)| MeasuredLink {
                from: *from,
                to: *to,
                measured: measured.clone(),
            });
            let links = links.collect();
            experiment.progress.finish();
            Ok(StartedRun { start, ready_seconds: experiment.ready_seconds, links, clocks: BTreeMap::new() })
        }
        Err(line) => {
            let given = experiment.order.is_some();
            Err(BeginError::Invalid(Box::new(experiment.finish(Err(line)).await), given))
        }
    }
}

/// Follows a started run to its last delivery, and makes the result of the nodes' reports. `known` are their reports so
/// far, `lost` the reason why the run is invalid in any case.
pub(crate) async fn collect(
    plan: &Plan,
    deployment: &mut dyn Deployment,
    started: &StartedRun,
    known: BTreeMap<u64, NodeSummary>,
    lost: Option<String>,
    observers: &mut Observers,
    live: Option<&Live>,
) -> Result<RunSummary, Interrupted> {
    let progress = Progress::new(live.map(Live::feed), observers.status().clone());
    let mut experiment = match clients(plan) {
        Ok(clients) => Experiment::new(plan, clients, deployment, progress, observers),
        Err(line) => return Ok(RunSummary::failed(plan.summary.clone(), line)),
    };
    let order: StartOrder = started.start.clone();
    let before = started.links.iter().map(|link| ((link.from, link.to), link.measured.clone()));
    experiment.links = CertificateBuilder::resume(before);
    experiment.ready_seconds = started.ready_seconds;
    experiment.order = Some(order.clone());
    experiment.latest = known;
    experiment.answered = experiment.clients.iter().map(|client| (client.id, Instant::now())).collect();
    let ended = match lost {
        Some(lost) => Err(lost),
        None => match unless_interrupted(experiment.follow(order)).await {
            Ok(ended) => ended,
            Err(Interrupted) => {
                // Reports so far are kept.
                for (id, summary) in &experiment.latest {
                    let _ = plan.folder.write_json(&plan.folder.node_summary(*id), summary);
                }
                experiment.progress.finish();
                return Err(Interrupted);
            }
        },
    };
    Ok(experiment.finish(ended).await)
}
