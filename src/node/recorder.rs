//! Counts of the node: every message that it sends and every one that arrives.
//!
//! The *intended* send time alone decides the window of a message, and sender and receiver both know it. So the sent
//! and the received messages of a window are counts of the same messages, even if they arrive late.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use libp2p::PeerId;

use super::{
    answers::{Answers, Due, Incomplete},
    arrivals::{Arrival, ArrivalLog, ArrivalReport, logs},
    plan::TrafficPlan,
    schedule::{SendPlan, Turn},
    summary::{ClassSummary, PhaseSummary, SenderSummary, SlowPeer, WindowSummary},
    windows::{Delivery, MeasurementWindow, Windows},
};
use crate::{
    clock::unix_nanos,
    message::{Base, Claim, DeliveryKind, DeliveryTracker, Extension, HEADER_SIZE, Message},
    metrics::Metrics,
    network::{Handover, Outgoing, Roster, Traffic},
};

/// Bound of the difference between the clocks of two hosts, in nanoseconds: a runner refuses a quarter of a second.
const CLOCK_MARGIN: u64 = 60_000_000_000;

/// Maximum number of arrivals before its start that a node remembers, in case it is a rejoining one: below 6 MiB.
pub(super) const MOST_EARLY: usize = 1 << 16;

/// Counts of one traffic class.
#[derive(Debug)]
struct ClassState {
    tracker: DeliveryTracker,
    windows: Windows,
    arrivals: ArrivalLog,
    /// Messages that this node has handed to the network since its counts began, by the set of receivers they went to.
    sent: Vec<u64>,
    /// Incomplete logical messages that another class answers.
    incomplete: Incomplete,
    /// Index of the first part of the next answer.
    next_answer: u64,
}

#[derive(Debug)]
pub(super) struct State {
    classes: Vec<ClassState>,
    send_deadline: u64,
    trial: u32,
    /// Traffic, as far as its times are known.
    plan: Option<Arc<TrafficPlan>>,
    /// End of the time in which this node answers; none if it does not.
    answers_until: Option<u64>,
    /// Messages before the start, as long as the node may be a rejoining one, and the run that each named.
    pub(super) early: Option<Vec<(Option<u64>, u16, Delivery)>>,
}

impl State {
    fn new(window: &MeasurementWindow, traffic: &TrafficPlan, id: u64, max_arrivals: usize) -> Self {
        // A window without an end has no runner that reads the arrivals.
        let capacity = if window.to_unix_nanos == u64::MAX { 0 } else { max_arrivals };
        let of_class = |((number, class), arrivals): ((u16, &super::plan::ClassPlan), ArrivalLog)| ClassState {
            tracker: DeliveryTracker::new(window.base),
            windows: Windows::new(window, class.deadline_nanos()),
            arrivals,
            sent: vec![0; usize::try_from(traffic.destinations(number, id)).unwrap_or(1)],
            incomplete: Incomplete::default(),
            next_answer: 0,
        };
        Self {
            classes: traffic.numbered().zip(logs(traffic, capacity)).map(of_class).collect(),
            send_deadline: window.send_deadline,
            trial: window.trial,
            plan: window.plan.clone(),
            answers_until: None,
            early: None,
        }
    }

    fn class(&mut self, class: u16) -> Option<&mut ClassState> {
        self.classes.get_mut(usize::from(class))
    }

    fn count(&mut self, class: u16, message: &Delivery) -> DeliveryKind {
        let Some(state) = self.class(class) else { return DeliveryKind::Undecided };
        let kind = state.tracker.record(message.sender, message.index, message.claim);
        state.windows.received(message, kind);
        if kind.is_first()
            && state.windows.measures(message.intended)
            && state.arrivals.wants(message.sender, message.number)
        {
            state.arrivals.push(Arrival {
                sender: message.sender,
                index: message.number,
                intended_unix_nanos: message.intended,
                arrived_unix_nanos: message.now,
                first_peer: message.from,
                send_lag_micros: message.send_lag,
            });
        }
        kind
    }

