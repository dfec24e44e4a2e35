//! A benchmark of libp2p networks: the node that broadcasts and receives under load, and the runner around it.
//!
//! Imports point downwards only; `tests/house.rs` contains and checks the order.

pub mod access;
mod children;
pub mod cli;
pub mod clock;
pub mod dashboards;
pub mod deploy;
pub mod environment;
mod experiment;
mod http;
pub mod image;
pub mod kubernetes;
pub mod live;
pub mod machine;
pub mod message;
pub mod metrics;
mod monitoring;
pub mod network;
pub mod node;
pub mod open_files;
pub mod paths;
pub mod probe;
mod remote;
pub mod report;
pub mod scenario;
pub mod secret;
pub mod shaping;
pub mod signals;
pub mod simulation;
pub mod terminal;
