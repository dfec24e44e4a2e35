//! Objectives: bounds that figures of a result must keep.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Relation between a figure and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// At least the bound.
    AtLeast,
    /// At most the bound.
    AtMost,
    /// More than the bound.
    Above,
    /// Less than the bound.
    Below,
    /// The bound itself.
    Equal,
    /// Anything but the bound.
    Different,
}

/// Relations as they are written; longer ones first, because the shorter ones are their beginnings.
const RELATIONS: [(&str, Relation); 6] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("==", Relation::Equal),
    ("!=", Relation::Different),
    (">", Relation::Above),
    ("<", Relation::Below),
];

impl Relation {
    /// True if a value stands in this relation to a bound.
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::Below => value < bound,
            Self::Equal => value == bound,
            Self::Different => value != bound,
        }
    }
}

/// Value of a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// A time, in microseconds.
    Micros(f64),
    /// A number of bytes.
    Bytes(f64),
    /// Hundredths.
    Percent(f64),
    /// A number without a unit.
    Plain(f64),
}

/// Makes a bound of a number.
type ToBound = fn(f64) -> Bound;

/// Units of a bound, as they are written.
const UNITS: [(&str, ToBound); 13] = [
    ("us", Bound::Micros),
    ("ms", |number| Bound::Micros(number * 1e3)),
    ("s", |number| Bound::Micros(number * 1e6)),
    ("min", |number| Bound::Micros(number * 60e6)),
    ("B", Bound::Bytes),
    ("KB", |number| Bound::Bytes(number * 1e3)),
    ("MB", |number| Bound::Bytes(number * 1e6)),
    ("GB", |number| Bound::Bytes(number * 1e9)),
    ("KiB", |number| Bound::Bytes(number * 1024.0)),
    ("MiB", |number| Bound::Bytes(number * 1024.0 * 1024.0)),
    ("GiB", |number| Bound::Bytes(number * 1024.0 * 1024.0 * 1024.0)),
    ("%", Bound::Percent),
    ("", Bound::Plain),
];

/// A bound that a figure of the result must keep, such as `reach_2_3_p99 <= 300ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Text as it was written.
    text: String,
    /// Name of the figure.
    pub figure: String,
    /// Relation of the figure to the bound.
    pub relation: Relation,
    /// The bound.
    pub bound: Bound,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let form = "write an objective as FIGURE >= VALUE, such as 'delivery_ratio >= 0.999' or 'delay_p99 <= 300ms'";
        let at = text.find(['<', '>', '=', '!']).ok_or_else(|| format!("'{text}': {form}"))?;
        let (figure, rest) = text.split_at(at);
        let known = RELATIONS.iter().find_map(|(sign, relation)| Some((rest.strip_prefix(sign)?, *relation)));
        let (value, relation) =
            known.ok_or_else(|| format!("'{text}': a relation is one of >=, <=, ==, !=, > and <"))?;
        let figure = figure.trim();
        let is_part = |c: char| c.is_alphanumeric() || "._-".contains(c);
        if figure.is_empty() || !figure.chars().all(is_part) {
            return Err(format!("'{text}': {form}"));
        }
        let value = value.trim();
        let end = value.find(|c: char| !(c.is_ascii_digit() || ".+-".contains(c))).unwrap_or(value.len());
        let (number, unit) = value.split_at(end);
        let number: f64 = number.parse().map_err(|_| format!("'{text}': '{value}' is no number with a unit"))?;
        let unit = unit.trim();
        let bound = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bound)| bound(number)).ok_or_else(|| {
            format!("'{text}': '{unit}' is no unit: write us, ms, s, min, B, KB, MB, GB, KiB, MiB, GiB or %")
        })?;
        Ok(Self { text: text.to_owned(), figure: figure.to_owned(), relation, bound })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Objective {
    fn schema_name() -> Cow<'static, str> {
        "Objective".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A bound that a figure of the result must keep, such as \"delivery_ratio >= 0.999\" or \"votes.reach_2_3_p99 <= 300ms\"",
            "type": "string",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_relations_and_units_are_read() {
        for (text, figure, relation, bound) in [
            ("delivery_ratio >= 0.999", "delivery_ratio", Relation::AtLeast, Bound::Plain(0.999)),
            ("votes.reach_2_3_p99<=300ms", "votes.reach_2_3_p99", Relation::AtMost, Bound::Micros(300e3)),
            (" lost == 0 ", "lost", Relation::Equal, Bound::Plain(0.0)),
            ("peak_memory_bytes < 2 GiB", "peak_memory_bytes", Relation::Below, Bound::Bytes(2_147_483_648.0)),
            ("delivery_ratio > 99.5 %", "delivery_ratio", Relation::Above, Bound::Percent(99.5)),
        ] {
            let read: Objective = text.parse().unwrap();
            assert_eq!((read.figure.as_str(), read.relation, read.bound), (figure, relation, bound), "{text}");
            assert_eq!(read.to_string(), text.trim());
        }
    }

    #[test]
    fn a_text_that_is_no_objective_is_refused_in_one_line() {
        for text in
            ["", "delay_p99", "<= 3", "delay_p99 =< 3", "delay_p99 <= fast", "delay_p99 <= 3 parsec", "a b <= 3"]
        {
            let line = text.parse::<Objective>().unwrap_err();
            assert!(!line.is_empty() && line.lines().count() == 1, "{text}: {line}");
        }
    }
}
