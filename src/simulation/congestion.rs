//! Congestion window of one direction of a TCP connection, as Linux keeps it with CUBIC.
//!
//! Initial window of 10 segments, slow start with HyStart's exits, CUBIC (RFC 9438), a cut to 0.7 on loss, a window of
//! one segment after a timeout, and halving for each timeout of idleness. All times are nanoseconds.

/// Payload of a full segment on Ethernet with timestamps, in bytes.
pub(super) const SEGMENT: u64 = 1448;

/// Initial window, in segments (RFC 6928).
const INITIAL: f64 = 10.0;

/// Reduction on a loss, and CUBIC's constant (RFC 9438).
const BETA: f64 = 0.7;
const CUBIC: f64 = 0.4;

/// Linux: minimum of the variable part of the retransmission timeout, and the timeout before the first sample.
const LEAST_TIMEOUT: u64 = 200_000_000;
const FIRST_TIMEOUT: u64 = 1_000_000_000;
/// Maximum of the retransmission timeout (`TCP_RTO_MAX` of Linux).
const LONGEST_TIMEOUT: u64 = 120_000_000_000;

/// HyStart (Ha and Rhee, 2011, as in Linux): window from which on it watches, bounds of the increase of the round trip,
/// maximum time between the acknowledgements of one train, and samples of a round.
const WATCH_FROM: f64 = 16.0;
const DELAY_BOUNDS: (u64, u64) = (4_000_000, 16_000_000);
const TRAIN_SPACING: u64 = 2_000_000;
const SAMPLES: u32 = 8;

const NANOS: f64 = 1e9;

/// Segments that arrived, and the state of the connection then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    /// Their number.
    pub(super) segments: u64,
    /// Time from their sending to this.
    pub(super) round_trip: u64,
    /// All segments of the connection that were acknowledged so far, these included, and all that were sent.
    pub(super) acked: u64,
    pub(super) sent: u64,
    /// True if the window was the reason why no more was sent.
    pub(super) limited: bool,
}

/// State of one sender.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    /// Window, in segments.
    window: f64,
    threshold: f64,
    smoothed: u64,
    variance: u64,
    least: u64,
    /// CUBIC: largest window before the last loss, begin of its epoch, and the window of a Reno sender since then.
    largest: f64,
    epoch: Option<u64>,
    reno: f64,
    /// HyStart: number of the segment that ends the round, its begin, its last acknowledgement, and its smallest round trip.
    round_ends: u64,
    round_began: u64,
    last_ack: u64,
    round_least: u64,
    samples: u32,
    /// Losses of segments before this one belong to the same event.
    recovers_at: u64,
}

impl Default for Congestion {
    /// That of a connection whose round trip is unknown.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Congestion {
    /// A new connection, whose handshake took `round_trip`; 0 if that is unknown.
    pub(super) fn new(round_trip: u64) -> Self {
        let mut new = Self {
            window: INITIAL,
            threshold: f64::INFINITY,
            smoothed: 0,
            variance: 0,
            least: u64::MAX,
            largest: 0.0,
            epoch: None,
            reno: 0.0,
            round_ends: 0,
            round_began: 0,
            last_ack: 0,
            round_least: u64::MAX,
            samples: 0,
            recovers_at: 0,
        };
        if round_trip > 0 {
            new.sample(round_trip);
        }
        new
    }

    /// Window in segments, at least 1.
    pub(super) fn window(&self) -> u64 {
        self.window.max(1.0) as u64
    }

    fn sample(&mut self, round_trip: u64) {
        self.least = self.least.min(round_trip);
        if self.smoothed == 0 {
            (self.smoothed, self.variance) = (round_trip, round_trip / 2);
            return;
        }
        let off = self.smoothed.abs_diff(round_trip);
        self.variance = (self.variance * 3 + off) / 4;
        self.smoothed = (self.smoothed * 7 + round_trip) / 8;
    }

    /// Retransmission timeout after `attempts` retransmissions of the same bytes.
    pub(super) fn timeout(&self, attempts: u32) -> u64 {
        if self.smoothed == 0 {
            return FIRST_TIMEOUT;
        }
        let once = self.smoothed + (4 * self.variance).max(LEAST_TIMEOUT);
        once.saturating_mul(1 << attempts.min(16)).min(LONGEST_TIMEOUT)
    }

    /// Time after the last transmission at which a sender probes for a loss at its tail (RFC 8985); `alone` if a single
    /// segment is under way, whose acknowledgement the receiver may delay.
    pub(super) fn probe_after(&self, alone: bool) -> u64 {
        let slack = if alone { LEAST_TIMEOUT } else { 2_000_000 };
        (2 * self.smoothed + slack).min(self.timeout(0))
    }

    /// An acknowledgement of segments that were sent once.
    pub(super) fn acknowledged(&mut self, now: u64, ack: &Acknowledged) {
        let Acknowledged { round_trip, acked, sent, limited, .. } = *ack;
        self.sample(round_trip);
        let segments = ack.segments as f64;
        if self.window < self.threshold {
            self.watch(now, round_trip, acked, sent);
            // Linux lets a window grow that was used to the half.
            let used = (sent.saturating_sub(acked) + ack.segments) as f64;
            if limited || self.window < 2.0 * used {
                self.window = (self.window + segments).min(self.threshold.max(self.window));
            }
            return;
        }
        if limited {
            self.grow(now, segments);
        }
    }

