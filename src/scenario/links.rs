//! Links of a whole network, each direction with its shape.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    error::ScenarioError,
    group::Group,
    matrix::{Matrix, MatrixSource},
    nodes::Nodes,
    shape::{Shape, ShapePatch},
};

/// All directions (sender, receiver) from one set of nodes to another, and the opposite ones if `both`; none leads from
/// a node to itself.
pub fn links_between(from: &BTreeSet<u64>, to: &BTreeSet<u64>, both: bool) -> BTreeSet<(u64, u64)> {
    let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
    pairs.flat_map(|(a, b)| [Some((a, b)), both.then_some((b, a))]).flatten().collect()
}

/// One end of links: the name of a region or group, or nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The name of a region or group.
    Named(String),
    /// Nodes by id.
    Nodes(Nodes),
}

impl Default for End {
    fn default() -> Self {
        Self::Nodes(Nodes::default())
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => serializer.serialize_str(name),
            Self::Nodes(nodes) => nodes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected the name of a region or group, a node id, a list of ids, or a text such as \"0-3,7\""
        )]
        enum Written {
            Text(String),
            Nodes(Nodes),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Self::Named(text),
            Written::Nodes(nodes) if nodes.is_empty() => return Err(de::Error::custom("it names no node")),
            Written::Nodes(nodes) => Self::Nodes(nodes),
        })
    }
}

impl JsonSchema for End {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "End".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let nodes = generator.subschema_for::<Nodes>();
        schemars::json_schema!({ "description": "The name of a region or group, or nodes", "anyOf": [nodes] })
    }
}

/// Links that differ from the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRule {
    /// Senders.
    pub from: End,
    /// Receivers.
    pub to: End,
    /// Shape only this direction.
    #[serde(default)]
    pub one_way: bool,
    /// See [`Shape::latency_millis`].
    #[serde(default, alias = "latency", skip_serializing_if = "Option::is_none")]
    pub latency_millis: Option<f64>,
    /// See [`Shape::jitter_millis`].
    #[serde(default, alias = "jitter", skip_serializing_if = "Option::is_none")]
    pub jitter_millis: Option<f64>,
    /// See [`Shape::loss_percent`].
    #[serde(default, alias = "loss", skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// See [`Shape::duplicate_percent`].
    #[serde(default, alias = "duplicate", skip_serializing_if = "Option::is_none")]
    pub duplicate_percent: Option<f64>,
    /// See [`Shape::reorder_percent`].
    #[serde(default, alias = "reorder", skip_serializing_if = "Option::is_none")]
    pub reorder_percent: Option<f64>,
    /// See [`Shape::throughput_kilobytes_per_second`].
    #[serde(default, alias = "throughput", skip_serializing_if = "Option::is_none")]
    pub throughput_kilobytes_per_second: Option<u64>,
}

impl LinkRule {
    fn patch(&self) -> ShapePatch {
        ShapePatch {
            latency_millis: self.latency_millis,
            jitter_millis: self.jitter_millis,
            loss_percent: self.loss_percent,
            duplicate_percent: self.duplicate_percent,
            reorder_percent: self.reorder_percent,
            throughput_kilobytes_per_second: self.throughput_kilobytes_per_second,
        }
    }
}

/// Throughput of single interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterfaceRule {
    /// Nodes whose interfaces are meant.
    pub nodes: End,
    /// Throughput in each direction, in kilobytes per second.
    pub throughput: u64,
}

/// Throughputs of an interface with different directions, in kilobytes (1000 bytes) per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkClass {
    /// Throughput of incoming packets.
    pub down_kilobytes_per_second: u64,
    /// Throughput of outgoing packets.
    pub up_kilobytes_per_second: u64,
}

