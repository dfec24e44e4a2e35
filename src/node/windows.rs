//! Counts by window and by phase: the *intended* send time decides the place of a message.

use std::sync::Arc;

use hdrhistogram::Histogram;

use super::{
    histogram_text::HistogramText,
    plan::TrafficPlan,
    summary::{PhaseSender, PhaseSummary, THIRDS, WINDOW_PARTS, WindowSummary},
};
use crate::message::{Base, Claim, DeliveryKind};

/// Messages that are counted from now on, and their window. All times are in nanoseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct MeasurementWindow {
    /// Index from which a sender is counted.
    pub base: Base,
    /// Trial of explore mode; messages of other trials are stray.
    pub trial: u32,
    /// Begin of the intended times that are measured.
    pub from_unix_nanos: u64,
    /// End of the intended times that are measured.
    pub to_unix_nanos: u64,
    /// Time after which nothing is sent any more, due or not.
    pub send_deadline: u64,
    /// Boundaries between the phases of the measured window, ascending, inside of the window.
    pub boundaries: Vec<u64>,
    /// Traffic of all senders, if this node knows its start: no index lies beyond it.
    pub plan: Option<Arc<TrafficPlan>>,
    /// For a rejoining node: only messages intended from here on are measured, and messages that arrived before it
    /// received its start are among them.
    pub rejoined_from: Option<u64>,
}

impl MeasurementWindow {
    /// All of time, used before anything else is known.
    pub fn everything(base: Base) -> Self {
        Self {
            base,
            trial: 0,
            from_unix_nanos: 0,
            to_unix_nanos: u64::MAX,
            send_deadline: u64::MAX,
            boundaries: vec![],
            plan: None,
            rejoined_from: None,
        }
    }
}

/// The measured window as a stretch of time, cut into equal parts.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: u64,
    to: u64,
}

impl Stretch {
    /// The window as a stretch, if it has an end.
    fn new(span: &MeasurementWindow) -> Option<Self> {
        let (from, to) = (span.from_unix_nanos, span.to_unix_nanos);
        (to != u64::MAX && from < to).then_some(Self { from, to })
    }

    /// End of part `number` of `count`; the parts are as equal as possible.
    fn end_of(self, number: usize, count: usize) -> u64 {
        let length = u128::from(self.to - self.from) * (number as u128 + 1) / count as u128;
        // It is at most the window's length.
        self.from + length as u64
    }

    /// Part that contains a time.
    fn part(self, time: u64) -> usize {
        let number =
            u128::from(time.saturating_sub(self.from)) * WINDOW_PARTS as u128 / u128::from(self.to - self.from);
        (number as usize).min(WINDOW_PARTS - 1)
    }

    /// Adds to each third of the window the time from `time` to the third's end, as far as it lies inside.
    fn add_rest(self, time: u64, micros: &mut [u64; THIRDS]) {
        let mut begin = self.from;
        for (number, sum) in micros.iter_mut().enumerate() {
            let end = self.end_of(number, THIRDS);
            *sum = sum.saturating_add(end.saturating_sub(time.max(begin)) / 1000);
            begin = end;
        }
    }
}

/// Counts a message in the part of the window that it was intended in.
fn count_part(parts: &mut [u64], stretch: Option<Stretch>, intended: u64) {
    if let Some(count) = stretch.and_then(|stretch| parts.get_mut(stretch.part(intended))) {
        *count += 1;
    }
}

/// Counts of a window, with complete histograms.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) counts: WindowSummary,
    delay: Histogram<u64>,
    network_delay: Histogram<u64>,
    send_lag: Histogram<u64>,
}

// It grows with the largest value, to at most half a MiB.
#[allow(clippy::expect_used, reason = "3 significant digits are always a valid precision")]
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("precision")
}

impl Window {
    pub(super) fn new() -> Self {
        Self { counts: WindowSummary::default(), delay: histogram(), network_delay: histogram(), send_lag: histogram() }
    }

    /// Adds the counts of other messages of the same window.
    fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (own, other) in [
            (&mut self.delay, &other.delay),
            (&mut self.network_delay, &other.network_delay),
            (&mut self.send_lag, &other.send_lag),
        ] {
            add(own, other);
        }
    }

    pub(super) fn summary(&self) -> WindowSummary {
        WindowSummary {
            delay_micros: HistogramText::encode(&self.delay),
            network_delay_micros: HistogramText::encode(&self.network_delay),
            send_lag_micros: HistogramText::encode(&self.send_lag),
            ..self.counts.clone()
        }
    }
}

