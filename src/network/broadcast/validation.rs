//! Delay of a node before it forwards a message.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use libp2p::{PeerId, gossipsub::MessageId};

use crate::{
    clock::Instant,
    network::{Backlog, backlog::Held},
};

/// Maximum delay. A message waits in gossipsub's cache, which grows with the delay, and gossipsub remembers a seen
/// message for one minute only.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(30);

/// Maximum number of waiting messages: 10 MiB of entries, and two seconds of 32,000 small messages. Their bytes are in
/// gossipsub's cache, with or without a delay.
const MAX_WAITING: usize = 65_536;

/// Number of heartbeats for which gossipsub's cache keeps messages by default, and the minimum.
const LEAST_HISTORY: usize = 5;

/// Number of heartbeats for which a message stays in the cache beyond the delay: the first begins before the message
/// arrives, and the last accepts of a burst take their time.
const SPARE_HISTORY: usize = 3;

/// A message that was delivered here, and is not forwarded yet.
struct Waiting {
    due: Instant,
    id: MessageId,
    from: PeerId,
    /// A run is not over while a message waits to be forwarded.
    _pending: Held,
}

/// Messages that are forwarded after the delay. It is the same for all, so they become due in the order of their
/// arrivals.
pub(super) struct Validation {
    delay: Duration,
    backlog: Backlog,
    waiting: VecDeque<Waiting>,
}

/// Number of heartbeats for which the cache must keep a message so that it still exists after `delay`.
pub(super) fn history_length(delay: Duration, heartbeat: Duration) -> usize {
    let beats = delay.as_nanos().div_ceil(heartbeat.as_nanos().max(1));
    LEAST_HISTORY.max(usize::try_from(beats).unwrap_or(usize::MAX).saturating_add(SPARE_HISTORY))
}

impl Validation {
    pub(super) fn new(delay: Duration, backlog: Backlog) -> Self {
        Self { delay, backlog, waiting: VecDeque::new() }
    }

    /// Lets a message of `from` wait, `now`; false if too many wait, so that it must be forwarded at once.
    pub(super) fn wait(&mut self, id: MessageId, from: PeerId, now: Instant) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        let _pending = self.backlog.hold(Bytes::new());
        self.waiting.push_back(Waiting { due: now + self.delay, id, from, _pending });
        true
    }

    /// Time at which the next message is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.due)
    }

    /// Next message that is due by `now`, and the peer that it came from.
    pub(super) fn next(&mut self, now: Instant) -> Option<(MessageId, PeerId)> {
        self.waiting.pop_front_if(|first| first.due <= now).map(|first| (first.id, first.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::peer_id;

    #[test]
    fn messages_are_due_after_the_delay_in_the_order_they_came_and_are_pending_until_then() {
        let backlog = Backlog::default();
        let mut validation = Validation::new(Duration::from_millis(100), backlog.clone());
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(validation.wait(MessageId::new(b"first"), peer_id(1), at(0)));
        assert!(validation.wait(MessageId::new(b"second"), peer_id(2), at(40)));
        assert_eq!((validation.due(), backlog.count()), (Some(at(100)), 2));
        assert_eq!(validation.next(at(99)), None);
        assert_eq!(validation.next(at(100)), Some((MessageId::new(b"first"), peer_id(1))));
        assert_eq!((validation.next(at(100)), validation.due(), backlog.count()), (None, Some(at(140)), 1));
    }

    #[test]
    fn no_more_wait_than_the_bound() {
        let mut validation = Validation::new(Duration::from_secs(1), Backlog::default());
        let now = Instant::now();
        for _ in 0..MAX_WAITING {
            assert!(validation.wait(MessageId::new(b""), peer_id(1), now));
        }
        assert!(!validation.wait(MessageId::new(b""), peer_id(1), now));
    }

    #[test]
    fn the_cache_outlasts_the_delay() {
        let history = |delay, beat| history_length(Duration::from_millis(delay), Duration::from_millis(beat));
        assert_eq!([history(0, 1000), history(1, 1000), history(2000, 1000), history(2001, 1000)], [5, 5, 5, 6]);
        assert_eq!(history(1000, 100), 13);
    }
}
