//! The same run on Kubernetes: what it is made of there.
//!
//! A [`ClusterPlan`] is a run, checked as a whole; [`objects()`] turns it into typed objects, in the order in which they are
//! applied. The nodes are an Indexed Job, one pod a node; they find one another by the names that a headless Service gives
//! them, and wait for their start. Beside them are Prometheus and Grafana, told what the local ones are told. All of a run
//! is in a namespace of its own, with what has to be known of it in a ConfigMap ([`RunRecord`]), so that nothing depends on
//! the machine that started it. Nothing here speaks to a cluster.

mod arguments;
mod collect;
mod commands;
mod image;
mod kept;
mod logs;
mod manifests;
pub mod names;
mod objects;
mod plan;
mod port_forward;
mod ports;
mod push;
mod quantity;
mod record;
mod remote;
mod session;
mod start;
mod status;
mod stop;
mod toleration;

pub use arguments::{
    ClusterArgs, ClusterCommand, ConnectArgs, DeploymentArgs, Format, ImagesArgs, ManifestsArgs, PodsArgs,
};
pub use commands::{CollectArgs, LogsArgs, Part, PortForwardArgs, StartArgs, StatusArgs, StopArgs};
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
        ClusterCommand::Start(args) => session::run(start::start(args)),
        ClusterCommand::Status(args) => session::run(status::status(args)),
        ClusterCommand::Logs(args) => session::run(logs::logs(args)),
        ClusterCommand::PortForward(args) => session::run(port_forward::port_forward(args)),
        ClusterCommand::Collect(args) => session::run(collect::collect(args)),
        ClusterCommand::Stop(args) => session::run(stop::stop(args)),
        ClusterCommand::List(args) => session::run(status::list(args)),
    }
}
