//! A run over nodes that run elsewhere, in two halves: whoever begins it need not be the one who collects it.

use std::{collections::BTreeMap, time::Instant};

use super::{Experiment, Links, clients};
use crate::{
    lab::{
        backend::Nodes,
        observers::Observers,
        plan::Plan,
        progress::Progress,
        remote::{Begun, MeasuredLink, RemoteNodes},
    },
    live::Live,
    node::{NodeSummary, StartOrder},
    report::RunSummary,
    signals::Interrupts,
};

/// Somebody wants no more of it; the nodes go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Interrupted;

/// How the beginning of a run went wrong.
pub(in crate::lab) enum Failed {
    /// Somebody wanted no more of it.
    Interrupted,
    /// What there is of a result; whether any node may have been given the start.
    Invalid(Box<RunSummary>, bool),
}

/// What `work` gives, unless Ctrl-C, SIGTERM or SIGHUP comes first.
pub(in crate::lab) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    let Ok(mut interrupts) = Interrupts::new() else { return Ok(work.await) };
    tokio::select! {
        done = work => Ok(done),
        _ = interrupts.next() => Err(Interrupted),
    }
}

/// Waits until the nodes are ready, measures the links, gives the start.
pub(in crate::lab) async fn begin(
    plan: &Plan,
    nodes: RemoteNodes,
    observers: &mut Observers,
    live: Option<&Live>,
) -> Result<Begun, Failed> {
    let progress = Progress::new(live.map(Live::feed));
    let mut experiment = match clients(plan) {
        Ok(clients) => Experiment::new(plan, clients, Nodes::Remote(nodes), progress, observers),
        Err(line) => {
            return Err(Failed::Invalid(Box::new(RunSummary::failed(plan.summary(), line)), false));
        }
    };
    let opened = match unless_interrupted(experiment.open()).await {
        Ok(opened) => opened,
        Err(Interrupted) if experiment.order.is_none() => {
            experiment.progress.finish();
            return Err(Failed::Interrupted);
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
            Ok(Begun { start, ready_seconds: experiment.ready_seconds, links, clocks: BTreeMap::new() })
        }
        Err(line) => {
            let given = experiment.order.is_some();
            Err(Failed::Invalid(Box::new(experiment.finish(Err(line)).await), given))
        }
    }
}

/// Follows a run that has begun to its last delivery, and makes the result of what the nodes say. `known` is what they have
/// said already, `lost` why the run is not valid whatever they say.
pub(in crate::lab) async fn collect(
    plan: &Plan,
    nodes: RemoteNodes,
    begun: &Begun,
    known: BTreeMap<u64, NodeSummary>,
    lost: Option<String>,
    observers: &mut Observers,
    live: Option<&Live>,
) -> Result<RunSummary, Interrupted> {
    let progress = Progress::new(live.map(Live::feed));
    let mut experiment = match clients(plan) {
        Ok(clients) => Experiment::new(plan, clients, Nodes::Remote(nodes), progress, observers),
        Err(line) => return Ok(RunSummary::failed(plan.summary(), line)),
    };
    let order: StartOrder = begun.start.clone();
    let before = begun.links.iter().map(|link| ((link.from, link.to), link.measured.clone()));
    experiment.links = Links::resume(before);
    experiment.ready_seconds = begun.ready_seconds;
    experiment.order = Some(order.clone());
    experiment.latest = known;
    experiment.answered = experiment.clients.iter().map(|client| (client.id, Instant::now())).collect();
    let ended = match lost {
        Some(lost) => Err(lost),
        None => match unless_interrupted(experiment.follow(order)).await {
            Ok(ended) => ended,
            Err(Interrupted) => {
                // What is known so far stays.
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
