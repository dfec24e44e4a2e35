//! Checks of the nodes' reports against themselves and against the facts of the run. A node is another program on
//! another host, so a report is believed only as far as its numbers can be true. The lengths of its lists were bounded
//! when it was read.
//!
//! Every bound here holds for a node that was killed, restarted, paused or late, and for a node that was asked while
//! traffic flowed: its counts are a snapshot, taken at one moment.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;

use super::{
    frame::{phases_of, window_of},
    lives::{sum, unreadable},
    observed::{Observations, PlannedWindow},
};
use crate::{
    message::MAX_MESSAGE_SIZE,
    node::{
        HistogramText, NodeSummary, PhaseSender, PhaseSummary, Reach, THIRDS, TrafficPlan, TrialSummary, WindowSummary,
        WindowUsage, trials,
    },
};

/// Bound of the distance of two hosts' clocks and of the delay of a window's end, in nanoseconds: a runner refuses a
/// difference of a quarter of a second, and waits two seconds for an answer.
const MARGIN: u64 = 60_000_000_000;

/// Processors of the largest machine that Linux runs on.
const MOST_PROCESSORS: f64 = 8192.0;
/// Bound of a machine's traffic in one direction, in bytes per second: a terabit per second.
const MOST_BANDWIDTH: f64 = 125e9;
/// Bound of a machine's memory, in bytes: physical addresses have 52 bits.
const MOST_MEMORY: u64 = 1 << 52;
/// Bound of a window's length, in seconds: a year, as for the start of a run.
const LONGEST: f64 = 366.0 * 86_400.0;

/// Messages that the nodes were scheduled to send in a span of time; for answers, the maximum possible number.
struct Scheduled<'a> {
    plan: &'a TrafficPlan,
    from: u64,
    to: u64,
    /// Messages by class and node.
    by_node: Vec<Vec<u64>>,
    /// Messages by class.
    all: Vec<u64>,
}

impl<'a> Scheduled<'a> {
    fn new(planned: &'a PlannedWindow, num_nodes: u64, from: u64) -> Self {
        let (plan, to) = (&planned.plan, planned.to_unix_nanos);
        let of_node = |class: u16, node: u64| match plan.count(class, node, from, to) {
            Some(count) => count,
            None if plan.class(class).is_some_and(|class| class.senders().has(node)) => {
                plan.largest_index(class, to).saturating_add(1)
            }
            None => 0,
        };
        let by_node: Vec<Vec<u64>> =
            plan.numbered().map(|(class, _)| (0..num_nodes).map(|node| of_node(class, node)).collect()).collect();
        Self { plan, from, to, all: by_node.iter().map(|nodes| sum(nodes.iter().copied())).collect(), by_node }
    }

    fn of(&self, class: u16, node: u64) -> u64 {
        let nodes = self.by_node.get(usize::from(class));
        nodes.and_then(|nodes| nodes.get(usize::try_from(node).ok()?)).copied().unwrap_or(0)
    }

    /// Messages of `sender` that `receiver` was scheduled to receive.
    fn share(&self, class: u16, sender: u64, receiver: u64) -> u64 {
        match self.plan.indices(class, sender, self.from, self.to) {
            Some(indices) => self.plan.share(class, sender, receiver, indices),
            None => self.plan.share(class, sender, receiver, 0..self.of(class, sender)),
        }
    }

    /// Messages of all other nodes that `receiver` was scheduled to receive.
    fn to(&self, class: u16, receiver: u64) -> u64 {
        match self.plan.class(class).map(|class| class.reach) {
            None => 0,
            Some(Reach::Everyone) => {
                let all = self.all.get(usize::from(class)).copied().unwrap_or(0);
                all.saturating_sub(self.of(class, receiver))
            }
            Some(Reach::Neighbours | Reach::OneNeighbour) => {
                sum(self.plan.neighbours_of(receiver).into_iter().map(|sender| self.share(class, sender, receiver)))
            }
        }
    }
}