/// Built-in link classes, from EIP-7870 ("Hardware and Bandwidth Recommendations"): full node 50/15, attester 50/25,
/// local block builder 100/50 Mbit/s down/up.
const BUILT_IN: [(&str, LinkClass); 3] = [
    ("eip7870-full", LinkClass { down_kilobytes_per_second: 6250, up_kilobytes_per_second: 1875 }),
    ("eip7870-attester", LinkClass { down_kilobytes_per_second: 6250, up_kilobytes_per_second: 3125 }),
    ("eip7870-builder", LinkClass { down_kilobytes_per_second: 12_500, up_kilobytes_per_second: 6250 }),
];

/// Measurement of shaped links before and after the window, and the tolerances of its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Certificate {
    /// Time for which each shaped link is measured, before the window and after it, in seconds.
    pub probe_seconds: u64,
    /// Tolerance of a link's median latency, in percent; `latency_tolerance_millis` is added.
    pub latency_tolerance_percent: f64,
    /// Tolerance of a link's median latency, in milliseconds; `latency_tolerance_percent` is added.
    pub latency_tolerance_millis: f64,
    /// Tolerance of a link's throughput, in percent.
    pub throughput_tolerance_percent: f64,
}

impl Default for Certificate {
    fn default() -> Self {
        Self {
            probe_seconds: 3,
            latency_tolerance_percent: 2.0,
            latency_tolerance_millis: 1.0,
            throughput_tolerance_percent: 5.0,
        }
    }
}

/// Shapes of the links between nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Congestion control of the nodes' TCP connections, such as `cubic`; that of the kernel by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<String>,
    /// Use IPv6 between the nodes.
    pub ipv6: bool,
    /// Shape of every link without another rule; its throughput applies to each interface.
    pub default: Shape,
    /// Measurement of the links.
    pub certificate: Certificate,
    /// Nodes of each region; groups name regions too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, Nodes>,
    /// Latencies between regions, or the name of a CSV file that contains them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<MatrixSource>,
    /// Link classes beside the built-in ones.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub class: BTreeMap<String, LinkClass>,
    /// Rules for single links; later rules change the effect of earlier ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<LinkRule>,
    /// Rules for single interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<InterfaceRule>,
}

/// Throughputs of one interface, in kilobytes per second; none for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Rates {
    up: Option<u64>,
    down: Option<u64>,
}

/// Shape of every direction of every link, and throughput of every interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinkPlan {
    /// Shape of every link that is not in `links`; its throughput applies to each interface.
    pub default: Shape,
    /// Different shapes, by (sender, receiver).
    #[serde(skip)]
    links: BTreeMap<(u64, u64), Shape>,
    /// Throughputs of single interfaces.
    interfaces: BTreeMap<u64, Rates>,
}

fn failed(error: impl ToString) -> ScenarioError {
    ScenarioError::new(error.to_string())
}

/// Regions and groups by name.
struct Names {
    regions: BTreeMap<String, BTreeSet<u64>>,
    groups: BTreeMap<String, BTreeSet<u64>>,
    num_nodes: u64,
}

impl Names {
    /// `groups` are resolved: each has its nodes.
    fn new(links: &Links, groups: &[Group], num_nodes: u64) -> Result<Self, ScenarioError> {
        let mut names = Self { regions: BTreeMap::new(), groups: BTreeMap::new(), num_nodes };
        let mut region_of: BTreeMap<u64, String> = BTreeMap::new();
        let below = |error: String, name: &str| failed(error).below(name).below("regions");
        for (name, nodes) in &links.regions {
            let nodes = nodes.within(num_nodes).map_err(|error| below(error, name))?;
            names.add(name, nodes, &mut region_of).map_err(|error| below(error, name))?;
        }
        for group in groups {
            let nodes =
                group.nodes.as_ref().map_or_else(Default::default, |nodes| nodes.within(num_nodes).unwrap_or_default());
            if let Some(region) = &group.region {
                names.add(region, nodes.clone(), &mut region_of).map_err(|error| below(error, region))?;
            }
            names.groups.insert(group.name.clone(), nodes);
        }
        Ok(names)
    }