/// Adds another histogram's values; they always fit, because a histogram grows to every u64.
fn add(histogram: &mut Histogram<u64>, other: &Histogram<u64>) {
    let _ = histogram.add(other);
}

/// Records a time, in microseconds. `saturating_record` would clamp it to the histogram's present range and hide it.
fn record(histogram: &mut Histogram<u64>, micros: u64) {
    // The range grows to every u64 if a usize has 64 bits, so this can't fail.
    let _ = histogram.record(micros);
}

/// Counts of one phase.
#[derive(Clone, Debug, Default)]
struct Phase {
    intended: u64,
    sent: u64,
    dropped: u64,
    received: u64,
    received_after_end: u64,
    /// None before the first arrival, and if the phase is the whole window, which has the same delays.
    delay: Option<Histogram<u64>>,
    /// By node id: received messages, and those of them after the end. The roster bounds its length.
    by_sender: Vec<(u64, u64)>,
}

impl Phase {
    fn add(&mut self, other: &Self) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.dropped += other.dropped;
        self.received += other.received;
        self.received_after_end += other.received_after_end;
        if let Some(delay) = &other.delay {
            add(self.delay.get_or_insert_with(histogram), delay);
        }
        if self.by_sender.len() < other.by_sender.len() {
            self.by_sender.resize(other.by_sender.len(), (0, 0));
        }
        for ((received, late), (more, more_late)) in self.by_sender.iter_mut().zip(&other.by_sender) {
            *received += more;
            *late += more_late;
        }
    }

    fn summary(&self, from_unix_nanos: u64, to_unix_nanos: u64) -> PhaseSummary {
        let heard = (0..).zip(&self.by_sender).filter(|(_, (received, _))| *received > 0);
        PhaseSummary {
            from_unix_nanos,
            to_unix_nanos,
            intended: self.intended,
            sent: self.sent,
            dropped: self.dropped,
            received: self.received,
            received_after_end: self.received_after_end,
            delay_micros: self.delay.as_ref().map(HistogramText::encode).unwrap_or_default(),
            by_sender: heard
                .map(|(sender, &(received, received_after_end))| PhaseSender { sender, received, received_after_end })
                .collect(),
        }
    }
}

/// A copy of a message, as it arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// Node id, one of the roster.
    pub(super) sender: u64,
    /// Number among the messages of its sender and class for this node.
    pub(super) index: u64,
    /// Number among all messages of its sender and class.
    pub(super) number: u64,
    /// Node that delivered it, if it belongs to the network.
    pub(super) from: Option<u64>,
    pub(super) intended: u64,
    pub(super) now: u64,
    pub(super) size: u64,
    pub(super) send_lag: Option<u64>,
    /// The sender's own count, if it states one.
    pub(super) claim: Option<Claim>,
}

impl Delivery {
    pub(super) fn delay_nanos(&self) -> u64 {
        self.now.saturating_sub(self.intended)
    }

    pub(super) fn is_negative(&self) -> bool {
        self.now < self.intended
    }
}

/// The measured window, its phases, and everything outside.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    pub(super) measured: Window,
    pub(super) outside: Window,
    from: u64,
    to: u64,
    /// Time within which a message has to arrive, in nanoseconds.
    deadline: Option<u64>,
    stretch: Option<Stretch>,
    rejoined_from: u64,
    /// Begin of the counted times: `from`, or later in a rejoining node.
    counted_from: u64,
    boundaries: Vec<u64>,
    /// One more than the boundaries. Shared with a snapshot while it is read, so that taking a snapshot copies nothing.
    phases: Vec<Arc<Phase>>,
}

impl Windows {
    /// Empty counts of the messages of one class, which have to arrive within `deadline` nanoseconds.
    pub(super) fn new(span: &MeasurementWindow, deadline: Option<u64>) -> Self {
        let mut measured = Window::new();
        let stretch = Stretch::new(span);
        if stretch.is_some() {
            measured.counts.received_by_part = vec![0; WINDOW_PARTS];
            measured.counts.sent_by_part = vec![0; WINDOW_PARTS];
        }
        Self {
            measured,
            outside: Window::new(),
            from: span.from_unix_nanos,
            to: span.to_unix_nanos,
            deadline,
            stretch,
            rejoined_from: span.rejoined_from.unwrap_or(0),
            counted_from: span.rejoined_from.unwrap_or(0).max(span.from_unix_nanos),
            boundaries: span.boundaries.clone(),
            phases: vec![Arc::default(); span.boundaries.len() + 1],
        }
    }

