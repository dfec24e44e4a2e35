//! The end that asks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    packet::{Kind, LENGTH, Packet, TRAIN_LENGTH},
    socket::{Received, receive, stamp},
};
use crate::clock::unix_nanos;

/// Bounds of an order: ten minutes of a ping a millisecond, and as much of a train.
const MOST_PINGS: u64 = 600_000;
const LONGEST: Duration = Duration::from_secs(600);

/// How often counts are asked for before the link is given up, and how long each answer is waited for beyond the round
/// trip time.
const REPORT_TRIES: u32 = 20;
/// The same, where nothing has ever come back.
const SILENT_TRIES: u32 = 5;
const REPORT_WAIT: Duration = Duration::from_millis(100);
/// Pause before they are asked for again.
const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// Pace at which a train's packets are sent together.
const TRAIN_BEAT: Duration = Duration::from_millis(1);

/// Longest time of sending without a look at the clock.
const LONGEST_BEAT: Duration = Duration::from_millis(5);

/// Bytes of headers of a train's packet, as `tc` counts them: UDP, IP and Ethernet.
const HEADERS_V4: usize = 8 + 20 + 14;
const HEADERS_V6: usize = 8 + 40 + 14;

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
    /// Then a train, if it is given.
    #[serde(default)]
    pub train: Option<TrainOrder>,
}

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
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
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
    /// From the ping to its answer.
    pub round_trip: Option<Times>,
    /// From here to the other end, and from there to here: true only where both ends have one clock.
    pub one_way_there: Option<Times>,
    /// The way back.
    pub one_way_back: Option<Times>,
    /// What became of the train.
    pub train: Option<TrainResult>,
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
    fn ping_time(&self) -> Duration {
        Duration::from_micros(self.interval_micros.saturating_mul(self.pings))
    }

    fn train_millis(&self) -> u64 {
        self.train.map_or(0, |train| train.uncounted_millis.saturating_add(train.counted_millis))
    }

    /// Longest time that it takes: the wait for the last answers, and all that is asked in vain, too.
    pub fn longest(&self) -> Duration {
        let wait = Duration::from_millis(self.wait_millis);
        let asked = (wait + REPORT_WAIT + REPORT_PAUSE) * (REPORT_TRIES + 1);
        self.ping_time() + Duration::from_millis(self.train_millis()) + asked
    }
}

/// Measures a link from `source`; takes as long as the order says.
///
/// # Errors
/// When the order can't be carried out, or the socket fails. A link that carries nothing is no error.
pub fn probe(source: IpAddr, order: &ProbeOrder) -> io::Result<ProbeResult> {
    let refused = |words: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    let wait = Duration::from_millis(order.wait_millis);
    if order.pings > MOST_PINGS || order.ping_time() > LONGEST || wait > LONGEST {
        return refused("the probe would take more than ten minutes or 600000 pings");
    }
    if u128::from(order.train_millis()) > LONGEST.as_millis() {
        return refused("the train would take more than ten minutes");
    }
    let any = if order.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = if source.is_ipv4() == order.target.is_ipv4() { source } else { any };
    let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
    socket.connect(order.target)?;
    stamp(&socket)?;
    let mut prober = Prober::new(socket, order);
    prober.ping(order.pings, Duration::from_micros(order.interval_micros), wait)?;
    let sent_rate = order.train.map(|train| prober.train(&train)).transpose()?;
    Ok(prober.finish(wait, sent_rate))
}

struct Prober {
    socket: UdpSocket,
    session: u64,
    headers: usize,
    answered: Vec<bool>,
    back: u64,
    /// The furthest counts that the other end has told.
    told: Option<Packet>,
    round_trip: Histogram<u64>,
    there: Histogram<u64>,
    home: Histogram<u64>,
}

