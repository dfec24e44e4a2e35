//! Content of a run folder, as far as the report shows it. Missing files and fields are left out, so that folders of
//! older versions have a report too.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use serde_json::Value;

use crate::{
    node::NodeSummary,
    report::{
        arrivals::Arrivals, folder::RunFolder, observed::Observations, summary::RunSummary,
        time_series::TimeSeriesPoint,
    },
};

/// Maximum size of the time series that is read: some 60,000 points of 30 nodes.
const MOST_SERIES_BYTES: u64 = 64 << 20;

/// Maximum size of the scenario and of the manifest in the page, in characters.
const MOST_TEXT: usize = 48 << 10;

/// Maximum size of the manifest that is read.
const MOST_MANIFEST_BYTES: u64 = 64 << 20;

/// A run, ready for the page.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Name of its folder.
    pub(super) name: String,
    pub(super) summary: RunSummary,
    /// Facts about the report itself.
    pub(super) notes: Vec<String>,
    /// Points of the time series, by seconds after the window's opening.
    pub(super) points: Vec<(f64, TimeSeriesPoint)>,
    pub(super) pairs: Option<Pairs>,
    pub(super) scenario: Option<String>,
    pub(super) manifest: Option<Manifest>,
}

/// Deliveries by sender and receiver, over the whole run.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    /// Messages that each node sent.
    pub(super) sent: BTreeMap<u64, u64>,
    /// Different messages that arrived, by sender and receiver.
    pub(super) delivered: BTreeMap<(u64, u64), u64>,
    /// Median delay of the deliveries of the sample, in microseconds, by sender and receiver.
    pub(super) delays: BTreeMap<(u64, u64), f64>,
}

/// Facts of the manifest.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifest {
    pub(super) started: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) host: Option<String>,
    pub(super) command_line: Option<String>,
    /// The file, without the parts that are elsewhere in the page or equal for all nodes.
    pub(super) text: String,
}

impl RunReport {
    /// The report of a result, with the other files of its folder. `nodes` are the summaries of all lives of all nodes,
    /// and `arrivals` the records of the sample.
    pub fn new(
        folder: &RunFolder,
        summary: RunSummary,
        nodes: &[NodeSummary],
        arrivals: Option<&Arrivals>,
        mut notes: Vec<String>,
    ) -> Self {
        let opened = folder
            .read_json::<Observations>(&folder.observations())
            .ok()
            .and_then(|observed| Some(observed.window?.from_unix_nanos));
        let points = points(&folder.time_series(), opened, &mut notes);
        let pairs = (summary.totals.is_some() && !nodes.is_empty()).then(|| Pairs::of(nodes, arrivals));
        let scenario = read(&folder.scenario(), MOST_TEXT as u64 + 1).map(cut);
        Self {
            name: folder.root().to_string_lossy().into_owned(),
            summary,
            notes,
            points,
            pairs,
            scenario,
            manifest: read(&folder.manifest(), MOST_MANIFEST_BYTES).and_then(|text| Manifest::of(&text)),
        }
    }
}

/// Beginning of a file; none if it can't be read.
fn read(path: &Path, most: u64) -> Option<String> {
    let mut bytes = vec![];
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Text of a bounded length, with a line that states the cut.
fn cut(text: String) -> String {
    if text.len() <= MOST_TEXT {
        return text;
    }
    let end = (0..=MOST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}\n... the rest is in the folder of the run\n", &text[..end])
}

/// Points of the time series, by seconds after the opening of the window: `opened` in nanoseconds since the Unix epoch,
/// or the first point of the window.
fn points(path: &Path, opened: Option<u64>, notes: &mut Vec<String>) -> Vec<(f64, TimeSeriesPoint)> {
    let Ok(file) = File::open(path) else { return vec![] };
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    if size > MOST_SERIES_BYTES {
        notes.push(format!("the time series is cut after {} MiB", MOST_SERIES_BYTES >> 20));
    }
    let mut reader = BufReader::new(file.take(MOST_SERIES_BYTES));
    let mut points: Vec<(i128, TimeSeriesPoint)> = vec![];
    let mut line = vec![];
    while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
        let point = serde_json::from_slice::<TimeSeriesPoint>(&line);
        line.clear();
        let Ok(mut point) = point else { continue };
        let Ok(time) = point.time.parse::<jiff::Timestamp>() else { continue };
        point.sent_by_node.clear();
        point.delivered_by_node.clear();
        points.push((time.as_nanosecond(), point));
    }
    let first = points.iter().find(|(_, point)| point.phase == "measure").map(|(time, _)| *time);
    let Some(opened) = opened.map(i128::from).or(first) else { return vec![] };
    points.into_iter().map(|(time, point)| ((time - opened) as f64 / 1e9, point)).collect()
}

