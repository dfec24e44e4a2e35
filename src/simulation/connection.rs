//! One end of a TCP connection: the bytes that it sends, and the wakers of its stream.

use std::{collections::VecDeque, net::SocketAddr, task::Waker};

use super::{
    congestion::{Congestion, SEGMENT},
    end_id::NUMBERS,
    host::Bucket,
};

/// Bytes that a stream may hold beyond its window: Linux lets a send buffer grow with the window, from 46 KiB up to
/// 4 MiB.
const LEAST_BUFFER: u64 = 46 << 10;
const MOST_BUFFER: u64 = 4 << 20;

/// Bytes that a receiver takes without reading them: half of Linux' largest receive buffer of 6 MiB.
const MOST_UNREAD: u64 = 3 << 20;

/// Room of a buffer above which it is given back when it is empty.
const KEPT_BUFFER: usize = 16 << 10;

/// Segments that are sent together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) bytes: u64,
    pub(super) segments: u64,
    /// Number of the first segment in the connection.
    pub(super) first: u64,
    /// True for the end of the stream.
    pub(super) fin: bool,
    pub(super) sent_at: u64,
    /// Transmissions so far.
    pub(super) attempts: u32,
    pub(super) has_arrived: bool,
    /// Segments that were lost in the last transmission, and not sent again yet.
    pub(super) lost: u64,
    /// Segments after these that were acknowledged since.
    pub(super) acked_after: u64,
    /// Time at which a timer sends lost segments again.
    pub(super) again_at: u64,
}

/// An acknowledgement under way to the sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) segments: u64,
    pub(super) sent_at: u64,
    /// True if the segments were sent more than once: their round trip is unknown then.
    pub(super) again: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: u32,
    /// The other end.
    pub(super) peer: u32,
    pub(super) peer_host: u32,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Bytes sent by this end: those that the other end can read, those under way, those that wait.
    pub(super) bytes: VecDeque<u8>,
    pub(super) readable: u64,
    pub(super) under_way: u64,
    pub(super) unsent: u64,
    /// Flights that the other end can't read yet, by number.
    pub(super) flights: VecDeque<Flight>,
    pub(super) first_flight: u32,
    pub(super) acks: VecDeque<Ack>,
    /// Time of the last acknowledgement under way: they arrive in order.
    pub(super) last_ack_at: u64,
    pub(super) congestion: Congestion,
    pub(super) sent_segments: u64,
    pub(super) acked_segments: u64,
    /// Bytes that are not acknowledged.
    pub(super) unacked: u64,
    pub(super) last_sent_at: u64,
    pub(super) limited: bool,
    /// Rate of the link of these two hosts alone.
    pub(super) link: Option<Bucket>,
    /// Packets sent.
    pub(super) packets: u64,
    /// The stream is closed for writing; the end of the stream is sent; it has arrived.
    pub(super) closed: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_arrived: bool,
    /// The connection is broken for this end.
    pub(super) reset: bool,
    /// The stream of this end was dropped.
    pub(super) dropped: bool,
    pub(super) is_waiting: bool,
    pub(super) awaits_window: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// Both addresses of an end and the place of the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) host: u32,
    pub(super) peer: u32,
    pub(super) peer_host: u32,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl End {
    pub(super) fn new(place: Place, round_trip: u64, link: Option<Bucket>) -> Self {
        Self {
            host: place.host,
            peer: place.peer,
            peer_host: place.peer_host,
            local: place.local,
            remote: place.remote,
            bytes: VecDeque::new(),
            readable: 0,
            under_way: 0,
            unsent: 0,
            flights: VecDeque::new(),
            first_flight: 0,
            acks: VecDeque::new(),
            last_ack_at: 0,
            congestion: Congestion::new(round_trip.max(1)),
            sent_segments: 0,
            acked_segments: 0,
            unacked: 0,
            last_sent_at: 0,
            limited: false,
            link,
            packets: 0,
            closed: false,
            fin_sent: false,
            fin_arrived: false,
            reset: false,
            dropped: false,
            is_waiting: false,
            awaits_window: false,
            reader: None,
            writer: None,
        }
    }

    /// Bytes that the stream may still write.
    pub(super) fn room(&self) -> u64 {
        self.buffer().saturating_sub(self.unsent + self.unacked)
    }

    fn buffer(&self) -> u64 {
        (2 * self.congestion.window() * SEGMENT).clamp(LEAST_BUFFER, MOST_BUFFER)
    }

    /// True if a writer that waits for room is to be woken, which Linux does at a third of the buffer.
    pub(super) fn has_much_room(&self) -> bool {
        3 * self.room() >= self.buffer()
    }

    /// Segments that may be sent now; remembers the reason if there are none.
    pub(super) fn sendable(&mut self) -> u64 {
        if self.unsent == 0 {
            return u64::from(self.closed && !self.fin_sent);
        }
        let wanted = self.unsent.div_ceil(SEGMENT);
        let room = self.congestion.window().saturating_sub(self.sent_segments - self.acked_segments);
        if room < wanted {
            self.limited = true;
        }
        let unread = MOST_UNREAD.saturating_sub(self.readable + self.under_way) / SEGMENT;
        if unread == 0 {
            self.awaits_window = true;
        }
        wanted.min(room).min(unread)
    }

    /// Takes the next flight of at most `segments`, and returns its number.
    pub(super) fn take_flight(&mut self, now: u64, segments: u64) -> u32 {
        let bytes = self.unsent.min(segments * SEGMENT);
        let fin = bytes == 0;
        let segments = bytes.div_ceil(SEGMENT).max(1);
        if self.sent_segments == self.acked_segments {
            self.congestion.idle(now.saturating_sub(self.last_sent_at));
            // Nothing was under way, so the window was no reason to wait.
            self.limited = self.unsent > bytes;
        }
        self.fin_sent |= fin;
        self.unsent -= bytes;
        self.under_way += bytes;
        self.unacked += bytes;
        let number = self.first_flight.wrapping_add(u32::try_from(self.flights.len()).unwrap_or(0));
        let first = self.sent_segments;
        self.sent_segments += segments;
        self.flights.push_back(Flight {
            bytes,
            segments,
            first,
            fin,
            sent_at: now,
            attempts: 0,
            has_arrived: false,
            lost: 0,
            acked_after: 0,
            again_at: u64::MAX,
        });
        number
    }

    /// A flight by its number; none if it is over.
    pub(super) fn flight(&mut self, number: u32) -> Option<&mut Flight> {
        let at = number.wrapping_sub(self.first_flight) & NUMBERS;
        self.flights.get_mut(at as usize)
    }

    /// Lets the other end read all flights that are complete; true if there are any.
    pub(super) fn deliver(&mut self) -> bool {
        let mut any = false;
        while self.flights.front().is_some_and(|flight| flight.has_arrived) {
            let Some(flight) = self.flights.pop_front() else { break };
            self.first_flight = self.first_flight.wrapping_add(1) & NUMBERS;
            self.under_way -= flight.bytes;
            self.readable += flight.bytes;
            self.fin_arrived |= flight.fin;
            any = true;
        }
        any
    }

    /// Moves readable bytes into `buffer`, and returns their number.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(usize::try_from(self.readable).unwrap_or(usize::MAX));
        let (first, second) = self.bytes.as_slices();
        let from_first = count.min(first.len());
        buffer[..from_first].copy_from_slice(&first[..from_first]);
        buffer[from_first..count].copy_from_slice(&second[..count - from_first]);
        self.bytes.drain(..count);
        self.readable -= count as u64;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BUFFER {
            self.bytes = VecDeque::new();
        }
        count
    }
}
