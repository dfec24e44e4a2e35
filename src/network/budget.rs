//! Memory for inbound messages, for each peer and in total.
//!
//! A session reserves room for a whole message before it reads, and waits if no room is free: the peer then waits for
//! its window, as behind a slow link. A session that has its room never needs more of the same kind, so a deadlock of
//! sessions that all wait for one another is impossible. A message that is larger than this network's own gets its room
//! from a second store, one at a time for each peer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{NetworkConfig, limits::PEERS_AT_ONCE};
use crate::message::MAX_MESSAGE_SIZE;

/// Unit of the budget, in bytes: a semaphore of all bytes would count further than permits go on small machines.
const UNIT: usize = 1024;

/// Maximum number of bytes of concurrent inbound messages above this network's size, in total: one of the largest.
const OVERSIZED: usize = MAX_MESSAGE_SIZE;

#[derive(Clone)]
struct PeerBudget {
    ordinary: Arc<Semaphore>,
    oversized: Arc<Semaphore>,
}

struct Shared {
    /// Units of one peer, and of all.
    per_peer: usize,
    all: Arc<Semaphore>,
    oversized: Arc<Semaphore>,
    /// Only peers of the network connect, so their number bounds it.
    peers: Mutex<HashMap<PeerId, PeerBudget>>,
    message_size: usize,
}

/// Budget of one network.
#[derive(Clone)]
pub(super) struct Budget(Arc<Shared>);

/// Room for a message, which is returned when this is dropped.
pub(super) struct Room {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Budget {
    pub(super) fn new(config: &NetworkConfig) -> Self {
        let limits = config.limits();
        Self::of(config.queue_bytes, limits.message_size(), limits.least_messages())
    }

    /// Makes the budget for messages of `message_size` bytes, of which each peer may have `queue_bytes` under way, and
    /// `least` in any case, as in the queues to peers.
    fn of(queue_bytes: usize, message_size: usize, least: usize) -> Self {
        let message_size = message_size.max(UNIT);
        let per_peer = units(queue_bytes).max(least * units(message_size)).min(Semaphore::MAX_PERMITS / 16);
        Self(Arc::new(Shared {
            per_peer,
            all: Arc::new(Semaphore::new(per_peer * PEERS_AT_ONCE)),
            oversized: Arc::new(Semaphore::new(units(OVERSIZED))),
            peers: Mutex::default(),
            message_size,
        }))
    }

    /// Size of a message of this network, in bytes: larger ones need [`Self::oversized`] room too.
    pub(super) fn message_size(&self) -> usize {
        self.0.message_size
    }

    fn peer(&self, peer: PeerId) -> PeerBudget {
        let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || PeerBudget {
            ordinary: Arc::new(Semaphore::new(self.0.per_peer)),
            oversized: Arc::new(Semaphore::new(1)),
        };
        peers.entry(peer).or_insert_with(new).clone()
    }

    /// Waits for room for `bytes`, at most a message of this network.
    pub(super) async fn reserve(&self, peer: PeerId, bytes: usize) -> Room {
        let units = u32::try_from(units(bytes.min(self.0.message_size))).unwrap_or(u32::MAX);
        let own = self.peer(peer).ordinary;
        // The peer's own share first, because a session that waits for it takes nothing from the others. No semaphore
        // is ever closed.
        let own = own.acquire_many_owned(units).await.ok();
        Room { _permits: [own, self.0.all.clone().acquire_many_owned(units).await.ok()] }
    }

    /// Waits for room for a message of `bytes`, which is larger than those of this network.
    pub(super) async fn oversized(&self, peer: PeerId, bytes: usize) -> Room {
        let own = self.peer(peer).oversized.acquire_owned().await.ok();
        let units = u32::try_from(units(bytes.min(OVERSIZED))).unwrap_or(u32::MAX);
        Room { _permits: [own, self.0.oversized.clone().acquire_many_owned(units).await.ok()] }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, executor::block_on};

    use super::*;
    use crate::network::peer_id;

    #[test]
    fn a_peer_gets_no_more_than_its_share_and_all_together_no_more_than_theirs() {
        const MESSAGE: usize = 4 << 20;
        let budget = Budget::of(64 << 20, MESSAGE, 4);
        let mut rooms = vec![];
        for peer in 0..8 {
            for _ in 0..16 {
                rooms.push(budget.reserve(peer_id(peer), MESSAGE).now_or_never().expect("room for 64 MiB"));
            }
            assert!(budget.reserve(peer_id(peer), 1).now_or_never().is_none(), "peer {peer} has its share");
        }
        assert!(budget.reserve(peer_id(9), 1).now_or_never().is_none(), "512 MiB in all");
        rooms.pop();
        drop(block_on(budget.reserve(peer_id(9), MESSAGE)));
    }

    #[test]
    fn a_larger_message_comes_in_though_all_ordinary_room_is_taken() {
        const LARGE: usize = 20 << 20;
        let budget = Budget::of(1 << 16, 1000, 4);
        let _rooms: Vec<Room> = (0..64).map(|_| block_on(budget.reserve(peer_id(1), 1000))).collect();
        let first = budget.oversized(peer_id(1), LARGE).now_or_never().expect("one");
        assert!(budget.oversized(peer_id(1), 2000).now_or_never().is_none(), "one at a time");
        assert!(budget.oversized(peer_id(2), LARGE).now_or_never().is_none(), "32 MiB in all");
        assert!(budget.oversized(peer_id(3), 2000).now_or_never().is_some());
        drop(first);
        assert!(budget.oversized(peer_id(1), usize::MAX).now_or_never().is_some());
    }
}
