//! A run over nodes that run already, wherever that is: found by their endpoints, given one start, collected.
//!
//! [`remote`] is the command. Whoever brings endpoints of its own, as the ports that lead to the pods of a cluster, makes an
//! [`Attachment`] and goes on from there: [`Attachment::attach`], [`Attached::begin`], [`Attached::collect`],
//! [`Attached::end`]. One program may begin a run and another collect it, also when it is long over: the nodes keep their
//! counts until they end.

mod attachment;
mod clocks;
mod command;
mod endpoint;
mod find;
mod network;
mod nodes;

pub use attachment::{Attachment, RunArgs};
pub use command::{RemoteArgs, remote};
pub use endpoint::Endpoint;
pub use network::{Attached, Begun, MeasuredLink, RemoteError};

pub(super) use network::Elsewhere;
pub(super) use nodes::RemoteNodes;
