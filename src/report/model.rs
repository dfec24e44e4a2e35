//! A network in which random numbers decide the fate of each message, and the test knows this fate. The nodes count
//! with the real schedule, recorder, tracker and windows; only the time is the model's.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use super::{DrainEnd, DrainSummary, Observations, PhaseInput, PlannedWindow, WorkloadSummary};
use crate::{
    message::{Base, Extension, Message, compose},
    metrics::Metrics,
    network::{Handover, Outgoing, Roster, Traffic},
    node::{
        AnswerPlan, ArrivalReport, ClassPlan, MeasurementWindow, NodeSummary, Pace, Reach, Recorder, SEND_GRACE,
        SendPlan, Slot, StartOrder, TrafficPlan, Turn,
    },
    scenario::{MessageSize, WeightedSize},
};

const MS: u64 = 1_000_000;
const RUN_ID: u64 = 7;
const WARM_UP_MILLIS: u64 = 300;
const MEASURE_MILLIS: u64 = 2_000;
/// Start of all traffic.
const START: u64 = 1_000_000 * MS;
const OPENING: u64 = START + WARM_UP_MILLIS * MS;
const END: u64 = OPENING + MEASURE_MILLIS * MS;
const DEADLINE: u64 = END + SEND_GRACE;

/// Random numbers of a seed, by SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.of(0..100) < chance
    }
}

/// Life of a node: one process.
struct Life {
    born: u64,
    /// Time of its start; later than its end for a process that is killed before.
    start: u64,
    /// Time at which it is killed.
    end: Option<u64>,
    /// Time of its last report.
    report: u64,
    pauses: Vec<Range<u64>>,
    /// End of the report of the previous life.
    gone_since: Option<u64>,
    recorder: Recorder,
    begun: bool,
    summary: Option<NodeSummary>,
    arrivals: Option<ArrivalReport>,
}

impl Life {
    /// Time at which it does an action that is due at `time`; none if it does not live until then.
    fn awake(&self, time: u64) -> Option<u64> {
        let pause = self.pauses.iter().find(|pause| pause.contains(&time));
        let time = pause.map_or(time, |pause| pause.end);
        self.end.is_none_or(|end| time < end).then_some(time)
    }
}

enum Event {
    Begin,
    Due(u16, Slot),
    HandOver(u16, Slot),
    Arrive { sender: u64, bytes: Arc<[u8]> },
    Report,
}

/// Message at a node: class, receiver, sender and index.
pub(super) type At = (u16, u64, u64, u64);

/// Facts about a run that no node reports.
#[derive(Default)]
pub(super) struct Truth {
    /// Messages of the window by class and sender: handed to the network, and dropped by its own queues.
    pub(super) sent: BTreeMap<(u16, u64), u64>,
    pub(super) dropped: BTreeMap<(u16, u64), u64>,
    /// Messages of the window that arrived before the receiver's last report.
    pub(super) came: BTreeSet<At>,
    /// All messages that arrived while the window was open.
    pub(super) came_in_window: BTreeSet<At>,
    /// First arrival of each message at each node; for the sender, the time at which it hands the message over.
    pub(super) first: BTreeMap<At, u64>,
    /// Nodes that were never killed, and whose last report is of the end of the run.
    pub(super) whole: BTreeSet<u64>,
}

/// A run of the model, and all reports of it.
pub(super) struct Run {
    pub(super) nodes: Vec<NodeSummary>,
    pub(super) arrivals: Vec<ArrivalReport>,
    pub(super) observed: Observations,
    pub(super) truth: Truth,
}

struct Model<'a> {
    dice: Dice,
    num_nodes: u64,
    plan: Arc<TrafficPlan>,
    boundaries: Vec<u64>,
    cut: Option<(Range<u64>, Vec<Vec<u64>>)>,
    lives: BTreeMap<u64, Vec<Life>>,
    roster: &'a Arc<Roster>,
    metrics: &'a Metrics,
    queue: BTreeMap<(u64, u64), (u64, usize, Event)>,
    events: u64,
    truth: Truth,
}

