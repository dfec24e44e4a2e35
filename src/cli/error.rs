//! Errors of commands, and their exit codes.

use std::process::ExitCode;

use crate::{
    deploy::StartError,
    image::ImageError,
    kubernetes::KubernetesError,
    node::{self, UsageError},
    report::FolderError,
    terminal::{self, tell},
};

/// Exit code of invalid arguments, and of a command that can't be carried out here.
const BAD_USAGE: u8 = 2;

/// Exit code of a failure, and of an invalid run.
const FAILED: u8 = 1;

/// Exit code of a valid run that missed an objective.
const MISSED_OBJECTIVE: u8 = 3;

/// Reason why a command ends with another exit code than 0.
#[derive(Debug)]
pub(super) enum CliError {
    /// The arguments are invalid, or something is missing that the user can fix.
    Usage(String),
    /// An operation failed that should work.
    Failed(String),
    /// The run is invalid; its result is printed, with the reasons.
    Invalid,
    /// The run is valid, and missed an objective; its result is printed.
    MissedObjective,
    /// No command was given; the help is printed.
    NoCommand,
}

impl CliError {
    /// Exit code of a command, whose error is printed.
    pub(super) fn exit(result: Result<(), Self>) -> ExitCode {
        let Err(error) = result else { return terminal::exit_code(ExitCode::SUCCESS) };
        if let Self::Usage(line) | Self::Failed(line) = &error {
            tell(&format!("error: {line}"));
        }
        ExitCode::from(match error {
            Self::Usage(_) | Self::NoCommand => BAD_USAGE,
            Self::Failed(_) | Self::Invalid => FAILED,
            Self::MissedObjective => MISSED_OBJECTIVE,
        })
    }
}

impl From<UsageError> for CliError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Usage(line) => Self::Usage(line),
            StartError::Failed(line) => Self::Failed(line),
        }
    }
}

impl From<node::Failure> for CliError {
    fn from(error: node::Failure) -> Self {
        match error {
            node::Failure::Usage(line) => Self::Usage(line),
            node::Failure::Other(line) => Self::Failed(line),
        }
    }
}

impl From<ImageError> for CliError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Usage(line) => Self::Usage(line),
            ImageError::Failed(line) => Self::Failed(line),
        }
    }
}

impl From<KubernetesError> for CliError {
    fn from(error: KubernetesError) -> Self {
        match error {
            KubernetesError::Usage(line) => Self::Usage(line),
            KubernetesError::Refused { line, .. } | KubernetesError::Failed(line) => Self::Failed(line),
        }
    }
}

/// Error of a file that can't be written. A folder that can't be used is bad usage, which the caller decides.
impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        Self::Failed(error.to_string())
    }
}
