//! The lab: a network of nodes on this machine, from plan to result.
//!
//! [`local`] is the command. A backend starts and stops the nodes (`process` is the first one); everything else,
//! readiness, start, progress, drain and collection, speaks to the nodes over HTTP alone and does not know the backend.

mod arguments;
mod backend;
mod certify;
mod client;
mod experiment;
mod faults;
mod links;
mod manifest;
mod netns;
mod plan;
mod process;
mod progress;
mod schedule;
mod seen;

pub use arguments::{FaultArgs, LinkArgs, LocalArgs, SeeingArgs};
pub use backend::Backend;
pub use schedule::Fault;

use std::process::ExitCode;

use tokio::runtime;

use self::backend::StartError;

use crate::{
    command_line::BAD_USAGE,
    report::{link_table, per_node_table, phase_table, run_table, trial_table},
};

/// Exit code of a run that is not valid.
const INVALID: u8 = 1;

/// Runs a network on this machine and prints what it did: 0 for a valid run, 1 for an invalid one, 2 for bad usage.
pub fn local(args: &LocalArgs) -> ExitCode {
    let plan = match plan::Plan::new(args) {
        Ok(plan) => plan,
        Err(error) => return bad_usage(&error.to_string()),
    };
    if plan.backend == Backend::Netns
        && let Err(error) = netns::become_root()
    {
        return cannot_start(&plan, &error);
    }
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
        eprintln!("Watch this run at {live}");
    }
    // Listens from here on: a Ctrl-C that ends the run ends the page too.
    let interrupt = {
        let _inside = runtime.enter();
        seen::Interrupt::new()
    };
    let run = match runtime.block_on(experiment::run(&plan, live.as_ref())) {
        Ok(run) => run,
        Err(StartError::Usage(line)) => return cannot_start(&plan, &line),
        Err(StartError::Failed(line)) => return failed(&line),
    };
    if let Some(live) = &live {
        live.end(&run);
    }
    if args.json {
        match serde_json::to_string_pretty(&run) {
            Ok(text) => println!("{text}"),
            Err(error) => return failed(&error.to_string()),
        }
    } else {
        if !run.trials.is_empty() {
            print!("{}", trial_table(&run.trials));
        }
        if let Some(certificate) = run.links.as_ref().filter(|_| args.per_link) {
            print!("{}", link_table(certificate));
        }
        if args.per_node {
            print!("{}", per_node_table(&run.nodes));
        }
        if !run.phases.is_empty() {
            print!("{}", phase_table(&run.phases));
        }
        print!("{}", run_table(&run));
        println!("Everything of this run is in {}", plan.folder.root().display());
    }
    if let Some(live) = live {
        if let (true, Ok(mut interrupt)) = (args.seeing.keep_open, interrupt)
            && !interrupt.is_over()
        {
            eprintln!("The page stays at {live} until Ctrl-C");
            runtime.block_on(interrupt.over());
        }
        live.close();
    }
    if run.verdict.valid { ExitCode::SUCCESS } else { ExitCode::from(INVALID) }
}

/// Nothing was started: what was asked for can't be done here, and the folder is not left behind.
fn cannot_start(plan: &plan::Plan, line: &str) -> ExitCode {
    plan.folder.discard();
    bad_usage(line)
}

fn bad_usage(line: &str) -> ExitCode {
    eprintln!("error: {line}");
    ExitCode::from(BAD_USAGE)
}

fn failed(line: &str) -> ExitCode {
    eprintln!("error: {line}");
    ExitCode::from(INVALID)
}
