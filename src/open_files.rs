//! The limit on open files of this process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit, for this process and its children, and returns the limit in
/// effect: every pair of nodes is a connection, and each link is measured over another one.
pub fn raise_fd_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    // A process without the right to raise it still runs a smaller network, and reports a limit that it reaches.
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}
