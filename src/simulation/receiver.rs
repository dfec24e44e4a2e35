//! Receiving half of a connection's end: the bytes that its stream has not read.

use std::{
    collections::{BTreeMap, VecDeque},
    task::Waker,
};

use bytes::{Buf, Bytes};

use super::sender::MOST_UNREAD;

/// Bytes and flights that have arrived.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    unread: VecDeque<Bytes>,
    /// Flights that arrived before earlier ones, which the sender's window bounds.
    early: BTreeMap<u32, (Bytes, bool)>,
    /// Number of the next flight that can be read.
    next: u32,
    /// Bytes that have arrived in order, that were read, and that the sender knows to be read.
    received: u64,
    read: u64,
    told: u64,
    has_ended: bool,
    /// Time at which the last acknowledgement arrives: they arrive in order.
    pub(super) last_ack_at: u64,
    pub(super) waker: Option<Waker>,
}

impl Receiver {
    /// Takes a flight, with the end of the stream if `fin`; true if there is more to read.
    pub(super) fn take(&mut self, number: u32, bytes: Bytes, fin: bool) -> bool {
        if number != self.next {
            self.early.insert(number, (bytes, fin));
            return false;
        }
        self.append(bytes, fin);
        while let Some((bytes, fin)) = self.early.remove(&self.next) {
            self.append(bytes, fin);
        }
        true
    }

    fn append(&mut self, bytes: Bytes, fin: bool) {
        self.next = self.next.wrapping_add(1);
        self.has_ended |= fin;
        self.received += bytes.len() as u64;
        if !bytes.is_empty() {
            self.unread.push_back(bytes);
        }
    }

    /// Bytes that can be read.
    pub(super) fn readable(&self) -> u64 {
        self.received - self.read
    }

    /// True if the stream ends after the bytes that can be read.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Moves bytes into `buffer`, and returns their number.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        while count < buffer.len()
            && let Some(first) = self.unread.front_mut()
        {
            let part = first.len().min(buffer.len() - count);
            first.copy_to_slice(&mut buffer[count..count + part]);
            count += part;
            if first.is_empty() {
                self.unread.pop_front();
            }
        }
        if self.unread.is_empty() {
            self.unread = VecDeque::new();
        }
        self.read += count as u64;
        count
    }

    /// Bytes read so far, for the sender, who knows them from now on.
    pub(super) fn tell(&mut self) -> u64 {
        self.told = self.read;
        self.read
    }

    /// True if the sender may wait for room that is there now. A sender waits only when almost all of the buffer is unread,
    /// as far as it knows.
    pub(super) fn must_tell(&self) -> bool {
        self.received - self.told > MOST_UNREAD / 2 && self.read - self.told >= MOST_UNREAD / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flights_are_read_in_order_and_in_parts() {
        let mut receiver = Receiver::default();
        assert!(!receiver.take(1, Bytes::from_static(b"defg"), false));
        assert!(!receiver.take(2, Bytes::new(), true));
        assert_eq!((receiver.readable(), receiver.has_ended()), (0, false));
        assert!(receiver.take(0, Bytes::from_static(b"abc"), false));
        assert_eq!((receiver.readable(), receiver.has_ended()), (7, true));
        let mut buffer = [0; 5];
        assert_eq!((receiver.read(&mut buffer), &buffer), (5, b"abcde"));
        assert_eq!((receiver.read(&mut buffer), &buffer[..2]), (2, &b"fg"[..]));
        assert_eq!((receiver.read(&mut buffer), receiver.tell(), receiver.must_tell()), (0, 7, false));
    }

    #[test]
    fn a_sender_whose_buffer_was_full_is_told_of_room() {
        let mut receiver = Receiver::default();
        let flight = Bytes::from(vec![0; 1 << 20]);
        for number in 0..3 {
            receiver.take(number, flight.clone(), false);
            receiver.tell();
        }
        let mut buffer = vec![0; 700_000];
        receiver.read(&mut buffer);
        assert!(!receiver.must_tell());
        receiver.read(&mut buffer);
        assert!(receiver.must_tell());
        assert_eq!((receiver.tell(), receiver.must_tell()), (1_400_000, false));
    }
}
