//! Link certificate: the configured shape of each link beside its measured one.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use super::{
    message::{MessageMeasured, message_problem},
    tolerance::Tolerance,
};
use crate::{probe::Times, scenario::Shape, shaping::QdiscCounters};

/// Probability that a run on perfect links is called invalid because of random loss; shared among all its tests.
const FALSE_ALARM: f64 = 1e-3;

/// Tolerated loss on a link that should lose nothing, as a share: a loaded host drops a packet now and then.
const STRAY_LOSS: f64 = 1e-3;

/// Standard errors by which the median of a few packets may differ by chance: one in 100,000 differs by more.
const STANDARD_ERRORS: f64 = 4.5;

/// Part of an even spread between its 10th and its 90th percentile.
const JITTER_PART: f64 = 0.8;

/// Minimum number of packets whose percentiles show jitter.
const JITTER_PACKETS: u64 = 100;

/// Share by which a link's jitter may differ, in addition to the tolerance of its latency: percentiles of some hundred
/// packets are no more exact.
const JITTER_TOLERANCE: f64 = 0.15;

/// Measurements of one direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkMeasured {
    /// Round-trip times.
    pub round_trip: Option<Times>,
    /// Times of this direction alone, by the common clock of both ends.
    pub one_way: Option<Times>,
    /// Packets sent in this direction.
    pub packets: u64,
    /// Lost packets among them.
    pub lost: u64,
    /// Packets that arrived twice.
    pub duplicates: Option<u64>,
    /// Packets that arrived after a later one.
    pub reordered: Option<u64>,
    /// Received bytes per second, as frames on Ethernet's wire, of an offer above the link's throughput; none if no
    /// throughput was configured, or if it was measured at other links of the same interfaces.
    pub throughput_bytes_per_second: Option<f64>,
    /// The same without headers.
    pub goodput_bytes_per_second: Option<f64>,
    /// Time of a single message; none if no throughput was configured, or if it was measured at other links of the same
    /// interfaces.
    #[serde(default)]
    pub message: Option<MessageMeasured>,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkRow {
    /// Sender.
    pub from: u64,
    /// Receiver.
    pub to: u64,
    /// Configured shape, the ends' interfaces included.
    pub configured: Shape,
    /// Bytes that the token bucket of the link's throughput holds, as the kernel reports; none if unknown. A message
    /// arrives earlier than its computed time by these bytes and by its last frame.
    #[serde(default)]
    pub burst_bytes: Option<u64>,
    /// Measurements before the window.
    pub before: Option<LinkMeasured>,
    /// Measurements after the window.
    pub after: Option<LinkMeasured>,
    /// Differences beyond the tolerance.
    pub problems: Vec<String>,
}

/// Losses of all links together, if all were configured with the same loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PooledLoss {
    /// Packets sent.
    pub packets: u64,
    /// Lost packets among them.
    pub lost: u64,
    /// Share of lost packets, in percent.
    pub measured_percent: f64,
    /// Configured loss, in percent.
    pub configured_percent: f64,
    /// Minimum and maximum number of lost packets in 99 of 100 cases (binomial).
    pub interval_99: (u64, u64),
}

/// Counters of the qdiscs at a node's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceRow {
    /// Node id.
    pub node: u64,
    /// Counters before the window, after the first measurement.
    pub before: Vec<QdiscCounters>,
    /// Counters after the window and before the last measurement: the difference belongs to the traffic.
    pub after: Vec<QdiscCounters>,
}

/// Configured and measured shapes of all links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// True if every link had its shape in both measurements.
    pub valid: bool,
    /// Permitted differences between a link and its shape.
    pub tolerance: Tolerance,
    /// Every direction of every link.
    pub links: Vec<LinkRow>,
    /// Losses of all links, before and after the window together.
    pub loss: Option<PooledLoss>,
    /// Counters of `tc`.
    pub interfaces: Vec<InterfaceRow>,
}

impl Certificate {
    /// Judges the rows.
    ///
    /// The links of nodes in `gone` need no measurement after the window, because faults had removed these nodes.
    pub fn judge(
        mut links: Vec<LinkRow>,
        interfaces: Vec<InterfaceRow>,
        tolerance: Tolerance,
        gone: &BTreeSet<u64>,
    ) -> Self {
        let tests = links.iter().map(|link| [&link.before, &link.after].into_iter().flatten().count()).sum::<usize>();
        let latencies: BTreeMap<(u64, u64), f64> =
            links.iter().map(|link| ((link.from, link.to), link.configured.latency_millis)).collect();
        for link in &mut links {
            let back = latencies.get(&(link.to, link.from)).copied().unwrap_or(link.configured.latency_millis);
            let mut problems = vec![];
            for (when, measured) in [("before", &link.before), ("after", &link.after)] {
                let Some(measured) = measured else { continue };
                let found = judge(&link.configured, back, measured, tolerance, FALSE_ALARM / tests.max(1) as f64);
                problems.extend(found.into_iter().map(|problem| format!("{when} the window {problem}")));
            }
            link.problems = problems;
        }
        let valid = links.iter().all(|link| {
            let excused = gone.contains(&link.from) || gone.contains(&link.to);
            link.problems.is_empty() && link.before.is_some() && (link.after.is_some() || excused)
        });
        let loss = pooled_loss(&links);
        Self { valid, tolerance, links, loss, interfaces }
    }