    /// Answers of node `id`, one of each of these classes, to a logical message that is complete since `now`.
    fn answer(&mut self, traffic: &TrafficPlan, id: u64, classes: &[u16], now: u64) -> Vec<Due> {
        let Some(until) = self.answers_until.filter(|until| now < *until) else { return vec![] };
        let mut all = vec![];
        for number in classes.iter().copied() {
            let Some(plan) = traffic.class(number) else { continue };
            let Some(answer) = plan.answer().filter(|answer| answer.senders.has(id)) else { continue };
            let Some(state) = self.class(number) else { continue };
            let index = state.next_answer;
            state.next_answer = index.saturating_add(plan.burst());
            // Every message that is due is counted here, with or without room for it.
            let times =
                (0..plan.burst()).map(|part| now.saturating_add(part.saturating_mul(answer.burst_spacing_nanos)));
            let times: Vec<u64> = times.take_while(|time| *time < until).collect();
            times.iter().for_each(|time| state.windows.intended(*time));
            all.push(Due {
                intended_unix_nanos: now,
                class: number,
                index,
                parts: times.len() as u64,
                spacing_nanos: answer.burst_spacing_nanos,
            });
        }
        all
    }
}

/// All counts of a node's messages.
#[derive(Debug)]
pub struct Recorder {
    id: u64,
    run_id: AtomicU64,
    own_run: OwnRun,
    roster: Arc<Roster>,
    pub(super) metrics: Metrics,
    born: u64,
    /// Classes and receivers of the messages; the times may not be known yet.
    traffic: Arc<TrafficPlan>,
    /// Classes that answer each class.
    answered_by: Vec<Vec<u16>>,
    answers: Arc<Answers>,
    /// Maximum number of arrivals that are recorded one by one.
    max_arrivals: usize,
    /// Copies that the queues to each node did not send; the roster bounds its length.
    slow: Mutex<BTreeMap<u64, u64>>,
    state: Mutex<State>,
}

fn answered_by(traffic: &TrafficPlan) -> Vec<Vec<u16>> {
    traffic.numbered().map(|(class, _)| traffic.answers(class)).collect()
}

/// Messages that a recorder accepts as those of its own run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnRun {
    /// All that do not name another run, such as messages of other programs.
    NotAnother,
    /// Only those that name its run. Messages of this run that are too small to name it have this size.
    Named { small: Option<usize> },
}

/// A snapshot of the counts, of all classes together.
#[derive(Debug)]
pub struct Counts {
    /// The measured window.
    pub measured: WindowSummary,
    /// Everything outside of the measured window.
    pub outside: WindowSummary,
    /// The phases of the measured window.
    pub phases: Vec<PhaseSummary>,
    /// Missing messages.
    pub pending: u64,
    /// Counts of each sender and class.
    pub senders: Vec<SenderSummary>,
    /// Counts of each class; empty if the network has one class.
    pub classes: Vec<ClassSummary>,
}

impl Recorder {
    /// Makes a recorder for node `id` of `roster`. Until a window is set, everything is measured, and a sender's count
    /// starts with the lowest index seen. `run_id` 0 accepts messages of any run.
    pub fn new(id: u64, run_id: u64, roster: Arc<Roster>, metrics: Metrics) -> Self {
        let num_nodes = roster.peers().len() as u64;
        let traffic = Arc::new(TrafficPlan::only(SendPlan::new(num_nodes, Turn::All, 1), HEADER_SIZE));
        let state = Mutex::new(State::new(&MeasurementWindow::everything(Base::LowestSeen), &traffic, id, 0));
        let (run_id, own_run) = (AtomicU64::new(run_id), OwnRun::NotAnother);
        let (answered_by, answers) = (answered_by(&traffic), Arc::default());
        Self {
            id,
            run_id,
            own_run,
            roster,
            metrics,
            born: unix_nanos(),
            traffic,
            answered_by,
            answers,
            max_arrivals: 0,
            slow: Mutex::default(),
            state,
        }
    }

    /// Counts by the classes of `traffic`, and accepts from each sender only messages that its class can send here.
    pub fn with_traffic(self, traffic: Arc<TrafficPlan>) -> Self {
        let state = Mutex::new(State::new(&MeasurementWindow::everything(Base::LowestSeen), &traffic, self.id, 0));
        Self { answered_by: answered_by(&traffic), traffic, state, ..self }
    }

