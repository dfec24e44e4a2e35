//! Signals that ask a program to end. Only this module listens for them.

use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    sync::LazyLock,
};

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signal that asked a program to end.
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
    /// Reason of a run that ended in this way.
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

/// SIGINT, SIGTERM and SIGHUP, from the creation of this value on.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// None for a program that was started with SIGHUP ignored, as `nohup` does: it stays ignored.
    hang_up: Option<Signal>,
    /// A file that has reached its maximum size (`ulimit -f`) then causes a failed write, and does not end the process.
    _file_size: Signal,
}

impl Interrupts {
    /// Begins to listen; must be called inside of a runtime.
    ///
    /// # Errors
    /// Fails if the system refuses.
    pub fn new() -> io::Result<Self> {
        // Read before the first handler replaces the inherited state.
        static HANG_UP_IGNORED: LazyLock<bool> = LazyLock::new(hang_up_is_ignored);
        let hang_up = (!*HANG_UP_IGNORED).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up,
            _file_size: signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?,
        })
    }

    /// Waits for a signal, unless one has arrived already.
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

    /// The signal that has arrived, if any.
    pub fn come(&mut self) -> Option<Cause> {
        self.next().now_or_never()
    }
}

/// True if this process was started with SIGHUP ignored; false if the kernel does not report it.
fn hang_up_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
