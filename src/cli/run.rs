//! `apollo-bench run`: a scenario file on a deployment.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::error::CliError;

/// A scenario file on a deployment.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Scenario file
    scenario: PathBuf,
    /// Deployment, as `--on process|netns|docker|simulation|remote|kubernetes` [default: process], and flags of its command
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

impl RunArgs {
    /// Words of the command of the deployment.
    ///
    /// # Errors
    /// A deployment that does not exist.
    pub(super) fn words(self) -> Result<Vec<OsString>, CliError> {
        let mut deployment = "process".to_owned();
        let mut flags = vec![];
        let mut given = self.flags.into_iter();
        while let Some(word) = given.next() {
            match word.to_str() {
                Some("--on") => {
                    let name =
                        given.next().ok_or_else(|| CliError::Usage("--on needs the name of a deployment".into()))?;
                    deployment = name.to_string_lossy().into_owned();
                }
                Some(text) => match text.strip_prefix("--on=") {
                    Some(name) => deployment = name.to_owned(),
                    None => flags.push(word),
                },
                None => flags.push(word),
            }
        }
        let command: &[&str] = match deployment.as_str() {
            "process" => &["local"],
            "netns" => &["local", "--backend=netns"],
            "docker" => &["local", "--backend=docker"],
            "simulation" => &["simulate"],
            "remote" => &["remote"],
            "kubernetes" => &["cluster", "start"],
            _ => {
                return Err(CliError::Usage(format!(
                    "--on {deployment}: a deployment is process, netns, docker, simulation, remote or kubernetes"
                )));
            }
        };
        let mut words: Vec<OsString> = vec!["apollo-bench".into()];
        words.extend(command.iter().map(OsString::from));
        words.push("--scenario".into());
        words.push(self.scenario.into());
        words.extend(flags);
        Ok(words)
    }
}
