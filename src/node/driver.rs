//! Traffic of a node from its start to its end: it waits for the start, keeps the schedules, goes through the trials.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    error::Failure,
    explore::{TrialPlan, TrialTimes},
    pacer::{Pacer, Sending},
    plan::{ClassPlan, Pace, TrafficPlan},
    schedule::Turn,
    shared::Node,
    state::{NodeState, StartOrder},
    summary::TrialSummary,
    windows::MeasurementWindow,
    workload::Load,
};
use crate::{
    clock::{self, sleep, sleep_until_nanos, sleep_until_shortly_before, timeout, unix_nanos},
    message::Base,
    network::{Network, NetworkError, Outgoing, Readiness},
    simulation::spawn,
};

/// Time after the end of the window in which a late message may still be sent, in nanoseconds.
pub const SEND_GRACE: u64 = 1_000_000_000;

/// Maximum time from an arrival to its answer in the pacer's queue, in nanoseconds.
const ANSWER_MARGIN: u64 = 10_000_000;

/// Interval of checking a schedule that should be over by the deadline.
const PACER_POLL: Duration = Duration::from_millis(5);

/// Pause before the next attempt to use a port that is not free yet.
const REBUILD_RETRY: Duration = Duration::from_millis(50);

/// Maximum time to wait for the network to close at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Present network and schedule of a node.
pub(super) struct TrafficDriver {
    node: Arc<Node>,
    network: Option<Network>,
    pacer: Option<Pacer>,
}

