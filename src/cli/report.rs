//! Results of ended runs, derived again from the files in their folders, and a page about them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    arguments::PrintArgs,
    error::CliError,
    print::{print_run, verdict},
};
use crate::{
    paths::replace_file,
    report::{
        Collected, FolderError, MOST_RUNS, Observations, RUN_SCHEMA_VERSION, RunFolder, RunReport, RunSummary,
        add_arrivals, comparison_page, judge, merge, page, read_arrivals, search_page,
    },
    terminal::say,
};

/// Arguments of `apollo-bench report`.
#[derive(Clone, Debug, Args)]
pub(super) struct ReportArgs {
    /// Folders of ended runs, or the folder of a search or of a comparison
    #[arg(value_name = "RUN", required = true, num_args = 1..=MOST_RUNS)]
    runs: Vec<PathBuf>,
    /// File for the page [default: RUN/report.html; several runs need a FILE]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    print: PrintArgs,
}

/// A run whose result is known.
struct Derived {
    folder: RunFolder,
    run: RunSummary,
    /// True unless `summary.json` has another result.
    agrees: bool,
    report: RunReport,
}

/// Derives each result from the summaries of the nodes and the observations of the runner, compares it with
/// `summary.json`, prints it, and writes the page: 0 for valid runs, 1 if one is invalid or has a different summary, 2
/// for bad usage.
///
/// # Errors
/// Fails if a folder has no result, if the page can't be written, and if a run is invalid or differs.
pub(super) fn report(args: &ReportArgs) -> Result<(), CliError> {
    if let [folder] = args.runs.as_slice()
        && let Some(page) = study_page(folder)?
    {
        let file = args.output.clone().unwrap_or_else(|| folder.join("report.html"));
        write(&file, &page)?;
        say(&format!("The report is {}\n", file.display()));
        return Ok(());
    }
    let file = match (&args.output, args.runs.as_slice()) {
        (Some(file), _) => file.clone(),
        (None, [run]) => run.join("report.html"),
        (None, _) => return Err(CliError::Usage("a page about several runs needs a place: add --output FILE".into())),
    };
    let runs = args.runs.iter().map(|root| derive(root)).collect::<Result<Vec<Derived>, CliError>>()?;
    for derived in &runs {
        print_run(&derived.run, &derived.folder, &args.print)?;
    }
    let reports: Vec<RunReport> = runs.iter().map(|derived| derived.report.clone()).collect();
    write(&file, &page(&reports))?;
    if !args.print.json {
        say(&format!("The report is {}\n", file.display()));
    }
    if let Some(derived) = runs.iter().find(|derived| !derived.agrees) {
        return Err(CliError::Failed(format!(
            "summary.json of {} differs from the result of its nodes and observations",
            derived.folder.root().display()
        )));
    }
    runs.iter().try_for_each(|derived| verdict(&derived.run))
}

/// Page about the folder of a search or a comparison; none for other folders.
fn study_page(folder: &Path) -> Result<Option<String>, CliError> {
    fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CliError> {
        let Ok(text) = fs::read(path) else { return Ok(None) };
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
    }
    if let Some(search) = read(&folder.join("search.json"))? {
        return Ok(Some(search_page(&search)));
    }
    Ok(read(&folder.join("comparison.json"))?.map(|file| comparison_page(&file)))
}

/// Writes the page beside its place, then renames it.
fn write(file: &Path, page: &str) -> Result<(), CliError> {
    replace_file(file, |beside| fs::write(beside, page))
        .map_err(|error| CliError::Failed(format!("{}: {error}: give another --output", file.display())))
}

/// Result of the files of a run. A summary of an older version is taken as it is.
fn derive(root: &Path) -> Result<Derived, CliError> {
    let usage = |error: FolderError| CliError::Usage(error.to_string());
    let folder = RunFolder::at(root);
    let kept = folder.read_summary();
    if !folder.observations().is_file() || kept.as_ref().is_ok_and(|kept| kept.schema_version < RUN_SCHEMA_VERSION) {
        let run = kept.map_err(usage)?;
        let note =
            "the result is that of summary.json: the folder does not have the files of this version that give it";
        let report = RunReport::new(&folder, run.clone(), &[], None, vec![note.into()]);
        return Ok(Derived { folder, run, agrees: true, report });
    }
    let observed: Observations = folder.read_json(&folder.observations())?;
    let nodes = folder.read_nodes()?;
    let mut run = merge(Collected { nodes: &nodes, observed: &observed });
    let arrivals = match &observed.window {
        Some(window) => {
            read_arrivals(&folder.arrivals(), &window.plan).map_err(|error| CliError::Usage(error.to_string()))?
        }
        None => None,
    };
    if let Some(arrivals) = &arrivals {
        add_arrivals(&mut run, arrivals, &observed, &nodes);
    }
    judge(&mut run, &observed.objectives);
    let agrees = comparable(&run) == comparable(&kept?);
    let note = "summary.json differs from this result, which was derived from the nodes and the observations";
    let notes = if agrees { vec![] } else { vec![note.to_owned()] };
    let report = RunReport::new(&folder, run.clone(), &nodes, arrivals.as_ref(), notes);
    Ok(Derived { folder, run, agrees, report })
}

/// A result without the order of its warnings and the program that made it.
fn comparable(run: &RunSummary) -> Value {
    let mut run = run.clone();
    run.version.clear();
    run.verdict.warnings.sort();
    run.verdict.reasons.sort();
    serde_json::to_value(run).unwrap_or_default()
}
