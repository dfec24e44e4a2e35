//! A child that ends with its parent.

use std::io;

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getppid},
};
use tokio::process::{Child, Command};

use super::runner::mark;

/// Makes a program end with this process, after any end of it; Ctrl-C at the terminal goes to the runner alone, which
/// ends the others in order.
pub(crate) fn tether(command: &mut Command) {
    command.kill_on_drop(true).process_group(0);
    mark(command);
    die_with_parent(command);
}

#[allow(unsafe_code, reason = "the only way to run code between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let parent = Pid::this();
    let setup = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(setup) };
}

/// Sends a signal to a child and everything that it has started.
pub(crate) fn kill_group(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // The signal goes to the whole group, because the program may be a wrapper that starts the node. The group may
        // have ended meanwhile; its parent has not waited for it, so the id is still its own.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}
