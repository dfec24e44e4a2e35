//! A node from its first port to its last summary.

use std::{
    iter::Peekable,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::Registry;
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::{
    arguments::NodeArgs,
    clock::{sleep_until, unix_nanos},
    explore::{TrialPlan, TrialTimes},
    http, logging,
    pacer::{Pacer, Template},
    recorder::Recorder,
    schedule::Slots,
    state::{Phase, StartOrder},
    summary::{NODE_SCHEMA_VERSION, NodeSummary, TrialSummary, WindowUsage, write_json},
    workload::{Load, Turn, Workload},
};
use crate::{
    message::Base,
    metrics::{DROP_REASONS, Labelled, MALFORMED_REASONS, Metrics, NETWORK_EVENTS, SystemSampler, usage},
    network::{Network, NetworkConfig, NetworkError, Outgoing, Readiness, Roster, peer_id},
};

/// Exit code for arguments that can't work.
const BAD_USAGE: u8 = 2;

/// How long after the end of its window a message that is late may still be sent.
const SEND_GRACE: u64 = 1_000_000_000;

/// Pace of the system samples and of the summary file.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Pause before a port that is not free yet is tried again.
const REBUILD_RETRY: Duration = Duration::from_millis(50);

/// Longest wait for the network to close at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What all parts of a node share.
pub(super) struct Node {
    pub(super) args: NodeArgs,
    pub(super) registry: Registry,
    workload: Workload,
    metrics: Metrics,
    recorder: Arc<Recorder>,
    roster: Arc<Roster>,
    p2p: runtime::Handle,
    worker_threads: usize,
    order: watch::Sender<Option<StartOrder>>,
    life: Mutex<Life>,
    libp2p_registry: Mutex<Option<prometheus_client::registry::Registry>>,
}

/// What changes over a node's life.
struct Life {
    phase: Phase,
    readiness: watch::Receiver<Readiness>,
    trials: Vec<TrialSummary>,
    usage_at_start: Option<WindowUsage>,
    cpu_at_end: Option<f64>,
}

impl Life {
    /// What was used inside the window: processor time to its end, bytes up to now, since what the window sent goes on
    /// to travel while the network drains.
    fn used_in_window(&self, now: WindowUsage) -> Option<WindowUsage> {
        let cpu_seconds = self.cpu_at_end.unwrap_or(now.cpu_seconds);
        Some(WindowUsage { cpu_seconds, ..now }.since(&self.usage_at_start?))
    }
}

/// Why a node could not run.
enum Failure {
    /// The arguments can't work here.
    Usage(String),
    /// Anything else.
    Other(String),
}

/// Runs a node to its end, and says how it ended: 0 by itself, by `--timeout` or by a signal; 2 for arguments that
/// can't work; 1 for anything else.
pub fn run(args: NodeArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(line)) => {
            eprintln!("error: {line}");
            ExitCode::from(BAD_USAGE)
        }
        Err(Failure::Other(line)) => {
            eprintln!("error: {line}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: NodeArgs) -> Result<(), Failure> {
    let other = |what: &str, error: &dyn std::fmt::Display| Failure::Other(format!("{what}: {error}"));
    let workload = args.validate().map_err(|error| Failure::Usage(error.to_string()))?;
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

    let roster = Arc::new(Roster::new(args.num_nodes));
    let recorder = Arc::new(Recorder::new(args.id, args.control.run_id, roster.clone(), metrics.clone()));
    let node = Arc::new(Node {
        registry,
        workload,
        metrics,
        recorder,
        roster,
        p2p: p2p.handle.clone(),
        worker_threads,
        order: watch::Sender::new(None),
        life: Mutex::new(Life {
            phase: Phase::Connecting,
            readiness: watch::channel(Readiness { expected_peers: usize::MAX, ..Readiness::default() }).1,
            trials: vec![],
            usage_at_start: None,
            cpu_at_end: None,
        }),
        libp2p_registry: Mutex::new(None),
        args,
    });
    main.block_on(live(node))
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
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::Usage(format!("can't listen on {address} (TCP): {error}; give another --metric-port"))
    })?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::Other(error.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::Other(error.to_string()))?;

    let mut session = Session { node: node.clone(), network: None, pacer: None };
    let outgoing = session.build_network(node.workload.first_message_size()).await?;
    tokio::spawn(axum::serve(listener, http::router(node.clone())).into_future());
    tokio::spawn(watch_over(node.clone()));
    info!(id = node.args.id, peer = %peer_id(node.args.id), %address, "node is up");

    let ended = tokio::select! {
        ended = session.run(outgoing) => ended,
        _ = terminate.recv() => { info!("SIGTERM"); Ok(()) }
        _ = interrupt.recv() => { info!("SIGINT"); Ok(()) }
        () = tokio::time::sleep(Duration::from_secs(node.args.timeout)) => { info!("timeout"); Ok(()) }
    };
    session.end().await;
    if node.recorder.sends_without_end() {
        node.count_missed();
    }
    node.set_phase(Phase::Finished);
    node.write_summary().map_err(Failure::Other)?;
    ended
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
        if written.elapsed() >= WRITE_EVERY {
            written = tokio::time::Instant::now();
            if let Err(error) = node.write_summary() {
                warn!(%error, "summary not written");
            }
        }
    }
}