    /// Window of a message and, inside of the measured one, its phase with the phase's end.
    fn place(&mut self, intended: u64) -> (&mut Window, Option<(&mut Arc<Phase>, u64)>) {
        if !self.measures(intended) {
            return (&mut self.outside, None);
        }
        let number = self.boundaries.partition_point(|boundary| *boundary <= intended);
        let end = self.boundaries.get(number).copied().unwrap_or(self.to);
        (&mut self.measured, self.phases.get_mut(number).map(|phase| (phase, end)))
    }

    /// True if a message belongs to the measured window.
    pub(super) fn measures(&self, intended: u64) -> bool {
        (self.counted_from..self.to).contains(&intended)
    }

    pub(super) fn intended(&mut self, intended: u64) {
        if let Some(stretch) = self.stretch {
            stretch.add_rest(intended, &mut self.measured.counts.offered_micros);
        }
        let (window, phase) = self.place(intended);
        window.counts.intended += 1;
        if let Some((phase, _)) = phase {
            Arc::make_mut(phase).intended += 1;
        }
    }

    pub(super) fn sent(&mut self, intended: u64, size: u64, late: bool, lag_micros: u64, dropped_copies: u64) {
        let stretch = self.stretch;
        let (window, phase) = self.place(intended);
        window.counts.sent += 1;
        window.counts.sent_bytes += size;
        window.counts.late += u64::from(late);
        window.counts.dropped_copies += dropped_copies;
        count_part(&mut window.counts.sent_by_part, stretch.filter(|_| phase.is_some()), intended);
        record(&mut window.send_lag, lag_micros);
        if let Some((phase, _)) = phase {
            Arc::make_mut(phase).sent += 1;
        }
    }

    pub(super) fn dropped(&mut self, intended: u64) {
        let (window, phase) = self.place(intended);
        window.counts.dropped += 1;
        if let Some((phase, _)) = phase {
            Arc::make_mut(phase).dropped += 1;
        }
    }

    /// Counts a first copy by its time of arrival.
    fn arrived(&mut self, message: &Delivery) {
        // The earlier life of this node may have counted it.
        if message.intended < self.rejoined_from {
            return;
        }
        let counts = &mut self.measured.counts;
        if (self.from..self.to).contains(&message.now) {
            counts.arrivals.count += 1;
            counts.arrivals.bytes += message.size;
        }
        if let Some(stretch) = self.stretch {
            // A clock that is behind the sender's must not credit more time than was offered.
            stretch.add_rest(message.now.max(message.intended), &mut counts.arrived_micros);
        }
    }

    pub(super) fn received(&mut self, message: &Delivery, arrival: DeliveryKind) {
        let by_phase = !self.boundaries.is_empty();
        if arrival.is_first() {
            self.arrived(message);
        }
        let (stretch, to, deadline) = (self.stretch, self.to, self.deadline);
        let (window, phase) = self.place(message.intended);
        let inside = phase.is_some();
        let counts = &mut window.counts;
        match arrival {
            DeliveryKind::Duplicate => counts.duplicates += 1,
            DeliveryKind::Undecided => counts.undecided += 1,
            DeliveryKind::InOrder | DeliveryKind::Ahead | DeliveryKind::Reordered => {
                counts.received += 1;
                counts.received_bytes += message.size;
                counts.reordered += u64::from(arrival == DeliveryKind::Reordered);
                counts.negative_delays += u64::from(message.is_negative());
                counts.received_after_end += u64::from(inside && message.now >= to);
                counts.after_deadline += u64::from(deadline.is_some_and(|within| message.delay_nanos() > within));
                count_part(&mut counts.received_by_part, stretch.filter(|_| inside), message.intended);
                let delay = message.delay_nanos() / 1000;
                record(&mut window.delay, delay);
                if let Some(send_lag) = message.send_lag {
                    record(&mut window.network_delay, delay.saturating_sub(send_lag));
                }
                let Some((phase, end)) = phase else { return };
                let phase = Arc::make_mut(phase);
                let after_end = u64::from(message.now >= end);
                phase.received += 1;
                phase.received_after_end += after_end;
                let sender = usize::try_from(message.sender).unwrap_or(usize::MAX);
                if sender >= phase.by_sender.len() {
                    phase.by_sender.resize(sender.saturating_add(1), (0, 0));
                }
                if let Some((received, late)) = phase.by_sender.get_mut(sender) {
                    *received += 1;
                    *late += after_end;
                }
                if by_phase {
                    record(phase.delay.get_or_insert_with(histogram), delay);
                }
            }
        }
    }

