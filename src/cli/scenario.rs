//! `apollo-bench scenario`: shows, checks and describes scenarios.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemars::schema_for;

use super::{error::CliError, scenario_file::read_scenario, scenario_flags::ScenarioFlags};
use crate::{
    scenario::{Scenario, to_toml},
    terminal::say,
};

/// Work with scenario files.
#[derive(Debug, Args)]
pub(super) struct ScenarioArgs {
    #[command(subcommand)]
    command: ScenarioCommand,
}

#[derive(Debug, Subcommand)]
enum ScenarioCommand {
    /// Print a scenario with every value that a run of it would use
    Show {
        /// Scenario file [default: the default scenario]
        file: Option<PathBuf>,
        #[command(flatten)]
        flags: Box<ScenarioFlags>,
    },
    /// Check scenario files
    ///
    /// Prints one line for each invalid file: file, line, column, the reason and the fix. Exit codes: 0 all files are
    /// valid; 2 at least one is not.
    Check {
        /// Scenario files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of scenario files, for editors
    Schema,
}

/// Runs the command.
///
/// # Errors
/// A scenario that can't be.
pub(super) fn scenario(args: &ScenarioArgs) -> Result<(), CliError> {
    match &args.command {
        ScenarioCommand::Show { file, flags } => {
            let mut flags = flags.clone();
            flags.scenario = file.clone().or(flags.scenario);
            say(&to_toml(&flags.resolve()?).map_err(CliError::Failed)?);
            Ok(())
        }
        ScenarioCommand::Check { files } => check(files),
        ScenarioCommand::Schema => {
            let schema = serde_json::to_string_pretty(&schema_for!(Scenario));
            say(&format!("{}\n", schema.map_err(|error| CliError::Failed(error.to_string()))?));
            Ok(())
        }
    }
}

/// Checks every file, and prints a line about each.
fn check(files: &[PathBuf]) -> Result<(), CliError> {
    let mut broken = vec![];
    for file in files {
        let checked = read_scenario(file, &[]).and_then(|source| ScenarioFlags::default().resolve_from(source));
        match checked {
            Ok(scenario) => say(&format!(
                "{}: {} ({} nodes, {})\n",
                file.display(),
                scenario.name,
                scenario.nodes.count,
                scenario.traffic_names()
            )),
            Err(CliError::Usage(line)) => broken.push(line),
            Err(error) => return Err(error),
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(CliError::Usage(broken.join("\nerror: "))) }
}
