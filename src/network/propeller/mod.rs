//! Propeller, Apollo's erasure-coded broadcast.
//!
//! A publisher splits a message into as many data shards as a third of the committee, adds coding shards, and sends
//! each other node one of these units. Each node sends its unit on to all others. Any third of the units rebuilds the
//! message; at two thirds of them it is delivered, because then all others can rebuild it too. The protocol is that of
//! Apollo's network, and follows Solana's Turbine.

mod committee;
mod counts;
#[cfg(test)]
mod golden_tests;
mod links;
mod merkle;
mod open;
mod refusal;
mod relay;
#[cfg(test)]
mod relay_tests;
mod shards;
mod table;
mod unit;
mod wire;
mod workers;

pub use counts::{OwnerCounts, PropellerCounts, PropellerTotals};
pub(super) use links::{read_units, write_units};
pub(super) use relay::Relay;
pub(super) use wire::PROTOCOL;
