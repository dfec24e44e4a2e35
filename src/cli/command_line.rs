//! Command lines read the same way by both programs.

use std::{ffi::OsString, fs::create_dir_all, path::Path};

use clap::{Command, Parser, error::ErrorKind};

use super::error::CliError;
use crate::terminal::{say_styled, tell};

/// Version, revision and date of the sources, if the build knew them.
pub(super) const VERSION: &str = env!("APOLLO_BENCH_VERSION");

/// Writes a man page for each command and subcommand.
///
/// # Errors
/// Fails if a file can't be written.
pub(super) fn write_man_pages(folder: &Path, commands: impl IntoIterator<Item = Command>) -> Result<(), CliError> {
    let write = || {
        create_dir_all(folder)?;
        commands.into_iter().try_for_each(|command| clap_mangen::generate_to(command, folder))
    };
    write().map_err(|error: std::io::Error| CliError::Usage(format!("{}: {error}", folder.display())))
}

/// Reads the command line; `changed` can change the command before. Prints a requested help or version, after which
/// nothing more has to be done.
///
/// # Errors
/// One line that names the invalid argument.
pub(super) fn parse<C: Parser>(changed: impl FnOnce(Command) -> Command) -> Result<Option<C>, CliError> {
    parse_words(std::env::args_os(), changed)
}

/// Reads these words as a command line.
///
/// # Errors
/// The same as [`parse`].
pub(super) fn parse_words<C: Parser>(
    words: impl IntoIterator<Item = OsString>,
    changed: impl FnOnce(Command) -> Command,
) -> Result<Option<C>, CliError> {
    let matches = changed(C::command()).try_get_matches_from(words);
    let error = match matches.and_then(|matches| C::from_arg_matches(&matches)) {
        Ok(command) => return Ok(Some(command)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            if error.use_stderr() {
                tell(error.render().to_string().trim_end());
                return Err(CliError::NoCommand);
            }
            say_styled(&error.render());
            Ok(None)
        }
        _ => Err(CliError::Usage(one_line(&error.to_string()))),
    }
}

/// Message of clap in one line, up to its usage.
fn one_line(text: &str) -> String {
    let error =
        text.split("\n\nUsage:").next().unwrap_or(text).split("\n\nFor more information").next().unwrap_or(text);
    let words: Vec<&str> = error.trim_start_matches("error:").split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_left_out() {
        let text = "error: the following required arguments were not provided:\n  --id <ID>\n\nUsage: x --id <ID>\n";
        assert_eq!(one_line(text), "the following required arguments were not provided: --id <ID> (see --help)");
    }
}
