//! Counts of one node.

use std::sync::Arc;

use prometheus::Registry;

use super::{
    plan::{AnswerPlan, ClassPlan, Pace, Reach, TrafficPlan},
    recorder::{MOST_EARLY, Recorder},
    schedule::{SendPlan, Turn},
    windows::{MeasurementWindow, Windows},
};
use crate::{
    clock::unix_nanos,
    message::{Base, Extension, HEADER_SIZE, Message, compose},
    metrics::Metrics,
    network::{Handover, Outgoing, Roster, Traffic, peer_id},
};

const SECOND: u64 = 1_000_000_000;

fn span(from_unix_nanos: u64, to_unix_nanos: u64) -> MeasurementWindow {
    MeasurementWindow { from_unix_nanos, to_unix_nanos, ..MeasurementWindow::everything(Base::Zero) }
}

fn recorder() -> Recorder {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics)
}

fn message(sender: u64, index: u64, intended: u64) -> Vec<u8> {
    compose(sender, index, intended, 100, &Extension { run_id: 7, ..Extension::default() })
}

#[test]
fn a_message_counts_in_the_window_it_was_meant_for_however_late_it_comes() {
    let recorder = recorder();
    let now = unix_nanos();
    recorder.begin(&span(now - 10 * SECOND, now - 5 * SECOND));
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 0, now - 11 * SECOND));
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 1, now - 10 * SECOND));
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 2, now - 5 * SECOND));
    let counts = recorder.counts();
    assert_eq!((counts.measured.received, counts.outside.received), (1, 2));
    let delay = counts.measured.delay_micros.decode().unwrap().max();
    assert!((9_990_000..11_000_000).contains(&delay), "{delay}");
}

#[test]
fn only_a_rejoining_node_counts_arrivals_before_its_start() {
    for rejoined in [true, false] {
        let recorder = recorder();
        let now = unix_nanos();
        recorder.remember_early();
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 7, now - 4 * SECOND));
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 8, now - SECOND));
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 8, now - SECOND));
        recorder.begin(&MeasurementWindow {
            base: Base::LowestSeen,
            boundaries: vec![now - 3 * SECOND],
            rejoined_from: rejoined.then_some(now - 2 * SECOND),
            ..span(now - 5 * SECOND, now + 5 * SECOND)
        });
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 9, now));
        let counts = recorder.counts();
        let phases: Vec<u64> = counts.phases.iter().map(|phase| phase.received).collect();
        assert_eq!(phases, [0, if rejoined { 2 } else { 1 }]);
        assert_eq!((counts.measured.duplicates, counts.outside.received), if rejoined { (1, 1) } else { (0, 0) });
        assert_eq!(counts.pending, 0);
    }
}

#[test]
fn the_memory_of_arrivals_before_the_start_is_bounded() {
    let recorder = recorder();
    recorder.remember_early();
    for index in 0..MOST_EARLY as u64 + 10 {
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, index, 0));
    }
    assert_eq!(recorder.lock().early.as_ref().map(Vec::len), Some(MOST_EARLY));
}

#[test]
fn every_delay_is_kept_as_large_as_it_was() {
    let recorder = recorder();
    let now = unix_nanos();
    for (index, seconds) in [(0, 1), (1, 60), (2, 3600)] {
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, index, now - seconds * SECOND));
    }
    recorder.received(Some(peer_id(2)), Some(peer_id(2)), None, &message(2, 0, 0));
    let delays = recorder.counts().measured.delay_micros.decode().unwrap();
    let within = |quantile, seconds: f64| {
        let value = delays.value_at_quantile(quantile) as f64 / 1e6;
        assert!((seconds * 0.999..seconds * 1.002 + 0.5).contains(&value), "{value} s for {seconds} s");
    };
    within(0.25, 1.0);
    within(0.5, 60.0);
    within(0.75, 3600.0);
    within(1.0, now as f64 / 1e9);
}

#[test]
fn strangers_impostors_and_other_runs_are_not_counted() {
    let recorder = recorder();
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(2, 0, 0));
    recorder.received(Some(peer_id(3)), Some(peer_id(3)), None, &message(3, 0, 0));
    recorder.received(Some(peer_id(0)), Some(peer_id(0)), None, &message(0, 0, 0));
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, b"nonsense");
    let other = compose(1, 0, 0, 100, &Extension { run_id: 8, ..Extension::default() });
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &other);
    assert_eq!(recorder.counts().measured, Windows::new(&span(0, 0), None).measured.summary());
    let refused = |reason| recorder.metrics.receive_message_malformed_count.of(reason).get();
    assert_eq!(refused("wrong_sender"), 1);
    assert_eq!(refused("unknown_sender"), 2);
    assert_eq!(refused("not_a_message"), 1);
    assert_eq!(refused("other_run"), 1);
}

