//! `apollo-bench compare`: is B better than A?

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{
    error::CliError,
    scenario_file::with_values,
    study_flags::StudyFlags,
    trials::{Study, Trial},
};
use crate::{
    node::write_json,
    report::{
        ComparisonFile, ComparisonPlan, Figure, Measure, MeasureVerdict, RunFigures, RunFolder, RunSummary, Unit,
        compare, comparison_csv, comparison_table, did_you_mean, figures,
    },
    scenario::{Scenario, to_toml},
    terminal::say,
};

/// Measures that are compared unless the user names others: few, because each makes it harder to show a difference in
/// the others.
const MEASURES: [&str; 8] = [
    "delivery_ratio",
    "delay_p50",
    "delay_p99",
    "reach_2_3_p50",
    "reach_all_p99",
    "delivered_bytes_per_second",
    "cpu_seconds",
    "socket_bytes_per_delivered_byte",
];

/// Measures in which a simulation is compared with a real network: no figures of processors, which it does not have.
pub(super) const MEASURES_OF_AGREEMENT: [&str; 9] = [
    "delivery_ratio",
    "delay_p50",
    "delay_p99",
    "reach_1_3_p50",
    "reach_2_3_p50",
    "reach_all_p50",
    "reach_all_p99",
    "gossip_copies_per_delivery",
    "socket_bytes_per_delivered_byte",
];

/// Confidence of the intervals and of all verdicts together.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Is B better than A?
#[derive(Clone, Debug, Args)]
pub(super) struct CompareArgs {
    /// Folders of finished runs of side A
    #[arg(value_name = "RUN", required_unless_present = "run", conflicts_with = "run")]
    runs: Vec<PathBuf>,
    /// Folders of finished runs of side B
    #[arg(long, value_name = "RUN", num_args = 1.., requires = "runs")]
    with: Vec<PathBuf>,
    /// Scenario file to run: once, with --vary or two of --node-binary, or twice, for A and B
    #[arg(long, value_name = "FILE", conflicts_with = "runs")]
    run: Vec<PathBuf>,
    /// Value of side B for a key of the scenario: network.gossipsub.mesh_n=8; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "run")]
    vary: Vec<String>,
    /// Program of the nodes: once for both sides, or twice, for A and B
    #[arg(long, value_name = "PATH", requires = "run")]
    node_binary: Vec<PathBuf>,
    /// Number of runs of each side, in the order A B B A
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Maximum number of repetitions of a run that other programs disturbed, or that is invalid
    #[arg(long, value_name = "N", default_value_t = 3)]
    disturbed_repeats: u8,
    /// Figure to compare, in place of the default ones; may be given several times. 'apollo-bench figures DIR' lists them
    #[arg(long, value_name = "FIGURE")]
    measure: Vec<String>,
    /// Write a row for each run, with all of its figures
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the comparison as JSON; runs that this command makes have it in their folder too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// End with exit code 3 if B is worse in any measure
    #[arg(long)]
    fail_if_worse: bool,
    #[command(flatten)]
    study: StudyFlags,
}

/// A run of a side.
#[derive(Clone)]
pub(super) struct Compared {
    name: String,
    run: RunSummary,
    figures: Vec<Figure>,
}

impl Compared {
    /// A run by the name of its folder.
    pub(super) fn new(name: String, run: RunSummary) -> Self {
        let figures = figures(&run);
        Self { name, run, figures }
    }
}

/// A finished run.
fn finished(path: &Path) -> Result<Compared, CliError> {
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let run = RunFolder::at(path).read_summary().map_err(|error| usage(&error))?;
    Ok(Compared::new(path.display().to_string(), run))
}

/// Refuses runs that can't be compared.
fn check(a: &[Compared], b: &[Compared]) -> Result<(), CliError> {
    let usage = |line: String| Err(CliError::Usage(line));
    if a.is_empty() || b.is_empty() {
        return usage("give runs of both sides: RUN... --with RUN...".into());
    }
    if let Some(invalid) = a.iter().chain(b).find(|side| !side.run.verdict.valid) {
        let reason = invalid.run.verdict.reasons.first().map_or("", String::as_str);
        return usage(format!("{} is not valid, so that its figures prove nothing: {reason}", invalid.name));
    }
    let totals = |side: &[Compared]| side.iter().all(|one| one.run.totals.is_some());
    if !totals(a) || !totals(b) {
        return usage("runs of mode explore have trials in place of figures: compare runs of a scenario".into());
    }
    // A side is saturated if most of its runs are.
    let saturated = |side: &[Compared]| {
        let verdict = |one: &Compared| one.run.totals.as_ref()?.sustained.sustained;
        2 * side.iter().filter(|one| verdict(one) == Some(false)).count() > side.len()
    };
    let (of_a, of_b) = (saturated(a), saturated(b));
    if of_a != of_b {
        let (yes, no) = if of_a { ("A", "B") } else { ("B", "A") };
        return usage(format!(
            "the load of side {yes} was not sustained, and that of {no} was: delays of a growing backlog depend on the \
             length of the window, so lower the load, or compare delivered_bytes_per_second of two saturated sides"
        ));
    }
    Ok(())
}

