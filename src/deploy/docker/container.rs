//! One container: its creation and its end.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    arguments::MemoryLimit,
    client::{self, NEVER, State, ask},
    prepare::Prepared,
    reaper,
};
use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    clock::{self, sleep, timeout},
    deploy::deployment::StartError,
    node::NodeConfig,
    shaping::{InterfacePlan, QdiscCounters},
};

/// User of a node: nobody.
const USER: &str = "65534";

/// Maximum length of an argument in Linux, in bytes, its end included.
const LONGEST_ARGUMENT: usize = 128 << 10;

/// Maximum number of requests for the state of a container whose client has ended, until Docker reports the container's
/// end too.
const LOOKS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Parts of a container's creation.
pub(super) struct Recipe<'a> {
    pub(super) node: &'a NodeConfig,
    pub(super) interface: InterfacePlan,
    pub(super) memory: MemoryLimit,
    pub(super) token: Option<&'a RunToken>,
}

/// A plan as an argument of `apollo-bench shape`.
pub(super) fn plan_argument(plan: &InterfacePlan) -> Result<String, String> {
    let json = serde_json::to_string(plan).map_err(|error| error.to_string())?;
    if json.len() >= LONGEST_ARGUMENT {
        return Err(format!(
            "{} peers with links of their own exceed the maximum size of a container's arguments: use fewer nodes, or --backend netns",
            plan.peers.len()
        ));
    }
    Ok(json)
}

impl Recipe<'_> {
    /// The arguments of `docker`.
    fn create(&self, name: &str, prepared: &Prepared) -> Result<Vec<String>, String> {
        let port = self.node.metric_port;
        let address = self.node.p2p_address;
        let mut args: Vec<String> = vec![
            "create".into(),
            "--pull=never".into(),
            format!("--name={name}"),
            format!("--label={}={}", reaper::NODE, self.node.id),
            format!("--network={}", prepared.labels.name("data")),
            format!("--ip={address}"),
            // Published over the other network, because this one has no way out.
            format!("--publish=127.0.0.1:{port}:{port}/tcp"),
            "--cap-drop=ALL".into(),
            "--security-opt=no-new-privileges".into(),
            "--read-only".into(),
            "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=16m".into(),
            "--pids-limit=4096".into(),
            // A file for each peer, which Docker's default may be too low for.
            "--ulimit=nofile=8192".into(),
            format!("--memory={}", self.memory.0),
            // The same value, so that no swap is added.
            format!("--memory-swap={}", self.memory.0),
            // The run folder keeps the log.
            "--log-driver=json-file".into(),
            "--log-opt=max-size=16m".into(),
            "--log-opt=max-file=2".into(),
            "--entrypoint=apollo-bench".into(),
        ];
        if let Some(base) = clock::base_for_others() {
            args.push(format!("--env={}={base}", clock::BASE_VARIABLE));
        }
        if self.token.is_some() {
            // Without a value: the client takes it from its own environment, so no command line shows it.
            args.push(format!("--env={TOKEN_VARIABLE}"));
        }
        // A container sees no file of this machine, and its own files are read-only.
        let (config, peers) = self.node.to_variables()?;
        args.push(format!("--env=APOLLO_CONFIG_TEXT={config}"));
        args.push(format!("--env=APOLLO_BOOTSTRAP={peers}"));
        args.extend(prepared.labels.flags());
        let shaped = !self.interface.is_unshaped();
        if shaped {
            // Rights to shape, and then to become nobody.
            args.extend(["NET_ADMIN", "SETUID", "SETGID"].map(|right| format!("--cap-add={right}")));
            args.push("--user=0:0".into());
        } else {
            args.push(format!("--user={USER}:{USER}"));
        }
        args.push(prepared.image.id.clone());
        if shaped {
            let plan = plan_argument(&self.interface)?;
            args.extend(shape(address, &["--plan", &plan, "--user", USER, "--"]));
        }
        args.push("node".into());
        Ok(args)
    }
}

