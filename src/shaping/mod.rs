//! Traffic shaping: the shape of a link as commands of `tc`, and the output of `tc`.
//!
//! A [`Shape`] is one direction: latency, jitter, loss, duplication, reordering and throughput. An [`InterfacePlan`] is
//! the whole configuration of one interface: a shape for outgoing traffic, exceptions for single peers, a shape for
//! incoming traffic, and blocked addresses. [`batch`] is the only place that turns it into the lines of a `tc` batch.
//! Incoming traffic is redirected through an IFB device, because the kernel queues only outgoing traffic.
//!
//! In a network of equally shaped nodes, a message from A to B passes A's output and B's input. The latency, jitter,
//! loss, duplication and reordering of a link are applied once, at A's output; the throughput belongs to an interface,
//! and is applied at both. So `--latency 50` means 50 ms from node to node, one way.

mod batch;
mod congestion;
mod counters;
mod handles;
mod interface;
mod plan;
mod shape;
mod tool;

pub use batch::{Batch, Devices, WIRE_BYTES, batch, burst_bytes, queue_bytes};
pub use counters::{QdiscCounters, qdisc_counters};
pub(crate) use interface::remove_leftovers;
pub use interface::{Interface, RemovedParts};
pub use plan::{InterfacePlan, PeerRule};
pub use shape::ShapeFlags;

pub use crate::scenario::{LinkPlan, Nodes, Shape, ShapeError, ShapePatch, links_between};
pub use tool::{ShapingError, ip_batch};
