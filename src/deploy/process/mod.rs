//! Nodes as child processes: on this host's loopback, or each in a network namespace of its own.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt, FdMapping};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getppid},
};
use tokio::process::{Child, Command};

use super::{
    backend::{Backend, StartError},
    netns::{INTERFACE, Namespace, Network},
    plan::Plan,
    program::Program,
    runner::mark,
};
use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    clock,
    node::NodeArgs,
    shaping::{Interface, InterfacePlan, QdiscCounters},
};

/// Time for a node to end cleanly after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest wait for a node to stop or go on after its signal, and the pace at which the kernel is asked.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);
const SIGNAL_POLL: Duration = Duration::from_millis(5);

/// Last lines of a node's log that are shown when it fails, and the most bytes that are read for them.
const LOG_LINES: usize = 10;
const LOG_TAIL: u64 = 16 << 10;

struct NodeProcess {
    args: NodeArgs,
    child: Child,
    log: PathBuf,
    /// The socket of its endpoint, on the host, if it lives in a namespace of its own.
    endpoint: Option<TcpListener>,
    ended: Option<ExitStatus>,
    /// It was killed on purpose.
    killed: bool,
}

impl NodeProcess {
    /// Its name, how it ended, and its last log lines.
    fn obituary(&self) -> String {
        let end = self.ended.map_or_else(|| "an unknown status".into(), describe);
        format!("node {} ended with {end}{}", self.args.id, log_tail(&self.log))
    }

    /// Waits until the kernel shows it in the wanted state: stopped or not.
    async fn wait_until_stopped(&self, wanted: bool) -> Result<(), String> {
        let id = self.args.id;
        let pid = self.child.id().ok_or_else(|| format!("node {id} is not running"))?;
        let since = Instant::now();
        loop {
            let stat =
                fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| format!("node {id}: {error}"))?;
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            if (state == Some('T')) == wanted {
                return Ok(());
            }
            if since.elapsed() > SIGNAL_TIMEOUT {
                return Err(format!("node {id} is still in state {}", state.unwrap_or('?')));
            }
            tokio::time::sleep(SIGNAL_POLL).await;
        }
    }
}

/// How a node is started.
struct Launcher {
    token: Option<RunToken>,
    program: Program,
    subcommand: Option<&'static str>,
    network: Option<Network>,
}

impl Launcher {
    fn start(&self, node: &NodeArgs, log: &Path, endpoint: Option<&TcpListener>) -> Result<Child, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("node {} does not start ({}): {error}", node.id, self.program.path().display())
        };
        let executable = self.program.executable().map_err(|error| failed(&error))?;
        let mut command = command(&executable, self.subcommand, node, log, endpoint).map_err(|error| failed(&error))?;
        // What lists of processes show.
        command.arg0(self.program.path());
        if let Some(token) = &self.token {
            command.env(TOKEN_VARIABLE, token.reveal());
        }
        let namespace = self.network.as_ref().and_then(|network| network.node(node.id));
        match namespace {
            None => command.spawn().map_err(|error| failed(&error)),
            Some(namespace) => {
                let runtime = tokio::runtime::Handle::current();
                let spawn = move || {
                    let _entered = runtime.enter();
                    command.spawn()
                };
                namespace.run(spawn)?.map_err(|error| failed(&error))
            }
        }
    }

    fn namespace(&self, id: u64) -> Result<&Namespace, String> {
        let namespace = self.network.as_ref().and_then(|network| network.node(id));
        namespace.ok_or_else(|| format!("node {id} has no namespace"))
    }
}

/// The running nodes. Dropping it kills them all.
pub(super) struct Processes {
    // Before the launcher, whose namespaces' threads the nodes depend on.
    nodes: Vec<NodeProcess>,
    launcher: Launcher,
}

impl Processes {
    /// Starts every node of the plan, in namespaces if the plan says so.
    pub(super) fn start(plan: &Plan) -> Result<Self, StartError> {
        let path = plan.args.node_binary.as_deref();
        let program = Program::open(path).map_err(|error| match path {
            Some(path) => StartError::Usage(format!("--node-binary {}: {error}", path.display())),
            None => StartError::Failed(format!("own program: {error}")),
        })?;
        let subcommand = path.is_none().then_some("node");
        let namespaces = plan.args.backend == Backend::Netns;
        let network = namespaces.then(|| Network::new(&plan.interfaces())).transpose().map_err(StartError::Usage)?;
        let mut processes =
            Self { nodes: vec![], launcher: Launcher { token: plan.token.clone(), program, subcommand, network } };
        for node in &plan.nodes {
            let log = plan.folder.node_log(node.id);
            let listen = || TcpListener::bind(SocketAddr::new(node.control.metric_address, node.metric_port));
            let endpoint = namespaces.then(listen).transpose().map_err(|error| {
                StartError::Usage(format!("port {} of node {} can't be used: {error}", node.metric_port, node.id))
            })?;
            let child = processes.launcher.start(node, &log, endpoint.as_ref()).map_err(StartError::Failed)?;
            processes.nodes.push(NodeProcess { args: node.clone(), child, log, endpoint, ended: None, killed: false });
        }
        Ok(processes)
    }

    fn node(&mut self, id: u64) -> Result<&mut NodeProcess, String> {
        self.nodes.iter_mut().find(|node| node.args.id == id).ok_or_else(|| format!("there is no node {id}"))
    }

