//! Prometheus and Grafana beside a run.

mod config;
mod processes;

pub(crate) use config::ObserveArgs;

pub(crate) use config::{Addresses, Monitoring};
pub(crate) use processes::Observers;
