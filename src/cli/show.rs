//! `apollo-bench show`: the result of a run as its folder has it, or its monitoring.

use std::path::PathBuf;

use clap::Args;
use tokio::runtime;

use super::{
    arguments::PrintArgs,
    error::CliError,
    print::{print_run, verdict},
};
use crate::{
    monitoring::{ObserveArgs, show_past},
    report::RunFolder,
};

/// Arguments of `apollo-bench show`.
#[derive(Clone, Debug, Args)]
pub(super) struct ShowArgs {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    print: PrintArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    observe: ObserveArgs,
}

/// Prints the result of a run from its `summary.json`: 0 for a valid run, 1 for an invalid one, 2 for bad usage. With
/// `--observe`, shows its monitoring in place of the result.
///
/// # Errors
/// Fails if the folder has no result that this program can read, and if the run is invalid.
pub(super) fn show(args: &ShowArgs) -> Result<(), CliError> {
    if args.observe.observe {
        return observe(args);
    }
    let folder = RunFolder::at(&args.folder);
    let run = folder.read_summary().map_err(|error| CliError::Usage(error.to_string()))?;
    print_run(&run, &folder, &args.print)?;
    verdict(&run)
}

fn observe(args: &ShowArgs) -> Result<(), CliError> {
    // Only the main thread, because the programs are set up to die with the thread that started them.
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("the runtime does not start: {error}")))?;
    Ok(runtime.block_on(show_past(&args.folder, &args.observe))?)
}
