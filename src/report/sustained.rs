//! Verdict on the offered load of a network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{quantiles::Missing, units::bytes};
use crate::node::THIRDS;

/// Share of the deliveries offered meanwhile above which a backlog counts as grown. A network that carries 98 % of its
/// load is at its limit; with a lower share, a single hiccup of a short window would make its load unsustained.
const GROWTH_LIMIT: f64 = 0.02;

/// Reason of a window in which nothing was to be delivered.
const NOTHING: &str = "nothing was to be delivered";

/// Verdict on the load of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sustained {
    /// True if the backlog did not grow over the window and no message was missed, dropped or lost; none if that is
    /// unknown.
    pub sustained: Option<bool>,
    /// Reason of the verdict; empty for a sustained load.
    pub reason: String,
    /// Mean number of deliveries under way in each third of the window, messages of the warm-up included; none if
    /// unknown.
    pub backlog_by_third: Option<[f64; THIRDS]>,
}

impl Sustained {
    /// Verdict on several classes: their loads are sustained together if each of them is. A class without expected
    /// deliveries has no verdict.
    pub(super) fn of_all<'a>(
        classes: impl Iterator<Item = (&'a str, Self)>,
        backlog_by_third: Option<[f64; THIRDS]>,
    ) -> Self {
        let (mut refused, mut unknown, mut any) = (vec![], vec![], false);
        for (name, verdict) in classes {
            match verdict.sustained {
                Some(true) => any = true,
                Some(false) => refused.push(format!("{name}: {}", verdict.reason)),
                None if verdict.backlog_by_third.is_some() => {}
                None => unknown.push(verdict.reason),
            }
        }
        unknown.dedup();
        match (refused.is_empty(), unknown.is_empty(), any) {
            (false, ..) => Self { sustained: Some(false), reason: refused.join("; "), backlog_by_third },
            (true, false, _) => Self { sustained: None, reason: unknown.join("; "), backlog_by_third },
            (true, true, true) => Self { sustained: Some(true), reason: String::new(), backlog_by_third },
            (true, true, false) => Self { sustained: None, reason: NOTHING.into(), backlog_by_third },
        }
    }
}

/// Counts that decide the verdict.
pub(super) struct Load<'a> {
    /// True if the planned window passed completely.
    pub(super) whole: bool,
    pub(super) window_seconds: f64,
    pub(super) expected: u64,
    /// Deliveries that begin at one instant, and whose different delays alone are no backlog; 0 for schedules.
    pub(super) wave: u64,
    pub(super) dropped: u64,
    pub(super) dropped_copies: u64,
    pub(super) missed: u64,
    /// Deliveries that never arrived, of messages sent or not.
    pub(super) missing: &'a Missing,
    pub(super) lost: u64,
    /// Largest delay of an arrival, in microseconds.
    pub(super) max_micros: u64,
    /// True if the wait for late messages had its full length.
    pub(super) drained: bool,
    /// Offered time under way, over all receivers, and the part of it that remained at the arrivals, in microseconds.
    pub(super) offered_micros: [u64; THIRDS],
    pub(super) arrived_micros: [u64; THIRDS],
    pub(super) offered_bytes_per_second: Option<f64>,
    pub(super) delivered_bytes_per_second: f64,
}

