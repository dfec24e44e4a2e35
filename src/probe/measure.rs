//! Asking end of a probe.
#![allow(clippy::disallowed_methods, reason = "the kernel stamps the packets, so time is that of the machine")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{
    order::{
        HEADERS_V4, HEADERS_V6, MessageOrder, MessageResult, ProbeOrder, ProbeResult, REPORT_PAUSE, REPORT_TRIES,
        REPORT_WAIT, Times, TrainOrder, TrainResult, message_bytes,
    },
    packet::{Kind, LENGTH, Packet, TRAIN_LENGTH},
    socket::{Received, make_room, receive, stamp},
};
use crate::clock::wall_nanos;

/// Bounds of an order: ten minutes with a ping a millisecond, and as much of a train.
const MOST_PINGS: u64 = 600_000;
const LONGEST: Duration = Duration::from_secs(600);

/// Number of requests for counts if no answer has ever returned.
const SILENT_TRIES: u32 = 5;

/// Maximum time for passing a packet to the kernel, in nanoseconds: beyond it this thread was interrupted, and the time
/// of sending is unknown.
const SENDING: u64 = 1_000_000;

/// Interval at which the packets of a train are sent together.
const TRAIN_BEAT: Duration = Duration::from_millis(1);

/// Sending time of the packets that may wait in the socket, in milliseconds: on a busy host this thread may stand still
/// for this time, and the link would have nothing to carry.
const WAITING_MILLIS: u64 = 20;

/// Maximum number of bytes that may wait in the socket.
const MOST_WAITING: u64 = 4 << 20;

/// Maximum time of sending without a check of the clock.
const LONGEST_BEAT: Duration = Duration::from_millis(5);

/// Measures a link from `source`; takes as long as the order requires.
///
/// # Errors
/// Fails if the order can't be carried out, or the socket fails. A link that carries nothing is no error.
pub fn probe(source: IpAddr, order: &ProbeOrder) -> io::Result<ProbeResult> {
    let refused = |words: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    let wait = Duration::from_millis(order.wait_millis);
    if order.pings > MOST_PINGS || order.ping_time() > LONGEST || wait > LONGEST {
        return refused("the probe would take more than ten minutes or 600000 pings");
    }
    if u128::from(order.train_millis()) > LONGEST.as_millis() {
        return refused("the train would take more than ten minutes");
    }
    if order.message.is_some_and(|message| message.longest() > LONGEST) {
        return refused("the messages would take more than ten minutes");
    }
    let any = if order.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = if source.is_ipv4() == order.target.is_ipv4() { source } else { any };
    let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
    socket.connect(order.target)?;
    stamp(&socket)?;
    let mut prober = Prober::new(socket, order);
    prober.ping(order.pings, Duration::from_micros(order.interval_micros), wait)?;
    let message = order.message.map(|message| prober.messages(&message)).transpose()?;
    let sent_rate = order.train.map(|train| prober.train(&train)).transpose()?;
    Ok(ProbeResult { message, ..prober.finish(wait, sent_rate) })
}

/// Time of the way there and of the way back, in nanoseconds, without the processing time of the other end.
fn round_trip(answer: &Packet, now: u64) -> u64 {
    let answering = answer.answered.saturating_sub(answer.received);
    now.saturating_sub(answer.sent).saturating_sub(answering)
}

