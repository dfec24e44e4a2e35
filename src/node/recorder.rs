//! The node's counts: every message that it sends and every one that comes.
//!
//! Which window a message belongs to follows from its *intended* send time alone, which sender and receiver both know.
//! So what was sent in a window and what was received of it are counts of the same messages, however late they come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use libp2p::PeerId;

use super::{
    clock::unix_nanos,
    schedule::Slot,
    summary::{HistogramText, SenderSummary, WindowSummary},
};
use crate::{
    message::{Arrival, Base, DeliveryTracker, Extension, HEADER_SIZE, Message},
    metrics::Metrics,
    network::{Outgoing, Roster, Traffic},
};

/// Counts of a window, with the histograms whole.
#[derive(Clone, Debug)]
struct Window {
    counts: WindowSummary,
    delay: Histogram<u64>,
    network_delay: Histogram<u64>,
    send_lag: Histogram<u64>,
}

impl Window {
    fn new() -> Self {
        // They grow with the largest value, to half a MiB at most.
        #[allow(clippy::expect_used, reason = "3 significant digits are always a valid precision")]
        let histogram = || Histogram::new(3).expect("precision");
        Self { counts: WindowSummary::default(), delay: histogram(), network_delay: histogram(), send_lag: histogram() }
    }

    fn summary(&self) -> WindowSummary {
        WindowSummary {
            delay_micros: HistogramText::encode(&self.delay),
            network_delay_micros: HistogramText::encode(&self.network_delay),
            send_lag_micros: HistogramText::encode(&self.send_lag),
            ..self.counts.clone()
        }
    }
}

/// Records a time, in microseconds. `saturating_record` would clamp it to the histogram's present range and hide it.
fn record(histogram: &mut Histogram<u64>, micros: u64) {
    // The range grows to every u64 where a usize has 64 bits, so this can't fail.
    let _ = histogram.record(micros);
}

#[derive(Debug)]
struct State {
    tracker: DeliveryTracker,
    measured: Window,
    outside: Window,
    /// Span of the intended send times that are measured.
    from: u64,
    to: u64,
    /// After this nothing is sent any more, due or not.
    send_deadline: u64,
    /// The trial of explore mode under way; messages of others are strays.
    trial: u32,
}

impl State {
    fn window(&mut self, intended: u64) -> &mut Window {
        if (self.from..self.to).contains(&intended) { &mut self.measured } else { &mut self.outside }
    }
}

/// Everything that a node counts of its messages.
#[derive(Debug)]
pub struct Recorder {
    id: u64,
    run_id: u64,
    roster: Arc<Roster>,
    metrics: Metrics,
    state: Mutex<State>,
}

/// A snapshot of the counts.
#[derive(Debug)]
pub struct Counts {
    /// The measured window.
    pub measured: WindowSummary,
    /// The rest.
    pub outside: WindowSummary,
    /// Missing messages.
    pub pending: u64,
    /// Counts of each sender.
    pub senders: Vec<SenderSummary>,
}

