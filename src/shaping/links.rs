//! The links of a whole network, each direction with its shape, from flags and from a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;

use super::shape::Shape;
use crate::paths::read_text;

/// Largest file of links that is read, in bytes: a matrix of 1000 regions is about 6 MB.
const FILE_LIMIT: u64 = 16 << 20;

/// Why a file of links can't be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct LinkPlanError(pub String);

/// Nodes as they are named: one, a list, or text such as `0-3,7`. Of ranges only the ends are kept: a short text can name
/// more nodes than memory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(Vec<(u64, u64)>);

impl Nodes {
    /// Whether no node is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nodes, all of which must be in a network of `num_nodes`.
    ///
    /// # Errors
    /// One line that names a node outside of it.
    pub fn within(&self, num_nodes: u64) -> Result<BTreeSet<u64>, String> {
        match self.0.iter().find(|(_, last)| *last >= num_nodes) {
            Some((_, last)) => {
                let end = num_nodes.saturating_sub(1);
                Err(format!("node {last} is outside of the network: its nodes are 0 to {end}"))
            }
            None => Ok(self.0.iter().flat_map(|(first, last)| *first..=*last).collect()),
        }
    }
}

impl std::str::FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let ends = first.trim().parse().ok().zip(last.trim().parse().ok());
            ends.filter(|(first, last)| first <= last)
                .ok_or_else(|| format!("'{part}' is no node id and no range such as 0-3"))
        };
        parts.map(range).collect::<Result<_, _>>().map(Self)
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
            Written::One(node) => Ok(Self(vec![(node, node)])),
            Written::List(nodes) => Ok(Self(nodes.into_iter().map(|node| (node, node)).collect())),
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
        let mut regions: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        let mut region_of: BTreeMap<u64, &str> = BTreeMap::new();
        for (name, nodes) in &file.regions {
            let nodes = nodes.within(num_nodes).map_err(|error| failed(&format!("region {name}"), &error))?;
            for node in &nodes {
                if let Some(other) = region_of.insert(*node, name) {
                    return Err(LinkPlanError(format!("node {node} is in two regions, {other} and {name}")));
                }
            }
            regions.insert(name, nodes);
        }
        let nodes_of = |end: &End| -> Result<BTreeSet<u64>, LinkPlanError> {
            let nodes = match end {
                End::Nodes(node) => Nodes(vec![(*node, *node)]),
                End::List(nodes) => Nodes(nodes.iter().map(|node| (*node, *node)).collect()),
                End::Text(text) => match regions.get(text.as_str()) {
                    Some(nodes) => return Ok(nodes.clone()),
                    None => text
                        .parse()
                        .map_err(|_| LinkPlanError(format!("'{text}' is no region, no node id and no range")))?,
                },
            };
            nodes.within(num_nodes).map_err(LinkPlanError)
        };
        if let Some(matrix) = &file.matrix {
            plan.take_matrix(matrix, &regions, num_nodes)?;
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

    /// Every node must be in a region of the matrix: the links of one that was forgotten would go unshaped.
    fn take_matrix(
        &mut self,
        matrix: &Matrix,
        regions: &BTreeMap<&str, BTreeSet<u64>>,
        num_nodes: u64,
    ) -> Result<(), LinkPlanError> {
        let count = matrix.regions.len();
        if matrix.latency.len() != count || matrix.latency.iter().any(|row| row.len() != count) {
            return Err(LinkPlanError(format!(
                "matrix: latency must have {count} rows of {count} numbers, as regions has"
            )));
        }
        if let Some(twice) = matrix.regions.iter().enumerate().find(|(at, name)| matrix.regions[..*at].contains(name)) {
            return Err(LinkPlanError(format!("matrix: region '{}' is named twice", twice.1)));
        }
        let nodes: Vec<&BTreeSet<u64>> = matrix
            .regions
            .iter()
            .map(|name| {
                regions.get(name.as_str()).ok_or_else(|| LinkPlanError(format!("matrix: there is no region '{name}'")))
            })
            .collect::<Result<_, _>>()?;
        let mut left_out = (0..num_nodes).filter(|node| !nodes.iter().any(|nodes| nodes.contains(node)));
        if let Some(first) = left_out.next() {
            let more = left_out.count();
            let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
            return Err(LinkPlanError(format!(
                "matrix: node {first}{and_more} of {num_nodes} in no region of the matrix: give every node a region there"
            )));
        }
        for (row, senders) in matrix.latency.iter().zip(&nodes) {
            for (latency, receivers) in row.iter().zip(&nodes) {
                let shape = Shape { latency_millis: *latency, throughput_kilobytes_per_second: None, ..self.default };
                let shape = shape.validated().map_err(|error| LinkPlanError(format!("matrix: {error}")))?;
                for from in *senders {
                    self.links.extend(receivers.iter().filter(|to| *to != from).map(|to| ((*from, *to), shape)));
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
        tokyo = 3
        [matrix]
        regions = ["frankfurt", "virginia", "tokyo"]
        latency = [[1, 44, 0], [45, 0, 0], [0, 0, 0]]
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
    fn a_file_may_come_from_an_editor_of_windows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links.toml");
        std::fs::write(&path, format!("\u{feff}{}", REGIONS.replace('\n', "\r\n"))).unwrap();
        let plan = LinkPlan::read(&path, Shape::default(), 4).unwrap();
        assert_eq!(plan, LinkPlan::parse(REGIONS, Shape::default(), 4).unwrap());
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
            (
                "[regions]\na = 0\n[matrix]\nregions = [\"a\"]\nlatency = [[0]]",
                "matrix: node 1 and 2 more of 4 in no region",
            ),
            (
                "[regions]\na = \"0-2\"\nb = 3\n[matrix]\nregions = [\"a\"]\nlatency = [[0]]",
                "matrix: node 3 of 4 in no region",
            ),
            ("[regions]\na = \"0-3\"\n[matrix]\nregions = [\"a\", \"a\"]\nlatency = [[0, 1], [2, 3]]", "named twice"),
            ("[matrix]\nregions = [\"a\"]\nlatency = []", "matrix: latency must have 1 rows"),
            ("[default]\nloss = 200", "[default]: loss 200"),
            (
                "[regions]\na = \"0-99999999999\"",
                "region a: node 99999999999 is outside of the network: its nodes are 0 to 3",
            ),
            ("[[link]]\nfrom = \"0-4000000000\"\nto = 0\nlatency = 1", "node 4000000000 is outside"),
            ("[[interface]]\nnodes = \"0-18446744073709551615\"\nthroughput = 100", "is outside"),
        ] {
            let error = LinkPlan::parse(text, Shape::default(), 4).unwrap_err().to_string();
            assert!(error.contains(says) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
