//! Topologies: the peers of each node.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{choice::choice, error::ScenarioError, nodes::Nodes};

choice! {
    /// Kind of a topology.
    #[derive(Default)]
    pub enum TopologyKind {
        /// Every node is a peer of every other.
        #[default]
        Full = "full",
        /// Every node has the same number of peers, chosen by the seed.
        Random = "random",
        /// `edges` lists the peers.
        Edges = "edges",
    }
}

/// Peers of each node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Topology {
    /// Kind of the topology.
    pub kind: TopologyKind,
    /// Number of peers of each node in a random topology.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<u64>,
    /// Edges such as `0-1`, each one connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<Edge>,
}

/// A connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Edge(pub u64, pub u64);

impl Serialize for Edge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}-{}", self.0, self.1))
    }
}

impl<'de> Deserialize<'de> for Edge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ends = text.split_once('-').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        ends.map(|(a, b)| Self(a, b))
            .ok_or_else(|| de::Error::custom(format!("'{text}' is no edge: write two node ids, such as \"0-1\"")))
    }
}

/// Swaps of edges for each edge of a random topology: a few times the number of edges mixes a regular graph well (Milo
/// et al., "On the uniform generation of random graphs with prescribed degree sequences", 2003, take 100).
const SWAPS: usize = 100;

/// Attempts to get a connected graph; a random graph with three or more peers is almost always connected.
const TRIES: u64 = 100;

impl Topology {
    /// True if every node is a peer of every other.
    pub fn is_full(&self) -> bool {
        self.kind == TopologyKind::Full
    }

    /// Peers of every node, by id. Peers are mutual, and every node reaches every other one over some path.
    ///
    /// # Errors
    /// One line with the reason why no such network exists.
    pub fn neighbours(&self, num_nodes: u64, seed: u64) -> Result<Vec<BTreeSet<u64>>, ScenarioError> {
        self.check_keys()?;
        let graph = match self.kind {
            TopologyKind::Full => {
                return Ok((0..num_nodes).map(|node| (0..num_nodes).filter(|peer| *peer != node).collect()).collect());
            }
            TopologyKind::Random => self.random(num_nodes, seed)?,
            TopologyKind::Edges => self.edge_list(num_nodes)?,
        };
        match first_unreached(&graph) {
            Some(node) => Err(ScenarioError::new(format!(
                "no path leads from node 0 to node {node}: add an edge between the two parts of the network"
            ))
            .below("edges")),
            None => Ok(graph),
        }
    }

    fn check_keys(&self) -> Result<(), ScenarioError> {
        let kind = self.kind;
        if self.peers.is_some() && kind != TopologyKind::Random {
            return Err(
                ScenarioError::new(format!("belongs to kind = \"random\", and kind is \"{kind}\"")).below("peers")
            );
        }
        if !self.edges.is_empty() && kind != TopologyKind::Edges {
            return Err(
                ScenarioError::new(format!("belong to kind = \"edges\", and kind is \"{kind}\"")).below("edges")
            );
        }
        Ok(())
    }

    fn edge_list(&self, num_nodes: u64) -> Result<Vec<BTreeSet<u64>>, ScenarioError> {
        let mut graph = vec![BTreeSet::new(); usize::try_from(num_nodes).unwrap_or(0)];
        for (at, Edge(a, b)) in self.edges.iter().enumerate() {
            let error = |message: String| ScenarioError::new(message).below(at).below("edges");
            if a == b {
                return Err(error(format!("node {a} can't be a peer of itself")));
            }
            [*a, *b].into_iter().collect::<Nodes>().within(num_nodes).map_err(error)?;
            for (from, to) in [(*a, *b), (*b, *a)] {
                graph.get_mut(usize::try_from(from).unwrap_or(usize::MAX)).map(|peers| peers.insert(to));
            }
        }
        Ok(graph)
    }

    /// A random graph in which every node has the same number of peers: a ring lattice whose edges are swapped at
    /// random, which keeps the degrees. With an odd number of nodes and of peers, one node has a peer fewer.
    fn random(&self, num_nodes: u64, seed: u64) -> Result<Vec<BTreeSet<u64>>, ScenarioError> {
        let error = |message: String| ScenarioError::new(message).below("peers");
        let peers = self.peers.ok_or_else(|| error("is missing: a random topology needs a number of peers".into()))?;
        let most = num_nodes.saturating_sub(1);
        if num_nodes == 1 && peers == 0 {
            return Ok(vec![BTreeSet::new()]);
        }
        if peers == 0 || peers > most {
            return Err(error(format!("{peers} is not possible: a node of {num_nodes} has 1 to {most} peers")));
        }
        if peers == 1 && num_nodes > 2 {
            return Err(error("1 leaves the network in pieces: give 2 or more".into()));
        }
        let lattice = lattice(num_nodes, peers);
        for attempt in 0..TRIES {
            let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let graph = shuffled(&lattice, num_nodes, &mut random);
            if first_unreached(&graph).is_none() {
                return Ok(graph);
            }
        }
        Err(error(format!("no connected network of {peers} peers a node was found: give more peers")))
    }
}