impl Prober {
    fn new(socket: UdpSocket, order: &ProbeOrder) -> Self {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        #[allow(clippy::expect_used, reason = "3 significant digits are always a valid precision")]
        let histogram = || Histogram::new(3).expect("precision");
        Self {
            socket,
            session: unix_nanos().wrapping_add(SESSIONS.fetch_add(1, Ordering::Relaxed)),
            headers: if order.target.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 },
            answered: vec![false; usize::try_from(order.pings).unwrap_or(0)],
            back: 0,
            told: None,
            round_trip: histogram(),
            there: histogram(),
            home: histogram(),
        }
    }

    fn ping(&mut self, pings: u64, interval: Duration, wait: Duration) -> io::Result<()> {
        let begun = Instant::now();
        for sequence in 0..pings {
            let due = begun + Duration::from_nanos(interval.as_nanos() as u64 * sequence);
            self.listen_until(due)?;
            let ping = Packet { sequence, sent: unix_nanos(), ..Packet::new(Kind::Ping, self.session) };
            // An error is an answer of the network to an earlier packet, or a full queue: the packet is lost.
            let _ = self.socket.send(&ping.encode());
        }
        let deadline = Instant::now() + wait;
        while self.back < pings && Instant::now() < deadline {
            self.listen_until(deadline.min(Instant::now() + Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Takes what comes until `deadline`, and at least looks once.
    fn listen_until(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.socket.set_nonblocking(true)?;
            } else {
                self.socket.set_nonblocking(false)?;
                self.socket.set_read_timeout(Some(left))?;
            }
            let mut buffer = [0; LENGTH + 1];
            match receive(&self.socket, &mut buffer) {
                Ok(Received { length, at, .. }) => self.take(&buffer[..length], at),
                Err(_) if left.is_zero() => return Ok(()),
                // The time-out, or the network's answer to a packet sent before.
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, bytes: &[u8], now: u64) {
        let Some(packet) = Packet::decode(bytes).filter(|packet| packet.session == self.session) else { return };
        if !matches!(packet.kind, Kind::Pong | Kind::Counts) {
            return;
        }
        if self.told.is_none_or(|told| packet.kind == Kind::Counts || packet.pings > told.pings) {
            self.told = Some(packet);
        }
        let first = usize::try_from(packet.sequence).ok().and_then(|at| self.answered.get_mut(at));
        let Some(answered) = first.filter(|answered| packet.kind == Kind::Pong && !**answered) else { return };
        *answered = true;
        self.back += 1;
        for (histogram, from, to) in [
            (&mut self.round_trip, packet.sent, now),
            (&mut self.there, packet.sent, packet.received),
            (&mut self.home, packet.received, now),
        ] {
            // The range grows to every u64, so this can't fail.
            let _ = histogram.record(to.saturating_sub(from) / 1000);
        }
    }

    /// Sends a train, and says how fast it really was.
    fn train(&mut self, order: &TrainOrder) -> io::Result<f64> {
        let frame = (TRAIN_LENGTH + self.headers) as f64;
        let per_second = order.bytes_per_second as f64 / frame;
        let uncounted = Duration::from_millis(order.uncounted_millis);
        let length = uncounted + Duration::from_millis(order.counted_millis);
        let packet = |kind| {
            let mut bytes = Packet::new(kind, self.session).encode().to_vec();
            bytes.resize(TRAIN_LENGTH, 0);
            bytes
        };
        let (warm, counted) = (packet(Kind::Uncounted), packet(Kind::Counted));
        self.socket.set_nonblocking(true)?;
        let begun = Instant::now();
        let (mut due, mut sent_counted) = (0.0, 0_u64);
        let mut last = begun;
        loop {
            let now = Instant::now();
            let elapsed = now - begun;
            if elapsed >= length {
                break;
            }
            // What could not be sent in its beat is not sent in a burst later.
            due = (due + (now - last).as_secs_f64() * per_second).min(per_second * 0.02 + 2.0);
            last = now;
            let bytes = if elapsed < uncounted { &warm } else { &counted };
            while due >= 1.0 {
                due -= 1.0;
                // The socket's queue is full when the link is slower than the train.
                if self.socket.send(bytes).is_err() {
                    break;
                }
                sent_counted += u64::from(elapsed >= uncounted);
                // A rate beyond this host's is sent as fast as it goes, and still ends in time.
                if now.elapsed() > LONGEST_BEAT {
                    break;
                }
            }
            sleep(TRAIN_BEAT);
        }
        let counted = (begun.elapsed() - uncounted).as_secs_f64();
        Ok(sent_counted as f64 * frame / counted.max(1e-9))
    }

    /// Asks for the counts, until they are there and stay as they are.
    fn finish(mut self, wait: Duration, sent_rate: Option<f64>) -> ProbeResult {
        let mut counts: Option<Packet> = None;
        for attempt in 0..REPORT_TRIES {
            if attempt >= SILENT_TRIES && counts.is_none() && self.back == 0 && !self.answered.is_empty() {
                break;
            }
            self.told = None;
            let ask = Packet::new(Kind::Report, self.session).encode();
            let _ = self.socket.set_nonblocking(false).and_then(|()| self.socket.send(&ask));
            let deadline = Instant::now() + wait + REPORT_WAIT;
            while self.told.is_none_or(|told| told.kind != Kind::Counts) && Instant::now() < deadline {
                if self.listen_until(Instant::now() + Duration::from_millis(5)).is_err() {
                    break;
                }
            }
            let fresh = self.told.filter(|told| told.kind == Kind::Counts);
            if fresh.is_some() && fresh == counts {
                break;
            }
            counts = fresh.or(counts);
            sleep(REPORT_PAUSE);
        }
        let train = sent_rate.zip(counts).map(|(sent_bytes_per_second, counts)| {
            let packets_per_second =
                if counts.received == 0 { 0.0 } else { counts.packets as f64 * 1e9 / counts.received as f64 };
            TrainResult {
                sent_bytes_per_second,
                received_bytes_per_second: packets_per_second * (TRAIN_LENGTH + self.headers) as f64,
                goodput_bytes_per_second: packets_per_second * TRAIN_LENGTH as f64,
            }
        });
        ProbeResult {
            pings: self.answered.len() as u64,
            there: counts.map(|counts| counts.pings),
            back: self.back,
            duplicates: counts.map_or(0, |counts| counts.duplicates),
            reordered: counts.map_or(0, |counts| counts.reordered),
            round_trip: Times::of(&self.round_trip),
            one_way_there: Times::of(&self.there),
            one_way_back: Times::of(&self.home),
            train,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Responder;

    fn order(target: SocketAddr) -> ProbeOrder {
        ProbeOrder { target, pings: 50, interval_micros: 1000, wait_millis: 500, train: None }
    }

    #[test]
    fn loopback_loses_nothing_and_carries_the_train() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let responder = Responder::start(address.parse().unwrap()).unwrap();
            let train = TrainOrder { bytes_per_second: 1_000_000, uncounted_millis: 50, counted_millis: 200 };
            let order = ProbeOrder { train: Some(train), ..order(responder.address()) };
            let result = probe(responder.address().ip(), &order).unwrap();
            assert_eq!((result.pings, result.there, result.back), (50, Some(50), 50));
            let (round_trip, there) = (result.round_trip.unwrap(), result.one_way_there.unwrap());
            assert!(there.p50_micros <= round_trip.max_micros);
            let train = result.train.unwrap();
            assert!(train.received_bytes_per_second > 0.0, "{train:?}");
            assert!(train.goodput_bytes_per_second < train.received_bytes_per_second);
        }
    }

    #[test]
    fn an_end_that_does_not_answer_is_a_result_not_an_error() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let order = ProbeOrder { pings: 3, wait_millis: 1, ..order(silent.local_addr().unwrap()) };
        let result = probe(Ipv4Addr::LOCALHOST.into(), &order).unwrap();
        assert_eq!((result.there, result.back, result.round_trip), (None, 0, None));
    }

    #[test]
    fn an_order_without_end_is_refused() {
        let target = "127.0.0.1:9".parse().unwrap();
        for order in [
            ProbeOrder { pings: u64::MAX, ..order(target) },
            ProbeOrder { interval_micros: u64::MAX, ..order(target) },
            ProbeOrder { wait_millis: u64::MAX, ..order(target) },
        ] {
            assert!(probe(Ipv4Addr::LOCALHOST.into(), &order).is_err());
        }
    }
}