    /// Records up to `max_arrivals` arrivals of the measured window one by one.
    pub fn with_arrivals(self, max_arrivals: usize) -> Self {
        Self { max_arrivals, ..self }
    }

    /// Accepts only messages that name its run, as soon as it has one. If messages of `message_size` bytes are too
    /// small to name it, those of exactly that size are accepted too: they can't be distinguished from those of another
    /// run.
    pub fn named_run_only(self, message_size: Option<usize>) -> Self {
        let small = message_size.filter(|size| *size < HEADER_SIZE + Extension::SIZE);
        Self { own_run: OwnRun::Named { small }, ..self }
    }

    /// Number of the run; 0 if it has none yet.
    pub fn run_id(&self) -> u64 {
        self.run_id.load(Ordering::Relaxed)
    }

    /// Sets the number of the run.
    pub fn set_run_id(&self, run_id: u64) {
        self.run_id.store(run_id, Ordering::Relaxed);
    }

    /// True if a message of `size` bytes that names this run, or none, belongs to another one.
    fn is_of_another_run(&self, named: Option<u64>, size: usize) -> bool {
        let own = self.run_id();
        match (self.own_run, named) {
            _ if own == 0 => false,
            (OwnRun::NotAnother, named) => named.is_some_and(|named| named != 0 && named != own),
            (OwnRun::Named { .. }, Some(named)) => named != own,
            (OwnRun::Named { small }, None) => small != Some(size),
        }
    }

    /// Time at which this recorder was made, in nanoseconds since the Unix epoch.
    pub fn born_unix_nanos(&self) -> u64 {
        self.born
    }

