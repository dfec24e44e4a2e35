//! The node's counts: every message that it sends and every one that comes.
//!
//! Which window a message belongs to follows from its *intended* send time alone, which sender and receiver both know.
//! So what was sent in a window and what was received of it are counts of the same messages, however late they come.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use libp2p::PeerId;

use super::{
    clock::unix_nanos,
    schedule::{SendPlan, Slot},
    summary::{PhaseSummary, SenderSummary, WindowSummary},
    windows::{Arrived, Span, Windows},
};
use crate::{
    message::{Arrival, Base, Claim, DeliveryTracker, Extension, HEADER_SIZE, Message},
    metrics::Metrics,
    network::{Handover, Outgoing, Roster, Traffic},
};

/// The clocks of two hosts are less far apart than this, in nanoseconds: a runner refuses a quarter of a second.
const CLOCK_MARGIN: u64 = 60_000_000_000;

/// The largest index that a message may have that comes at `now`, in nanoseconds since the Unix epoch: by the schedule, or
/// else that of a sender that has sent every millisecond since 1970.
fn largest_index(plan: Option<&SendPlan>, now: u64) -> u64 {
    let now = now.saturating_add(CLOCK_MARGIN);
    plan.map_or(now / 1_000_000, |plan| plan.largest_index(now))
}

/// The most arrivals before its start that a node remembers, in case it is one that comes back: below 4 MiB.
const MOST_EARLY: usize = 1 << 16;

#[derive(Debug)]
struct State {
    tracker: DeliveryTracker,
    windows: Windows,
    send_deadline: u64,
    trial: u32,
    plan: Option<SendPlan>,
    /// Messages that this node has handed to the network since its counts began.
    sent: u64,
    /// What came before the start, as long as that can be one of a node that comes back, and the run that it named.
    early: Option<Vec<(Option<u64>, Arrived)>>,
}

impl State {
    fn new(span: &Span) -> Self {
        Self {
            tracker: DeliveryTracker::new(span.base),
            windows: Windows::new(span),
            send_deadline: span.send_deadline,
            trial: span.trial,
            plan: span.plan.clone(),
            sent: 0,
            early: None,
        }
    }

    fn count(&mut self, message: &Arrived) -> Arrival {
        let arrival = self.tracker.record(message.sender, message.index, message.claim);
        self.windows.received(message, arrival);
        arrival
    }
}

/// Everything that a node counts of its messages.
#[derive(Debug)]
pub struct Recorder {
    id: u64,
    run_id: AtomicU64,
    own_run: OwnRun,
    roster: Arc<Roster>,
    metrics: Metrics,
    born: u64,
    state: Mutex<State>,
}

/// Which messages a recorder takes for those of its own run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnRun {
    /// All that do not name another run, as of nodes of other programs.
    NotAnother,
    /// Only those that name its run. Messages of this run that are too small to name it have this size.
    Named { small: Option<usize> },
}

/// A snapshot of the counts.
#[derive(Debug)]
pub struct Counts {
    /// The measured window.
    pub measured: WindowSummary,
    /// The rest.
    pub outside: WindowSummary,
    /// The phases of the measured window.
    pub phases: Vec<PhaseSummary>,
    /// Missing messages.
    pub pending: u64,
    /// Counts of each sender.
    pub senders: Vec<SenderSummary>,
}

impl Recorder {
    /// A recorder for node `id` of `roster`. Until a window is set, everything is measured, and a sender's count
    /// starts with the lowest index seen. `run_id` 0 takes messages of any run.
    pub fn new(id: u64, run_id: u64, roster: Arc<Roster>, metrics: Metrics) -> Self {
        let state = Mutex::new(State::new(&Span::everything(Base::LowestSeen)));
        let (run_id, own_run) = (AtomicU64::new(run_id), OwnRun::NotAnother);
        Self { id, run_id, own_run, roster, metrics, born: unix_nanos(), state }
    }