    /// Reason why a run on these links is invalid.
    pub fn reason(&self) -> Option<String> {
        let bad: Vec<&LinkRow> = self.links.iter().filter(|link| !link.problems.is_empty()).collect();
        let first = bad.first()?;
        let problem = first.problems.first()?;
        let more = if bad.len() > 1 { format!("; and {} more links", bad.len() - 1) } else { String::new() };
        Some(format!("the link {} -> {} did not take its shape: {problem}{more}", first.from, first.to))
    }
}

/// Differences of a link beyond its tolerance; the opposite direction should take `back` milliseconds.
fn judge(configured: &Shape, back: f64, measured: &LinkMeasured, tolerance: Tolerance, alarm: f64) -> Vec<String> {
    let mut problems = vec![];
    let millis = |micros: u64| micros as f64 / 1000.0;
    let slack = configured.latency_millis * tolerance.latency_percent / 100.0 + tolerance.latency_millis;
    let received = measured.packets.saturating_sub(measured.lost);
    if let Some(one_way) = measured.one_way {
        // The median of n evenly spread values has a standard error of spread / sqrt(n).
        let slack = slack + STANDARD_ERRORS * configured.jitter_millis / (received.max(1) as f64).sqrt();
        // Reordered packets are sent ahead without latency; the slowest packets have all of it.
        let (found, asked) = if configured.reorder_percent > 0.0 {
            (millis(one_way.p99_micros), configured.latency_millis + configured.jitter_millis)
        } else {
            (millis(one_way.p50_micros), configured.latency_millis)
        };
        if (found - asked).abs() > slack {
            problems.push(format!("its latency was {found:.2} ms, not {asked} ms (tolerance {slack:.2} ms)"));
        }
        // From the middle of the distribution, because its ends contain the host's own delays too.
        let jitter = (millis(one_way.p90_micros) - millis(one_way.p10_micros)) / 2.0 / JITTER_PART;
        let asked = configured.jitter_millis;
        let slack = slack + JITTER_TOLERANCE * asked;
        let judged = configured.reorder_percent == 0.0 && received >= JITTER_PACKETS;
        if asked > 0.0 && judged && (jitter - asked).abs() > slack {
            problems.push(format!("its jitter was {jitter:.2} ms, not {asked} ms (tolerance {slack:.2} ms)"));
        }
    } else if let Some(round_trip) = measured.round_trip {
        // The ends have different clocks, so only the round trip can be judged, by the tolerances of both directions.
        let jitter = STANDARD_ERRORS * configured.jitter_millis * 2.0 / (received.max(1) as f64).sqrt();
        let asked = configured.latency_millis + back;
        let slack = asked * tolerance.latency_percent / 100.0 + 2.0 * tolerance.latency_millis + jitter;
        let found = millis(round_trip.p50_micros);
        // If packets are sent ahead, the median means nothing.
        if configured.reorder_percent == 0.0 && (found - asked).abs() > slack {
            problems.push(format!("its round trip was {found:.2} ms, not {asked} ms (tolerance {slack:.2} ms)"));
        }
    } else if configured.loss_percent < 100.0 && measured.packets > 0 {
        problems.push("nothing arrived".to_owned());
    }
    // netem takes a loss from one of two copies only.
    let asked = configured.loss_percent / 100.0 * (1.0 - configured.duplicate_percent / 100.0);
    // Duplicated pings have duplicated answers, so a loss on the way back is hidden by the copies.
    let answers_hide_loss = configured.duplicate_percent > 0.0 && measured.duplicates.is_none();
    if !answers_hide_loss && !loss_is_plausible(measured.packets, measured.lost, asked, alarm) {
        let found = 100.0 * measured.lost as f64 / measured.packets.max(1) as f64;
        problems.push(format!(
            "it lost {} of {} packets ({found:.2} %), not {:.2} %",
            measured.lost,
            measured.packets,
            asked * 100.0
        ));
    }
    if let (Some(asked), Some(found)) = (configured.bytes_per_second(), measured.throughput_bytes_per_second) {
        let off = 100.0 * (found / asked as f64 - 1.0);
        if off.abs() > tolerance.throughput_percent {
            problems.push(format!(
                "its throughput was {:.0} KB/s, not {} KB/s (tolerance {} %)",
                found / 1000.0,
                asked / 1000,
                tolerance.throughput_percent
            ));
        }
    }
    problems.extend(measured.message.and_then(|message| message_problem(configured, back, &message, &tolerance)));
    problems
}

