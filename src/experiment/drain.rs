//! Wait for late messages after the window. A message counts as lost only if the run waited for it and it did not
//! arrive.

use std::time::Duration;

use super::state::Experiment;
use crate::{
    clock::{Instant, sleep, unix_nanos},
    node::{NodeState, NodeSummary, SEND_GRACE, StartOrder},
    report::{DrainEnd, DrainSummary},
};

/// Interval of reading the counts while the network drains.
const DRAIN_POLL: Duration = Duration::from_millis(200);

/// Total of all arrivals at the nodes, and of all transfers in them: while it grows, the network is not quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Motion {
    sent: u64,
    came: u64,
}

impl Experiment<'_> {
    /// Waits until every possible delivery has arrived, or nothing arrives any more and nothing is under way, or the
    /// time is over. A node that never stops sending, or hangs, ends the run, and the reason names it.
    pub(super) async fn drain(&mut self) -> Result<(), String> {
        let timing = self.plan.timing;
        let (limit, quiet) = (timing.drain, timing.drain_quiet);
        let last = limit + timing.hang;
        let begun = Instant::now();
        let (mut motion, mut changed) = (Motion::default(), Instant::now());
        loop {
            let all_answered = self.poll().await?;
            let figures = self.tell("drain");
            let now = self.motion();
            if now != motion || self.is_anything_pending() {
                (motion, changed) = (now, Instant::now());
            }
            let ended = if self.is_complete() {
                Some(DrainEnd::Complete)
            } else if begun.elapsed() >= limit {
                Some(DrainEnd::Limit)
            } else {
                (changed.elapsed() >= quiet).then_some(DrainEnd::Quiet)
            };
            // Only counts that a node has made after the end of its window are a result.
            if let Some(ended) = ended.filter(|_| all_answered && self.undrained().is_none()) {
                self.drained = Some(DrainSummary { seconds: begun.elapsed().as_secs_f64(), ended });
                return Ok(());
            }
            if begun.elapsed() >= last {
                let fault = self.undrained().unwrap_or_else(|| "not every node answers in time".into());
                return Err(format!("the drain did not end {} s after the window: {fault}", begun.elapsed().as_secs()));
            }
            self.progress.update(begun.elapsed().as_secs_f64() / limit.as_secs_f64().max(1e-3), &figures);
            sleep(DRAIN_POLL).await;
        }
    }

    /// Text about a node that is not in the expected phase after the window.
    fn undrained(&self) -> Option<String> {
        let node = self.latest.values().find(|node| node.phase != NodeState::Draining)?;
        let state = serde_json::to_value(node.phase).ok()?;
        Some(format!("node {} is still in state {}", node.node, state.as_str().unwrap_or_default()))
    }

    fn motion(&self) -> Motion {
        let windows = |node: &NodeSummary, field: fn(&crate::node::WindowSummary) -> u64| {
            field(&node.measured).saturating_add(field(&node.outside))
        };
        Motion {
            sent: self.sum(|node| windows(node, |w| w.sent.saturating_add(w.dropped))),
            came: self
                .sum(|node| windows(node, |w| w.received.saturating_add(w.duplicates).saturating_add(w.undecided))),
        }
    }

    /// True if a queue, a session, a socket or a connection attempt of any node may still deliver a message.
    fn is_anything_pending(&self) -> bool {
        let gone = self.faults.gone();
        self.latest.values().any(|node| {
            let others_gone = gone.iter().filter(|id| **id != node.node).count();
            let readiness = &node.readiness;
            let connecting = readiness.connected_peers.saturating_add(others_gone) < readiness.expected_peers
                || readiness.links.saturating_add(others_gone) < readiness.expected_links;
            // Work that can't be seen, as over QUIC, may be under way.
            let work =
                node.pending_work.is_none_or(|work| work.queued > 0 || work.socket_bytes.is_none_or(|bytes| bytes > 0));
            connecting || work
        })
    }

    /// True if all sent messages have arrived, and nothing can be sent any more.
    fn is_complete(&self) -> bool {
        let lives = self.faults.lives();
        let sum = |field: fn(&NodeSummary) -> u64| lives.iter().map(field).fold(self.sum(field), u64::saturating_add);
        let (intended, sent) = (sum(|node| node.measured.intended), sum(|node| node.measured.sent));
        let settled = sent.saturating_add(sum(|node| node.measured.dropped));
        let deadline = self.order.as_ref().and_then(StartOrder::to_unix_nanos).unwrap_or(0).saturating_add(SEND_GRACE);
        // A killed node may have sent more than it reported.
        let known = self.faults.killed().is_empty();
        known
            && (settled >= intended || unix_nanos() > deadline)
            && sum(|node| node.measured.received) >= self.deliveries(lives.iter(), |window| window.sent)
    }
}
