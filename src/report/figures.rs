//! Figures of a result by name: every number of `summary.json` that a person may judge or compare.
//!
//! The names follow from the JSON itself, so that a new field has a name at once. Fields of `totals` have their own name
//! (`delivery_ratio`), those of a traffic class begin with its name (`votes.deadline_misses`), and those of a node, phase
//! or trial with its number (`node.3.cpu_seconds`). A distribution `F` has the figures `F_count`, `F_missing`, `F_p50`,
//! `F_p90`, `F_p99`, `F_p999`, `F_max` and `F_mean`.

use std::fmt;

use serde_json::{Map, Value};

use super::{summary::RunSummary, units};

/// Value of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FigureValue {
    /// A number in its unit.
    Number(f64),
    /// A percentile that lies among values that never arrived: larger than every number.
    Infinite,
    /// It could not be measured.
    Unknown,
}

impl FigureValue {
    /// The value as a number with infinity; none if it is unknown.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) if number.is_nan() || number == f64::NEG_INFINITY => None,
            Self::Number(number) => Some(number),
            Self::Infinite => Some(f64::INFINITY),
            Self::Unknown => None,
        }
    }
}

/// Unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes in a second.
    BytesPerSecond,
    /// Hundredths.
    Percent,
    /// A count, or a ratio.
    Plain,
}

impl Unit {
    /// Microseconds in one of this unit, if it is a time.
    pub fn micros(self) -> Option<f64> {
        match self {
            Self::Micros => Some(1.0),
            Self::Millis => Some(1e3),
            Self::Seconds => Some(1e6),
            _ => None,
        }
    }

    fn of(name: &str) -> Self {
        match name {
            _ if name.ends_with("_micros") => Self::Micros,
            _ if name.ends_with("_millis") => Self::Millis,
            _ if name.ends_with("bytes_per_second") => Self::BytesPerSecond,
            _ if name.ends_with("_seconds") => Self::Seconds,
            _ if name.ends_with("_bytes") => Self::Bytes,
            _ if name.ends_with("_percent") => Self::Percent,
            _ => Self::Plain,
        }
    }
}

/// Direction in which a figure improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// It only describes.
    Neither,
}

/// A figure of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name, by which objectives and comparisons refer to it.
    pub name: String,
    /// Value.
    pub value: FigureValue,
    /// Unit of the value.
    pub unit: Unit,
}

/// Figures that improve when they fall, by the beginning of the last part of their name.
const LOWER: &[&str] = &[
    "delay",
    "network_delay",
    "send_lag",
    "reach_1_3",
    "reach_2_3",
    "reach_all",
    "round",
    "lost",
    "missed",
    "dropped",
    "late",
    "deadline_misses",
    "duplicates",
    "reordered",
    "undecided",
    "negative_delays",
    "backlog_at_end",
    "cpu_seconds",
    "socket_bytes_per_delivered_byte",
    "gossip_copies_per_delivery",
    "unit_bytes_per_delivered_byte",
    "units_wasted",
    "given_up",
    "encode_micros",
    "rebuild_micros",
    "to_data",
    "to_delivery",
    "peak_memory_bytes",
    "ready_seconds",
];

/// Figures that improve when they rise.
const HIGHER: &[&str] = &["delivery_ratio", "delivered", "sent", "sustained", "direct"];

impl Figure {
    /// Its value, if that is a number.
    pub fn number(&self) -> Option<f64> {
        match self.value {
            FigureValue::Number(value) => Some(value),
            FigureValue::Infinite | FigureValue::Unknown => None,
        }
    }

