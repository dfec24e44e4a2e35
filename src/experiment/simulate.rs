//! A run in virtual time: the same stages over nodes of the same thread.

use std::fmt::Display;

use futures::future::{Either, select};

use super::{client::NodeClient, plan::Plan, progress::Progress, state::Experiment};
use crate::{
    clock::{Instant, machine_elapsed},
    deploy::{Deployment, StartError, simulation::Simulated},
    metrics::usage,
    monitoring::Observers,
    report::{RunSummary, SimulationFacts},
    simulation::{Interrupt, network},
};

/// Runs the plan over the nodes that `launch` starts, on a thread that simulates. `facts` is the model.
///
/// # Errors
/// Only when nothing could be started at all. A run that was started has a result, if an invalid one.
pub(crate) async fn simulate(
    plan: &Plan,
    launch: impl FnOnce() -> Result<Simulated, StartError>,
    facts: SimulationFacts,
    interrupt: &Interrupt,
) -> Result<RunSummary, StartError> {
    let failed = |error: &dyn Display| StartError::Failed(error.to_string());
    let mut observers = Observers::default();
    let progress = Progress::new(None, observers.status().clone());
    let started = Instant::now();
    let mut deployment = launch()?;
    let nodes = deployment.nodes();
    let clients = plan.nodes.iter().map(|node| NodeClient::in_virtual_time(node.id, &nodes)).collect();
    let deployment: &mut dyn Deployment = &mut deployment;
    let mut experiment = Experiment {
        started,
        simulation: Some(facts),
        ..Experiment::new(plan, clients, deployment, progress, &mut observers)
    };
    let ended = {
        let (stages, asked) = (std::pin::pin!(experiment.stages()), std::pin::pin!(interrupt.asked()));
        match select(stages, asked).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => Err("interrupted: the counts are those up to then".into()),
        }
    };
    let mut run = experiment.finish(ended).await;
    plan.folder.write_json(&plan.folder.summary(), &run).map_err(|error| failed(&error))?;
    run.verdict.valid = run.verdict.reasons.is_empty();
    Ok(run)
}

impl Experiment<'_> {
    /// Model of this run and the facts about its network so far; none for a run on machines.
    pub(super) fn simulated(&self) -> Option<SimulationFacts> {
        let facts = network::facts();
        Some(SimulationFacts {
            virtual_seconds: self.started.elapsed().as_secs_f64(),
            wall_seconds: Some(machine_elapsed().as_secs_f64()),
            peak_memory_bytes: Some(usage().peak_memory_bytes),
            connections: facts.connections,
            packets: facts.packets,
            lost_packets: facts.lost,
            dropped_packets: facts.dropped,
            resent_packets: facts.resent,
            ..self.simulation.clone()?
        })
    }
}
