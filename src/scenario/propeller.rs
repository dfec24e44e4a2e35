//! Arithmetic of propeller: shards of a message, and the largest message of a network.

use super::{Protocol, Scenario, ScenarioError};

/// Maximum size of a frame's body, in bytes: a batch with one unit must fit into it.
pub const MAX_PROPELLER_FRAME: usize = 1 << 20;

/// Minimum number of nodes of a network with propeller: a publisher and a receiver.
const MIN_PROPELLER_NODES: u64 = 2;

/// Bytes of a node's id on the wire: an ed25519 key in its protobuf envelope, as an identity multihash.
const PEER_ID: usize = 38;

/// Bytes of an ed25519 signature.
const SIGNATURE: usize = 64;

/// Bytes of a hash.
const HASH: usize = 32;

/// Bytes of a nonce as a varint: nanoseconds since the Unix epoch take nine until the year 2262.
const NONCE: usize = 9;

/// Number of data shards of a message in a network of `nodes`: any as many units rebuild it.
pub const fn data_shards(nodes: usize) -> usize {
    let third = nodes.saturating_sub(1) / 3;
    if third == 0 { 1 } else { third }
}

/// Bytes of the longest unit with a shard of `shard` bytes in a network of `nodes`, in a batch of its own: the body of
/// a frame.
pub fn unit_bytes(nodes: usize, shard: usize) -> usize {
    let units = nodes.saturating_sub(1).max(1);
    let siblings = units.next_power_of_two().trailing_zeros() as usize;
    let hash = field(field(HASH));
    let index = if units > 1 { 1 + varint(units - 1) } else { 0 };
    let unit = field(field(field(shard)))
        + index
        + 2 * hash
        + field(siblings * hash)
        + field(field(PEER_ID))
        + field(SIGNATURE)
        + 1
        + NONCE;
    field(unit)
}

/// Bytes of a shard of a message of `size` bytes: the message behind its length, padded to a multiple of twice the
/// number of data shards.
pub fn shard_bytes(nodes: usize, size: usize) -> usize {
    let data = data_shards(nodes);
    (varint(size) + size).next_multiple_of(2 * data) / data
}

/// Largest message of a network of `nodes`, in bytes.
pub fn largest_propeller_message(nodes: usize) -> usize {
    // The lengths of all large shards take equally many bytes, so the rest of a unit does too.
    let rest = unit_bytes(nodes, MAX_PROPELLER_FRAME) - MAX_PROPELLER_FRAME;
    let shard = (MAX_PROPELLER_FRAME - rest) & !1;
    let padded = data_shards(nodes) * shard;
    padded - varint(padded)
}

/// Bytes of a field of protobuf with a length.
const fn field(length: usize) -> usize {
    1 + varint(length) + length
}

/// Bytes of a number as a varint.
const fn varint(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros();
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

impl Scenario {
    /// Checks that all nodes of a network with propeller are connected, and that its units fit into frames.
    pub(super) fn check_propeller(&self) -> Result<(), ScenarioError> {
        let classes = self.traffic.iter().enumerate();
        let classes: Vec<_> = classes.filter(|(_, class)| class.protocol == Some(Protocol::Propeller)).collect();
        let explores = self.explore.is_some() && self.network.protocol == Protocol::Propeller;
        if classes.is_empty() && !explores {
            return Ok(());
        }
        let count = self.nodes.count;
        if count < MIN_PROPELLER_NODES {
            let error = ScenarioError::of(count, format!("propeller needs at least {MIN_PROPELLER_NODES} nodes"));
            return Err(error.below("count").below("nodes"));
        }
        if !self.topology.is_full() {
            let message = "propeller sends units from every node to every other: give kind = \"full\", or another \
                           protocol";
            return Err(ScenarioError::of(self.topology.kind, message).below("kind").below("topology"));
        }
        let largest = self.largest_propeller_message();
        let too_large = |bytes: usize| {
            let message = format!(
                "propeller carries at most {largest} bytes with {count} nodes, because a unit must fit into 1 MiB: \
                 give smaller messages or more nodes"
            );
            ScenarioError::of(bytes, message)
        };
        for (number, class) in classes {
            let bytes = class.message_size_bytes.largest();
            if bytes > largest {
                return Err(too_large(bytes).below("message_size_bytes").below(number).below("traffic"));
            }
        }
        match &self.explore {
            Some(explore) if explores && explore.min_message_size_bytes > largest => {
                Err(too_large(explore.min_message_size_bytes).below("min_message_size_bytes").below("explore"))
            }
            _ => Ok(()),
        }
    }

    /// Largest message that propeller carries in this network, in bytes.
    pub fn largest_propeller_message(&self) -> usize {
        largest_propeller_message(usize::try_from(self.nodes.count).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_nodes_rebuilds_a_message() {
        assert_eq!([2, 3, 4, 6, 7, 9, 10, 100].map(data_shards), [1, 1, 1, 1, 2, 2, 3, 33]);
    }

    #[test]
    fn the_largest_message_fills_a_frame() {
        for nodes in [2, 3, 4, 7, 10, 20, 100, 1000] {
            let largest = largest_propeller_message(nodes);
            let frame = |size| unit_bytes(nodes, shard_bytes(nodes, size));
            assert!(frame(largest) <= MAX_PROPELLER_FRAME, "{nodes} nodes");
            assert!(frame(largest + 1) > MAX_PROPELLER_FRAME, "{nodes} nodes");
        }
        assert!((3_144_000..3 << 20).contains(&largest_propeller_message(10)));
    }
}
