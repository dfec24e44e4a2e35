//! `apollo-bench agree`: how far simulations agree with real networks.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _, path::PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    compare::{CONFIDENCE, Compared, MEASURES_OF_AGREEMENT, known_figures, measures, side},
    error::CliError,
    processor_flags::ProcessorFlags,
    scenario_file::read_scenario,
    trials::{Study, Trial},
};
use crate::{
    node::write_json,
    report::{AgreementEntry, ChangeKind, ComparisonPlan, MeasureAgreement, MeasureRow, compare},
    scenario::{Scenario, to_toml},
    terminal::say,
};

/// Flags of the three sides: the real network, and the simulation under both orders of service.
const SIDES: [(&str, &[&str]); 3] = [
    ("real", &["--on", "netns", "--congestion-control", "cubic"]),
    ("fair", &["--on", "simulation", "--discipline", "fair"]),
    ("fifo", &["--on", "simulation", "--discipline", "fifo"]),
];

/// Number of times that a run of the real network is repeated, if other programs disturb it or it is invalid.
const MOST_AGAIN: u8 = 3;

/// Place of the real network among the sides.
const REAL: usize = 0;

/// A scenario on network namespaces and in virtual time, in turns.
#[derive(Clone, Debug, Args)]
pub(super) struct AgreeArgs {
    /// Scenario file of 3 to 10 nodes
    scenario: PathBuf,
    /// Number of runs of each side, each with a seed of its own; an interval needs four or more
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Folder of the runs; the same command with the same folder continues after an interruption [default:
    /// /tmp/apollo-bench-agree-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace a value of the scenario, by its key; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the entry for the file of the agreement that is kept with the sources
    #[arg(long)]
    entry: bool,
    #[command(flatten)]
    processor: ProcessorFlags,
    /// Flags that each run gets, after two dashes
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// Request of a folder of runs.
#[derive(Serialize, Deserialize)]
struct Request {
    scenario: String,
    processors: String,
    flags: Vec<String>,
}

/// Result of an agreement: `agreement.json`.
#[derive(Serialize)]
struct AgreementFile<'a> {
    schema_version: u32,
    entry: &'a AgreementEntry,
    fair: &'a [MeasureRow],
    fifo: &'a [MeasureRow],
}

/// Runs all sides in turns.
fn run_sides(args: &AgreeArgs, study: &mut Study, scenario: &Scenario) -> Result<Vec<Vec<Compared>>, CliError> {
    let mut sides: Vec<Vec<Compared>> = vec![vec![]; SIDES.len()];
    let all = args.repeat as usize * SIDES.len();
    let mut done = 0;
    for round in 0..args.repeat {
        // Every second round goes the other way.
        let places: Vec<usize> =
            if round % 2 == 0 { (0..SIDES.len()).collect() } else { (0..SIDES.len()).rev().collect() };
        for place in places {
            let (name, flags) = SIDES[place];
            done += 1;
            let mut trial = Trial::new(format!("{:03}-{name}", round + 1), scenario);
            trial.flags = flags.iter().map(OsString::from).collect();
            if place != REAL {
                trial.flags.extend(args.processor.flags()?);
            }
            trial.flags.push(format!("--seed={}", scenario.seed + u64::from(round)).into());
            // A simulation repeats its result, so only the real network is asked again.
            let most = if place == REAL { MOST_AGAIN } else { 0 };
            let (name, run) = study.run_until_quiet(trial, all - done, most)?;
            if !run.verdict.valid {
                let reason = run.verdict.reasons.first().cloned().unwrap_or_default();
                return Err(CliError::Failed(format!("{name} is not valid: {reason}")));
            }
            if let Some(runs) = sides.get_mut(place) {
                runs.push(Compared::new(name, run));
            }
        }
    }
    Ok(sides)
}

/// Ratio of both sides: the estimate of the comparison, or that of the medians where too few runs support no estimate.
fn estimate(row: &MeasureRow) -> Option<f64> {
    let estimated = row.change.as_ref().filter(|change| change.kind == ChangeKind::Ratio);
    let of_medians = || match (row.a.median, row.b.median) {
        (Some(a), Some(b)) if a > 0.0 => Some(b / a),
        _ => None,
    };
    estimated.and_then(|change| change.estimate).or_else(of_medians)
}

/// Text of a ratio, with its interval if the runs support one.
fn ratio(row: &MeasureRow) -> String {
    let Some(estimate) = estimate(row) else { return "-".into() };
    let interval = row.change.as_ref().filter(|change| change.kind == ChangeKind::Ratio);
    match interval.and_then(|change| Some((change.lower?, change.upper?))) {
        Some((lower, upper)) => format!("{estimate:.3} ({lower:.3} to {upper:.3})"),
        None => format!("{estimate:.3}"),
    }
}

/// Table of an agreement, as Markdown.
fn table(entry: &AgreementEntry, processors: &str, fair: &[MeasureRow], fifo: &[MeasureRow]) -> String {
    let mut text = format!(
        "{}: simulated values divided by measured ones, {} runs of each side, simulated processors {}\n\n| measure | measured | in turns | in one \
         queue |\n|---|---|---|---|\n",
        entry.scenario, entry.runs, processors
    );
    for (one, other) in fair.iter().zip(fifo) {
        let measured = one.a.median.map_or_else(|| "-".into(), |median| format!("{median:.4} {}", one.unit));
        let _ = writeln!(text, "| {} | {} | {} | {} |", one.name, measured.trim(), ratio(one), ratio(other));
    }
    text
}

/// Entry of a scenario: its place in the calibrated range, and the ratios.
fn entry(scenario: &Scenario, runs: u32, fair: &[MeasureRow], fifo: &[MeasureRow]) -> Result<AgreementEntry, CliError> {
    let resolved = scenario.clone().resolve().map_err(|error| CliError::Usage(error.to_string()))?;
    let links = resolved.link_plan().map_err(|error| CliError::Usage(error.to_string()))?;
    let of_rows = fair.iter().zip(fifo).filter_map(|(one, other)| {
        let values: Vec<f64> = [estimate(one), estimate(other)].into_iter().flatten().collect();
        let least = values.iter().copied().reduce(f64::min)?;
        Some((one.name.clone(), MeasureAgreement { lowest: least, highest: values.into_iter().fold(least, f64::max) }))
    });
    let measures: BTreeMap<String, MeasureAgreement> = of_rows.collect();
    Ok(AgreementEntry::new(&resolved, &links, runs, measures))
}

/// Compares simulations with real networks, and prints the ratios.
///
/// # Errors
/// Fails if a run can't be made, or is not valid.
pub(super) fn agree(args: &AgreeArgs) -> Result<(), CliError> {
    let mut scenario = read_scenario(&args.scenario, &args.set)?.scenario;
    scenario.sweep.clear();
    if !(3..=10).contains(&scenario.nodes.count) {
        let line =
            format!("{} nodes: agreement is measured with 3 to 10, which one machine can carry", scenario.nodes.count);
        return Err(CliError::Usage(line));
    }
    let request = Request {
        scenario: to_toml(&scenario).map_err(CliError::Failed)?,
        processors: args.processor.model()?.to_string(),
        flags: args.flags.iter().map(|flag| flag.to_string_lossy().into_owned()).collect(),
    };
    let request = serde_json::to_value(request).map_err(|error| CliError::Failed(error.to_string()))?;
    let mut study = Study::open(args.output.as_deref(), "agree", request, args.flags.clone())?;
    let sides = run_sides(args, &mut study, &scenario)?;
    let [real, fair, fifo] = sides.as_slice() else { return Ok(()) };
    let names: Vec<String> = MEASURES_OF_AGREEMENT.map(str::to_owned).into();
    let measures = measures(&names, &known_figures(real, fair))?;
    let plan = ComparisonPlan { measures, confidence: CONFIDENCE };
    let rows = |simulated: &[Compared]| compare(&plan, &side(real), &side(simulated)).measures;
    let (of_fair, of_fifo) = (rows(fair), rows(fifo));
    let entry = entry(&scenario, args.repeat, &of_fair, &of_fifo)?;
    let path = study.file("agreement.json");
    let file = AgreementFile { schema_version: 1, entry: &entry, fair: &of_fair, fifo: &of_fifo };
    write_json(&path, &file).map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))?;
    say(&table(&entry, &args.processor.model()?.to_string(), &of_fair, &of_fifo));
    if args.entry {
        say(&format!("\n{entry}"));
    }
    say(&format!("All runs are in {}\n", study.root().display()));
    Ok(())
}
