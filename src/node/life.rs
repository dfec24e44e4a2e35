//! A node from its first port to its last summary.

use std::{
    ffi::CString,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use listenfd::ListenFd;
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::{Notify, Semaphore, mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    arguments::NodeArgs,
    clock::unix_nanos,
    http, logging, pending,
    probe_gate::ProbeGate,
    profile::Profiler,
    recorder::Recorder,
    serve::serve,
    session::Session,
    state::{Phase, StartOrder},
    summary::{NODE_SCHEMA_VERSION, NodeSummary, PendingWork, TrialSummary, WindowUsage, write_json},
    workload::{Load, Workload},
};
use crate::{
    access::RunToken,
    clock,
    command_line::BAD_USAGE,
    environment::{Environment, congestion_control_to},
    machine::Machine,
    metrics::{DROP_REASONS, Labelled, MALFORMED_REASONS, Metrics, NETWORK_EVENTS, SystemSampler, usage},
    network::{Backlog, Channel, NetworkConfig, Outgoing, PeerAddress, Readiness, Roster, UnreachedPeer, peer_id},
    open_files::raise_open_files,
    probe::Responder,
    signals::Interrupts,
    terminal::tell,
};

/// Pace of the system samples and of the summary file.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Probes under way at once, each with a thread of its own.
const MOST_PROBES: usize = 1024;

/// What all parts of a node share.
pub(super) struct Node {
    pub(super) args: NodeArgs,
    pub(super) registry: Registry,
    pub(super) workload: Workload,
    pub(super) metrics: Metrics,
    pub(super) recorder: Arc<Recorder>,
    roster: Arc<Roster>,
    pub(super) p2p: runtime::Handle,
    worker_threads: usize,
    pub(super) order: watch::Sender<Option<StartOrder>>,
    profiler: Option<Profiler>,
    /// Told when the network is to be closed while the node lives on.
    pub(super) quiesce: Notify,
    /// Told when the node is to end.
    pub(super) end: Notify,
    pub(super) machine: Machine,
    /// One for each probe under way.
    pub(super) probes: Semaphore,
    pub(super) probe_gate: ProbeGate,
    /// The secret of a controlled node's runner; it stays here, and is in no argument, log or summary.
    pub(super) token: Option<RunToken>,
    open_files: u64,
    life: Mutex<Life>,
    backlog: Backlog,
    outgoing: Mutex<Option<mpsc::WeakSender<Outgoing>>>,
    libp2p_registry: Mutex<Option<prometheus_client::registry::Registry>>,
}

/// What changes over a node's life.
pub(super) struct Life {
    phase: Phase,
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) unreached: watch::Receiver<Vec<UnreachedPeer>>,
    pub(super) trials: Vec<TrialSummary>,
    usage_at_start: Option<WindowUsage>,
    usage_at_end: Option<WindowUsage>,
}

impl Life {
    /// What was used while the window was open, up to `now` when it still is.
    pub(super) fn used_in_window(&self, now: WindowUsage) -> Option<WindowUsage> {
        Some(self.usage_at_end.unwrap_or(now).since(&self.usage_at_start?))
    }
}

/// Why a node could not run.
pub(super) enum Failure {
    /// The arguments can't work here.
    Usage(String),
    /// Anything else.
    Other(String),
}

