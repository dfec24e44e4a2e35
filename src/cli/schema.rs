//! `apollo-bench schema`: JSON Schemas of the files of a run.

use clap::{Args, ValueEnum};

use super::error::CliError;
use crate::{
    report::{comparison_schema, search_schema, summary_schema, sweep_schema, time_series_schema},
    terminal::say,
};

/// Arguments of `apollo-bench schema`.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct SchemaArgs {
    /// File that the schema describes
    #[arg(value_enum)]
    file: SchemaFile,
}

/// Files with a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaFile {
    /// summary.json, the result of a run
    Summary,
    /// A line of timeseries.jsonl
    Timeseries,
    /// comparison.json, the result of a comparison
    Comparison,
    /// search.json, the result of a search
    Search,
    /// sweep.json, the result of a sweep
    Sweep,
}

/// Prints a schema.
///
/// # Errors
/// Fails if it can't be written as JSON.
pub(super) fn schema(args: SchemaArgs) -> Result<(), CliError> {
    let schema = match args.file {
        SchemaFile::Summary => summary_schema(),
        SchemaFile::Timeseries => time_series_schema(),
        SchemaFile::Comparison => comparison_schema(),
        SchemaFile::Search => search_schema(),
        SchemaFile::Sweep => sweep_schema(),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(|error| CliError::Failed(error.to_string()))?;
    say(&format!("{text}\n"));
    Ok(())
}
