//! Receiving with the kernel's time of arrival, so that a late thread does not count as the link's delay.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
};

use crate::clock::wall_nanos;

/// A received packet.
pub(super) struct Received {
    pub(super) length: usize,
    /// Sender's address, if the kernel reports it.
    pub(super) from: Option<SocketAddr>,
    /// Time of arrival, in nanoseconds since the Unix epoch.
    pub(super) at: u64,
}

/// Requests arrival times from the kernel.
pub(super) fn stamp(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
}

/// Lets `bytes` wait in the socket for being sent, if its limit is lower; above the system's limit only with
/// privileges.
pub(super) fn make_room(socket: &UdpSocket, bytes: usize) {
    // The kernel doubles the given value, for its own use.
    let now = getsockopt(socket, sockopt::SndBuf).map_or(0, |now| now / 2);
    if now < bytes && setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        // With less room a busy host may be too slow, which the measurement shows.
        let _ = setsockopt(socket, sockopt::SndBuf, &bytes);
    }
}

/// Receives the next packet; the settings of the socket decide if it blocks and times out.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = cmsg_space!(TimeSpec);
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let stamped = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => {
            let seconds = u64::try_from(time.tv_sec()).ok()?;
            seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(time.tv_nsec()).ok()?)
        }
        _ => None,
    });
    let from = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
    });
    Ok(Received { length: message.bytes, from, at: stamped.unwrap_or_else(wall_nanos) })
}
