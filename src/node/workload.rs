//! The traffic of a run: the arguments, or the classes of a scenario, made into one consistent plan.

use std::{collections::BTreeSet, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{
    arguments::{UsageError, WorkloadArgs},
    explore::{TrialPlan, TrialTimes, trials},
    plan::{AnswerPlan, ClassPlan, Pace, Reach, TrafficPlan},
    schedule::{SendPhase, SendPlan, Turn, nanos},
};
use crate::{
    message::{Extension, HEADER_SIZE, MAX_MESSAGE_SIZE},
    network::{self, Broadcasters, Channel, DEFAULT_TOPIC, MAX_NODES},
    scenario::{self, DEFAULT_CLASS, MAX_CLASSES, MessageSize, Nodes, Protocol, Senders, TrafficClass},
};

/// Who broadcasts when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every node, all the time.
    All,
    /// One node, all the time.
    One,
    /// Every node in turn.
    Rr,
    /// One node, through trials of growing throughput.
    Explore,
}

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
        /// Who sends.
        broadcaster: u64,
        /// Time before each trial in which the network is rebuilt.
        cool_down: Duration,
        /// Time in which each trial sends.
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
    /// Sorted ids of the peers of each node, by id; none where every node is a peer of every other.
    pub neighbours: Option<Vec<Vec<u64>>>,
}

/// What a command takes for arguments that are not given.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadDefaults {
    /// Whole message, in bytes.
    pub message_size_bytes: usize,
    /// Milliseconds from one message to the next.
    pub heartbeat_millis: u64,
    /// Seconds of a turn.
    pub round_duration_seconds: u64,
    /// The broadcasting node.
    pub broadcaster: u64,
}

impl Workload {
    /// Puts what is in effect into the arguments, which go to the nodes and into what is kept of a run.
    pub fn fill_in(&self, args: &mut WorkloadArgs) {
        match &self.load {
            Load::Steady { classes, .. } => {
                let [only] = classes.as_slice() else { return };
                if let MessageSize::Fixed(bytes) = only.message_size_bytes {
                    args.message_size_bytes = Some(bytes);
                }
                args.heartbeat_millis = only.heartbeat_millis;
                match &only.senders {
                    Senders::Nodes(nodes) => {
                        let ids = nodes.within(self.num_nodes).unwrap_or_default();
                        args.broadcaster = ids.first().copied().filter(|_| ids.len() == 1);
                    }
                    Senders::Turns => args.round_duration_seconds = only.turn_seconds,
                    Senders::All | Senders::Group(_) => {}
                }
            }
            Load::Explore { broadcaster, .. } => args.broadcaster = Some(*broadcaster),
        }
    }

    /// Checks the arguments against each other and fills in `defaults`, where there are any.
    ///
    /// # Errors
    /// One line that names the argument and the way out.
    pub fn resolve(
        mode: Mode,
        num_nodes: u64,
        args: &WorkloadArgs,
        defaults: Option<&WorkloadDefaults>,
    ) -> Result<Self, UsageError> {
        if num_nodes == 0 || num_nodes > MAX_NODES {
            return Err(UsageError(format!("--num-nodes {num_nodes}: must be 1 to {MAX_NODES}")));
        }
        let load = match mode {
            Mode::Explore => Self::explore(num_nodes, args, defaults)?,
            Mode::All | Mode::One | Mode::Rr => Self::steady(mode, num_nodes, args, defaults)?,
        };
        Ok(Self { num_nodes, load, neighbours: None })
    }

