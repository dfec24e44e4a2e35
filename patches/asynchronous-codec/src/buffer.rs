//! A buffer that is given back when it is empty and was large, on a thread that simulates.

use bytes::{Buf, BytesMut};

/// Bytes up to which an empty buffer is kept.
const KEPT: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct Buffer {
    bytes: BytesMut,
    /// Largest number of bytes since it was new.
    largest: usize,
}

impl Buffer {
    /// An empty buffer, with this room outside of a simulation.
    pub(super) fn new(room: usize) -> Self {
        let room = if virtual_clock::is_virtual() { 0 } else { room };
        Self { bytes: BytesMut::with_capacity(room), largest: 0 }
    }

    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.has_grown();
    }

    pub(super) fn has_grown(&mut self) {
        self.largest = self.largest.max(self.bytes.len());
    }

    pub(super) fn remove(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// Nothing is to be done with it for a while.
    pub(super) fn rest(&mut self) {
        if self.largest > KEPT && self.bytes.is_empty() && virtual_clock::is_virtual() {
            *self = Self::from(BytesMut::new());
        }
    }
}

impl From<BytesMut> for Buffer {
    fn from(bytes: BytesMut) -> Self {
        Self { largest: bytes.len(), bytes }
    }
}

impl From<Buffer> for BytesMut {
    fn from(buffer: Buffer) -> Self {
        buffer.bytes
    }
}