fn class(dice: &mut Dice, number: u16, num_nodes: u64) -> ClassPlan {
    let turn = match dice.of(0..5) {
        0 => Turn::one(dice.of(0..num_nodes)),
        1 => Turn::RoundRobin { round: Duration::from_millis(dice.of(50..400)) },
        2 => Turn::Nodes((0..num_nodes).filter(|_| dice.percent(60)).collect()),
        _ => Turn::All,
    };
    let heartbeat_nanos = dice.of(10 * MS..60 * MS);
    let burst = if dice.percent(60) { 1 } else { dice.of(2..5) };
    let schedule = SendPlan {
        class: number,
        burst,
        burst_spacing_nanos: dice.of(0..heartbeat_nanos) / burst,
        origin_unix_nanos: START,
        from_unix_nanos: START,
        to_unix_nanos: Some(END),
        spread_seed: dice.percent(60).then(|| dice.next()),
        ..SendPlan::new(num_nodes, turn, heartbeat_nanos)
    };
    let weighted = |bytes, weight| WeightedSize { bytes, weight };
    ClassPlan {
        name: format!("class {number}"),
        protocol: None,
        reach: [Reach::Everyone, Reach::Neighbours, Reach::OneNeighbour][dice.of(0..3) as usize],
        message_size: if dice.percent(50) {
            MessageSize::Fixed(100)
        } else {
            MessageSize::Weighted(vec![weighted(80, 3.0), weighted(300, 1.0)])
        },
        deadline_millis: dice.percent(40).then(|| dice.of(1..100)),
        pace: Pace::Schedule(schedule),
    }
}

fn traffic(dice: &mut Dice) -> TrafficPlan {
    let num_nodes = dice.of(2..5);
    let mut classes: Vec<ClassPlan> =
        (0..if dice.percent(30) { 1 } else { 2 }).map(|number| class(dice, number, num_nodes)).collect();
    // A chain of answers.
    for answered in 0..dice.of(0..3) {
        let senders = match dice.of(0..2) {
            0 => Turn::All,
            _ => Turn::Nodes((0..num_nodes).filter(|_| dice.percent(60)).collect()),
        };
        let burst = dice.of(1..3);
        let answer = AnswerPlan {
            class: if answered == 0 { 0 } else { classes.len() as u16 - 1 },
            senders,
            burst,
            burst_spacing_nanos: dice.of(0..20 * MS),
            to_unix_nanos: Some(END),
        };
        let number = classes.len() as u16;
        classes.push(ClassPlan { pace: Pace::After(answer), ..class(dice, number, num_nodes) });
    }
    // A line, or a full mesh.
    let line = |node: u64| [node.checked_sub(1), Some(node + 1).filter(|next| *next < num_nodes)].into_iter().flatten();
    let neighbours = dice.percent(50).then(|| (0..num_nodes).map(|node| line(node).collect()).collect());
    TrafficPlan { num_nodes, seed: dice.next(), neighbours, classes }
}

/// Runs the model of a seed. The metrics make a recorder expensive, so they are shared.
pub(super) fn run(seed: u64, roster: &Arc<Roster>, metrics: &Metrics) -> Run {
    let mut dice = Dice(seed);
    let plan = Arc::new(traffic(&mut dice));
    // Some runs are interrupted in their window.
    let over = if dice.percent(15) { dice.of(OPENING + 1..END) } else { DEADLINE + dice.of(0..1_500 * MS) };
    let model = Model {
        dice,
        num_nodes: plan.num_nodes,
        plan,
        boundaries: vec![],
        cut: None,
        lives: BTreeMap::new(),
        roster,
        metrics,
        queue: BTreeMap::new(),
        events: 0,
        truth: Truth::default(),
    };
    model.run(over)
}

