//! Printing of the result of a run.

use super::{
    arguments::PrintArgs,
    ci::{annotate, write_junit},
    error::CliError,
};
use crate::{
    report::{
        RunFolder, RunSummary, frontier_table, link_table, objective_table, per_node_table, phase_table, run_table,
        trial_table,
    },
    terminal::say,
};

/// Viewer for the files of `--profile-mode dhat`.
const DHAT_VIEWER: &str = "https://nnethercote.github.io/dh_view/dh_view.html";

/// Prints the result of a run.
///
/// # Errors
/// Fails if it can't be written as JSON.
pub(super) fn print_run(run: &RunSummary, folder: &RunFolder, how: &PrintArgs) -> Result<(), CliError> {
    if let Some(path) = &how.junit {
        write_junit(path, run)?;
    }
    annotate(run);
    if how.json {
        let text = serde_json::to_string_pretty(run).map_err(|error| CliError::Failed(error.to_string()))?;
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
    say(&objective_table(&run.objectives));
    for file in &run.profiles {
        let viewer = if file.ends_with(".json") { format!(" (open it at {DHAT_VIEWER})") } else { String::new() };
        say(&format!("profile: {}{viewer}\n", folder.root().join(file).display()));
    }
    say(&format!("Everything of this run is in {}\n", folder.root().display()));
    Ok(())
}

/// End of a command whose run is printed.
///
/// # Errors
/// Fails if the run is not valid, or missed an objective.
pub(super) fn verdict(run: &RunSummary) -> Result<(), CliError> {
    match (run.verdict.valid, run.meets_objectives()) {
        (true, true) => Ok(()),
        (true, false) => Err(CliError::MissedObjective),
        (false, _) => Err(CliError::Invalid),
    }
}
