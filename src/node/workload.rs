//! Traffic of a run: the classes of a scenario made into one consistent plan.

use std::{collections::BTreeSet, time::Duration};

use clap::ValueEnum;

use super::{
    error::UsageError,
    explore::{TrialPlan, TrialTimes, trials},
    plan::{AnswerPlan, ClassPlan, Pace, Reach, TrafficPlan},
    schedule::{SendPlan, Turn, nanos},
};
use crate::{
    message::{Extension, HEADER_SIZE, MAX_MESSAGE_SIZE},
    network::{Broadcasters, BufferLimits, Channel, DEFAULT_TOPIC},
    scenario::{
        self, DEFAULT_CLASS, Explore, MAX_CLASSES, Measurement, MessageSize, Protocol, Scenario, Senders, TrafficClass,
    },
};

/// The traffic of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// The same traffic throughout.
    Steady {
        /// The traffic classes, by class number: at least one, and resolved.
        classes: Vec<TrafficClass>,
        /// Seed of the offsets and of the sizes.
        seed: u64,
    },
    /// Trials one after the other, each after a cool-down.
    Explore {
        /// Node that sends.
        broadcaster: u64,
        /// Time before each trial in which the network is rebuilt.
        cool_down: Duration,
        /// Length of the window of each trial.
        run: Duration,
        /// The trials, in their order.
        trials: Vec<TrialPlan>,
    },
}

/// A validated workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Number of nodes of the network.
    pub num_nodes: u64,
    /// Their traffic.
    pub load: Load,
    /// Sorted ids of the peers of each node, by id; none if every node is a peer of every other.
    pub neighbours: Option<Vec<Vec<u64>>>,
}

impl Workload {
    /// The workload of a resolved scenario.
    ///
    /// # Errors
    /// One line with the reason why it is none.
    pub fn of(scenario: &Scenario) -> Result<Self, UsageError> {
        let num_nodes = scenario.nodes.count;
        let neighbours = scenario.neighbours().map_err(|error| UsageError(error.to_string()))?;
        match &scenario.explore {
            Some(explore) => {
                let largest = match scenario.network.protocol {
                    Protocol::Propeller => scenario.largest_propeller_message(),
                    _ => usize::MAX,
                };
                let load = Self::explore(explore, largest)?;
                Ok(Self { num_nodes, load, neighbours: incomplete(num_nodes, &neighbours) })
            }
            None => Self::of_classes(num_nodes, scenario.traffic.clone(), scenario.seed, &neighbours),
        }
    }

    /// Trials of explore mode with messages of at most `largest` bytes.
    fn explore(explore: &Explore, largest: usize) -> Result<Load, UsageError> {
        let least = explore.min_throughput_bytes_per_second;
        let mut trials = trials(explore.min_message_size_bytes, least);
        trials.retain(|trial| trial.message_size <= largest);
        if trials.is_empty() {
            return Err(UsageError(format!(
                "no trial has messages of at least {} bytes and {least} bytes per second (at most 4194304 bytes every \
                 1 ms): lower --explore-min-message-size-bytes or --explore-min-throughput-byte-per-seconds",
                explore.min_message_size_bytes
            )));
        }
        Ok(Load::Explore {
            broadcaster: explore.broadcaster,
            cool_down: Duration::from_secs(explore.cool_down_seconds),
            run: Duration::from_secs(explore.run_seconds),
            trials,
        })
    }

    /// Maximum time from the start to the end of the drain, in seconds.
    pub fn longest_seconds(&self, scenario: &Scenario) -> u64 {
        match &self.load {
            Load::Explore { cool_down, run, trials, .. } => {
                (cool_down.as_secs() + run.as_secs()).saturating_mul(trials.len() as u64) + cool_down.as_secs()
            }
            Load::Steady { .. } => {
                let measurement = &scenario.measurement;
                let window = measurement.window_seconds.unwrap_or(Measurement::DEFAULT_WINDOW);
                measurement.warm_up_seconds + window + measurement.drain_seconds
            }
        }
    }

    /// Workload of the classes of a resolved scenario: with a protocol each, no groups among the senders, and a
    /// heartbeat unless a class answers another. `neighbours` has the peers of each node, by id.
    ///
    /// # Errors
    /// One line that names the class, where a class is not resolved or its bursts don't fit its heartbeat.
    pub fn of_classes(
        num_nodes: u64,
        classes: Vec<TrafficClass>,
        seed: u64,
        neighbours: &[BTreeSet<u64>],
    ) -> Result<Self, UsageError> {
        if classes.is_empty() || classes.len() > MAX_CLASSES {
            return Err(UsageError(format!("{} traffic classes: give 1 to {MAX_CLASSES}", classes.len())));
        }
        let neighbours = incomplete(num_nodes, neighbours);
        for class in &classes {
            check(class, &classes, num_nodes).map_err(|line| UsageError(format!("class '{}': {line}", class.name)))?;
        }
        Ok(Self { num_nodes, load: Load::Steady { classes, seed }, neighbours })
    }

