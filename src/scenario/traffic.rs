//! Traffic classes: senders, sizes, interval and order of messages.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use super::{choice::choice, network::Protocol, nodes::Nodes};

/// Name of the class that keeps the topic of a network with a single kind of traffic.
pub const DEFAULT_CLASS: &str = "default";

/// Maximum number of traffic classes: each needs a tracker for every sender at every node.
pub const MAX_CLASSES: usize = 16;

choice! {
    /// Kinds of traffic that command lines name.
    pub enum Mode {
        /// Every node, all the time.
        All = "all",
        /// One node, all the time.
        One = "one",
        /// Every node in turn.
        Rr = "rr",
        /// One node, through trials of growing throughput.
        Explore = "explore",
    }
}

choice! {
    /// Phase of nodes that send with the same heartbeat.
    #[derive(Default)]
    pub enum SendPhase {
        /// All nodes send at the same nanosecond, which is the worst case for the network.
        Aligned = "aligned",
        /// Each node sends at its own offset within the heartbeat, as unsynchronised nodes do.
        #[default]
        Spread = "spread",
    }
}

/// Senders of a traffic class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Senders {
    /// Every node, always.
    #[default]
    All,
    /// Node `(time / turn) mod nodes`.
    Turns,
    /// These nodes, all the time.
    Nodes(Nodes),
    /// Nodes of a group, all the time; resolved to [`Senders::Nodes`].
    Group(String),
}

impl Serialize for Senders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Turns => serializer.serialize_str("turns"),
            Self::Nodes(nodes) => nodes.serialize(serializer),
            Self::Group(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Senders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected \"all\", \"turns\", a node id, a list of ids, a text such as \"0-3,7\", or the name of a group"
        )]
        enum Written {
            Text(String),
            Nodes(Nodes),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => match text.as_str() {
                "all" => Self::All,
                "turns" => Self::Turns,
                _ => match text.parse::<Nodes>() {
                    Ok(nodes) if !nodes.is_empty() => Self::Nodes(nodes),
                    _ if text.starts_with(|first: char| first.is_ascii_digit()) || text.is_empty() => {
                        return Err(de::Error::custom(format!("'{text}' is no set of nodes such as \"0-3,7\"")));
                    }
                    _ => Self::Group(text),
                },
            },
            Written::Nodes(nodes) => Self::Nodes(nodes),
        })
    }
}

impl JsonSchema for Senders {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Senders".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "\"all\", \"turns\", a node id, a list of ids, a text such as \"0-3,7\", or the name of a group",
            "anyOf": [
                { "type": "string" },
                { "type": "integer", "minimum": 0 },
                { "type": "array", "items": { "type": "integer", "minimum": 0 } },
            ],
        })
    }
}

/// A size and its weight among the sizes of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedSize {
    /// Size of a whole message, its header included, in bytes.
    pub bytes: usize,
    /// Weight relative to the other sizes.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// Sizes of the messages of a class.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageSize {
    /// All messages have this size, in bytes.
    Fixed(usize),
    /// Each message has one of these sizes, with a probability proportional to its weight.
    Weighted(Vec<WeightedSize>),
    /// A file with a size, or a size and a weight, on each line; resolved to [`MessageSize::Weighted`].
    File(String),
}

impl Serialize for MessageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(bytes) => bytes.serialize(serializer),
            Self::Weighted(sizes) => sizes.serialize(serializer),
            Self::File(file) => file.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MessageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a number of bytes, a list such as [{ bytes = 200, weight = 3 }, { bytes = 1000 }], or the name of a CSV file"
        )]
        enum Written {
            Fixed(usize),
            Weighted(Vec<WeightedSize>),
            File(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Fixed(bytes) => Self::Fixed(bytes),
            Written::Weighted(sizes) => Self::Weighted(sizes),
            Written::File(file) => Self::File(file),
        })
    }
}

impl JsonSchema for MessageSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MessageSize".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let weighted = generator.subschema_for::<WeightedSize>();
        schemars::json_schema!({
            "description": "Bytes of a whole message, weighted sizes, or the name of a CSV file with a size and a weight on each line",
            "anyOf": [
                { "type": "integer", "minimum": 36 },
                { "type": "array", "items": weighted, "minItems": 1 },
                { "type": "string" },
            ],
        })
    }
}