    /// The workload of the classes of a resolved scenario: with a protocol each, no groups among the senders, and a heartbeat
    /// unless a class answers another. `neighbours` has the peers of each node, by id.
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
        let full = neighbours.iter().all(|peers| peers.len() as u64 == num_nodes.saturating_sub(1));
        let neighbours = (!full).then(|| neighbours.iter().map(|peers| peers.iter().copied().collect()).collect());
        for class in &classes {
            check(class, &classes, num_nodes).map_err(|line| UsageError(format!("class '{}': {line}", class.name)))?;
        }
        Ok(Self { num_nodes, load: Load::Steady { classes, seed }, neighbours })
    }

    fn steady(
        mode: Mode,
        num_nodes: u64,
        args: &WorkloadArgs,
        defaults: Option<&WorkloadDefaults>,
    ) -> Result<Load, UsageError> {
        let message_size = args
            .message_size_bytes
            .or(defaults.map(|defaults| defaults.message_size_bytes))
            .ok_or_else(|| needs(mode, "--message-size-bytes"))?;
        if !(HEADER_SIZE..=MAX_MESSAGE_SIZE).contains(&message_size) {
            return Err(UsageError(format!(
                "--message-size-bytes {message_size}: must be {HEADER_SIZE} (the header) to {MAX_MESSAGE_SIZE} (32 MiB)"
            )));
        }
        let heartbeat_millis = args
            .heartbeat_millis
            .or(defaults.map(|defaults| defaults.heartbeat_millis))
            .ok_or_else(|| needs(mode, "--heartbeat-millis"))?;
        let heartbeat = positive("--heartbeat-millis", heartbeat_millis, 1, "ms")?;
        let mut class = TrafficClass {
            message_size_bytes: MessageSize::Fixed(message_size),
            heartbeat_millis: Some(heartbeat_millis),
            phase: match args.send_phase {
                SendPhase::Aligned => scenario::SendPhase::Aligned,
                SendPhase::Spread => scenario::SendPhase::Spread,
            },
            ..TrafficClass::default()
        };
        match mode {
            Mode::Rr => {
                let seconds = args
                    .round_duration_seconds
                    .or(defaults.map(|defaults| defaults.round_duration_seconds))
                    .ok_or_else(|| needs(mode, "--round-duration-seconds"))?;
                let round = positive("--round-duration-seconds", seconds, 1000, "s")?;
                if round < heartbeat {
                    return Err(UsageError(format!(
                        "--round-duration-seconds {seconds} is shorter than --heartbeat-millis {heartbeat_millis}: \
                         some turns would be silent"
                    )));
                }
                (class.senders, class.turn_seconds) = (Senders::Turns, Some(seconds));
            }
            Mode::One => class.senders = Senders::Nodes(Nodes::from(broadcaster(mode, num_nodes, args, defaults)?)),
            Mode::All | Mode::Explore => {}
        }
        Ok(Load::Steady { classes: vec![class], seed: args.send_phase_seed })
    }

    fn explore(num_nodes: u64, args: &WorkloadArgs, defaults: Option<&WorkloadDefaults>) -> Result<Load, UsageError> {
        let broadcaster = broadcaster(Mode::Explore, num_nodes, args, defaults)?;
        let cool_down =
            positive("--explore-cool-down-duration-seconds", args.explore_cool_down_duration_seconds, 1000, "s")?;
        let run = positive("--explore-run-duration-seconds", args.explore_run_duration_seconds, 1000, "s")?;
        let least = args.explore_min_throughput_byte_per_seconds;
        if !(least.is_finite() && least >= 0.0) {
            return Err(UsageError(format!(
                "--explore-min-throughput-byte-per-seconds {least}: must be a number, 0 or more"
            )));
        }
        let trials = trials(args.explore_min_message_size_bytes, least);
        if trials.is_empty() {
            return Err(UsageError(format!(
                "no trial has messages of at least {} bytes and {least} bytes per second (at most 4194304 bytes every \
                 1 ms): lower --explore-min-message-size-bytes or --explore-min-throughput-byte-per-seconds",
                args.explore_min_message_size_bytes
            )));
        }
        Ok(Load::Explore { broadcaster, cool_down, run, trials })
    }

    /// The traffic of a steady load that starts at `start` and ends at `to`, in nanoseconds since the Unix epoch. Where nodes
    /// have no `common_start`, turns follow the wall clock. None in mode explore.
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
                    ..SendPlan::new(self.num_nodes, turn, nanos(heartbeat(class)))
                }),
            };
            ClassPlan {
                name: class.name.clone(),
                protocol: class.protocol,
                reach: match class.protocol {
                    None | Some(Protocol::Gossipsub) => Reach::Everyone,
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

    /// The classes and the receivers of their messages; the times are those of no run.
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

    /// The traffic classes, by class number; none in mode explore.
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

    /// Size, in bytes, and heartbeat, in milliseconds, of a load with one class of one size; none of each otherwise.
    pub fn single_pace(&self) -> (Option<usize>, Option<u64>) {
        match self.classes() {
            [TrafficClass { message_size_bytes: MessageSize::Fixed(bytes), heartbeat_millis, .. }] => {
                (Some(*bytes), *heartbeat_millis)
            }
            _ => (None, None),
        }
    }

    /// The way of each class through a network, by class number, of classes that name no protocol over `protocol`. In mode
    /// explore the messages have `message_size` bytes.
    pub(super) fn channels(&self, protocol: network::Protocol, message_size: usize) -> Vec<Channel> {
        let Load::Steady { classes, .. } = &self.load else {
            return vec![Channel::of_default_class(protocol, self.broadcasters(0), message_size)];
        };
        let rates: Vec<f64> = classes.iter().map(|class| self.rate(class, classes, MAX_CLASSES)).collect();
        let slowest = rates.iter().copied().filter(|rate| *rate > 0.0).fold(f64::INFINITY, f64::min);
        let channel = |(number, class): (u16, &TrafficClass)| Channel {
            protocol: class.protocol.map_or(protocol, |protocol| match protocol {
                Protocol::Gossipsub => network::Protocol::Gossipsub,
                Protocol::Sqmr => network::Protocol::Sqmr,
                Protocol::ReversedSqmr => network::Protocol::ReversedSqmr,
            }),
            topic: class.topic.clone().unwrap_or_else(|| match class.name.as_str() {
                DEFAULT_CLASS => DEFAULT_TOPIC.into(),
                name => format!("{DEFAULT_TOPIC}/{name}"),
            }),
            unicast: class.unicast,
            broadcasters: self.broadcasters(number),
            message_size: class.message_size_bytes.largest(),
            // A ratio of rates beyond this says nothing of queues.
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
            None => 1.0 / heartbeat(class).as_secs_f64().max(1e-9),
            Some(_) if depth == 0 => 0.0,
            Some(after) => match classes.iter().find(|class| class.name == *after) {
                Some(answered) => self.rate(answered, classes, depth - 1) / f64::from(answered.burst.max(1)),
                None => 0.0,
            },
        };
        senders as f64 * beats * f64::from(class.burst.max(1))
    }

    /// The nodes that ever broadcast messages of a class.
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

    /// Largest size of the first messages, in bytes.
    pub fn first_message_size(&self) -> usize {
        match &self.load {
            Load::Steady { classes, .. } => {
                classes.iter().map(|class| class.message_size_bytes.largest()).max().unwrap_or(HEADER_SIZE)
            }
            Load::Explore { trials, .. } => trials.first().map_or(HEADER_SIZE, |trial| trial.message_size),
        }
    }

    /// Smallest size of all messages, in bytes.
    pub fn smallest_message_size(&self) -> Option<usize> {
        match &self.load {
            Load::Steady { classes, .. } => classes.iter().flat_map(|class| sizes(&class.message_size_bytes)).min(),
            Load::Explore { trials, .. } => trials.iter().map(|trial| trial.message_size).min(),
        }
    }
}

fn heartbeat(class: &TrafficClass) -> Duration {
    Duration::from_millis(class.heartbeat_millis.unwrap_or(TrafficClass::DEFAULT_HEARTBEAT))
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

/// The reason why a class of a scenario can't be sent.
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
    let heartbeat = class.heartbeat_millis.filter(|millis| *millis > 0).ok_or("heartbeat_millis must be 1 or more")?;
    let burst = u64::from(class.burst.max(1)).saturating_sub(1).saturating_mul(class.burst_spacing_millis);
    if burst >= heartbeat {
        return Err(format!(
            "the parts of a burst take {burst} ms, and heartbeat_millis is {heartbeat}: lower burst_spacing_millis or burst"
        ));
    }
    Ok(())
}

impl TrialPlan {
    /// The traffic of a trial, its warm-up included, in a network of `num_nodes`.
    pub fn traffic_plan(&self, num_nodes: u64, broadcaster: u64, times: &TrialTimes) -> TrafficPlan {
        TrafficPlan::only(self.send_plan(num_nodes, broadcaster, times), self.message_size)
    }

    fn send_plan(&self, num_nodes: u64, broadcaster: u64, times: &TrialTimes) -> SendPlan {
        SendPlan {
            // A beat falls on the opening of the window whatever the length of the warm-up.
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

    /// The heartbeat of a trial that another program may have reported: neither 0 nor an overflow.
    fn heartbeat_nanos(&self) -> u64 {
        self.heartbeat_millis.max(1).saturating_mul(1_000_000)
    }
}

fn needs(mode: Mode, flag: &str) -> UsageError {
    UsageError(format!("--mode {} needs {flag}", value_name(&mode)))
}

/// A value as it is written on the command line.
pub fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn broadcaster(
    mode: Mode,
    num_nodes: u64,
    args: &WorkloadArgs,
    defaults: Option<&WorkloadDefaults>,
) -> Result<u64, UsageError> {
    let broadcaster = args
        .broadcaster
        .or(defaults.map(|defaults| defaults.broadcaster))
        .ok_or_else(|| needs(mode, "--broadcaster"))?;
    if broadcaster >= num_nodes {
        return Err(UsageError(format!(
            "--broadcaster {broadcaster} is outside of the network: its {num_nodes} nodes are 0 to {}",
            num_nodes - 1
        )));
    }
    Ok(broadcaster)
}

/// A duration that is not 0 and not above a year.
fn positive(flag: &str, value: u64, millis: u64, unit: &str) -> Result<Duration, UsageError> {
    const YEAR_MILLIS: u64 = 366 * 24 * 3600 * 1000;
    match value.checked_mul(millis) {
        Some(total @ 1..=YEAR_MILLIS) => Ok(Duration::from_millis(total)),
        _ => Err(UsageError(format!("{flag} {value}: must be 1 to {} {unit}", YEAR_MILLIS / millis))),
    }
}