/// Facts that the run knows without its nodes.
pub(super) struct Known<'a> {
    num_nodes: u64,
    broadcaster: Option<u64>,
    message_size: Option<usize>,
    latest_unix_nanos: u64,
    planned: Option<(&'a PlannedWindow, Scheduled<'a>, Scheduled<'a>)>,
}

/// The bounds of one window.
struct Bounds {
    num_nodes: u64,
    message_size: usize,
    /// Messages that this node, and all others, were scheduled to send in the window.
    own: u64,
    others: u64,
    /// Length of a third of the window, and the largest possible delay, in microseconds.
    third_micros: u64,
    longest_micros: u64,
}

/// Returns an error text if `count` is above `most`.
fn at_most(count: u64, what: &str, most: u64, of: &str) -> Result<(), String> {
    if count > most { Err(format!("{count} {what}, of {most} {of}")) } else { Ok(()) }
}

fn decoded(text: &HistogramText, node: u64) -> Result<Histogram<u64>, String> {
    text.decode().map_err(|error| unreadable(node, &error))
}

impl<'a> Known<'a> {
    pub(super) fn new(observed: &'a Observations) -> Self {
        let num_nodes = observed.workload.num_nodes;
        let planned = observed.window.as_ref().map(|planned| {
            let scheduled = |from| Scheduled::new(planned, num_nodes, from);
            (planned, scheduled(planned.from_unix_nanos), scheduled(0))
        });
        Self {
            num_nodes,
            broadcaster: observed.explore_broadcaster,
            message_size: observed.workload.message_size_bytes,
            latest_unix_nanos: observed.ended_unix_nanos.map_or(u64::MAX, |ended| ended.saturating_add(MARGIN)),
            planned,
        }
    }

    /// Number of traffic classes.
    fn classes(&self) -> usize {
        self.planned.as_ref().map_or(1, |(planned, ..)| planned.plan.classes.len())
    }

    /// Bounds of a node's measured window, for one class.
    fn bounds(&self, node: &NodeSummary, class: u16) -> Bounds {
        let unbounded = Bounds {
            num_nodes: self.num_nodes,
            message_size: self.message_size.unwrap_or(MAX_MESSAGE_SIZE),
            own: u64::MAX,
            others: u64::MAX,
            third_micros: u64::MAX,
            longest_micros: u64::MAX,
        };
        let Some((planned, window, whole)) = &self.planned else { return unbounded };
        let message_size = planned.plan.class(class).map_or(MAX_MESSAGE_SIZE, |class| class.message_size.largest());
        let unbounded = Bounds { message_size, own: window.of(class, node.node), ..unbounded };
        // A node that never received its start reports the whole run as its window.
        if node.start.is_none() {
            return Bounds { others: whole.to(class, node.node), ..unbounded };
        }
        let (from, to) = (planned.from_unix_nanos, planned.to_unix_nanos);
        let others = window.to(class, node.node);
        Bounds { others, ..unbounded }.in_window(from, to, node.counted_unix_nanos)
    }

    /// Returns in one line the reason why the report of a node, or of one life of it, can't be true.
    ///
    /// # Errors
    /// Fails if the report can't be true.
    pub(super) fn check(&self, node: &NodeSummary) -> Result<(), String> {
        let id = node.node;
        let line = |words: String| {
            let words = if words.starts_with("a histogram") { words } else { format!("node {id} reports {words}") };
            format!("{words}: its counts are left out")
        };
        self.check_all(node).map_err(line)
    }