    /// Direction in which it improves.
    pub fn better(&self) -> Better {
        let name = self.name.rsplit('.').next().unwrap_or(&self.name);
        // The number of values of a distribution is no merit of its own.
        if name.ends_with("_count") {
            return Better::Neither;
        }
        let begins = |all: &[&str]| all.iter().any(|begin| name == *begin || name.starts_with(&format!("{begin}_")));
        match () {
            () if begins(LOWER) => Better::Lower,
            () if begins(HIGHER) => Better::Higher,
            () => Better::Neither,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.value {
            FigureValue::Unknown => return formatter.write_str("unknown"),
            FigureValue::Infinite => return formatter.write_str("never"),
            FigureValue::Number(value) => value,
        };
        match self.unit {
            Unit::Plain if value == value.trunc() && value.abs() < 1e15 => write!(formatter, "{value}"),
            Unit::Plain => write!(formatter, "{value:.6}"),
            Unit::Percent => write!(formatter, "{value:.1} %"),
            Unit::Bytes => formatter.write_str(&units::bytes(value)),
            Unit::BytesPerSecond => write!(formatter, "{}/s", units::bytes(value)),
            unit => {
                let micros = value * unit.micros().unwrap_or(1.0);
                formatter.write_str(&units::time(Some(micros.round() as u64)))
            }
        }
    }
}

/// Parts of a result that have no figures: texts, requests, and facts about machines.
const LEFT_OUT: &[&str] = &[
    "schema_version",
    "workload",
    "simulation",
    "links",
    "machines",
    "clocks",
    "faults",
    "runner",
    "causes",
    "frontier",
    "objectives",
];

/// All figures of a result, in the order of its fields.
pub fn figures(run: &RunSummary) -> Vec<Figure> {
    let mut all = vec![];
    let Ok(Value::Object(fields)) = serde_json::to_value(run) else { return all };
    for (key, value) in fields.iter().filter(|(key, _)| !LEFT_OUT.contains(&key.as_str())) {
        let list = |prefix: &str, number: &str, all: &mut Vec<Figure>| {
            for row in value.as_array().into_iter().flatten() {
                let name = match row.get(number) {
                    Some(Value::String(name)) => name.clone(),
                    Some(number) => format!("{prefix}{number}"),
                    None => continue,
                };
                add(&name, number, row, all);
            }
        };
        match key.as_str() {
            "totals" => add("", "", value, &mut all),
            "classes" => list("", "name", &mut all),
            "nodes" => list("node.", "node", &mut all),
            "phases" => list("phase.", "number", &mut all),
            "trials" => list("trial.", "trial", &mut all),
            _ => add_value(key, value, &mut all),
        }
    }
    all
}

/// Adds the figures of an object; `number` is the field that names it.
fn add(prefix: &str, number: &str, row: &Value, all: &mut Vec<Figure>) {
    let Some(fields) = row.as_object() else { return };
    for (key, value) in fields.iter().filter(|(key, _)| key.as_str() != number) {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        add_value(&name, value, all);
    }
}

fn add_value(name: &str, value: &Value, all: &mut Vec<Figure>) {
    let mut push = |value| all.push(Figure { name: name.to_owned(), value, unit: Unit::of(name) });
    match value {
        Value::Null => push(FigureValue::Unknown),
        Value::Bool(yes) => push(FigureValue::Number(f64::from(u8::from(*yes)))),
        Value::Number(number) => push(number.as_f64().map_or(FigureValue::Unknown, FigureValue::Number)),
        Value::String(_) | Value::Array(_) => {}
        Value::Object(fields) if fields.contains_key("quantiles") => add_distribution(name, fields, all),
        // The verdict on a load has its own name.
        Value::Object(fields) if fields.contains_key("sustained") => {
            add_value(name, fields.get("sustained").unwrap_or(&Value::Null), all);
        }
        Value::Object(_) => add(name, "", value, all),
    }
}

fn add_distribution(name: &str, fields: &Map<String, Value>, all: &mut Vec<Figure>) {
    let number = |key: &str| fields.get(key).and_then(Value::as_f64);
    let missing = number("missing").unwrap_or(0.0);
    for key in ["count", "missing"] {
        let value = number(key).map_or(FigureValue::Unknown, FigureValue::Number);
        all.push(Figure { name: format!("{name}_{key}"), value, unit: Unit::Plain });
    }
    for key in ["p50", "p90", "p99", "p999", "max", "mean"] {
        let value = match number(&format!("{key}_micros")) {
            Some(micros) => FigureValue::Number(micros),
            None if missing > 0.0 => FigureValue::Infinite,
            None => FigureValue::Unknown,
        };
        all.push(Figure { name: format!("{name}_{key}"), value, unit: Unit::Micros });
    }
}

/// Question for the name among these that is nearest to a misspelt one, as the end of a line; empty if none is near.
pub fn did_you_mean<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest_name(name, names).map_or_else(String::new, |near| format!(": did you mean {near}?"))
}

/// Name among these that is nearest to a misspelt one, if one is near.
fn nearest_name<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
    (near.0 <= 2 + name.len() / 5).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ClassRow, DelaySummary, Totals, WorkloadSummary};

    fn run() -> RunSummary {
        let reach_2_3 = DelaySummary { count: 9, missing: 1, p50_micros: Some(700), ..DelaySummary::default() };
        RunSummary {
            totals: Some(Totals { delivery_ratio: Some(0.5), reach_2_3: Some(reach_2_3.clone()), ..Totals::default() }),
            classes: vec![ClassRow { name: "votes".into(), deadline_misses: Some(3), ..ClassRow::default() }],
            ..RunSummary::failed(WorkloadSummary::default(), "a test".into())
        }
    }

    fn value(name: &str) -> FigureValue {
        let all = figures(&run());
        all.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("{name} of {all:?}")).value
    }

    #[test]
    fn totals_classes_and_percentiles_have_names() {
        assert_eq!(value("delivery_ratio"), FigureValue::Number(0.5));
        assert_eq!(value("votes.deadline_misses"), FigureValue::Number(3.0));
        assert_eq!(value("reach_2_3_p50"), FigureValue::Number(700.0));
        assert_eq!((value("reach_2_3_p99"), value("delay_p99")), (FigureValue::Infinite, FigureValue::Unknown));
        assert_eq!((value("verdict.valid"), value("sustained")), (FigureValue::Number(0.0), FigureValue::Unknown));
        assert_eq!(value("ready_seconds"), FigureValue::Unknown);
    }

    #[test]
    fn names_are_unique() {
        let all = figures(&run());
        let names: std::collections::BTreeSet<&str> = all.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn a_figure_improves_in_its_direction_in_every_class() {
        let better = |name: &str| Figure { name: name.into(), value: FigureValue::Unknown, unit: Unit::Plain }.better();
        assert_eq!((better("votes.reach_all_p99"), better("delivery_ratio")), (Better::Lower, Better::Higher));
        assert_eq!((better("delay_count"), better("intended")), (Better::Neither, Better::Neither));
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let names = ["delivery_ratio", "delay_p99"];
        assert_eq!(nearest_name("delivry_ratio", names.into_iter()), Some("delivery_ratio"));
        assert_eq!(nearest_name("something_else_entirely", names.into_iter()), None);
    }
}
