//! Orders and results of measuring a link.

use std::{net::SocketAddr, time::Duration};

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::packet::{LENGTH, TRAIN_LENGTH};
use crate::shaping::WIRE_BYTES;

/// Maximum number of requests for counts before the link is given up. Each answer is waited for this time plus the
/// round trip time.
pub(super) const REPORT_TRIES: u32 = 20;
pub(super) const REPORT_WAIT: Duration = Duration::from_millis(100);
/// Pause before the next request.
pub(super) const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// Maximum size of a message, in packets: the other end stores a bit for each.
const MOST_PARTS: u64 = 127;

/// Bytes of a packet in addition to its content, as the limit of a link counts them: UDP, IP, Ethernet and its wire.
pub(super) const HEADERS_V4: usize = 8 + 20 + 14 + WIRE_BYTES as usize;
pub(super) const HEADERS_V6: usize = 8 + 40 + 14 + WIRE_BYTES as usize;

/// Maximum size of a ping with all its headers, in bytes.
pub const PING_BYTES: usize = LENGTH + HEADERS_V6;
/// Size of a train's packet with all its headers, over IPv4, in bytes.
pub const TRAIN_BYTES: usize = TRAIN_LENGTH + HEADERS_V4;

/// Order to measure one link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeOrder {
    /// Address of the other end.
    pub target: SocketAddr,
    /// Number of pings.
    pub pings: u64,
    /// Interval between pings, in microseconds.
    pub interval_micros: u64,
    /// Maximum round trip time to wait for, in milliseconds.
    pub wait_millis: u64,
    /// Single messages after the pings, if given.
    #[serde(default)]
    pub message: Option<MessageOrder>,
    /// A train after the messages, if given.
    #[serde(default)]
    pub train: Option<TrainOrder>,
}

/// Messages, each on an idle link: the packets of one message are sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageOrder {
    /// Bytes of a message, without headers; rounded up to whole packets.
    pub bytes: u64,
    /// Number of messages, which are sent one after the other.
    pub count: u64,
    /// Maximum time of one message, in milliseconds.
    pub wait_millis: u64,
}

impl MessageOrder {
    /// Number of packets of a message.
    pub(super) fn parts(&self) -> u64 {
        self.bytes.div_ceil(TRAIN_LENGTH as u64).clamp(1, MOST_PARTS)
    }

    /// Maximum time of all messages.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_millis(self.wait_millis.saturating_mul(self.count))
    }
}

/// Bytes of a message of this order on the wire, with the headers of all its packets, over IPv4 or IPv6.
pub fn message_bytes(order: &MessageOrder, v4: bool) -> u64 {
    let headers = if v4 { HEADERS_V4 } else { HEADERS_V6 };
    order.parts() * (TRAIN_LENGTH + headers) as u64
}

/// Maximum rate of a train, in bytes per second: twice a link of 400 Gbit/s, which no host reaches with single packets.
pub const MAX_TRAIN_RATE: u64 = 100_000_000_000;

/// A train of packets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOrder {
    /// Bytes per second to send, headers included.
    pub bytes_per_second: u64,
    /// Milliseconds before counting begins, in which the train uses up the allowance of token buckets.
    pub uncounted_millis: u64,
    /// Milliseconds of counting.
    pub counted_millis: u64,
}

/// Times of a distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// Lowest.
    pub min_micros: u64,
    /// 1st percentile.
    pub p1_micros: u64,
    /// 10th percentile.
    pub p10_micros: u64,
    /// Median.
    pub p50_micros: u64,
    /// 90th percentile.
    pub p90_micros: u64,
    /// 99th percentile.
    pub p99_micros: u64,
    /// Highest, to 3 significant digits.
    pub max_micros: u64,
}

impl Times {
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            min_micros: histogram.min(),
            p1_micros: at(0.01),
            p10_micros: at(0.1),
            p50_micros: at(0.5),
            p90_micros: at(0.9),
            p99_micros: at(0.99),
            max_micros: histogram.max(),
        })
    }
}

/// Result of measuring a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Pings sent.
    pub pings: u64,
    /// Different pings that arrived at the other end; none if it never answered.
    pub there: Option<u64>,
    /// Different answers that returned.
    pub back: u64,
    /// Pings that arrived twice at the other end.
    pub duplicates: u64,
    /// Pings that arrived after a later one.
    pub reordered: u64,
    /// Times from the ping to its answer, without the processing time of the other end.
    pub round_trip: Option<Times>,
    /// Times from here to the other end, and from there to here: correct only if both ends have one clock.
    pub one_way_there: Option<Times>,
    /// Times of the way back.
    pub one_way_back: Option<Times>,
    /// Result of the messages.
    #[serde(default)]
    pub message: Option<MessageResult>,
    /// Result of the train.
    pub train: Option<TrainResult>,
}

/// Time of a message that was sent over an idle link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageResult {
    /// Bytes of a message on the wire, headers included.
    pub bytes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that arrived completely and in time.
    pub came: u64,
    /// Median time from the sending of the first packet to the arrival of the last one, over all messages that arrived:
    /// correct only if both ends have one clock. None if no message arrived.
    pub one_way_micros: Option<u64>,
    /// The same until the answer returned, without the processing time of the other end.
    pub round_trip_micros: Option<u64>,
}

/// Result of a train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// Actually sent bytes per second, headers included, in the counted time.
    pub sent_bytes_per_second: f64,
    /// Received bytes per second, headers included.
    pub received_bytes_per_second: f64,
    /// Received bytes per second of the packets' contents.
    pub goodput_bytes_per_second: f64,
}

impl ProbeOrder {
    /// Time of the pings alone.
    pub(super) fn ping_time(&self) -> Duration {
        Duration::from_micros(self.interval_micros.saturating_mul(self.pings))
    }

    pub(super) fn train_millis(&self) -> u64 {
        self.train.map_or(0, |train| train.uncounted_millis.saturating_add(train.counted_millis))
    }

    /// Maximum total time, including the wait for the last answers and all unanswered requests.
    pub fn longest(&self) -> Duration {
        let wait = Duration::from_millis(self.wait_millis);
        let asked = (wait + REPORT_WAIT + REPORT_PAUSE) * (REPORT_TRIES + 1);
        let messages = self.message.map_or(Duration::ZERO, |message| message.longest());
        self.ping_time() + messages + Duration::from_millis(self.train_millis()) + asked
    }
}