impl TrafficDriver {
    /// A driver without a network yet.
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, network: None, pacer: None }
    }

    /// Starts the network; its queues fit messages of `message_size` bytes.
    pub(super) async fn build_network(&mut self, message_size: usize) -> Result<mpsc::Sender<Outgoing>, Failure> {
        let node = self.node.clone();
        let config = node.network_config(message_size);
        let (sender, receiver) = mpsc::channel(config.limits().queue_length());
        *node.outgoing() = Some(sender.downgrade());
        let starting = async move {
            let mut registry = node.args.scenario.network.gossipsub_metrics.then(Default::default);
            let traffic = node.recorder.clone();
            let network = Network::start(config, receiver, traffic, &node.metrics, registry.as_mut())?;
            *node.libp2p_registry() = registry;
            Ok::<Network, NetworkError>(network)
        };
        // In virtual time all tasks of a node belong to its host.
        let starting = if clock::is_virtual() { spawn(starting) } else { self.node.p2p.spawn(starting) };
        match starting.await {
            Ok(Ok(network)) => {
                let mut life = self.node.life();
                (life.readiness, life.unreached) = (network.readiness(), network.unreached());
                drop(life);
                self.network = Some(network);
                Ok(sender)
            }
            Ok(Err(error @ NetworkError::Listen { .. })) => Err(Failure::Usage(error.to_string())),
            Ok(Err(error)) => Err(Failure::Other(error.to_string())),
            Err(error) => Err(Failure::Other(format!("the network's runtime: {error}"))),
        }
    }

    /// Starts the network again on the port that it has just left. QUIC holds the port until its connections are
    /// drained, so this tries until `deadline`, in nanoseconds since the Unix epoch.
    async fn rebuild_network(&mut self, message_size: usize, deadline: u64) -> Result<mpsc::Sender<Outgoing>, Failure> {
        self.stop_network().await;
        loop {
            match self.build_network(message_size).await {
                Err(Failure::Usage(_)) if unix_nanos() < deadline => sleep(REBUILD_RETRY).await,
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

    pub(super) async fn end(&mut self) {
        if let Some(mut pacer) = self.pacer.take() {
            pacer.stop();
        }
        self.stop_network().await;
    }

    pub(super) async fn run(&mut self, outgoing: mpsc::Sender<Outgoing>) -> Result<(), Failure> {
        let order = self.wait_for_order().await;
        info!(?order, "traffic starts");
        match self.node.workload.load.clone() {
            Load::Steady { .. } => self.steady(order, outgoing).await,
            Load::Explore { broadcaster, cool_down, run, trials } => {
                self.explore(order, broadcaster, cool_down, run, &trials, outgoing).await
            }
        }
    }

    /// Waits for the start from the runner, or otherwise for the peers.
    async fn wait_for_order(&self) -> StartOrder {
        let node = &self.node;
        let mut orders = node.order.subscribe();
        if !node.args.controlled {
            let order = match node.args.start_at_unix_millis {
                Some(millis) => {
                    let start = millis.saturating_mul(1_000_000);
                    // Clocks of several hosts agree best on a time if they are read shortly before it.
                    sleep_until_shortly_before(start).await;
                    node.settle_clock();
                    StartOrder::at(start)
                }
                None => {
                    self.wait_until_ready().await;
                    StartOrder::at(unix_nanos())
                }
            };
            node.order(order);
        }
        // The sender lives as long as the node.
        let order = orders.wait_for(Option::is_some).await.ok().and_then(|order| order.clone());
        order.unwrap_or_else(|| StartOrder::at(unix_nanos()))
    }

    async fn wait_until_ready(&self) {
        let mut readiness = self.node.life().readiness.clone();
        let limit = self.node.args.ready_timeout();
        if timeout(limit, readiness.wait_for(Readiness::is_ready)).await.is_err() {
            warn!(readiness = %*readiness.borrow(), "not ready after {limit:?}: traffic starts nevertheless");
        }
    }

    async fn steady(&mut self, order: StartOrder, outgoing: mpsc::Sender<Outgoing>) -> Result<(), Failure> {
        let node = self.node.clone();
        let given = node.args.start_is_given();
        let (from, to) = (order.from_unix_nanos(), order.to_unix_nanos());
        let deadline = to.map_or(u64::MAX, |to| to.saturating_add(SEND_GRACE));
        let (born, now) = (node.recorder.born_unix_nanos(), unix_nanos());
        // Nodes that start on their own share only the wall clock: their turns and heartbeats follow it.
        let Some(plan) = node.workload.shared_plan(order.start_unix_nanos, to, given) else { return Ok(()) };
        if given {
            // A node that joins after the start has not missed the earlier messages.
            let base = if order.start_unix_nanos < now { Base::LowestSeen } else { Base::Zero };
            node.recorder.begin(&MeasurementWindow {
                base,
                trial: 0,
                from_unix_nanos: from,
                to_unix_nanos: to.unwrap_or(u64::MAX),
                send_deadline: deadline,
                boundaries: order.boundaries_unix_nanos(),
                plan: Some(plan.clone()),
                rejoined_from: order.rejoining.then(|| order.gone_since_unix_nanos.unwrap_or(born)),
            });
        }
        let late = (given && order.start_unix_nanos < now).then_some(now);
        // A node that joins late expects the messages from then on, and one that returns those since it was gone.
        let joined = late.or((!given).then_some(born));
        let since = if order.rejoining { order.gone_since_unix_nanos.or(joined) } else { joined };
        node.follow_plan(&plan, since.unwrap_or(0).max(order.start_unix_nanos), (from, to));
        self.send(&plan, late, to, deadline, outgoing)?;
        node.set_phase(NodeState::Waiting);
        sleep_until_nanos(order.start_unix_nanos).await;
        for (number, class) in plan.numbered() {
            node.metrics.broadcast_message_offered_throughput.of(number).set(node.offered(&plan, class));
        }
        node.set_phase(NodeState::WarmUp);
        sleep_until_nanos(from).await;
        if order.rejoining && from <= born && to.is_none_or(|to| born < to) {
            node.window_opened_before_birth();
        } else {
            node.window_opens();
        }
        node.set_phase(NodeState::Measuring);
        let Some(to) = to else { return std::future::pending().await };
        sleep_until_nanos(to).await;
        for (number, _) in plan.numbered() {
            node.metrics.broadcast_message_offered_throughput.of(number).set(0.0);
        }
        node.window_closes();
        // From then on the count of intended messages is final.
        while self.pacer.as_ref().is_some_and(|pacer| !pacer.is_over()) {
            sleep(PACER_POLL).await;
        }
        node.set_phase(NodeState::Draining);
        sleep_until_nanos(deadline).await;
        node.count_missed();
        std::future::pending().await
    }

    /// Starts to send all messages of this node. A node that is `late` continues at the place of the schedules that
    /// belongs to the present time.
    fn send(
        &mut self,
        plan: &Arc<TrafficPlan>,
        late: Option<u64>,
        to: Option<u64>,
        deadline: u64,
        outgoing: mpsc::Sender<Outgoing>,
    ) -> Result<(), Failure> {
        let node = &self.node;
        let id = node.args.id;
        let mut slots = vec![];
        let mut answers = None;
        for (number, class) in plan.numbered().filter(|(_, class)| class.senders().has(id)) {
            node.metrics.broadcast_message_bytes.of(number).set(class.message_size.mean().round() as i64);
            node.metrics.broadcast_message_throughput.of(number).set(throughput(class));
            match &class.pace {
                Pace::Schedule(schedule) => slots.push((number, schedule.slots(id, late.unwrap_or(0)).peekable())),
                Pace::After(_) => answers = Some(to.unwrap_or(u64::MAX)),
            }
        }
        let answers = answers.map(|until| {
            node.recorder.answer_until(until, late);
            (node.recorder.answers(), until.saturating_add(ANSWER_MARGIN))
        });
        if answers.is_none() && slots.iter_mut().all(|(_, slots)| slots.peek().is_none()) {
            return Ok(());
        }
        self.pace(Sending { sender: id, trial: 0, plan: plan.clone(), slots, answers, deadline }, outgoing)
    }

    fn pace(&mut self, sending: Sending, outgoing: mpsc::Sender<Outgoing>) -> Result<(), Failure> {
        let recorder = self.node.recorder.clone();
        let pacer = Pacer::start(sending, outgoing, recorder)
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
        let start = if self.node.args.start_is_given() {
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
                // A node that joins after the opening takes part from the next trial on.
                warn!(trial = number, "this node was not there when the window opened, and takes no part");
                continue;
            }
            if !std::mem::take(&mut first) {
                outgoing = self.rebuild_network(plan.message_size, times.from_unix_nanos).await?;
            }
            self.trial(number, *plan, times, broadcaster, outgoing.clone()).await?;
        }
        if self.node.args.controlled {
            // The runner that sent the start collects the results before the end.
            self.node.set_phase(NodeState::Finished);
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
        let traffic = Arc::new(plan.traffic_plan(node.args.scenario.nodes.count, broadcaster, &times));
        let joined_unix_nanos = unix_nanos();
        // No message of a trial is sent after its window: late ones are missed.
        let TrialTimes { from_unix_nanos: from, to_unix_nanos: to, .. } = times;
        node.recorder.begin(&MeasurementWindow {
            trial: number,
            from_unix_nanos: from,
            to_unix_nanos: to,
            send_deadline: to,
            plan: Some(traffic.clone()),
            ..MeasurementWindow::everything(Base::Zero)
        });
        node.set_phase(NodeState::CoolDown);
        node.follow_plan(&traffic, 0, (from, Some(to)));
        node.metrics.explore_trial.set(number.into());
        if id == broadcaster {
            node.metrics.broadcast_message_bytes.of(0).set(plan.message_size.cast_signed() as i64);
            node.metrics.broadcast_message_throughput.of(0).set(plan.throughput());
            let schedules = traffic.numbered().filter_map(|(number, class)| Some((number, class.schedule()?)));
            let slots = schedules.map(|(number, schedule)| (number, schedule.slots(id, 0).peekable())).collect();
            let sending = Sending { sender: id, trial: number, plan: traffic, slots, answers: None, deadline: to };
            self.pace(sending, outgoing)?;
        }
        sleep_until_nanos(times.warm_up_unix_nanos).await;
        node.set_phase(NodeState::WarmUp);
        if id == broadcaster {
            node.metrics.broadcast_message_offered_throughput.of(0).set(plan.throughput());
        }
        sleep_until_nanos(from).await;
        let readiness = node.readiness();
        if !readiness.is_ready() {
            warn!(trial = number, %readiness, "the network is not ready at the start of the trial");
        }
        node.window_opens();
        node.set_phase(NodeState::Measuring);
        sleep_until_nanos(to).await;
        node.metrics.broadcast_message_offered_throughput.of(0).set(0.0);
        node.window_closes();
        node.set_phase(NodeState::Draining);
        sleep_until_nanos(times.drained_unix_nanos).await;
        self.pacer = None;
        node.count_missed();
        let counted_unix_nanos = unix_nanos();
        let counts = node.recorder.counts();
        let usage = node.life().used_in_window(node.usage_now()).unwrap_or_default();
        let summary = TrialSummary {
            trial: number,
            plan,
            times,
            readiness,
            joined_unix_nanos,
            counted_unix_nanos,
            measured: counts.measured,
            pending: counts.pending,
            usage,
        };
        info!(trial = number, ?plan, "trial is over");
        node.life().trials.push(summary);
        node.write_summary().map_err(Failure::Other)
    }
}

/// Bytes per second that a class offers at a sender while it has the turn; 0 for a class whose times are not known in
/// advance.
fn throughput(class: &ClassPlan) -> f64 {
    let Some(schedule) = class.schedule() else { return 0.0 };
    let seconds = schedule.heartbeat_nanos as f64 / 1e9;
    class.message_size.mean() * class.burst() as f64 / seconds
}

impl Node {
    /// Bytes per second that a class offers at this node: its share of all turns.
    fn offered(&self, plan: &TrafficPlan, class: &ClassPlan) -> f64 {
        match class.senders() {
            senders if !senders.has(self.args.id) => 0.0,
            Turn::RoundRobin { .. } => throughput(class) / plan.num_nodes as f64,
            Turn::All | Turn::Nodes(_) => throughput(class),
        }
    }
}