    fn check_all(&self, node: &NodeSummary) -> Result<(), String> {
        if node.node >= self.num_nodes {
            return Err(format!("from a network of {} nodes", self.num_nodes));
        }
        self.time(node.counted_unix_nanos)?;
        at_most(node.usage.peak_memory_bytes, "bytes of memory", MOST_MEMORY, "that a machine can have")?;
        let window_seconds = self.planned.as_ref().map(|(planned, ..)| seconds(planned));
        usage(&node.window_usage.unwrap_or_default(), window_seconds.unwrap_or(LONGEST))?;
        if self.broadcaster.is_some() {
            arrivals(&node.measured, &node.outside)?;
            return self.trials(node);
        }
        let classes = self.classes();
        if classes > 1 {
            self.classes_add_up(node)?;
        }
        for class in (0..).take(classes) {
            let (measured, outside) = match node.classes.get(usize::from(class)).filter(|_| classes > 1) {
                Some(known) => (&known.measured, &known.outside),
                None => (&node.measured, &node.outside),
            };
            arrivals(measured, outside)?;
            let both = |field: fn(&WindowSummary) -> u64| field(measured).saturating_add(field(outside));
            let bounds = self.bounds(node, class);
            bounds.window(node.node, measured)?;
            bounds.thirds(measured, both(|w| w.intended), both(|w| w.received))?;
            // The result contains only the histograms of these messages, and a message of the previous network may be
            // among them.
            bounds.histograms(node.node, outside, u64::MAX)?;
            self.phases(node, class)?;
        }
        Ok(())
    }

    /// Checks that a node knows all classes, and that its total counts are the sums of the classes.
    fn classes_add_up(&self, node: &NodeSummary) -> Result<(), String> {
        let (found, run) = (node.classes.len(), self.classes());
        if found != run {
            return Err(format!("{found} traffic classes, of {run}"));
        }
        let counts = |window: &WindowSummary| [window.intended, window.sent, window.dropped, window.received];
        let of_classes = node.classes.iter().map(|class| counts(&class.measured));
        let sums =
            of_classes.fold([0_u64; 4], |sums, counts| std::array::from_fn(|at| sums[at].saturating_add(counts[at])));
        if sums == counts(&node.measured) {
            Ok(())
        } else {
            Err("traffic classes that do not add up to its window".into())
        }
    }

    fn time(&self, counted_unix_nanos: u64) -> Result<(), String> {
        at_most(counted_unix_nanos, "nanoseconds as its time", self.latest_unix_nanos, "when the run had ended")
    }

    fn phases(&self, node: &NodeSummary, class: u16) -> Result<(), String> {
        let phases = phases_of(node, class, self.classes());
        let Some(measured) = window_of(node, class, self.classes()).filter(|_| !phases.is_empty()) else {
            return Ok(());
        };
        let count = |field: fn(&PhaseSummary) -> u64| sum(phases.iter().map(field));
        let adds_up = [count(|phase| phase.intended), count(|phase| phase.sent), count(|phase| phase.received)]
            == [measured.intended, measured.sent, measured.received]
            && count(|phase| phase.dropped) == measured.dropped
            && phases.iter().all(|phase| {
                let from = |field: fn(&PhaseSender) -> u64| sum(phase.by_sender.iter().map(field));
                (from(|sender| sender.received), from(|sender| sender.received_after_end))
                    == (phase.received, phase.received_after_end)
            });
        if !adds_up {
            return Err("phases that do not add up to its window".into());
        }
        let mut by_sender: BTreeMap<u64, u64> = BTreeMap::new();
        for phase in phases {
            at_most(phase.sent.saturating_add(phase.dropped), "messages of a phase", phase.intended, "intended")?;
            at_most(phase.received_after_end, "deliveries after a phase's end", phase.received, "received")?;
            // A phase that is the whole window does not repeat its delays; a phase without arrivals has none.
            if phases.len() > 1 && (phase.received > 0 || !phase.delay_micros.is_empty()) {
                same_length(node.node, &phase.delay_micros, "delays of a phase", phase.received, "received")?;
            }
            let mut seen = BTreeSet::new();
            for from in &phase.by_sender {
                if from.sender >= self.num_nodes || from.sender == node.node || !seen.insert(from.sender) {
                    return Err(format!("messages of node {} that can't be", from.sender));
                }
                at_most(from.received_after_end, "deliveries after a phase's end", from.received, "of their sender")?;
                let all = by_sender.entry(from.sender).or_default();
                *all = all.saturating_add(from.received);
            }
        }
        let Some((_, window, whole)) = &self.planned else { return Ok(()) };
        let scheduled = if node.start.is_some() { window } else { whole };
        by_sender.iter().try_for_each(|(sender, received)| {
            at_most(
                *received,
                &format!("messages of node {sender}"),
                scheduled.share(class, *sender, node.node),
                "that it was to send",
            )
        })
    }