    /// Takes only messages that name its run, as soon as it has one. Where messages of `message_size` bytes are too small to
    /// name it, those of exactly that size are taken too: they can't be told from those of another run.
    pub fn named_run_only(self, message_size: Option<usize>) -> Self {
        let small = message_size.filter(|size| *size < HEADER_SIZE + Extension::SIZE);
        Self { own_run: OwnRun::Named { small }, ..self }
    }

    /// Its run; 0 as long as it has none.
    pub fn run_id(&self) -> u64 {
        self.run_id.load(Ordering::Relaxed)
    }

    /// Gives it a run.
    pub fn set_run_id(&self, run_id: u64) {
        self.run_id.store(run_id, Ordering::Relaxed);
    }

    /// Whether a message of `size` bytes that names this run, or none, is of another one.
    fn is_of_another_run(&self, named: Option<u64>, size: usize) -> bool {
        let own = self.run_id();
        match (self.own_run, named) {
            _ if own == 0 => false,
            (OwnRun::NotAnother, named) => named.is_some_and(|named| named != 0 && named != own),
            (OwnRun::Named { .. }, Some(named)) => named != own,
            (OwnRun::Named { small }, None) => small != Some(size),
        }
    }

    /// When this recorder was made, in nanoseconds since the Unix epoch.
    pub fn born_unix_nanos(&self) -> u64 {
        self.born
    }

