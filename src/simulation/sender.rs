//! Sending half of a connection's end: the bytes that its stream has written, until they are acknowledged.

use std::{collections::VecDeque, mem, task::Waker};

use bytes::Bytes;

use super::{
    congestion::{Acknowledged, Congestion, SEGMENT},
    packet::Ack,
};

/// Bytes that a stream may hold beyond its window: Linux lets a send buffer grow with the window, from 46 KiB up to
/// 4 MiB.
const LEAST_BUFFER: u64 = 46 << 10;
const MOST_BUFFER: u64 = 4 << 20;

/// Bytes that a receiver takes without reading them: half of Linux' largest receive buffer of 6 MiB.
pub(super) const MOST_UNREAD: u64 = 3 << 20;

/// Segments after a lost one whose acknowledgement shows the loss (RFC 5681).
const SHOW_LOSS: u64 = 3;

/// Segments that are sent together.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) bytes: Bytes,
    pub(super) segments: u64,
    /// Number of the first segment in the connection.
    pub(super) first: u64,
    /// True for the end of the stream.
    pub(super) fin: bool,
    pub(super) sent_at: u64,
    /// Transmissions so far.
    pub(super) attempts: u32,
    is_acked: bool,
    /// Segments that were lost in the last transmission, and not sent again yet.
    pub(super) lost: u64,
    /// Segments after these that were acknowledged since.
    acked_after: u64,
    /// Time at which a timer sends lost segments again.
    pub(super) again_at: u64,
}

/// Bytes of one direction, and the state of their transmission.
#[derive(Debug, Default)]
pub(super) struct Sender {
    unsent: VecDeque<u8>,
    /// Flights from the first one that is not acknowledged on, by number.
    flights: VecDeque<Flight>,
    first_flight: u32,
    /// Flights with lost segments.
    lossy: u32,
    pub(super) congestion: Congestion,
    pub(super) sent_segments: u64,
    pub(super) acked_segments: u64,
    /// Bytes that are not acknowledged, all that were sent, and those that the receiver is known to have read.
    unacked: u64,
    sent: u64,
    read: u64,
    last_sent_at: u64,
    /// Time at which the last of all flights is at the other host's interface.
    pub(super) last_arrives_at: u64,
    limited: bool,
    /// The stream is closed for writing, and its end is sent.
    pub(super) closed: bool,
    fin_sent: bool,
    pub(super) waker: Option<Waker>,
}

impl Sender {
    /// Bytes that are not acknowledged, sent or not.
    pub(super) fn held(&self) -> u64 {
        self.unsent.len() as u64 + self.unacked
    }