impl Node {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the node is.
    pub(super) fn phase(&self) -> Phase {
        self.life().phase
    }

    fn set_phase(&self, phase: Phase) {
        self.life().phase = phase;
    }

    /// How ready the network is.
    pub(super) fn readiness(&self) -> Readiness {
        *self.life().readiness.borrow()
    }

    /// Gives the node its start; `false` if it has one.
    pub(super) fn order(&self, order: StartOrder) -> bool {
        self.order.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(order);
            }
            first
        })
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

    /// Everything counted so far.
    pub(super) fn summary(&self) -> NodeSummary {
        let readiness = self.readiness();
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
            phase: life.phase,
            readiness,
            start: *self.order.borrow(),
            measured: counts.measured,
            outside: counts.outside,
            pending: counts.pending,
            senders: counts.senders,
            trials: life.trials.clone(),
            window_usage: life.used_in_window(used),
            usage: usage(),
            dropped: by_label(&self.metrics.network_dropped_broadcast_messages, DROP_REASONS),
            malformed: by_label(&self.metrics.receive_message_malformed_count, MALFORMED_REASONS),
            events: by_label(&self.metrics.network_event_counter, NETWORK_EVENTS),
        }
    }

    /// Writes the summary file whole or not at all.
    fn write_summary(&self) -> Result<(), String> {
        let Some(path) = &self.args.control.summary else { return Ok(()) };
        write_json(path, &self.summary()).map_err(|error| format!("--summary {}: {error}", path.display()))
    }

    fn usage_now(&self) -> WindowUsage {
        let tcp = !self.args.network.quic;
        WindowUsage {
            cpu_seconds: usage().cpu_seconds,
            socket_bytes_sent: tcp.then(|| self.metrics.network_socket_bytes_sent_total.get()),
            socket_bytes_received: tcp.then(|| self.metrics.network_socket_bytes_received_total.get()),
        }
    }

    /// Adds what the window that is over did not send to the metric of missed messages.
    fn count_missed(&self) {
        self.metrics.broadcast_message_missed_count.inc_by(self.recorder.unsent());
    }

    fn window_opens(&self) {
        let now = self.usage_now();
        let mut life = self.life();
        life.usage_at_start = Some(now);
        life.cpu_at_end = None;
    }

    fn window_closes(&self) {
        let now = self.usage_now();
        let mut life = self.life();
        life.cpu_at_end = Some(now.cpu_seconds);
    }

    fn network_config(&self, message_size: usize) -> NetworkConfig {
        let args = &self.args;
        NetworkConfig {
            id: args.id,
            roster: self.roster.clone(),
            listen_address: args.control.p2p_address,
            port: args.p2p_port,
            bootstrap: args.bootstrap.0.clone(),
            quic: args.network.quic,
            protocol: args.network_protocol,
            broadcasters: self.workload.broadcasters(),
            gossip: args.network.gossip.clone(),
            queue_bytes: usize::try_from(args.network.queue_bytes).unwrap_or(usize::MAX),
            queue_messages: usize::try_from(args.buffer_size).unwrap_or(usize::MAX),
            message_size,
        }
    }
}

/// The network and the schedule of a node, as they come and go.
struct Session {
    node: Arc<Node>,
    network: Option<Network>,
    pacer: Option<Pacer>,
}

impl Session {
    /// Starts the network; its queues fit messages of `message_size` bytes.
    async fn build_network(&mut self, message_size: usize) -> Result<mpsc::Sender<Outgoing>, Failure> {
        let node = self.node.clone();
        let config = node.network_config(message_size);
        let (sender, receiver) = mpsc::channel(config.queue_length());
        let starting: JoinHandle<Result<Network, NetworkError>> = node.p2p.clone().spawn(async move {
            let mut registry = node.args.network.gossipsub_metrics.then(Default::default);
            let traffic = node.recorder.clone();
            let network = Network::start(config, receiver, traffic, &node.metrics, registry.as_mut())?;
            *node.libp2p_registry() = registry;
            Ok(network)
        });
        match starting.await {
            Ok(Ok(network)) => {
                self.node.life().readiness = network.readiness();
                self.network = Some(network);
                Ok(sender)
            }
            Ok(Err(error @ NetworkError::Listen { .. })) => Err(Failure::Usage(error.to_string())),
            Ok(Err(error)) => Err(Failure::Other(error.to_string())),
            Err(error) => Err(Failure::Other(format!("the network's runtime: {error}"))),
        }
    }

