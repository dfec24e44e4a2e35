//! Measurement of a link between two nodes, over a UDP socket of its own.
//!
//! A [`Responder`] answers at one end. The other end ([`probe`]) sends pings at a steady interval, which give the round
//! trip time, the one-way delays (if both ends share a clock) and the loss of each direction. On request it then sends
//! single messages, each of several packets sent at once over an idle link, and waits for the last of them. On request
//! it then sends a train: packets at a given rate for a given time, of which the responder counts the received ones and
//! their rate.
//!
//! ```text
//! ping:    A --ping(seq, sent)--> B --pong(seq, sent, received, answered, pings so far)--> A
//! message: A --part 1, part 2 ... part n--> B --arrived(sent, received, answered)--> A
//! train:   A --packet, packet, packet ...--> B;  then A --report?--> B --counts--> A
//! ```
//!
//! An answer has four times, as in NTP: sent, received, answered, and its arrival. The time from received to answered
//! belongs to the other end, which may have waited for a processor, so it is left out. Arrival times are the kernel's.
//!
//! No answer is longer than its request, and nothing is stored of an address that has not asked.

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
