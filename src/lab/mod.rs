//! The lab: a network of nodes, on this machine or wherever they run, from plan to result.
//!
//! [`local`] is the command; [`remote`] does the same with nodes that run already. A backend starts and stops the nodes (`process` is the first one); everything else,
//! readiness, start, progress, drain and collection, speaks to the nodes over HTTP alone and does not know the backend.

mod arguments;
mod backend;
mod certify;
mod client;
mod derive;
mod docker;
mod experiment;
mod faults;
mod links;
mod manifest;
mod netns;
mod observe;
mod observers;
mod phases;
mod plan;
mod process;
mod profile;
mod program;
mod progress;
pub mod remote;
mod run;
mod runner;
mod seen;

pub use arguments::{FaultArgs, LinkArgs, LocalArgs, PrintArgs, ProfileArgs, SeeingArgs};
pub use backend::Backend;
pub use derive::{ReportArgs, report};
pub use docker::{DockerArgs, MemoryLimit, ReapArgs, reap_docker};
pub use observe::ObserveArgs;
pub(crate) use run::DEFAULT_QUIET;
pub use run::RunArgs;

use std::process::ExitCode;

use tokio::runtime;

use self::backend::StartError;

use crate::{
    clock,
    command_line::BAD_USAGE,
    open_files::raise_open_files,
    report::{RunFolder, RunSummary, frontier_table, link_table, per_node_table, phase_table, run_table, trial_table},
    signals::{Cause, Interrupts},
    terminal::{say, tell},
};

/// Shows the files of `--profile-mode dhat`.
const DHAT_VIEWER: &str = "https://nnethercote.github.io/dh_view/dh_view.html";

/// Exit code of a run that is not valid.
const INVALID: u8 = 1;

/// Runs a network on this machine and prints what it did: 0 for a valid run, 1 for an invalid one, 2 for bad usage.
pub fn local(args: &LocalArgs) -> ExitCode {
    if let Err(line) = clock::check() {
        return failed(&line);
    }
    let mut plan = match plan::Plan::new(args) {
        Ok(plan) => plan,
        Err(error) => return bad_usage(&error.to_string()),
    };
    if plan.args.backend == Backend::Netns
        && let Err(error) = netns::become_root()
    {
        return cannot_start(&plan, &error);
    }
    raise_open_files();
    // One thread, the main one: the nodes are told to die with the thread that started them.
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let live = match seen::live(&plan) {
        Ok(live) => live,
        Err(line) => return cannot_start(&plan, &line),
    };
    if let Some(live) = &live {
        tell(&format!("Watch this run at {live}"));
    }
    // Listens from here on: a Ctrl-C that ends the run ends the page too.
    let interrupt = {
        let _inside = runtime.enter();
        Interrupts::new()
    };
    if plan.args.backend == Backend::Docker
        && let Err(error) = runtime.block_on(docker::prepare(&mut plan))
    {
        plan.folder.discard();
        return not_started(&plan, &error);
    }
    let mut observers = observers::Observers::default();
    let run = match runtime.block_on(experiment::run(&plan, &mut observers, live.as_ref())) {
        Ok(run) => run,
        Err(error) => {
            runtime.block_on(observers.end(&plan, false));
            return not_started(&plan, &error);
        }
    };
    if let Some(live) = &live {
        live.end(&run);
    }
    if let Err(line) = print_run(&run, &plan.folder, args.print) {
        return failed(&line);
    }
    // Nobody is there who would look at it any longer.
    let ended = [Cause::Terminate, Cause::HangUp].map(Cause::reason);
    let terminated = run.verdict.reasons.iter().any(|reason| ended.contains(reason));
    runtime.block_on(observers.end(&plan, !terminated));
    if let Some(live) = live {
        if let (true, Ok(mut interrupt)) = (args.seeing.keep_open, interrupt)
            && interrupt.come().is_none()
        {
            tell(&format!("The page stays at {live} until Ctrl-C"));
            runtime.block_on(interrupt.next());
        }
        live.close();
    }
    if run.verdict.valid { ExitCode::SUCCESS } else { ExitCode::from(INVALID) }
}

/// Prints the result of a run.
///
/// # Errors
/// When it can't be written as JSON.
pub fn print_run(run: &RunSummary, folder: &RunFolder, how: PrintArgs) -> Result<(), String> {
    if how.json {
        let text = serde_json::to_string_pretty(run).map_err(|error| error.to_string())?;
        say(&format!("{text}\n"));
        return Ok(());
    }
    if !run.trials.is_empty() {
        say(&trial_table(&run.trials));
        say(&frontier_table(&run.frontier));
    }
    if let Some(certificate) = run.links.as_ref().filter(|_| how.per_link) {
        say(&link_table(certificate));
    }
    // A run of trials has no figures of a node over all of them.
    if how.per_node && run.totals.is_some() {
        say(&per_node_table(&run.nodes));
    }
    if !run.phases.is_empty() {
        say(&phase_table(&run.phases));
    }
    say(&run_table(run));
    for file in &run.profiles {
        let viewer = if file.ends_with(".json") { format!(" (open it at {DHAT_VIEWER})") } else { String::new() };
        say(&format!("profile: {}{viewer}\n", folder.root().join(file).display()));
    }
    say(&format!("Everything of this run is in {}\n", folder.root().display()));
    Ok(())
}

/// Nothing was started: what was asked for can't be done here, and the folder is not left behind.
fn cannot_start(plan: &plan::Plan, line: &str) -> ExitCode {
    plan.folder.discard();
    bad_usage(line)
}

fn not_started(plan: &plan::Plan, error: &StartError) -> ExitCode {
    match error {
        StartError::Usage(line) => cannot_start(plan, line),
        StartError::Failed(line) => failed(line),
    }
}

fn bad_usage(line: &str) -> ExitCode {
    tell(&format!("error: {line}"));
    ExitCode::from(BAD_USAGE)
}

fn failed(line: &str) -> ExitCode {
    tell(&format!("error: {line}"));
    ExitCode::from(INVALID)
}
