//! Agreement of simulations with real networks, as it was measured: the file is kept with the build.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use serde::{Deserialize, Serialize};

use super::simulation_facts::AgreementBand;
use crate::scenario::{LinkPlan, Scenario, Senders, Shape};

/// Entries, made by `apollo-bench agree --entry`.
const TEXT: &str = include_str!("agreement.toml");

/// A scenario that ran on a real network and in virtual time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementEntry {
    /// Name of the scenario.
    pub scenario: String,
    /// Runs of each side.
    pub runs: u32,
    /// Number of nodes.
    pub nodes: u64,
    /// Size of the largest message, in bytes.
    pub largest_bytes: u64,
    /// Bytes that all senders offer per second.
    pub offered_bytes_per_second: f64,
    /// Maximum latency of a link, in milliseconds.
    #[serde(default)]
    pub latency_millis: f64,
    /// Maximum jitter of a link, in milliseconds.
    #[serde(default)]
    pub jitter_millis: f64,
    /// Maximum loss of a link, in percent.
    #[serde(default)]
    pub loss_percent: f64,
    /// Ratios by measure.
    pub measures: BTreeMap<String, MeasureAgreement>,
}

/// Simulated values of a measure divided by measured ones, under both orders of service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureAgreement {
    /// Smaller ratio.
    pub lowest: f64,
    /// Larger ratio.
    pub highest: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreement {
    #[serde(default)]
    entry: Vec<AgreementEntry>,
}

static KNOWN: LazyLock<Agreement> = LazyLock::new(|| toml::from_str(TEXT).unwrap_or_default());

impl AgreementEntry {
    /// The place of a resolved scenario with these links in the range, with these ratios.
    pub fn new(scenario: &Scenario, links: &LinkPlan, runs: u32, measures: BTreeMap<String, MeasureAgreement>) -> Self {
        let nodes = scenario.nodes.count;
        let scheduled = scenario.traffic.iter().filter(|class| class.after.is_none());
        let offered = scheduled.map(|class| {
            let senders = match &class.senders {
                Senders::All => nodes,
                Senders::Nodes(ids) => ids.within(nodes).map_or(nodes, |ids| ids.len() as u64),
                Senders::Turns | Senders::Group(_) => 1,
            };
            let seconds = class.heartbeat().as_secs_f64().max(1e-6);
            class.message_size_bytes.mean() * f64::from(class.burst.max(1)) * senders as f64 / seconds
        });
        Self {
            scenario: scenario.name.clone(),
            runs,
            nodes,
            largest_bytes: scenario
                .traffic
                .iter()
                .map(|class| class.message_size_bytes.largest() as u64)
                .max()
                .unwrap_or(0),
            offered_bytes_per_second: offered.sum(),
            latency_millis: largest(links, |shape| shape.latency_millis),
            jitter_millis: largest(links, |shape| shape.jitter_millis),
            loss_percent: largest(links, |shape| shape.loss_percent),
            measures,
        }
    }
}

impl fmt::Display for AgreementEntry {
    /// The entry as it stands in the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = Agreement { entry: vec![self.clone()] };
        formatter.write_str(&toml::to_string(&file).map_err(|_| fmt::Error)?)
    }
}

fn largest(links: &LinkPlan, of: fn(&Shape) -> f64) -> f64 {
    links.shapes().map(of).fold(0.0, f64::max)
}

/// Band of each measure over all entries.
pub fn agreement_bands() -> Vec<AgreementBand> {
    bands(&KNOWN.entry)
}

fn bands(entries: &[AgreementEntry]) -> Vec<AgreementBand> {
    let mut all: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (name, ratio) in entries.iter().flat_map(|entry| &entry.measures) {
        let band = all.entry(name).or_insert((ratio.lowest, ratio.highest));
        *band = (band.0.min(ratio.lowest), band.1.max(ratio.highest));
    }
    let band = |(measure, (lowest, highest)): (&str, (f64, f64))| AgreementBand {
        measure: measure.to_owned(),
        lowest,
        highest,
    };
    all.into_iter().map(band).collect()
}

/// Reasons why a resolved scenario with these links is outside of the range of the entries.
pub fn extrapolations(scenario: &Scenario, links: &LinkPlan) -> Vec<String> {
    outside(&AgreementEntry::new(scenario, links, 0, BTreeMap::new()), &KNOWN.entry)
}

fn outside(own: &AgreementEntry, entries: &[AgreementEntry]) -> Vec<String> {
    if entries.is_empty() {
        return vec![];
    }
    let check = |name: &str, of: fn(&AgreementEntry) -> f64| {
        let least = entries.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = entries.iter().map(of).fold(0.0, f64::max);
        let value = of(own);
        let compared = if least < most {
            format!("compared were {} to {}", number(least), number(most))
        } else {
            format!("compared was {}", number(most))
        };
        (value < least || value > most).then(|| format!("{name} {}, {compared}", number(value)))
    };
    [
        check("nodes", |entry| entry.nodes as f64),
        check("largest message, in bytes:", |entry| entry.largest_bytes as f64),
        check("offered bytes per second", |entry| entry.offered_bytes_per_second),
        check("latency, in milliseconds:", |entry| entry.latency_millis),
        check("jitter, in milliseconds:", |entry| entry.jitter_millis),
        check("loss, in percent:", |entry| entry.loss_percent),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A number with three digits after the point, or fewer.
fn number(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_file_is_read() {
        assert!(toml::from_str::<Agreement>(TEXT).is_ok(), "{TEXT}");
    }

    #[test]
    fn bands_span_all_entries_and_other_scenarios_are_extrapolated() {
        let entry = |nodes, lowest, highest| AgreementEntry {
            nodes,
            largest_bytes: 1000,
            measures: BTreeMap::from([("delay_p50".into(), MeasureAgreement { lowest, highest })]),
            ..AgreementEntry::default()
        };
        let entries = [entry(3, 0.9, 1.0), entry(8, 0.95, 1.1)];
        assert_eq!(bands(&entries), [AgreementBand { measure: "delay_p50".into(), lowest: 0.9, highest: 1.1 }]);
        assert_eq!(outside(&entry(5, 1.0, 1.0), &entries), Vec::<String>::new());
        let file: Agreement = toml::from_str(&format!("{}\n{}", entries[0], entries[1])).unwrap();
        assert_eq!(file.entry, entries);
        assert_eq!(outside(&entry(100, 1.0, 1.0), &entries), ["nodes 100, compared were 3 to 8"]);
        let lossy = AgreementEntry { latency_millis: 20.0, loss_percent: 0.5, ..entry(5, 1.0, 1.0) };
        let reasons = ["latency, in milliseconds: 20, compared was 0", "loss, in percent: 0.5, compared was 0"];
        assert_eq!(outside(&lossy, &entries), reasons);
    }
}