/// Arguments of `apollo-bench` that shape the interface with an address.
pub(super) fn shape(address: IpAddr, rest: &[&str]) -> Vec<String> {
    let words = ["shape".to_owned(), "--address".to_owned(), address.to_string()];
    words.into_iter().chain(rest.iter().map(|word| (*word).to_owned())).collect()
}

/// Container of a node.
pub(super) struct Container {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) log: PathBuf,
    follower: Option<Follower>,
    /// Time of its last start, as Docker reports it.
    pub(super) started_at: String,
    /// True if it was killed on purpose.
    pub(super) killed: bool,
    pub(super) paused: bool,
    /// Plan that its entry point applies to its interface, and the present plan, which also applies after the next
    /// start.
    pub(super) first_plan: InterfacePlan,
    pub(super) plan: Mutex<InterfacePlan>,
    counted: Mutex<Counted>,
}

/// Counters of an interface, whose qdiscs are new after each start of the container.
#[derive(Default)]
struct Counted {
    /// Last counters of the ended lives.
    before: Vec<QdiscCounters>,
    /// Last counters of all lives.
    seen: Vec<QdiscCounters>,
}

impl Container {
    /// Creates the container on both networks. Returns Docker's warnings too.
    pub(super) async fn make(
        recipe: Recipe<'_>,
        prepared: &Prepared,
        log: PathBuf,
    ) -> Result<(Self, BTreeSet<String>), StartError> {
        let node = recipe.node;
        let name = prepared.labels.name(&format!("node-{}", node.id));
        let args = recipe.create(&name, prepared).map_err(StartError::Usage)?;
        let failed = |line| StartError::Failed(format!("node {}: {line}", node.id));
        let secret = recipe.token.map(|token| (TOKEN_VARIABLE, token.reveal()));
        let printed = client::run_with(&args, secret).await.map_err(|error| failed(error.to_string()))?;
        ask(&["network", "connect", &prepared.labels.name("control"), &name]).await.map_err(failed)?;
        let container = Self {
            id: node.id,
            name,
            address: node.p2p_address,
            log,
            follower: None,
            started_at: NEVER.into(),
            killed: false,
            paused: false,
            first_plan: recipe.interface.clone(),
            plan: Mutex::new(recipe.interface),
            counted: Mutex::default(),
        };
        Ok((container, printed.warnings))
    }

    /// Starts the container, and follows it.
    pub(super) fn follow(&mut self) -> Result<(), String> {
        let before = self.last_counters();
        self.counted().before = before;
        let follower = Follower::start(&self.name, &self.log);
        self.follower = Some(follower.map_err(|error| format!("node {} does not start: {error}", self.id))?);
        Ok(())
    }

    /// End of the container, if it has ended.
    pub(super) fn end(&self) -> Option<End> {
        self.follower.as_ref()?.end.borrow().clone()
    }

    /// Waits for the end of the container.
    pub(super) async fn wait(&mut self, limit: Duration) -> Option<End> {
        let ended = timeout(limit, self.follower.as_mut()?.end.wait_for(Option::is_some)).await;
        ended.ok()?.ok()?.clone()
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the counts of ended lives to the present ones.
    pub(super) fn count(&self, now: Vec<QdiscCounters>) -> Vec<QdiscCounters> {
        let mut counted = self.counted();
        counted.seen = sum(&counted.before, now);
        counted.seen.clone()
    }

    /// Last counters; nothing waits in a queue that no longer exists.
    pub(super) fn last_counters(&self) -> Vec<QdiscCounters> {
        self.counted().seen.iter().map(|one| QdiscCounters { backlog: 0, ..one.clone() }).collect()
    }

    pub(super) fn log_size(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |file| file.len())
    }
}

