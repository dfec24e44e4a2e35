//! Queue of copies to one peer, bounded by messages and by bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{backlog::Held, limits::BufferLimits};

/// Bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl From<BufferLimits<'_>> for Bounds {
    fn from(limits: BufferLimits<'_>) -> Self {
        Self { messages: limits.peer_messages(), bytes: limits.peer_bytes() }
    }
}

/// Reason why a copy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// Sending end of the queue; it has only one.
pub(super) struct QueueSender {
    copies: mpsc::Sender<(Held, usize)>,
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

/// Receiving end of the queue.
pub(super) struct QueueReceiver {
    copies: mpsc::Receiver<(Held, usize)>,
    waiting: Arc<AtomicUsize>,
}

/// Makes a queue.
pub(super) fn queue(bounds: Bounds) -> (QueueSender, QueueReceiver) {
    let (sender, receiver) = mpsc::channel(bounds.messages.max(1));
    let waiting = Arc::new(AtomicUsize::new(0));
    let sender = QueueSender { copies: sender, waiting: waiting.clone(), bytes: bounds.bytes };
    (sender, QueueReceiver { copies: receiver, waiting })
}

impl QueueSender {
    /// Adds a copy of a message of `size` bytes, if it fits. An empty queue takes a copy of any size.
    pub(super) fn try_send(&self, copy: Held, size: usize) -> Result<(), Refused> {
        // Other threads only remove copies, so a copy that fits now fits below too.
        let waiting = self.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting.saturating_add(size) > self.bytes {
            return Err(if self.copies.is_closed() { Refused::Closed } else { Refused::Full });
        }
        self.waiting.fetch_add(size, Ordering::AcqRel);
        self.copies.try_send((copy, size)).map_err(|error| {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            match error {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Closed(_) => Refused::Closed,
            }
        })
    }
}

impl QueueReceiver {
    /// Removes the next copy, and waits for it; none if the sender has ended and nothing is left.
    pub(super) async fn recv(&mut self) -> Option<Held> {
        let (copy, size) = self.copies.recv().await?;
        self.waiting.fetch_sub(size, Ordering::AcqRel);
        Some(copy)
    }

    /// Removes the next copy, if one waits.
    pub(super) fn try_recv(&mut self) -> Option<Held> {
        let (copy, size) = self.copies.try_recv().ok()?;
        self.waiting.fetch_sub(size, Ordering::AcqRel);
        Some(copy)
    }

    /// True if the sender has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.copies.is_closed()
    }

    /// Closes the queue, and returns the number of remaining copies.
    pub(super) fn close(mut self) -> u64 {
        self.copies.close();
        let mut left = 0;
        while self.copies.try_recv().is_ok() {
            left += 1;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;
    use crate::network::Backlog;

    fn copy() -> Held {
        Backlog::default().hold(Bytes::new())
    }

    #[test]
    fn many_small_copies_fit_where_few_large_ones_do() {
        let (sender, mut receiver) = queue(Bounds { messages: 1000, bytes: 10_000 });
        assert_eq!(sender.try_send(copy(), 9000), Ok(()));
        assert_eq!(sender.try_send(copy(), 1001), Err(Refused::Full));
        for _ in 0..10 {
            assert_eq!(sender.try_send(copy(), 100), Ok(()));
        }
        assert_eq!(sender.try_send(copy(), 1), Err(Refused::Full));
        assert!(receiver.recv().now_or_never().flatten().is_some());
        assert_eq!(sender.try_send(copy(), 9000), Ok(()));
        assert_eq!(receiver.close(), 11);
        assert_eq!(sender.try_send(copy(), 1), Err(Refused::Closed));
    }

    #[test]
    fn one_copy_fits_however_large_and_the_number_is_bounded_too() {
        let (sender, mut receiver) = queue(Bounds { messages: 3, bytes: 100 });
        assert_eq!(sender.try_send(copy(), 1000), Ok(()));
        assert_eq!(sender.try_send(copy(), 1), Err(Refused::Full));
        assert!(receiver.recv().now_or_never().flatten().is_some());
        for _ in 0..3 {
            assert_eq!(sender.try_send(copy(), 1), Ok(()));
        }
        assert_eq!(sender.try_send(copy(), 1), Err(Refused::Full));
        drop(sender);
        for _ in 0..3 {
            assert!(receiver.recv().now_or_never().flatten().is_some());
        }
        assert!(receiver.recv().now_or_never().expect("the end").is_none());
    }
}
