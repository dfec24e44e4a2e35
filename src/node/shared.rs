//! State that all parts of a node share.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::Registry;
use tokio::{
    runtime,
    sync::{Notify, Semaphore, mpsc, watch},
};

use super::{
    arrivals,
    config::NodeConfig,
    pending,
    plan::TrafficPlan,
    probe_gate::ProbeGate,
    profile::Profiler,
    propeller::PropellerSummary,
    recorder::Recorder,
    shared_workload::SharedWorkload,
    state::{NodeState, StartOrder},
    summary::{NODE_SCHEMA_VERSION, NodeSummary, PendingWork, TrialSummary, WindowUsage, write_json},
    workload::Load,
};
use crate::{
    access::RunToken,
    clock::{self, unix_nanos},
    environment::{Environment, congestion_control_to},
    machine::Machine,
    metrics::{self, DROP_REASONS, Labelled, MALFORMED_REASONS, Metrics, NETWORK_EVENTS, Usage, usage},
    network::{
        Backlog, NetworkConfig, Outgoing, PeerAddress, PropellerCounts, Readiness, Roster, UnreachedPeer, peer_id,
    },
    scenario::{Protocol, TrafficClass},
    simulation::network::held_bytes,
};

/// Maximum number of concurrent probes, each with a thread of its own.
const MOST_PROBES: usize = 1024;

/// State that all parts of a node share.
pub(super) struct Node {
    pub(super) args: NodeConfig,
    pub(super) registry: Registry,
    pub(super) workload: Arc<SharedWorkload>,
    pub(super) metrics: Metrics,
    pub(super) recorder: Arc<Recorder>,
    pub(super) roster: Arc<Roster>,
    pub(super) p2p: runtime::Handle,
    pub(super) worker_threads: usize,
    pub(super) order: watch::Sender<Option<StartOrder>>,
    pub(super) profiler: Option<Profiler>,
    /// Notified when the network is to be closed while the node lives on.
    pub(super) quiesce: Notify,
    /// Notified when the node is to end.
    pub(super) end: Notify,
    /// Its machine; none in a simulation, where no node has one.
    pub(super) machine: Option<Machine>,
    /// One permit for each running probe.
    pub(super) probes: Semaphore,
    pub(super) probe_gate: ProbeGate,
    /// Secret of a controlled node's runner; it stays here, and is in no argument, log or summary.
    pub(super) token: Option<RunToken>,
    pub(super) open_files: u64,
    pub(super) life: Mutex<Life>,
    pub(super) backlog: Backlog,
    pub(super) propeller: PropellerCounts,
    pub(super) outgoing: Mutex<Option<mpsc::WeakSender<Outgoing>>>,
    pub(super) libp2p_registry: Mutex<Option<prometheus_client::registry::Registry>>,
    pub(super) expectation: Mutex<Expectation>,
}

/// Parts of a node that depend on the place where it runs.
pub(super) struct Parts {
    pub(super) registry: Registry,
    pub(super) metrics: Metrics,
    pub(super) workload: Arc<SharedWorkload>,
    pub(super) roster: Arc<Roster>,
    pub(super) p2p: runtime::Handle,
    pub(super) worker_threads: usize,
    pub(super) profiler: Option<Profiler>,
    pub(super) token: Option<RunToken>,
    pub(super) open_files: u64,
    pub(super) machine: Option<Machine>,
}

/// Schedules whose messages this node should receive.
#[derive(Default)]
pub(super) struct Expectation {
    plan: Option<Arc<TrafficPlan>>,
    /// Messages intended from here on are expected, in nanoseconds since the Unix epoch.
    from: u64,
    /// Messages that are in the metric, by class.
    counted: Vec<u64>,
}

/// State that changes over a node's life.
pub(super) struct Life {
    pub(super) phase: NodeState,
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) unreached: watch::Receiver<Vec<UnreachedPeer>>,
    pub(super) trials: Vec<TrialSummary>,
    pub(super) usage_at_start: Option<WindowUsage>,
    pub(super) usage_at_end: Option<WindowUsage>,
}

