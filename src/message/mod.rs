//! Wire format of messages, and counting of arrivals. Pure: no clock, no sockets.
//!
//! A message is a fixed [`Header`] and a payload. The header names the sender, numbers the message and contains the
//! time at which the schedule *intended* it to be sent. The payload is zeros, except for an [`Extension`] at its start
//! if it has room. [`DeliveryTracker`] counts the arriving (sender, index) pairs exactly.

mod extension;
mod header;
mod tracker;

pub use extension::Extension;
pub use header::{
    HEADER_SIZE, Header, MAX_EXPLORE_MESSAGE_SIZE, MAX_MESSAGE_SIZE, Malformed, Message, compose, stated_size,
};
pub use tracker::{Base, Claim, DeliveryKind, DeliveryTracker, SenderCounts, WINDOW_LIMIT};