#[test]
fn a_recorder_of_named_runs_takes_none_that_names_no_run_or_another() {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let recorder = Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics).named_run_only(Some(100));
    let named = |index, run_id| compose(1, index, 0, 100, &Extension { run_id, ..Extension::default() });
    let mut unnamed = named(3, 7);
    unnamed[HEADER_SIZE..].fill(0);
    for message in [named(0, 7), named(1, 0), named(2, 8), unnamed, compose(1, 4, 0, 40, &Extension::default())] {
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message);
    }
    assert_eq!(recorder.counts().measured.received, 1);
    assert_eq!(recorder.metrics.receive_message_malformed_count.of("other_run").get(), 4);
}

#[test]
fn messages_too_small_to_name_their_run_are_taken_where_this_run_sends_such() {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let recorder = Recorder::new(0, 7, Arc::new(Roster::new(3)), metrics).named_run_only(Some(59));
    for (index, size) in [(0, 59), (1, 58), (2, 100)] {
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &compose(1, index, 0, size, &Extension::default()));
    }
    assert_eq!(recorder.counts().measured.received, 1);
}

#[test]
fn arrivals_before_the_run_is_known_count_only_if_they_belong_to_it() {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let recorder = Recorder::new(0, 0, Arc::new(Roster::new(3)), metrics).named_run_only(Some(100));
    recorder.remember_early();
    let now = unix_nanos();
    for (index, run_id) in [(0, 7), (1, 8), (2, 0)] {
        let extension = Extension { run_id, ..Extension::default() };
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &compose(1, index, now, 100, &extension));
    }
    recorder.set_run_id(7);
    let rejoined_from = Some(now - SECOND);
    recorder.begin(&MeasurementWindow { base: Base::LowestSeen, rejoined_from, ..span(now - SECOND, now + SECOND) });
    assert_eq!(recorder.counts().measured.received, 1);
}

#[test]
fn a_stray_of_another_trial_does_not_stand_for_a_message_of_this_one() {
    let recorder = recorder();
    recorder.begin(&MeasurementWindow { trial: 1, ..MeasurementWindow::everything(Base::Zero) });
    let of_trial = |trial| compose(1, 0, 0, 100, &Extension { run_id: 7, trial, ..Extension::default() });
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &of_trial(0));
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &of_trial(1));
    assert_eq!((recorder.counts().measured.received, recorder.counts().measured.duplicates), (1, 0));
    assert_eq!(recorder.metrics.receive_message_malformed_count.of("other_trial").get(), 1);
}

#[test]
fn a_delay_from_a_clock_ahead_of_ours_is_clamped_and_counted() {
    let recorder = recorder();
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 0, unix_nanos() + 60 * SECOND));
    let measured = recorder.counts().measured;
    assert_eq!((measured.received, measured.negative_delays), (1, 1));
    assert_eq!(measured.delay_micros.decode().unwrap().max(), 0);
}

fn outgoing(intended: u64) -> Outgoing {
    Outgoing {
        intended_unix_nanos: intended,
        next_unix_nanos: intended + SECOND,
        handed_over_unix_nanos: 0,
        trial: 0,
        class: 0,
        index: 0,
        bytes: message(0, 0, intended),
    }
}

/// Hands a message over to queues that return `handover`; returns its extension, if it was not too late.
fn send(recorder: &Recorder, intended: u64, handover: Handover) -> Option<Extension> {
    let mut message = outgoing(intended);
    recorder.about_to_send(&mut message).then(|| {
        recorder.handed_over(&message, message.bytes.len() as u64, handover);
        Message::decode(&message.bytes).unwrap().extension.unwrap()
    })
}

const TAKEN: Handover = Handover { queued: 2, dropped: 0 };

