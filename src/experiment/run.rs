//! A run from its first stage to its last, by one program.

use std::fmt::Display;

use super::{
    manifest::Manifest,
    plan::Plan,
    progress::Progress,
    state::{Experiment, clients},
};
use crate::{
    clock::Instant,
    dashboards::Host,
    deploy::{Deployment, StartError},
    live::Live,
    monitoring::Observers,
    report::RunSummary,
    signals::Interrupts,
};

/// Runs the plan over the nodes that `launch` starts, after the start of the monitoring, and shows it on the live page,
/// if the run has one.
///
/// # Errors
/// Only when nothing could be started at all. A run that was started has a result, if an invalid one.
pub(crate) async fn run(
    plan: &Plan,
    launch: impl Future<Output = Result<Box<dyn Deployment>, StartError>>,
    observers: &mut Observers,
    live: Option<&Live>,
) -> Result<RunSummary, StartError> {
    let failed = |error: &dyn Display| StartError::Failed(error.to_string());
    plan.folder.write_json(&plan.folder.manifest(), &Manifest::new(plan)).map_err(|error| failed(&error))?;
    let mut interrupts = Interrupts::new().map_err(|error| failed(&error))?;
    let mut progress = Progress::new(live.map(Live::feed), observers.status().clone());
    tokio::select! {
        started = monitor(plan, observers, &mut progress) => started.map_err(StartError::Failed)?,
        cause = interrupts.next() => return Err(StartError::Failed(cause.reason())),
    }
    let clients = clients(plan).map_err(StartError::Failed)?;
    let started = Instant::now();
    let mut deployment = launch.await?;
    let mut experiment =
        Experiment { started, ..Experiment::new(plan, clients, deployment.as_mut(), progress, observers) };
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

/// Starts the monitoring of the nodes that the plan requests.
///
/// # Errors
/// Errors of [`Observers::start`].
pub(crate) async fn monitor(plan: &Plan, observers: &mut Observers, progress: &mut Progress) -> Result<(), String> {
    let Some(monitoring) = &plan.monitoring else { return Ok(()) };
    progress.stage("observe", "");
    let host = |(id, endpoint): (&u64, &String)| Host { node: *id, address: endpoint.clone() };
    observers
        .start(monitoring, &plan.folder, plan.endpoints.iter().map(host).collect(), &|line| progress.line(line))
        .await
}