    /// Traffic of a steady load that starts at `start` and ends at `to`, in nanoseconds since the Unix epoch. If the
    /// nodes have no `common_start`, turns follow the wall clock. None in mode explore.
    pub fn traffic_plan(&self, start: u64, to: Option<u64>, common_start: bool) -> Option<TrafficPlan> {
        let Load::Steady { classes, seed } = &self.load else { return None };
        let plan = |(number, class): (u16, &TrafficClass)| {
            let turn = self.turn(class);
            let spacing = class.burst_spacing_millis.saturating_mul(1_000_000);
            let burst = u64::from(class.burst.max(1));
            let answered = class.after.as_ref().and_then(|after| number_of(after, classes));
            let pace = match answered {
                Some(class) => Pace::After(AnswerPlan {
                    class,
                    senders: turn,
                    burst,
                    burst_spacing_nanos: spacing,
                    to_unix_nanos: to,
                }),
                None => Pace::Schedule(SendPlan {
                    class: number,
                    burst,
                    burst_spacing_nanos: spacing,
                    origin_unix_nanos: if common_start || !matches!(turn, Turn::RoundRobin { .. }) { start } else { 0 },
                    from_unix_nanos: start,
                    to_unix_nanos: to,
                    spread_seed: (class.phase == scenario::SendPhase::Spread).then_some(*seed),
                    ..SendPlan::new(self.num_nodes, turn, nanos(class.heartbeat()))
                }),
            };
            ClassPlan {
                name: class.name.clone(),
                protocol: class.protocol,
                reach: match class.protocol {
                    None | Some(Protocol::Gossipsub | Protocol::Propeller) => Reach::Everyone,
                    Some(_) if class.unicast => Reach::OneNeighbour,
                    Some(_) => Reach::Neighbours,
                },
                message_size: class.message_size_bytes.clone(),
                deadline_millis: class.deadline_millis,
                pace,
            }
        };
        let classes = (0..).zip(classes).map(plan).collect();
        Some(TrafficPlan { num_nodes: self.num_nodes, seed: *seed, neighbours: self.neighbours.clone(), classes })
    }

    /// Classes and receivers of the messages; the times belong to no run.
    pub fn reach(&self) -> TrafficPlan {
        let only = || TrafficPlan::only(SendPlan::new(self.num_nodes, Turn::All, 1), HEADER_SIZE);
        self.traffic_plan(0, None, true).unwrap_or_else(only)
    }

    fn turn(&self, class: &TrafficClass) -> Turn {
        match &class.senders {
            Senders::All => Turn::All,
            Senders::Turns => {
                let seconds = class.turn_seconds.unwrap_or(TrafficClass::DEFAULT_TURN);
                Turn::RoundRobin { round: Duration::from_secs(seconds) }
            }
            Senders::Nodes(nodes) => Turn::Nodes(nodes.within(self.num_nodes).unwrap_or_default()),
            Senders::Group(_) => Turn::Nodes(BTreeSet::new()),
        }
    }

    /// Traffic classes, by class number; none in mode explore.
    pub fn classes(&self) -> &[TrafficClass] {
        match &self.load {
            Load::Steady { classes, .. } => classes,
            Load::Explore { .. } => &[],
        }
    }

    /// Names of the traffic classes, by class number.
    pub fn class_names(&self) -> Vec<String> {
        match &self.load {
            Load::Steady { classes, .. } => classes.iter().map(|class| class.name.clone()).collect(),
            Load::Explore { .. } => vec![DEFAULT_CLASS.into()],
        }
    }

    /// Size, in bytes, and heartbeat, in milliseconds, of a load with one class of one size; otherwise none of each.
    pub fn single_pace(&self) -> (Option<usize>, Option<u64>) {
        match self.classes() {
            [TrafficClass { message_size_bytes: MessageSize::Fixed(bytes), heartbeat_millis, .. }] => {
                (Some(*bytes), *heartbeat_millis)
            }
            _ => (None, None),
        }
    }

