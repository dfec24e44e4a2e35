//! The flags of a shape.

use clap::Args;
use serde::Serialize;

use crate::scenario::{Shape, ShapeError, ShapePatch};

/// The flags that shape every link alike; shared by `local` and `shape`.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Links")]
pub struct ShapeFlags {
    /// One-way latency from node to node, in milliseconds
    #[arg(long, env = "APOLLO_LATENCY", value_name = "MS")]
    pub latency: Option<f64>,
    /// The latency of each packet differs by up to so much, in milliseconds
    #[arg(long, env = "APOLLO_JITTER", value_name = "MS")]
    pub jitter: Option<f64>,
    /// Packets that are lost, in percent
    #[arg(long, env = "APOLLO_LOSS", value_name = "PERCENT")]
    pub loss: Option<f64>,
    /// Packets that come twice, in percent
    #[arg(long, env = "APOLLO_DUPLICATE", value_name = "PERCENT")]
    pub duplicate: Option<f64>,
    /// Packets that go without the latency and so overtake others, in percent
    #[arg(long, env = "APOLLO_REORDER", value_name = "PERCENT")]
    pub reorder: Option<f64>,
    /// Most kilobytes (1000 bytes) per second at each interface, out and in
    #[arg(long, env = "APOLLO_THROUGHPUT", value_name = "KB/S")]
    pub throughput: Option<u64>,
}

impl ShapeFlags {
    /// The shape of a link from node to node.
    ///
    /// # Errors
    /// One line that names the flag.
    pub fn shape(&self) -> Result<Shape, ShapeError> {
        Shape::default().with(&self.patch()).map_err(|error| ShapeError(format!("--{error}")))
    }

    /// The values that are given.
    pub fn patch(&self) -> ShapePatch {
        ShapePatch {
            latency_millis: self.latency,
            jitter_millis: self.jitter,
            loss_percent: self.loss,
            duplicate_percent: self.duplicate,
            reorder_percent: self.reorder,
            throughput_kilobytes_per_second: self.throughput,
        }
    }
}
