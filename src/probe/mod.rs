//! Measuring a link between two nodes, over a UDP socket of its own.
//!
//! A [`Responder`] answers at one end. The other end ([`probe`]) sends pings at a steady pace, from which come round trip
//! time, the one-way delays (where both ends share a clock) and the loss of each direction; then, if asked to, single
//! messages, each of some packets sent at once over an idle link, until the last of them has come; then, if asked to, a
//! train: packets at a given rate for a given time, of which the responder counts what comes through, and how fast.
//!
//! ```text
//! ping:    A --ping(seq, sent)--> B --pong(seq, sent, received, answered, pings so far)--> A
//! message: A --part 1, part 2 ... part n--> B --arrived(sent, received, answered)--> A
//! train:   A --packet, packet, packet ...--> B;  then A --report?--> B --counts--> A
//! ```
//!
//! Four times belong to an answer, as in NTP: sent, received, answered, and its arrival. The time from received to answered
//! is the other end's, which may have waited for a processor, and is left out. Times of arrival are the kernel's.
//!
//! No answer is longer than its question, and nothing is kept of an address that has not asked.

mod measure;
mod order;
mod packet;
mod responder;
mod socket;

pub use measure::probe;
pub use order::{
    MAX_TRAIN_RATE, MessageOrder, MessageResult, PING_BYTES, ProbeOrder, ProbeResult, TRAIN_BYTES, Times, TrainOrder,
    TrainResult, message_bytes,
};
pub use responder::Responder;