    /// Maximum number of bytes in the buffers of one node of a resolved scenario.
    pub fn buffer_bytes(&self, scenario: &Scenario) -> u64 {
        let size = match &self.load {
            Load::Steady { .. } => self.first_message_size(),
            Load::Explore { trials, .. } => trials.iter().map(|trial| trial.message_size).max().unwrap_or(HEADER_SIZE),
        };
        let peers = self.neighbours.as_ref().map_or(self.num_nodes.saturating_sub(1), |neighbours| {
            neighbours.iter().map(|peers| peers.len() as u64).max().unwrap_or(0)
        });
        let limits = BufferLimits {
            channels: &self.channels(scenario.network.protocol, size),
            queue_bytes: usize::try_from(scenario.network.queue_bytes).unwrap_or(usize::MAX),
            queue_messages: usize::try_from(scenario.nodes.buffer_size).unwrap_or(usize::MAX),
        };
        limits.buffer_bytes(usize::try_from(peers).unwrap_or(usize::MAX))
    }

    /// Channel of each class in a network, by class number; classes that name no protocol use `protocol`. In mode
    /// explore the messages have `message_size` bytes.
    pub(super) fn channels(&self, protocol: Protocol, message_size: usize) -> Vec<Channel> {
        let Load::Steady { classes, .. } = &self.load else {
            return vec![Channel::of_default_class(protocol, self.broadcasters(0), message_size)];
        };
        let rates: Vec<f64> = classes.iter().map(|class| self.rate(class, classes, MAX_CLASSES)).collect();
        let slowest = rates.iter().copied().filter(|rate| *rate > 0.0).fold(f64::INFINITY, f64::min);
        let channel = |(number, class): (u16, &TrafficClass)| Channel {
            protocol: class.protocol.unwrap_or(protocol),
            topic: class.topic.clone().unwrap_or_else(|| match class.name.as_str() {
                DEFAULT_CLASS => DEFAULT_TOPIC.into(),
                name => format!("{DEFAULT_TOPIC}/{name}"),
            }),
            unicast: class.unicast,
            broadcasters: self.broadcasters(number),
            message_size: class.message_size_bytes.largest(),
            // A ratio of rates beyond this has no meaning for queues.
            weight: (rates.get(usize::from(number)).map_or(1.0, |rate| rate / slowest).clamp(1.0, 1e6)) as u32,
        };
        (0..).zip(classes).map(channel).collect()
    }

    /// Messages of a class per second that all nodes send together.
    fn rate(&self, class: &TrafficClass, classes: &[TrafficClass], depth: usize) -> f64 {
        let senders = match self.turn(class) {
            Turn::RoundRobin { .. } => 1,
            turn => turn.count(self.num_nodes),
        };
        let beats = match &class.after {
            None => 1.0 / class.heartbeat().as_secs_f64().max(1e-9),
            Some(_) if depth == 0 => 0.0,
            Some(after) => match classes.iter().find(|class| class.name == *after) {
                Some(answered) => self.rate(answered, classes, depth - 1) / f64::from(answered.burst.max(1)),
                None => 0.0,
            },
        };
        senders as f64 * beats * f64::from(class.burst.max(1))
    }

    /// Bytes of messages per second that all nodes send together; unknown in mode explore.
    pub fn offered_bytes_per_second(&self) -> Option<f64> {
        let Load::Steady { classes, .. } = &self.load else { return None };
        let of_class = |class: &TrafficClass| self.rate(class, classes, MAX_CLASSES) * class.message_size_bytes.mean();
        Some(classes.iter().map(of_class).sum())
    }

    /// Nodes that broadcast messages of a class at any time.
    fn broadcasters(&self, class: u16) -> Broadcasters {
        let senders = match &self.load {
            Load::Steady { classes, .. } => classes.get(usize::from(class)).map_or(Turn::All, |class| self.turn(class)),
            Load::Explore { broadcaster, .. } => Turn::one(*broadcaster),
        };
        match senders {
            Turn::Nodes(ids) => match ids.first() {
                Some(id) if ids.len() == 1 => Broadcasters::One(*id),
                _ => Broadcasters::Several(ids),
            },
            Turn::All | Turn::RoundRobin { .. } => Broadcasters::All,
        }
    }

    /// Maximum size of the first messages, in bytes.
    pub fn first_message_size(&self) -> usize {
        match &self.load {
            Load::Steady { classes, .. } => {
                classes.iter().map(|class| class.message_size_bytes.largest()).max().unwrap_or(HEADER_SIZE)
            }
            Load::Explore { trials, .. } => trials.first().map_or(HEADER_SIZE, |trial| trial.message_size),
        }
    }

    /// Minimum size of all messages, in bytes.
    pub fn smallest_message_size(&self) -> Option<usize> {
        match &self.load {
            Load::Steady { classes, .. } => classes.iter().flat_map(|class| sizes(&class.message_size_bytes)).min(),
            Load::Explore { trials, .. } => trials.iter().map(|trial| trial.message_size).min(),
        }
    }
}

