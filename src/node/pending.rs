//! Bytes that the kernel still holds for the node's p2p sockets: sent and not acknowledged, or received and not read.

use std::{collections::HashSet, fs};

/// The kernel's lists of the TCP sockets of this process' network namespace.
const LISTS: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// State of a listening socket, whose queues count connections.
const LISTEN: u32 = 10;

/// Bytes in the send and receive queues of the TCP sockets of this process, except those of the HTTP endpoint at
/// `http_port`; none if the kernel does not show them.
pub(super) fn socket_bytes(http_port: u16) -> Option<u64> {
    let own = own_sockets()?;
    let mut sum = 0_u64;
    let mut any = false;
    for list in LISTS {
        let Ok(text) = fs::read_to_string(list) else { continue };
        any = true;
        for socket in text.lines().skip(1).filter_map(Socket::parse) {
            if socket.state != LISTEN && socket.local_port != http_port && own.contains(&socket.inode) {
                sum = sum.saturating_add(socket.queued);
            }
        }
    }
    any.then_some(sum)
}

/// Inodes of the sockets that this process has open.
fn own_sockets() -> Option<HashSet<u64>> {
    let files = fs::read_dir("/proc/self/fd").ok()?;
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    let inode = |target: std::path::PathBuf| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    Some(targets.filter_map(inode).collect())
}

/// A line of the kernel's list, as proc(5) describes it.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local_port: u16,
    state: u32,
    queued: u64,
    inode: u64,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local_port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let state = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let (to_send, to_read) = fields.get(4)?.split_once(':')?;
        let queue = |text| u64::from_str_radix(text, 16).ok();
        let queued = queue(to_send)?.saturating_add(queue(to_read)?);
        Some(Self { local_port, state, queued, inode: fields.get(9)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let line =
            "   1: 0100007F:07D0 0100007F:C350 01 00000010:00000002 01:00000014 00000000  1000        0 4242 2 0 20";
        assert_eq!(Socket::parse(line), Some(Socket { local_port: 2000, state: 1, queued: 18, inode: 4242 }));
        for line in ["", "a b c", "1: 0:0 0:0 zz 0:0 0 0 0 0 1", "1: x y 01 00000000 0 0 0 0 5"] {
            assert_eq!(Socket::parse(line), None, "{line}");
        }
    }

    #[test]
    fn bytes_that_nobody_has_read_are_pending_but_those_of_the_endpoint_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut sender = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        sender.write_all(&[7; 1000]).unwrap();
        // Another test of this process may have sockets too, so only a lower bound is known.
        assert!(socket_bytes(0).unwrap() >= 1000);
        receiver.read_exact(&mut [0; 1000]).unwrap();
        sender.write_all(&[7; 1000]).unwrap();
        let own = own_sockets().unwrap();
        let text = fs::read_to_string(LISTS[0]).unwrap();
        let unread =
            text.lines().filter_map(Socket::parse).find(|socket| socket.local_port == port && socket.queued >= 1000);
        assert!(unread.is_some_and(|socket| own.contains(&socket.inode)), "{text}");
    }
}
