//! A stream over a connection of the model, with the interface of a TCP stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};

use super::{packet::EndId, processor::work, world::act};

/// One end of a connection, which is closed when this is dropped.
#[derive(Debug)]
pub struct Stream {
    id: EndId,
}

impl Stream {
    pub(super) fn new(id: EndId) -> Self {
        Self { id }
    }
}

fn broken() -> Poll<io::Result<usize>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

/// Makes the host busy with the bytes that were moved.
fn charge(moved: &Poll<io::Result<usize>>) {
    if let Poll::Ready(Ok(bytes)) = moved {
        work(0, *bytes as u64);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = act(|world| {
            let end = world.end(self.id)?;
            if end.receiver.readable() > 0 {
                let count = end.receiver.read(buffer);
                world.has_read(self.id);
                return Some(Poll::Ready(Ok(count)));
            }
            if end.receiver.has_ended() {
                return Some(Poll::Ready(Ok(0)));
            }
            if end.reset {
                return None;
            }
            end.receiver.waker = Some(context.waker().clone());
            Some(Poll::Pending)
        });
        let read = read.0.flatten().unwrap_or_else(broken);
        charge(&read);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = act(|world| {
            let end = world.end(self.id)?;
            if end.reset || end.sender.closed {
                return None;
            }
            let count = buffer.len().min(usize::try_from(end.sender.room()).unwrap_or(usize::MAX));
            if count == 0 && !buffer.is_empty() {
                end.sender.waker = Some(context.waker().clone());
                return Some(Poll::Pending);
            }
            end.sender.write(&buffer[..count]);
            world.send(self.id);
            Some(Poll::Ready(Ok(count)))
        });
        let written = written.0.flatten().unwrap_or_else(broken);
        charge(&written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        act(|world| {
            if let Some(end) = world.end(self.id).filter(|end| !end.sender.closed) {
                end.sender.closed = true;
                world.send(self.id);
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        act(|world| world.dropped(self.id));
    }
}