/// Runs a node to its end, and says how it ended: 0 by itself, by `--timeout` or by a signal; 2 for arguments that
/// can't work; 1 for anything else.
pub(super) fn run(args: NodeArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(line)) => {
            tell(&format!("error: {line}"));
            ExitCode::from(BAD_USAGE)
        }
        Err(Failure::Other(line)) => {
            tell(&format!("error: {line}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: NodeArgs) -> Result<(), Failure> {
    take_name();
    // Before anything looks at the clock.
    clock::adopt();
    let other = |what: &str, error: &dyn std::fmt::Display| Failure::Other(format!("{what}: {error}"));
    let workload = args.validate().map_err(|error| Failure::Usage(error.to_string()))?;
    clock::check().map_err(Failure::Other)?;
    let token = args.token().map_err(|error| Failure::Usage(error.to_string()))?;
    let open_files = raise_open_files();
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).map_err(|error| other("metrics", &error))?;
    metrics.explore_trial.set(-1);
    logging::start(args.verbosity, args.control.log_limit_mib, &metrics);

    let worker_threads = args
        .control
        .worker_threads
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    // The endpoint and the clockwork have a thread of their own: a network that is out of breath still answers.
    let main = runtime::Builder::new_current_thread().enable_all().build().map_err(|error| other("runtime", &error))?;
    let p2p = P2pRuntime::new(worker_threads).map_err(|error| other("runtime", &error))?;

    let profile = args.control.profile_mode.zip(args.control.profile_output.as_deref());
    let profiler = profile
        .map(|(mode, output)| Profiler::start(mode, output))
        .transpose()
        .map_err(|error| Failure::Usage(format!("--profile-mode: {error}")))?;

    let roster = Arc::new(Roster::new(args.num_nodes));
    let mut recorder = Recorder::new(args.id, args.control.run_id, roster.clone(), metrics.clone());
    if args.control.controlled {
        let message_size = match &workload.load {
            Load::Steady { message_size, .. } => Some(*message_size),
            Load::Explore { trials, .. } => trials.iter().map(|trial| trial.message_size).min(),
        };
        // Nodes of other programs, which name no run, can't be given a start: they are in no controlled network.
        recorder = recorder.named_run_only(message_size);
        recorder.remember_early();
    }
    let recorder = Arc::new(recorder);
    let node = Arc::new(Node {
        registry,
        workload,
        metrics,
        recorder,
        roster,
        p2p: p2p.handle.clone(),
        worker_threads,
        order: watch::Sender::new(None),
        profiler,
        quiesce: Notify::new(),
        end: Notify::new(),
        machine: Machine::default(),
        probes: Semaphore::new(MOST_PROBES),
        probe_gate: ProbeGate::new(args.num_nodes),
        token,
        open_files,
        life: Mutex::new(Life {
            phase: Phase::Connecting,
            readiness: watch::channel(Readiness { expected_peers: usize::MAX, ..Readiness::default() }).1,
            unreached: watch::channel(vec![]).1,
            trials: vec![],
            usage_at_start: None,
            usage_at_end: None,
        }),
        backlog: Backlog::default(),
        outgoing: Mutex::new(None),
        libp2p_registry: Mutex::new(None),
        args,
    });
    let ended = main.block_on(live(node));
    // A probe under way is not waited for.
    main.shutdown_background();
    ended
}

/// Lists of processes show the program's name, however it was started: a runner starts it by a descriptor.
fn take_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        // The kernel cuts it after 15 bytes. Without, it is only harder to recognise.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// The runtime that carries the network: one thread, or a pool.
struct P2pRuntime {
    handle: runtime::Handle,
    _pool: Option<Runtime>,
}

impl P2pRuntime {
    fn new(worker_threads: usize) -> std::io::Result<Self> {
        if worker_threads > 1 {
            let pool = runtime::Builder::new_multi_thread().worker_threads(worker_threads).enable_all().build()?;
            return Ok(Self { handle: pool.handle().clone(), _pool: Some(pool) });
        }
        // A pool of one would wake its thread through a queue; this one polls in place.
        let single = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = single.handle().clone();
        std::thread::Builder::new()
            .name("network".into())
            .spawn(move || single.block_on(std::future::pending::<()>()))?;
        Ok(Self { handle, _pool: None })
    }
}

async fn live(node: Arc<Node>) -> Result<(), Failure> {
    let address = SocketAddr::new(node.args.control.metric_address, node.args.metric_port);
    let listener = listener(address).await.map_err(|error| {
        Failure::Usage(format!("can't listen on {address} (TCP): {error}; give another --metric-port"))
    })?;
    let probe_address = node.args.control.probe_port.map(|port| SocketAddr::new(node.args.control.p2p_address, port));
    let _responder = probe_address
        .map(|address| {
            Responder::start(address).map_err(|error| {
                Failure::Usage(format!("can't listen on {address} (UDP): {error}; give another --probe-port"))
            })
        })
        .transpose()?;
    let mut interrupts = Interrupts::new().map_err(|error| Failure::Other(error.to_string()))?;

    let mut session = Session::new(node.clone());
    let outgoing = session.build_network(node.workload.first_message_size()).await?;
    tokio::spawn(serve(listener, http::router(node.clone()), node.open_files));
    tokio::spawn(watch_over(node.clone()));
    info!(id = node.args.id, peer = %peer_id(node.args.id), %address, "node is up");

    let over = async {
        tokio::select! {
            cause = interrupts.next() => info!("{cause}"),
            () = node.end.notified() => info!("told to end"),
            () = tokio::time::sleep(Duration::from_secs(node.args.timeout)) => info!("timeout"),
        }
    };
    tokio::pin!(over);
    let mut quiet = false;
    let ended = tokio::select! {
        ended = session.run(outgoing) => ended,
        () = node.quiesce.notified() => { quiet = true; Ok(()) }
        () = &mut over => Ok(()),
    };
    session.end().await;
    if quiet {
        // What is on its way to this node's endpoint, and measurements of the links, go on.
        info!("the network is closed");
        over.await;
    }
    if node.recorder.sends_without_end() {
        node.count_missed();
    }
    node.set_phase(Phase::Finished);
    node.write_summary().map_err(Failure::Other)?;
    node.profiler.as_ref().map_or(Ok(()), Profiler::finish).map_err(Failure::Other)?;
    ended
}

/// A listening socket that was handed down (as systemd does, in `LISTEN_FDS`), or a new one.
async fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    match ListenFd::from_env().take_tcp_listener(0)? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }
        None => TcpListener::bind(address).await,
    }
}