/// Sum of the counters of two lives, by device and handle.
fn sum(before: &[QdiscCounters], mut now: Vec<QdiscCounters>) -> Vec<QdiscCounters> {
    for old in before {
        match now.iter_mut().find(|new| (&new.device, &new.handle) == (&old.device, &old.handle)) {
            Some(new) => {
                new.bytes += old.bytes;
                new.packets += old.packets;
                new.drops += old.drops;
                new.overlimits += old.overlimits;
            }
            // The name of a device may have changed.
            None => now.push(old.clone()),
        }
    }
    now
}

/// End of a container.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It is not running any more.
    Ended(State),
    /// Docker does not report it any more, for this reason.
    Lost(String),
}

impl End {
    /// Reason of the end, to follow the node's name.
    pub(super) fn describe(&self, memory: MemoryLimit) -> String {
        match self {
            Self::Lost(line) => format!("is no longer visible in Docker: {line}"),
            Self::Ended(state) if !state.error.is_empty() => {
                let words: Vec<&str> = state.error.split_whitespace().collect();
                format!("does not start: {}", words.join(" "))
            }
            Self::Ended(state) if state.out_of_memory => {
                format!("was killed because it needed more than --memory-limit {memory}: give it more")
            }
            Self::Ended(state) => match i32::try_from(state.exit_code - 128).map(Signal::try_from) {
                Ok(Ok(signal)) => format!("ended with exit code {} ({signal})", state.exit_code),
                _ => format!("ended with exit code {}", state.exit_code),
            },
        }
    }

    /// True if it ended in order.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Ended(State { exit_code: 0, error, .. }) if error.is_empty())
    }
}

/// A client of Docker that starts a container, writes its log into a file at once, and ends with it. The container does
/// not depend on the client.
struct Follower {
    end: watch::Receiver<Option<End>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts the container.
    fn start(name: &str, log: &Path) -> io::Result<Self> {
        // A restarted container continues its log.
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = client::command(&["start", "--attach", name]);
        let mut client = command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log)).spawn()?;
        let (sender, end) = watch::channel(None);
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            let _ = client.wait().await;
            let mut end = how_it_ended(&name).await;
            if end.is_none() {
                // The client ends if the log can't be written any more (a full disk); the container continues.
                let mut waiting = client::command(&["wait", &name]);
                let _ = waiting.stdout(Stdio::null()).stderr(Stdio::null()).status().await;
                end = how_it_ended(&name).await;
            }
            let lost = || End::Lost("docker no longer follows it, although it runs".into());
            let _ = sender.send(Some(end.unwrap_or_else(lost)));
        });
        Ok(Self { end, task })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// End of a container; none for one that still runs.
async fn how_it_ended(name: &str) -> Option<End> {
    for _ in 0..LOOKS {
        match client::state(name).await {
            Ok(state) if !state.running => return Some(End::Ended(state)),
            Ok(_) => sleep(LOOK_EVERY).await,
            Err(line) => return Some(End::Lost(line)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_container_states_its_reason() {
        let memory = MemoryLimit(2 << 30);
        let ended = |exit_code, out_of_memory, error: &str| {
            End::Ended(State { exit_code, out_of_memory, error: error.into(), ..State::default() })
        };
        assert_eq!(ended(137, false, "").describe(memory), "ended with exit code 137 (SIGKILL)");
        assert_eq!(ended(2, false, "").describe(memory), "ended with exit code 2");
        assert!(ended(137, true, "").describe(memory).contains("--memory-limit 2g"));
        assert_eq!(ended(128, false, "port is\n taken").describe(memory), "does not start: port is taken");
        assert!(ended(0, false, "").is_good() && !ended(1, false, "").is_good() && !ended(0, false, "x").is_good());
    }

    #[test]
    fn counters_of_two_lives_are_added() {
        let counters = |device: &str, packets| QdiscCounters {
            device: device.into(),
            handle: "ab2:".into(),
            packets,
            ..QdiscCounters::default()
        };
        let both = sum(&[counters("eth1", 5), counters("in12", 7)], vec![counters("eth1", 1), counters("in14", 2)]);
        assert_eq!(both, [counters("eth1", 6), counters("in14", 2), counters("in12", 7)]);
    }
}
