//! Standard output and standard error. Nothing else in this project writes to them.
//!
//! Standard error has lines for whoever watches. A closed pipe, a terminal that is gone, a full disk and a reader that
//! no longer reads never end, abort or delay the work: the line is lost. Standard output has what somebody asked for:
//! where it cannot be written whole, [`exit_code`] says so. Only a reader that has gone away (`| head`) is no failure.
//!
//! Much of the text comes from other programs and hosts. Here, and nowhere else, it loses what would steer a terminal.

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

/// Most bytes that are written at once: a pipe that is ready takes so many without a wait (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// Longest wait for a reader of standard error, in milliseconds: a slow one catches up, a stopped one does not.
const PATIENCE: u16 = 100;

/// The last line for standard error found no reader in time: the next one does not wait.
static STUCK: AtomicBool = AtomicBool::new(false);

/// State of standard output.
static PRINTED: AtomicU8 = AtomicU8::new(WHOLE);
const WHOLE: u8 = 0;
const CLOSED: u8 = 1;
const FAILED: u8 = 2;

/// Whether a character steers a terminal or the order of the text on it, and shows nothing of itself.
fn steers(character: char) -> bool {
    let order = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    order || character.is_control()
}

/// Text with each character that steers a terminal in its escaped form, as in `\u001b`; in JSON, where such characters are
/// in strings alone, that is the same text. Line ends and tabs stay.
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
            // A return before the line's end is a part of it.
            cleaned.push_str(&format!("\\u{:04x}", u32::from(character)));
        }
    }
    Cow::Owned(cleaned)
}

/// The same in one line, for words of another program inside of a line.
pub fn one_line(text: &str) -> String {
    clean(text).split(['\n', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Writes a line to standard error, if that is possible at once.
pub fn tell(line: &str) {
    log(format!("{line}\n").as_bytes());
}

/// Writes bytes to standard error, if that is possible at once; else they are lost.
pub fn log(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for chunk in clean(&text).as_bytes().chunks(CHUNK) {
        if !accepts_lines() || write_whole(stderr(), chunk).is_err() {
            return;
        }
    }
}

/// Whether standard error takes a line without a longer wait.
pub fn accepts_lines() -> bool {
    let patience = if STUCK.load(Ordering::Relaxed) { 0 } else { PATIENCE };
    let ready = is_ready(stderr(), patience.into());
    STUCK.store(!ready, Ordering::Relaxed);
    ready
}

/// Whether a descriptor can be written. A broken one can: the write says what is wrong.
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

/// Writes all of it, also where the descriptor was made non-blocking by another program that shares it.
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

/// Prints what was asked for, whole or not any further: after a failure nothing more is printed.
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
            tell(&format!("error: standard output is not whole: {error}"));
        }
    }
}

/// Whether what is printed still reaches somebody.
pub fn has_reader() -> bool {
    PRINTED.load(Ordering::Relaxed) == WHOLE
}

/// The exit code of a program that would end with `code`: success only if all that it printed was written.
pub fn exit_code(code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS && PRINTED.load(Ordering::Relaxed) == FAILED { ExitCode::FAILURE } else { code }
}

/// Prints what clap has formatted, with its styles where a terminal shows them.
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