/// Unit of a measure in the table.
fn unit_name(unit: Unit, name: &str) -> &'static str {
    match unit {
        Unit::Micros => "us",
        Unit::Bytes | Unit::BytesPerSecond => "bytes",
        Unit::Seconds => "s",
        Unit::Plain if name.ends_with("ratio") => "ratio",
        Unit::Millis | Unit::Percent | Unit::Plain => "",
    }
}

/// Measures to compare, of these figures.
pub(super) fn measures(asked: &[String], known: &[&Figure]) -> Result<Vec<Measure>, CliError> {
    let measure = |figure: &Figure| Measure {
        name: figure.name.clone(),
        better: figure.better(),
        unit: unit_name(figure.unit, &figure.name).to_owned(),
    };
    let find = |name: &str| known.iter().copied().find(|figure| figure.name == name);
    if asked.is_empty() {
        return Ok(MEASURES.iter().filter_map(|name| find(name)).map(measure).collect());
    }
    let named = asked.iter().map(|name| {
        find(name).map(measure).ok_or_else(|| {
            let near = did_you_mean(name, known.iter().map(|figure| figure.name.as_str()));
            CliError::Usage(format!("--measure {name}: the runs have no such figure{near}"))
        })
    });
    named.collect()
}

/// Figures of the runs of a side. A figure that only some runs have is unknown in the others.
pub(super) fn side(runs: &[Compared]) -> Vec<RunFigures> {
    let of_run = |one: &Compared| RunFigures {
        name: one.name.clone(),
        figures: one.figures.iter().map(|figure| (figure.name.clone(), figure.value)).collect(),
    };
    runs.iter().map(of_run).collect()
}

/// Figures of all runs by name: those of the first run that has them.
pub(super) fn known_figures<'a>(a: &'a [Compared], b: &'a [Compared]) -> Vec<&'a Figure> {
    let mut known: BTreeMap<&str, &Figure> = BTreeMap::new();
    for figure in a.iter().chain(b).flat_map(|one| &one.figures) {
        known.entry(&figure.name).or_insert(figure);
    }
    known.into_values().collect()
}

