//! What every way of running a network takes: how many nodes, what they send, how, and for how long.

use clap::Args;
use serde::Serialize;

use crate::{
    experiment::DEFAULT_WINDOW,
    network::Protocol,
    node::{Load, Mode, NetworkArgs, UsageError, Workload, WorkloadArgs, WorkloadDefaults},
};

/// What is sent when it is not told.
pub(super) const DEFAULTS: WorkloadDefaults =
    WorkloadDefaults { message_size_bytes: 1024, heartbeat_millis: 100, round_duration_seconds: 3, broadcaster: 0 };

/// A network and its traffic.
#[derive(Clone, Debug, Args, Serialize)]
pub(super) struct RunArgs {
    /// Number of nodes
    #[arg(long, env = "APOLLO_NUM_NODES", value_name = "N", default_value_t = 3)]
    pub(super) num_nodes: u64,
    /// Who broadcasts when
    #[arg(long, env = "APOLLO_MODE", value_enum, default_value = "all")]
    pub(super) mode: Mode,
    /// How a broadcast travels
    #[arg(long, env = "APOLLO_NETWORK_PROTOCOL", value_name = "PROTOCOL", value_enum, default_value = "gossipsub")]
    pub(super) network_protocol: Protocol,
    /// Length of the measured window, in seconds [default: 20; in mode explore until all trials are done]
    #[arg(long, alias = "timeout-seconds", env = "APOLLO_TIMEOUT", value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub(super) timeout: Option<u64>,
    /// Traffic before the measured window that is not counted, in seconds; mode explore has none
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(super) warm_up_seconds: u64,
    /// Maximum time to wait for late messages after the window, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(super) drain_seconds: u64,
    /// Most messages in each queue between the schedule, the network and a peer
    #[arg(
        long,
        env = "APOLLO_BUFFER_SIZE",
        value_name = "MESSAGES",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    pub(super) buffer_size: u64,
    /// Log level of the nodes: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace
    #[arg(
        long,
        env = "APOLLO_VERBOSITY",
        value_name = "LEVEL",
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(0..=5)
    )]
    pub(super) verbosity: u8,
    /// Threads that carry the network in each node [default: its share of the processors, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) worker_threads: Option<u16>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) workload: WorkloadArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) network: NetworkArgs,
}

impl RunArgs {
    /// Checks the workload, and puts the defaults in effect into these arguments, which go to the nodes and into what is
    /// kept of the run.
    ///
    /// # Errors
    /// One line that names the argument and the way out.
    pub(super) fn resolve(&mut self) -> Result<Workload, UsageError> {
        let workload = Workload::resolve(self.mode, self.num_nodes, &self.workload, Some(&DEFAULTS))?;
        workload.fill_in(&mut self.workload);
        if matches!(workload.load, Load::Steady { .. }) {
            self.timeout = self.timeout.or(Some(DEFAULT_WINDOW));
        }
        Ok(workload)
    }

    /// From the start to the end of the drain, at most, in seconds; of a workload that these arguments resolved to.
    pub(super) fn longest_seconds(&self, workload: &Workload) -> u64 {
        match &workload.load {
            Load::Explore { cool_down, run, trials, .. } => {
                (cool_down.as_secs() + run.as_secs()).saturating_mul(trials.len() as u64) + cool_down.as_secs()
            }
            Load::Steady { .. } => {
                let window = self.timeout.unwrap_or(DEFAULT_WINDOW);
                self.warm_up_seconds + window + self.drain_seconds
            }
        }
    }
}