    /// Remembers what comes before the start, up to a bound: a node that comes back to a network that goes on hears it
    /// before it is told when that network started.
    pub fn remember_early(&self) {
        self.lock().early = Some(vec![]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the counts anew, for a run or trial that all nodes start together.
    pub fn begin(&self, span: &Span) {
        let mut state = self.lock();
        let early = state.early.take().unwrap_or_default();
        *state = State::new(span);
        if span.rejoined_from.is_some() {
            // Its run may have become known only with the start.
            let own = |(named, message): &&(Option<u64>, Arrived)| {
                !self.is_of_another_run(*named, usize::try_from(message.size).unwrap_or(usize::MAX))
            };
            for (_, message) in early.iter().filter(own) {
                state.count(message);
            }
        }
    }

    /// A message of the schedule has become due.
    pub fn intended(&self, slot: &Slot) {
        self.lock().windows.intended(slot.intended_unix_nanos);
    }

    /// The counts as they are now.
    pub fn counts(&self) -> Counts {
        // Encoding takes long: the network's tasks must not wait for it.
        let state = self.lock();
        let windows = state.windows.clone();
        let (pending, counted) = (state.tracker.pending(), state.tracker.senders().collect::<Vec<_>>());
        drop(state);
        let senders = counted
            .into_iter()
            .map(|(sender, counts)| SenderSummary {
                sender,
                unique: counts.unique,
                duplicates: counts.duplicates,
                reordered: counts.reordered,
                gaps: counts.gaps,
                pending: counts.pending,
                highest: counts.highest,
            })
            .collect();
        Counts {
            measured: windows.measured.summary(),
            outside: windows.outside.summary(),
            phases: windows.phases(),
            pending,
            senders,
        }
    }

    /// Messages of the measured window that were due and are not sent.
    pub fn unsent(&self) -> u64 {
        let state = self.lock();
        let counts = &state.windows.measured.counts;
        counts.intended.saturating_sub(counts.sent).saturating_sub(counts.dropped)
    }

    /// Whether no window ever ends the sending.
    pub fn sends_without_end(&self) -> bool {
        self.lock().send_deadline == u64::MAX
    }

    /// Messages that are missing now.
    pub fn pending(&self) -> u64 {
        self.lock().tracker.pending()
    }

    /// Why an arrival is not a message of this run, if it is not.
    fn refuse(&self, source: Option<PeerId>, message: &Message, size: usize) -> Option<&'static str> {
        let sender = message.header.sender;
        let known = if sender == self.id { None } else { self.roster.peer(sender) };
        match (known, source) {
            (None, _) => return Some("unknown_sender"),
            (Some(peer), Some(source)) if peer != source => return Some("wrong_sender"),
            _ => {}
        }
        let named = message.extension.map(|extension| extension.run_id);
        self.is_of_another_run(named, size).then_some("other_run")
    }

    /// Counts a message that came at `now`, in nanoseconds since the Unix epoch.
    fn count(&self, message: &Message, size: u64, now: u64) {
        let arrived = Arrived {
            sender: message.header.sender,
            index: message.header.index,
            intended: message.header.intended_unix_nanos,
            now,
            size,
            send_lag: message.extension.map(|extension| extension.send_lag_micros),
            claim: message.extension.map(|Extension { life, sent_before, .. }| Claim { life, sent_before }),
        };
        let mut state = self.lock();
        let refused = if message.extension.is_some_and(|extension| extension.trial != state.trial) {
            Some("other_trial")
        } else {
            (arrived.index > largest_index(state.plan.as_ref(), now)).then_some("impossible_index")
        };
        if let Some(reason) = refused {
            drop(state);
            self.metrics.receive_message_malformed_count.of(reason).inc();
            return;
        }
        let arrival = state.count(&arrived);
        if let Some(early) = &mut state.early
            && early.len() < MOST_EARLY
        {
            early.push((message.extension.map(|extension| extension.run_id), arrived));
        }
        drop(state);

        let metrics = &self.metrics;
        match arrival {
            Arrival::Duplicate => metrics.receive_message_duplicate_count.inc(),
            Arrival::Undecided => metrics.receive_message_undecided_count.inc(),
            Arrival::InOrder | Arrival::Ahead | Arrival::Reordered => {
                metrics.receive_message_count.inc();
                metrics.receive_message_bytes.set(size.cast_signed());
                metrics.receive_message_bytes_sum.inc_by(size);
                metrics.receive_message_delay_seconds.observe(arrived.delay_nanos() as f64 / 1e9);
                match arrival {
                    Arrival::Reordered => metrics.receive_message_reordered_count.inc(),
                    Arrival::Ahead => metrics.receive_message_gap_count.inc(),
                    _ => {}
                }
                if arrived.is_negative() {
                    metrics.receive_message_negative_delay_count.inc();
                }
            }
        }
    }

    /// States in a message what the receiver must know of its sending at `now`, in nanoseconds since the Unix epoch. `false`
    /// when it is too late to send it.
    pub(crate) fn stamp(&self, message: &mut Outgoing, now: u64) -> bool {
        let sent_before = {
            let state = self.lock();
            if now > state.send_deadline {
                return false;
            }
            state.sent
        };
        message.handed_over_unix_nanos = now;
        let extension = Extension {
            run_id: self.run_id(),
            trial: message.trial,
            send_lag_micros: message.send_lag_nanos() / 1000,
            life: self.born,
            sent_before,
        };
        extension.write_to(&mut message.bytes[HEADER_SIZE..]);
        true
    }

    /// Counts what came at `now`, in nanoseconds since the Unix epoch.
    pub(crate) fn received_at(&self, source: Option<PeerId>, bytes: &[u8], now: u64) {
        let refused = match Message::decode(bytes) {
            Ok(message) => match self.refuse(source, &message, bytes.len()) {
                None => return self.count(&message, bytes.len() as u64, now),
                Some(reason) => reason,
            },
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
        {
            let mut state = self.lock();
            if handover.queued == 0 {
                state.windows.dropped(message.intended_unix_nanos);
                return;
            }
            state.sent += 1;
            state.windows.sent(message.intended_unix_nanos, size, late, lag_nanos / 1000, handover.dropped);
        }
        let metrics = &self.metrics;
        metrics.broadcast_message_count.inc();
        metrics.broadcast_message_bytes_sum.inc_by(size);
        metrics.broadcast_message_send_lag_seconds.observe(lag_nanos as f64 / 1e9);
        if late {
            metrics.broadcast_message_late_count.inc();
        }
    }

    // Runs on the network's tasks: reading the header and counting takes about as long as handing the message to
    // another task would, so nothing is handed over (see `cargo bench --bench hot_path`).
    fn received(&self, source: Option<PeerId>, _class: Option<u16>, bytes: &[u8]) {
        self.received_at(source, bytes, unix_nanos());
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::{message::compose, network::peer_id};

    const SECOND: u64 = 1_000_000_000;

    fn span(from_unix_nanos: u64, to_unix_nanos: u64) -> Span {
        Span { from_unix_nanos, to_unix_nanos, ..Span::everything(Base::Zero) }
    }

    fn recorder() -> Recorder {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics)
    }

    fn message(sender: u64, index: u64, intended: u64) -> Vec<u8> {
        compose(sender, index, intended, 100, &Extension { run_id: 7, ..Extension::default() })
    }

    #[test]
    fn a_message_counts_in_the_window_it_was_meant_for_however_late_it_comes() {
        let recorder = recorder();
        let now = unix_nanos();
        recorder.begin(&span(now - 10 * SECOND, now - 5 * SECOND));
        recorder.received(Some(peer_id(1)), None, &message(1, 0, now - 11 * SECOND));
        recorder.received(Some(peer_id(1)), None, &message(1, 1, now - 10 * SECOND));
        recorder.received(Some(peer_id(1)), None, &message(1, 2, now - 5 * SECOND));
        let counts = recorder.counts();
        assert_eq!((counts.measured.received, counts.outside.received), (1, 2));
        let delay = counts.measured.delay_micros.decode().unwrap().max();
        assert!((9_990_000..11_000_000).contains(&delay), "{delay}");
    }

    #[test]
    fn a_node_that_comes_back_counts_what_came_before_its_start_and_another_does_not() {
        for rejoined in [true, false] {
            let recorder = recorder();
            let now = unix_nanos();
            recorder.remember_early();
            recorder.received(Some(peer_id(1)), None, &message(1, 7, now - 4 * SECOND));
            recorder.received(Some(peer_id(1)), None, &message(1, 8, now - SECOND));
            recorder.received(Some(peer_id(1)), None, &message(1, 8, now - SECOND));
            recorder.begin(&Span {
                base: Base::LowestSeen,
                boundaries: vec![now - 3 * SECOND],
                rejoined_from: rejoined.then_some(now - 2 * SECOND),
                ..span(now - 5 * SECOND, now + 5 * SECOND)
            });
            recorder.received(Some(peer_id(1)), None, &message(1, 9, now));
            let counts = recorder.counts();
            let phases: Vec<u64> = counts.phases.iter().map(|phase| phase.received).collect();
            assert_eq!(phases, [0, if rejoined { 2 } else { 1 }]);
            assert_eq!((counts.measured.duplicates, counts.outside.received), if rejoined { (1, 1) } else { (0, 0) });
            assert_eq!(counts.pending, 0);
        }
    }

    #[test]
    fn what_is_remembered_before_the_start_is_bounded() {
        let recorder = recorder();
        recorder.remember_early();
        for index in 0..MOST_EARLY as u64 + 10 {
            recorder.received(Some(peer_id(1)), None, &message(1, index, 0));
        }
        assert_eq!(recorder.lock().early.as_ref().map(Vec::len), Some(MOST_EARLY));
    }

    #[test]
    fn every_delay_is_kept_as_large_as_it_was() {
        let recorder = recorder();
        let now = unix_nanos();
        for (index, seconds) in [(0, 1), (1, 60), (2, 3600)] {
            recorder.received(Some(peer_id(1)), None, &message(1, index, now - seconds * SECOND));
        }
        recorder.received(Some(peer_id(2)), None, &message(2, 0, 0));
        let delays = recorder.counts().measured.delay_micros.decode().unwrap();
        let within = |quantile, seconds: f64| {
            let value = delays.value_at_quantile(quantile) as f64 / 1e6;
            assert!((seconds * 0.999..seconds * 1.002 + 0.5).contains(&value), "{value} s for {seconds} s");
        };
        within(0.25, 1.0);
        within(0.5, 60.0);
        within(0.75, 3600.0);
        within(1.0, now as f64 / 1e9);
    }

    #[test]
    fn strangers_impostors_and_other_runs_are_not_counted() {
        let recorder = recorder();
        recorder.received(Some(peer_id(1)), None, &message(2, 0, 0));
        recorder.received(Some(peer_id(3)), None, &message(3, 0, 0));
        recorder.received(Some(peer_id(0)), None, &message(0, 0, 0));
        recorder.received(Some(peer_id(1)), None, b"nonsense");
        let other = compose(1, 0, 0, 100, &Extension { run_id: 8, ..Extension::default() });
        recorder.received(Some(peer_id(1)), None, &other);
        assert_eq!(recorder.counts().measured, Windows::new(&span(0, 0)).measured.summary());
        let refused = |reason| recorder.metrics.receive_message_malformed_count.of(reason).get();
        assert_eq!(refused("wrong_sender"), 1);
        assert_eq!(refused("unknown_sender"), 2);
        assert_eq!(refused("not_a_message"), 1);
        assert_eq!(refused("other_run"), 1);
    }

    #[test]
    fn a_recorder_of_named_runs_takes_none_that_names_no_run_or_another() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let recorder = Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics).named_run_only(Some(100));
        let named = |index, run_id| compose(1, index, 0, 100, &Extension { run_id, ..Extension::default() });
        let mut unnamed = named(3, 7);
        unnamed[HEADER_SIZE..].fill(0);
        for message in [named(0, 7), named(1, 0), named(2, 8), unnamed, compose(1, 4, 0, 40, &Extension::default())] {
            recorder.received(Some(peer_id(1)), None, &message);
        }
        assert_eq!(recorder.counts().measured.received, 1);
        assert_eq!(recorder.metrics.receive_message_malformed_count.of("other_run").get(), 4);
    }

