//! Count of the copies that wait in queues and open sessions.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

/// Copies of messages that were accepted and have neither left nor failed yet.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<AtomicU64>);

impl Backlog {
    /// Number of copies that wait now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A copy that counts as long as it lives.
    pub(super) fn hold(&self, bytes: Bytes) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held { bytes, backlog: self.clone() }
    }
}

/// A copy on its way to one peer. It leaves the backlog when it is dropped, after any end of its queue or session.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    backlog: Backlog,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_counts_until_it_is_dropped() {
        let backlog = Backlog::default();
        let held = [backlog.hold(Bytes::new()), backlog.hold(Bytes::new())];
        assert_eq!(backlog.count(), 2);
        drop(held);
        assert_eq!(backlog.count(), 0);
    }
}