impl MessageSize {
    /// Size of the message `index` of `sender` in class `class`, in bytes: a pure function of the seed, so that sender
    /// and receivers agree.
    pub fn of(&self, seed: u64, class: u16, sender: u64, index: u64) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::File(_) => 0,
            Self::Weighted(sizes) => {
                let digest = Sha256::new()
                    .chain_update(b"size")
                    .chain_update(seed.to_be_bytes())
                    .chain_update(class.to_be_bytes())
                    .chain_update(sender.to_be_bytes())
                    .chain_update(index.to_be_bytes())
                    .finalize();
                let first = digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
                let total: f64 = sizes.iter().map(|size| size.weight).sum();
                let mut rest = first as f64 / 2f64.powi(64) * total;
                let drawn = sizes.iter().find(|size| {
                    rest -= size.weight;
                    rest < 0.0
                });
                drawn.or(sizes.last()).map_or(0, |size| size.bytes)
            }
        }
    }

    /// Maximum size, in bytes.
    pub fn largest(&self) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Weighted(sizes) => sizes.iter().map(|size| size.bytes).max().unwrap_or(0),
            Self::File(_) => 0,
        }
    }

    /// Mean size, in bytes.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(bytes) => *bytes as f64,
            Self::Weighted(sizes) => {
                let total: f64 = sizes.iter().map(|size| size.weight).sum();
                sizes.iter().map(|size| size.bytes as f64 * size.weight).sum::<f64>() / total
            }
            Self::File(_) => 0.0,
        }
    }
}

/// A kind of message: senders, size, heartbeat, and the class that it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficClass {
    /// Unique name.
    pub name: String,
    /// Senders.
    pub senders: Senders,
    /// Length of a node's turn in seconds, for `senders = "turns"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_seconds: Option<u64>,
    /// Name of the class that this one answers: each sender sends when it has received all parts of one message of that
    /// class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Interval between the messages of a sender, in milliseconds; none with `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_millis: Option<u64>,
    /// The same in microseconds, in place of `heartbeat_millis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_micros: Option<u64>,
    /// Offsets of the senders within the heartbeat.
    pub phase: SendPhase,
    /// Size of a whole message, its header included, in bytes.
    pub message_size_bytes: MessageSize,
    /// Number of parts of one logical message, each a message of its own.
    pub burst: u32,
    /// Interval between the parts, in milliseconds.
    pub burst_spacing_millis: u64,
    /// Time within which a message has to arrive, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_millis: Option<u64>,
    /// Protocol; by default that of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Topic of gossipsub; by default `stress_test_topic` for the class `default` and `stress_test_topic/NAME` for
    /// others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Send each message to one peer, in rotation, instead of all; for sqmr and reversed-sqmr.
    pub unicast: bool,
}

impl TrafficClass {
    /// Default size of a message, in bytes.
    pub const DEFAULT_SIZE: usize = 1024;
    /// Default interval between messages, in milliseconds.
    pub const DEFAULT_HEARTBEAT: u64 = 100;
    /// Default length of a turn, in seconds.
    pub const DEFAULT_TURN: u64 = 3;

    /// Interval between the messages of a sender.
    pub fn heartbeat(&self) -> Duration {
        let millis = || Duration::from_millis(self.heartbeat_millis.unwrap_or(Self::DEFAULT_HEARTBEAT));
        self.heartbeat_micros.map_or_else(millis, Duration::from_micros)
    }
}

impl Default for TrafficClass {
    fn default() -> Self {
        Self {
            name: DEFAULT_CLASS.into(),
            senders: Senders::All,
            turn_seconds: None,
            after: None,
            heartbeat_millis: None,
            heartbeat_micros: None,
            phase: SendPhase::Spread,
            message_size_bytes: MessageSize::Fixed(Self::DEFAULT_SIZE),
            burst: 1,
            burst_spacing_millis: 0,
            deadline_millis: None,
            protocol: None,
            topic: None,
            unicast: false,
        }
    }
}

/// Trials of growing throughput: 13 sizes times 16 heartbeats, without those below the minimum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Explore {
    /// Node that broadcasts.
    pub broadcaster: u64,
    /// Pause before each trial, in which the network is rebuilt, in seconds.
    pub cool_down_seconds: u64,
    /// Length of each trial, in seconds.
    pub run_seconds: u64,
    /// Minimum throughput of a trial, in bytes per second; trials below it are left out.
    pub min_throughput_bytes_per_second: f64,
    /// Minimum message size of a trial, in bytes; trials with smaller messages are left out.
    pub min_message_size_bytes: usize,
}

impl Default for Explore {
    fn default() -> Self {
        Self {
            broadcaster: 0,
            cool_down_seconds: 100,
            run_seconds: 100,
            min_throughput_bytes_per_second: 102_400.0,
            min_message_size_bytes: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_sizes_come_as_often_as_their_weights_say() {
        let sizes = MessageSize::Weighted(vec![
            WeightedSize { bytes: 100, weight: 3.0 },
            WeightedSize { bytes: 1000, weight: 1.0 },
        ]);
        let small = (0..4000).filter(|index| sizes.of(7, 1, 2, *index) == 100).count();
        assert!((2900..3100).contains(&small), "{small} of 4000");
        assert_eq!(sizes.of(7, 1, 2, 5), sizes.of(7, 1, 2, 5));
        assert_eq!((sizes.largest(), sizes.mean()), (1000, 325.0));
    }
}
