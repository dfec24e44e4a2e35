//! Header of 36 bytes, big endian, in the layout of Apollo's own node.

use thiserror::Error;

use super::Extension;

/// Bytes of the header: sender, index, seconds, nanoseconds and payload length.
pub const HEADER_SIZE: usize = 8 + 8 + 8 + 4 + 8;

/// Maximum size of a whole message, header included, in bytes. Blocks with their proofs reach 31 MB.
pub const MAX_MESSAGE_SIZE: usize = 32 << 20;

/// Maximum size of a message in explore mode, in bytes: the upper end of its range.
pub const MAX_EXPLORE_MESSAGE_SIZE: usize = 4 << 20;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Sender, number and intended send time of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Node id of the sender.
    pub sender: u64,
    /// Number of the message among those of its sender, from 0.
    pub index: u64,
    /// Intended send time, in nanoseconds since the Unix epoch.
    pub intended_unix_nanos: u64,
    /// Number of bytes after the header.
    pub payload_length: u64,
}

/// Reason why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Fewer bytes than a header has.
    #[error("{0} bytes are fewer than the header's {HEADER_SIZE}")]
    TooShort(usize),
    /// The length of the payload differs from the one in the header.
    #[error("the header states {stated} payload bytes, {actual} arrived")]
    LengthMismatch {
        /// Payload bytes by the header.
        stated: u64,
        /// Actual payload bytes.
        actual: u64,
    },
    /// The nanoseconds are a second or more, or the time lies beyond the year 2554.
    #[error("{seconds} s and {nanos} ns are not a time")]
    BadTime {
        /// Field of the seconds.
        seconds: u64,
        /// Field of the nanoseconds.
        nanos: u32,
    },
}

impl Header {
    /// Bytes of the header on the wire.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let seconds = self.intended_unix_nanos / NANOS_PER_SECOND;
        // The remainder is below 10^9, so it fits.
        let nanos = (self.intended_unix_nanos % NANOS_PER_SECOND) as u32;
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&self.sender.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.index.to_be_bytes());
        bytes[16..24].copy_from_slice(&seconds.to_be_bytes());
        bytes[24..28].copy_from_slice(&nanos.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.payload_length.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, Malformed> {
        let u64_at = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(field)
        };
        let seconds = u64_at(16);
        let nanos = u32::from_be_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        let bad_time = Malformed::BadTime { seconds, nanos };
        if u64::from(nanos) >= NANOS_PER_SECOND {
            return Err(bad_time);
        }
        let intended_unix_nanos = seconds
            .checked_mul(NANOS_PER_SECOND)
            .and_then(|whole| whole.checked_add(u64::from(nanos)))
            .ok_or(bad_time)?;
        Ok(Self { sender: u64_at(0), index: u64_at(8), intended_unix_nanos, payload_length: u64_at(28) })
    }
}

/// Size of the whole message by its header, in bytes; the peer's claim.
pub fn stated_size(header: &[u8; HEADER_SIZE]) -> u64 {
    let payload_length = header.last_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
    payload_length.saturating_add(HEADER_SIZE as u64)
}

/// A received message, borrowed from the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Header of the message.
    pub header: Header,
    /// Extension at the start of the payload, if the sender is one of our nodes and the payload had room.
    pub extension: Option<Extension>,
}

impl Message {
    /// Reads a whole message.
    ///
    /// # Errors
    /// Fails if the bytes are shorter than a header, their number differs from the header, or the time is invalid.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (head, payload) = bytes.split_first_chunk().ok_or(Malformed::TooShort(bytes.len()))?;
        let header = Header::decode(head)?;
        let actual = payload.len() as u64;
        if header.payload_length != actual {
            return Err(Malformed::LengthMismatch { stated: header.payload_length, actual });
        }
        Ok(Self { header, extension: Extension::decode(payload) })
    }
}

/// A whole message of `size` bytes (at least the header's): header, extension if it fits, zeros.
pub fn compose(sender: u64, index: u64, intended_unix_nanos: u64, size: usize, extension: &Extension) -> Vec<u8> {
    let size = size.max(HEADER_SIZE);
    let payload_length = (size - HEADER_SIZE) as u64;
    let mut bytes = vec![0; size];
    let header = Header { sender, index, intended_unix_nanos, payload_length };
    bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
    extension.write_to(&mut bytes[HEADER_SIZE..]);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_EXTENSION: Extension =
        Extension { run_id: 0, class: 0, trial: 0, send_lag_micros: 0, life: 0, sent_before: 0 };

    #[test]
    fn the_bytes_of_a_known_message_are_these() {
        let header =
            Header { sender: 3, index: 0x0102, intended_unix_nanos: 1_700_000_000_000_000_007, payload_length: 4 };
        #[rustfmt::skip]
        let golden = [
            0, 0, 0, 0, 0, 0, 0, 3,
            0, 0, 0, 0, 0, 0, 1, 2,
            0, 0, 0, 0, 0x65, 0x53, 0xf1, 0x00,
            0, 0, 0, 7,
            0, 0, 0, 0, 0, 0, 0, 4,
        ];
        assert_eq!(header.encode(), golden);

        let whole = [&golden[..], &[0; 4]].concat();
        assert_eq!(compose(3, 0x0102, 1_700_000_000_000_000_007, 40, &NO_EXTENSION), whole);
        assert_eq!(Message::decode(&whole), Ok(Message { header, extension: None }));
    }

    #[test]
    fn bytes_beyond_the_stated_payload_or_missing_from_it_are_refused() {
        let whole = compose(1, 2, 3, 100, &NO_EXTENSION);
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(Message::decode(&longer), Err(Malformed::LengthMismatch { stated: 64, actual: 65 }));
        assert_eq!(Message::decode(&whole[..99]), Err(Malformed::LengthMismatch { stated: 64, actual: 63 }));
        assert_eq!(Message::decode(&whole[..35]), Err(Malformed::TooShort(35)));
        assert_eq!(Message::decode(&[]), Err(Malformed::TooShort(0)));
    }

    #[test]
    fn a_time_that_does_not_exist_is_refused() {
        let mut bytes = compose(1, 2, 3, HEADER_SIZE, &NO_EXTENSION);
        bytes[24..28].copy_from_slice(&1_000_000_000_u32.to_be_bytes());
        assert_eq!(Message::decode(&bytes), Err(Malformed::BadTime { seconds: 0, nanos: 1_000_000_000 }));
        bytes[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(Message::decode(&bytes), Err(Malformed::BadTime { .. })));
    }

    proptest! {
        #[test]
        fn a_composed_message_is_read_unchanged(
            sender: u64, index: u64, time: u64, size in HEADER_SIZE..3000_usize,
            run_id in 1..u64::MAX, class: u16, trial: u16, send_lag_micros: u64, life: u64, sent_before: u64,
        ) {
            let extension = Extension { run_id, class, trial, send_lag_micros, life, sent_before };
            let bytes = compose(sender, index, time, size, &extension);
            prop_assert_eq!(bytes.len(), size);
            prop_assert_eq!(bytes.first_chunk().map(stated_size), Some(size as u64));
            let message = Message::decode(&bytes).unwrap();
            prop_assert_eq!(message.header.sender, sender);
            prop_assert_eq!(message.header.index, index);
            prop_assert_eq!(message.header.intended_unix_nanos, time);
            let room = size - HEADER_SIZE >= Extension::SIZE;
            prop_assert_eq!(message.extension, room.then_some(extension));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.header.payload_length as usize, bytes.len() - HEADER_SIZE);
            }
        }
    }
}
