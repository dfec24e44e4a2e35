//! A run over existing nodes of any deployment: found by their endpoints, started together, collected.
//!
//! A caller with endpoints, from flags or as the ports that lead to the pods of a cluster, makes a [`RemoteSpec`] and
//! continues with [`RemoteSpec::attach`], [`RemoteNetwork::begin`], [`RemoteNetwork::collect`] and
//! [`RemoteNetwork::end`]. One program may begin a run and another collect it, even a long time after its end: the
//! nodes keep their counts until they end.

mod clocks;
mod discovery;
mod network;
mod spec;

pub(crate) use network::{RemoteError, RemoteNetwork};
pub(crate) use spec::{RemoteRun, RemoteSpec};
