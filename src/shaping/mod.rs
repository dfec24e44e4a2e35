//! Traffic shaping: what a link should be like, as commands of `tc`, and what `tc` says of it.
//!
//! A [`Shape`] is one direction: latency, jitter, loss, duplication, reordering and throughput. An [`InterfacePlan`] is all
//! that is done at one interface: a shape for what leaves, exceptions for single peers, a shape for what comes in, and
//! addresses that are cut off. [`batch`] turns it into the lines of a `tc` batch, the only place that does. What comes in
//! is redirected through an IFB device, since the kernel queues only what leaves.
//!
//! In a network where every node is shaped alike, a message from A to B passes A's way out and B's way in. The latency,
//! jitter, loss, duplication and reordering of a link are applied once, at A's way out; the throughput is that of an
//! interface, and applied at both. So `--latency 50` means 50 ms from node to node, one way.

mod batch;
mod congestion;
mod counters;
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
