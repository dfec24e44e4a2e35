//! The plainest backend: every node is a child process on this host's loopback.

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getppid},
};
use tokio::process::{Child, Command};

use super::plan::Plan;
use crate::node::NodeArgs;

/// Time for a node to end cleanly after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Last lines of a node's log that are shown when it fails, and the most bytes that are read for them.
const LOG_LINES: usize = 10;
const LOG_TAIL: u64 = 16 << 10;

struct NodeProcess {
    id: u64,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl NodeProcess {
    /// Its name, how it ended, and its last log lines.
    fn obituary(&self) -> String {
        let end = self.ended.map_or_else(|| "an unknown status".into(), describe);
        format!("node {} ended with {end}{}", self.id, log_tail(&self.log))
    }
}

/// The running nodes. Dropping it kills them all.
pub(super) struct Processes {
    nodes: Vec<NodeProcess>,
}

impl Processes {
    /// Starts every node of the plan.
    pub(super) fn start(plan: &Plan) -> Result<Self, String> {
        let (program, subcommand) = match &plan.args.node_binary {
            Some(path) => (path.clone(), None),
            None => (std::env::current_exe().map_err(|error| format!("own program: {error}"))?, Some("node")),
        };
        let mut processes = Self { nodes: vec![] };
        for node in &plan.nodes {
            let log = plan.folder.node_log(node.id);
            let child = spawn(&program, subcommand, node, &log)
                .map_err(|error| format!("node {} does not start ({}): {error}", node.id, program.display()))?;
            processes.nodes.push(NodeProcess { id: node.id, child, log, ended: None });
        }
        Ok(processes)
    }

    /// The first node that has ended although it should run: its name, exit status and last log lines.
    pub(super) fn died(&mut self) -> Option<String> {
        for node in &mut self.nodes {
            if node.ended.is_none() {
                node.ended = node.child.try_wait().ok().flatten();
            }
        }
        self.nodes.iter().find(|node| node.ended.is_some()).map(NodeProcess::obituary)
    }

    /// Whether a node has ended in order, with exit code 0.
    pub(super) fn ended_well(&self, id: u64) -> bool {
        self.nodes.iter().any(|node| node.id == id && node.ended.is_some_and(|status| status.success()))
    }

    /// The last lines of a node's log.
    pub(super) fn log_tail(&self, id: u64) -> String {
        self.nodes.iter().find(|node| node.id == id).map_or_else(String::new, |node| log_tail(&node.log))
    }

    /// Ends all nodes: SIGTERM, and SIGKILL for those that do not end in time. Says of each that did not end in order how
    /// it ended.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        for node in self.nodes.iter().filter(|node| node.ended.is_none()) {
            signal(&node.child, Signal::SIGTERM);
            // A stopped process takes no SIGTERM before it goes on.
            signal(&node.child, Signal::SIGCONT);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for node in self.nodes.iter_mut().filter(|node| node.ended.is_none()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, node.child.wait()).await {
                Ok(status) => node.ended = status.ok(),
                Err(_) => {
                    signal(&node.child, Signal::SIGKILL);
                    node.ended = node.child.wait().await.ok();
                }
            }
        }
        let bad = self.nodes.iter().filter(|node| !node.ended.is_some_and(|status| status.success()));
        bad.map(NodeProcess::obituary).collect()
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // To its whole group, should the program be a wrapper that starts the node. It may have ended meanwhile; as its
        // parent has not waited for it, the id is still its own.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

fn spawn(program: &Path, subcommand: Option<&str>, node: &NodeArgs, log: &Path) -> io::Result<Child> {
    let log = File::create(log)?;
    let mut command = Command::new(program);
    command.args(subcommand).args(node.to_command_line()).stdin(std::process::Stdio::null());
    command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    // The runner's own variables are meant for it; the nodes are told everything by arguments.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("APOLLO_") {
            command.env_remove(name);
        }
    }
    // Ctrl-C at the terminal goes to the runner alone, which ends the nodes in order.
    command.process_group(0);
    die_with_parent(&mut command);
    command.spawn()
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

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or_else(|_| "unknown".into(), |signal| signal.to_string());
            format!("signal {number} ({name})")
        }
        (None, None) => status.to_string(),
    }
}

fn log_tail(path: &Path) -> String {
    use io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let size = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LOG_TAIL)))?;
        let mut bytes = vec![];
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if last.is_empty() {
        format!("; its log {} is empty", path.display())
    } else {
        format!("; its log ends:\n  {}", last.join("\n  "))
    }
}
