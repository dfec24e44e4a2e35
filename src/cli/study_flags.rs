//! Flags that all commands of several runs have in common.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    error::CliError,
    scenario_file::read_scenario,
    trials::{Study, Trial},
};
use crate::scenario::{Objective, Scenario};

/// Deployments of this machine that trials may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TrialDeployment {
    /// Processes on this host's loopback
    #[default]
    Process,
    /// Processes in network namespaces of their own
    Netns,
    /// Docker containers
    Docker,
    /// Virtual time, in one process
    Simulation,
}

/// Trials: their deployment, their folder, and flags that each of them gets.
#[derive(Clone, Debug, Args)]
pub(super) struct StudyFlags {
    /// Deployment of the nodes
    #[arg(long, value_enum, default_value = "process", value_name = "DEPLOYMENT")]
    pub(super) on: TrialDeployment,
    /// Folder of the trials; the same command with the same folder continues after an interruption [default:
    /// /tmp/apollo-bench-COMMAND-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Replace a value of the scenario, by its key; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Bound that a figure of the result must keep, such as 'delivery_ratio >= 0.999'; may be given several times
    #[arg(long, value_name = "OBJECTIVE")]
    pub(super) expect: Vec<Objective>,
    /// Flags of `apollo-bench local` that each trial gets, after two dashes
    #[arg(last = true, value_name = "FLAGS")]
    pub(super) flags: Vec<OsString>,
}

impl StudyFlags {
    /// Scenario of a file with the values and objectives of the flags, not resolved.
    ///
    /// # Errors
    /// One line that names the file and the place in it, or the flag.
    pub(super) fn scenario(&self, path: &std::path::Path) -> Result<Scenario, CliError> {
        let mut scenario = read_scenario(path, &self.set)?.scenario;
        scenario.expect.extend(self.expect.iter().cloned());
        Ok(scenario)
    }

    /// Opens the folder of the trials of a command; `request` has everything that makes it another command.
    ///
    /// # Errors
    /// Errors of [`Study::open`].
    pub(super) fn open(&self, command: &str, request: Value) -> Result<Study, CliError> {
        let mut flags: Vec<OsString> = vec!["--on".into()];
        let deployment = serde_json::to_value(self.on).unwrap_or_default();
        flags.push(deployment.as_str().unwrap_or_default().into());
        flags.extend(self.flags.iter().cloned());
        let shown: Vec<String> = flags.iter().map(|flag| flag.to_string_lossy().into_owned()).collect();
        Study::open(self.output.as_deref(), command, json!({ "flags": shown, "of": request }), flags)
    }
}

impl Trial {
    /// A trial of this scenario, whose sweep is left out.
    pub(super) fn new(name: String, scenario: &Scenario) -> Self {
        let mut scenario = scenario.clone();
        scenario.sweep.clear();
        Self { name, scenario, flags: vec![], repetition: 0 }
    }
}
