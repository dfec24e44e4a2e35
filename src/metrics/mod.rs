//! Metrics of a node: one declarative table, the Prometheus text made from it, and samples of the process and system.
//! The runner has a few metrics of its own.

mod kinds;
mod runner;
mod system;
mod table;

pub use kinds::{ByClass, Definition, Kind, Labelled};
pub use runner::{RUN_PHASES, RUNNER_DEFINITIONS, RunnerMetrics};
pub use system::{SystemSampler, Usage, usage};
pub use table::{DROP_REASONS, MALFORMED_REASONS, Metrics, NETWORK_EVENTS, REFUSED_UNITS, definitions, reference};

use std::collections::BTreeMap;

use prometheus::{Encoder, TextEncoder};
use thiserror::Error;

/// Content type that Prometheus 3 requires for the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Reason why the metrics could not be rendered or registered.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The table is not consistent, or a value could not be written.
    #[error("metrics: {0}")]
    Prometheus(#[from] prometheus::Error),
    /// libp2p's own metrics could not be written.
    #[error("metrics of libp2p: {0}")]
    Client(#[from] std::fmt::Error),
}

/// Counters of gossipsub's own metrics, added up over their labels, by name.
pub fn gossipsub_counters(libp2p: &prometheus_client::registry::Registry) -> BTreeMap<String, u64> {
    let mut text = String::new();
    let mut counters = BTreeMap::new();
    // Writing to a string can't fail, and half of a text has fewer counters.
    let _ = prometheus_client::encoding::text::encode(&mut text, libp2p);
    for line in text.lines().filter(|line| line.starts_with("gossipsub_")) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if let (Some(name), Ok(value)) = (name.strip_suffix("_total"), value.parse::<f64>()) {
            *counters.entry(name.to_owned()).or_default() += value as u64;
        }
    }
    counters
}

/// Text of all metrics in Prometheus' format, with `libp2p`'s own after the node's.
///
/// # Errors
/// Fails if a value can't be encoded.
pub fn render(
    registry: &prometheus::Registry,
    libp2p: Option<&prometheus_client::registry::Registry>,
) -> Result<String, MetricsError> {
    let mut bytes = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut bytes)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if let Some(libp2p) = libp2p {
        let mut own = String::new();
        prometheus_client::encoding::text::encode(&mut own, libp2p)?;
        // The classic text format has no end marker: Prometheus would take it for a comment, other programs for an
        // error.
        text.push_str(own.trim_end().trim_end_matches("# EOF"));
    }
    Ok(text)
}