#[test]
fn a_message_is_late_after_its_successor_is_due_and_not_sent_after_the_deadline() {
    let recorder = recorder();
    let now = unix_nanos();
    recorder
        .begin(&MeasurementWindow { send_deadline: now + 60 * SECOND, ..MeasurementWindow::everything(Base::Zero) });
    assert!(send(&recorder, now, TAKEN).is_some());
    let lag = send(&recorder, now - 3 * SECOND, TAKEN).unwrap().send_lag_micros;
    assert!((3_000_000..4_000_000).contains(&lag), "{lag}");
    let measured = recorder.counts().measured;
    assert_eq!((measured.sent, measured.late), (2, 1));

    recorder.begin(&MeasurementWindow { send_deadline: now - SECOND, ..MeasurementWindow::everything(Base::Zero) });
    assert_eq!(send(&recorder, now, TAKEN), None);
    assert_eq!(recorder.counts().measured.sent, 0);
}

#[test]
fn a_message_that_no_queue_took_is_dropped_and_not_sent() {
    let recorder = recorder();
    recorder.begin(&MeasurementWindow::everything(Base::Zero));
    let now = unix_nanos();
    let handovers =
        [TAKEN, Handover { queued: 0, dropped: 2 }, Handover { queued: 1, dropped: 1 }, Handover::default()];
    let stated = handovers.map(|handover| send(&recorder, now, handover).unwrap().sent_before);
    assert_eq!(stated, [0, 1, 1, 2], "only messages that were sent count");
    let measured = recorder.counts().measured;
    assert_eq!((measured.sent, measured.dropped, measured.dropped_copies), (2, 2, 1));
}

#[test]
fn an_index_that_no_schedule_has_reached_is_refused() {
    let recorder = recorder();
    let now = unix_nanos();
    let impossible = || recorder.metrics.receive_message_malformed_count.of("impossible_index").get();
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, u64::MAX - 1, now));
    assert_eq!(impossible(), 1);
    let begun = now - SECOND;
    let schedule =
        SendPlan { origin_unix_nanos: begun, from_unix_nanos: begun, ..SendPlan::new(3, Turn::All, SECOND / 10) };
    let plan = Arc::new(TrafficPlan::only(schedule, 100));
    recorder.begin(&MeasurementWindow { plan: Some(plan), ..MeasurementWindow::everything(Base::Zero) });
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, 10_000, now));
    assert_eq!(impossible(), 2);
    for index in 0..10 {
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &message(1, index, now));
    }
    let counts = recorder.counts();
    assert_eq!((counts.measured.received, counts.measured.undecided, counts.pending), (10, 0, 0));
}

/// Three nodes in a line: proposals of two parts by node 0, answers of all to them, and a unicast over sessions.
fn three_classes() -> Arc<TrafficPlan> {
    let mut plan = TrafficPlan::only(SendPlan { burst: 2, ..SendPlan::new(3, Turn::one(0), SECOND) }, 100);
    let answer =
        AnswerPlan { class: 0, senders: Turn::All, burst: 2, burst_spacing_nanos: SECOND, to_unix_nanos: None };
    let only = plan.classes[0].clone();
    plan.classes.push(ClassPlan { name: "answer".into(), pace: Pace::After(answer), ..only.clone() });
    let schedule = SendPlan::new(3, Turn::All, SECOND);
    let unicast = ClassPlan { name: "one".into(), reach: Reach::OneNeighbour, pace: Pace::Schedule(schedule), ..only };
    plan.classes.push(unicast);
    plan.neighbours = Some(vec![vec![1], vec![0, 2], vec![1]]);
    Arc::new(plan)
}

fn of_node(id: u64) -> Recorder {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Recorder::new(id, 7, Arc::new(Roster::new(3)), metrics).with_traffic(three_classes())
}

fn of_class(class: u16, sender: u64, index: u64) -> Vec<u8> {
    compose(sender, index, 0, 100, &Extension { run_id: 7, class, ..Extension::default() })
}

fn due(recorder: &Recorder) -> Vec<(u16, u64)> {
    let answers = recorder.answers();
    std::iter::from_fn(|| answers.pop()).map(|(class, index, _)| (class, index)).collect()
}

