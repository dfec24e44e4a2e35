//! What to measure of a link, and what it did.

use std::{net::SocketAddr, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::packet::{LENGTH, TRAIN_LENGTH};
use crate::shaping::WIRE_BYTES;

/// How often counts are asked for before the link is given up, and how long each answer is waited for beyond the round
/// trip time.
pub(super) const REPORT_TRIES: u32 = 20;
pub(super) const REPORT_WAIT: Duration = Duration::from_millis(100);
/// Pause before they are asked for again.
pub(super) const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// Largest message, in packets: the other end keeps a bit for each.
const MOST_PARTS: u64 = 127;

/// Bytes that a packet has beside what it carries, as the limit of a link counts them: UDP, IP, Ethernet and its wire.
pub(super) const HEADERS_V4: usize = 8 + 20 + 14 + WIRE_BYTES as usize;
pub(super) const HEADERS_V6: usize = 8 + 40 + 14 + WIRE_BYTES as usize;

/// Bytes of a ping with all its headers, at most.
pub const PING_BYTES: usize = LENGTH + HEADERS_V6;
/// Bytes of a train's packet with all its headers, over IPv4.
pub const TRAIN_BYTES: usize = TRAIN_LENGTH + HEADERS_V4;

/// What to measure of one link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeOrder {
    /// Where the other end answers.
    pub target: SocketAddr,
    /// Pings to send.
    pub pings: u64,
    /// Microseconds from one to the next.
    pub interval_micros: u64,
    /// Longest round trip that is waited for, in milliseconds.
    pub wait_millis: u64,
    /// Then single messages, if they are given.
    #[serde(default)]
    pub message: Option<MessageOrder>,
    /// Then a train, if it is given.
    #[serde(default)]
    pub train: Option<TrainOrder>,
}

/// Messages, each on an idle link: the packets of one are sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageOrder {
    /// Bytes of a message, without headers; rounded up to whole packets.
    pub bytes: u64,
    /// How many messages are sent, one after the other.
    pub count: u64,
    /// Longest time for one, in milliseconds.
    pub wait_millis: u64,
}

impl MessageOrder {
    /// Packets that a message is sent in.
    pub(super) fn parts(&self) -> u64 {
        self.bytes.div_ceil(TRAIN_LENGTH as u64).clamp(1, MOST_PARTS)
    }

    /// Longest time for all of them.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_millis(self.wait_millis.saturating_mul(self.count))
    }
}

/// Bytes of a message of that order on the wire, with the headers of all its packets, over IPv4 or IPv6.
pub fn message_bytes(order: &MessageOrder, v4: bool) -> u64 {
    let headers = if v4 { HEADERS_V4 } else { HEADERS_V6 };
    order.parts() * (TRAIN_LENGTH + headers) as u64
}

/// Highest rate of a train, in bytes per second: twice a link of 400 Gbit/s, which no host sends by single packets.
pub const MAX_TRAIN_RATE: u64 = 100_000_000_000;

/// A train of packets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOrder {
    /// Bytes per second to send, headers included.
    pub bytes_per_second: u64,
    /// Milliseconds that are not counted, in which the allowance of token buckets is used up.
    pub uncounted_millis: u64,
    /// Milliseconds that are.
    pub counted_millis: u64,
}

/// Times of a distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What a link did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Pings sent.
    pub pings: u64,
    /// Different pings that came at the other end; none if it never answered.
    pub there: Option<u64>,
    /// Different answers that came back.
    pub back: u64,
    /// Pings that came twice at the other end.
    pub duplicates: u64,
    /// Pings that came after a later one.
    pub reordered: u64,
    /// From the ping to its answer, without the time that the other end took to answer.
    pub round_trip: Option<Times>,
    /// From here to the other end, and from there to here: true only where both ends have one clock.
    pub one_way_there: Option<Times>,
    /// The way back.
    pub one_way_back: Option<Times>,
    /// How long a message took.
    #[serde(default)]
    pub message: Option<MessageResult>,
    /// What became of the train.
    pub train: Option<TrainResult>,
}

/// How long a message took that was sent over an idle link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageResult {
    /// Its bytes on the wire, headers included.
    pub bytes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Of these, those that came as a whole and in time.
    pub came: u64,
    /// From the sending of its first packet to the arrival of the last one, the median of all that came: true only where both
    /// ends have one clock. None if none came.
    pub one_way_micros: Option<u64>,
    /// The same until the answer was back, without the time that the other end took to answer.
    pub round_trip_micros: Option<u64>,
}

/// What became of a train.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// Bytes per second that were really sent, headers included, in the counted time.
    pub sent_bytes_per_second: f64,
    /// Bytes per second that came, headers included.
    pub received_bytes_per_second: f64,
    /// Bytes per second of what the packets carry.
    pub goodput_bytes_per_second: f64,
}

impl ProbeOrder {
    /// Time for the pings alone.
    pub(super) fn ping_time(&self) -> Duration {
        Duration::from_micros(self.interval_micros.saturating_mul(self.pings))
    }

    pub(super) fn train_millis(&self) -> u64 {
        self.train.map_or(0, |train| train.uncounted_millis.saturating_add(train.counted_millis))
    }

    /// Longest time that it takes: the wait for the last answers, and all that is asked in vain, too.
    pub fn longest(&self) -> Duration {
        let wait = Duration::from_millis(self.wait_millis);
        let asked = (wait + REPORT_WAIT + REPORT_PAUSE) * (REPORT_TRIES + 1);
        let messages = self.message.map_or(Duration::ZERO, |message| message.longest());
        self.ping_time() + messages + Duration::from_millis(self.train_millis()) + asked
    }
}
