//! Deployments: the places in which the nodes of a run live.
//!
//! A `Deployment` is a network of running nodes, with all actions on them except those over HTTP. Each kind has a
//! folder: `process`, `netns`, `docker` and `remote`; `simulation` has nodes in virtual time; `kubernetes` has the objects of a run there, whose
//! nodes are remote ones. The `Capabilities` of a kind are compared with the needs of a run before anything starts.

mod capabilities;
mod deployment;
pub mod docker;
pub mod kubernetes;
mod launch;
pub(crate) mod netns;
mod ports;
pub(crate) mod process;
pub(crate) mod remote;
pub(crate) mod simulation;

pub(crate) use capabilities::{Capabilities, Need, check};
pub(crate) use deployment::{Deployment, StartError};
pub(crate) use launch::Launch;
pub(crate) use ports::{check_ports, swept};