/// Samples the system and writes the summary file, until the node ends.
async fn watch_over(node: Arc<Node>) {
    let mut sampler = SystemSampler::new(node.metrics.clone());
    let mut tick = interval(SAMPLE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = tokio::time::Instant::now();
    loop {
        tick.tick().await;
        sampler.sample();
        if let Some(micros) = node.machine.sample() {
            warn!(seconds = micros as f64 / 1e6, "the wall clock was set");
        }
        // Without a common start, nodes share nothing but the wall clock.
        clock::follow_steps();
        if written.elapsed() >= WRITE_EVERY {
            written = tokio::time::Instant::now();
            if let Err(error) = node.write_summary() {
                warn!(%error, "summary not written");
            }
        }
    }
}

impl Node {
    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the node is.
    pub(super) fn phase(&self) -> Phase {
        self.life().phase
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.life().phase = phase;
    }

    /// How ready the network is.
    pub(super) fn readiness(&self) -> Readiness {
        *self.life().readiness.borrow()
    }

    /// The run begins: the clock follows the wall clock no more, and what it did before is no part of the run.
    pub(super) fn settle_clock(&self) {
        if clock::settled_base().is_none() {
            clock::settle();
            self.machine.begin();
        }
    }

    /// Peers that could not be reached, and why.
    pub(super) fn unreached(&self) -> Vec<UnreachedPeer> {
        self.life().unreached.borrow().clone()
    }

    /// Gives the node its start; `false` if it has another.
    pub(super) fn order(&self, order: StartOrder) -> bool {
        let mut taken = false;
        self.order.send_if_modified(|current| {
            // A node that comes back may get its start twice, when it was slow to take the first.
            taken = current.is_none() || (order.rejoining && current.as_ref() == Some(&order));
            let first = current.is_none();
            if first {
                if order.run_id != 0 {
                    self.recorder.set_run_id(order.run_id);
                }
                *current = Some(order);
            }
            first
        });
        taken
    }

    /// Brings those metrics up to date that are only looked at when asked for.
    pub(super) fn refresh(&self) {
        self.metrics.receive_message_pending_count.set(i64::try_from(self.recorder.pending()).unwrap_or(i64::MAX));
        if self.args.network.tokio_metrics {
            let tokio = self.p2p.metrics();
            let workers = tokio.num_workers();
            let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.tokio_workers.set(count(workers));
            self.metrics.tokio_alive_tasks.set(count(tokio.num_alive_tasks()));
            self.metrics.tokio_global_queue_depth.set(count(tokio.global_queue_depth()));
            let busy: f64 = (0..workers).map(|worker| tokio.worker_total_busy_duration(worker).as_secs_f64()).sum();
            let counter = &self.metrics.tokio_workers_busy_seconds_total;
            counter.inc_by((busy - counter.get()).max(0.0));
        }
    }

    /// libp2p's own metrics, if they are asked for.
    pub(super) fn libp2p_registry(&self) -> MutexGuard<'_, Option<prometheus_client::registry::Registry>> {
        self.libp2p_registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine, looked at once.
    fn environment(&self) -> &'static Environment {
        static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
        ENVIRONMENT.get_or_init(|| {
            let own = self.args.control.p2p_address;
            let peer = self.args.bootstrap.0.iter().filter_map(PeerAddress::ip).find(|ip| *ip != own);
            let environment = Environment::of_this_process();
            // QUIC controls its congestion itself.
            let of_tcp = || peer.and_then(congestion_control_to).or(environment.congestion_control.clone());
            Environment { congestion_control: if self.args.network.quic { None } else { of_tcp() }, ..environment }
        })
    }

    /// Everything counted so far.
    pub(super) fn summary(&self) -> NodeSummary {
        let (readiness, unreached) = (self.readiness(), self.unreached());
        // Taken before the counts, so that none of them is younger.
        let (phase, counted_unix_nanos) = (self.phase(), unix_nanos());
        let counts = self.recorder.counts();
        let mut configuration = serde_json::to_value(&self.args).unwrap_or_default();
        if let Some(fields) = configuration.as_object_mut() {
            fields.insert("effective_worker_threads".into(), self.worker_threads.into());
        }
        let used = self.usage_now();
        let life = self.life();
        let by_label = |counter: &Labelled, labels: &[&str]| {
            labels.iter().map(|label| ((*label).to_owned(), counter.of(label).get())).filter(|(_, n)| *n > 0).collect()
        };
        NodeSummary {
            schema_version: NODE_SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            node: self.args.id,
            peer_id: peer_id(self.args.id).to_string(),
            process: std::process::id(),
            configuration,
            environment: Some(self.environment().clone()),
            phase,
            readiness,
            counted_unix_nanos,
            pending_work: matches!(phase, Phase::Draining | Phase::Finished).then(|| self.pending_work()),
            unreached,
            start: self.order.borrow().clone(),
            measured: counts.measured,
            outside: counts.outside,
            // Trials are explore mode's phases.
            phases: if matches!(self.workload.load, Load::Explore { .. }) { vec![] } else { counts.phases },
            pending: counts.pending,
            senders: counts.senders,
            trials: life.trials.clone(),
            window_usage: life.used_in_window(used),
            usage: usage(),
            dropped: by_label(&self.metrics.network_dropped_broadcast_messages, DROP_REASONS),
            malformed: by_label(&self.metrics.receive_message_malformed_count, MALFORMED_REASONS),
            machine: Some(self.machine.report()),
            events: by_label(&self.metrics.network_event_counter, NETWORK_EVENTS),
        }
    }

    /// Writes the summary file whole or not at all.
    pub(super) fn write_summary(&self) -> Result<(), String> {
        let Some(path) = &self.args.control.summary else { return Ok(()) };
        // A node that waits for the next run leaves what the last one was.
        if self.args.control.controlled && self.order.borrow().is_none() && path.exists() {
            return Ok(());
        }
        write_json(path, &self.summary()).map_err(|error| format!("--summary {}: {error}", path.display()))
    }

    pub(super) fn usage_now(&self) -> WindowUsage {
        let tcp = !self.args.network.quic;
        WindowUsage {
            cpu_seconds: usage().cpu_seconds,
            socket_bytes_sent: tcp.then(|| self.metrics.network_socket_bytes_sent_total.get()),
            socket_bytes_received: tcp.then(|| self.metrics.network_socket_bytes_received_total.get()),
        }
    }

    /// Adds what the window that is over did not send to the metric of missed messages.
    pub(super) fn count_missed(&self) {
        self.metrics.broadcast_message_missed_count.inc_by(self.recorder.unsent());
    }

    pub(super) fn window_opens(&self) {
        self.window_opened(self.usage_now());
    }

    /// Where the window was open when the process began, all that it used was used inside.
    pub(super) fn window_opened_before_birth(&self) {
        let tcp = !self.args.network.quic;
        let nothing = tcp.then_some(0);
        self.window_opened(WindowUsage {
            cpu_seconds: 0.0,
            socket_bytes_sent: nothing,
            socket_bytes_received: nothing,
        });
    }

    fn window_opened(&self, usage: WindowUsage) {
        self.machine.window_opens();
        let mut life = self.life();
        life.usage_at_start = Some(usage);
        life.usage_at_end = None;
    }

    pub(super) fn window_closes(&self) {
        self.machine.window_closes();
        let now = self.usage_now();
        self.life().usage_at_end = Some(now);
        if let (Some(profiler), Load::Steady { .. }) = (&self.profiler, &self.workload.load) {
            profiler.traffic_ends();
        }
    }

    pub(super) fn network_config(&self, message_size: usize) -> NetworkConfig {
        let args = &self.args;
        NetworkConfig {
            id: args.id,
            roster: self.roster.clone(),
            listen_address: args.control.p2p_address,
            port: args.p2p_port,
            bootstrap: args.bootstrap.0.clone(),
            quic: args.network.quic,
            channels: vec![Channel::of_default_class(
                args.network_protocol,
                self.workload.broadcasters(),
                message_size,
            )],
            validation_delay: Duration::ZERO,
            gossip: args.network.gossip.clone(),
            queue_bytes: usize::try_from(args.network.queue_bytes).unwrap_or(usize::MAX),
            queue_messages: usize::try_from(args.buffer_size).unwrap_or(usize::MAX),
            backlog: self.backlog.clone(),
        }
    }

    /// What this node has taken and not got rid of.
    fn pending_work(&self) -> PendingWork {
        let queue = self.outgoing().as_ref().and_then(mpsc::WeakSender::upgrade);
        let waiting = queue.map_or(0, |queue| queue.max_capacity() - queue.capacity());
        PendingWork {
            queued: self.backlog.count().saturating_add(waiting as u64),
            socket_bytes: (!self.args.network.quic).then(|| pending::socket_bytes(self.args.metric_port)).flatten(),
        }
    }

    /// The queue between the schedule and the network, while there is one.
    pub(super) fn outgoing(&self) -> MutexGuard<'_, Option<mpsc::WeakSender<Outgoing>>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