    #[test]
    fn messages_too_small_to_name_their_run_are_taken_where_this_run_sends_such() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let recorder = Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics).named_run_only(Some(59));
        for (index, size) in [(0, 59), (1, 58), (2, 100)] {
            recorder.received(Some(peer_id(1)), None, &compose(1, index, 0, size, &Extension::default()));
        }
        assert_eq!(recorder.counts().measured.received, 1);
    }

    #[test]
    fn what_came_before_the_run_was_known_is_counted_only_if_it_is_of_that_run() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let recorder = Recorder::new(0, 0, Arc::new(Roster::new(3)), metrics).named_run_only(Some(100));
        recorder.remember_early();
        let now = unix_nanos();
        for (index, run_id) in [(0, 7), (1, 8), (2, 0)] {
            let extension = Extension { run_id, ..Extension::default() };
            recorder.received(Some(peer_id(1)), None, &compose(1, index, now, 100, &extension));
        }
        recorder.set_run_id(7);
        let rejoined_from = Some(now - SECOND);
        recorder.begin(&Span { base: Base::LowestSeen, rejoined_from, ..span(now - SECOND, now + SECOND) });
        assert_eq!(recorder.counts().measured.received, 1);
    }

    #[test]
    fn a_stray_of_another_trial_does_not_stand_for_a_message_of_this_one() {
        let recorder = recorder();
        recorder.begin(&Span { trial: 1, ..Span::everything(Base::Zero) });
        let of_trial = |trial| compose(1, 0, 0, 100, &Extension { run_id: 7, trial, ..Extension::default() });
        recorder.received(Some(peer_id(1)), None, &of_trial(0));
        recorder.received(Some(peer_id(1)), None, &of_trial(1));
        assert_eq!((recorder.counts().measured.received, recorder.counts().measured.duplicates), (1, 0));
        assert_eq!(recorder.metrics.receive_message_malformed_count.of("other_trial").get(), 1);
    }

    #[test]
    fn a_delay_from_a_clock_ahead_of_ours_is_clamped_and_counted() {
        let recorder = recorder();
        recorder.received(Some(peer_id(1)), None, &message(1, 0, unix_nanos() + 60 * SECOND));
        let measured = recorder.counts().measured;
        assert_eq!((measured.received, measured.negative_delays), (1, 1));
        assert_eq!(measured.delay_micros.decode().unwrap().max(), 0);
    }

    fn outgoing(intended: u64) -> Outgoing {
        Outgoing {
            intended_unix_nanos: intended,
            next_unix_nanos: intended + SECOND,
            handed_over_unix_nanos: 0,
            trial: 0,
            class: 0,
            index: 0,
            bytes: message(0, 0, intended),
        }
    }

    /// Hands a message over to queues that do with it as `handover` says; its extension, if it was not too late.
    fn send(recorder: &Recorder, intended: u64, handover: Handover) -> Option<Extension> {
        let mut message = outgoing(intended);
        recorder.about_to_send(&mut message).then(|| {
            recorder.handed_over(&message, message.bytes.len() as u64, handover);
            Message::decode(&message.bytes).unwrap().extension.unwrap()
        })
    }

    const TAKEN: Handover = Handover { queued: 2, dropped: 0 };

    #[test]
    fn what_is_sent_after_its_successor_was_due_is_late_and_after_the_deadline_not_sent() {
        let recorder = recorder();
        let now = unix_nanos();
        recorder.begin(&Span { send_deadline: now + 60 * SECOND, ..Span::everything(Base::Zero) });
        assert!(send(&recorder, now, TAKEN).is_some());
        let lag = send(&recorder, now - 3 * SECOND, TAKEN).unwrap().send_lag_micros;
        assert!((3_000_000..4_000_000).contains(&lag), "{lag}");
        let measured = recorder.counts().measured;
        assert_eq!((measured.sent, measured.late), (2, 1));

        recorder.begin(&Span { send_deadline: now - SECOND, ..Span::everything(Base::Zero) });
        assert_eq!(send(&recorder, now, TAKEN), None);
        assert_eq!(recorder.counts().measured.sent, 0);
    }

    #[test]
    fn a_message_that_no_queue_took_is_dropped_and_not_sent() {
        let recorder = recorder();
        recorder.begin(&Span::everything(Base::Zero));
        let now = unix_nanos();
        let handovers =
            [TAKEN, Handover { queued: 0, dropped: 2 }, Handover { queued: 1, dropped: 1 }, Handover::default()];
        let stated = handovers.map(|handover| send(&recorder, now, handover).unwrap().sent_before);
        assert_eq!(stated, [0, 1, 1, 2], "only messages that were sent count");
        let measured = recorder.counts().measured;
        assert_eq!((measured.sent, measured.dropped, measured.dropped_copies), (2, 2, 1));
    }

    #[test]
    fn an_index_that_no_schedule_has_reached_is_refused() {
        let recorder = recorder();
        let now = unix_nanos();
        let impossible = || recorder.metrics.receive_message_malformed_count.of("impossible_index").get();
        recorder.received(Some(peer_id(1)), None, &message(1, u64::MAX - 1, now));
        assert_eq!(impossible(), 1);
        let plan = SendPlan {
            num_nodes: 3,
            turn: crate::node::Turn::All,
            heartbeat_nanos: SECOND / 10,
            origin_unix_nanos: now - SECOND,
            from_unix_nanos: now - SECOND,
            to_unix_nanos: None,
            spread_seed: None,
        };
        recorder.begin(&Span { plan: Some(plan), ..Span::everything(Base::Zero) });
        recorder.received(Some(peer_id(1)), None, &message(1, 10_000, now));
        assert_eq!(impossible(), 2);
        for index in 0..10 {
            recorder.received(Some(peer_id(1)), None, &message(1, index, now));
        }
        let counts = recorder.counts();
        assert_eq!((counts.measured.received, counts.measured.undecided, counts.pending), (10, 0, 0));
    }
}
