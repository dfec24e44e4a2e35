//! Work that takes long, off the tasks of the network.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::clock;

/// Number of bytes below which a work is done in place: handing it to another thread and back takes some 20 us, in
/// which 32 KiB are hashed.
const IN_PLACE: usize = 32 << 10;

/// Maximum number of threads that work at once.
const MOST_WORKERS: usize = 8;

/// Threads for hashing, encoding and rebuilding: as many as the machine has processors, up to [`MOST_WORKERS`]. Work
/// that finds no free one waits, and with it the stream that it came from.
#[derive(Clone)]
pub(super) struct Workers(Arc<Semaphore>);

impl Default for Workers {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(processors.min(MOST_WORKERS))))
    }
}

impl Workers {
    /// Does a work on `bytes` bytes; none if the network ends meanwhile.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // In virtual time, work takes no time, and no other thread may take part.
        if bytes < IN_PLACE || clock::is_virtual() {
            return Some(work());
        }
        let _permit = self.0.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}