    /// Leaves slow start when the round trip grows, or when acknowledgements of one train take half of it.
    fn watch(&mut self, now: u64, round_trip: u64, acked: u64, sent: u64) {
        if acked >= self.round_ends {
            (self.round_ends, self.round_began, self.last_ack) = (sent.max(acked + 1), now, now);
            (self.round_least, self.samples) = (u64::MAX, 0);
        }
        if self.window < WATCH_FROM {
            return;
        }
        if now.saturating_sub(self.last_ack) <= TRAIN_SPACING {
            self.last_ack = now;
            if now.saturating_sub(self.round_began) > self.least / 2 {
                self.threshold = self.window;
            }
        }
        if self.samples < SAMPLES {
            self.samples += 1;
            self.round_least = self.round_least.min(round_trip);
        } else if self.round_least > self.least + (self.least / 8).clamp(DELAY_BOUNDS.0, DELAY_BOUNDS.1) {
            self.threshold = self.window;
        }
    }

    fn grow(&mut self, now: u64, segments: f64) {
        let window = self.window;
        let began = *self.epoch.get_or_insert_with(|| {
            self.reno = window;
            now
        });
        if self.largest < window {
            self.largest = window;
        }
        let inflection = ((self.largest * (1.0 - BETA)) / CUBIC).cbrt();
        let inflection = if self.reno >= self.largest { 0.0 } else { inflection };
        let since = (now.saturating_sub(began) + self.smoothed) as f64 / NANOS;
        let target = self.largest + CUBIC * (since - inflection).powi(3);
        let target = target.clamp(window, 1.5 * window);
        self.window += (target - window) / window * segments;
        self.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) * segments / window;
        self.window = self.window.max(self.reno.min(window + segments));
    }

    /// A loss of segments from number `first` on, found by later acknowledgements or a probe, after `sent` segments.
    pub(super) fn lost(&mut self, first: u64, sent: u64) {
        if first < self.recovers_at {
            return;
        }
        self.recovers_at = sent;
        // Fast convergence: a window that shrinks leaves room for others.
        self.largest = if self.window < self.largest { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(2.0);
        self.threshold = self.window;
        self.epoch = None;
    }

    /// A loss that only the timeout has found.
    pub(super) fn timed_out(&mut self, sent: u64) {
        self.lost(u64::MAX, sent);
        self.window = 1.0;
    }

    /// Nothing was sent for `idle`: for each timeout, the window is halved, down to the initial one.
    pub(super) fn idle(&mut self, idle: u64) {
        let timeout = self.timeout(0);
        if idle <= timeout {
            return;
        }
        self.threshold =
            if self.threshold.is_finite() { self.threshold.max(self.window * 0.75) } else { self.threshold };
        let mut left = idle;
        while left > timeout && self.window > INITIAL {
            self.window = (self.window / 2.0).max(INITIAL);
            left -= timeout;
        }
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Acknowledges whole windows one after the other, each after a round trip; returns the windows in segments.
    fn rounds(congestion: &mut Congestion, count: u64, round_trip: u64) -> Vec<u64> {
        let (mut now, mut sent) = (0, 0);
        let mut windows = vec![];
        for _ in 0..count {
            now += round_trip;
            let flight = congestion.window();
            let before = sent;
            sent += flight;
            for acked in before + 1..=sent {
                congestion.acknowledged(now, &Acknowledged { segments: 1, round_trip, acked, sent, limited: true });
            }
            windows.push(congestion.window());
        }
        windows
    }

    #[test]
    fn slow_start_doubles_the_window_each_round_trip() {
        let mut congestion = Congestion::new(50 * MILLI);
        assert_eq!(rounds(&mut congestion, 4, 50 * MILLI), [20, 40, 80, 160]);
    }

    #[test]
    fn a_growing_round_trip_ends_slow_start() {
        let mut congestion = Congestion::new(50 * MILLI);
        rounds(&mut congestion, 2, 50 * MILLI);
        let windows = rounds(&mut congestion, 3, 90 * MILLI);
        assert!(windows[2] < 320, "{windows:?}");
    }

    #[test]
    fn a_loss_cuts_once_for_all_bytes_of_a_window_and_a_timeout_begins_again() {
        let mut congestion = Congestion::new(50 * MILLI);
        rounds(&mut congestion, 3, 50 * MILLI);
        congestion.lost(0, 100);
        congestion.lost(50, 120);
        assert_eq!(congestion.window(), 56);
        congestion.timed_out(200);
        assert_eq!(congestion.window(), 1);
    }

    #[test]
    fn after_a_loss_the_window_grows_to_its_former_size_and_slowly_around_it() {
        let mut congestion = Congestion::new(50 * MILLI);
        rounds(&mut congestion, 3, 50 * MILLI);
        congestion.lost(0, 0);
        let windows = rounds(&mut congestion, 100, 50 * MILLI);
        assert!(windows[20] > 56 && windows[20] <= 82, "{windows:?}");
        assert!(windows[99] > 80, "{windows:?}");
    }

    #[test]
    fn idleness_halves_the_window_for_each_timeout_down_to_the_initial_one() {
        let mut congestion = Congestion::new(50 * MILLI);
        rounds(&mut congestion, 3, 50 * MILLI);
        congestion.idle(200 * MILLI);
        assert_eq!(congestion.window(), 80);
        congestion.idle(300 * MILLI);
        assert_eq!(congestion.window(), 40);
        congestion.idle(60_000 * MILLI);
        assert_eq!(congestion.window(), 10);
    }

    #[test]
    fn timeouts_double_and_are_at_least_a_fifth_of_a_second_longer_than_a_round_trip() {
        let congestion = Congestion::new(50 * MILLI);
        assert_eq!(congestion.timeout(0), 250 * MILLI);
        assert_eq!(congestion.timeout(2), 1000 * MILLI);
        assert_eq!(congestion.probe_after(false), 102 * MILLI);
        assert_eq!(congestion.probe_after(true), 250 * MILLI);
    }
}