fn number_of(name: &str, classes: &[TrafficClass]) -> Option<u16> {
    (0..).zip(classes).find_map(|(number, class)| (class.name == name).then_some(number))
}

fn sizes(size: &MessageSize) -> Vec<usize> {
    match size {
        MessageSize::Fixed(bytes) => vec![*bytes],
        MessageSize::Weighted(sizes) => sizes.iter().map(|size| size.bytes).collect(),
        MessageSize::File(_) => vec![],
    }
}

/// Reason why a class of a scenario can't be sent.
fn check(class: &TrafficClass, classes: &[TrafficClass], num_nodes: u64) -> Result<(), String> {
    let sizes = sizes(&class.message_size_bytes);
    if sizes.is_empty() || sizes.iter().any(|size| !(HEADER_SIZE..=MAX_MESSAGE_SIZE).contains(size)) {
        return Err(format!("message_size_bytes must be {HEADER_SIZE} (the header) to {MAX_MESSAGE_SIZE}"));
    }
    let least = HEADER_SIZE + Extension::SIZE;
    if classes.len() > 1 && sizes.iter().any(|size| *size < least) {
        return Err(format!(
            "message_size_bytes must be {least} or more beside other classes: the message names its class"
        ));
    }
    match &class.senders {
        Senders::Group(group) => return Err(format!("group '{group}' is not resolved to nodes")),
        Senders::Nodes(nodes) => nodes.within(num_nodes).map(drop)?,
        Senders::All | Senders::Turns => {}
    }
    if class.protocol.is_none() {
        return Err("protocol is missing".into());
    }
    if let Some(after) = &class.after {
        number_of(after, classes).ok_or_else(|| format!("after = \"{after}\" names no class"))?;
        if matches!(class.senders, Senders::Turns) {
            return Err("answers have no turns: give senders = \"all\" or a set of nodes".into());
        }
        return Ok(());
    }
    if class.heartbeat_millis.or(class.heartbeat_micros).is_none_or(|time| time == 0) {
        return Err("heartbeat_millis must be 1 or more".into());
    }
    let heartbeat = class.heartbeat();
    let burst = u64::from(class.burst.max(1)).saturating_sub(1).saturating_mul(class.burst_spacing_millis);
    if Duration::from_millis(burst) >= heartbeat {
        let every = heartbeat.as_secs_f64() * 1e3;
        return Err(format!(
            "the parts of a burst take {burst} ms, and heartbeat_millis is {every}: lower burst_spacing_millis or burst"
        ));
    }
    Ok(())
}

impl TrialPlan {
    /// Traffic of a trial, its warm-up included, in a network of `num_nodes`.
    pub fn traffic_plan(&self, num_nodes: u64, broadcaster: u64, times: &TrialTimes) -> TrafficPlan {
        TrafficPlan::only(self.send_plan(num_nodes, broadcaster, times), self.message_size)
    }

    fn send_plan(&self, num_nodes: u64, broadcaster: u64, times: &TrialTimes) -> SendPlan {
        SendPlan {
            // A heartbeat falls on the opening of the window for any length of the warm-up.
            origin_unix_nanos: times
                .from_unix_nanos
                .saturating_sub(self.warm_up_beats(times).saturating_mul(self.heartbeat_nanos())),
            from_unix_nanos: times.warm_up_unix_nanos,
            to_unix_nanos: Some(times.to_unix_nanos),
            ..SendPlan::new(num_nodes, Turn::one(broadcaster), nanos(Duration::from_millis(self.heartbeat_millis)))
        }
    }

    fn warm_up_beats(&self, times: &TrialTimes) -> u64 {
        times.from_unix_nanos.saturating_sub(times.warm_up_unix_nanos) / self.heartbeat_nanos()
    }

    /// Heartbeat of a trial that another program may have reported: neither 0 nor an overflow.
    fn heartbeat_nanos(&self) -> u64 {
        self.heartbeat_millis.max(1).saturating_mul(1_000_000)
    }
}

/// Peers of each node; none if every node is a peer of every other.
fn incomplete(num_nodes: u64, neighbours: &[BTreeSet<u64>]) -> Option<Vec<Vec<u64>>> {
    let full = neighbours.iter().all(|peers| peers.len() as u64 == num_nodes.saturating_sub(1));
    (!full).then(|| neighbours.iter().map(|peers| peers.iter().copied().collect()).collect())
}

/// A value as it is written on the command line.
pub fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
