//! One end of a TCP connection.

use std::net::SocketAddr;

use super::{host::Bucket, packet::EndId, receiver::Receiver, sender::Sender};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: u32,
    pub(super) peer_host: u32,
    /// The other end; none before it has told its name.
    pub(super) peer: Option<EndId>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    /// Rate of the link of these two hosts alone.
    pub(super) link: Option<Bucket>,
    /// Packets sent.
    pub(super) packets: u64,
    /// Time at which this end was made.
    pub(super) made_at: u64,
    /// A stream has this end, or waits to be accepted.
    pub(super) has_stream: bool,
    /// The stream of this end was dropped.
    pub(super) dropped: bool,
    /// The connection is broken for this end.
    pub(super) reset: bool,
    /// It waits for a turn of its host's interface.
    pub(super) is_waiting: bool,
}

impl End {
    /// An end at `local` of a host, for a connection with `remote` of another.
    pub(super) fn new(local: (u32, SocketAddr), remote: (u32, SocketAddr), now: u64, link: Option<Bucket>) -> Self {
        Self {
            host: local.0,
            peer_host: remote.0,
            peer: None,
            local: local.1,
            remote: remote.1,
            sender: Sender::default(),
            receiver: Receiver::default(),
            link,
            packets: 0,
            made_at: now,
            has_stream: false,
            dropped: false,
            reset: false,
            is_waiting: false,
        }
    }

    /// True if nothing of this end is needed any more.
    pub(super) fn is_over(&self) -> bool {
        self.dropped && (self.reset || self.sender.is_done())
    }
}
