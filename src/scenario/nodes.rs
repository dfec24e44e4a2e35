//! Sets of nodes as people write them.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nodes by their ids: one, a list, or text such as `0-3,7`. Only the ends of ranges are stored, because a short text
/// can name more nodes than memory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "NodesSchema")]
pub struct Nodes(Vec<(u64, u64)>);

/// Schema of [`Nodes`].
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum NodesSchema {
    /// A node id.
    One(u64),
    /// Node ids.
    List(Vec<u64>),
    /// Ids and ranges, such as "0-3,7".
    Text(String),
}

impl Nodes {
    /// True if no node is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a node is in the set.
    pub fn contains(&self, id: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }

    /// Node, if only one is concerned.
    pub fn single(&self) -> Option<u64> {
        match self.0[..] {
            [(first, last)] if first == last => Some(first),
            _ => None,
        }
    }

    /// The nodes as a set, all of which must be in a network of `num_nodes`.
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

impl From<u64> for Nodes {
    fn from(node: u64) -> Self {
        Self(vec![(node, node)])
    }
}

impl FromIterator<u64> for Nodes {
    /// Neighbouring ids become one range.
    fn from_iter<I: IntoIterator<Item = u64>>(nodes: I) -> Self {
        let sorted: BTreeSet<u64> = nodes.into_iter().collect();
        let mut ranges: Vec<(u64, u64)> = vec![];
        for node in sorted {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(node) => *last = node,
                _ => ranges.push((node, node)),
            }
        }
        Self(ranges)
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

impl fmt::Display for Nodes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if first == last {
                write!(formatter, "{comma}{first}")?;
            } else {
                write!(formatter, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a node id, a list of ids, or a text such as \"0-3,7\"")]
        enum Written {
            One(u64),
            List(BTreeSet<u64>),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::One(node) => Ok(node.into()),
            Written::List(nodes) => Ok(nodes.into_iter().collect()),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_lists_name_the_same_nodes() {
        let text: Nodes = "3,0-2,7".parse().unwrap();
        assert_eq!(text.within(8).unwrap(), BTreeSet::from([0, 1, 2, 3, 7]));
        let list: Nodes = [7, 0, 1, 2, 3].into_iter().collect();
        assert_eq!(list.to_string(), "0-3,7");
        assert!(text.contains(7) && !text.contains(4));
    }

    #[test]
    fn nodes_outside_of_the_network_are_named() {
        let nodes: Nodes = "0-18446744073709551615".parse().unwrap();
        assert!(nodes.within(4).unwrap_err().contains("its nodes are 0 to 3"));
    }
}
