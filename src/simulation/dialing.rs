//! State of ports that listen, and of connection attempts.

use std::{collections::VecDeque, io, net::SocketAddr, task::Waker};

use super::end_id::EndId;

/// A port that listens.
#[derive(Debug, Default)]
pub(super) struct Listening {
    pub(super) waiting: VecDeque<EndId>,
    pub(super) waker: Option<Waker>,
}

/// A connection attempt.
#[derive(Debug)]
pub(super) struct Dialing {
    pub(super) from: (u32, SocketAddr),
    pub(super) to: SocketAddr,
    pub(super) tries: u32,
    /// Known to the network already.
    pub(super) outcome: Option<Result<EndId, io::ErrorKind>>,
    /// True when the answer is at the host that dialled.
    pub(super) has_answer: bool,
    pub(super) waker: Option<Waker>,
}