    /// Remembers arrivals before the start, up to a bound: a node that rejoins a running network receives messages
    /// before it learns when that network started.
    pub fn remember_early(&self) {
        self.lock().early = Some(vec![]);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts the counts, for a run or trial that all nodes start together.
    pub fn begin(&self, window: &MeasurementWindow) {
        let mut state = self.lock();
        let early = state.early.take().unwrap_or_default();
        self.answers.clear();
        *state = State::new(window, &self.traffic, self.id, self.max_arrivals);
        if window.rejoined_from.is_some() {
            // The node may have learned its run only with the start.
            let own = |(named, _, message): &&(Option<u64>, u16, Delivery)| {
                !self.is_of_another_run(*named, usize::try_from(message.size).unwrap_or(usize::MAX))
            };
            for (_, class, message) in early.iter().filter(own) {
                state.count(*class, message);
            }
        }
    }

    /// Answers messages that arrive before `until`, in nanoseconds since the Unix epoch. A rejoining node continues
    /// after all indices that it can have used until `now`.
    pub(crate) fn answer_until(&self, until: u64, rejoined_at: Option<u64>) {
        let mut state = self.lock();
        state.answers_until = Some(until);
        if let (Some(now), Some(plan)) = (rejoined_at, state.plan.clone()) {
            for (number, class) in plan.numbered() {
                if let Some(known) = state.class(number).filter(|_| class.answer().is_some()) {
                    known.next_answer = plan.first_answer_after(number, now);
                }
            }
        }
    }

    /// Answers that are due.
    pub(crate) fn answers(&self) -> Arc<Answers> {
        self.answers.clone()
    }

    /// Counts a message of the schedule that has become due, at `intended` nanoseconds since the Unix epoch.
    pub fn intended(&self, class: u16, intended_unix_nanos: u64) {
        if let Some(state) = self.lock().class(class) {
            state.windows.intended(intended_unix_nanos);
        }
    }

    /// Present counts.
    pub fn counts(&self) -> Counts {
        // Encoding takes long, and the network's tasks must not wait for it.
        let state = self.lock();
        let snapshot = |class: &ClassState| (class.windows.clone(), class.tracker.pending());
        let of_classes: Vec<(Windows, u64)> = state.classes.iter().map(snapshot).collect();
        let counted: Vec<Vec<_>> = state.classes.iter().map(|class| class.tracker.senders().collect()).collect();
        drop(state);
        let mut senders = vec![];
        for (class, counted) in (0..).zip(counted) {
            senders.extend(counted.into_iter().map(|(sender, counts)| SenderSummary {
                sender,
                class,
                unique: counts.unique,
                duplicates: counts.duplicates,
                reordered: counts.reordered,
                gaps: counts.gaps,
                pending: counts.pending,
                highest: counts.highest,
            }));
        }
        let pending = of_classes.iter().fold(0, |sum: u64, (_, pending)| sum.saturating_add(*pending));
        let mut all = of_classes.iter().map(|(windows, _)| windows);
        let mut total =
            all.next().cloned().unwrap_or_else(|| Windows::new(&MeasurementWindow::everything(Base::Zero), None));
        all.for_each(|windows| total.add(windows));
        let class = |(class, (windows, pending)): (&super::plan::ClassPlan, &(Windows, u64))| ClassSummary {
            name: class.name.clone(),
            measured: windows.measured.summary(),
            outside: windows.outside.summary(),
            phases: windows.phases(),
            pending: *pending,
        };
        let several = of_classes.len() > 1;
        let classes = self.traffic.classes.iter().zip(&of_classes).filter(|_| several).map(class).collect();
        Counts {
            measured: total.measured.summary(),
            outside: total.outside.summary(),
            phases: total.phases(),
            pending,
            senders,
            classes,
        }
    }

    /// Peers whose queue at this node failed.
    pub(super) fn slow_peers(&self) -> Vec<SlowPeer> {
        let slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        slow.iter().map(|(node, copies)| SlowPeer { node: *node, copies: *copies }).collect()
    }

    /// Arrivals that were recorded one by one.
    pub fn arrivals(&self) -> ArrivalReport {
        // Making the columns takes long, and the network's tasks must not wait for it.
        let logs: Vec<ArrivalLog> = self.lock().classes.iter().map(|class| class.arrivals.clone()).collect();
        ArrivalReport::of(self.id, &logs)
    }

    /// Messages of the measured window that were due and are not sent, by class number.
    pub fn unsent(&self) -> Vec<u64> {
        let of_class = |class: &ClassState| {
            let counts = &class.windows.measured.counts;
            counts.intended.saturating_sub(counts.sent).saturating_sub(counts.dropped)
        };
        self.lock().classes.iter().map(of_class).collect()
    }

    /// True if no window ever ends the sending.
    pub fn sends_without_end(&self) -> bool {
        self.lock().send_deadline == u64::MAX
    }

    /// Messages that are missing now, by class number.
    pub fn pending(&self) -> Vec<u64> {
        self.lock().classes.iter().map(|class| class.tracker.pending()).collect()
    }

    /// Reason why an arrival does not belong to this run, if it does not.
    fn rejection_reason(
        &self,
        source: Option<PeerId>,
        class: u16,
        message: &Message,
        size: usize,
    ) -> Option<&'static str> {
        let sender = message.header.sender;
        let known = if sender == self.id { None } else { self.roster.peer(sender) };
        match (known, source) {
            (None, _) => return Some("unknown_sender"),
            (Some(peer), Some(source)) if peer != source => return Some("wrong_sender"),
            _ => {}
        }
        let named = message.extension.map(|extension| extension.run_id);
        if self.is_of_another_run(named, size) {
            return Some("other_run");
        }
        if self.traffic.class(class).is_none() {
            return Some("unknown_class");
        }
        (!self.traffic.expects(class, sender, self.id, message.header.index)).then_some("not_for_this_node")
    }

    /// Largest possible index of a message that arrives at `now`, in nanoseconds since the Unix epoch: by the schedule,
    /// or otherwise that of a sender that has sent every millisecond since 1970.
    fn largest_index(&self, plan: Option<&TrafficPlan>, class: u16, now: u64) -> u64 {
        let now = now.saturating_add(CLOCK_MARGIN);
        let of_own_start = |plan: &TrafficPlan| plan.largest_index(class, now);
        plan.map_or_else(|| (now / 1_000_000).saturating_mul(self.most_of_a_beat(class)), of_own_start)
    }

