//! Times to reach, computed by hand and from the truth of random runs.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Arrivals, Collected, Observations, Place, PlannedWindow, RunSummary, WorkloadSummary, arrivals::tests::row, merge,
    model, reach::add_reach,
};
use crate::{
    metrics::Metrics,
    network::Roster,
    node::{ALL, AnswerPlan, ClassPlan, Pace, Reach, SendPlan, TrafficPlan, Turn},
};

const MS: u64 = 1_000_000;

/// Node 0 sends every 100 ms from 0 to 400 ms, to nodes of these weights.
fn observations(weights: &[f64], change: impl FnOnce(&mut TrafficPlan)) -> Observations {
    let schedule =
        SendPlan { to_unix_nanos: Some(400 * MS), ..SendPlan::new(weights.len() as u64, Turn::one(0), 100 * MS) };
    let mut plan = TrafficPlan::only(schedule, 100);
    change(&mut plan);
    let places = weights.iter().zip(["a", "b"].iter().cycle());
    Observations {
        workload: WorkloadSummary { num_nodes: weights.len() as u64, ..WorkloadSummary::default() },
        window: Some(PlannedWindow { plan, from_unix_nanos: 0, to_unix_nanos: 400 * MS }),
        places: places.map(|(weight, region)| Place { weight: *weight, region: Some((*region).into()) }).collect(),
        ended_unix_nanos: Some(1_000 * MS),
        ..Observations::default()
    }
}

/// Result of a run of which only the arrivals are known.
fn result(observed: &Observations, rows: Vec<super::ArrivalRow>) -> RunSummary {
    let nodes: Vec<_> = (0..observed.workload.num_nodes)
        .map(|node| crate::node::NodeSummary { counted_unix_nanos: 900 * MS, ..super::tests::node(node, vec![], &[]) })
        .collect();
    let mut run = merge(Collected { nodes: &nodes, observed });
    let classes = observed.window.as_ref().unwrap().plan.classes.len();
    add_reach(&mut run, &Arrivals::ordered(vec![ALL; classes], rows), observed, &nodes);
    run
}

/// Times of the only class until 1/3, 2/3 and all of the weight have a message: medians in milliseconds, missing ones.
fn medians(run: &RunSummary) -> [(Option<u64>, u64); 3] {
    let class = &run.classes[0];
    [&class.reach_1_3, &class.reach_2_3, &class.reach_all].map(|delay| {
        let delay = delay.as_ref().unwrap();
        (delay.p50_micros.map(|micros| micros / 1000), delay.missing)
    })
}

#[test]
fn the_weight_of_the_holders_decides_when_a_message_has_reached_the_network() {
    let mut rows = vec![];
    for (index, intended) in [0, 100, 200, 300].into_iter().enumerate() {
        rows.push(row(0, index as u64, 1, [intended, intended + 10], Some(0)));
        rows.push(row(0, index as u64, 2, [intended, intended + 30], Some(1)));
        rows.push(row(0, index as u64, 3, [intended, intended + 20], Some(0)));
    }
    let at = |weights: [f64; 4]| {
        medians(&result(&observations(&weights, |_| {}), rows.clone())).map(|(time, _)| time.unwrap())
    };
    // The sender has its message from the beginning.
    assert_eq!(at([1.0; 4]), [10, 20, 30]);
    assert_eq!(at([2.0, 1.0, 1.0, 2.0]), [0, 20, 30]);
    assert_eq!(at([0.0, 1.0, 8.0, 0.0]), [30, 30, 30]);
    assert_eq!(at([7.0, 1.0, 1.0, 1.0]), [0, 0, 30]);
}

#[test]
fn a_message_that_never_reaches_its_share_is_later_than_all_others() {
    let mut rows = vec![row(0, 0, 1, [0, 10], Some(0)), row(0, 0, 2, [0, 12], Some(0))];
    rows.push(row(0, 1, 1, [100, 110], Some(0)));
    // Nobody has message 2, and node 1 got message 3 after the last report.
    rows.push(row(0, 3, 1, [300, 950], Some(0)));
    let run = result(&observations(&[1.0; 3], |plan| plan.classes[0].deadline_millis = Some(11)), rows);
    assert_eq!(medians(&run), [(Some(0), 0), (Some(10), 2), (None, 3)]);
    let facts = run.classes[0].reach.as_ref().unwrap();
    let missed: Vec<_> = facts.missed.iter().map(|late| (late.index, late.reach_2_3_micros)).collect();
    assert_eq!((facts.messages, facts.deadline_misses, missed), (4, Some(2), vec![(2, None), (3, None)]));
    let regions: Vec<_> = facts.regions.iter().map(|region| (region.region.as_str(), region.reach_2_3.count)).collect();
    assert_eq!(regions, [("a", 2)]);
    assert_eq!(run.totals.unwrap().reach.unwrap().deadline_misses, Some(2));
}

#[test]
fn a_message_of_several_parts_counts_from_the_first_time_to_the_last_part() {
    let parts = |plan: &mut TrafficPlan| {
        let Pace::Schedule(schedule) = &mut plan.classes[0].pace else { return };
        (schedule.burst, schedule.burst_spacing_nanos) = (2, 60 * MS);
    };
    let mut rows = vec![];
    for beat in 0..4 {
        let begin = beat * 100;
        rows.push(row(0, 2 * beat, 1, [begin, begin + 90], Some(0)));
        rows.push(row(0, 2 * beat + 1, 1, [begin + 60, begin + 70], Some(0)));
    }
    let run = result(&observations(&[1.0; 2], parts), rows);
    assert_eq!(medians(&run), [(Some(0), 0), (Some(90), 0), (Some(90), 0)]);
    assert_eq!(run.classes[0].reach.as_ref().unwrap().messages, 4);
}