impl Recorder {
    /// A recorder for node `id` of `roster`. Until a window is set, everything is measured, and a sender's count
    /// starts with the lowest index seen. `run_id` 0 takes messages of any run.
    pub fn new(id: u64, run_id: u64, roster: Arc<Roster>, metrics: Metrics) -> Self {
        let state = State {
            tracker: DeliveryTracker::new(Base::LowestSeen),
            measured: Window::new(),
            outside: Window::new(),
            from: 0,
            to: u64::MAX,
            send_deadline: u64::MAX,
            trial: 0,
        };
        Self { id, run_id, roster, metrics, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the counts anew, for a run or trial that all nodes start together: messages intended from `from` to
    /// before `to` are measured, and nothing is sent after `send_deadline`. All in nanoseconds since the Unix epoch.
    pub fn begin(&self, base: Base, trial: u32, from: u64, to: u64, send_deadline: u64) {
        *self.lock() = State {
            tracker: DeliveryTracker::new(base),
            trial,
            measured: Window::new(),
            outside: Window::new(),
            from,
            to,
            send_deadline,
        };
    }

    /// A message of the schedule has become due.
    pub fn intended(&self, slot: &Slot) {
        self.lock().window(slot.intended_unix_nanos).counts.intended += 1;
    }

    /// The counts as they are now.
    pub fn counts(&self) -> Counts {
        // Encoding takes long: the network's tasks must not wait for it.
        let state = self.lock();
        let (measured, outside) = (state.measured.clone(), state.outside.clone());
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
        Counts { measured: measured.summary(), outside: outside.summary(), pending, senders }
    }

    /// Messages of the measured window that were due and are not sent.
    pub fn unsent(&self) -> u64 {
        let state = self.lock();
        state.measured.counts.intended.saturating_sub(state.measured.counts.sent)
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
    fn refuse(&self, source: Option<PeerId>, message: &Message) -> Option<&'static str> {
        let sender = message.header.sender;
        let known = if sender == self.id { None } else { self.roster.peer(sender) };
        match (known, source) {
            (None, _) => return Some("unknown_sender"),
            (Some(peer), Some(source)) if peer != source => return Some("wrong_sender"),
            _ => {}
        }
        let Extension { run_id, .. } = message.extension.unwrap_or_default();
        (run_id != 0 && self.run_id != 0 && run_id != self.run_id).then_some("other_run")
    }

    /// Counts a message that came at `now`, in nanoseconds since the Unix epoch.
    fn count(&self, message: &Message, size: u64, now: u64) {
        let intended = message.header.intended_unix_nanos;
        let delay_nanos = now.saturating_sub(intended);
        let send_lag = message.extension.map(|extension| extension.send_lag_micros);
        let mut state = self.lock();
        if message.extension.is_some_and(|extension| extension.trial != state.trial) {
            drop(state);
            self.metrics.receive_message_malformed_count.of("other_trial").inc();
            return;
        }
        let arrival = state.tracker.record(message.header.sender, message.header.index);
        let window = state.window(intended);
        let counts = &mut window.counts;
        match arrival {
            Arrival::Duplicate => counts.duplicates += 1,
            Arrival::Undecided => counts.undecided += 1,
            Arrival::InOrder | Arrival::Ahead | Arrival::Reordered => {
                counts.received += 1;
                counts.received_bytes += size;
                counts.reordered += u64::from(arrival == Arrival::Reordered);
                counts.negative_delays += u64::from(now < intended);
                let delay = delay_nanos / 1000;
                record(&mut window.delay, delay);
                if let Some(send_lag) = send_lag {
                    record(&mut window.network_delay, delay.saturating_sub(send_lag));
                }
            }
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
                metrics.receive_message_delay_seconds.observe(delay_nanos as f64 / 1e9);
                match arrival {
                    Arrival::Reordered => metrics.receive_message_reordered_count.inc(),
                    Arrival::Ahead => metrics.receive_message_gap_count.inc(),
                    _ => {}
                }
                if now < intended {
                    metrics.receive_message_negative_delay_count.inc();
                }
            }
        }
    }
}

impl Traffic for Recorder {
    fn about_to_send(&self, message: &mut Outgoing) -> bool {
        let now = unix_nanos();
        let lag_nanos = now.saturating_sub(message.intended_unix_nanos);
        let late = now >= message.next_unix_nanos;
        let size = message.bytes.len() as u64;
        {
            let mut state = self.lock();
            if now > state.send_deadline {
                return false;
            }
            let window = state.window(message.intended_unix_nanos);
            window.counts.sent += 1;
            window.counts.sent_bytes += size;
            window.counts.late += u64::from(late);
            record(&mut window.send_lag, lag_nanos / 1000);
        }
        let extension = Extension { run_id: self.run_id, trial: message.trial, send_lag_micros: lag_nanos / 1000 };
        extension.write_to(&mut message.bytes[HEADER_SIZE..]);
        let metrics = &self.metrics;
        metrics.broadcast_message_count.inc();
        metrics.broadcast_message_bytes_sum.inc_by(size);
        metrics.broadcast_message_send_lag_seconds.observe(lag_nanos as f64 / 1e9);
        if late {
            metrics.broadcast_message_late_count.inc();
        }
        true
    }

    // Runs on the network's tasks: reading the header and counting takes about as long as handing the message to
    // another task would, so nothing is handed over (see `cargo bench --bench hot_path`).
    fn received(&self, source: Option<PeerId>, bytes: &[u8]) {
        let now = unix_nanos();
        let refused = match Message::decode(bytes) {
            Ok(message) => match self.refuse(source, &message) {
                None => return self.count(&message, bytes.len() as u64, now),
                Some(reason) => reason,
            },
            Err(_) => "not_a_message",
        };
        self.metrics.receive_message_malformed_count.of(refused).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::{message::compose, network::peer_id};

    const SECOND: u64 = 1_000_000_000;

    fn recorder() -> Recorder {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics)
    }

    fn message(sender: u64, index: u64, intended: u64) -> Vec<u8> {
        compose(sender, index, intended, 100, &Extension { run_id: 7, trial: 0, send_lag_micros: 0 })
    }

