//! The signals that ask a program to end: the only place that listens for them.

use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    sync::LazyLock,
};

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why a program was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a service manager, or `kill`.
    Terminate,
    /// SIGHUP: the terminal is closed, or the connection to it is lost.
    HangUp,
}

impl Cause {
    /// The reason of a run that ended so.
    pub fn reason(self) -> String {
        format!("interrupted ({self})")
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
        })
    }
}

/// SIGINT, SIGTERM and SIGHUP, from the moment on at which this is made.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// None for a program that was started with SIGHUP ignored, as `nohup` does: it stays ignored.
    hang_up: Option<Signal>,
    /// A file that has reached its largest size (`ulimit -f`) is a failed write then, and no death.
    _file_size: Signal,
}

impl Interrupts {
    /// Begins to listen; inside of a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        // Looked at before the first handler replaces what was inherited.
        static HANG_UP_IGNORED: LazyLock<bool> = LazyLock::new(hang_up_is_ignored);
        let hang_up = (!*HANG_UP_IGNORED).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up,
            _file_size: signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?,
        })
    }

    /// Waits for one, if there was none yet.
    pub async fn next(&mut self) -> Cause {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => drop(hang_up.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Cause::Interrupt,
            _ = self.terminate.recv() => Cause::Terminate,
            () = hang_up => Cause::HangUp,
        }
    }

    /// The one that has come, if one has.
    pub fn come(&mut self) -> Option<Cause> {
        self.next().now_or_never()
    }
}

/// Whether this process was started with SIGHUP ignored. Where the kernel does not say, it was not.
fn hang_up_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