#[test]
fn a_round_ends_when_the_votes_of_two_thirds_are_at_two_thirds() {
    let with_votes = |plan: &mut TrafficPlan| {
        let answer = AnswerPlan { class: 0, senders: Turn::All, burst: 1, burst_spacing_nanos: 0, to_unix_nanos: None };
        plan.classes.push(ClassPlan { name: "votes".into(), pace: Pace::After(answer), ..plan.classes[0].clone() });
    };
    let of_votes = |sender: u64, intended: u64, arrivals: [(u64, u64); 2]| {
        arrivals.map(|(receiver, arrived)| super::ArrivalRow {
            class: 1,
            ..row(sender, 0, receiver, [intended, arrived], Some(sender))
        })
    };
    // The proposal is handed over after 1 ms, and arrives after 10 and 20 ms.
    let mut rows = vec![row(0, 0, 0, [0, 1], None), row(0, 0, 1, [0, 10], Some(0)), row(0, 0, 2, [0, 20], Some(0))];
    rows.extend(of_votes(0, 1, [(1, 15), (2, 16)]));
    rows.extend(of_votes(1, 10, [(0, 30), (2, 40)]));
    rows.extend(of_votes(2, 20, [(0, 50), (1, 60)]));
    let run = result(&observations(&[1.0; 3], with_votes), rows);
    // Two of three votes are at node 1 after 15 ms (its own and that of 0), at 2 after 20 ms, at 0 after 30 ms.
    let round = run.classes[1].round.as_ref().unwrap();
    assert_eq!((round.max_micros.map(|micros| micros / 1000), round.count, round.missing), (None, 1, 3));
    let histogram = round.histogram.decode().unwrap();
    assert_eq!(histogram.max() / 1000, 20);
    assert!(run.classes[0].round.is_none());
}

#[test]
fn times_to_reach_are_those_of_the_truth_after_any_fault_but_a_kill() {
    let roster = Arc::new(Roster::new(4));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let (mut compared, mut lost) = (0, 0);
    for seed in 0..150 {
        let run = model::run(seed, &roster, &metrics);
        if !run.observed.killed.is_empty() {
            continue;
        }
        let window = run.observed.window.as_ref().unwrap();
        let mut result = merge(Collected { nodes: &run.nodes, observed: &run.observed });
        add_reach(&mut result, &Arrivals::of(&run.arrivals, &window.plan), &run.observed, &run.nodes);
        let end = window.to_unix_nanos.min(run.observed.ended_unix_nanos.unwrap());
        for (number, plan) in window.plan.numbered() {
            let row = &result.classes[usize::from(number)];
            let Some(schedule) = plan.schedule().filter(|_| plan.reach != Reach::OneNeighbour) else { continue };
            let mut times: BTreeMap<usize, Vec<Option<u64>>> = BTreeMap::new();
            for sender in 0..window.plan.num_nodes {
                let slots: Vec<_> = schedule.slots(sender, 0).collect();
                for parts in slots.chunk_by(|a, b| a.index / plan.burst() == b.index / plan.burst()) {
                    let inside = |time: u64| (window.from_unix_nanos..end).contains(&time);
                    if parts.len() as u64 != plan.burst() || !parts.iter().all(|part| inside(part.intended_unix_nanos))
                    {
                        continue;
                    }
                    let begin = parts[0].intended_unix_nanos;
                    let arrived = |node: u64, index: u64| {
                        let key = (number, node, sender, index);
                        run.truth.came.contains(&key).then(|| run.truth.first[&key])
                    };
                    let others: Vec<u64> = (0..window.plan.num_nodes)
                        .filter(|node| window.plan.expects(number, sender, *node, parts[0].index))
                        .collect();
                    let mut whole: Vec<u64> = others
                        .iter()
                        .filter_map(|node| {
                            parts
                                .iter()
                                .map(|part| arrived(*node, part.index))
                                .collect::<Option<Vec<u64>>>()?
                                .into_iter()
                                .max()
                        })
                        .collect();
                    whole.push(begin);
                    whole.sort_unstable();
                    for (share, thirds) in [(0, 1), (1, 2), (2, 3)] {
                        let needed = (thirds * (others.len() + 1)).div_ceil(3);
                        let time = whole.get(needed - 1).map(|time| (time - begin) / 1000);
                        times.entry(share).or_default().push(time);
                    }
                }
            }
            for (share, delay) in [&row.reach_1_3, &row.reach_2_3, &row.reach_all].into_iter().enumerate() {
                let delay = delay.as_ref().unwrap();
                let mut expected = times.get(&share).cloned().unwrap_or_default();
                let missing = expected.iter().filter(|time| time.is_none()).count() as u64;
                expected.sort_by_key(|time| time.unwrap_or(u64::MAX));
                assert_eq!(
                    (delay.count + delay.missing, delay.missing),
                    (expected.len() as u64, missing),
                    "run {seed}, class {number}"
                );
                let Some(median) = expected.get(expected.len().div_ceil(2).saturating_sub(1)) else { continue };
                let close = |a: u64, b: u64| a.abs_diff(b) <= 1 + b / 500;
                let same = match (delay.p50_micros, median) {
                    (Some(reported), Some(expected)) => close(reported, *expected),
                    (reported, expected) => reported == *expected,
                };
                assert!(same, "run {seed}, class {number}, share {share}: {:?} and {median:?}", delay.p50_micros);
                compared += 1;
                lost += missing;
            }
        }
    }
    assert!(compared > 30 && lost > 30, "{compared} distributions with {lost} messages that never arrived");
}
