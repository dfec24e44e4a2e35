//! Nodes as child processes: on this host's loopback, or each in a place of its own.

mod program;

use std::{
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use async_trait::async_trait;
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use self::program::Program;
use super::{
    capabilities::Capabilities,
    deployment::{Deployment, StartError},
    launch::Launch,
};
use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    children::{kill_group, log_tail, tether},
    clock::{self, Instant, sleep, timeout},
    node::{NodeConfig, value_name},
    shaping::{InterfacePlan, QdiscCounters},
};

/// Capabilities of processes on the loopback.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    delays: false,
    rates: false,
    link_faults: false,
    node_faults: true,
    process_ids: true,
    congestion_control: false,
    ipv6: false,
    profiles: true,
    host_program: true,
    images: false,
    visible_queues: true,
    distant: false,
    virtual_time: false,
};

/// Maximum time for a node to end cleanly after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Maximum time to wait for a node to stop or continue after its signal, and the interval of asking the kernel.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);
const SIGNAL_POLL: Duration = Duration::from_millis(5);

/// Place of processes, and its resources.
pub(crate) trait Place: Send + Sync {
    /// Capabilities of processes in this place.
    fn capabilities(&self) -> Capabilities;

    /// True if a node in this place can't open its endpoint on the host itself, and receives the socket instead.
    fn hands_endpoints(&self) -> bool;

    /// Starts the program of a node in the node's place.
    fn spawn(&self, id: u64, command: Command) -> Result<io::Result<Child>, String>;

    /// Counters of the qdiscs at a node's interface.
    fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String>;

    /// Changes the shaping of a node's interface.
    fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String>;
}

/// Network of this host, whose loopback all nodes share.
pub(crate) struct Host;

impl Host {
    fn no_interface(id: u64) -> String {
        format!("node {id} has no interface of its own")
    }
}

impl Place for Host {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn hands_endpoints(&self) -> bool {
        false
    }

    fn spawn(&self, _: u64, mut command: Command) -> Result<io::Result<Child>, String> {
        Ok(command.spawn())
    }

    fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        Err(Self::no_interface(id))
    }

    fn change(&self, id: u64, _: &InterfacePlan, _: &InterfacePlan) -> Result<(), String> {
        Err(Self::no_interface(id))
    }
}

struct NodeProcess {
    args: NodeConfig,
    child: Child,
    log: PathBuf,
    /// File with the node's configuration.
    config: PathBuf,
    /// Socket of its endpoint, on the host, if it lives in a namespace of its own.
    endpoint: Option<TcpListener>,
    ended: Option<ExitStatus>,
    /// True if it was killed on purpose.
    killed: bool,
}

impl NodeProcess {
    /// Name of the node, its end, and its last log lines.
    fn obituary(&self) -> String {
        let end = self.ended.map_or_else(|| "an unknown status".into(), describe);
        format!("node {} ended with {end}{}", self.args.id, log_tail(&self.log))
    }

    /// Waits until the kernel shows the process in the wanted state: stopped or not.
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
            sleep(SIGNAL_POLL).await;
        }
    }
}

/// Parameters for starting a node.
struct Launcher<P> {
    token: Option<RunToken>,
    program: Program,
    subcommand: Option<&'static str>,
    place: P,
}

impl<P: Place> Launcher<P> {
    fn start(
        &self,
        node: &NodeConfig,
        config: &Path,
        log: &Path,
        endpoint: Option<&TcpListener>,
    ) -> Result<Child, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("node {} does not start ({}): {error}", node.id, self.program.path().display())
        };
        let executable = self.program.executable().map_err(|error| failed(&error))?;
        let mut command =
            command(&executable, self.subcommand, config, log, endpoint).map_err(|error| failed(&error))?;
        // The id is in the file too: lists of processes and scripts around the program find it here.
        command.arg(format!("--id={}", node.id));
        if let Some(summary) = &node.summary {
            command.arg("--summary").arg(summary);
        }
        if let (Some(mode), Some(output)) = (&node.profile_mode, &node.profile_output) {
            command.arg("--profile-mode").arg(value_name(mode)).arg("--profile-output").arg(output);
        }
        // Name that lists of processes show.
        command.arg0(self.program.path());
        if let Some(token) = &self.token {
            command.env(TOKEN_VARIABLE, token.reveal());
        }
        self.place.spawn(node.id, command)?.map_err(|error| failed(&error))
    }
}

/// Running nodes. Dropping it kills them all.
pub(crate) struct Processes<P> {
    // Declared before the launcher, because the nodes depend on its place.
    nodes: Vec<NodeProcess>,
    launcher: Launcher<P>,
}

