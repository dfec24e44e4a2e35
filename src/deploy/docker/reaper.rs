//! Removal of all objects of a run, after any end of the run.
//!
//! All objects of a run in Docker have labels. A separate process, the reaper, holds one end of a pipe whose other end
//! only the runner has: when the runner ends, the pipe closes, and the reaper removes the objects with the run's label.
//! If both the runner and its reaper were killed, the next run removes their objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime;

use super::client::ask;
use crate::{
    children::Runner,
    clock::{Instant, sleep},
    terminal::tell,
};

/// Labels of all objects in Docker.
pub(super) const RUN: &str = "org.apollo-network-benchmark.run";
pub(super) const RUNNER: &str = "org.apollo-network-benchmark.runner";
pub(super) const NODE: &str = "org.apollo-network-benchmark.node";

/// Maximum time of the removal, and the interval of its checks.
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(300);

/// Byte that the runner sends when nothing is under way any more.
const ORDERLY: u8 = b'.';

/// Waits for the end of the runner, at the other end of standard input, then removes everything that the run has made.
///
/// # Errors
/// Fails if not everything is gone, in one line.
pub(crate) fn reap(run: &str) -> Result<(), String> {
    // A signal to a whole session or service ends the runner too, and afterwards this process has to remove things.
    let signals = [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM];
    // If they can't be blocked, the removal is still worth an attempt.
    let _ = SigSet::from_iter(signals).thread_block();
    let mut word = [0];
    let orderly = matches!(io::stdin().read(&mut word), Ok(1)) && word == [ORDERLY];
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime does not start: {error}"))?;
    runtime.block_on(remove(run, orderly)).map(drop)
}

/// Process that outlives the runner. Dropping this value removes everything of the run, and waits for it.
pub(super) struct Reaper {
    run: String,
    child: Mutex<Option<Child>>,
}

impl Reaper {
    /// Starts the process, before anything is made.
    pub(super) fn start(run: &str) -> Result<Self, String> {
        let start = || -> io::Result<Child> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["reap-docker", run]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            // A Ctrl-C at the terminal must not reach it.
            command.process_group(0).current_dir("/").spawn()
        };
        let child =
            start().map_err(|error| format!("the process that removes the run's objects does not start: {error}"))?;
        Ok(Self { run: run.to_owned(), child: Mutex::new(Some(child)) })
    }

    /// Removes everything of the run, and waits for the end of the removal. `orderly` means that nothing is being made
    /// any more.
    pub(super) fn finish(&self, orderly: bool) -> Result<(), String> {
        let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        if let (Some(mut pipe), true) = (child.stdin.take(), orderly) {
            let _ = pipe.write_all(&[ORDERLY]);
        }
        // The reaper limits its own time.
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!(
                "not everything of this run could be removed from Docker: look with docker ps -a --filter label={RUN}={0} \
                 and docker network ls --filter label={RUN}={0}; the next run tries again",
                self.run
            )),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Err(line) = self.finish(false) {
            tell(&format!("warning: {line}"));
        }
    }
}

/// Numbers of removed objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    containers: usize,
    networks: usize,
}

/// Removes everything of a run. Objects that Docker still makes after the end of its client appear later: unless the
/// end was `orderly`, nothing may exist at two checks in a row.
pub(super) async fn remove(run: &str, orderly: bool) -> Result<Removed, String> {
    let since = Instant::now();
    let filter = format!("label={RUN}={run}");
    let mut removed = Removed::default();
    let mut clean = 0;
    loop {
        let looked = look(&filter).await;
        let problem = match looked {
            Ok((containers, networks)) if containers.is_empty() && networks.is_empty() => {
                clean += 1;
                if orderly || clean == 2 {
                    return Ok(removed);
                }
                None
            }
            Ok((containers, networks)) => {
                clean = 0;
                removed.containers = removed.containers.max(containers.len());
                removed.networks = removed.networks.max(networks.len());
                // A network can be removed only after its containers.
                let first = each(&["rm", "--force", "--volumes"], &containers).await;
                first.and(each(&["network", "rm"], &networks).await).err()
            }
            Err(line) => Some(line),
        };
        if since.elapsed() > TIMEOUT {
            return Err(problem.unwrap_or_else(|| "new objects appear all the time".into()));
        }
        if !orderly || problem.is_some() {
            sleep(POLL).await;
        }
    }
}

async fn look(filter: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let containers = ["ps", "--all", "--quiet", "--no-trunc", "--filter", filter];
    let networks = ["network", "ls", "--quiet", "--no-trunc", "--filter", filter];
    let (containers, networks) = futures::join!(ask(&containers), ask(&networks));
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    Ok((lines(containers?), lines(networks?)))
}

async fn each(command: &[&str], ids: &[String]) -> Result<(), String> {
    if ids.is_empty() {
        return Ok(());
    }
    let args: Vec<&str> = command.iter().copied().chain(ids.iter().map(String::as_str)).collect();
    ask(&args).await.map(drop)
}

/// Removes the objects of runs whose runner has ended. Reports them in a line.
pub(crate) async fn sweep() -> Result<Option<String>, String> {
    let label = format!("label={RUN}");
    let format = format!("{{{{.Label \"{RUN}\"}}}} {{{{.Label \"{RUNNER}\"}}}}");
    let containers = ["ps", "--all", "--filter", &label, "--format", &format];
    let networks = ["network", "ls", "--filter", &label, "--format", &format];
    let (containers, networks) = futures::join!(ask(&containers), ask(&networks));
    let (containers, networks) = (containers?, networks?);
    let owners: BTreeMap<&str, &str> =
        containers.lines().chain(networks.lines()).filter_map(|line| line.split_once(' ')).collect();
    let dead: BTreeSet<&str> = owners
        .iter()
        .filter(|(_, runner)| Runner::parse(runner).is_some_and(|r| !r.may_live()))
        .map(|o| *o.0)
        .collect();
    let mut total = Removed::default();
    for run in dead {
        let removed = remove(run, true).await?;
        total.containers += removed.containers;
        total.networks += removed.networks;
    }
    let Removed { containers, networks } = total;
    Ok((total != Removed::default()).then(|| {
        format!("removed the remains of a killed run from Docker: {containers} containers, {networks} networks")
    }))
}