    fn trials(&self, node: &NodeSummary) -> Result<(), String> {
        let grid = trials(0, 0.0);
        let mut numbers = BTreeSet::new();
        for trial in &node.trials {
            let number = trial.trial;
            if number as usize >= grid.len() || !grid.contains(&trial.plan) || !numbers.insert(number) {
                return Err(format!("a trial {number} that can't be"));
            }
            self.trial(node.node, trial).map_err(|words| match words.starts_with("a histogram") {
                true => words,
                false => format!("in trial {number} {words}"),
            })?;
        }
        Ok(())
    }

    fn trial(&self, node: u64, trial: &TrialSummary) -> Result<(), String> {
        let times = trial.times;
        let order = [times.warm_up_unix_nanos, times.from_unix_nanos, times.to_unix_nanos, times.drained_unix_nanos];
        if !order.is_sorted() || times.drained_unix_nanos > self.latest_unix_nanos {
            return Err("times that can't be".into());
        }
        self.time(trial.counted_unix_nanos)?;
        let broadcaster = self.broadcaster.unwrap_or(0);
        let plan = trial.plan.traffic_plan(self.num_nodes, broadcaster, &times);
        let count = |from: u64| plan.count(0, broadcaster, from, times.to_unix_nanos).unwrap_or(0);
        let sends = |own: bool, from: u64| if own { count(from) } else { 0 };
        let is_sender = node == broadcaster;
        usage(&trial.usage, (times.to_unix_nanos - times.from_unix_nanos) as f64 / 1e9)?;
        let bounds = Bounds {
            num_nodes: self.num_nodes,
            message_size: trial.plan.message_size,
            own: sends(is_sender, times.from_unix_nanos),
            others: sends(!is_sender, times.from_unix_nanos),
            third_micros: u64::MAX,
            longest_micros: u64::MAX,
        };
        let bounds = bounds.in_window(times.from_unix_nanos, times.to_unix_nanos, trial.counted_unix_nanos);
        let measured = &trial.measured;
        bounds.window(node, measured)?;
        // The messages of the warm-up have no counts of their own and are among the arrivals.
        let (own, others) = (sends(is_sender, 0), sends(!is_sender, 0));
        at_most(measured.arrivals.count, "arrivals in the window", others, "that were to be sent")?;
        let bytes = measured.arrivals.count.saturating_mul(MAX_MESSAGE_SIZE as u64);
        at_most(measured.arrivals.bytes, "bytes of arrivals", bytes, "that so many messages can have")?;
        bounds.thirds(measured, own, others)
    }
}

impl Bounds {
    /// The same bounds for the window between two times, counted at `counted`, all in nanoseconds since the Unix epoch.
    fn in_window(self, from: u64, to: u64, counted: u64) -> Self {
        let longest = counted.saturating_add(MARGIN).saturating_sub(from) / 1000;
        Self {
            // Fractions of a microsecond are cut off, and the parts are as equal as possible.
            third_micros: to.saturating_sub(from) / THIRDS as u64 / 1000 + 1,
            // The largest value of a histogram is known to 3 digits.
            longest_micros: longest.saturating_add(longest / 500),
            ..self
        }
    }