impl Load<'_> {
    /// Mean deliveries under way in each third.
    fn backlog(&self) -> Option<[f64; THIRDS]> {
        let third_micros = self.window_seconds * 1e6 / THIRDS as f64;
        if !self.whole || third_micros <= 0.0 {
            return None;
        }
        let mut backlog = [0.0; THIRDS];
        for (mean, (offered, arrived)) in backlog.iter_mut().zip(self.offered_micros.iter().zip(self.arrived_micros)) {
            *mean = offered.saturating_sub(arrived) as f64 / third_micros;
        }
        Some(backlog)
    }

    /// Sent messages that are certainly lost: after a shortened wait, only messages that are twice as old as any that
    /// arrived.
    fn lost_on_the_way(&self) -> u64 {
        if self.drained { self.lost } else { self.missing.older_than(self.max_micros.saturating_mul(2)).min(self.lost) }
    }

    /// Judges the load.
    pub(super) fn judge(&self) -> Sustained {
        let backlog_by_third = self.backlog();
        let Some([first, .., last]) = backlog_by_third else {
            let reason = "the window did not pass completely".to_owned();
            return Sustained { sustained: None, reason, backlog_by_third };
        };
        if self.expected == 0 {
            return Sustained { sustained: None, reason: NOTHING.into(), backlog_by_third };
        }
        let mut reasons = vec![];
        // From the middle of the first third to the middle of the last one, two thirds of the window pass.
        let meanwhile = self.expected as f64 * (THIRDS - 1) as f64 / THIRDS as f64;
        if last - first > (GROWTH_LIMIT * meanwhile).max(self.wave as f64) {
            let rates = self.offered_bytes_per_second.map(|offered| {
                let arrived = bytes(self.delivered_bytes_per_second);
                format!(": {arrived}/s of {}/s arrived", bytes(offered))
            });
            let rates = rates.unwrap_or_default();
            reasons.push(format!("the backlog grew from {first:.0} to {last:.0} deliveries{rates}"));
        }
        for (count, reason) in [
            (self.missed, "messages were missed"),
            (self.dropped, "messages were dropped before the wire"),
            (self.dropped_copies, "copies were dropped before the wire"),
        ] {
            reasons.extend((count > 0).then(|| format!("{count} {reason}")));
        }
        // Deliveries of messages that were never sent are reported as missed or dropped messages.
        if self.missed == 0 && self.dropped == 0 && self.dropped_copies == 0 {
            let lost = self.lost_on_the_way();
            reasons.extend((lost > 0).then(|| format!("{lost} deliveries were lost")));
        }
        Sustained { sustained: Some(reasons.is_empty()), reason: reasons.join("; "), backlog_by_third }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(missing: &Missing) -> Load<'_> {
        Load {
            whole: true,
            window_seconds: 30.0,
            expected: 3_000,
            wave: 0,
            dropped: 0,
            dropped_copies: 0,
            missed: 0,
            missing,
            lost: 0,
            max_micros: 1_000,
            drained: true,
            offered_micros: [20_000_000; THIRDS],
            arrived_micros: [10_000_000; THIRDS],
            offered_bytes_per_second: Some(2e6),
            delivered_bytes_per_second: 1e6,
        }
    }

    #[test]
    fn a_steady_backlog_is_sustained_and_a_growing_one_is_not() {
        let none = Missing::default();
        let steady = load(&none).judge();
        assert_eq!((steady.sustained, steady.backlog_by_third), (Some(true), Some([1.0; THIRDS])));
        // 2 % of the 2000 deliveries of two thirds of the window are 40.
        let grown =
            |by: u64| Load { offered_micros: [20_000_000, 0, 20_000_000 + by * 10_000_000], ..load(&none) }.judge();
        assert_eq!(grown(40).sustained, Some(true));
        let grew = grown(41);
        assert_eq!(grew.sustained, Some(false));
        assert_eq!(grew.reason, "the backlog grew from 1 to 42 deliveries: 976.6 KiB/s of 1.9 MiB/s arrived");
    }

    #[test]
    fn a_load_with_losses_is_not_sustained_and_an_unfinished_one_is_unknown() {
        let none = Missing::default();
        let reason = |load: Load<'_>| (load.judge().sustained, load.judge().reason);
        assert_eq!(reason(Load { missed: 2, lost: 4, ..load(&none) }), (Some(false), "2 messages were missed".into()));
        assert_eq!(reason(Load { lost: 1, ..load(&none) }), (Some(false), "1 deliveries were lost".into()));
        assert_eq!(reason(Load { whole: false, ..load(&none) }).0, None);
        assert_eq!(reason(Load { expected: 0, ..load(&none) }).0, None);
    }

    #[test]
    fn a_delivery_still_under_way_when_a_short_wait_ends_is_not_lost() {
        let young = Missing::new(3, [(900, 3)]);
        let cut = Load { lost: 3, drained: false, ..load(&young) }.judge();
        assert_eq!(cut.sustained, Some(true), "{}", cut.reason);
        let old = Missing::new(3, [(900, 2), (2_001, 1)]);
        assert_eq!(Load { lost: 3, drained: false, ..load(&old) }.judge().reason, "1 deliveries were lost");
    }
}
