//! `apollo-bench figures`: the names of all figures of a result, for objectives.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};

use super::error::CliError;
use crate::{
    report::{FigureValue, RunFolder, figures},
    terminal::say,
};

/// Names and values of all figures of a result.
#[derive(Clone, Debug, Args)]
pub(super) struct FiguresArgs {
    /// Folder of an ended run
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print a JSON object of numbers by name: times in microseconds, null for an unknown figure, and for a percentile
    /// that lies among values that never arrived
    #[arg(long)]
    json: bool,
}

/// Prints the figures.
///
/// # Errors
/// Fails if the folder has no result.
pub(super) fn print_figures(args: &FiguresArgs) -> Result<(), CliError> {
    let run = RunFolder::at(&args.folder).read_summary().map_err(|error| CliError::Usage(error.to_string()))?;
    let all = figures(&run);
    if args.json {
        let number = |value: FigureValue| match value {
            FigureValue::Number(value) => Value::from(value),
            FigureValue::Infinite | FigureValue::Unknown => Value::Null,
        };
        let object: Map<String, Value> = all.into_iter().map(|figure| (figure.name, number(figure.value))).collect();
        say(&format!("{}\n", Value::Object(object)));
    } else {
        all.iter().for_each(|figure| say(&format!("{} {figure}\n", figure.name)));
    }
    Ok(())
}
