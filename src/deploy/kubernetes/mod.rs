//! Objects of a run on Kubernetes.
//!
//! A `ClusterPlan` is a run, checked as a whole; `objects()` turns it into typed objects, in the order in which
//! they are applied. The nodes are an Indexed Job, one pod a node; they find one another by the names that a headless
//! Service gives them, and wait for their start. Prometheus and Grafana are beside them, with the same configuration as
//! on a local machine. Each run has a namespace of its own, with its record in a ConfigMap (`RunRecord`). For the
//! program that starts the run, the nodes are remote ones, behind `NodePorts`.

mod arguments;
mod image;
pub mod names;
mod objects;
mod plan;
mod ports;
mod push;
mod quantity;
mod record;
mod rights;
mod toleration;

pub use image::PinnedImage;
pub use record::{RUN_SCHEMA_VERSION, RunRecord};

pub(crate) use arguments::{ImagesArgs, NODE_POOL_ROLE, PodsArgs};
pub(crate) use objects::objects;
pub(crate) use plan::{ClusterPlan, ImageSource};
pub(crate) use ports::{Lookout, NodePorts, death, on_stderr};
pub(crate) use push::push;
pub(crate) use quantity::Quantity;
pub(crate) use rights::rights;
