//! The same run on Kubernetes: what it is made of there.
//!
//! A [`ClusterPlan`] is a run, checked as a whole; [`objects`] turns it into typed objects, in the order in which they are
//! applied. The nodes are an Indexed Job, one pod a node; they find one another by the names that a headless Service gives
//! them, and wait for their start. Beside them are Prometheus and Grafana, told what the local ones are told. All of a run
//! is in a namespace of its own, with what has to be known of it in a ConfigMap ([`RunRecord`]), so that nothing depends on
//! the machine that started it. Nothing here speaks to a cluster.

mod arguments;
mod image;
mod manifests;
pub mod names;
mod objects;
mod plan;
mod quantity;
mod record;
mod toleration;

pub use arguments::{
    ClusterArgs, ClusterCommand, ConnectArgs, DeploymentArgs, Format, ImagesArgs, ManifestsArgs, PodsArgs,
};
pub use image::PinnedImage;
pub use manifests::notes;
pub use objects::objects;
pub use plan::{ClusterPlan, ImageSource};
pub use quantity::Quantity;
pub use record::{RUN_SCHEMA_VERSION, RunRecord};
pub use toleration::Toleration;

use std::process::ExitCode;

/// Runs the command: 0 when it is done, 1 when it failed, 2 for bad usage.
pub fn command(args: &ClusterArgs) -> ExitCode {
    match &args.command {
        ClusterCommand::Manifests(args) => manifests::command(args),
    }
}
