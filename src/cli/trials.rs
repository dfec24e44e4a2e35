//! Trials: runs of this program, one after the other, in a folder that survives any end of it.
//!
//! Each trial is a run of its own process into a folder with the suffix `.partial`, which is renamed when the run has
//! its result. So a trial is complete or absent, and the same command continues after Ctrl-C or `kill -9`: complete
//! trials are read and not repeated.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{process::Command, runtime};

use super::{error::CliError, scenario_file::read_scenario};
use crate::{
    children::{kill_group, log_tail, tether},
    clock::{Instant, timeout},
    report::{RunFolder, RunSummary},
    scenario::{Scenario, to_toml},
    secret::private_folder,
    signals::Interrupts,
    terminal::tell,
};

/// Version of `study.json`; raised when a field changes its meaning or is removed.
const SCHEMA_VERSION: u32 = 1;

/// Maximum time for a run to end in order after Ctrl-C, before it is killed.
const END: Duration = Duration::from_secs(60);

/// Record of a folder of trials, by which the same command is recognised.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    schema_version: u32,
    /// Command that made it.
    command: String,
    /// Its request.
    request: Value,
}

/// A trial: a scenario, and flags of `apollo-bench local` that belong to it alone.
pub(super) struct Trial {
    /// Name of its folder.
    pub(super) name: String,
    /// Scenario, resolved or not.
    pub(super) scenario: Scenario,
    /// More flags.
    pub(super) flags: Vec<OsString>,
    /// Number of this repetition, from 0: a simulation repeats its result exactly, so each repetition takes a seed of its own.
    pub(super) repetition: u64,
}

/// A trial with its result.
#[derive(Debug)]
pub(super) struct Ended {
    /// Folder of the run.
    pub(super) folder: PathBuf,
    /// Result of the run.
    pub(super) run: RunSummary,
    /// Resolved scenario of the run, in which flags have replaced values of the trial's.
    pub(super) scenario: Scenario,
}

/// A folder of trials, locked.
pub(super) struct Study {
    root: PathBuf,
    /// Flags of every trial.
    flags: Vec<OsString>,
    runtime: runtime::Runtime,
    interrupts: Interrupts,
    /// Duration of each trial that was run by this process.
    durations: Vec<Duration>,
    /// Each scenario that was run, with the trial that asked for it and that trial's scenario.
    ran: BTreeMap<String, (String, String)>,
    /// Locked as long as it is open; the kernel unlocks it after any end of this process.
    _lock: File,
}

fn failed(path: &Path, error: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("{}: {error}", path.display()))
}

/// True if these flags ask for virtual time.
fn simulates<'a>(flags: impl Iterator<Item = &'a OsString>) -> bool {
    let words: Vec<_> = flags.map(|flag| flag.to_string_lossy()).collect();
    words.iter().any(|word| word == "--on=simulation") || words.windows(2).any(|pair| pair == ["--on", "simulation"])
}

/// Result of a trial.
fn read_result(folder: PathBuf) -> Result<Ended, CliError> {
    let files = RunFolder::at(&folder);
    let run = files.read_summary().map_err(|error| CliError::Failed(error.to_string()))?;
    let scenario = read_scenario(&files.scenario(), &[])?.scenario;
    Ok(Ended { folder, run, scenario })
}