    fn add(&mut self, name: &str, nodes: BTreeSet<u64>, region_of: &mut BTreeMap<u64, String>) -> Result<(), String> {
        for node in &nodes {
            if let Some(other) = region_of.insert(*node, name.to_owned())
                && other != name
            {
                return Err(format!("node {node} is in two regions, {other} and {name}"));
            }
        }
        self.regions.entry(name.to_owned()).or_default().extend(nodes);
        Ok(())
    }

    fn nodes(&self, end: &End) -> Result<BTreeSet<u64>, ScenarioError> {
        let nodes = match end {
            End::Nodes(nodes) => nodes.clone(),
            End::Named(name) => match self.regions.get(name).or_else(|| self.groups.get(name)) {
                Some(nodes) => return Ok(nodes.clone()),
                None => name
                    .parse()
                    .map_err(|_| failed(format!("'{name}' is no region, no group, no node id and no range")))?,
            },
        };
        nodes.within(self.num_nodes).map_err(failed)
    }
}

impl Links {
    /// Shapes of all links in a network of `num_nodes` nodes. `groups` are resolved, and so is the matrix.
    ///
    /// # Errors
    /// The value at fault.
    pub fn plan(&self, groups: &[Group], num_nodes: u64) -> Result<LinkPlan, ScenarioError> {
        let mut plan = LinkPlan::uniform(self.default.validated().map_err(|error| failed(error).below("default"))?);
        let names = Names::new(self, groups, num_nodes)?;
        if let Some(MatrixSource::Inline(matrix)) = &self.matrix {
            plan.take_matrix(matrix, &names).map_err(|error| error.below("matrix"))?;
        }
        for (at, rule) in self.link.iter().enumerate() {
            let below = |error: ScenarioError, key: &str| error.below(key).below(at).below("link");
            let from = names.nodes(&rule.from).map_err(|error| below(error, "from"))?;
            let to = names.nodes(&rule.to).map_err(|error| below(error, "to"))?;
            let patch = rule.patch();
            for (from, to) in links_between(&from, &to, !rule.one_way) {
                let shape = plan.link(from, to).with(&patch);
                plan.links.insert((from, to), shape.map_err(|error| failed(error).below(at).below("link"))?);
            }
        }
        for (at, group) in groups.iter().enumerate() {
            let Some(name) = &group.link else { continue };
            let built_in = || BUILT_IN.iter().find(|(known, _)| known == name).map(|(_, class)| *class);
            let class = self.class.get(name).copied().or_else(built_in).ok_or_else(|| {
                let known = self.class.keys().map(String::as_str).chain(BUILT_IN.map(|(known, _)| known));
                let known: Vec<&str> = known.collect();
                ScenarioError::new(format!("'{name}' is no link class: there are {}", known.join(", ")))
                    .below("link")
                    .below(at)
                    .below("group")
            })?;
            let rates = Rates { up: Some(class.up_kilobytes_per_second), down: Some(class.down_kilobytes_per_second) };
            plan.set_interfaces(&names.nodes(&End::Named(group.name.clone()))?, rates)?;
        }
        for (at, rule) in self.interface.iter().enumerate() {
            let below = |error: ScenarioError, key: &str| error.below(key).below(at).below("interface");
            let nodes = names.nodes(&rule.nodes).map_err(|error| below(error, "nodes"))?;
            let rates = Rates { up: Some(rule.throughput), down: Some(rule.throughput) };
            plan.set_interfaces(&nodes, rates).map_err(|error| below(error, "throughput"))?;
        }
        Ok(plan)
    }
}

impl LinkPlan {
    /// A plan in which all links have the same shape.
    pub fn uniform(shape: Shape) -> Self {
        Self { default: shape, ..Self::default() }
    }