impl<P: Place> Processes<P> {
    /// Starts every node in its place: as `program`, or as this program's own.
    pub(crate) fn start(launch: Launch<'_>, program: Option<&Path>, place: P) -> Result<Self, StartError> {
        let opened = Program::open(program).map_err(|error| match program {
            Some(path) => StartError::Usage(format!("--node-binary {}: {error}", path.display())),
            None => StartError::Failed(format!("own program: {error}")),
        })?;
        let subcommand = program.is_none().then_some("node");
        let hands_endpoints = place.hands_endpoints();
        let launcher = Launcher { token: launch.token.cloned(), program: opened, subcommand, place };
        let mut processes = Self { nodes: vec![], launcher };
        for node in launch.nodes {
            let log = launch.folder.node_log(node.id);
            let listen = || TcpListener::bind(SocketAddr::new(node.metric_address, node.metric_port));
            let endpoint = hands_endpoints.then(listen).transpose().map_err(|error| {
                StartError::Usage(format!("port {} of node {} can't be used: {error}", node.metric_port, node.id))
            })?;
            let config = launch.folder.node_config(node.id);
            // Paths that are no text are given as flags.
            let plain = NodeConfig { summary: None, profile_mode: None, profile_output: None, ..node.clone() };
            let text = toml::to_string(&plain).map_err(|error| StartError::Failed(error.to_string()))?;
            fs::write(&config, text).map_err(|error| StartError::Failed(format!("{}: {error}", config.display())))?;
            let child = processes.launcher.start(node, &config, &log, endpoint.as_ref()).map_err(StartError::Failed)?;
            let args = node.clone();
            processes.nodes.push(NodeProcess { args, child, log, config, endpoint, ended: None, killed: false });
        }
        Ok(processes)
    }

    fn node(&mut self, id: u64) -> Result<&mut NodeProcess, String> {
        self.nodes.iter_mut().find(|node| node.args.id == id).ok_or_else(|| format!("there is no node {id}"))
    }
}

#[async_trait(?Send)]
impl<P: Place> Deployment for Processes<P> {
    fn capabilities(&self) -> Capabilities {
        self.launcher.place.capabilities()
    }

    fn died(&mut self) -> Option<String> {
        for node in &mut self.nodes {
            if node.ended.is_none() {
                node.ended = node.child.try_wait().ok().flatten();
            }
        }
        self.nodes.iter().find(|node| node.ended.is_some() && !node.killed).map(NodeProcess::obituary)
    }

    fn process(&self, id: u64) -> Option<u32> {
        self.nodes.iter().find(|node| node.args.id == id)?.child.id()
    }

    fn log_tail(&self, id: u64) -> String {
        self.nodes.iter().find(|node| node.args.id == id).map_or_else(String::new, |node| log_tail(&node.log))
    }

    async fn kill(&mut self, id: u64) -> Result<(), String> {
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

    async fn restart(&mut self, id: u64) -> Result<(), String> {
        let at = self.nodes.iter().position(|node| node.args.id == id && node.ended.is_some());
        let Some(node) = at.and_then(|at| self.nodes.get_mut(at)) else {
            return Err(format!("node {id} is running already"));
        };
        node.child = self.launcher.start(&node.args, &node.config, &node.log, node.endpoint.as_ref())?;
        node.ended = None;
        node.killed = false;
        Ok(())
    }

    async fn pause(&mut self, id: u64) -> Result<(), String> {
        let node = self.node(id)?;
        kill_group(&node.child, Signal::SIGSTOP);
        node.wait_until_stopped(true).await
    }

    async fn resume(&mut self, id: u64) -> Result<(), String> {
        let node = self.node(id)?;
        kill_group(&node.child, Signal::SIGCONT);
        node.wait_until_stopped(false).await
    }

    async fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        self.launcher.place.counters(id)
    }

    async fn change(&self, id: u64, before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        self.launcher.place.change(id, before, after)
    }

    async fn stop(&mut self) -> Vec<String> {
        for node in self.nodes.iter().filter(|node| node.ended.is_none()) {
            kill_group(&node.child, Signal::SIGTERM);
            // A stopped process does not process SIGTERM before it continues.
            kill_group(&node.child, Signal::SIGCONT);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for node in self.nodes.iter_mut().filter(|node| node.ended.is_none()) {
            let left = deadline.duration_since(Instant::now());
            match timeout(left, node.child.wait()).await {
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

fn command(
    program: &Path,
    subcommand: Option<&str>,
    config: &Path,
    log: &Path,
    endpoint: Option<&TcpListener>,
) -> io::Result<Command> {
    // A restarted node continues its log.
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command.args(subcommand).arg("--config").arg(config).stdin(std::process::Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    // The runner's own variables are meant for the runner; the nodes receive everything by arguments.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("APOLLO_") || name.to_string_lossy().starts_with("LISTEN_") {
            command.env_remove(name);
        }
    }
    if let Some(base) = clock::base_for_others() {
        command.env(clock::BASE_VARIABLE, base.to_string());
    }
    if let Some(endpoint) = endpoint {
        // Sockets are passed as systemd does: from descriptor 3 on.
        command.env("LISTEN_FDS", "1");
        let mapping = FdMapping { parent_fd: endpoint.try_clone()?.into(), child_fd: 3 };
        command.fd_mappings(vec![mapping]).map_err(|error| io::Error::other(error.to_string()))?;
    }
    tether(&mut command);
    Ok(command)
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
