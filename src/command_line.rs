//! Command lines read the same way by both programs.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind};

/// Exit code for arguments that can't work.
pub const BAD_USAGE: u8 = 2;

/// Prints a result. A reader that has gone away (`| head`) is no reason to fail.
pub fn say(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Reads the command line. What is wrong with it is said in one line, and asked-for help is printed.
///
/// # Errors
/// The exit code: 0 after help or version, 2 for bad usage.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed standard output is no reason to fail.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { BAD_USAGE } else { 0 })
        }
        _ => {
            eprintln!("{}", one_line(&error.to_string()));
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
