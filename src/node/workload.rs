//! What is to be sent, by whom and when: the arguments made into one consistent plan.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{
    arguments::{UsageError, WorkloadArgs},
    explore::{TrialPlan, TrialTimes, trials},
    schedule::{SendPhase, SendPlan, nanos},
};
use crate::{
    message::{HEADER_SIZE, MAX_MESSAGE_SIZE},
    network::{Broadcasters, MAX_NODES},
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

/// Who has the turn in a steady workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// Every node, always.
    All,
    /// One node, always.
    One(u64),
    /// Node `(time / round) mod num_nodes`.
    RoundRobin {
        /// Length of a turn.
        round: Duration,
    },
}

/// The traffic of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// The same size and pace throughout.
    Steady {
        /// Who sends.
        turn: Turn,
        /// Whole message, in bytes.
        message_size: usize,
        /// Time from one message of a sender to its next.
        heartbeat: Duration,
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
    /// Nodes of the network.
    pub num_nodes: u64,
    /// What they send.
    pub load: Load,
    /// Seed of the nodes' offsets within the heartbeat; none when all send at the same instant.
    pub spread_seed: Option<u64>,
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
            Load::Steady { turn, message_size, heartbeat } => {
                args.message_size_bytes = Some(*message_size);
                args.heartbeat_millis = u64::try_from(heartbeat.as_millis()).ok();
                match turn {
                    Turn::All => {}
                    Turn::One(id) => args.broadcaster = Some(*id),
                    Turn::RoundRobin { round } => args.round_duration_seconds = Some(round.as_secs()),
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
        let spread_seed = (args.send_phase == SendPhase::Spread).then_some(args.send_phase_seed);
        Ok(Self { num_nodes, load, spread_seed })
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
        let turn = match mode {
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
                Turn::RoundRobin { round }
            }
            Mode::One => Turn::One(broadcaster(mode, num_nodes, args, defaults)?),
            _ => Turn::All,
        };
        Ok(Load::Steady { turn, message_size, heartbeat })
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

    /// The schedule of a steady load whose beats and turns are counted from `origin` and whose messages are numbered from
    /// `from`, both in nanoseconds since the Unix epoch; none in mode explore.
    pub fn send_plan(&self, origin: u64, from: u64, to: Option<u64>) -> Option<SendPlan> {
        let Load::Steady { turn, heartbeat, .. } = &self.load else { return None };
        Some(SendPlan {
            num_nodes: self.num_nodes,
            turn: *turn,
            heartbeat_nanos: nanos(*heartbeat),
            origin_unix_nanos: origin,
            from_unix_nanos: from,
            to_unix_nanos: to,
            spread_seed: self.spread_seed,
        })
    }

    /// The nodes that ever broadcast.
    pub fn broadcasters(&self) -> Broadcasters {
        match &self.load {
            Load::Steady { turn: Turn::One(id), .. } | Load::Explore { broadcaster: id, .. } => Broadcasters::One(*id),
            Load::Steady { .. } => Broadcasters::All,
        }
    }

    /// Size of the first messages, in bytes.
    pub fn first_message_size(&self) -> usize {
        match &self.load {
            Load::Steady { message_size, .. } => *message_size,
            Load::Explore { trials, .. } => trials.first().map_or(HEADER_SIZE, |trial| trial.message_size),
        }
    }
}

impl TrialPlan {
    /// The schedule of a trial, its warm-up included, in a network of `num_nodes`.
    pub fn send_plan(&self, num_nodes: u64, broadcaster: u64, times: &TrialTimes) -> SendPlan {
        SendPlan {
            num_nodes,
            turn: Turn::One(broadcaster),
            heartbeat_nanos: nanos(Duration::from_millis(self.heartbeat_millis)),
            // A beat falls on the opening of the window whatever the length of the warm-up.
            origin_unix_nanos: times
                .from_unix_nanos
                .saturating_sub(self.warm_up_beats(times).saturating_mul(self.heartbeat_nanos())),
            from_unix_nanos: times.warm_up_unix_nanos,
            to_unix_nanos: Some(times.to_unix_nanos),
            spread_seed: None,
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