    /// Starts the network again on the port that it has just left. QUIC holds the port until its connections are drained,
    /// so it tries until `deadline`, in nanoseconds since the Unix epoch.
    async fn rebuild_network(&mut self, message_size: usize, deadline: u64) -> Result<mpsc::Sender<Outgoing>, Failure> {
        self.stop_network().await;
        loop {
            match self.build_network(message_size).await {
                Err(Failure::Usage(_)) if unix_nanos() < deadline => tokio::time::sleep(REBUILD_RETRY).await,
                Err(Failure::Usage(line)) => return Err(Failure::Other(line)),
                other => return other,
            }
        }
    }

    async fn stop_network(&mut self) {
        if let Some(network) = self.network.take()
            && timeout(STOP_TIMEOUT, network.stop()).await.is_err()
        {
            warn!("the network did not close in time");
        }
    }

    async fn end(&mut self) {
        if let Some(mut pacer) = self.pacer.take() {
            pacer.stop();
        }
        self.stop_network().await;
    }

    async fn run(&mut self, outgoing: mpsc::Sender<Outgoing>) -> Result<(), Failure> {
        let order = self.wait_for_order().await;
        info!(?order, "traffic starts");
        match self.node.workload.load.clone() {
            Load::Steady { turn, message_size, heartbeat } => {
                self.steady(order, turn, message_size, heartbeat, outgoing).await
            }
            Load::Explore { broadcaster, cool_down, run, trials } => {
                self.explore(order, broadcaster, cool_down, run, &trials, outgoing).await
            }
        }
    }

    /// Waits for the start that is given, or else for the peers.
    async fn wait_for_order(&self) -> StartOrder {
        let node = &self.node;
        let now_or_later = |start_unix_nanos| StartOrder { start_unix_nanos, warm_up_millis: 0, measure_millis: None };
        let mut orders = node.order.subscribe();
        if !node.args.control.controlled {
            let order = match node.args.control.start_at_unix_millis {
                Some(millis) => now_or_later(millis.saturating_mul(1_000_000)),
                None => {
                    self.wait_until_ready().await;
                    now_or_later(unix_nanos())
                }
            };
            node.order(order);
        }
        // The sender lives as long as the node.
        let order = orders.wait_for(Option::is_some).await.ok().and_then(|order| *order);
        order.unwrap_or_else(|| now_or_later(unix_nanos()))
    }

    async fn wait_until_ready(&self) {
        let mut readiness = self.node.life().readiness.clone();
        let limit = Duration::from_secs(self.node.args.control.ready_timeout_seconds);
        if timeout(limit, readiness.wait_for(Readiness::is_ready)).await.is_err() {
            warn!(readiness = %*readiness.borrow(), "not ready after {limit:?}: traffic starts all the same");
        }
    }

    async fn steady(
        &mut self,
        order: StartOrder,
        turn: Turn,
        message_size: usize,
        heartbeat: Duration,
        outgoing: mpsc::Sender<Outgoing>,
    ) -> Result<(), Failure> {
        let node = self.node.clone();
        let (id, num_nodes) = (node.args.id, node.args.num_nodes);
        let given = node.args.control.controlled || node.args.control.start_at_unix_millis.is_some();
        let (from, to) = (order.from_unix_nanos(), order.to_unix_nanos());
        let deadline = to.map_or(u64::MAX, |to| to.saturating_add(SEND_GRACE));
        let now = unix_nanos();
        if given {
            // Who comes after the start has not missed what was sent before.
            let base = if order.start_unix_nanos < now { Base::LowestSeen } else { Base::Zero };
            node.recorder.begin(base, 0, from, to.unwrap_or(u64::MAX), deadline);
        }
        // Nodes that start on their own share nothing but the wall clock: their turns and beats follow it.
        let origin = if given || !matches!(turn, Turn::RoundRobin { .. }) { order.start_unix_nanos } else { 0 };
        let mut slots = Slots::new(id, num_nodes, turn, heartbeat, origin, order.start_unix_nanos, to).peekable();
        // A node that comes after the start goes on where its schedule is by now, with the index that belongs there.
        while given && slots.next_if(|slot| slot.intended_unix_nanos < now).is_some() {}
        if slots.peek().is_some() {
            node.metrics.broadcast_message_bytes.set(message_size.cast_signed() as i64);
            node.metrics.broadcast_message_throughput.set(message_size as f64 / heartbeat.as_secs_f64());
            let template = Template { sender: id, message_size, trial: 0 };
            self.pace(slots, template, outgoing, deadline)?;
        }
        node.set_phase(Phase::Waiting);
        sleep_until(order.start_unix_nanos).await;
        node.set_phase(Phase::WarmUp);
        sleep_until(from).await;
        node.window_opens();
        node.set_phase(Phase::Measuring);
        let Some(to) = to else { return std::future::pending().await };
        sleep_until(to).await;
        node.window_closes();
        node.set_phase(Phase::Draining);
        sleep_until(deadline).await;
        node.count_missed();
        std::future::pending().await
    }