    /// Adds the counts of another class in the same window.
    pub(super) fn add(&mut self, other: &Self) {
        self.measured.add(&other.measured);
        self.outside.add(&other.outside);
        for (own, other) in self.phases.iter_mut().zip(&other.phases) {
            Arc::make_mut(own).add(other);
        }
    }

    /// The counts of each phase.
    pub(super) fn phases(&self) -> Vec<PhaseSummary> {
        let starts = std::iter::once(self.from).chain(self.boundaries.iter().copied());
        let ends = self.boundaries.iter().copied().chain([self.to]);
        self.phases.iter().zip(starts.zip(ends)).map(|(phase, (from, to))| phase.summary(from, to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(boundaries: Vec<u64>) -> MeasurementWindow {
        MeasurementWindow {
            from_unix_nanos: 1_000,
            to_unix_nanos: 2_000,
            boundaries,
            ..MeasurementWindow::everything(Base::Zero)
        }
    }

    fn arrived(sender: u64, intended: u64, now: u64) -> Delivery {
        Delivery { sender, index: 0, number: 0, from: None, intended, now, size: 10, send_lag: None, claim: None }
    }

    #[test]
    fn a_message_counts_in_the_phase_it_was_meant_for_and_is_late_from_that_phases_end_on() {
        let mut windows = Windows::new(&span(vec![1_300, 1_600]), None);
        for (intended, now) in [(999, 1_000), (1_000, 1_299), (1_299, 1_300), (1_300, 1_599), (1_999, 5_000)] {
            windows.received(&arrived(2, intended, now), DeliveryKind::InOrder);
        }
        windows.received(&arrived(2, 1_400, 1_500), DeliveryKind::Duplicate);
        windows.intended(1_599);
        windows.intended(1_600);
        windows.sent(1_600, 10, false, 0, 0);
        let phases = windows.phases();
        let counts: Vec<_> = phases.iter().map(|p| (p.intended, p.sent, p.received, p.received_after_end)).collect();
        assert_eq!(counts, [(0, 0, 2, 1), (1, 0, 1, 0), (1, 1, 1, 1)]);
        let spans: Vec<_> = phases.iter().map(|p| (p.from_unix_nanos, p.to_unix_nanos)).collect();
        assert_eq!(spans, [(1_000, 1_300), (1_300, 1_600), (1_600, 2_000)]);
        assert_eq!(phases[0].by_sender, [PhaseSender { sender: 2, received: 2, received_after_end: 1 }]);
        assert_eq!(windows.outside.counts.received, 1);
    }

    #[test]
    fn rates_count_arrivals_in_the_window_for_any_intended_time() {
        let mut windows = Windows::new(&span(vec![]), None);
        for (intended, now) in [(900, 999), (900, 1_000), (1_500, 1_999), (1_999, 2_000)] {
            windows.received(&arrived(1, intended, now), DeliveryKind::InOrder);
        }
        windows.received(&arrived(1, 1_500, 1_600), DeliveryKind::Duplicate);
        let counts = &windows.measured.counts;
        assert_eq!((counts.arrivals.count, counts.arrivals.bytes), (2, 20));
        assert_eq!((counts.received, counts.received_after_end), (2, 1));
        let parts: Vec<usize> =
            counts.received_by_part.iter().enumerate().filter(|(_, n)| **n > 0).map(|(part, _)| part).collect();
        assert_eq!(parts, [WINDOW_PARTS / 2, WINDOW_PARTS - 1]);
    }

    #[test]
    fn a_message_misses_its_deadline_when_it_comes_later_than_that() {
        let mut windows = Windows::new(&span(vec![]), Some(100));
        for now in [1_000, 1_600, 1_601, 9_000] {
            windows.received(&arrived(1, 1_500, now), DeliveryKind::InOrder);
        }
        windows.received(&arrived(1, 1_500, 9_000), DeliveryKind::Duplicate);
        assert_eq!((windows.measured.counts.received, windows.measured.counts.after_deadline), (4, 2));
    }

    #[test]
    fn offered_less_arrived_time_is_the_time_that_messages_were_under_way() {
        let ms = 1_000_000;
        let window = MeasurementWindow {
            from_unix_nanos: 3_000 * ms,
            to_unix_nanos: 6_000 * ms,
            ..MeasurementWindow::everything(Base::Zero)
        };
        let mut windows = Windows::new(&window, None);
        // One from the warm-up that takes 1.5 s, one of the second third that never arrives, one of a tenth of a
        // second.
        for intended in [2_000, 4_200, 5_500] {
            windows.intended(intended * ms);
        }
        for (intended, now) in [(2_000, 3_500), (5_500, 5_600)] {
            windows.received(&arrived(1, intended * ms, now * ms), DeliveryKind::InOrder);
        }
        let counts = &windows.measured.counts;
        let backlog: Vec<u64> = counts
            .offered_micros
            .iter()
            .zip(counts.arrived_micros)
            .map(|(offered, came)| (offered - came) / 1000)
            .collect();
        assert_eq!(backlog, [500, 800, 1_000 + 100]);
    }

    #[test]
    fn a_window_without_boundaries_is_one_phase_that_does_not_repeat_its_delays() {
        let mut windows = Windows::new(&span(vec![]), None);
        windows.received(&arrived(1, 1_500, 1_501), DeliveryKind::InOrder);
        let phases = windows.phases();
        assert_eq!((phases.len(), phases[0].received), (1, 1));
        assert_eq!(phases[0].delay_micros, HistogramText::default());
    }

    #[test]
    fn a_phase_without_arrivals_has_no_histogram() {
        let windows = Windows::new(&span(vec![1_500]), None);
        assert!(windows.phases().iter().all(|phase| phase.delay_micros == HistogramText::default()));
    }

    #[test]
    fn a_rejoined_node_does_not_count_messages_of_its_earlier_life() {
        let back = MeasurementWindow { rejoined_from: Some(1_400), ..span(vec![1_300, 1_600]) };
        let mut windows = Windows::new(&back, None);
        windows.received(&arrived(1, 1_399, 1_450), DeliveryKind::InOrder);
        windows.received(&arrived(1, 1_400, 1_450), DeliveryKind::InOrder);
        let received: Vec<u64> = windows.phases().iter().map(|phase| phase.received).collect();
        assert_eq!(received, [0, 1, 0]);
        assert_eq!((windows.measured.counts.received, windows.outside.counts.received), (1, 1));
    }

    proptest! {
        #[test]
        fn the_phases_add_up_to_the_window(
            mut boundaries in prop::collection::btree_set(1_001..2_000_u64, 0..20),
            messages in prop::collection::vec((0..5_u64, 500..2_500_u64, 0..3_000_u64, 0..5_u8), 0..200),
            rejoined_from in prop::option::of(0..3_000_u64),
        ) {
            let boundaries: Vec<u64> = std::mem::take(&mut boundaries).into_iter().collect();
            let mut windows = Windows::new(&MeasurementWindow { rejoined_from, ..span(boundaries.clone()) }, None);
            for (sender, intended, now, kind) in messages {
                match kind {
                    0 => windows.intended(intended),
                    1 => windows.sent(intended, 10, false, 0, 0),
                    2 => windows.received(&arrived(sender, intended, now), DeliveryKind::Duplicate),
                    _ => windows.received(&arrived(sender, intended, now), DeliveryKind::Reordered),
                }
            }
            let (phases, measured) = (windows.phases(), windows.measured.summary());
            let sum = |field: fn(&PhaseSummary) -> u64| phases.iter().map(field).sum::<u64>();
            prop_assert_eq!(phases.len(), boundaries.len() + 1);
            prop_assert_eq!(sum(|phase| phase.intended), measured.intended);
            prop_assert_eq!(sum(|phase| phase.sent), measured.sent);
            prop_assert_eq!(sum(|phase| phase.received), measured.received);
            let mut delays = histogram();
            for phase in &phases {
                let by_sender = |field: fn(&PhaseSender) -> u64| phase.by_sender.iter().map(field).sum::<u64>();
                prop_assert_eq!(by_sender(|sender| sender.received), phase.received);
                prop_assert_eq!(by_sender(|sender| sender.received_after_end), phase.received_after_end);
                if phase.delay_micros != HistogramText::default() {
                    delays.add(phase.delay_micros.decode().unwrap()).unwrap();
                }
            }
            if !boundaries.is_empty() {
                prop_assert_eq!(delays, measured.delay_micros.decode().unwrap());
            }
        }
    }
}