impl Pairs {
    fn of(nodes: &[NodeSummary], arrivals: Option<&Arrivals>) -> Self {
        let mut pairs = Self { delays: arrivals.map(delays).unwrap_or_default(), ..Self::default() };
        let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
        for node in nodes {
            add(pairs.sent.entry(node.node).or_default(), node.measured.sent.saturating_add(node.outside.sent));
            for from in &node.senders {
                add(pairs.delivered.entry((from.sender, node.node)).or_default(), from.unique);
            }
        }
        pairs
    }

    /// Share of the sender's messages that did not arrive; none for a sender that sent nothing, and for a node itself.
    pub(super) fn missing(&self, sender: u64, receiver: u64) -> Option<f64> {
        let sent = self.sent.get(&sender).copied().filter(|sent| *sent > 0 && sender != receiver)?;
        let delivered = self.delivered.get(&(sender, receiver)).copied().unwrap_or(0);
        // A killed node has sent more than its last report counts.
        Some((1.0 - delivered as f64 / sent as f64).max(0.0))
    }
}

/// Median delay from each sender to each receiver, in microseconds.
fn delays(arrivals: &Arrivals) -> BTreeMap<(u64, u64), f64> {
    let mut values: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
    for row in arrivals.rows().iter().filter(|row| row.receiver != row.arrival.sender) {
        let delay = row.arrival.arrived_unix_nanos.saturating_sub(row.arrival.intended_unix_nanos);
        values.entry((row.arrival.sender, row.receiver)).or_default().push(delay / 1000);
    }
    let median = |mut delays: Vec<u64>| {
        delays.sort_unstable();
        delays.get(delays.len() / 2).copied().unwrap_or_default().max(1) as f64
    };
    values.into_iter().map(|(pair, delays)| (pair, median(delays))).collect()
}

impl Manifest {
    fn of(text: &str) -> Option<Self> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let words = value["command_line"]
            .as_array()
            .map(|words| words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
        let (started, backend, host) = (text(&value["started"]), text(&value["backend"]), text(&value["host"]["name"]));
        if let Some(fields) = value.as_object_mut() {
            fields.remove("scenario");
            fields.remove("send_offsets_nanos");
            if let Some(nodes) = fields.get_mut("nodes").and_then(Value::as_array_mut) {
                nodes.truncate(1);
            }
        }
        let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
        Some(Self { started, backend, host, command_line: words, text: cut(pretty) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character_and_says_so() {
        let text = cut("\u{e4}".repeat(MOST_TEXT));
        assert!(text.len() < MOST_TEXT + 100 && text.ends_with("in the folder of the run\n"));
        assert_eq!(cut("short".into()), "short");
    }

    #[test]
    fn a_series_with_broken_lines_keeps_the_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |time: &str, phase: &str| {
            serde_json::to_string(&TimeSeriesPoint { time: time.into(), phase: phase.into(), ..Default::default() })
                .unwrap()
        };
        let lines =
            [line("2026-01-01T00:00:09Z", "warm-up"), line("2026-01-01T00:00:10Z", "measure"), "{\"time\":".into()];
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        let times: Vec<f64> = points(file.path(), None, &mut vec![]).into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, [-1.0, 0.0]);
    }
}
