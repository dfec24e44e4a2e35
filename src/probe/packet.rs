//! Format of the packets, big endian.

/// First bytes of every packet.
const MAGIC: [u8; 4] = *b"ANBP";

/// Length of all packets except those of a train, in bytes.
pub(super) const LENGTH: usize = 80;

/// Length of a train's packets: with all headers they stay below the 1280 bytes that every IPv6 link carries.
pub(super) const TRAIN_LENGTH: usize = 1200;

/// Kind of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests an answer at once.
    Ping = 1,
    /// Answer to a ping.
    Pong = 2,
    /// Packet of a train before counting begins, which fills the token buckets' allowance.
    Uncounted = 3,
    /// Counted packet of a train.
    Counted = 4,
    /// Requests the counts of a session.
    Report = 5,
    /// Counts of a session.
    Counts = 6,
    /// One of the packets of a message.
    Part = 7,
    /// Confirms that a message has arrived completely.
    Arrived = 8,
}

/// A packet; the meaning of the fields depends on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    /// A number that the asking end has chosen.
    pub(super) session: u64,
    /// Ping, pong: number of the ping. Part, arrived: number of the message.
    pub(super) sequence: u64,
    /// Ping, pong: send time of the ping, in nanoseconds since the Unix epoch. Part, arrived: send time of the message.
    pub(super) sent: u64,
    /// Pong: arrival of the ping. Arrived: arrival of the last part. Counts: time from the first to the last counted
    /// packet, in nanoseconds.
    pub(super) received: u64,
    /// Pong, arrived: send time of the answer.
    pub(super) answered: u64,
    /// Pong, counts: different pings that have arrived in this session. Part: its place in the message.
    pub(super) pings: u64,
    /// Counts: counted packets of the train. Part: parts of the message.
    pub(super) packets: u64,
    /// Pong, counts: pings that arrived again.
    pub(super) duplicates: u64,
    /// Pong, counts: pings that arrived after a later one.
    pub(super) reordered: u64,
}

impl Packet {
    pub(super) fn new(kind: Kind, session: u64) -> Self {
        Self {
            kind,
            session,
            sequence: 0,
            sent: 0,
            received: 0,
            answered: 0,
            pings: 0,
            packets: 0,
            duplicates: 0,
            reordered: 0,
        }
    }

    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind as u8;
        let fields = [
            self.session,
            self.sequence,
            self.sent,
            self.received,
            self.answered,
            self.pings,
            self.packets,
            self.duplicates,
            self.reordered,
        ];
        for (place, field) in bytes[8..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    /// Reads a packet; none for anything else. A train's packets have more bytes, without meaning.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(8)?;
        let kind = match header[4] {
            1 => Kind::Ping,
            2 => Kind::Pong,
            3 => Kind::Uncounted,
            4 => Kind::Counted,
            5 => Kind::Report,
            6 => Kind::Counts,
            7 => Kind::Part,
            8 => Kind::Arrived,
            _ => return None,
        };
        let mut fields = rest.chunks_exact(8).filter_map(|part| Some(u64::from_be_bytes(part.try_into().ok()?)));
        let mut next = || fields.next();
        let packet = Self {
            kind,
            session: next()?,
            sequence: next()?,
            sent: next()?,
            received: next()?,
            answered: next()?,
            pings: next()?,
            packets: next()?,
            duplicates: next()?,
            reordered: next()?,
        };
        (header[..4] == MAGIC).then_some(packet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_packet_survives_its_bytes(fields in any::<[u64; 9]>(), more in 0_usize..9) {
            let [session, sequence, sent, received, answered, pings, packets, duplicates, reordered] = fields;
            let counts = Packet { pings, packets, duplicates, reordered, ..Packet::new(Kind::Pong, session) };
            let packet = Packet { sequence, sent, received, answered, ..counts };
            let mut bytes = packet.encode().to_vec();
            bytes.resize(LENGTH + more, 7);
            prop_assert_eq!(Packet::decode(&bytes), Some(packet));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let short = bytes.len() < LENGTH;
            prop_assert!(Packet::decode(&bytes).is_none() || !short);
        }
    }
}
