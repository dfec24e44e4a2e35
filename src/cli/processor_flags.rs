//! Flags of the processor model of a simulation.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::error::CliError;
use crate::{
    paths::as_text_if_given,
    report::{RunFolder, RunSummary},
    simulation::processor::Processor,
};

/// Largest cost that a flag may name.
const MOST: f64 = 1e6;

/// The processor of each host.
#[derive(Clone, Debug, Args, Serialize)]
pub(super) struct ProcessorFlags {
    /// Processor time of a host, which has one core, for each message that arrives or is published; copies count
    /// [default: 0, infinitely fast]
    #[arg(long, value_name = "N", value_parser = cost)]
    #[serde(skip_serializing_if = "Option::is_none")]
    processor_micros_per_message: Option<f64>,
    /// Processor time of a host for each byte that its connections read or write [default: 0, infinitely fast]
    #[arg(long, value_name = "N", value_parser = cost)]
    #[serde(skip_serializing_if = "Option::is_none")]
    processor_nanos_per_byte: Option<f64>,
    /// Run folder of a real run with small messages, which gives both costs together with --processor-large-run
    #[arg(
        long,
        value_name = "DIR",
        requires = "processor_large_run",
        conflicts_with_all = ["processor_micros_per_message", "processor_nanos_per_byte"]
    )]
    #[serde(serialize_with = "as_text_if_given")]
    processor_small_run: Option<PathBuf>,
    /// Run folder of a real run with large messages
    #[arg(long, value_name = "DIR", requires = "processor_small_run")]
    #[serde(serialize_with = "as_text_if_given")]
    processor_large_run: Option<PathBuf>,
}

fn cost(text: &str) -> Result<f64, String> {
    let cost = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=MOST).contains(&cost) { Ok(cost) } else { Err(format!("give 0 to {MOST}")) }
}

impl ProcessorFlags {
    /// The processor of each host.
    ///
    /// # Errors
    /// Fails if real runs are to give it, and can't.
    pub(super) fn model(&self) -> Result<Processor, CliError> {
        let (Some(small), Some(large)) = (&self.processor_small_run, &self.processor_large_run) else {
            return Ok(Processor {
                micros_per_message: self.processor_micros_per_message.unwrap_or_default(),
                nanos_per_byte: self.processor_nanos_per_byte.unwrap_or_default(),
            });
        };
        let read = |root: &PathBuf| {
            let run = RunFolder::at(root).read_summary().map_err(|error| CliError::Usage(error.to_string()))?;
            Delivery::of(&run).ok_or_else(|| {
                let root = root.display();
                CliError::Usage(format!("{root}: not a run of gossipsub or SQMR alone over TCP, whose processor time and deliveries are known"))
            })
        };
        solve(read(small)?, read(large)?).ok_or_else(|| {
            CliError::Usage("the two runs do not give both costs: choose messages of 1 KiB and of 100 KiB".into())
        })
    }
}

impl ProcessorFlags {
    /// Flags that give another command the same processor; none for an infinitely fast one.
    ///
    /// # Errors
    /// Fails as [`ProcessorFlags::model`] does.
    pub(super) fn flags(&self) -> Result<Vec<OsString>, CliError> {
        let model = self.model()?;
        if model.is_infinitely_fast() {
            return Ok(vec![]);
        }
        let Processor { micros_per_message, nanos_per_byte } = model;
        Ok(vec![
            format!("--processor-micros-per-message={micros_per_message}").into(),
            format!("--processor-nanos-per-byte={nanos_per_byte}").into(),
        ])
    }
}

/// Mean cost of a delivery in a real run.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    /// Processor time, in microseconds.
    micros: f64,
    /// Copies of the message that arrived.
    copies: f64,
    /// Bytes that sockets sent and received.
    bytes: f64,
}

impl Delivery {
    fn of(run: &RunSummary) -> Option<Self> {
        let totals = run.totals.as_ref()?;
        let copies = match (totals.gossip_copies_per_delivery, run.workload.network_protocol.as_str()) {
            (Some(copies), "gossipsub") => copies,
            (None, "sqmr" | "reversed-sqmr") => 1.0,
            _ => return None,
        };
        let size = totals.delivered_bytes_per_second * totals.window_seconds / totals.delivered_in_window as f64;
        let delivery = Self {
            micros: totals.cpu_seconds_per_million_deliveries?,
            copies,
            bytes: 2.0 * totals.socket_bytes_per_delivered_byte? * size,
        };
        delivery.bytes.is_finite().then_some(delivery)
    }
}

/// The processor under which both deliveries cost what they did.
fn solve(small: Delivery, large: Delivery) -> Option<Processor> {
    let determinant = small.copies * large.bytes - large.copies * small.bytes;
    let per_message = (small.micros * large.bytes - large.micros * small.bytes) / determinant;
    let per_byte = 1e3 * (small.copies * large.micros - large.copies * small.micros) / determinant;
    let in_range = |cost: f64| cost > 0.0 && cost <= MOST;
    // Three digits after the point are more than such a measurement has.
    let rounded = |cost: f64| (cost * 1e3).round() / 1e3;
    (in_range(per_message) && in_range(per_byte))
        .then(|| Processor { micros_per_message: rounded(per_message), nanos_per_byte: rounded(per_byte) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_give_the_cost_of_a_message_and_of_a_byte() {
        let delivery = |copies: f64, bytes: f64| Delivery { micros: copies * 200.0 + bytes * 0.004, copies, bytes };
        let processor = solve(delivery(4.0, 9_000.0), delivery(2.0, 400_000.0));
        assert_eq!(processor, Some(Processor { micros_per_message: 200.0, nanos_per_byte: 4.0 }));
        assert_eq!(solve(delivery(4.0, 9_000.0), delivery(4.0, 9_000.0)), None);
        assert!(cost("-1").is_err() && cost("NaN").is_err() && cost("much").is_err() && cost("0.5") == Ok(0.5));
    }
}