impl Study {
    /// Makes a folder of trials, or continues one of the same request. `flags` are given to every trial.
    ///
    /// # Errors
    /// Fails if the folder holds something else, or is in use.
    pub(super) fn open(
        output: Option<&Path>,
        command: &str,
        request: Value,
        flags: Vec<OsString>,
    ) -> Result<Self, CliError> {
        let root = match output {
            Some(output) => {
                fs::create_dir_all(output).map_err(|error| failed(output, error))?;
                fs::canonicalize(output).map_err(|error| failed(output, error))?
            }
            None => {
                let prefix =
                    format!("apollo-bench-{command}-{}", crate::clock::timestamp().strftime("%Y-%m-%d-%H-%M-%S"));
                private_folder(&prefix).map_err(|(path, error)| failed(&path, error))?
            }
        };
        let lock = File::open(&root).map_err(|error| failed(&root, error))?;
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            let line = format!("{} is in use by another command: give another --output", root.display());
            return Err(CliError::Usage(line));
        }
        let record = Record { schema_version: SCHEMA_VERSION, command: command.into(), request };
        let path = root.join("study.json");
        match fs::read(&path) {
            Ok(text) if serde_json::from_slice::<Record>(&text).is_ok_and(|known| known == record) => {}
            Ok(_) => {
                let line = format!("{} holds the trials of another command: give another --output", root.display());
                return Err(CliError::Usage(line));
            }
            Err(_) if fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some()) => {
                let line = format!("{} is not empty: give another --output, or empty it", root.display());
                return Err(CliError::Usage(line));
            }
            Err(_) => crate::node::write_json(&path, &record).map_err(|error| failed(&path, error))?,
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::Failed(format!("the runtime does not start: {error}")))?;
        let interrupts = {
            let _inside = runtime.enter();
            Interrupts::new().map_err(|error| CliError::Failed(error.to_string()))?
        };
        Ok(Self { root, flags, runtime, interrupts, durations: vec![], ran: BTreeMap::new(), _lock: lock })
    }

    /// Folder of the trials.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Path of a file beside the trials.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Result of a trial if it is complete.
    ///
    /// # Errors
    /// Fails if a complete trial of this name had another scenario, or can't be read.
    fn complete(&self, trial: &Trial, scenario: &str) -> Result<Option<Ended>, CliError> {
        let folder = self.root.join(&trial.name);
        if !folder.is_dir() {
            return Ok(None);
        }
        let path = self.scenario_path(&trial.name);
        if fs::read_to_string(&path).ok().as_deref() != Some(scenario) {
            let line = format!("{} is a trial of another scenario: give another --output", folder.display());
            return Err(CliError::Usage(line));
        }
        read_result(folder).map(Some)
    }

    fn scenario_path(&self, name: &str) -> PathBuf {
        self.root.join("scenarios").join(format!("{name}.toml"))
    }

    /// Runs a trial, or reads its result if it is complete. `left` is the number of trials after it; none if it is
    /// unknown.
    ///
    /// # Errors
    /// Fails if the trial can't be run, if flags made it the same as one of another scenario, or if this process is
    /// interrupted.
    pub(super) fn run(&mut self, trial: &Trial, left: Option<usize>) -> Result<Ended, CliError> {
        let mut scenario = trial.scenario.clone();
        if simulates(self.flags.iter().chain(&trial.flags)) {
            scenario.seed = scenario.seed.wrapping_add(trial.repetition);
        }
        let scenario = to_toml(&scenario).map_err(CliError::Failed)?;
        let ended = match self.complete(trial, &scenario)? {
            Some(ended) => ended,
            None => self.start(trial, &scenario, left)?,
        };
        self.check_that_it_differs(trial, scenario, &ended)?;
        Ok(ended)
    }

    /// Runs a trial, and again, at most this often, while other programs disturb it or it is invalid. Returns the last run
    /// with the name of its trial.
    ///
    /// # Errors
    /// Fails as [`Study::run`] does.
    pub(super) fn run_until_quiet(
        &mut self,
        mut trial: Trial,
        left: usize,
        most: u8,
    ) -> Result<(String, RunSummary), CliError> {
        let first = trial.name.clone();
        let mut again = 0;
        loop {
            if again > 0 {
                trial.name = format!("{first}-again{again}");
            }
            let run = self.run(&trial, Some(left))?.run;
            if again >= most || (run.verdict.valid && !run.is_disturbed()) {
                return Ok((trial.name, run));
            }
            let reason = run.verdict.reasons.first().cloned();
            let reason = reason.unwrap_or_else(|| "other programs used the processors".into());
            tell(&format!("{}: is repeated: {reason}", trial.name));
            again += 1;
        }
    }

    fn start(&mut self, trial: &Trial, scenario: &str, left: Option<usize>) -> Result<Ended, CliError> {
        let path = self.scenario_path(&trial.name);
        for folder in ["scenarios", "logs"] {
            let folder = self.root.join(folder);
            fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
        }
        fs::write(&path, scenario).map_err(|error| failed(&path, error))?;
        let partial = self.root.join(format!("{}.partial", trial.name));
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(|error| failed(&partial, error))?;
        }
        tell(&format!("{}: runs{}", trial.name, self.estimate(left)));
        let begun = Instant::now();
        self.start_and_wait(trial, &path, &partial)?;
        read_result(partial.clone())?;
        let folder = self.root.join(&trial.name);
        fs::rename(&partial, &folder).map_err(|error| failed(&folder, error))?;
        self.durations.push(begun.elapsed());
        read_result(folder)
    }

    /// Refuses a trial that ran the scenario of another one, although another was asked for.
    fn check_that_it_differs(&mut self, trial: &Trial, asked: String, ended: &Ended) -> Result<(), CliError> {
        let ran = to_toml(&ended.scenario).map_err(CliError::Failed)?;
        let (first, known) = self.ran.entry(ran).or_insert_with(|| (trial.name.clone(), asked.clone()));
        if *known == asked {
            return Ok(());
        }
        Err(CliError::Usage(format!(
            "{} and {first} ran the same scenario, so their difference shows nothing: a value that is varied is the \
             default, or flags after -- replace it",
            trial.name
        )))
    }

    /// Time until the trials are done, or of the next one if their number is unknown, as far as ended ones show it.
    fn estimate(&self, left: Option<usize>) -> String {
        let count = u32::try_from(self.durations.len()).unwrap_or(u32::MAX);
        let Some(mean) = self.durations.iter().sum::<Duration>().checked_div(count) else { return String::new() };
        let Some(left) = left else { return format!(" (about {} s)", mean.as_secs()) };
        let left = mean.saturating_mul(u32::try_from(left + 1).unwrap_or(u32::MAX)).as_secs();
        let time = if left < 120 { format!("{left} s") } else { format!("{} min", left.div_ceil(60)) };
        format!(" (about {time} left)")
    }

    fn start_and_wait(&mut self, trial: &Trial, scenario: &Path, output: &Path) -> Result<(), CliError> {
        let log = self.root.join("logs").join(format!("{}.log", trial.name));
        let file = File::create(&log).map_err(|error| failed(&log, error))?;
        // This program as it is, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("run").arg(scenario).args(&self.flags).args(&trial.flags).arg("--output").arg(output).arg("--json");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        tether(&mut command);
        let interrupts = &mut self.interrupts;
        self.runtime.block_on(async {
            let mut child = command.spawn().map_err(|error| CliError::Failed(format!("{}: {error}", trial.name)))?;
            let status = tokio::select! {
                status = child.wait() => status,
                cause = interrupts.next() => {
                    kill_group(&child, Signal::SIGTERM);
                    // The run ends in order, and what it has is not complete.
                    let _ = timeout(END, child.wait()).await;
                    kill_group(&child, Signal::SIGKILL);
                    let _ = fs::remove_dir_all(output);
                    let line = format!("{}: complete trials are kept, and the same command continues", cause.reason());
                    return Err(CliError::Failed(line));
                }
            };
            let status = status.map_err(|error| CliError::Failed(format!("{}: {error}", trial.name)))?;
            match status.code() {
                // Valid, invalid, or a missed objective: each has a result.
                Some(0 | 1 | 3) if output.join("summary.json").is_file() => Ok(()),
                Some(2) => Err(CliError::Usage(format!("{}{}", trial.name, log_tail(&log)))),
                _ => Err(CliError::Failed(format!("{} ended with {status}{}", trial.name, log_tail(&log)))),
            }
        })
    }
}
