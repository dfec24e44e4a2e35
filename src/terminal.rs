//! Standard output and standard error. Nothing else in this project writes to them.
//!
//! Standard error has lines for whoever watches. A closed pipe, a terminal that is gone, a full disk and a reader that
//! no longer reads never end, abort or delay the work: the line is lost. Standard output has what somebody asked for:
//! where it cannot be written whole, [`exit_code`] says so. Only a reader that has gone away (`| head`) is no failure.

use std::{
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

/// Writes a line to standard error, if that is possible at once.
pub fn tell(line: &str) {
    log(format!("{line}\n").as_bytes());
}

/// Writes bytes to standard error, if that is possible at once; else they are lost.
pub fn log(bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK) {
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
    if stdout().is_terminal() && !plain { say(&text.ansi().to_string()) } else { say(&text.to_string()) }
}
