//! Virtual time: a thread on which the nodes of a whole network run, the same code as elsewhere, and the network between
//! them.
//!
//! - [`run`] executes a future on a new thread whose clock and random numbers are its own (`patches/virtual-clock`). The
//!   clock stands still while any task can run, and then moves to the next event; so processors are infinitely fast,
//!   unless [`processor`] makes hosts busy for the time of their work.
//! - [`spawn`] starts a task. In virtual time it belongs to the [`Life`] of the host that started it, so that a host can
//!   be paused and killed.
//! - [`network`] is the model of hosts, links and TCP connections, whose numbers are those of the scenario's links.

mod congestion;
mod connection;
mod dialing;
mod end_id;
mod executor;
mod facts;
mod host;
mod life;
mod listener;
pub mod network;
pub mod processor;
mod random;
mod stream;
#[cfg(test)]
mod tests;
mod world;

pub use executor::{Interrupt, Simulation, run};
pub use life::{Life, spawn};
pub use listener::{Dial, Listener};
pub use stream::Stream;
