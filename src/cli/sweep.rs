//! `apollo-bench sweep`: a trial of each combination of values.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;

use super::{
    error::CliError,
    scenario_file::with_values,
    study_flags::StudyFlags,
    trials::{Ended, Trial},
};
use crate::{
    node::write_json,
    report::{FigureValue, SWEEP_SCHEMA_VERSION, Sweep, SweepRow, figures, sweep_table},
    scenario::{MAX_TRIALS, Scenario, SweepValue, to_toml},
    terminal::say,
};

/// A trial of each combination of values.
#[derive(Clone, Debug, Args)]
pub(super) struct SweepArgs {
    /// Scenario file, which may have a table `sweep` of keys and lists of values
    scenario: PathBuf,
    /// Values to try for a key, besides those of the scenario: network.gossipsub.mesh_n=6,8,10; may be given several
    /// times
    #[arg(long, value_name = "KEY=VALUE,...")]
    vary: Vec<String>,
    /// Number of runs of each combination
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    #[command(flatten)]
    study: StudyFlags,
}

/// Keys with the values to try.
type Matrix = BTreeMap<String, Vec<SweepValue>>;

/// Values of one combination, by key.
type Values = BTreeMap<String, String>;

impl SweepArgs {
    fn matrix(&self, scenario: &Scenario) -> Result<Matrix, CliError> {
        let mut matrix = scenario.sweep.clone();
        for text in &self.vary {
            let failed = |why: &str| CliError::Usage(format!("--vary {text}: {why}"));
            let (key, values) = text.split_once('=').ok_or_else(|| failed("write KEY=VALUE,VALUE,..."))?;
            let values = values.split(',').map(|value| SweepValue::Text(value.trim().to_owned())).collect();
            matrix.insert(key.trim().to_owned(), values);
        }
        if matrix.is_empty() || matrix.values().any(Vec::is_empty) {
            let line = "give values to try: --vary KEY=VALUE,VALUE, or a table [sweep] in the scenario";
            return Err(CliError::Usage(line.into()));
        }
        let trials = matrix.values().map(Vec::len).fold(self.repeat as usize, usize::saturating_mul);
        if trials > MAX_TRIALS {
            return Err(CliError::Usage(format!("{trials} trials: at most {MAX_TRIALS} are supported")));
        }
        Ok(matrix)
    }

    /// Trials of all combinations, with their values.
    fn trials(&self) -> Result<Vec<(Values, Trial)>, CliError> {
        let scenario = self.study.scenario(&self.scenario)?;
        let matrix = self.matrix(&scenario)?;
        let mut combinations: Vec<Values> = vec![Values::new()];
        for (key, values) in &matrix {
            let with = |known: &Values, value: &SweepValue| {
                let mut known = known.clone();
                known.insert(key.clone(), value.to_string());
                known
            };
            combinations =
                combinations.iter().flat_map(|known| values.iter().map(|value| with(known, value))).collect();
        }
        let mut trials = vec![];
        for (number, values) in (1..).zip(&combinations) {
            let set: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let mut plain = scenario.clone();
            plain.sweep.clear();
            let with_all = with_values(plain, &set)?;
            // An impossible combination is refused before the first trial.
            let checked = with_all.clone().resolve();
            checked.map_err(|error| CliError::Usage(format!("{}: {error}", set.join(", "))))?;
            for repeat in 1..=self.repeat {
                let name = if self.repeat > 1 { format!("{number:03}-{repeat:02}") } else { format!("{number:03}") };
                let mut trial = Trial::new(name, &with_all);
                trial.repetition = u64::from(repeat - 1);
                trials.push((values.clone(), trial));
            }
        }
        Ok(trials)
    }
}

/// Row of a trial.
fn row(values: Values, ended: &Ended) -> SweepRow {
    let folder = ended.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let of_run = figures(&ended.run).into_iter().filter(|figure| !figure.name.contains('.'));
    let figures = of_run.map(|figure| {
        let value = match figure.value {
            FigureValue::Number(value) => Some(value),
            FigureValue::Infinite | FigureValue::Unknown => None,
        };
        (figure.name, value)
    });
    SweepRow {
        folder,
        values,
        valid: ended.run.verdict.valid,
        met_objectives: ended.run.meets_objectives(),
        figures: figures.collect(),
    }
}

/// Runs all trials, and prints a line for each.
///
/// # Errors
/// Fails if a trial can't be run or is invalid, or missed an objective.
pub(super) fn sweep(args: &SweepArgs) -> Result<(), CliError> {
    let trials = args.trials()?;
    let texts: Result<Vec<String>, String> = trials.iter().map(|(_, trial)| to_toml(&trial.scenario)).collect();
    let request = serde_json::to_value(texts.map_err(CliError::Failed)?).unwrap_or_default();
    let mut study = args.study.open("sweep", request)?;
    let count = trials.len();
    let mut rows = vec![];
    for (number, (values, trial)) in trials.into_iter().enumerate() {
        let ended = study.run(&trial, Some(count - number - 1))?;
        rows.push(row(values, &ended));
        let path = study.file("sweep.json");
        write_json(&path, &Sweep { schema_version: SWEEP_SCHEMA_VERSION, rows: rows.clone() })
            .map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))?;
    }
    say(&sweep_table(&rows));
    say(&format!("All {count} trials are in {}\n", study.root().display()));
    match () {
        () if rows.iter().any(|row| !row.valid) => Err(CliError::Invalid),
        () if rows.iter().any(|row| !row.met_objectives) => Err(CliError::MissedObjective),
        () => Ok(()),
    }
}
