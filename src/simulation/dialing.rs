//! State of ports that listen, and of connection attempts.

use std::{collections::VecDeque, io, net::SocketAddr, task::Waker};

use super::packet::EndId;

/// A port that listens.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// Tells it apart from a later one of the same port.
    pub(super) number: u64,
    pub(super) waiting: VecDeque<EndId>,
    pub(super) waker: Option<Waker>,
}

/// A connection attempt.
#[derive(Debug)]
pub(super) struct Dialing {
    pub(super) from: (u32, SocketAddr),
    pub(super) to: SocketAddr,
    pub(super) tries: u32,
    pub(super) sent_at: u64,
    pub(super) outcome: Option<Result<EndId, io::ErrorKind>>,
    pub(super) waker: Option<Waker>,
}
