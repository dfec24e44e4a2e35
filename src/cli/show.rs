//! `apollo-bench show`: the result of a run as its folder has it.

use std::path::PathBuf;

use clap::Args;

use super::{
    arguments::PrintArgs,
    error::CliError,
    print::{print_run, verdict},
};
use crate::report::RunFolder;

/// Arguments of `apollo-bench show`.
#[derive(Clone, Debug, Args)]
pub(super) struct ShowArgs {
    /// Folder of a run
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    print: PrintArgs,
}

/// Prints the result of a run from its `summary.json`: 0 for a valid run, 1 for an invalid one, 2 for bad usage.
///
/// # Errors
/// Fails if the folder has no result that this program can read, and if the run is invalid.
pub(super) fn show(args: &ShowArgs) -> Result<(), CliError> {
    let folder = RunFolder::at(&args.folder);
    let run = folder.read_summary().map_err(|error| CliError::Usage(error.to_string()))?;
    print_run(&run, &folder, &args.print)?;
    verdict(&run)
}
