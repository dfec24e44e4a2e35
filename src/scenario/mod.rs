//! Description of an experiment: nodes, topology, network, traffic, links, faults and durations.
//!
//! A [`Scenario`] is plain data. Command lines, scenario files, the manifest of a run and the configuration of a node
//! all contain this one type. Only [`Scenario::resolve`] checks values against each other, and fills in values that
//! follow from others. Nothing here reads a file, a clock or the environment.

mod choice;
mod error;
mod fault;
mod fault_schedule;
mod group;
mod links;
mod matrix;
mod measurement;
mod network;
mod nodes;
mod objective;
mod parse;
mod propeller;
mod resolve;
mod shape;
mod sweep;
#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests;
mod topology;
mod traffic;

pub use choice::{Choice, choices};
pub use error::{FileError, ScenarioError, Step};
pub use fault::{Fault, FaultAction, FaultLink, Pick, Repeat};
pub use fault_schedule::{
    Action, Directions, FaultSchedule, MAX_FAULT_TIMES, NodeGroups, PlannedFault, check_degradations,
};
pub use group::Group;
pub use links::{Certificate, End, InterfaceRule, LinkClass, LinkPlan, LinkRule, Links, links_between};
pub use matrix::{Matrix, MatrixSource};
pub use measurement::Measurement;
pub use network::{GossipSettings, Network, NodeSettings, PropellerSettings, Protocol, Transport};
pub use nodes::Nodes;
pub use objective::{Bound, Objective, Relation};
pub use parse::{LinksText, ScenarioText, parse, parse_links, read_toml, to_toml};
pub use propeller::{MAX_PROPELLER_FRAME, data_shards, largest_propeller_message, shard_bytes, unit_bytes};
pub use resolve::{MAX_MESSAGE_SIZE, MAX_NODES, MIN_CLASS_MESSAGE_SIZE, MIN_MESSAGE_SIZE};
pub use shape::{Shape, ShapeError, ShapePatch};
pub use sweep::{MAX_TRIALS, SweepValue};
pub use topology::{Edge, Topology, TopologyKind};
pub use traffic::{
    DEFAULT_CLASS, Explore, MAX_CLASSES, MessageSize, Mode, SendPhase, Senders, TrafficClass, WeightedSize,
};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An experiment: it determines the messages between the nodes, the links, and the duration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Name of the scenario, shown in results.
    pub name: String,
    /// Purpose of the scenario in a sentence or two.
    pub description: String,
    /// Seed of every random choice: topology, offsets of senders, sizes of messages, nodes of faults.
    pub seed: u64,
    /// Number of nodes, and the settings of each node's program.
    pub nodes: NodeSettings,
    /// Protocol, transport and queues.
    pub network: Network,
    /// Peers of each node.
    pub topology: Topology,
    /// Lengths of the phases of a run.
    pub measurement: Measurement,
    /// Trials of growing throughput in place of `traffic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explore: Option<Explore>,
    /// Bounds that figures of the result must keep, such as `delivery_ratio >= 0.999`; a run that misses one ends with
    /// exit code 3.
    pub expect: Vec<Objective>,
    /// Values to try, by key of the scenario: `apollo-bench sweep` makes a trial of each combination.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sweep: BTreeMap<String, Vec<SweepValue>>,
    /// Faults during the measurement, such as `5s kill 2`; times count from the opening of the window.
    pub faults: Vec<Fault>,
    /// Groups of nodes with a region, a link class, a weight or a validation delay of their own.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    /// Shapes of the links between nodes.
    pub links: Links,
    /// Traffic classes; the number of a class is its place in this list.
    pub traffic: Vec<TrafficClass>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "unnamed".into(),
            description: String::new(),
            seed: 0,
            nodes: NodeSettings::default(),
            network: Network::default(),
            topology: Topology::default(),
            measurement: Measurement::default(),
            explore: None,
            expect: vec![],
            sweep: BTreeMap::new(),
            faults: vec![],
            groups: vec![],
            links: Links::default(),
            traffic: vec![],
        }
    }
}

impl Scenario {
    /// Names of the traffic classes, or of the mode in their place.
    pub fn traffic_names(&self) -> String {
        match &self.explore {
            Some(_) => "explore".into(),
            None => self.traffic.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", "),
        }
    }

    /// First difference in the messages between the nodes, between two resolved scenarios; none if they are the same.
    pub fn traffic_difference(&self, other: &Self) -> Option<String> {
        let pairs = [
            ("nodes.count", self.nodes.count.to_string(), other.nodes.count.to_string()),
            ("seed", self.seed.to_string(), other.seed.to_string()),
            ("network.transport", self.network.transport.to_string(), other.network.transport.to_string()),
        ];
        if let Some((key, own, others)) = pairs.into_iter().find(|(_, own, others)| own != others) {
            return Some(format!("{key} is {own}, and {others} is expected"));
        }
        let key = match () {
            () if self.topology != other.topology => "topology",
            () if self.explore != other.explore => "explore",
            () if self.traffic != other.traffic => "traffic",
            () => return None,
        };
        Some(format!("{key} differs"))
    }

    /// Names of the protocols that a resolved scenario uses, separated by commas.
    pub fn protocols(&self) -> String {
        let mut names: Vec<String> = vec![];
        let used = self.traffic.iter().map(|class| class.protocol.unwrap_or(self.network.protocol).to_string());
        for name in used.chain(self.explore.iter().map(|_| self.network.protocol.to_string())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(",")
    }

    /// Mode of the command line that is nearest to a resolved scenario.
    pub fn mode(&self) -> Mode {
        match (&self.explore, self.traffic.first().map(|class| &class.senders)) {
            (Some(_), _) => Mode::Explore,
            (None, Some(Senders::Turns)) => Mode::Rr,
            (None, Some(Senders::Nodes(_))) => Mode::One,
            (None, _) => Mode::All,
        }
    }
}