impl Life {
    /// Resources used while the window was open, up to `now` if it is still open.
    pub(super) fn used_in_window(&self, now: WindowUsage) -> Option<WindowUsage> {
        Some(self.usage_at_end.unwrap_or(now).since(&self.usage_at_start?))
    }
}

impl Node {
    /// A node before its network exists.
    pub(super) fn new(args: NodeConfig, parts: Parts) -> Self {
        let Parts { registry, metrics, workload, roster, p2p, worker_threads, profiler, token, open_files, machine } =
            parts;
        let recorder = Recorder::new(args.id, args.run_id, roster.clone(), metrics.clone());
        let max_arrivals = arrivals::capacity(args.scenario.measurement.max_arrivals, args.scenario.nodes.count);
        let mut recorder = recorder.with_traffic(workload.shared_reach()).with_arrivals(max_arrivals);
        if args.controlled {
            // Nodes of other programs, which name no run, can't receive a start: they are in no controlled network.
            recorder = recorder.named_run_only(workload.smallest_message_size());
            recorder.remember_early();
        }
        Self {
            registry,
            workload,
            metrics,
            recorder: Arc::new(recorder),
            roster,
            p2p,
            worker_threads,
            order: watch::Sender::new(None),
            profiler,
            quiesce: Notify::new(),
            end: Notify::new(),
            machine,
            probes: Semaphore::new(MOST_PROBES),
            probe_gate: ProbeGate::new(args.scenario.nodes.count),
            token,
            open_files,
            life: Mutex::new(Life {
                phase: NodeState::Connecting,
                readiness: watch::channel(Readiness { expected_peers: usize::MAX, ..Readiness::default() }).1,
                unreached: watch::channel(vec![]).1,
                trials: vec![],
                usage_at_start: None,
                usage_at_end: None,
            }),
            backlog: Backlog::default(),
            propeller: PropellerCounts::default(),
            outgoing: Mutex::new(None),
            libp2p_registry: Mutex::new(None),
            expectation: Mutex::default(),
            args,
        }
    }

    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// State of the node.
    pub(super) fn phase(&self) -> NodeState {
        self.life().phase
    }

    pub(super) fn set_phase(&self, phase: NodeState) {
        self.life().phase = phase;
    }

    /// Readiness of the network.
    pub(super) fn readiness(&self) -> Readiness {
        *self.life().readiness.borrow()
    }

    /// Begins the run: the clock no longer follows the wall clock, and its earlier movements are no part of the run.
    pub(super) fn settle_clock(&self) {
        if clock::settled_base().is_none() {
            clock::settle();
            self.machine.iter().for_each(Machine::begin);
        }
    }

    /// Peers that could not be reached, with the causes.
    pub(super) fn unreached(&self) -> Vec<UnreachedPeer> {
        self.life().unreached.borrow().clone()
    }