/// Finished runs of a side for people.
fn described(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().take(2).map(|path| path.display().to_string()).collect();
    let more =
        if paths.len() > names.len() { format!(" and {} more", paths.len() - names.len()) } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// The two sides of new runs.
struct Sides {
    a: (Scenario, Vec<OsString>),
    b: (Scenario, Vec<OsString>),
}

impl CompareArgs {
    fn sides(&self) -> Result<Sides, CliError> {
        let usage = |line: &str| CliError::Usage(line.into());
        let mut scenarios = self.run.iter().map(|path| self.study.scenario(path));
        let a = scenarios.next().unwrap_or_else(|| Err(usage("give --run FILE")))?;
        let second = scenarios.next().transpose()?;
        if scenarios.next().is_some() || self.node_binary.len() > 2 {
            return Err(usage("a comparison has two sides: give --run and --node-binary at most twice"));
        }
        if second.is_none() && self.vary.is_empty() && self.node_binary.len() < 2 {
            return Err(usage(
                "both sides are the same: give a second --run, --vary KEY=VALUE, or two of --node-binary",
            ));
        }
        let b = with_values(second.unwrap_or_else(|| a.clone()), &self.vary)?;
        let program = |number: usize| -> Vec<OsString> {
            let path = self.node_binary.get(number).or(self.node_binary.first());
            path.map(|path| vec!["--node-binary".into(), path.into()]).unwrap_or_default()
        };
        for (name, scenario) in [("A", &a), ("B", &b)] {
            let mut plain = scenario.clone();
            plain.sweep.clear();
            plain.resolve().map_err(|error| CliError::Usage(format!("side {name}: {error}")))?;
        }
        Ok(Sides { a: (a, program(0)), b: (b, program(1)) })
    }

    /// Sides A and B for people.
    fn descriptions(&self) -> (String, String) {
        if self.run.is_empty() {
            return (described(&self.runs), described(&self.with));
        }
        let side = |number: usize| {
            let place = |paths: &[PathBuf]| paths.get(number).or(paths.first()).map(|path| path.display().to_string());
            let mut text = place(&self.run).unwrap_or_default();
            if number > 0 && !self.vary.is_empty() {
                text = format!("{text} with {}", self.vary.join(", "));
            }
            if let Some(program) = place(&self.node_binary) {
                text = format!("{text}, nodes are {program}");
            }
            text
        };
        (side(0), side(1))
    }

    /// Runs both sides in the order A B B A.
    fn make(&self, study: &mut Study, sides: &Sides) -> Result<(Vec<Compared>, Vec<Compared>), CliError> {
        let (mut a, mut b) = (vec![], vec![]);
        let count = 2 * self.repeat as usize;
        for number in 0..count {
            let pair = number / 2;
            // The second of a pair is the other side, and each pair turns the order of the one before it.
            let first = (number % 2 == 0) == (pair % 2 == 0);
            let (name, (scenario, flags), runs) = if first { ("a", &sides.a, &mut a) } else { ("b", &sides.b, &mut b) };
            let mut trial = Trial::new(format!("{:03}-{name}", pair + 1), scenario);
            trial.flags = flags.clone();
            trial.repetition = pair as u64;
            let (name, run) = study.run_until_quiet(trial, count - number - 1, self.disturbed_repeats)?;
            runs.push(Compared::new(name, run));
        }
        Ok((a, b))
    }
}

/// Compares, and prints the verdict on each measure.
///
/// # Errors
/// Fails if the sides can't be compared; with `--fail-if-worse`, if B is worse.
pub(super) fn compare_sides(args: &CompareArgs) -> Result<(), CliError> {
    let mut study = None;
    let (a, b) = if args.run.is_empty() {
        let read = |paths: &[PathBuf]| paths.iter().map(|path| finished(path)).collect::<Result<Vec<_>, _>>();
        (read(&args.runs)?, read(&args.with)?)
    } else {
        let sides = args.sides()?;
        let text = |scenario: &Scenario| to_toml(scenario).map_err(CliError::Failed);
        let programs: Vec<String> = args.node_binary.iter().map(|path| path.display().to_string()).collect();
        let request = json!({ "a": text(&sides.a.0)?, "b": text(&sides.b.0)?, "node_binaries": programs });
        let opened = study.insert(args.study.open("compare", request)?);
        args.make(opened, &sides)?
    };
    check(&a, &b)?;
    let measures = measures(&args.measure, &known_figures(&a, &b))?;
    let plan = ComparisonPlan { measures, confidence: CONFIDENCE };
    let (of_a, of_b) = (side(&a), side(&b));
    let mut comparison = compare(&plan, &of_a, &of_b);
    let disturbed = a.iter().chain(&b).filter(|one| one.run.is_disturbed()).count();
    if disturbed > 0 {
        comparison.notes.push(format!(
            "Other programs disturbed {disturbed} of the {} runs, which makes differences harder to see.",
            a.len() + b.len()
        ));
    }
    let failed = |path: &Path, error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", path.display()));
    let names = |side: &[Compared]| side.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let (side_a, side_b) = args.descriptions();
    let file = ComparisonFile { side_a, side_b, a: names(&a), b: names(&b), comparison };
    let comparison = &file.comparison;
    let own = study.as_ref().map(|study| study.file("comparison.json"));
    for path in own.iter().chain(&args.json) {
        write_json(path, &file).map_err(|error| failed(path, &error))?;
    }
    if let Some(path) = &args.csv {
        let text = comparison_csv(&of_a, &of_b).map_err(|error| failed(path, &error))?;
        fs::write(path, text).map_err(|error| failed(path, &error))?;
    }
    say(&comparison_table(comparison, &file.side_a, &file.side_b));
    if let Some(study) = &study {
        say(&format!("All runs are in {}\n", study.root().display()));
    }
    let worse = comparison.measures.iter().any(|row| row.verdict == MeasureVerdict::Worse);
    if args.fail_if_worse && worse { Err(CliError::MissedObjective) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Better, Sustained, Totals, WorkloadSummary};

    fn run(sustained: Option<bool>) -> Compared {
        let sustained = Sustained { sustained, ..Sustained::default() };
        let totals = Totals { sustained, ..Totals::default() };
        let mut run = RunSummary::failed(WorkloadSummary::default(), String::new());
        run.verdict = crate::report::Verdict { valid: true, ..Default::default() };
        run.totals = Some(totals);
        Compared::new("run".into(), run)
    }

    #[test]
    fn saturated_runs_are_not_compared_with_others() {
        let of = |verdicts: &[Option<bool>]| verdicts.iter().map(|verdict| run(*verdict)).collect::<Vec<_>>();
        let (held, grew) = (of(&[Some(true), Some(true), None]), of(&[Some(false), Some(false), Some(true)]));
        assert!(check(&held, &held).is_ok() && check(&grew, &grew).is_ok());
        let Err(CliError::Usage(line)) = check(&held, &grew) else { panic!("no refusal") };
        assert!(line.contains("side B was not sustained"), "{line}");
    }

    #[test]
    fn every_default_measure_has_a_direction() {
        for name in MEASURES {
            let figure = Figure { name: name.into(), value: crate::report::FigureValue::Unknown, unit: Unit::Plain };
            assert_ne!(figure.better(), Better::Neither, "{name}");
        }
    }
}
