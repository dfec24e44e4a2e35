//! What travels between the nodes, and how arrivals are counted. Pure: no clock, no sockets.
//!
//! A message is a fixed [`Header`] and a payload. The header names the sender, numbers the message and carries the
//! time at which the schedule *intended* it to be sent. The payload is zeros, but for an [`Extension`] at its start
//! when there is room. [`DeliveryTracker`] turns the (sender, index) pairs that arrive into exact counts.

mod extension;
mod header;
mod tracker;

pub use extension::Extension;
pub use header::{
    HEADER_SIZE, Header, MAX_EXPLORE_MESSAGE_SIZE, MAX_MESSAGE_SIZE, Malformed, Message, compose, stated_size,
};
pub use tracker::{Base, Claim, DeliveryKind, DeliveryTracker, SenderCounts, WINDOW_LIMIT};
