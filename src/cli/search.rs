//! `apollo-bench search`: the highest load that meets the objectives.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    error::CliError,
    study_flags::StudyFlags,
    trials::{Study, Trial},
};
use crate::{
    node::write_json,
    report::{Axis, SEARCH_SCHEMA_VERSION, Search, SearchRange, SearchStep, SearchTrial, search_table},
    scenario::{MAX_MESSAGE_SIZE, MIN_CLASS_MESSAGE_SIZE, MessageSize, Scenario, TrafficClass, to_toml},
    terminal::{say, tell},
};

/// Maximum number of trials, repetitions of disturbed ones included.
const MAX_TRIALS: usize = 60;

/// Maximum number of repetitions of a trial that other programs disturbed; the last one counts.
const MAX_AGAIN: usize = 2;

/// Highest rate of a sender, in messages per second.
const MAX_RATE: f64 = 10_000.0;

/// Lowest rate of a sender.
const MIN_RATE: f64 = 0.01;

/// Objectives of a search that has none.
const OBJECTIVES: [&str; 2] = ["delivery_ratio == 1", "sustained == 1"];

/// Load that is varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Messages of each sender in a second
    #[default]
    Rate,
    /// Bytes of a message
    Size,
}

/// The highest load that meets the objectives.
#[derive(Clone, Debug, Args)]
pub(super) struct SearchArgs {
    /// Scenario file; its load is the first trial
    scenario: PathBuf,
    /// Load that is varied; of several classes, all in the same proportion
    #[arg(long, value_enum, default_value = "rate")]
    by: By,
    /// Lowest load to try [default: 0.01 messages per second, or the smallest message]
    #[arg(long, value_name = "LOAD")]
    from: Option<f64>,
    /// Highest load to try [default: 10000 messages per second, or 32 MiB]
    #[arg(long, value_name = "LOAD")]
    to: Option<f64>,
    /// Width of the interval at which the search ends, in percent of its lower end
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    precision_percent: f64,
    /// Runs of each end of the interval; the majority decides
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    repeat: u8,
    #[command(flatten)]
    study: StudyFlags,
}

/// A scenario whose load can be scaled.
struct Scaled {
    axis: Axis,
    scenario: Scenario,
    /// Load of the scenario itself.
    own: f64,
    unit: &'static str,
    least: f64,
    most: f64,
}

impl Scaled {
    fn new(by: By, scenario: Scenario) -> Result<Self, CliError> {
        if scenario.explore.is_some() {
            return Err(CliError::Usage("mode explore searches by itself: give a scenario with traffic".into()));
        }
        let mut scenario = scenario;
        scenario.sweep.clear();
        if scenario.traffic.is_empty() {
            scenario.traffic.push(TrafficClass::default());
        }
        let paced: Vec<&TrafficClass> = scenario.traffic.iter().filter(|class| class.after.is_none()).collect();
        let single = match (&paced[..], by) {
            ([class], By::Rate) => Some((1.0 / class.heartbeat().as_secs_f64(), "messages/s of each sender")),
            ([class], By::Size) if scenario.traffic.len() == 1 => match &class.message_size_bytes {
                MessageSize::Fixed(size) => Some((*size as f64, "bytes of a message")),
                _ => None,
            },
            _ => None,
        };
        let (own, unit) = single.unwrap_or((1.0, "times the load of the scenario"));
        let mut scaled = Self { axis: Axis::Rate, scenario, own, unit, least: 0.0, most: 0.0 };
        let factors = match by {
            By::Rate => scaled.factors_of_rates(),
            By::Size => {
                scaled.axis = Axis::Size;
                scaled.factors_of_sizes()
            }
        };
        (scaled.least, scaled.most) = (factors.0 * own, factors.1 * own);
        Ok(scaled)
    }

