//! Standard output and standard error. Only this module writes to them.
//!
//! Standard error has lines for a person who watches. A closed pipe, a terminal that is gone, a full disk and a stopped
//! reader never end, abort or delay the work: the line is lost. Standard output has the requested results: if it can't
//! be written completely, [`exit_code`] is a failure. A reader that has ended (`| head`) is no failure.
//!
//! Much of the text comes from other programs and hosts. Only this module removes characters from it that would control
//! a terminal.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, stderr, stdout},
    os::fd::AsFd,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};

/// Maximum number of bytes that are written at once: a pipe that is ready takes this number without a wait
/// (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// Maximum time to wait for a reader of standard error, in milliseconds: a slow one catches up, a stopped one does not.
const PATIENCE: u16 = 100;

/// True if the last line for standard error found no reader in time: the next one does not wait.
static STUCK: AtomicBool = AtomicBool::new(false);

/// State of standard output.
static PRINTED: AtomicU8 = AtomicU8::new(WHOLE);
const WHOLE: u8 = 0;
const CLOSED: u8 = 1;
const FAILED: u8 = 2;

/// True if a character controls a terminal or the order of the text on it, and is invisible itself.
fn steers(character: char) -> bool {
    let order = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    order || character.is_control()
}

/// Text in which each character that controls a terminal is escaped, as in `\u001b`; in JSON, which has such characters
/// in strings only, the text keeps its meaning. Line ends and tabs stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    let stays = |character: char| matches!(character, '\n' | '\t') || !steers(character);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if stays(character) {
            cleaned.push(character);
        } else if character != '\r' || characters.peek().is_some_and(|next| *next != '\n') {
            // A carriage return before the line end is a part of it.
            cleaned.push_str(&format!("\\u{:04x}", u32::from(character)));
        }
    }
    Cow::Owned(cleaned)
}

/// The same in one line, for messages of another program inside of a line.
pub fn one_line(text: &str) -> String {
    clean(text).split(['\n', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Writes a line to standard error, if that is possible at once.
pub fn tell(line: &str) {
    log(format!("{line}\n").as_bytes());
}

/// Writes bytes to standard error if that is possible at once; otherwise they are lost.
pub fn log(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for chunk in clean(&text).as_bytes().chunks(CHUNK) {
        if !accepts_lines() || write_whole(stderr(), chunk).is_err() {
            return;
        }
    }
}

/// True if standard error takes a line without a longer wait.
pub fn accepts_lines() -> bool {
    let patience = if STUCK.load(Ordering::Relaxed) { 0 } else { PATIENCE };
    let ready = is_ready(stderr(), patience.into());
    STUCK.store(!ready, Ordering::Relaxed);
    ready
}

/// True if a descriptor can be written. A broken descriptor can be written too, and the write reports the error.
fn is_ready(descriptor: impl AsFd, patience: PollTimeout) -> bool {
    let mut wanted = [PollFd::new(descriptor.as_fd(), PollFlags::POLLOUT)];
    loop {
        match poll(&mut wanted, patience) {
            Err(Errno::EINTR) => {}
            Ok(0) => return false,
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Writes all bytes, even if another program that shares the descriptor has made it non-blocking.
fn write_whole(descriptor: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(descriptor.as_fd(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => drop(is_ready(descriptor.as_fd(), PollTimeout::NONE)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints a result; after a failure nothing more is printed.
pub fn say(text: &str) {
    print(&clean(text));
}

fn print(text: &str) {
    if PRINTED.load(Ordering::Relaxed) != WHOLE {
        return;
    }
    match write_whole(stdout(), text.as_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => PRINTED.store(CLOSED, Ordering::Relaxed),
        Err(error) => {
            PRINTED.store(FAILED, Ordering::Relaxed);
            tell(&format!("error: standard output is incomplete: {error}"));
        }
    }
}

/// True if printed text still reaches a reader.
pub fn has_reader() -> bool {
    PRINTED.load(Ordering::Relaxed) == WHOLE
}

/// Exit code of a program that would end with `code`: success only if everything that it printed was written.
pub fn exit_code(code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS && PRINTED.load(Ordering::Relaxed) == FAILED { ExitCode::FAILURE } else { code }
}

/// Prints text that clap has formatted, with its styles if a terminal shows them.
pub fn say_styled(text: &clap::builder::StyledStr) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    if stdout().is_terminal() && !plain { print(&text.ansi().to_string()) } else { say(&text.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_can_not_steer_the_terminal() {
        assert_eq!(clean("a\tplain line: äöü, 100 % \u{2192}\n"), "a\tplain line: äöü, 100 % \u{2192}\n");
        assert_eq!(clean("\u{1b}[2J\u{1b}]0;title\u{7}"), "\\u001b[2J\\u001b]0;title\\u0007");
        assert_eq!(clean("\u{9b}31m red \u{7f}\u{8}"), "\\u009b31m red \\u007f\\u0008");
        assert_eq!(clean("all is\u{202e}dab"), "all is\\u202edab");
        assert_eq!(clean("one\r\ntwo\r"), "one\ntwo");
        assert_eq!(clean("valid: no\rvalid: yes"), "valid: no\\u000dvalid: yes");
    }

    #[test]
    fn cleaned_json_is_the_same_value() {
        let value = serde_json::json!({"\u{9b}key": "\u{0}\u{1b}[31m\r\n\u{7f}\u{85}\u{202e}\u{2028}"});
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let cleaned = clean(&text);
            assert!(!cleaned.chars().any(|character| character != '\n' && steers(character)), "{cleaned:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&cleaned).unwrap(), value);
        }
    }

    #[test]
    fn words_of_others_stay_in_their_line() {
        assert_eq!(one_line(" first\r\n\n  second\tthird\u{1b} \n"), "first second third\\u001b");
    }
}