    /// The first node that has ended although it should run: its name, exit status and last log lines.
    pub(super) fn died(&mut self) -> Option<String> {
        for node in &mut self.nodes {
            if node.ended.is_none() {
                node.ended = node.child.try_wait().ok().flatten();
            }
        }
        self.nodes.iter().find(|node| node.ended.is_some() && !node.killed).map(NodeProcess::obituary)
    }

    /// The process id of a node that runs.
    pub(super) fn process(&self, id: u64) -> Option<u32> {
        self.nodes.iter().find(|node| node.args.id == id)?.child.id()
    }

    /// The last lines of a node's log.
    pub(super) fn log_tail(&self, id: u64) -> String {
        self.nodes.iter().find(|node| node.args.id == id).map_or_else(String::new, |node| log_tail(&node.log))
    }

    /// Kills a node; it is gone when this returns.
    pub(super) async fn kill(&mut self, id: u64) -> Result<(), String> {
        let node = self.node(id)?;
        if node.ended.is_some() {
            return Err(format!("node {id} is not running"));
        }
        node.killed = true;
        kill_group(&node.child, Signal::SIGKILL);
        let status = node.child.wait().await.map_err(|error| format!("node {id}: {error}"))?;
        node.ended = Some(status);
        match status.signal() {
            Some(number) if number == Signal::SIGKILL as i32 => Ok(()),
            _ => Err(format!("node {id} had ended before, with {}", describe(status))),
        }
    }

    /// Starts a node that was killed again, with the same arguments in the same place.
    pub(super) fn restart(&mut self, id: u64) -> Result<(), String> {
        let at = self.nodes.iter().position(|node| node.args.id == id && node.ended.is_some());
        let Some(node) = at.and_then(|at| self.nodes.get_mut(at)) else {
            return Err(format!("node {id} is running already"));
        };
        node.child = self.launcher.start(&node.args, &node.log, node.endpoint.as_ref())?;
        node.ended = None;
        node.killed = false;
        Ok(())
    }

    /// Stops all threads of a node.
    pub(super) async fn pause(&mut self, id: u64) -> Result<(), String> {
        let node = self.node(id)?;
        kill_group(&node.child, Signal::SIGSTOP);
        node.wait_until_stopped(true).await
    }

    /// Lets a paused node go on.
    pub(super) async fn resume(&mut self, id: u64) -> Result<(), String> {
        let node = self.node(id)?;
        kill_group(&node.child, Signal::SIGCONT);
        node.wait_until_stopped(false).await
    }

    /// Counters of the qdiscs at a node's interface.
    pub(super) fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        let counters = || Interface::named(INTERFACE)?.counters();
        self.launcher.namespace(id)?.run(counters)?.map_err(|error| format!("node {id}: {error}"))
    }

    /// Changes what is done at a node's interface.
    pub(super) fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        let (before, after) = (before.clone(), after.clone());
        let change = move || Interface::named(INTERFACE)?.change(&before, &after);
        self.launcher.namespace(id)?.run(change)?.map_err(|error| format!("node {id}: {error}"))
    }

    /// Ends all nodes: SIGTERM, and SIGKILL for those that do not end in time. Says of each that did not end in order how
    /// it ended.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        for node in self.nodes.iter().filter(|node| node.ended.is_none()) {
            kill_group(&node.child, Signal::SIGTERM);
            // A stopped process takes no SIGTERM before it goes on.
            kill_group(&node.child, Signal::SIGCONT);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for node in self.nodes.iter_mut().filter(|node| node.ended.is_none()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, node.child.wait()).await {
                Ok(status) => node.ended = status.ok(),
                Err(_) => {
                    kill_group(&node.child, Signal::SIGKILL);
                    node.ended = node.child.wait().await.ok();
                }
            }
        }
        let bad = |node: &&NodeProcess| !node.killed && !node.ended.is_some_and(|status| status.success());
        self.nodes.iter().filter(bad).map(NodeProcess::obituary).collect()
    }
}

/// Sends a signal to a child and whatever it has started.
pub(super) fn kill_group(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // To its whole group, should the program be a wrapper that starts the node. It may have ended meanwhile; as its
        // parent has not waited for it, the id is still its own.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

fn command(
    program: &Path,
    subcommand: Option<&str>,
    node: &NodeArgs,
    log: &Path,
    endpoint: Option<&TcpListener>,
) -> io::Result<Command> {
    // A node that is started again goes on in its log.
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command.args(subcommand).args(node.to_command_line()).stdin(std::process::Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    // The runner's own variables are meant for it; the nodes are told everything by arguments.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("APOLLO_") || name.to_string_lossy().starts_with("LISTEN_") {
            command.env_remove(name);
        }
    }
    if let Some(base) = clock::base_for_others() {
        command.env(clock::BASE_VARIABLE, base.to_string());
    }
    if let Some(endpoint) = endpoint {
        // As systemd hands sockets down: from descriptor 3 on.
        command.env("LISTEN_FDS", "1");
        let mapping = FdMapping { parent_fd: endpoint.try_clone()?.into(), child_fd: 3 };
        command.fd_mappings(vec![mapping]).map_err(|error| io::Error::other(error.to_string()))?;
    }
    tether(&mut command);
    Ok(command)
}

/// Makes a program end with this process, however that ends; Ctrl-C at the terminal goes to the runner alone, which ends
/// the others in order.
pub(super) fn tether(command: &mut Command) {
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

/// The last lines of a log, in the words in which a failure tells them.
pub(super) fn log_tail(path: &Path) -> String {
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
