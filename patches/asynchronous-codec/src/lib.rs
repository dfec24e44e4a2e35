//! The part of the interface of `asynchronous-codec` that libp2p has: frames over a stream of bytes.
//!
//! The crate of that name keeps the buffers of a stream at the size of the largest frame so far. gossipsub has two streams
//! for each peer, noise one, so that a simulation of a thousand nodes kept gigabytes of empty buffers. On a thread that
//! simulates, an empty buffer that was large is given back, and a new one begins without room. Reads, frames and their
//! order are the same, and on every other thread buffers stay as they were.

mod buffer;
#[cfg(test)]
mod tests;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite, Sink, Stream};

use buffer::Buffer;

/// Bytes of one read.
const READ: usize = 8 * 1024;

/// Bytes in the buffer from which on a sink writes before it takes a further frame.
const HIGH_WATER: usize = 128 * 1024;

/// Takes frames from bytes.
pub trait Decoder {
    /// A frame.
    type Item;
    /// Error of a frame that is impossible.
    type Error: From<io::Error>;

    /// Takes the first frame; none if it is not complete.
    ///
    /// # Errors
    /// Fails if the bytes are no frame.
    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error>;

    /// The same at the end of the stream.
    ///
    /// # Errors
    /// Fails if the bytes are no frame.
    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        self.decode(source)
    }
}

/// Makes bytes of frames.
pub trait Encoder {
    /// A frame.
    type Item<'a>;
    /// Error of a frame that is impossible.
    type Error: From<io::Error>;

    /// Appends a frame.
    ///
    /// # Errors
    /// Fails if the frame is impossible.
    fn encode(&mut self, item: Self::Item<'_>, destination: &mut BytesMut) -> Result<(), Self::Error>;
}

/// Frames over a stream of bytes, in both directions.
#[derive(Debug)]
pub struct Framed<T, U> {
    io: T,
    codec: U,
    read: Buffer,
    write: Buffer,
}

/// Parts of [`Framed`].
#[derive(Debug)]
pub struct FramedParts<T, U> {
    /// The stream of bytes.
    pub io: T,
    /// The codec.
    pub codec: U,
    /// Bytes that were read, and are not decoded yet.
    pub read_buffer: BytesMut,
    /// Bytes that were encoded, and are not written yet.
    pub write_buffer: BytesMut,
}

impl<T, U> FramedParts<T, U> {
    /// Replaces the codec.
    pub fn map_codec<V>(self, map: impl FnOnce(U) -> V) -> FramedParts<T, V> {
        let Self { io, codec, read_buffer, write_buffer } = self;
        FramedParts { io, codec: map(codec), read_buffer, write_buffer }
    }
}

impl<T: AsyncRead + AsyncWrite, U: Decoder + Encoder> Framed<T, U> {
    /// Frames over `io`.
    pub fn new(io: T, codec: U) -> Self {
        Self { io, codec, read: Buffer::new(READ), write: Buffer::new(READ) }
    }

    /// Goes on with these parts.
    pub fn from_parts(parts: FramedParts<T, U>) -> Self {
        let FramedParts { io, codec, read_buffer, write_buffer } = parts;
        Self { io, codec, read: read_buffer.into(), write: write_buffer.into() }
    }

    /// Its parts.
    pub fn into_parts(self) -> FramedParts<T, U> {
        let Self { io, codec, read, write } = self;
        FramedParts { io, codec, read_buffer: read.into(), write_buffer: write.into() }
    }

    /// The codec.
    pub fn codec(&self) -> &U {
        &self.codec
    }
}

impl<T: AsyncRead + Unpin, U: Decoder> Framed<T, U> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<U::Item, U::Error>>> {
        if let Some(item) = self.codec.decode(self.read.bytes())? {
            return Poll::Ready(Some(Ok(item)));
        }
        let mut part = [0; READ];
        loop {
            let count = match Pin::new(&mut self.io).poll_read(context, &mut part)? {
                Poll::Ready(count) => count,
                Poll::Pending => {
                    self.read.rest();
                    return Poll::Pending;
                }
            };
            self.read.add(&part[..count]);
            if let Some(item) = self.codec.decode(self.read.bytes())? {
                return Poll::Ready(Some(Ok(item)));
            }
            if count > 0 {
                continue;
            }
            if self.read.bytes().is_empty() {
                return Poll::Ready(None);
            }
            return Poll::Ready(match self.codec.decode_eof(self.read.bytes())? {
                Some(item) => Some(Ok(item)),
                None if self.read.bytes().is_empty() => None,
                None => {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "bytes remaining in stream");
                    Some(Err(error.into()))
                }
            });
        }
    }
}

impl<T: AsyncRead + Unpin, U: Decoder> Stream for Framed<T, U>
where
    Self: Unpin,
{
    type Item = Result<U::Item, U::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_frame(context)
    }
}

impl<T: AsyncWrite + Unpin, U> Framed<T, U> {
    /// Writes until at most `left` bytes are in the buffer.
    fn poll_write_to(&mut self, context: &mut Context<'_>, left: usize) -> Poll<io::Result<()>> {
        while self.write.bytes().len() > left {
            let count = ready!(Pin::new(&mut self.io).poll_write(context, self.write.bytes()))?;
            if count == 0 {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "End of file")));
            }
            self.write.remove(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin, U: Encoder> Sink<U::Item<'_>> for Framed<T, U>
where
    Self: Unpin,
{
    type Error = U::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_write_to(context, HIGH_WATER - 1).map_err(Into::into)
    }

    fn start_send(mut self: Pin<&mut Self>, item: U::Item<'_>) -> Result<(), Self::Error> {
        let this = &mut *self;
        this.codec.encode(item, this.write.bytes())?;
        this.write.has_grown();
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_write_to(context, 0))?;
        self.write.rest();
        Pin::new(&mut self.io).poll_flush(context).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_flush(context))?;
        Pin::new(&mut self.io).poll_close(context).map_err(Into::into)
    }
}