    fn set_interfaces(&mut self, nodes: &BTreeSet<u64>, rates: Rates) -> Result<(), ScenarioError> {
        for rate in [rates.up, rates.down] {
            let shape = Shape { throughput_kilobytes_per_second: rate, ..Shape::default() };
            shape.validated().map_err(failed)?;
        }
        self.interfaces.extend(nodes.iter().map(|node| (*node, rates)));
        Ok(())
    }

    /// Every node must be in a region of the matrix, because the links of a forgotten node would stay unshaped.
    fn take_matrix(&mut self, matrix: &Matrix, names: &Names) -> Result<(), ScenarioError> {
        matrix.check()?;
        let nodes: Vec<BTreeSet<u64>> =
            matrix.regions.iter().map(|name| names.regions.get(name).cloned().unwrap_or_default()).collect();
        let mut left_out = (0..names.num_nodes).filter(|node| !nodes.iter().any(|nodes| nodes.contains(node)));
        if let Some(first) = left_out.next() {
            let more = left_out.count();
            let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
            return Err(failed(format!(
                "node {first}{and_more} of {} in no region of the matrix: give every node a region there",
                names.num_nodes
            )));
        }
        for (row, senders) in matrix.latency.iter().zip(&nodes) {
            for (latency, receivers) in row.iter().zip(&nodes) {
                let shape = Shape { latency_millis: *latency, throughput_kilobytes_per_second: None, ..self.default };
                let shape = shape.validated().map_err(|error| failed(error).below("latency"))?;
                for from in senders {
                    self.links.extend(receivers.iter().filter(|to| *to != from).map(|to| ((*from, *to), shape)));
                }
            }
        }
        Ok(())
    }

    /// Shape of a link in one direction, without the throughput of the interfaces at its ends.
    pub fn link(&self, from: u64, to: u64) -> Shape {
        let all = Shape { throughput_kilobytes_per_second: None, ..self.default };
        self.links.get(&(from, to)).copied().unwrap_or(all)
    }

    /// Throughput of a node's outgoing traffic, in kilobytes per second.
    pub fn upload(&self, node: u64) -> Option<u64> {
        self.rate(node, |rates| rates.up)
    }

    /// Throughput of a node's incoming traffic, in kilobytes per second.
    pub fn download(&self, node: u64) -> Option<u64> {
        self.rate(node, |rates| rates.down)
    }

    fn rate(&self, node: u64, of: impl Fn(&Rates) -> Option<u64>) -> Option<u64> {
        self.interfaces.get(&node).and_then(of).or(self.default.throughput_kilobytes_per_second)
    }

    /// True if links differ from one another by more than their interfaces.
    pub fn differs_by_link(&self) -> bool {
        !self.links.is_empty()
    }

    /// All shapes that links have.
    pub fn shapes(&self) -> impl Iterator<Item = &Shape> {
        std::iter::once(&self.default).chain(self.links.values())
    }

    /// Least latency, less its jitter, of any link between this number of nodes, in milliseconds.
    pub fn least_latency_millis(&self, nodes: u64) -> f64 {
        let all = nodes.saturating_mul(nodes.saturating_sub(1));
        let default = ((self.links.len() as u64) < all).then_some(&self.default);
        let least =
            default.into_iter().chain(self.links.values()).map(|shape| shape.latency_millis - shape.jitter_millis);
        least.fold(f64::INFINITY, f64::min)
    }

    /// Changes one direction of a link.
    pub fn set_link(&mut self, from: u64, to: u64, shape: Shape) {
        self.links.insert((from, to), shape);
    }

    /// Effective shape of a link in one direction: its own, and the throughput of the interfaces at its ends.
    pub fn effective_shape(&self, from: u64, to: u64) -> Shape {
        let link = self.link(from, to);
        let rates = [link.throughput_kilobytes_per_second, self.upload(from), self.download(to)];
        Shape { throughput_kilobytes_per_second: rates.into_iter().flatten().min(), ..link }
    }