/// True if `lost` of `packets` may be chance, when each is lost with the chance `asked`: a two-sided binomial test.
fn loss_is_plausible(packets: u64, lost: u64, asked: f64, alarm: f64) -> bool {
    let fits = |chance: f64, too_many: bool| {
        let Ok(binomial) = Binomial::new(chance.clamp(0.0, 1.0), packets) else { return true };
        let probability = match (too_many, lost) {
            (true, 0) => 1.0,
            (true, lost) => binomial.sf(lost - 1),
            (false, lost) => binomial.cdf(lost),
        };
        probability >= alarm / 2.0
    };
    fits(asked.max(STRAY_LOSS), true) && fits(asked, false)
}

fn pooled_loss(links: &[LinkRow]) -> Option<PooledLoss> {
    let configured_percent = links.first()?.configured.loss_percent;
    let differs = |link: &LinkRow| link.configured.loss_percent != configured_percent;
    if links.iter().any(|link| differs(link) || link.configured.duplicate_percent > 0.0) {
        return None;
    }
    let measured = || links.iter().flat_map(|link| [&link.before, &link.after]).flatten();
    let packets: u64 = measured().map(|one| one.packets).fold(0, u64::saturating_add);
    let lost: u64 = measured().map(|one| one.lost).fold(0, u64::saturating_add);
    let binomial = Binomial::new((configured_percent / 100.0).clamp(0.0, 1.0), packets).ok()?;
    (packets > 0).then(|| PooledLoss {
        packets,
        lost,
        measured_percent: 100.0 * lost as f64 / packets as f64,
        configured_percent,
        interval_99: if configured_percent == 0.0 {
            (0, 0)
        } else {
            (binomial.inverse_cdf(0.005), binomial.inverse_cdf(0.995))
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance =
        Tolerance { latency_percent: 2.0, latency_millis: 1.0, throughput_percent: 5.0, message_percent: 10.0 };

    fn row(configured: &str, measured: LinkMeasured) -> LinkRow {
        let configured = configured.parse().unwrap();
        let (before, after) = (Some(measured.clone()), Some(measured));
        LinkRow { from: 0, to: 1, configured, burst_bytes: None, before, after, problems: vec![] }
    }

    fn around(micros: u64, spread: u64) -> Option<Times> {
        let (low, high) = (micros - spread, micros + spread);
        let (p10_micros, p90_micros) = (micros - spread * 4 / 5, micros + spread * 4 / 5);
        Some(Times {
            min_micros: low,
            p1_micros: low,
            p10_micros,
            p50_micros: micros,
            p90_micros,
            p99_micros: high,
            max_micros: high,
        })
    }

    fn problems(configured: &str, measured: LinkMeasured) -> Vec<String> {
        Certificate::judge(vec![row(configured, measured)], vec![], TOLERANCE, &BTreeSet::new()).links[0]
            .problems
            .clone()
    }

    #[test]
    fn a_link_as_asked_for_is_certified() {
        let measured = LinkMeasured {
            one_way: around(50_900, 5_000),
            packets: 1000,
            lost: 14,
            throughput_bytes_per_second: Some(9_700_000.0),
            ..LinkMeasured::default()
        };
        let row = row("latency=50,jitter=5,loss=1,throughput=10000", measured);
        let certificate = Certificate::judge(vec![row], vec![], TOLERANCE, &BTreeSet::new());
        assert!(certificate.valid, "{certificate:?}");
        assert_eq!(certificate.reason(), None);
        let loss = certificate.loss.unwrap();
        assert_eq!((loss.lost, loss.interval_99), (28, (10, 32)));
    }

    #[test]
    fn few_packets_of_much_jitter_may_have_a_median_that_is_off() {
        let measured = |packets| LinkMeasured { one_way: around(54_000, 19_600), packets, ..LinkMeasured::default() };
        assert_eq!(problems("latency=50,jitter=20", measured(300)), Vec::<String>::new());
        assert!(!problems("latency=50,jitter=20", measured(30_000)).is_empty());
    }

    #[test]
    fn a_link_that_was_not_measured_after_the_window_is_not_certified_unless_its_node_was_killed() {
        let half = || LinkRow {
            after: None,
            ..row("", LinkMeasured { one_way: around(50, 9), packets: 10, ..LinkMeasured::default() })
        };
        assert!(!Certificate::judge(vec![half()], vec![], TOLERANCE, &BTreeSet::new()).valid);
        assert!(Certificate::judge(vec![half()], vec![], TOLERANCE, &[1].into()).valid);
    }

    #[test]
    fn duplicates_and_reordered_packets_are_judged_by_their_own_rules() {
        let lossy = LinkMeasured {
            one_way: around(50, 9),
            packets: 1000,
            lost: 100,
            duplicates: Some(9),
            ..LinkMeasured::default()
        };
        assert_eq!(problems("loss=20,duplicate=50", lossy), Vec::<String>::new());
        let ahead = LinkMeasured {
            one_way: Some(Times { p50_micros: 80, p99_micros: 60_100, ..Times::default() }),
            packets: 1000,
            ..LinkMeasured::default()
        };
        assert_eq!(problems("latency=50,jitter=10,reorder=60", ahead), Vec::<String>::new());
    }

    #[test]
    fn where_the_clocks_differ_the_round_trip_is_judged() {
        let both = |micros| {
            let measured = LinkMeasured { round_trip: around(micros, 100), packets: 1000, ..LinkMeasured::default() };
            let there = row("latency=50", measured.clone());
            let back = LinkRow { from: 1, to: 0, ..row("latency=20", measured) };
            Certificate::judge(vec![there, back], vec![], TOLERANCE, &BTreeSet::new())
        };
        assert!(both(71_000).valid, "{:?}", both(71_000));
        let reason = both(74_000).reason().unwrap();
        assert!(reason.contains("its round trip was 74.00 ms, not 70 ms (tolerance 3.40 ms)"), "{reason}");
    }

    #[test]
    fn each_way_to_miss_the_shape_is_named() {
        let good = LinkMeasured { one_way: around(50_000, 100), packets: 1000, ..LinkMeasured::default() };
        let slow = LinkMeasured { one_way: around(52_100, 100), ..good.clone() };
        assert!(problems("latency=50", slow)[0].contains("latency was 52.10 ms, not 50 ms (tolerance 2.00 ms)"));
        assert!(problems("latency=50,jitter=20", good.clone())[0].contains("jitter was 0.10 ms, not 20 ms"));
        let lossy = LinkMeasured { lost: 30, ..good.clone() };
        assert!(
            problems("latency=50,loss=1", lossy.clone())[0].contains("lost 30 of 1000 packets (3.00 %), not 1.00 %")
        );
        assert!(problems("latency=50", lossy)[0].contains("not 0.00 %"));
        assert!(problems("latency=50,loss=10", good.clone())[0].contains("lost 0 of 1000"));
        let narrow = LinkMeasured { throughput_bytes_per_second: Some(9_400_000.0), ..good.clone() };
        assert!(problems("latency=50,throughput=10000", narrow)[0].contains("throughput was 9400 KB/s, not 10000"));
        let silent = LinkMeasured { one_way: None, lost: 1000, ..good };
        let certificate = Certificate::judge(vec![row("latency=50", silent)], vec![], TOLERANCE, &BTreeSet::new());
        assert!(
            certificate.reason().unwrap().contains("0 -> 1 did not take its shape: before the window nothing arrived")
        );
    }

    #[test]
    fn a_message_that_the_limit_let_through_unslowed_is_named() {
        let measured = |micros| LinkMeasured {
            one_way: around(50, 10),
            packets: 1000,
            throughput_bytes_per_second: Some(100_000.0),
            message: Some(MessageMeasured {
                bytes: 8_694,
                expected_micros: 86_940,
                one_way_micros: micros,
                round_trip_micros: None,
            }),
            ..LinkMeasured::default()
        };
        for micros in [77_300, 86_940, 96_600] {
            assert_eq!(problems("throughput=100", measured(Some(micros))), Vec::<String>::new(), "{micros}");
        }
        let fast = problems("throughput=100", measured(Some(300)));
        assert!(
            fast[0].contains("a message of 8694 bytes took 0.30 ms, not 86.94 ms (tolerance 9.69 ms)"),
            "before and after the window: {fast:?}"
        );
        assert!(!problems("throughput=100", measured(Some(97_000))).is_empty());
        assert!(problems("throughput=100", measured(None))[0].contains("no message of 8694 bytes arrived completely"));
    }

    #[test]
    fn a_stray_packet_is_no_loss() {
        let measured = LinkMeasured { one_way: around(50, 10), packets: 1000, lost: 1, ..LinkMeasured::default() };
        assert_eq!(problems("throughput=1000", measured), Vec::<String>::new());
    }
}
