//! The time of a single message over an idle link, beside its arithmetic: all its bytes at the link's throughput. A limited
//! link sends the last frame and what its bucket holds ahead, which is within the tolerance for the messages that are
//! measured.

use serde::{Deserialize, Serialize};

use super::links::Tolerance;
use crate::shaping::Shape;

/// How far the time of a single message may be off, in percent.
pub(crate) const MESSAGE_PERCENT: f64 = 10.0;

/// The tolerance of results that do not say it.
pub(super) fn usual_percent() -> f64 {
    MESSAGE_PERCENT
}

/// How long a single message took over the idle link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageMeasured {
    /// Its bytes, with what all its packets take on Ethernet's wire.
    pub bytes: u64,
    /// Configured: its bytes at the link's throughput, and the latency.
    pub expected_micros: u64,
    /// From its sending to the arrival of its last packet, by the one clock of both ends; the median.
    pub one_way_micros: Option<u64>,
    /// Where the ends have different clocks: until an answer was back, by the latencies of both ways.
    pub round_trip_micros: Option<u64>,
}

/// How the time of a single message is out of tolerance; the way back should take `back` milliseconds.
pub(crate) fn message_problem(
    configured: &Shape,
    back: f64,
    message: &MessageMeasured,
    tolerance: &Tolerance,
) -> Option<String> {
    let millis = |micros: u64| micros as f64 / 1000.0;
    let mut asked = millis(message.expected_micros);
    // The last packet to come is the latest of all.
    let mut slack = tolerance.latency_millis + configured.jitter_millis;
    let found = match (message.one_way_micros, message.round_trip_micros) {
        (Some(one_way), _) => millis(one_way),
        (None, Some(round_trip)) => {
            asked += back;
            slack *= 2.0;
            millis(round_trip)
        }
        // With a packet that is lost, a message is not whole.
        (None, None) if configured.loss_percent > 0.0 => return None,
        (None, None) => return Some(format!("no message of {} bytes came as a whole", message.bytes)),
    };
    slack += asked * tolerance.message_percent / 100.0;
    ((found - asked).abs() > slack).then(|| {
        format!("a message of {} bytes took {found:.2} ms, not {asked:.2} ms (tolerance {slack:.2} ms)", message.bytes)
    })
}
