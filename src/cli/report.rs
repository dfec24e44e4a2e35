//! Result of an ended run, derived again from the files in its folder.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{
    arguments::PrintArgs,
    error::CliError,
    print::{print_run, verdict},
};
use crate::report::{Collected, Observations, RunFolder, RunSummary, add_arrivals, judge, merge, read_arrivals};

/// Arguments of `apollo-bench report`.
#[derive(Clone, Debug, Args)]
pub(super) struct ReportArgs {
    /// Folder of an ended run
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) print: PrintArgs,
}

/// Derives the result from the summaries of the nodes and the observations of the runner, compares it with
/// `summary.json`, and prints it: 0 for a valid run, 1 for an invalid one or one with a different summary, 2 for bad
/// usage, 3 for a missed objective.
pub(super) fn report(args: &ReportArgs) -> Result<(), CliError> {
    let folder = RunFolder::open(&args.folder).map_err(|error| CliError::Usage(error.to_string()))?;
    let (run, agrees) = derive(&folder)?;
    print_run(&run, &folder, &args.print)?;
    if !agrees {
        return Err(CliError::Failed(
            "summary.json of this folder differs from the result of its nodes and observations".into(),
        ));
    }
    verdict(&run)
}

/// Result of the files, and true if `summary.json` has the same result.
fn derive(folder: &RunFolder) -> Result<(RunSummary, bool), CliError> {
    let observed: Observations = folder.read_json(&folder.observations())?;
    let nodes = folder.read_nodes()?;
    let mut run = merge(Collected { nodes: &nodes, observed: &observed });
    if let Some(window) = &observed.window {
        let arrivals =
            read_arrivals(&folder.arrivals(), &window.plan).map_err(|error| CliError::Usage(error.to_string()))?;
        if let Some(arrivals) = arrivals {
            add_arrivals(&mut run, &arrivals, &observed, &nodes);
        }
    }
    judge(&mut run, &observed.objectives);
    let kept: RunSummary = folder.read_json(&folder.summary())?;
    let agrees = comparable(&run) == comparable(&kept);
    Ok((run, agrees))
}

/// A result without the order of its warnings and the program that made it.
fn comparable(run: &RunSummary) -> Value {
    let mut run = run.clone();
    run.version.clear();
    run.verdict.warnings.sort();
    run.verdict.reasons.sort();
    serde_json::to_value(run).unwrap_or_default()
}