struct Prober {
    socket: UdpSocket,
    session: u64,
    headers: usize,
    answered: Vec<bool>,
    back: u64,
    /// Latest counts that the other end has reported.
    told: Option<Packet>,
    /// Last ping whose sending was interrupted: its times are unknown.
    interrupted: Option<u64>,
    /// Last message that arrived completely, and the time at which its answer returned.
    arrived: Option<(Packet, u64)>,
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
            session: wall_nanos().wrapping_add(SESSIONS.fetch_add(1, Ordering::Relaxed)),
            headers: if order.target.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 },
            answered: vec![false; usize::try_from(order.pings).unwrap_or(0)],
            back: 0,
            told: None,
            interrupted: None,
            arrived: None,
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
            let ping = Packet { sequence, sent: wall_nanos(), ..Packet::new(Kind::Ping, self.session) };
            // An error is an answer of the network to an earlier packet, or a full queue: the packet is lost.
            let _ = self.socket.send(&ping.encode());
            if wall_nanos().saturating_sub(ping.sent) > SENDING {
                self.interrupted = Some(sequence);
            }
        }
        let deadline = Instant::now() + wait;
        while self.back < pings && Instant::now() < deadline {
            self.listen_until(deadline.min(Instant::now() + Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Receives packets until `deadline`, at least once.
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
                // The time-out, or the network's answer to an earlier packet.
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, bytes: &[u8], now: u64) {
        let Some(packet) = Packet::decode(bytes).filter(|packet| packet.session == self.session) else { return };
        match packet.kind {
            Kind::Pong | Kind::Counts => {}
            Kind::Arrived => return self.arrived = Some((packet, now)),
            _ => return,
        }
        if self.told.is_none_or(|told| packet.kind == Kind::Counts || packet.pings > told.pings) {
            self.told = Some(packet);
        }
        let first = usize::try_from(packet.sequence).ok().and_then(|at| self.answered.get_mut(at));
        let Some(answered) = first.filter(|answered| packet.kind == Kind::Pong && !**answered) else { return };
        *answered = true;
        self.back += 1;
        if self.interrupted == Some(packet.sequence) {
            return;
        }
        for (histogram, nanos) in [
            (&mut self.round_trip, round_trip(&packet, now)),
            (&mut self.there, packet.received.saturating_sub(packet.sent)),
            (&mut self.home, now.saturating_sub(packet.answered)),
        ] {
            // The range grows to every u64, so this can't fail.
            let _ = histogram.record(nanos / 1000);
        }
    }

    /// Sends messages, each after the arrival of the previous one, and returns the median of their times.
    fn messages(&mut self, order: &MessageOrder) -> io::Result<MessageResult> {
        let parts = order.parts();
        let wait = Duration::from_millis(order.wait_millis);
        let (mut there, mut both) = (vec![], vec![]);
        for sequence in 1..=order.count {
            self.arrived = None;
            self.socket.set_nonblocking(false)?;
            let sent = wall_nanos();
            for place in 0..parts {
                let part =
                    Packet { sequence, sent, pings: place, packets: parts, ..Packet::new(Kind::Part, self.session) };
                let mut bytes = part.encode().to_vec();
                bytes.resize(TRAIN_LENGTH, 0);
                // A packet that can't be sent is lost, and its message with it.
                let _ = self.socket.send(&bytes);
            }
            let deadline = Instant::now() + wait;
            let this = |arrived: Option<(Packet, u64)>| arrived.filter(|(packet, _)| packet.sequence == sequence);
            while this(self.arrived).is_none() && Instant::now() < deadline {
                self.listen_until(deadline.min(Instant::now() + Duration::from_millis(10)))?;
            }
            if let Some((packet, now)) = this(self.arrived) {
                there.push(packet.received.saturating_sub(packet.sent) / 1000);
                both.push(round_trip(&packet, now) / 1000);
            }
        }
        let median = |times: &mut Vec<u64>| {
            times.sort_unstable();
            times.get(times.len() / 2).copied()
        };
        Ok(MessageResult {
            bytes: message_bytes(order, self.headers == HEADERS_V4),
            sent: order.count,
            came: there.len() as u64,
            one_way_micros: median(&mut there),
            round_trip_micros: median(&mut both),
        })
    }

    /// Sends a train, and returns its actual rate.
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
        let waiting = order.bytes_per_second.saturating_mul(WAITING_MILLIS) / 1000;
        make_room(&self.socket, usize::try_from(waiting.min(MOST_WAITING)).unwrap_or(0));
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
            // Packets that could not be sent in their interval are not sent in a burst later.
            due = (due + (now - last).as_secs_f64() * per_second).min(per_second * 0.02 + 2.0);
            last = now;
            let bytes = if elapsed < uncounted { &warm } else { &counted };
            while due >= 1.0 {
                due -= 1.0;
                // The socket's queue is full if the link is slower than the train.
                if self.socket.send(bytes).is_err() {
                    break;
                }
                sent_counted += u64::from(elapsed >= uncounted);
                // A rate beyond this host's capacity is sent at the possible rate, and still ends in time.
                if now.elapsed() > LONGEST_BEAT {
                    break;
                }
            }
            sleep(TRAIN_BEAT);
        }
        let counted = (begun.elapsed() - uncounted).as_secs_f64();
        Ok(sent_counted as f64 * frame / counted.max(1e-9))
    }

    /// Requests the counts until they have arrived and no longer change.
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
            message: None,
            train,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Responder;

    fn order(target: SocketAddr) -> ProbeOrder {
        ProbeOrder { target, pings: 50, interval_micros: 1000, wait_millis: 500, message: None, train: None }
    }

    #[test]
    fn loopback_loses_nothing_and_carries_the_train() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let responder = Responder::start(address.parse().unwrap()).unwrap();
            let train = TrainOrder { bytes_per_second: 1_000_000, uncounted_millis: 50, counted_millis: 200 };
            let message = MessageOrder { bytes: 8 << 10, count: 3, wait_millis: 1000 };
            let order = ProbeOrder { message: Some(message), train: Some(train), ..order(responder.address()) };
            let result = probe(responder.address().ip(), &order).unwrap();
            assert_eq!((result.pings, result.there, result.back), (50, Some(50), 50));
            let (round_trip, there) = (result.round_trip.unwrap(), result.one_way_there.unwrap());
            assert!(there.p50_micros <= round_trip.max_micros);
            let message = result.message.unwrap();
            assert_eq!((message.sent, message.came), (3, 3));
            assert_eq!(message.bytes, 7 * (1200 + if address.starts_with('[') { 86 } else { 66 }));
            assert!(message.one_way_micros <= message.round_trip_micros);
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
    fn an_end_that_answers_late_does_not_make_the_link_slow() {
        let responder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = responder.local_addr().unwrap();
        let late = Duration::from_millis(80);
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; LENGTH];
            for _ in 0..3 {
                let (length, from) = responder.recv_from(&mut buffer).unwrap();
                let received = wall_nanos();
                sleep(late);
                let ping = Packet::decode(&buffer[..length]).unwrap();
                let answer = Packet { kind: Kind::Pong, received, answered: wall_nanos(), ..ping };
                responder.send_to(&answer.encode(), from).unwrap();
            }
        });
        let result = probe(Ipv4Addr::LOCALHOST.into(), &ProbeOrder { pings: 3, ..order(target) }).unwrap();
        answering.join().unwrap();
        let micros = u64::try_from(late.as_micros()).unwrap();
        assert_eq!(result.back, 3);
        assert!(result.one_way_back.unwrap().p50_micros < micros, "{result:?}");
        // The next ping waits for the answer to the previous one: only the first one is alone under way.
        assert!(result.round_trip.unwrap().min_micros < micros, "{result:?}");
    }

    #[test]
    fn an_order_without_end_is_refused() {
        let target = "127.0.0.1:9".parse().unwrap();
        for order in [
            ProbeOrder { pings: u64::MAX, ..order(target) },
            ProbeOrder { interval_micros: u64::MAX, ..order(target) },
            ProbeOrder { wait_millis: u64::MAX, ..order(target) },
            ProbeOrder { message: Some(MessageOrder { bytes: 1, count: u64::MAX, wait_millis: 2 }), ..order(target) },
        ] {
            assert!(probe(Ipv4Addr::LOCALHOST.into(), &order).is_err());
        }
    }
}
