//! Flags of a shape.

use clap::Args;
use serde::Serialize;

use crate::scenario::{Shape, ShapeError, ShapePatch};

/// Flags that shape every link in the same way; shared by `local` and `shape`.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Links")]
pub struct ShapeFlags {
    /// One-way latency from node to node, in milliseconds
    #[arg(long, env = "APOLLO_LATENCY", value_name = "MS")]
    pub latency: Option<f64>,
    /// Maximum difference of a packet's latency from --latency, in milliseconds
    #[arg(long, env = "APOLLO_JITTER", value_name = "MS")]
    pub jitter: Option<f64>,
    /// Share of packets that are lost, in percent
    #[arg(long, env = "APOLLO_LOSS", value_name = "PERCENT")]
    pub loss: Option<f64>,
    /// Share of packets that arrive twice, in percent
    #[arg(long, env = "APOLLO_DUPLICATE", value_name = "PERCENT")]
    pub duplicate: Option<f64>,
    /// Share of packets that are sent without the latency and so overtake others, in percent
    #[arg(long, env = "APOLLO_REORDER", value_name = "PERCENT")]
    pub reorder: Option<f64>,
    /// Maximum throughput of each interface, out and in, in kilobytes (1000 bytes) per second
    #[arg(long, env = "APOLLO_THROUGHPUT", value_name = "KB/S")]
    pub throughput: Option<u64>,
}

impl ShapeFlags {
    /// Shape of a link from node to node.
    ///
    /// # Errors
    /// One line that names the flag.
    pub fn shape(&self) -> Result<Shape, ShapeError> {
        Shape::default().with(&self.patch()).map_err(|error| ShapeError(format!("--{error}")))
    }

    /// Given values.
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