    /// True if everything, the end of the stream too, is acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.fin_sent && self.flights.is_empty()
    }

    /// Bytes that the stream may still write.
    pub(super) fn room(&self) -> u64 {
        self.buffer().saturating_sub(self.held())
    }

    fn buffer(&self) -> u64 {
        (2 * self.congestion.window() * SEGMENT).clamp(LEAST_BUFFER, MOST_BUFFER)
    }

    /// True if a writer that waits for room is to be woken, which Linux does at a third of the buffer.
    pub(super) fn has_much_room(&self) -> bool {
        3 * self.room() >= self.buffer()
    }

    /// Takes bytes of the stream.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// The receiver has read so many bytes.
    pub(super) fn learn(&mut self, read: u64) {
        self.read = self.read.max(read);
    }

    /// Segments that may be sent now.
    pub(super) fn sendable(&mut self) -> u64 {
        let unsent = self.unsent.len() as u64;
        if unsent == 0 {
            return u64::from(self.closed && !self.fin_sent);
        }
        let wanted = unsent.div_ceil(SEGMENT);
        let room = self.congestion.window().saturating_sub(self.under_way());
        if room < wanted {
            self.limited = true;
        }
        let unread = MOST_UNREAD.saturating_sub(self.sent - self.read) / SEGMENT;
        wanted.min(room).min(unread)
    }

    fn under_way(&self) -> u64 {
        self.sent_segments - self.acked_segments
    }

    /// True if at most one segment is under way, whose acknowledgement the receiver may delay.
    pub(super) fn is_alone(&self) -> bool {
        self.under_way() <= 1
    }

    /// Takes the next flight of at most `segments`, and returns its number.
    pub(super) fn take_flight(&mut self, now: u64, segments: u64) -> u32 {
        let count = self.unsent.len().min(usize::try_from(segments * SEGMENT).unwrap_or(usize::MAX));
        // All bytes leave as they are, unless much room were kept for a few of them.
        let bytes: Vec<u8> = if count == self.unsent.len() && self.unsent.capacity() <= 2 * count {
            mem::take(&mut self.unsent).into()
        } else {
            self.unsent.drain(..count).collect()
        };
        if self.unsent.is_empty() {
            self.unsent = VecDeque::new();
        }
        let fin = count == 0;
        let count = count as u64;
        let segments = count.div_ceil(SEGMENT).max(1);
        if self.under_way() == 0 {
            self.congestion.idle(now.saturating_sub(self.last_sent_at));
            // Nothing was under way, so the window was no reason to wait.
            self.limited = !self.unsent.is_empty();
        }
        self.fin_sent |= fin;
        self.unacked += count;
        self.sent += count;
        let number = self.first_flight.wrapping_add(u32::try_from(self.flights.len()).unwrap_or(0));
        let first = self.sent_segments;
        self.sent_segments += segments;
        self.flights.push_back(Flight {
            bytes: bytes.into(),
            segments,
            first,
            fin,
            sent_at: now,
            attempts: 0,
            is_acked: false,
            lost: 0,
            acked_after: 0,
            again_at: u64::MAX,
        });
        number
    }

    /// A flight by its number; none if it is over.
    pub(super) fn flight(&mut self, number: u32) -> Option<&mut Flight> {
        self.flights.get_mut(number.wrapping_sub(self.first_flight) as usize)
    }

    /// A flight goes on the wire now: its segments there, and their payload in bytes. Only lost segments are sent again.
    pub(super) fn transmit(&mut self, now: u64, number: u32) -> Option<(u64, u64)> {
        let flight = self.flight(number)?;
        let (lost, payload) = (flight.lost, flight.bytes.len() as u64);
        let sent = match flight.attempts {
            0 => (flight.segments, payload),
            _ => (lost.max(1), payload.min(lost.max(1) * SEGMENT)),
        };
        (flight.sent_at, flight.lost, flight.acked_after, flight.again_at) = (now, 0, 0, u64::MAX);
        flight.attempts += 1;
        self.lossy -= u32::from(lost > 0);
        self.last_sent_at = now;
        Some(sent)
    }

    /// Segments of a flight were lost: the time at which a timer sends them again, if nothing does before.
    pub(super) fn lose(&mut self, number: u32, segments: u64) -> Option<u64> {
        let probe = self.congestion.probe_after(self.is_alone());
        let attempts = self.flight(number)?.attempts;
        let wait = if attempts <= 1 { probe } else { self.congestion.timeout(attempts - 2) };
        let flight = self.flight(number)?;
        let first_loss = flight.lost == 0;
        (flight.lost, flight.again_at) = (segments, flight.sent_at.saturating_add(wait));
        let again_at = flight.again_at;
        self.lossy += u32::from(first_loss);
        Some(again_at)
    }

    /// Takes an acknowledgement, and returns the flights with lost segments that it shows, by number.
    pub(super) fn acknowledge(&mut self, now: u64, ack: &Ack) -> Vec<u32> {
        self.learn(ack.read);
        let Some(flight) = self.flight(ack.number).filter(|flight| !flight.is_acked) else { return vec![] };
        flight.is_acked = true;
        let (bytes, segments) = (mem::take(&mut flight.bytes).len() as u64, flight.segments);
        self.unacked -= bytes;
        self.acked_segments += segments;
        let state = Acknowledged {
            segments,
            round_trip: now - ack.sent_at,
            acked: self.acked_segments,
            sent: self.sent_segments,
            limited: self.limited,
        };
        if !ack.again {
            self.congestion.acknowledged(now, &state);
        }
        self.limited = !self.unsent.is_empty();
        let again = if self.lossy > 0 { self.shown(ack, segments) } else { vec![] };
        while self.flights.front().is_some_and(|flight| flight.is_acked) {
            self.flights.pop_front();
            self.first_flight = self.first_flight.wrapping_add(1);
        }
        if self.flights.is_empty() {
            self.flights = VecDeque::new();
        }
        again
    }

    /// Flights whose loss is shown by the acknowledgement of `segments` that were sent after them (RFC 8985).
    fn shown(&mut self, ack: &Ack, segments: u64) -> Vec<u32> {
        let own = ack.number.wrapping_sub(self.first_flight);
        let mut shown = vec![];
        for (at, flight) in (0..).zip(self.flights.iter_mut()).filter(|(_, flight)| flight.lost > 0) {
            if (flight.sent_at, at) < (ack.sent_at, own) {
                flight.acked_after += segments;
                if flight.acked_after >= SHOW_LOSS {
                    shown.push(self.first_flight.wrapping_add(at));
                }
            }
        }
        shown
    }

    /// Time before which no probe is sent for a loss at the end of all transmissions so far.
    pub(super) fn probe_at(&self) -> u64 {
        self.last_sent_at + self.congestion.probe_after(self.is_alone())
    }
}
