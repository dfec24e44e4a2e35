//! Packets: all that a host knows of another one, and when.

use std::net::SocketAddr;

use bytes::Bytes;

/// An end of a connection that a stream holds. Its host tells whose table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndId {
    pub(super) place: u32,
    pub(super) generation: u32,
}

/// Segments that travel together, with the end of the stream if `fin`.
#[derive(Debug)]
pub(super) struct Data {
    /// Receiving and sending end.
    pub(super) to: EndId,
    pub(super) from: EndId,
    /// Number of the flight in its direction.
    pub(super) number: u32,
    pub(super) bytes: Bytes,
    pub(super) segments: u64,
    pub(super) fin: bool,
    pub(super) sent_at: u64,
    /// True if it was sent before: its round trip is unknown then.
    pub(super) again: bool,
    /// Nanoseconds that a million bytes take on the slowest part of the way so far.
    pub(super) slowest: u64,
}

/// Acknowledgement of a flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    /// End that sent the flight.
    pub(super) to: EndId,
    pub(super) number: u32,
    pub(super) sent_at: u64,
    pub(super) again: bool,
    /// Bytes of the connection that the receiver has read so far.
    pub(super) read: u64,
}

/// Everything that travels from a host to another.
#[derive(Debug)]
pub(super) enum Packet {
    /// Requests a connection, of the attempt `dial` of the sending host.
    Syn {
        dial: u64,
        from: SocketAddr,
        to: SocketAddr,
    },
    /// Answers with the end of the listening host.
    SynAck {
        dial: u64,
        peer: EndId,
    },
    /// No port listens.
    Refused {
        dial: u64,
    },
    /// Third packet of the handshake: the connection can be accepted.
    Established {
        to: EndId,
        from: EndId,
    },
    /// Bytes on their way, or in the queue of the receiver's interface.
    Data(Box<Data>),
    /// The same bytes behind that queue.
    Received(Box<Data>),
    Ack(Ack),
    /// The receiver has read so many bytes of the connection.
    Window {
        to: EndId,
        read: u64,
    },
    /// Breaks the connection; `queued` if it has waited at the receiver's interface.
    Reset {
        to: EndId,
        queued: bool,
    },
    /// Not a packet: tells the sender of a SYN that it was dropped, when an answer would be there.
    SynDropped {
        dial: u64,
    },
    /// Not a packet: tells the sender of a flight how many of its segments were dropped, when their acknowledgement would be
    /// there.
    Dropped {
        to: EndId,
        number: u32,
        segments: u64,
    },
}

/// A packet between two hosts.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) packet: Packet,
}