    #[test]
    fn a_message_counts_in_the_window_it_was_meant_for_however_late_it_comes() {
        let recorder = recorder();
        let now = unix_nanos();
        recorder.begin(Base::Zero, 0, now - 10 * SECOND, now - 5 * SECOND, u64::MAX);
        recorder.received(Some(peer_id(1)), &message(1, 0, now - 11 * SECOND));
        recorder.received(Some(peer_id(1)), &message(1, 1, now - 10 * SECOND));
        recorder.received(Some(peer_id(1)), &message(1, 2, now - 5 * SECOND));
        let counts = recorder.counts();
        assert_eq!((counts.measured.received, counts.outside.received), (1, 2));
        let delay = counts.measured.delay_micros.decode().unwrap().max();
        assert!((9_990_000..11_000_000).contains(&delay), "{delay}");
    }

    #[test]
    fn every_delay_is_kept_as_large_as_it_was() {
        let recorder = recorder();
        let now = unix_nanos();
        for (index, seconds) in [(0, 1), (1, 60), (2, 3600)] {
            recorder.received(Some(peer_id(1)), &message(1, index, now - seconds * SECOND));
        }
        recorder.received(Some(peer_id(2)), &message(2, 0, 0));
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
        recorder.received(Some(peer_id(1)), &message(2, 0, 0));
        recorder.received(Some(peer_id(3)), &message(3, 0, 0));
        recorder.received(Some(peer_id(0)), &message(0, 0, 0));
        recorder.received(Some(peer_id(1)), b"nonsense");
        let other = compose(1, 0, 0, 100, &Extension { run_id: 8, trial: 0, send_lag_micros: 0 });
        recorder.received(Some(peer_id(1)), &other);
        assert_eq!(recorder.counts().measured, Window::new().summary());
        let refused = |reason| recorder.metrics.receive_message_malformed_count.of(reason).get();
        assert_eq!(refused("wrong_sender"), 1);
        assert_eq!(refused("unknown_sender"), 2);
        assert_eq!(refused("not_a_message"), 1);
        assert_eq!(refused("other_run"), 1);
    }

    #[test]
    fn a_stray_of_another_trial_does_not_stand_for_a_message_of_this_one() {
        let recorder = recorder();
        recorder.begin(Base::Zero, 1, 0, u64::MAX, u64::MAX);
        let of_trial = |trial| compose(1, 0, 0, 100, &Extension { run_id: 7, trial, send_lag_micros: 0 });
        recorder.received(Some(peer_id(1)), &of_trial(0));
        recorder.received(Some(peer_id(1)), &of_trial(1));
        assert_eq!((recorder.counts().measured.received, recorder.counts().measured.duplicates), (1, 0));
        assert_eq!(recorder.metrics.receive_message_malformed_count.of("other_trial").get(), 1);
    }

    #[test]
    fn a_delay_from_a_clock_ahead_of_ours_is_clamped_and_counted() {
        let recorder = recorder();
        recorder.received(Some(peer_id(1)), &message(1, 0, unix_nanos() + 60 * SECOND));
        let measured = recorder.counts().measured;
        assert_eq!((measured.received, measured.negative_delays), (1, 1));
        assert_eq!(measured.delay_micros.decode().unwrap().max(), 0);
    }

    #[test]
    fn what_is_sent_after_its_successor_was_due_is_late_and_after_the_deadline_not_sent() {
        let recorder = recorder();
        let now = unix_nanos();
        let outgoing = |intended| Outgoing {
            intended_unix_nanos: intended,
            next_unix_nanos: intended + SECOND,
            trial: 0,
            bytes: message(0, 0, intended),
        };
        recorder.begin(Base::Zero, 0, 0, u64::MAX, now + 60 * SECOND);
        assert!(recorder.about_to_send(&mut outgoing(now)));
        let mut late = outgoing(now - 3 * SECOND);
        assert!(recorder.about_to_send(&mut late));
        let lag = Message::decode(&late.bytes).unwrap().extension.unwrap().send_lag_micros;
        assert!((3_000_000..4_000_000).contains(&lag), "{lag}");
        let measured = recorder.counts().measured;
        assert_eq!((measured.sent, measured.late), (2, 1));

        recorder.begin(Base::Zero, 0, 0, u64::MAX, now - SECOND);
        assert!(!recorder.about_to_send(&mut outgoing(now)));
        assert_eq!(recorder.counts().measured.sent, 0);
    }
}