    fn pace(
        &mut self,
        slots: Peekable<Slots>,
        template: Template,
        outgoing: mpsc::Sender<Outgoing>,
        deadline: u64,
    ) -> Result<(), Failure> {
        let recorder = self.node.recorder.clone();
        let pacer = Pacer::start(slots, template, outgoing, recorder, deadline)
            .map_err(|error| Failure::Other(format!("the pacer's thread: {error}")))?;
        self.pacer = Some(pacer);
        Ok(())
    }

    async fn explore(
        &mut self,
        order: StartOrder,
        broadcaster: u64,
        cool_down: Duration,
        run: Duration,
        trials: &[TrialPlan],
        mut outgoing: mpsc::Sender<Outgoing>,
    ) -> Result<(), Failure> {
        let given = self.node.args.control.controlled || self.node.args.control.start_at_unix_millis.is_some();
        let start = if given {
            order.start_unix_nanos
        } else {
            // Nodes that start on their own agree on the next full cycle of the wall clock.
            let cycle = u64::try_from((cool_down + run).as_nanos()).unwrap_or(u64::MAX);
            order.start_unix_nanos.div_ceil(cycle).saturating_mul(cycle)
        };
        let mut first = true;
        for (number, plan) in trials.iter().enumerate() {
            let times = TrialTimes::new(start, number, cool_down, run);
            if times.from_unix_nanos < unix_nanos() {
                // A node that comes after the start takes part from the next trial on.
                continue;
            }
            if !std::mem::take(&mut first) {
                outgoing = self.rebuild_network(plan.message_size, times.from_unix_nanos).await?;
            }
            self.trial(number, *plan, times, broadcaster, outgoing.clone()).await?;
        }
        if self.node.args.control.controlled {
            // Whoever gave the start collects the results before the end.
            self.node.set_phase(Phase::Finished);
            return std::future::pending().await;
        }
        Ok(())
    }

    async fn trial(
        &mut self,
        number: usize,
        plan: TrialPlan,
        times: TrialTimes,
        broadcaster: u64,
        outgoing: mpsc::Sender<Outgoing>,
    ) -> Result<(), Failure> {
        let node = self.node.clone();
        let id = node.args.id;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let heartbeat = Duration::from_millis(plan.heartbeat_millis);
        // Nothing of a trial is sent after its window: what is late by then is missed.
        let TrialTimes { from_unix_nanos: from, to_unix_nanos: to, .. } = times;
        node.recorder.begin(Base::Zero, number, from, to, to);
        node.set_phase(Phase::CoolDown);
        node.metrics.explore_trial.set(number.into());
        if id == broadcaster {
            let turn = Turn::One(broadcaster);
            let slots = Slots::new(id, node.args.num_nodes, turn, heartbeat, from, from, Some(to)).peekable();
            node.metrics.broadcast_message_bytes.set(plan.message_size.cast_signed() as i64);
            node.metrics.broadcast_message_throughput.set(plan.throughput());
            let template = Template { sender: id, message_size: plan.message_size, trial: number };
            self.pace(slots, template, outgoing, to)?;
        }
        sleep_until(from).await;
        let readiness = node.readiness();
        if !readiness.is_ready() {
            warn!(trial = number, %readiness, "the network is not ready at the start of the trial");
        }
        node.window_opens();
        node.set_phase(Phase::Measuring);
        sleep_until(to).await;
        node.window_closes();
        node.set_phase(Phase::Draining);
        sleep_until(times.drained_unix_nanos).await;
        self.pacer = None;
        node.count_missed();
        let counts = node.recorder.counts();
        let usage = node.life().used_in_window(node.usage_now()).unwrap_or_default();
        let summary = TrialSummary {
            trial: number,
            plan,
            times,
            readiness,
            measured: counts.measured,
            pending: counts.pending,
            usage,
        };
        info!(trial = number, ?plan, "trial is over");
        node.life().trials.push(summary);
        node.write_summary().map_err(Failure::Other)
    }
}
