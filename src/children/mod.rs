//! Programs that this program starts, and that must not outlive it.

mod log;
mod runner;
mod tether;

pub(crate) use log::log_tail;
pub(crate) use runner::{Runner, kill_orphans};
pub(crate) use tether::{kill_group, tether};
