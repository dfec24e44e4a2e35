//! A benchmark of libp2p networks: the node that broadcasts and receives under load, and the lab around it.
//!
//! Imports point downwards only: [`lab`] → [`report`] → [`node`] → [`network`] → [`metrics`] → [`message`].
//! [`image`] stands beside them: it imports only [`command_line`], and may be imported by [`lab`].

pub mod command_line;
pub mod image;
pub mod lab;
pub mod message;
pub mod metrics;
pub mod network;
pub mod node;
pub mod report;
