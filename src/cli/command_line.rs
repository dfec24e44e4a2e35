//! Command lines read the same way by both programs.

use std::{
    fs::{create_dir_all, metadata, read_to_string},
    path::Path,
    process::ExitCode,
};

use clap::{Command, Parser, error::ErrorKind};

use crate::terminal::{exit_code, say_styled, tell};

/// Version, revision and date of the sources, as far as the build knew them.
pub const VERSION: &str = env!("APOLLO_BENCH_VERSION");

/// Exit code for arguments that can't work.
pub const BAD_USAGE: u8 = 2;

/// Reads a file that an argument names, of at most `limit` bytes; without the mark (BOM) that some editors begin it with.
///
/// # Errors
/// What is wrong with it, in one line without its name.
pub fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    let size = metadata(path).map_err(|error| error.to_string())?.len();
    if size > limit {
        return Err(format!("{size} bytes are more than {limit}"));
    }
    let text = read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
        _ => error.to_string(),
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Writes a man page for each command and subcommand: 0, or 2 with the reason.
pub fn write_man_pages(folder: &Path, commands: impl IntoIterator<Item = Command>) -> ExitCode {
    let write = || {
        create_dir_all(folder)?;
        commands.into_iter().try_for_each(|command| clap_mangen::generate_to(command, folder))
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {}: {error}", folder.display()));
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// Reads the command line; `changed` gets the command before. What is wrong with it is said in one line, and asked-for help is printed.
///
/// # Errors
/// The exit code: 0 after help or version, 2 for bad usage.
pub fn parse<C: Parser>(changed: impl FnOnce(Command) -> Command) -> Result<C, ExitCode> {
    let matches = changed(C::command()).try_get_matches();
    matches.and_then(|matches| C::from_arg_matches(&matches)).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            if error.use_stderr() {
                tell(error.render().to_string().trim_end());
                return ExitCode::from(BAD_USAGE);
            }
            say_styled(&error.render());
            exit_code(ExitCode::SUCCESS)
        }
        _ => {
            tell(&one_line(&error.to_string()));
            ExitCode::from(BAD_USAGE)
        }
    })
}

/// What clap says over several lines, up to its usage, in one.
fn one_line(text: &str) -> String {
    let said = text.split("\n\nUsage:").next().unwrap_or(text).split("\n\nFor more information").next().unwrap_or(text);
    let words: Vec<&str> = said.split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_left_out() {
        let text = "error: the following required arguments were not provided:\n  --id <ID>\n\nUsage: x --id <ID>\n";
        assert_eq!(one_line(text), "error: the following required arguments were not provided: --id <ID> (see --help)");
    }
}
