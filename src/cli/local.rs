//! `apollo-bench local`: a run over nodes on this machine.

use tokio::runtime;

use super::{
    arguments::{Backend, LocalArgs},
    error::CliError,
    plan::LocalRun,
    print::{print_run, verdict},
};
use crate::{
    clock,
    deploy::{
        Deployment, Launch, StartError,
        docker::{self, Containers},
        netns,
        process::{Host, Processes},
    },
    experiment::{self, start_live},
    monitoring::Observers,
    open_files::raise_fd_limit,
    signals::{Cause, Interrupts},
    terminal::tell,
};

/// Runs a network on this machine and prints its result.
pub(super) fn local(args: &LocalArgs) -> Result<(), CliError> {
    clock::check().map_err(CliError::Failed)?;
    let mut local = LocalRun::new(args)?;
    if local.backend == Backend::Netns {
        netns::become_root().map_err(|line| local.not_started(StartError::Usage(line)))?;
    }
    raise_fd_limit();
    // Only the main thread, because the nodes are set up to die with the thread that started them.
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("the runtime does not start: {error}")))?;
    let live = start_live(&local.plan, &local.plan.nodes);
    let live = live.map_err(|line| local.not_started(StartError::Usage(line)))?;
    if let Some(live) = &live {
        tell(&format!("Watch this run at {live}"));
    }
    // Listens from here on, so that a Ctrl-C that ends the run ends the page too.
    let interrupt = {
        let _inside = runtime.enter();
        Interrupts::new()
    };
    let mut prepared = None;
    if local.backend == Backend::Docker {
        let ready = runtime.block_on(prepare(&mut local));
        prepared = Some(ready.inspect_err(|_| local.plan.folder.discard())?);
    }
    let mut observers = Observers::default();
    let ran = runtime.block_on(experiment::run(&local.plan, launch(&local, prepared), &mut observers, live.as_ref()));
    let run = match ran {
        Ok(run) => run,
        Err(error) => {
            runtime.block_on(observers.end(None, false));
            return Err(local.not_started(error));
        }
    };
    if let Some(live) = &live {
        live.end(&run);
    }
    print_run(&run, &local.plan.folder, &args.print)?;
    // Nobody is left to look at it.
    let ended = [Cause::Terminate, Cause::HangUp].map(Cause::reason);
    let terminated = run.verdict.reasons.iter().any(|reason| ended.contains(reason));
    runtime.block_on(observers.end(Some(&run), local.plan.keep_open && !terminated));
    if let Some(live) = live {
        if let (true, Ok(mut interrupt)) = (local.plan.keep_open, interrupt)
            && interrupt.come().is_none()
        {
            tell(&format!("The page stays open at {live} until Ctrl-C"));
            runtime.block_on(interrupt.next());
        }
        live.close();
    }
    verdict(&run)
}

/// Prepares Docker, and moves the nodes to their addresses there.
async fn prepare(local: &mut LocalRun) -> Result<docker::Prepared, StartError> {
    let interfaces = local.plan.interfaces();
    let request = docker::Request {
        nodes: &local.plan.nodes,
        interfaces: &interfaces,
        source: local.containers.image_source(),
        scratch: local.plan.folder.root().to_owned(),
    };
    let prepared = docker::prepare(request).await?;
    local.move_to(prepared.addresses()).map_err(|error| StartError::Failed(error.to_string()))?;
    local.plan.manifest.image = serde_json::to_value(prepared.image()).ok();
    Ok(prepared)
}

/// Starts the nodes.
async fn launch(local: &LocalRun, prepared: Option<docker::Prepared>) -> Result<Box<dyn Deployment>, StartError> {
    let (plan, program) = (&local.plan, local.program.as_deref());
    let interfaces = plan.interfaces();
    let launch =
        Launch { nodes: &plan.nodes, interfaces: &interfaces, folder: &plan.folder, token: plan.token.as_ref() };
    Ok(match (prepared, local.backend) {
        (Some(prepared), _) => Box::new(Containers::start(launch, prepared, local.containers.memory()).await?),
        (None, Backend::Netns) => {
            let network = netns::Network::new(&interfaces).map_err(StartError::Usage)?;
            Box::new(Processes::start(launch, program, network)?)
        }
        (None, Backend::Process | Backend::Docker) => Box::new(Processes::start(launch, program, Host)?),
    })
}
