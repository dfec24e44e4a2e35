//! Offsets of the nodes' clocks from this host's, measured over HTTP as NTP does: a node made its answer at some time
//! between the request and the arrival of the answer.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};

use crate::{
    clock::{Instant, unix_nanos},
    experiment::NodeClient,
    report::ClockOffset,
};

/// Number of requests to each node, of which the quickest is used.
const QUESTIONS: usize = 8;
/// Number of nodes that are asked at once: with more, this host's own delays would dominate.
const AT_ONCE: usize = 8;

/// Maximum offset of a node's clock from this host's: less than the time between the order to start and the start.
const BOUND: Duration = Duration::from_millis(250);

/// Clock of a node.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) offset: ClockOffset,
    boot_id: Option<String>,
}

/// Measures the clock of each node; an error for a node that does not report it.
pub(super) async fn measure(clients: &[NodeClient]) -> BTreeMap<u64, Result<Clock, String>> {
    let questions = clients.iter().map(async |client| (client.id, ask(client).await));
    stream::iter(questions).buffer_unordered(AT_ONCE).collect().await
}

async fn ask(client: &NodeClient) -> Result<Clock, String> {
    let mut best: Option<Clock> = None;
    for _ in 0..QUESTIONS {
        let (asked, since) = (unix_nanos(), Instant::now());
        let reading = client.clock().await?;
        let trip = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let middle = asked.saturating_add(trip / 2);
        let apart = i128::from(reading.unix_nanos) - i128::from(middle);
        let offset = ClockOffset {
            offset_micros: i64::try_from(apart / 1000).unwrap_or(i64::MAX),
            error_micros: (trip / 2).div_ceil(1000),
        };
        if best.as_ref().is_none_or(|best| offset.error_micros < best.offset.error_micros) {
            best = Some(Clock { offset, boot_id: reading.boot_id });
        }
    }
    best.ok_or_else(|| "it does not report its clock".into())
}

/// For each node, the lowest node with the same clock.
pub(super) fn groups(clocks: &BTreeMap<u64, Clock>) -> BTreeMap<u64, u64> {
    let mut first: BTreeMap<&str, (u64, ClockOffset)> = BTreeMap::new();
    let mut groups = BTreeMap::new();
    for (node, clock) in clocks {
        // A clock that is not known to be another node's counts as separate.
        let mut of = *node;
        if let Some(boot) = clock.boot_id.as_deref() {
            let (other, offset) = *first.entry(boot).or_insert((*node, clock.offset));
            // Copies of a machine that was saved while it ran have one name and separate clocks.
            let apart = offset.offset_micros.abs_diff(clock.offset.offset_micros);
            if apart <= offset.error_micros.saturating_add(clock.offset.error_micros) {
                of = other;
            }
        }
        groups.insert(*node, of);
    }
    groups
}

/// Reason why nodes with these clocks can't receive a start.
pub(super) fn rejection_reason(clocks: &BTreeMap<u64, Clock>) -> Option<String> {
    let bound = u64::try_from(BOUND.as_micros()).unwrap_or(u64::MAX);
    let off = |clock: &Clock| clock.offset.offset_micros.unsigned_abs().saturating_sub(clock.offset.error_micros);
    let (node, clock) = clocks.iter().max_by_key(|(_, clock)| off(clock)).filter(|(_, clock)| off(clock) > bound)?;
    let offset = clock.offset.offset_micros;
    Some(format!(
        "the clock of node {node} is {:.3} s {} this host's, and all nodes start at one instant: set the clocks by NTP \
         (chronyc tracking, timedatectl), to {} ms at least",
        offset.unsigned_abs() as f64 / 1e6,
        if offset > 0 { "ahead of" } else { "behind" },
        BOUND.as_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(offset_micros: i64, error_micros: u64, boot: Option<&str>) -> Clock {
        Clock { offset: ClockOffset { offset_micros, error_micros }, boot_id: boot.map(Into::into) }
    }

    #[test]
    fn a_clock_with_a_certain_offset_is_named_with_the_fix() {
        let near = [(0, clock(-200_000, 0, None)), (1, clock(400_000, 150_000, None))];
        assert_eq!(rejection_reason(&near.into()), None);
        let line = rejection_reason(&[(0, clock(0, 9, None)), (3, clock(-2_500_000, 900, None))].into()).unwrap();
        assert!(
            line.starts_with("the clock of node 3 is 2.500 s behind this host's") && line.contains("NTP"),
            "{line}"
        );
    }

    #[test]
    fn nodes_of_one_boot_share_a_clock_unless_it_is_a_copy_and_unknown_ones_share_none() {
        let clocks = [
            (0, clock(0, 0, None)),
            (1, clock(0, 0, Some("a"))),
            (2, clock(0, 0, None)),
            (3, clock(50, 50, Some("a"))),
            (4, clock(5000, 50, Some("a"))),
        ];
        assert_eq!(groups(&clocks.into()), [(0, 0), (1, 1), (2, 2), (3, 1), (4, 4)].into());
    }
}
