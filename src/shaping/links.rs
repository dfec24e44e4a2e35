//! The links of a whole network, each direction with its shape, from flags and from a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;

use super::shape::Shape;
use crate::command_line::read_text;

/// Largest file of links that is read, in bytes: a matrix of 1000 regions is about 6 MB.
const FILE_LIMIT: u64 = 16 << 20;

/// Why a file of links can't be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct LinkPlanError(pub String);

/// A set of nodes: one, a list, or text such as `0-3,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Nodes(pub BTreeSet<u64>);

/// Most nodes that a text may name: a range is written shortly and can be far too long.
const MOST_NODES: usize = 10_000;

impl std::str::FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut nodes = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let bad = |_| format!("'{part}' is no node id and no range such as 0-3");
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.trim().parse().map_err(bad)?, last.trim().parse().map_err(bad)?);
            if first > last || last - first >= MOST_NODES as u64 {
                return Err(format!("'{part}' is no range of at most {MOST_NODES} nodes"));
            }
            nodes.extend(first..=last);
            if nodes.len() > MOST_NODES {
                return Err(format!("'{text}' names more than {MOST_NODES} nodes"));
            }
        }
        Ok(Self(nodes))
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a node id, a list of them, or a text such as \"0-3,7\"")]
        enum Written {
            One(u64),
            List(BTreeSet<u64>),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::One(node) => Ok(Self([node].into())),
            Written::List(nodes) => Ok(Self(nodes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// Every direction (sender, receiver) from one set of nodes to another, and back again too if `both`; none leads from a
/// node to itself.
pub fn links_between(from: &BTreeSet<u64>, to: &BTreeSet<u64>, both: bool) -> BTreeSet<(u64, u64)> {
    let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
    pairs.flat_map(|(a, b)| [Some((a, b)), both.then_some((b, a))]).flatten().collect()
}

/// A region's name, or nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "the name of a region, a node id, a list of them, or a text such as \"0-3,7\"")]
enum End {
    Nodes(u64),
    List(BTreeSet<u64>),
    Text(String),
}

// Every key that is none of these is one of a shape, or refused as that.
#[derive(Debug, Deserialize)]
struct LinkRule {
    from: End,
    to: End,
    #[serde(default)]
    one_way: bool,
    #[serde(flatten)]
    shape: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    /// Rows send, columns receive; in this order.
    regions: Vec<String>,
    /// One-way milliseconds.
    latency: Vec<Vec<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    default: Option<Shape>,
    regions: BTreeMap<String, Nodes>,
    matrix: Option<Matrix>,
    link: Vec<LinkRule>,
    interface: Vec<InterfaceRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceRule {
    nodes: End,
    throughput: u64,
}

/// The shape of every direction of every link, and the throughput of every interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinkPlan {
    /// What every link is like that is not in `links`; its throughput is that of each interface.
    pub default: Shape,
    /// (sender, receiver, shape), of those that differ.
    #[serde(skip)]
    links: BTreeMap<(u64, u64), Shape>,
    /// Throughput of single interfaces, in kilobytes per second.
    interfaces: BTreeMap<u64, u64>,
}

impl LinkPlan {
    /// Every link alike.
    pub fn uniform(shape: Shape) -> Self {
        Self { default: shape, ..Self::default() }
    }

    /// Reads a file of links; what it does not say comes from `default`.
    ///
    /// # Errors
    /// One line that names the file and what is wrong.
    pub fn read(path: &Path, default: Shape, num_nodes: u64) -> Result<Self, LinkPlanError> {
        let error = |words: String| LinkPlanError(format!("--links {}: {words}", path.display()));
        let text = read_text(path, FILE_LIMIT).map_err(error)?;
        Self::parse(&text, default, num_nodes).map_err(|words| error(words.0))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn parse(text: &str, default: Shape, num_nodes: u64) -> Result<Self, LinkPlanError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            LinkPlanError(format!("line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let failed = |what: &str, error: &dyn std::fmt::Display| LinkPlanError(format!("{what}: {error}"));
        if file.default.is_some() && !default.is_free() {
            return Err(LinkPlanError(
                "both [default] and flags such as --latency say what all links are like: give one".into(),
            ));
        }
        let default = file.default.unwrap_or(default);
        let mut plan = Self::uniform(default.validated().map_err(|error| failed("[default]", &error))?);
        let outside = |node: &u64| *node >= num_nodes;
        let mut region_of: BTreeMap<u64, &str> = BTreeMap::new();
        for (name, nodes) in &file.regions {
            for node in &nodes.0 {
                if outside(node) {
                    return Err(LinkPlanError(format!(
                        "region {name}: node {node} is outside of the {num_nodes} nodes"
                    )));
                }
                if let Some(other) = region_of.insert(*node, name) {
                    return Err(LinkPlanError(format!("node {node} is in two regions, {other} and {name}")));
                }
            }
        }
        let nodes_of = |end: &End| -> Result<BTreeSet<u64>, LinkPlanError> {
            let nodes = match end {
                End::Nodes(node) => [*node].into(),
                End::List(nodes) => nodes.clone(),
                End::Text(text) => match file.regions.get(text) {
                    Some(nodes) => nodes.0.clone(),
                    None => {
                        text.parse::<Nodes>()
                            .map_err(|_| LinkPlanError(format!("'{text}' is no region, no node id and no range")))?
                            .0
                    }
                },
            };
            match nodes.iter().find(|node| outside(node)) {
                Some(node) => Err(LinkPlanError(format!("node {node} is outside of the {num_nodes} nodes"))),
                None => Ok(nodes),
            }
        };
        if let Some(matrix) = &file.matrix {
            plan.take_matrix(matrix, &file.regions)?;
        }
        for (number, rule) in file.link.iter().enumerate() {
            let what = format!("link {}", number + 1);
            let (from, to) = (nodes_of(&rule.from)?, nodes_of(&rule.to)?);
            let given: Vec<String> = rule.shape.iter().map(|(key, value)| format!("{key}={value}")).collect();
            for (from, to) in links_between(&from, &to, !rule.one_way) {
                let shape = plan.link(from, to).with(&given.join(",")).map_err(|error| failed(&what, &error))?;
                plan.links.insert((from, to), shape);
            }
        }
        for rule in &file.interface {
            let shape = Shape { throughput_kilobytes_per_second: Some(rule.throughput), ..Shape::default() };
            shape.validated().map_err(|error| failed("interface", &error))?;
            plan.interfaces.extend(nodes_of(&rule.nodes)?.into_iter().map(|node| (node, rule.throughput)));
        }
        Ok(plan)
    }

    fn take_matrix(&mut self, matrix: &Matrix, regions: &BTreeMap<String, Nodes>) -> Result<(), LinkPlanError> {
        let count = matrix.regions.len();
        if matrix.latency.len() != count || matrix.latency.iter().any(|row| row.len() != count) {
            return Err(LinkPlanError(format!(
                "matrix: latency must have {count} rows of {count} numbers, as regions has"
            )));
        }
        let nodes: Vec<&Nodes> = matrix
            .regions
            .iter()
            .map(|name| regions.get(name).ok_or_else(|| LinkPlanError(format!("matrix: there is no region '{name}'"))))
            .collect::<Result<_, _>>()?;
        for (row, senders) in matrix.latency.iter().zip(&nodes) {
            for (latency, receivers) in row.iter().zip(&nodes) {
                let shape = Shape { latency_millis: *latency, throughput_kilobytes_per_second: None, ..self.default };
                let shape = shape.validated().map_err(|error| LinkPlanError(format!("matrix: {error}")))?;
                for from in &senders.0 {
                    self.links.extend(receivers.0.iter().filter(|to| *to != from).map(|to| ((*from, *to), shape)));
                }
            }
        }
        Ok(())
    }

    /// What a link is like, one way; without the throughput of the interfaces at its ends.
    pub fn link(&self, from: u64, to: u64) -> Shape {
        let all = Shape { throughput_kilobytes_per_second: None, ..self.default };
        self.links.get(&(from, to)).copied().unwrap_or(all)
    }

    /// Throughput of a node's interface, in kilobytes per second, each way.
    pub fn interface(&self, node: u64) -> Option<u64> {
        self.interfaces.get(&node).copied().or(self.default.throughput_kilobytes_per_second)
    }

    /// Whether links differ from one another by more than their interfaces.
    pub fn differs_by_link(&self) -> bool {
        !self.links.is_empty()
    }

    /// All shapes that links have.
    pub fn shapes(&self) -> impl Iterator<Item = &Shape> {
        std::iter::once(&self.default).chain(self.links.values())
    }

    /// Changes one direction of a link.
    pub fn set_link(&mut self, from: u64, to: u64, shape: Shape) {
        self.links.insert((from, to), shape);
    }

    /// All of a link, one way: its shape and the throughput of the interfaces at its ends.
    pub fn whole(&self, from: u64, to: u64) -> Shape {
        let link = self.link(from, to);
        let rates = [link.throughput_kilobytes_per_second, self.interface(from), self.interface(to)];
        Shape { throughput_kilobytes_per_second: rates.into_iter().flatten().min(), ..link }
    }

    /// Whether nothing is shaped.
    pub fn is_free(&self) -> bool {
        self.default.is_free() && self.interfaces.is_empty() && self.links.values().all(Shape::is_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGIONS: &str = r#"
        [default]
        jitter = 0
        throughput = 20000
        [regions]
        frankfurt = "0-1"
        virginia = [2]
        [matrix]
        regions = ["frankfurt", "virginia"]
        latency = [[1, 44], [45, 0]]
        [[link]]
        from = "virginia"
        to = 3
        latency = 10
        loss = 0.5
        [[link]]
        from = 0
        to = 1
        throughput = 500
        one_way = true
        [[interface]]
        nodes = 3
        throughput = 1000
    "#;

    #[test]
    fn regions_links_and_interfaces_are_read() {
        let plan = LinkPlan::parse(REGIONS, Shape::default(), 4).unwrap();
        let text = |from, to| plan.whole(from, to).to_string();
        assert_eq!(text(0, 2), "latency=44,throughput=20000");
        assert_eq!(text(2, 0), "latency=45,throughput=20000");
        assert_eq!(text(0, 1), "latency=1,throughput=500");
        assert_eq!(text(1, 0), "latency=1,throughput=20000");
        assert_eq!(text(3, 2), "latency=10,loss=0.5,throughput=1000");
        assert_eq!(text(3, 0), "throughput=1000");
        assert_eq!(plan.interface(2), Some(20_000));
        assert!(plan.differs_by_link());
    }

    #[test]
    fn the_example_is_good() {
        let plan = LinkPlan::parse(include_str!("../../examples/regions.toml"), Shape::default(), 4).unwrap();
        assert_eq!(plan.whole(3, 0).to_string(), "latency=45,loss=0.5,throughput=5000");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (text, says) in [
            ("latency = 5", "line 1: unknown field `latency`"),
            ("[regions]\na = 9", "region a: node 9 is outside"),
            ("[regions]\na = [0, 1]\nb = \"1-2\"", "node 1 is in two regions"),
            ("[[link]]\nfrom = 0\nto = \"mars\"\nlatency = 1", "'mars' is no region"),
            ("[[link]]\nfrom = 0\nto = 1\nlatency = \"x\"", "expected f64"),
            ("[[link]]\nfrom = 0\nto = 1\nspeed = 1", "link 1: 'speed=1' is none of"),
            ("[matrix]\nregions = [\"a\"]\nlatency = [[0]]", "matrix: there is no region 'a'"),
            ("[matrix]\nregions = [\"a\"]\nlatency = []", "matrix: latency must have 1 rows"),
            ("[default]\nloss = 200", "[default]: loss 200"),
            ("[regions]\na = \"0-99999999999\"", "is no range of at most"),
        ] {
            let error = LinkPlan::parse(text, Shape::default(), 4).unwrap_err().to_string();
            assert!(error.contains(says) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