    /// Lowest and highest factors at which every rate is possible.
    fn factors_of_rates(&self) -> (f64, f64) {
        let rates = self.scenario.traffic.iter().filter(|class| class.after.is_none());
        let rates: Vec<f64> = rates.map(|class| 1.0 / class.heartbeat().as_secs_f64()).collect();
        let (slowest, fastest) =
            (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
        (MIN_RATE / slowest, MAX_RATE / fastest)
    }

    /// The same of sizes.
    fn factors_of_sizes(&self) -> (f64, f64) {
        let sizes = self.scenario.traffic.iter().flat_map(|class| match &class.message_size_bytes {
            MessageSize::Fixed(size) => vec![*size],
            MessageSize::Weighted(sizes) => sizes.iter().map(|size| size.bytes).collect(),
            MessageSize::File(_) => vec![],
        });
        let sizes: Vec<f64> = sizes.map(|size| size as f64).collect();
        let (least, most) = (sizes.iter().copied().fold(f64::MAX, f64::min), sizes.iter().copied().fold(1.0, f64::max));
        (MIN_CLASS_MESSAGE_SIZE as f64 / least, MAX_MESSAGE_SIZE as f64 / most)
    }

    /// The scenario at a load.
    fn at(&self, load: f64) -> Scenario {
        let factor = load / self.own;
        let mut scenario = self.scenario.clone();
        for class in &mut scenario.traffic {
            match self.axis {
                Axis::Rate if class.after.is_none() => {
                    let micros = class.heartbeat().as_secs_f64() * 1e6 / factor;
                    class.heartbeat_micros = Some((micros.round() as u64).max(1));
                    class.heartbeat_millis = None;
                }
                Axis::Rate => {}
                Axis::Size => {
                    let scaled = |size: usize| {
                        ((size as f64 * factor).round() as usize).clamp(MIN_CLASS_MESSAGE_SIZE, MAX_MESSAGE_SIZE)
                    };
                    match &mut class.message_size_bytes {
                        MessageSize::Fixed(size) => *size = scaled(*size),
                        MessageSize::Weighted(sizes) => {
                            sizes.iter_mut().for_each(|size| size.bytes = scaled(size.bytes))
                        }
                        MessageSize::File(_) => {}
                    }
                }
            }
        }
        scenario
    }
}

impl SearchArgs {
    fn range(&self, scaled: &Scaled) -> Result<SearchRange, CliError> {
        let (least, most) = (self.from.unwrap_or(scaled.least), self.to.unwrap_or(scaled.most));
        let permitted = scaled.least..=scaled.most;
        if !(permitted.contains(&least) && permitted.contains(&most) && least < most) {
            return Err(CliError::Usage(format!(
                "--from {least} --to {most}: give {} to {} {}, the lower one first",
                scaled.least, scaled.most, scaled.unit
            )));
        }
        if !(0.1..=100.0).contains(&self.precision_percent) {
            return Err(CliError::Usage(format!("--precision-percent {}: must be 0.1 to 100", self.precision_percent)));
        }
        Ok(SearchRange {
            start: scaled.own,
            least,
            most,
            ratio: 1.0 + self.precision_percent / 100.0,
            runs: usize::from(self.repeat),
            trials: MAX_TRIALS,
        })
    }
}

/// A search in progress.
struct Running {
    study: Study,
    scaled: Scaled,
    search: Search,
}

impl Running {
    /// Runs one trial at a load, and again if other programs disturbed it. Returns whether it held.
    fn try_load(&mut self, load: f64) -> Result<bool, CliError> {
        let scenario = self.scaled.at(load);
        scenario.clone().resolve().map_err(|error| CliError::Usage(format!("at load {load}: {error}")))?;
        let before = self.search.trials.iter().filter(|trial| trial.load == load && !trial.disturbed).count();
        let mut again = 0;
        loop {
            let suffix = if again > 0 { format!("-again{again}") } else { String::new() };
            let mut trial = Trial::new(format!("load-{load:.3}-{}{suffix}", before + 1), &scenario);
            trial.repetition = before as u64;
            let ended = self.study.run(&trial, None)?;
            let links = ended.scenario.link_plan().map_err(|error| CliError::Failed(error.to_string()))?;
            let mut row = SearchTrial::of(trial.name, load, &ended.run, &links);
            // A trial that held although it was disturbed holds.
            row.disturbed &= !row.holds && again < MAX_AGAIN;
            let (disturbed, holds) = (row.disturbed, row.holds);
            self.search.trials.push(row);
            self.write()?;
            if !disturbed {
                tell(&format!("{load:.3} {}: {}", self.search.unit, if holds { "holds" } else { "fails" }));
                return Ok(holds);
            }
            again += 1;
        }
    }

    fn write(&self) -> Result<(), CliError> {
        let path = self.study.file("search.json");
        write_json(&path, &self.search).map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))
    }

    /// Limits at the lowest load that fails: those that its trials name first and most often.
    fn conclude(&mut self, holds: Option<f64>, fails: Option<f64>, done: bool) -> Result<(), CliError> {
        let failing = self.search.trials.iter().filter(|trial| Some(trial.load) == fails && !trial.holds);
        let last = failing.rev().find(|trial| !trial.disturbed);
        self.search.limits = last.map(|trial| trial.limits.clone()).unwrap_or_default();
        (self.search.holds, self.search.fails, self.search.done) = (holds, fails, done);
        self.write()
    }
}

/// Searches, and prints the interval.
///
/// # Errors
/// Fails if a trial can't be run, or no load holds.
pub(super) fn search(args: &SearchArgs) -> Result<(), CliError> {
    let mut scenario = args.study.scenario(&args.scenario)?;
    if scenario.expect.is_empty() {
        let defaults: Result<Vec<_>, String> = OBJECTIVES.iter().map(|text| text.parse()).collect();
        scenario.expect = defaults.map_err(CliError::Failed)?;
        tell(&format!("no objective is given: the search uses {}", OBJECTIVES.join(" and ")));
    }
    let scaled = Scaled::new(args.by, scenario)?;
    let range = args.range(&scaled)?;
    scaled.scenario.clone().resolve().map_err(|error| CliError::Usage(error.to_string()))?;
    let request = json!({
        "scenario": to_toml(&scaled.scenario).map_err(CliError::Failed)?,
        "axis": scaled.axis, "least": range.least, "most": range.most, "ratio": range.ratio, "runs": range.runs,
    });
    let search = Search {
        schema_version: SEARCH_SCHEMA_VERSION,
        axis: scaled.axis,
        unit: scaled.unit.to_owned(),
        objectives: scaled.scenario.expect.iter().map(ToString::to_string).collect(),
        precision_percent: args.precision_percent,
        holds: None,
        fails: None,
        done: false,
        limits: vec![],
        trials: vec![],
    };
    let study = args.study.open("search", request)?;
    let mut running = Running { study, scaled, search };
    let mut results: Vec<(f64, bool)> = vec![];
    loop {
        match range.next(&results) {
            SearchStep::Try(load) => {
                let holds = running.try_load(load)?;
                results.push((load, holds));
            }
            SearchStep::Done(holds, fails) => break running.conclude(holds, fails, true)?,
            SearchStep::Exhausted(holds, fails) => break running.conclude(holds, fails, false)?,
        }
    }
    say(&search_table(&running.search));
    say(&format!("All trials are in {}\n", running.study.root().display()));
    if running.search.holds.is_some() { Ok(()) } else { Err(CliError::MissedObjective) }
}