#[test]
fn a_logical_message_is_answered_once_when_all_of_its_parts_are_there() {
    let recorder = of_node(1);
    let receive =
        |index| recorder.received_at(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(0, 0, index), 5 * SECOND);
    (0..2).for_each(receive);
    assert_eq!(due(&recorder), [], "nothing is answered before the start");
    recorder.answer_until(20 * SECOND, None);
    receive(2);
    assert_eq!(due(&recorder), []);
    receive(3);
    receive(3);
    assert_eq!(due(&recorder), [(1, 0), (1, 1)], "both parts of one answer");
    // Part 4 is lost; the message after it is answered nevertheless.
    (5..8).for_each(receive);
    assert_eq!(due(&recorder), [(1, 2), (1, 3)]);
    assert_eq!(recorder.counts().classes[1].measured.intended, 4);
    recorder.received_at(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(0, 0, 8), 20 * SECOND);
    recorder.received_at(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(0, 0, 9), 20 * SECOND);
    assert_eq!(due(&recorder), [], "nothing is answered after the end");
    recorder.received_at(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(0, 0, 10), 19 * SECOND + 1);
    recorder.received_at(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(0, 0, 11), 19 * SECOND + 1);
    assert_eq!(due(&recorder), [(1, 4)], "the second part would come after the end");
}

#[test]
fn a_publisher_answers_its_own_message_when_it_has_handed_the_last_part_over() {
    let recorder = of_node(0);
    recorder.answer_until(u64::MAX, None);
    for index in 0..2 {
        let mut message = Outgoing { index, bytes: of_class(0, 0, index), ..outgoing(unix_nanos()) };
        assert!(recorder.about_to_send(&mut message) && due(&recorder).is_empty());
        recorder.handed_over(&message, 100, TAKEN);
    }
    assert_eq!(due(&recorder), [(1, 0), (1, 1)]);
}

#[test]
fn a_rejoining_node_answers_after_all_answers_that_it_can_have_sent() {
    let recorder = of_node(1);
    let plan = Some(three_classes());
    recorder.begin(&MeasurementWindow { plan, ..MeasurementWindow::everything(Base::Zero) });
    recorder.answer_until(u64::MAX, Some(10 * SECOND));
    (0..2).for_each(|index| {
        recorder.received_at(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(0, 0, index), 11 * SECOND)
    });
    let first = due(&recorder)[0].1;
    // At most eleven proposals until then, and two messages for each.
    assert!((22..100).contains(&first), "{first}");
}

#[test]
fn of_a_unicast_only_the_own_share_is_expected() {
    let recorder = of_node(2);
    recorder.begin(&MeasurementWindow::everything(Base::Zero));
    let refused = |reason| recorder.metrics.receive_message_malformed_count.of(reason).get();
    // Node 1 has two neighbours, so that every other message comes to node 2.
    for index in [1, 3, 7] {
        // Without the sender's own count.
        let mut message = of_class(2, 1, index);
        message[HEADER_SIZE..].fill(0);
        recorder.received(Some(peer_id(1)), Some(peer_id(1)), Some(2), &message);
    }
    assert_eq!((recorder.counts().classes[2].measured.received, recorder.pending()), (3, vec![0, 0, 1]));
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &of_class(2, 1, 2));
    recorder.received(Some(peer_id(0)), Some(peer_id(0)), None, &of_class(2, 0, 0));
    assert_eq!(refused("not_for_this_node"), 2);
    recorder.received(Some(peer_id(1)), Some(peer_id(1)), None, &of_class(3, 1, 0));
    assert_eq!(refused("unknown_class"), 1);
}

#[test]
fn a_unicast_states_how_many_messages_its_receiver_was_sent_before() {
    let recorder = of_node(1);
    let stated = (0..5).map(|index| {
        let mut message = Outgoing { class: 2, index, bytes: of_class(2, 1, index), ..outgoing(unix_nanos()) };
        assert!(recorder.about_to_send(&mut message));
        // Message 2 is dropped.
        recorder.handed_over(&message, 100, if index == 2 { Handover::default() } else { TAKEN });
        Message::decode(&message.bytes).unwrap().extension.unwrap().sent_before
    });
    assert_eq!(stated.collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
}

#[test]
fn the_message_or_otherwise_its_topic_identifies_the_class() {
    let recorder = of_node(1);
    recorder.received(Some(peer_id(0)), Some(peer_id(0)), Some(0), &of_class(1, 0, 0));
    let mut plain = of_class(0, 0, 0);
    plain[HEADER_SIZE..].fill(0);
    recorder.received(Some(peer_id(0)), Some(peer_id(0)), Some(1), &plain);
    recorder.received(Some(peer_id(0)), Some(peer_id(0)), None, &plain);
    let counts = recorder.counts();
    let received: Vec<_> = counts.classes.iter().map(|class| class.measured.received).collect();
    assert_eq!((received, counts.classes[1].measured.duplicates), (vec![1, 1, 0], 1));
    assert_eq!((counts.measured.received, counts.measured.duplicates), (2, 1), "the totals are the sums");
}
