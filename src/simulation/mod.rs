//! Virtual time: the nodes of a whole network in one program, the same code as elsewhere, and the network between them.
//!
//! - [`run`] executes a future in virtual time, and the hosts on threads of their own, whose clocks and random numbers are
//!   their own (`patches/virtual-clock`). A clock stands still while any task can run, and then moves to the next event; so
//!   processors are infinitely fast, unless [`processor`] makes hosts busy for the time of their work.
//! - Threads run apart for as long as no packet can come from one to another (`conductor.rs`). Between two such times the
//!   future runs, and acts on hosts with [`on_host`].
//! - [`spawn`] starts a task. In virtual time it belongs to the [`Life`] of the host that started it, so that a host can
//!   be paused and killed.
//! - [`network`] is the model of hosts, links and TCP connections, whose numbers are those of the scenario's links.

mod closing;
mod conductor;
mod congestion;
mod connection;
mod dialing;
mod events;
mod executor;
mod facts;
mod handshake;
mod host;
mod interrupt;
mod life;
mod listener;
pub mod network;
mod packet;
mod parameters;
pub mod processor;
mod random;
mod receiver;
mod receiving;
mod sender;
mod sending;
mod shard;
mod stream;
#[cfg(test)]
mod tests;
mod turns;
mod world;

pub use conductor::on_host;
pub use executor::run;
pub use interrupt::Interrupt;
pub use life::{Life, spawn};
pub use listener::{Dial, Listener};
pub use parameters::Simulation;
pub use stream::Stream;
