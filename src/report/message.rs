//! Time of a single message over an idle link, measured and computed: all its bytes at the link's throughput. A limited
//! link sends the last frame and the content of its bucket ahead, which is within the tolerance for the measured
//! messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tolerance::Tolerance;
use crate::shaping::Shape;

/// Time of a single message over the idle link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageMeasured {
    /// Bytes of the message, with everything that its packets take on Ethernet's wire.
    pub bytes: u64,
    /// Configured time: the bytes at the link's throughput, and the latency.
    pub expected_micros: u64,
    /// Time from the sending to the arrival of the last packet, by the common clock of both ends; median.
    pub one_way_micros: Option<u64>,
    /// Time until the answer returned, by the latencies of both directions; used if the ends have different clocks.
    pub round_trip_micros: Option<u64>,
}

/// Difference of the time of a single message beyond the tolerance; the opposite direction should take `back`
/// milliseconds.
pub(crate) fn message_problem(
    configured: &Shape,
    back: f64,
    message: &MessageMeasured,
    tolerance: &Tolerance,
) -> Option<String> {
    let millis = |micros: u64| micros as f64 / 1000.0;
    let mut asked = millis(message.expected_micros);
    // The message is as late as its latest packet.
    let mut slack = tolerance.latency_millis + configured.jitter_millis;
    let found = match (message.one_way_micros, message.round_trip_micros) {
        (Some(one_way), _) => millis(one_way),
        (None, Some(round_trip)) => {
            asked += back;
            slack *= 2.0;
            millis(round_trip)
        }
        // A message that lost a packet is incomplete.
        (None, None) if configured.loss_percent > 0.0 => return None,
        (None, None) => return Some(format!("no message of {} bytes arrived completely", message.bytes)),
    };
    slack += asked * tolerance.message_percent / 100.0;
    ((found - asked).abs() > slack).then(|| {
        format!("a message of {} bytes took {found:.2} ms, not {asked:.2} ms (tolerance {slack:.2} ms)", message.bytes)
    })
}