/// Edges of a ring in which every node is connected to its nearest nodes.
fn lattice(num_nodes: u64, peers: u64) -> Vec<(u64, u64)> {
    let mut edges: Vec<(u64, u64)> = (1..=peers / 2)
        .flat_map(|distance| (0..num_nodes).map(move |node| (node, (node + distance) % num_nodes)))
        .collect();
    if peers % 2 == 1 {
        // With an odd number of nodes, one is left over.
        let half = num_nodes / 2;
        edges.extend((0..half).map(|node| (node, node + half)));
    }
    edges
}

/// The graph of `edges` after random swaps of two edges' ends, with shuffled node ids.
fn shuffled(edges: &[(u64, u64)], num_nodes: u64, random: &mut ChaCha8Rng) -> Vec<BTreeSet<u64>> {
    let mut edges = edges.to_vec();
    let mut present: BTreeSet<(u64, u64)> = edges.iter().map(|edge| ordered(*edge)).collect();
    for _ in 0..edges.len().saturating_mul(SWAPS) {
        let (one, other) = (random.random_range(0..edges.len()), random.random_range(0..edges.len()));
        let ((a, b), (c, d)) = (edges[one], edges[other]);
        let (c, d) = if random.random() { (c, d) } else { (d, c) };
        let (first, second) = (ordered((a, d)), ordered((c, b)));
        if one == other || a == d || c == b || first == second || present.contains(&first) || present.contains(&second)
        {
            continue;
        }
        present.remove(&ordered((a, b)));
        present.remove(&ordered((c, d)));
        present.extend([first, second]);
        (edges[one], edges[other]) = ((a, d), (c, b));
    }
    let mut names: Vec<u64> = (0..num_nodes).collect();
    names.shuffle(random);
    let mut graph = vec![BTreeSet::new(); names.len()];
    for (a, b) in edges {
        let [a, b] = [a, b].map(|end| names[usize::try_from(end).unwrap_or(0)]);
        graph[usize::try_from(a).unwrap_or(0)].insert(b);
        graph[usize::try_from(b).unwrap_or(0)].insert(a);
    }
    graph
}

fn ordered((a, b): (u64, u64)) -> (u64, u64) {
    (a.min(b), a.max(b))
}

/// The first node that no path from node 0 reaches.
fn first_unreached(graph: &[BTreeSet<u64>]) -> Option<u64> {
    let mut reached = BTreeSet::from([0]);
    let mut next = vec![0];
    while let Some(node) = next.pop() {
        let peers = usize::try_from(node).ok().and_then(|node| graph.get(node));
        next.extend(peers.into_iter().flatten().filter(|peer| reached.insert(**peer)));
    }
    (0..graph.len() as u64).find(|node| !reached.contains(node))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random(peers: u64) -> Topology {
        Topology { kind: TopologyKind::Random, peers: Some(peers), edges: vec![] }
    }

    #[test]
    fn a_line_is_a_line() {
        let line = Topology { kind: TopologyKind::Edges, peers: None, edges: vec![Edge(0, 1), Edge(2, 1)] };
        let expected: Vec<BTreeSet<u64>> = vec![[1].into(), [0, 2].into(), [1].into()];
        assert_eq!(line.neighbours(3, 0).unwrap(), expected);
    }

    #[test]
    fn a_network_in_pieces_is_refused() {
        let pieces = Topology { kind: TopologyKind::Edges, peers: None, edges: vec![Edge(0, 1), Edge(2, 3)] };
        assert!(pieces.neighbours(4, 0).unwrap_err().to_string().contains("from node 0 to node 2"));
        assert!(random(1).neighbours(4, 0).is_err());
        assert!(random(4).neighbours(4, 0).is_err());
    }

    #[test]
    fn the_seed_decides() {
        let of = |seed| random(4).neighbours(20, seed).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    proptest! {
        #[test]
        fn a_random_topology_is_connected_mutual_and_regular(num_nodes in 3..60_u64, peers in 2..8_u64, seed: u64) {
            prop_assume!(peers < num_nodes);
            let graph = random(peers).neighbours(num_nodes, seed).unwrap();
            let short = graph.iter().filter(|own| own.len() as u64 != peers).count() as u64;
            prop_assert_eq!(short, (num_nodes * peers) % 2);
            for (node, own) in graph.iter().enumerate() {
                prop_assert!(own.iter().all(|peer| graph[*peer as usize].contains(&(node as u64))));
            }
        }
    }
}