    /// Maximum number of messages of one sender of a class in one heartbeat of a schedule.
    fn most_of_a_beat(&self, class: u16) -> u64 {
        // Schedules of one heartbeat before the beginning of time, with answers to it.
        self.traffic.most_logical(class, 0).saturating_mul(self.traffic.class(class).map_or(1, |class| class.burst()))
    }

    /// Counts a message that arrived at `now`, in nanoseconds since the Unix epoch.
    fn count(&self, from: Option<PeerId>, class: u16, message: &Message, size: u64, now: u64) {
        let (sender, index) = (message.header.sender, message.header.index);
        let delivery = Delivery {
            sender,
            index: self.traffic.index_at_receiver(class, sender, index),
            number: index,
            from: from.and_then(|from| self.roster.id(&from)),
            intended: message.header.intended_unix_nanos,
            now,
            size,
            send_lag: message.extension.map(|extension| extension.send_lag_micros),
            claim: message.extension.map(|Extension { life, sent_before, .. }| Claim { life, sent_before }),
        };
        let mut state = self.lock();
        let refused = if message.extension.is_some_and(|extension| u32::from(extension.trial) != state.trial) {
            Some("other_trial")
        } else {
            (index > self.largest_index(state.plan.as_deref(), class, now)).then_some("impossible_index")
        };
        if let Some(reason) = refused {
            drop(state);
            self.metrics.receive_message_malformed_count.of(reason).inc();
            return;
        }
        let kind = state.count(class, &delivery);
        if let Some(early) = &mut state.early
            && early.len() < MOST_EARLY
        {
            early.push((message.extension.map(|extension| extension.run_id), class, delivery));
        }
        let answers = if kind.is_first() { self.answers_to(&mut state, class, sender, index, now) } else { vec![] };
        drop(state);
        answers.into_iter().for_each(|answer| self.answers.push(answer));

        let metrics = &self.metrics;
        match kind {
            DeliveryKind::Duplicate => metrics.receive_message_duplicate_count.of(class).inc(),
            DeliveryKind::Undecided => metrics.receive_message_undecided_count.of(class).inc(),
            DeliveryKind::InOrder | DeliveryKind::Ahead | DeliveryKind::Reordered => {
                metrics.receive_message_count.of(class).inc();
                metrics.receive_message_bytes.of(class).set(size.cast_signed());
                metrics.receive_message_bytes_sum.of(class).inc_by(size);
                metrics.receive_message_delay_seconds.of(class).observe(delivery.delay_nanos() as f64 / 1e9);
                match kind {
                    DeliveryKind::Reordered => metrics.receive_message_reordered_count.of(class).inc(),
                    DeliveryKind::Ahead => metrics.receive_message_gap_count.of(class).inc(),
                    _ => {}
                }
                if delivery.is_negative() {
                    metrics.receive_message_negative_delay_count.of(class).inc();
                }
            }
        }
    }

    fn answered_by(&self, class: u16) -> &[u16] {
        self.answered_by.get(usize::from(class)).map_or(&[], Vec::as_slice)
    }

    /// Answers that become due with the first copy of a message.
    fn answers_to(&self, state: &mut State, class: u16, sender: u64, index: u64, now: u64) -> Vec<Due> {
        let Some(plan) = self.traffic.class(class).filter(|_| state.answers_until.is_some()) else { return vec![] };
        let answering = self.answered_by(class);
        if answering.is_empty() {
            return vec![];
        }
        let (burst, number) = (plan.burst(), index / plan.burst());
        let parts = number.saturating_mul(burst)..number.saturating_add(1).saturating_mul(burst);
        let parts = self.traffic.share(class, sender, self.id, parts);
        let whole = state.class(class).is_some_and(|state| state.incomplete.is_last(sender, number, parts));
        if whole { state.answer(&self.traffic, self.id, answering, now) } else { vec![] }
    }

    /// Set of receivers of a message.
    fn destination(&self, message: &Outgoing) -> usize {
        let destinations = self.traffic.destinations(message.class, self.id);
        usize::try_from(message.index % destinations).unwrap_or(0)
    }

