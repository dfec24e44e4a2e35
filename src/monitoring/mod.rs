//! Prometheus and Grafana beside a run, and over the data of a past one.

mod config;
mod past;
mod processes;
mod status;

pub(crate) use config::ObserveArgs;

pub(crate) use config::{Addresses, Monitoring};
pub(crate) use past::show_past;
pub(crate) use processes::Observers;
pub(crate) use status::RunStatus;
