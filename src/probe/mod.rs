//! Measuring a link between two nodes, over a UDP socket of its own.
//!
//! A [`Responder`] answers at one end. The other end ([`probe`]) sends pings at a steady pace, from which come round trip
//! time, the one-way delays (where both ends share a clock) and the loss of each direction; then, if asked to, a train:
//! packets at a given rate for a given time, of which the responder counts what comes through, and how fast.
//!
//! ```text
//! ping:    A --ping(seq, sent)--> B --pong(seq, sent, received, pings so far)--> A
//! train:   A --packet, packet, packet ...--> B;  then A --report?--> B --counts--> A
//! ```
//!
//! No answer is longer than its question, and nothing is kept of an address that has not asked.

mod measure;
mod packet;
mod responder;
mod socket;

pub use measure::{PING_BYTES, ProbeOrder, ProbeResult, TRAIN_BYTES, Times, TrainOrder, TrainResult, probe};
pub use responder::Responder;
