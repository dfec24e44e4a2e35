//! Shape of one direction of a link.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum latency, in milliseconds: a larger value is probably a mistake of units.
const MOST_LATENCY: f64 = 60_000.0;

/// Minimum and maximum throughput, in kilobytes per second: below, a handshake takes minutes; above, the value comes
/// near `tc`'s 64 bits of bits per second.
const THROUGHPUT: std::ops::RangeInclusive<u64> = 8..=1_000_000_000;

/// One direction of a link. The default is unshaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// Latency of each packet, in milliseconds.
    #[serde(alias = "latency")]
    pub latency_millis: f64,
    /// Maximum difference of a packet's latency from `latency_millis`, evenly distributed, in milliseconds. Packets
    /// overtake each other.
    #[serde(alias = "jitter")]
    pub jitter_millis: f64,
    /// Share of packets that are lost, in percent, each independently.
    #[serde(alias = "loss")]
    pub loss_percent: f64,
    /// Share of packets that arrive twice, in percent.
    #[serde(alias = "duplicate")]
    pub duplicate_percent: f64,
    /// Share of packets that are sent at once, without the latency, and so overtake others, in percent.
    #[serde(alias = "reorder")]
    pub reorder_percent: f64,
    /// Maximum throughput in kilobytes (1000 bytes) per second, in bytes of an Ethernet wire; none for no limit.
    #[serde(alias = "throughput")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_kilobytes_per_second: Option<u64>,
}

/// Values that replace those of a shape; the others stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ShapePatch {
    /// See [`Shape::latency_millis`].
    #[serde(alias = "latency", skip_serializing_if = "Option::is_none")]
    pub latency_millis: Option<f64>,
    /// See [`Shape::jitter_millis`].
    #[serde(alias = "jitter", skip_serializing_if = "Option::is_none")]
    pub jitter_millis: Option<f64>,
    /// See [`Shape::loss_percent`].
    #[serde(alias = "loss", skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// See [`Shape::duplicate_percent`].
    #[serde(alias = "duplicate", skip_serializing_if = "Option::is_none")]
    pub duplicate_percent: Option<f64>,
    /// See [`Shape::reorder_percent`].
    #[serde(alias = "reorder", skip_serializing_if = "Option::is_none")]
    pub reorder_percent: Option<f64>,
    /// See [`Shape::throughput_kilobytes_per_second`].
    #[serde(alias = "throughput", skip_serializing_if = "Option::is_none")]
    pub throughput_kilobytes_per_second: Option<u64>,
}

impl ShapePatch {
    /// True if it needs the kernel's netem.
    pub fn needs_netem(&self) -> bool {
        [self.latency_millis, self.loss_percent, self.duplicate_percent, self.reorder_percent]
            .iter()
            .any(|value| value.is_some_and(|value| value > 0.0))
    }
}

/// Reason why a shape is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ShapeError(pub String);

impl Shape {
    /// Returns the shape if its values are valid.
    ///
    /// # Errors
    /// One line that names the value.
    pub fn validated(self) -> Result<Self, ShapeError> {
        let error = |line: String| Err(ShapeError(line));
        let Self { latency_millis, jitter_millis, reorder_percent, .. } = self;
        for (name, value) in [("latency", latency_millis), ("jitter", jitter_millis)] {
            if !(0.0..=MOST_LATENCY).contains(&value) {
                return error(format!("{name} {value}: give milliseconds from 0 to {MOST_LATENCY}"));
            }
        }
        let percents =
            [("loss", self.loss_percent), ("duplicate", self.duplicate_percent), ("reorder", reorder_percent)];
        for (name, value) in percents {
            if !(0.0..=100.0).contains(&value) {
                return error(format!("{name} {value}: give percent from 0 to 100"));
            }
        }
        if jitter_millis > latency_millis {
            return error(format!("jitter {jitter_millis} is above latency {latency_millis}: no packet arrives early"));
        }
        if reorder_percent > 0.0 && latency_millis == 0.0 {
            return error("reorder needs a latency: packets overtake by going without it".into());
        }
        if let Some(rate) = self.throughput_kilobytes_per_second
            && !THROUGHPUT.contains(&rate)
        {
            let (least, most) = (THROUGHPUT.start(), THROUGHPUT.end());
            return error(format!("throughput {rate}: give kilobytes per second from {least} to {most}"));
        }
        Ok(self)
    }

    /// True if nothing is shaped.
    pub fn is_unshaped(&self) -> bool {
        !self.needs_netem() && self.throughput_kilobytes_per_second.is_none()
    }

    /// True if it needs the kernel's netem; the throughput alone does not.
    pub fn needs_netem(&self) -> bool {
        [self.latency_millis, self.loss_percent, self.duplicate_percent, self.reorder_percent]
            .iter()
            .any(|value| *value > 0.0)
    }

    /// True if packets of one sender are treated differently: then each packet of netem must be a single packet of the
    /// wire.
    pub fn is_by_packet(&self) -> bool {
        [self.jitter_millis, self.loss_percent, self.duplicate_percent, self.reorder_percent]
            .iter()
            .any(|value| *value > 0.0)
    }

