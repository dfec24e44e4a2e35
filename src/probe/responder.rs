//! Answering end of a probe.
#![allow(clippy::disallowed_methods, reason = "the kernel stamps the packets, so time is that of the machine")]

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};

use super::{
    packet::{Kind, Packet, TRAIN_LENGTH},
    socket::{Received, receive, stamp},
};
use crate::clock::wall_nanos;

/// Maximum number of remembered sessions: one for each other node of a large network, twice. The oldest is forgotten
/// first.
const MOST_SESSIONS: usize = 2048;

/// Bytes that may wait while this thread does not run: 30 ms of a gigabit per second.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Interval at which the thread checks if it has to end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Counts of one session.
struct Session {
    last: Instant,
    pings: u64,
    duplicates: u64,
    reordered: u64,
    /// One above the highest ping.
    next: u64,
    /// Bit `k` is ping `next - 1 - k`.
    seen: u128,
    packets: u64,
    /// Arrivals of the first and the last counted packet, in nanoseconds since the Unix epoch.
    first_counted: Option<u64>,
    last_counted: Option<u64>,
    /// Number of the arriving message, and bit `k` for its part `k`.
    message: u64,
    parts: u128,
}

impl Session {
    fn new(now: Instant) -> Self {
        Self {
            last: now,
            pings: 0,
            duplicates: 0,
            reordered: 0,
            next: 0,
            seen: 0,
            packets: 0,
            first_counted: None,
            last_counted: None,
            message: 0,
            parts: 0,
        }
    }

    /// Takes a part of a message, and returns true if it was the last missing one.
    fn part(&mut self, packet: &Packet) -> bool {
        if packet.sequence != self.message {
            (self.message, self.parts) = (packet.sequence, 0);
        }
        let bit = |at: u64| u32::try_from(at).ok().and_then(|at| 1_u128.checked_shl(at));
        let (Some(part), Some(after)) = (bit(packet.pings), bit(packet.packets)) else { return false };
        let new = part < after && self.parts & part == 0;
        if new {
            self.parts |= part;
        }
        new && self.parts == after - 1
    }

    fn ping(&mut self, sequence: u64) {
        // The largest number has no successor, and counting does not reach it.
        let Some(after) = sequence.checked_add(1) else { return };
        if sequence >= self.next {
            let ahead = after - self.next;
            self.seen = u32::try_from(ahead).ok().and_then(|by| self.seen.checked_shl(by)).unwrap_or(0) | 1;
            self.next = after;
            self.pings += 1;
            return;
        }
        // A ping older than the bits is too late to be distinguished from a duplicate; pings do not arrive in such
        // disorder.
        let bit = u32::try_from(self.next - 1 - sequence).ok().and_then(|by| 1_u128.checked_shl(by));
        if bit.is_some_and(|bit| self.seen & bit == 0) {
            self.seen |= bit.unwrap_or(0);
            self.pings += 1;
            self.reordered += 1;
        } else {
            self.duplicates += 1;
        }
    }

    fn counted(&mut self, now: u64) {
        if self.first_counted.is_none() {
            self.first_counted = Some(now);
        } else {
            // The first packet starts the clock, and its own transmission is outside of that time.
            self.packets += 1;
        }
        self.last_counted = Some(now);
    }

    fn span(&self) -> u64 {
        self.last_counted.zip(self.first_counted).map_or(0, |(last, first)| last.saturating_sub(first))
    }
}

/// A thread that answers probes, until it is dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Responder {
    /// Starts to answer at `address` (UDP).
    ///
    /// # Errors
    /// Fails if the address can't be listened on.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        // The kernel refuses this to a user without privileges, who gets the system's maximum for all users.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        stamp(&socket)?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("probe".into()).spawn(move || answer(&socket, &stopped))?;
        Ok(Self { stop, thread: Some(thread), address })
    }

    /// Address at which it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut sessions: HashMap<(SocketAddr, u64), Session> = HashMap::new();
    let mut buffer = [0; TRAIN_LENGTH + 1];
    while !stop.load(Ordering::Relaxed) {
        // An error is the time-out, or an earlier answer that a peer has refused: the next packet follows in any case.
        let Ok(Received { length, from: Some(from), at: received }) = receive(socket, &mut buffer) else { continue };
        let now = Instant::now();
        let Some(packet) = Packet::decode(&buffer[..length]) else { continue };
        if !matches!(packet.kind, Kind::Ping | Kind::Uncounted | Kind::Counted | Kind::Report | Kind::Part) {
            continue;
        }
        let key = (from, packet.session);
        if !sessions.contains_key(&key)
            && sessions.len() >= MOST_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.last).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        let session = sessions.entry(key).or_insert_with(|| Session::new(now));
        session.last = now;
        let kind = match packet.kind {
            Kind::Ping => {
                session.ping(packet.sequence);
                Kind::Pong
            }
            Kind::Report => Kind::Counts,
            Kind::Counted => {
                session.counted(received);
                continue;
            }
            Kind::Part if session.part(&packet) => Kind::Arrived,
            _ => continue,
        };
        let received = if kind == Kind::Counts { session.span() } else { received };
        let Session { pings, packets, duplicates, reordered, .. } = *session;
        let mut answer = Packet { kind, received, pings, packets, duplicates, reordered, ..packet };
        // Set last, because the time that this thread waited for a processor does not belong to the link.
        answer.answered = wall_nanos();
        // An answer that can't be sent is lost, as any packet may be.
        let _ = socket.send_to(&answer.encode(), from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_come_when_each_of_its_parts_has() {
        let part = |sequence, place| Packet { sequence, pings: place, packets: 3, ..Packet::new(Kind::Part, 1) };
        let mut session = Session::new(Instant::now());
        let came = [(1, 0), (1, 2), (1, 2), (1, 7), (1, u64::MAX), (1, 1), (1, 1), (2, 0), (2, 1), (3, 2), (2, 2)];
        let whole = came.map(|(sequence, place)| session.part(&part(sequence, place)));
        assert_eq!(whole, [false, false, false, false, false, true, false, false, false, false, false]);
    }

    #[test]
    fn pings_are_distinguished_from_duplicates_and_late_ones() {
        let mut session = Session::new(Instant::now());
        for sequence in [0, 1, 3, 2, 2, 5, 400, 399, 0, u64::MAX, u64::MAX] {
            session.ping(sequence);
        }
        assert_eq!((session.pings, session.reordered, session.duplicates), (7, 2, 2));
    }
}
