//! Messages of propeller on the wire, in protobuf.

use bytes::{Buf, Bytes};
use libp2p::StreamProtocol;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::merkle::{self, Hash};

/// Name of the protocol.
pub(in crate::network) const PROTOCOL: StreamProtocol = StreamProtocol::new("/propeller/0.1.0");

/// Body of a frame.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PropellerUnitBatch {
    /// Units, in any number.
    #[prost(message, repeated, tag = "1")]
    pub(super) batch: Vec<PropellerUnit>,
}

/// One unit of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PropellerUnit {
    /// Shards of the unit's owner.
    #[prost(message, optional, tag = "1")]
    pub(super) shards: Option<ShardsOfPeer>,
    /// Number of the unit.
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
    /// Root of the tree over all units.
    #[prost(message, optional, tag = "3")]
    pub(super) merkle_root: Option<Hash256>,
    /// Siblings on the way from the unit to the root.
    #[prost(message, optional, tag = "4")]
    pub(super) merkle_proof: Option<MerkleProof>,
    /// Node that published the message.
    #[prost(message, optional, tag = "5")]
    pub(super) publisher: Option<PeerIdBytes>,
    /// Signature of the publisher.
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) signature: Bytes,
    /// Name of the committee.
    #[prost(message, optional, tag = "7")]
    pub(super) committee_id: Option<Hash256>,
    /// Number of the message among those of its publisher.
    #[prost(uint64, tag = "8")]
    pub(super) nonce: u64,
}

/// Shards of a unit's owner; always one.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ShardsOfPeer {
    /// The shards.
    #[prost(message, repeated, tag = "1")]
    pub(super) shards: Vec<Shard>,
}

/// A part of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shard {
    /// Content.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) data: Bytes,
}

/// Siblings on the way from a leaf to the root.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MerkleProof {
    /// Siblings, from the leaf upwards.
    #[prost(message, repeated, tag = "1")]
    pub(super) siblings: Vec<Hash256>,
}

/// A hash.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hash256 {
    /// 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) elements: Bytes,
}

/// A peer id.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PeerIdBytes {
    /// Its multihash.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) id: Bytes,
}

/// Hash of the leaf of a unit with this shard: the leaf is the protobuf of the owner's shards.
pub(super) fn leaf_of(shard: &[u8]) -> Hash {
    let mut inner = Prefix::default();
    inner.field(shard.len());
    let mut outer = Prefix::default();
    outer.field(inner.length + shard.len());
    if shard.is_empty() {
        // Protobuf leaves out an empty field.
        return merkle::leaf(&[&[0x0a, 0]]);
    }
    merkle::leaf(&[outer.bytes(), inner.bytes(), shard])
}

/// Key and length of a field with number 1.
#[derive(Default)]
struct Prefix {
    buffer: [u8; 12],
    length: usize,
}

impl Prefix {
    fn field(&mut self, length: usize) {
        const KEY: u8 = 0x0a;
        let mut buffer = unsigned_varint::encode::usize_buffer();
        let varint = unsigned_varint::encode::usize(length, &mut buffer);
        self.buffer[0] = KEY;
        self.buffer[1..=varint.len()].copy_from_slice(varint);
        self.length = 1 + varint.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Units in the body of a frame, each undecoded: a batch of tiny units would take a hundred times its size when decoded.
pub(super) struct Units(Bytes);

/// A frame whose body is no batch.
#[derive(Debug)]
pub(super) struct NotABatch;

impl From<prost::DecodeError> for NotABatch {
    fn from(_: prost::DecodeError) -> Self {
        Self
    }
}

impl Units {
    /// Units of a frame with this body.
    pub(super) fn of(body: Bytes) -> Self {
        Self(body)
    }

    /// Next unit; none at the end.
    ///
    /// # Errors
    /// A body that is no batch.
    pub(super) fn next_unit(&mut self) -> Result<Option<Bytes>, NotABatch> {
        while self.0.has_remaining() {
            let (tag, wire_type) = decode_key(&mut self.0)?;
            if tag != 1 || wire_type != WireType::LengthDelimited {
                skip_field(wire_type, tag, &mut self.0, DecodeContext::default())?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut self.0)?).map_err(|_| NotABatch)?;
            if length > self.0.len() {
                return Err(NotABatch);
            }
            return Ok(Some(self.0.split_to(length)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn the_leaf_is_the_protobuf_of_the_owners_shards() {
        for length in [0, 2, 126, 128, 300, 20_000, 3_000_000] {
            let data = Bytes::from(vec![7; length]);
            let written = ShardsOfPeer { shards: vec![Shard { data: data.clone() }] }.encode_to_vec();
            assert_eq!(leaf_of(&data), merkle::leaf(&[&written]), "{length}");
        }
    }

    #[test]
    fn a_batch_is_read_unit_by_unit() {
        let unit = |index| PropellerUnit { index, ..PropellerUnit::default() };
        let batch = PropellerUnitBatch { batch: vec![unit(1), unit(0), unit(300)] };
        let mut units = Units::of(batch.encode_to_vec().into());
        for index in [1, 0, 300] {
            assert_eq!(PropellerUnit::decode(units.next_unit().unwrap().unwrap()).unwrap(), unit(index));
        }
        assert!(units.next_unit().unwrap().is_none());
        for body in [&[0x0a, 5, 1][..], &[0xff; 20], &[0x0b], &[0x0a]] {
            assert!(Units::of(Bytes::copy_from_slice(body)).next_unit().is_err(), "{body:?}");
        }
    }
}