    /// Throughput in bytes per second.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.throughput_kilobytes_per_second.map(|kilobytes| kilobytes * 1000)
    }

    /// This shape with the values of `patch`.
    ///
    /// # Errors
    /// One line that names the value that can't be.
    pub fn with(&self, patch: &ShapePatch) -> Result<Self, ShapeError> {
        let shape = Self {
            latency_millis: patch.latency_millis.unwrap_or(self.latency_millis),
            jitter_millis: patch.jitter_millis.unwrap_or(self.jitter_millis),
            loss_percent: patch.loss_percent.unwrap_or(self.loss_percent),
            duplicate_percent: patch.duplicate_percent.unwrap_or(self.duplicate_percent),
            reorder_percent: patch.reorder_percent.unwrap_or(self.reorder_percent),
            throughput_kilobytes_per_second: patch
                .throughput_kilobytes_per_second
                .or(self.throughput_kilobytes_per_second),
        };
        shape.validated()
    }

    /// This shape and then `next`, as one shape.
    pub fn then(&self, next: &Self) -> Self {
        let either = |a: f64, b: f64| 100.0 - (100.0 - a) * (100.0 - b) / 100.0;
        let rates = [self.throughput_kilobytes_per_second, next.throughput_kilobytes_per_second];
        Self {
            latency_millis: self.latency_millis + next.latency_millis,
            jitter_millis: self.jitter_millis + next.jitter_millis,
            loss_percent: either(self.loss_percent, next.loss_percent),
            duplicate_percent: either(self.duplicate_percent, next.duplicate_percent),
            reorder_percent: either(self.reorder_percent, next.reorder_percent),
            throughput_kilobytes_per_second: rates.into_iter().flatten().min(),
        }
    }
}

/// Reads `latency=50,jitter=5,loss=1,duplicate=0,reorder=0,throughput=10000`, or any part of it.
impl FromStr for ShapePatch {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut patch = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let bad = || {
                ShapeError(format!(
                    "'{part}' is none of latency=MS, jitter=MS, loss=PERCENT, duplicate=PERCENT, reorder=PERCENT, throughput=KB/S"
                ))
            };
            let (key, value) = part.split_once('=').ok_or_else(bad)?;
            let number = || value.trim().parse::<f64>().map(Some).map_err(|_| bad());
            match key.trim() {
                "latency" => patch.latency_millis = number()?,
                "jitter" => patch.jitter_millis = number()?,
                "loss" => patch.loss_percent = number()?,
                "duplicate" => patch.duplicate_percent = number()?,
                "reorder" => patch.reorder_percent = number()?,
                "throughput" => {
                    patch.throughput_kilobytes_per_second = Some(value.trim().parse().map_err(|_| bad())?);
                }
                _ => return Err(bad()),
            }
        }
        Ok(patch)
    }
}

/// Reads the text of a [`ShapePatch`], on an unshaped link.
impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::default().with(&text.parse()?)
    }
}

/// Writes the text that [`FromStr`] reads; "unshaped" for a shape without limits.
impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("latency", self.latency_millis),
            ("jitter", self.jitter_millis),
            ("loss", self.loss_percent),
            ("duplicate", self.duplicate_percent),
            ("reorder", self.reorder_percent),
        ];
        let mut parts: Vec<String> =
            named.iter().filter(|(_, value)| *value > 0.0).map(|(name, value)| format!("{name}={value}")).collect();
        parts.extend(self.throughput_kilobytes_per_second.map(|rate| format!("throughput={rate}")));
        formatter.write_str(if parts.is_empty() { "unshaped".into() } else { parts.join(",") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_survives_its_text() {
        let text = "latency=50,jitter=5.5,loss=1,duplicate=0.1,reorder=2,throughput=10000";
        assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        assert_eq!("".parse::<Shape>().unwrap(), Shape::default());
        assert_eq!(Shape::default().to_string(), "unshaped");
    }

    #[test]
    fn an_impossible_value_is_refused_by_name() {
        for (text, says) in [
            ("latency", "'latency' is none of"),
            ("speed=3", "'speed=3' is none of"),
            ("latency=-1", "latency -1"),
            ("latency=nan", "latency NaN"),
            ("loss=101", "loss 101"),
            ("latency=5,jitter=6", "jitter 6 is above"),
            ("reorder=5", "reorder needs a latency"),
            ("throughput=1", "throughput 1"),
            ("throughput=x", "'throughput=x' is none of"),
        ] {
            let error = text.parse::<Shape>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }

    #[test]
    fn two_shapes_in_a_row_add_up() {
        let first: Shape = "latency=10,loss=50,throughput=100".parse().unwrap();
        let second: Shape = "latency=5,loss=50,throughput=90".parse().unwrap();
        assert_eq!(first.then(&second).to_string(), "latency=15,loss=75,throughput=90");
        assert_eq!(first.then(&Shape::default()), first);
    }
}