    /// Accepts the start; `false` if the node has another one.
    pub(super) fn order(&self, order: StartOrder) -> bool {
        let mut taken = false;
        self.order.send_if_modified(|current| {
            // A rejoining node may receive its start twice, if it was slow to answer the first time.
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

    /// Follows the schedules of `plan` from `from` on, a time in nanoseconds since the Unix epoch, until they are replaced
    /// by those of the next trial. The measured window is from `window.0` to `window.1`.
    pub(super) fn follow_plan(&self, plan: &Arc<TrafficPlan>, from: u64, window: (u64, Option<u64>)) {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        self.metrics.run_window_begin_seconds.set(seconds(window.0));
        self.metrics.run_window_end_seconds.set(window.1.map_or(f64::INFINITY, seconds));
        for (number, class) in plan.numbered() {
            let deadline = class.deadline_millis.map_or(0.0, |millis| millis as f64 / 1e3);
            self.metrics.broadcast_message_deadline_seconds.of(number).set(deadline);
        }
        self.count_expected();
        *self.expectation() = Expectation { plan: Some(plan.clone()), from, counted: vec![0; plan.classes.len()] };
    }

    fn expectation(&self) -> MutexGuard<'_, Expectation> {
        self.expectation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the messages that have become due since the last call to the metric of expected messages.
    fn count_expected(&self) {
        let now = unix_nanos();
        let mut expectation = self.expectation();
        let Expectation { plan: Some(plan), from, counted } = &mut *expectation else { return };
        for ((number, _), counted) in plan.numbered().zip(counted) {
            let Some(due) = plan.expected_by(number, self.args.id, *from, now.max(*from)) else { continue };
            self.metrics.receive_message_expected_count.of(number).inc_by(due.saturating_sub(*counted));
            *counted = due.max(*counted);
        }
    }

    /// Updates the metrics that are read only on request.
    pub(super) fn refresh(&self) {
        self.count_expected();
        for (class, pending) in (0..).zip(self.recorder.pending()) {
            let gauge = self.metrics.receive_message_pending_count.of(class);
            gauge.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
        if self.args.scenario.network.tokio_metrics {
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

    /// libp2p's own metrics, if requested.
    pub(super) fn libp2p_registry(&self) -> MutexGuard<'_, Option<prometheus_client::registry::Registry>> {
        self.libp2p_registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Environment of the machine, read once.
    fn environment(&self) -> &'static Environment {
        static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
        ENVIRONMENT.get_or_init(|| {
            let own = self.args.p2p_address;
            let peer = self.args.bootstrap.iter().filter_map(PeerAddress::ip).find(|ip| *ip != own);
            let environment = Environment::of_this_process();
            // QUIC has a congestion control of its own.
            let of_tcp = || peer.and_then(congestion_control_to).or(environment.congestion_control.clone());
            Environment { congestion_control: if self.args.is_quic() { None } else { of_tcp() }, ..environment }
        })
    }

    /// Summary of everything counted so far.
    pub(super) fn summary(&self) -> NodeSummary {
        let (readiness, unreached) = (self.readiness(), self.unreached());
        // Read before the counts, so that none of them is newer.
        let (phase, counted_unix_nanos) = (self.phase(), unix_nanos());
        let counts = self.recorder.counts();
        let mut configuration = self.args.clone();
        configuration.scenario.nodes.worker_threads = u16::try_from(self.worker_threads).ok();
        let configuration = serde_json::to_value(configuration).unwrap_or_default();
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
            environment: self.machine.as_ref().map(|_| self.environment().clone()),
            phase,
            readiness,
            counted_unix_nanos,
            pending_work: matches!(phase, NodeState::Draining | NodeState::Finished).then(|| self.pending_work()),
            unreached,
            slow_peers: self.recorder.slow_peers(),
            gossipsub: self.libp2p_registry().as_ref().map(metrics::gossipsub_counters).unwrap_or_default(),
            start: self.order.borrow().clone(),
            measured: counts.measured,
            outside: counts.outside,
            // In explore mode the trials replace the phases.
            phases: if matches!(self.workload.load, Load::Explore { .. }) { vec![] } else { counts.phases },
            pending: counts.pending,
            senders: counts.senders,
            classes: counts.classes,
            trials: life.trials.clone(),
            window_usage: life.used_in_window(used),
            usage: self.usage(),
            dropped: by_label(&self.metrics.network_dropped_broadcast_messages, DROP_REASONS),
            malformed: by_label(&self.metrics.receive_message_malformed_count, MALFORMED_REASONS),
            machine: self.machine.as_ref().map(Machine::report),
            events: by_label(&self.metrics.network_event_counter, NETWORK_EVENTS),
            propeller: self
                .uses(Protocol::Propeller)
                .then(|| PropellerSummary::new(&self.propeller.totals(), &self.roster)),
        }
    }

    /// Writes the summary file completely or not at all.
    pub(super) fn write_summary(&self) -> Result<(), String> {
        let Some(path) = &self.args.summary else { return Ok(()) };
        // A node that waits for the next run keeps the file of the last one.
        if self.args.controlled && self.order.borrow().is_none() && path.exists() {
            return Ok(());
        }
        write_json(path, &self.summary()).map_err(|error| format!("--summary {}: {error}", path.display()))
    }

    /// True if a class goes over gossipsub, signed: copies of messages without a source can't be told from own ones.
    fn gossips(&self) -> bool {
        self.args.scenario.network.gossipsub.signing && self.uses(Protocol::Gossipsub)
    }

    /// True if a class goes over this protocol.
    fn uses(&self, protocol: Protocol) -> bool {
        let scenario = &self.args.scenario;
        let of_class = |class: &TrafficClass| class.protocol.unwrap_or(scenario.network.protocol);
        match &scenario.explore {
            Some(_) => scenario.network.protocol == protocol,
            None => scenario.traffic.iter().any(|class| of_class(class) == protocol),
        }
    }

    /// Resources of this process; nothing in a simulation, where they are unknown.
    fn usage(&self) -> Usage {
        if self.machine.is_some() { usage() } else { Usage::default() }
    }

    pub(super) fn usage_now(&self) -> WindowUsage {
        let tcp = !self.args.is_quic();
        WindowUsage {
            cpu_seconds: self.usage().cpu_seconds,
            socket_bytes_sent: tcp.then(|| self.metrics.network_socket_bytes_sent_total.get()),
            socket_bytes_received: tcp.then(|| self.metrics.network_socket_bytes_received_total.get()),
            gossip_copies: self.gossips().then(|| self.metrics.gossipsub_message_copies_received_total.get()),
        }
    }

    /// Adds the unsent messages of the ended window to the metric of missed messages.
    pub(super) fn count_missed(&self) {
        for (class, unsent) in (0..).zip(self.recorder.unsent()) {
            self.metrics.broadcast_message_missed_count.of(class).inc_by(unsent);
        }
    }

    pub(super) fn window_opens(&self) {
        self.window_opened(self.usage_now());
    }

    /// Used if the window was open when the process began: then all its usage was inside.
    pub(super) fn window_opened_before_birth(&self) {
        let tcp = !self.args.is_quic();
        let nothing = tcp.then_some(0);
        self.window_opened(WindowUsage {
            cpu_seconds: 0.0,
            socket_bytes_sent: nothing,
            socket_bytes_received: nothing,
            gossip_copies: self.gossips().then_some(0),
        });
    }

    fn window_opened(&self, usage: WindowUsage) {
        self.machine.iter().for_each(Machine::window_opens);
        self.propeller.begin();
        let mut life = self.life();
        life.usage_at_start = Some(usage);
        life.usage_at_end = None;
    }

    pub(super) fn window_closes(&self) {
        self.machine.iter().for_each(Machine::window_closes);
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
            listen_address: args.p2p_address,
            port: args.p2p_port,
            bootstrap: self.args.neighbours(&self.workload),
            quic: args.is_quic(),
            channels: self.workload.channels(args.scenario.network.protocol, message_size),
            validation_delay: self.args.validation_delay(),
            propeller_stale: Duration::from_secs(args.scenario.network.propeller.stale_seconds),
            propeller_counts: self.propeller.clone(),
            gossip: args.scenario.network.gossipsub.clone(),
            queue_bytes: usize::try_from(args.scenario.network.queue_bytes).unwrap_or(usize::MAX),
            queue_messages: usize::try_from(args.scenario.nodes.buffer_size).unwrap_or(usize::MAX),
            backlog: self.backlog.clone(),
        }
    }

    /// Work of this node that is not finished.
    fn pending_work(&self) -> PendingWork {
        let queue = self.outgoing().as_ref().and_then(mpsc::WeakSender::upgrade);
        let waiting = queue.map_or(0, |queue| queue.max_capacity() - queue.capacity());
        PendingWork {
            queued: self.backlog.count().saturating_add(waiting as u64),
            socket_bytes: match &self.machine {
                Some(_) if self.args.is_quic() => None,
                Some(_) => pending::socket_bytes(self.args.metric_port),
                None => held_bytes(self.args.p2p_address),
            },
        }
    }

    /// Queue between the schedule and the network, while it exists.
    pub(super) fn outgoing(&self) -> MutexGuard<'_, Option<mpsc::WeakSender<Outgoing>>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
