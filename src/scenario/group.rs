//! Groups of nodes that differ from the others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nodes::Nodes;

/// Nodes with a region, a link class, a weight or a validation delay of their own. Exactly one of `nodes`, `count` and
/// `share` selects the nodes of the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// Name, which `senders` and links may use in place of node ids.
    pub name: String,
    /// Nodes by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// Number of nodes, taken in order of id from those in no earlier group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Share of all nodes, from 0 to 1, taken in order of id from those in no earlier group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Region of the links' matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Link class, by its name: `eip7870-full`, `eip7870-attester`, `eip7870-builder`, or one of `links.class`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Weight of each node, such as its stake.
    pub weight: f64,
    /// Time that a node takes to validate a gossipsub message before it forwards it, in milliseconds.
    pub validation_delay_millis: u64,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: String::new(),
            nodes: None,
            count: None,
            share: None,
            region: None,
            link: None,
            weight: 1.0,
            validation_delay_millis: 0,
        }
    }
}
