//! A run over nodes of any deployment: connect, measure the links, start, warm up, measure, drain, collect.
//!
//! A [`Plan`] describes the run, and a [`Deployment`](crate::deploy::Deployment) has the nodes; [`run`] goes through
//! all stages, [`begin`] and [`collect`] through the two halves of them, which two programs may do. Readiness, start,
//! counts and the end of the nodes use HTTP; the deployment handles only their processes and interfaces.

mod certificate;
mod client;
mod closing;
mod drain;
mod faults;
mod figures;
mod halves;
mod link_probe;
mod live_view;
mod manifest;
mod opening;
mod phases;
mod plan;
mod profile;
mod progress;
mod run;
mod simulate;
mod stages;
mod state;
#[cfg(test)]
mod tests;
mod trials;
mod watch;
mod window;

pub(crate) use client::{NodeClient, get_summary};
pub(crate) use halves::{BeginError, Interrupted, StartedRun, begin, collect, unless_interrupted};
pub(crate) use link_probe::longest_seconds as longest_link_probe_seconds;
pub(crate) use live_view::start_live;
pub(crate) use manifest::Manifest;
pub(crate) use phases::{fault_needs, scenario_needs};
pub(crate) use plan::{ManifestFacts, Plan, RemoteFacts, workload_summary};
pub(crate) use profile::{Profiler, find_profiler, node_file as profile_of_node};
pub(crate) use progress::Progress;
pub(crate) use run::{monitor, run};
pub(crate) use simulate::simulate;
