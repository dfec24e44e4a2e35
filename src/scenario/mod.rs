//! Traffic classes, as a scenario describes them.

mod choice;
mod network;
mod nodes;
mod traffic;

pub use choice::{Choice, choices};
pub use network::Protocol;
pub use nodes::Nodes;
pub use traffic::{
    DEFAULT_CLASS, Explore, MAX_CLASSES, MessageSize, Mode, SendPhase, Senders, TrafficClass, WeightedSize,
};
