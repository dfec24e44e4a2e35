//! Parameters of a simulation.

use super::{facts::Discipline, interrupt::Interrupt, processor::Processor};

/// Parameters of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Simulation {
    /// Seed of all random numbers.
    pub seed: u64,
    /// Begin of virtual time, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Threads that run the hosts, at least one. The result depends on their number.
    pub threads: usize,
    /// Order of service between the connections of a host.
    pub discipline: Discipline,
    /// Processor of each host.
    pub processor: Processor,
    /// Request to end it.
    pub interrupt: Interrupt,
}