impl Model<'_> {
    fn life(&mut self, node: u64, born: u64, gone_since: Option<u64>) -> Life {
        let recorder = Recorder::new(node, RUN_ID, self.roster.clone(), self.metrics.clone());
        let recorder = recorder.with_traffic(self.plan.clone()).with_arrivals(100_000);
        recorder.remember_early();
        // A node that returns receives its start a little later.
        let start = if gone_since.is_some() { born + self.dice.of(0..300 * MS) } else { born };
        Life {
            born,
            start,
            end: None,
            report: u64::MAX,
            pauses: vec![],
            gone_since,
            recorder,
            begun: false,
            summary: None,
            arrivals: None,
        }
    }

    /// Adds faults of a node: it is killed and restarted, or paused for a while, or left alone.
    fn add_lives(&mut self, node: u64) {
        let mut lives = vec![];
        let mut life = self.life(node, START - 100 * MS, None);
        let mut time = OPENING + 1;
        loop {
            time += self.dice.of(MS..1_800 * MS);
            if time >= END {
                break;
            }
            let until = time + self.dice.of(MS..1_200 * MS);
            self.boundaries.push(time);
            if self.dice.percent(50) && time >= life.start {
                // A node that is paused to the end of the window is resumed after the deadline.
                life.pauses.push(time..if until < END { until } else { DEADLINE + 1 });
                time = until;
            } else {
                // The last report comes before the kill, at a time at which the node is awake.
                let awake_since = life.pauses.last().map_or(life.born, |pause| pause.end);
                life.end = Some(time);
                life.report = (time - self.dice.of(0..200 * MS)).max(awake_since);
                let gone_since = life.gone_since.filter(|_| life.start >= time).unwrap_or(life.report + 1);
                lives.push(life);
                if until >= END || self.dice.percent(15) {
                    self.lives.insert(node, lives);
                    return;
                }
                life = self.life(node, until, Some(gone_since));
                time = until;
            }
            self.boundaries.extend((time < END).then_some(time));
        }
        lives.push(life);
        self.lives.insert(node, lives);
    }

    fn add_cut(&mut self) {
        if self.dice.percent(50) {
            return;
        }
        let from = self.dice.of(OPENING + 1..END);
        let to = self.dice.of(from..END + 500 * MS);
        let mut groups = vec![vec![]; 2];
        for node in 0..self.num_nodes {
            groups[self.dice.of(0..2) as usize].push(node);
        }
        self.boundaries.push(from);
        self.boundaries.extend((to < END).then_some(to));
        self.cut = Some((from..to, groups));
    }

    fn push(&mut self, time: u64, node: u64, life: usize, event: Event) {
        self.events += 1;
        self.queue.insert((time, self.events), (node, life, event));
    }

    fn order(&self, rejoining: Option<u64>) -> StartOrder {
        StartOrder {
            warm_up_millis: WARM_UP_MILLIS,
            measure_millis: Some(MEASURE_MILLIS),
            rejoining: rejoining.is_some(),
            gone_since_unix_nanos: rejoining,
            ..StartOrder::at(START)
        }
    }

    fn run(mut self, over: u64) -> Run {
        (0..self.num_nodes).for_each(|node| self.add_lives(node));
        self.add_cut();
        self.boundaries.sort_unstable();
        self.boundaries.dedup();
        self.schedule(over);
        // A node reports shortly before the runner stops waiting.
        let ended = over + 5 * MS;
        while let Some(((time, _), (node, life, event))) = self.queue.pop_first() {
            if time > ended {
                break;
            }
            self.perform(time, node, life, event);
        }
        self.collect(ended, over > END)
    }

    /// Schedules the starts, reports and messages of each life.
    fn schedule(&mut self, over: u64) {
        let mut events = vec![];
        for (node, lives) in &mut self.lives {
            for (number, life) in lives.iter_mut().enumerate() {
                if life.end.is_none_or(|end| end > over) {
                    // A paused node does not answer, so its last report is from before the pause.
                    let at = over + self.dice.of(0..5 * MS);
                    let paused = life.pauses.iter().find(|pause| pause.contains(&at));
                    life.report = paused.map_or(at, |pause| pause.start);
                    if paused.is_none() && number == 0 {
                        self.truth.whole.insert(*node);
                    }
                }
                if life.born <= over {
                    events.push((life.report, *node, number, Event::Report));
                }
                let Some(start) = life.awake(life.start) else { continue };
                events.push((start, *node, number, Event::Begin));
                for (class, plan) in self.plan.numbered() {
                    let Some(schedule) = plan.schedule() else { continue };
                    for slot in schedule.slots(*node, if life.gone_since.is_some() { start } else { 0 }) {
                        let due = life.awake(slot.intended_unix_nanos.max(start));
                        events.extend(due.map(|due| (due, *node, number, Event::Due(class, slot))));
                    }
                }
            }
        }
        events.into_iter().for_each(|(time, node, life, event)| self.push(time, node, life, event));
    }

    fn perform(&mut self, time: u64, node: u64, number: usize, event: Event) {
        let boundaries = self.boundaries.clone();
        let order = |life: &Life| self.order(life.gone_since);
        let Some(life) = self.lives.get(&node).and_then(|lives| lives.get(number)) else { return };
        match event {
            Event::Begin => {
                life.recorder.begin(&MeasurementWindow {
                    base: if life.gone_since.is_some() { Base::LowestSeen } else { Base::Zero },
                    trial: 0,
                    from_unix_nanos: OPENING,
                    to_unix_nanos: END,
                    send_deadline: DEADLINE,
                    boundaries,
                    plan: Some(self.plan.clone()),
                    rejoined_from: life.gone_since,
                });
                life.recorder.answer_until(END, life.gone_since.map(|_| time));
                self.change(node, number, |life| life.begun = true);
            }
            Event::Due(class, slot) => {
                life.recorder.intended(class, slot.intended_unix_nanos);
                let lag = if self.dice.percent(80) { self.dice.of(0..MS) } else { self.dice.of(0..300 * MS) };
                let at = self.lives[&node][number].awake(time + lag);
                if let Some(at) = at {
                    self.push(at, node, number, Event::HandOver(class, slot));
                }
            }
            Event::HandOver(class, slot) => self.hand_over(time, node, number, class, &slot),
            Event::Arrive { sender, bytes } => {
                life.recorder.received_at(self.roster.peer(sender), self.roster.peer(sender), None, &bytes, time);
                let reported = time < life.report;
                let message = Message::decode(&bytes).unwrap();
                let key = (message.extension.unwrap().class, node, sender, message.header.index);
                self.truth.first.entry(key).or_insert(time);
                self.answer(node, number);
                if !reported {
                    return;
                }
                if (OPENING..END).contains(&message.header.intended_unix_nanos) {
                    self.truth.came.insert(key);
                }
                if (OPENING..END).contains(&time) {
                    self.truth.came_in_window.insert(key);
                }
            }
            Event::Report => {
                let (counts, arrivals) = (life.recorder.counts(), life.recorder.arrivals());
                let summary = NodeSummary {
                    counted_unix_nanos: time,
                    start: life.begun.then(|| order(life)),
                    measured: counts.measured,
                    outside: counts.outside,
                    pending: counts.pending,
                    senders: counts.senders,
                    classes: counts.classes,
                    ..super::tests::node(node, counts.phases, &[])
                };
                self.change(node, number, |life| {
                    life.summary = Some(summary);
                    life.arrivals = Some(arrivals);
                });
            }
        }
    }

    fn change(&mut self, node: u64, number: usize, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.lives.get_mut(&node).and_then(|lives| lives.get_mut(number)) {
            change(life);
        }
    }

    /// Sends the answers that have become due, as the pacer does.
    fn answer(&mut self, node: u64, number: usize) {
        let answers = self.lives[&node][number].recorder.answers();
        while let Some((class, index, intended_unix_nanos)) = answers.pop() {
            let lag = if self.dice.percent(80) { self.dice.of(0..MS) } else { self.dice.of(0..300 * MS) };
            let slot = Slot { index, intended_unix_nanos, next_unix_nanos: u64::MAX };
            if let Some(at) = self.lives[&node][number].awake(intended_unix_nanos + lag) {
                self.push(at, node, number, Event::HandOver(class, slot));
            }
        }
    }

    fn hand_over(&mut self, now: u64, node: u64, number: usize, class: u16, slot: &Slot) {
        let Slot { index, intended_unix_nanos, next_unix_nanos } = *slot;
        let size = self.plan.message_size(class, node, index);
        let bytes = compose(node, index, intended_unix_nanos, size, &Extension::default());
        let mut message =
            Outgoing { intended_unix_nanos, next_unix_nanos, handed_over_unix_nanos: 0, trial: 0, class, index, bytes };
        let recorder = &self.lives[&node][number].recorder;
        if !recorder.stamp(&mut message, now) {
            return;
        }
        let receivers: Vec<u64> =
            (0..self.num_nodes).filter(|other| self.plan.expects(class, node, *other, index)).collect();
        let full = match self.dice.of(0..100) {
            0..10 => receivers.len(),
            10..15 => 1,
            _ => 0,
        };
        let queued = receivers.len() - full;
        recorder.handed_over(&message, size as u64, Handover { queued: queued as u64, dropped: full as u64 });
        if (OPENING..END).contains(&intended_unix_nanos) {
            let fate = if queued > 0 { &mut self.truth.sent } else { &mut self.truth.dropped };
            *fate.entry((class, node)).or_default() += 1;
        }
        if queued > 0 {
            self.truth.first.insert((class, node, node, index), now);
        }
        self.answer(node, number);
        let bytes = Arc::from(message.bytes);
        for receiver in receivers.into_iter().skip(full) {
            self.send(now, node, receiver, &bytes);
            // A second path through the mesh.
            if self.dice.percent(15) {
                self.send(now, node, receiver, &bytes);
            }
        }
    }

    /// A copy is lost, or arrives: late if the link is cut, or the receiver is paused or away.
    fn send(&mut self, now: u64, sender: u64, receiver: u64, bytes: &Arc<[u8]>) {
        let delay = if self.dice.percent(90) { MS / 10..40 * MS } else { MS..900 * MS };
        let (delay, lost) = (self.dice.of(delay), self.dice.percent(50));
        let mut time = now + delay;
        if let Some((when, groups)) = &self.cut
            && when.contains(&time)
            && !groups.iter().any(|group| group.contains(&sender) && group.contains(&receiver))
        {
            if lost {
                return;
            }
            time = when.end + delay;
        }
        let lives = &self.lives[&receiver];
        let Some(number) = lives.iter().position(|life| life.end.is_none_or(|end| time < end)) else { return };
        let life = &lives[number];
        if time < life.born {
            if lost {
                return;
            }
            time = life.born + delay;
        }
        let arrival = Event::Arrive { sender, bytes: bytes.clone() };
        if let Some(time) = life.awake(time) {
            self.push(time, receiver, number, arrival);
        }
    }

    /// Reports that the runner has at the end: those of ended lives, in their order, and then the last reports.
    fn collect(self, ended: u64, whole: bool) -> Run {
        let (mut over, mut latest, mut killed) = (vec![], vec![], BTreeSet::new());
        let all = self.lives.values().flatten().filter(|life| life.born <= ended);
        let arrivals = all.filter_map(|life| life.arrivals.clone()).collect();
        for (node, lives) in self.lives {
            for life in lives.into_iter().filter(|life| life.born <= ended) {
                if let Some(end) = life.end.filter(|end| *end <= ended) {
                    killed.insert(node);
                    over.extend(life.summary.map(|summary| (end, summary)));
                } else {
                    latest.extend(life.summary);
                }
            }
        }
        over.sort_by_key(|(end, _)| *end);
        let nodes = over.into_iter().map(|(_, summary)| summary).chain(latest).collect();
        let groups_at = |time: u64| {
            let cut = self.cut.as_ref().filter(|(when, _)| when.contains(&time));
            cut.map(|(_, groups)| groups.clone())
        };
        let starts = std::iter::once(OPENING).chain(self.boundaries.iter().copied());
        let phases = starts.map(|from| PhaseInput { events: vec![], groups: groups_at(from) });
        let window = PlannedWindow { plan: self.plan.as_ref().clone(), from_unix_nanos: OPENING, to_unix_nanos: END };
        let observed = Observations {
            workload: WorkloadSummary { num_nodes: self.num_nodes, ..WorkloadSummary::default() },
            window: Some(window),
            ended_unix_nanos: Some(ended),
            killed,
            phases: phases.collect(),
            drain: whole.then_some(DrainSummary { seconds: 1.0, ended: DrainEnd::Limit }),
            ..Observations::default()
        };
        Run { nodes, arrivals, observed, truth: self.truth }
    }
}
