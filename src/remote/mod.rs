//! A run over existing nodes, wherever they are: found by their endpoints, given one start, collected.
//!
//! Whoever has endpoints, from flags or as the ports that lead to the pods of a cluster, makes a [`RemoteSpec`] and goes on from
//! there: [`RemoteSpec::attach`], [`RemoteNetwork::begin`], [`RemoteNetwork::collect`], [`RemoteNetwork::end`]. One program may
//! begin a run and another collect it, also when it is long over: the nodes keep their counts until they end.

mod clocks;
mod discovery;
mod network;
mod spec;

pub(crate) use network::{RemoteError, RemoteNetwork};
pub(crate) use spec::{RemoteRun, RemoteSpec};