    fn window(&self, node: u64, window: &WindowSummary) -> Result<(), String> {
        let WindowSummary { intended, sent, received, .. } = *window;
        let own_bytes = sent.saturating_mul(self.message_size as u64);
        // A message of another program may be larger than the messages of this run.
        let any_bytes = received.saturating_mul(MAX_MESSAGE_SIZE as u64);
        // A query of a peer that was opened again may count together with the earlier one.
        let copies = sent.saturating_mul(self.num_nodes).saturating_mul(2);
        for (count, what, most, of) in [
            (sent.saturating_add(window.dropped), "messages sent and dropped", intended, "intended"),
            (intended, "intended messages", self.own, "of its schedule"),
            (received, "messages received", self.others, "that the others were to send"),
            (window.late, "late messages", sent, "sent"),
            (window.sent_bytes, "bytes sent", own_bytes, "that so many messages have"),
            (window.dropped_copies, "dropped copies", copies, "of all messages sent"),
            (window.received_bytes, "bytes received", any_bytes, "that so many messages can have"),
            (window.received_after_end, "deliveries after the window's end", received, "received"),
            (window.reordered, "reordered messages", received, "received"),
            (window.negative_delays, "negative delays", received, "received"),
            (window.after_deadline, "deliveries after their deadline", received, "received"),
        ] {
            at_most(count, what, most, of)?;
        }
        for (parts, what, count) in
            [(&window.received_by_part, "received", received), (&window.sent_by_part, "sent", sent)]
        {
            let by_part = sum(parts.iter().copied());
            if !parts.is_empty() && by_part != count {
                return Err(format!("{count} messages {what}, and {by_part} by the parts of the window"));
            }
        }
        self.histograms(node, window, self.longest_micros)
    }

    /// Checks that each message has its times, and that no time is above `longest_micros`.
    fn histograms(&self, node: u64, window: &WindowSummary, longest_micros: u64) -> Result<(), String> {
        let delays = same_length(node, &window.delay_micros, "delays", window.received, "received")?;
        let lags = same_length(node, &window.send_lag_micros, "send lags", window.sent, "sent")?;
        // A message of another program does not state its send time.
        let network_delays = decoded(&window.network_delay_micros, node)?;
        at_most(network_delays.len(), "network delays", window.received, "messages received")?;
        for (times, what) in [(&delays, "a delay"), (&lags, "a send lag"), (&network_delays, "a network delay")] {
            if times.max() > longest_micros {
                return Err(format!("{what} of {} us, more than passed since the window opened", times.max()));
            }
        }
        Ok(())
    }

    /// Checks the time under way in each third of the window, for these totals of intended and received messages.
    fn thirds(&self, window: &WindowSummary, intended: u64, received: u64) -> Result<(), String> {
        let most = |messages: u64| messages.saturating_mul(self.third_micros);
        for (times, what, most) in [
            (window.offered_micros, "microseconds offered in a third of the window", most(intended)),
            (window.arrived_micros, "microseconds arrived in a third of the window", most(received)),
        ] {
            times.iter().try_for_each(|time| at_most(*time, what, most, "that so many messages can take"))?;
        }
        Ok(())
    }
}

/// Checks the arrivals while the window was open against all arrivals that the node counted.
fn arrivals(measured: &WindowSummary, outside: &WindowSummary) -> Result<(), String> {
    let both = |field: fn(&WindowSummary) -> u64| field(measured).saturating_add(field(outside));
    let arrivals = measured.arrivals;
    at_most(arrivals.count, "arrivals in the window", both(|w| w.received), "received in all")?;
    at_most(arrivals.bytes, "bytes of arrivals", both(|w| w.received_bytes), "received in all")
}

/// Returns the histogram if it has one value for each of `count` messages.
fn same_length(node: u64, text: &HistogramText, what: &str, count: u64, of: &str) -> Result<Histogram<u64>, String> {
    let histogram = decoded(text, node)?;
    match histogram.len() == count {
        true => Ok(histogram),
        false => Err(format!("{} {what} of {count} messages {of}", histogram.len())),
    }
}

fn seconds(planned: &PlannedWindow) -> f64 {
    planned.to_unix_nanos.saturating_sub(planned.from_unix_nanos) as f64 / 1e9
}

/// Checks the resources that a node used in a window of `seconds`.
fn usage(usage: &WindowUsage, seconds: f64) -> Result<(), String> {
    let seconds = seconds + MARGIN as f64 / 1e9;
    if !(0.0..=seconds * MOST_PROCESSORS).contains(&usage.cpu_seconds) {
        return Err(format!("{} s of processor time, which no machine has", usage.cpu_seconds));
    }
    for bytes in [usage.socket_bytes_sent, usage.socket_bytes_received].into_iter().flatten() {
        if bytes as f64 > seconds * MOST_BANDWIDTH {
            return Err(format!("{bytes} bytes of its sockets, which no network carries in that time"));
        }
    }
    Ok(())
}