    /// Writes the facts of the sending at `now`, in nanoseconds since the Unix epoch, into a message for its receiver.
    /// `false` if it is too late to send it.
    pub(crate) fn stamp(&self, message: &mut Outgoing, now: u64) -> bool {
        let sent_before = {
            let state = self.lock();
            if now > state.send_deadline {
                return false;
            }
            let sent = state.classes.get(usize::from(message.class)).map(|class| &class.sent);
            sent.and_then(|sent| sent.get(self.destination(message)).copied()).unwrap_or(0)
        };
        message.handed_over_unix_nanos = now;
        let extension = Extension {
            run_id: self.run_id(),
            class: message.class,
            trial: u16::try_from(message.trial).unwrap_or(u16::MAX),
            send_lag_micros: message.send_lag_nanos() / 1000,
            life: self.born,
            sent_before,
        };
        extension.write_to(&mut message.bytes[HEADER_SIZE..]);
        true
    }

    /// Counts a message that arrived at `now`, in nanoseconds since the Unix epoch.
    pub(crate) fn received_at(
        &self,
        source: Option<PeerId>,
        from: Option<PeerId>,
        class: Option<u16>,
        bytes: &[u8],
        now: u64,
    ) {
        let refused = match Message::decode(bytes) {
            Ok(message) => {
                // A message without room for an extension belongs to a network with a single class.
                let class = message.extension.map(|extension| extension.class).or(class).unwrap_or(0);
                match self.rejection_reason(source, class, &message, bytes.len()) {
                    None => return self.count(from, class, &message, bytes.len() as u64, now),
                    Some(reason) => reason,
                }
            }
            Err(_) => "not_a_message",
        };
        self.metrics.receive_message_malformed_count.of(refused).inc();
    }
}

impl Traffic for Recorder {
    fn about_to_send(&self, message: &mut Outgoing) -> bool {
        self.stamp(message, unix_nanos())
    }

    fn handed_over(&self, message: &Outgoing, size: u64, handover: Handover) {
        let (late, lag_nanos) = (message.is_late(), message.send_lag_nanos());
        let destination = self.destination(message);
        let answers = {
            let mut state = self.lock();
            let Some(class) = state.class(message.class) else { return };
            if handover.queued == 0 {
                class.windows.dropped(message.intended_unix_nanos);
                return;
            }
            class.sent.get_mut(destination).into_iter().for_each(|sent| *sent += 1);
            class.windows.sent(message.intended_unix_nanos, size, late, lag_nanos / 1000, handover.dropped);
            if class.windows.measures(message.intended_unix_nanos) && class.arrivals.wants(self.id, message.index) {
                class.arrivals.push(Arrival {
                    sender: self.id,
                    index: message.index,
                    intended_unix_nanos: message.intended_unix_nanos,
                    arrived_unix_nanos: message.handed_over_unix_nanos,
                    first_peer: None,
                    send_lag_micros: Some(lag_nanos / 1000),
                });
            }
            let burst = self.traffic.class(message.class).map_or(1, |class| class.burst());
            let is_last_part = message.index % burst == burst - 1;
            // A publisher has its own message.
            if is_last_part {
                let answering = self.answered_by(message.class);
                state.answer(&self.traffic, self.id, answering, message.handed_over_unix_nanos)
            } else {
                vec![]
            }
        };
        answers.into_iter().for_each(|answer| self.answers.push(answer));
        let (metrics, class) = (&self.metrics, message.class);
        metrics.broadcast_message_count.of(class).inc();
        metrics.broadcast_message_bytes_sum.of(class).inc_by(size);
        metrics.broadcast_message_send_lag_seconds.of(class).observe(lag_nanos as f64 / 1e9);
        if late {
            metrics.broadcast_message_late_count.of(class).inc();
        }
    }

    fn not_sent_to(&self, peer: &PeerId, copies: u64) {
        if let Some(node) = self.roster.id(peer) {
            let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
            let count = slow.entry(node).or_default();
            *count = count.saturating_add(copies);
        }
    }

    // This runs on the network's tasks: reading the header and counting takes about as long as handing the message to
    // another task would (see `cargo bench --bench hot_path`).
    fn received(&self, source: Option<PeerId>, from: Option<PeerId>, class: Option<u16>, bytes: &[u8]) {
        self.received_at(source, from, class, bytes, unix_nanos());
    }
}