    /// True if nothing is shaped.
    pub fn is_unshaped(&self) -> bool {
        self.default.is_unshaped() && self.interfaces.is_empty() && self.links.values().all(Shape::is_unshaped)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_links;
    use super::*;

    fn parse(text: &str, num_nodes: u64) -> Result<LinkPlan, String> {
        let links = parse_links("x", text).map_err(|error| error.to_string())?;
        links.plan(Shape::default(), num_nodes).map_err(|error| error.to_string())
    }

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
    fn a_default_that_no_link_takes_does_not_count_for_the_least_latency() {
        let shape = |text: &str| text.parse::<Shape>().unwrap();
        let mut plan = LinkPlan { default: shape("latency=0"), ..LinkPlan::default() };
        for (from, to, text) in [(0, 1, "latency=50,jitter=20"), (1, 0, "latency=40")] {
            plan.set_link(from, to, shape(text));
        }
        assert_eq!((plan.least_latency_millis(2), plan.least_latency_millis(3)), (30.0, 0.0));
    }

    #[test]
    fn regions_links_and_interfaces_are_read() {
        let plan = parse(REGIONS, 4).unwrap();
        let text = |from, to| plan.effective_shape(from, to).to_string();
        assert_eq!(text(0, 2), "latency=44,throughput=20000");
        assert_eq!(text(2, 0), "latency=45,throughput=20000");
        assert_eq!(text(0, 1), "latency=1,throughput=500");
        assert_eq!(text(1, 0), "latency=1,throughput=20000");
        assert_eq!(text(3, 2), "latency=10,loss=0.5,throughput=1000");
        assert_eq!(text(3, 0), "throughput=1000");
        assert_eq!(plan.upload(2), Some(20_000));
        assert!(plan.differs_by_link());
    }

    #[test]
    fn the_example_is_good() {
        let plan = parse(include_str!("../../examples/regions.toml"), 4).unwrap();
        assert_eq!(plan.effective_shape(3, 0).to_string(), "latency=45,loss=0.5,throughput=5000");
    }

    #[test]
    fn an_error_is_reported_in_one_line() {
        for (text, says) in [
            ("latency = 5", "x:1:1: unknown field `latency`"),
            ("[regions]\na = 9", "regions.a: node 9 is outside"),
            ("[regions]\na = [0, 1]\nb = \"1-2\"", "node 1 is in two regions"),
            ("[[link]]\nfrom = 0\nto = \"mars\"\nlatency = 1", "'mars' is no region"),
            ("[[link]]\nfrom = 0\nto = 1\nlatency = \"x\"", "expected f64"),
            ("[[link]]\nfrom = 0\nto = 1\nspeed = 1", "unknown field `speed`"),
            ("[matrix]\nregions = [\"a\"]\nlatency = [[0]]", "matrix: node 0 and 3 more of 4 in no region"),
            (
                "[regions]\na = 0\n[matrix]\nregions = [\"a\"]\nlatency = [[0]]",
                "matrix: node 1 and 2 more of 4 in no region",
            ),
            (
                "[regions]\na = \"0-2\"\nb = 3\n[matrix]\nregions = [\"a\"]\nlatency = [[0]]",
                "matrix: node 3 of 4 in no region",
            ),
            ("[regions]\na = \"0-3\"\n[matrix]\nregions = [\"a\", \"a\"]\nlatency = [[0, 1], [2, 3]]", "named twice"),
            ("[matrix]\nregions = [\"a\"]\nlatency = []", "matrix.latency: latency must have 1 rows"),
            ("[default]\nloss = 200", "default: loss 200"),
            (
                "[regions]\na = \"0-99999999999\"",
                "regions.a: node 99999999999 is outside of the network: its nodes are 0 to 3",
            ),
            ("[[link]]\nfrom = \"0-4000000000\"\nto = 0\nlatency = 1", "node 4000000000 is outside"),
            ("[[interface]]\nnodes = \"0-18446744073709551615\"\nthroughput = 100", "is outside"),
        ] {
            let error = parse(text, 4).unwrap_err();
            assert!(error.contains(says) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
