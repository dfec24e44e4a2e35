//! Shards of a message: encoding, and rebuilding from any units.

use std::cell::Cell;

use bytes::Bytes;
use reed_solomon_simd::{Error, ReedSolomonDecoder, ReedSolomonEncoder};

use super::{
    committee::Shape,
    merkle::{Hash, Tree},
    wire,
};
use crate::scenario::MAX_MESSAGE_SIZE;

/// Reason why a message can't be encoded or rebuilt.
#[derive(Debug, PartialEq)]
pub(super) enum ShardError {
    /// Shards and their numbers do not go together.
    Coding(Error),
    /// The shards contain no message with its length before it and zeros after it.
    Content,
    /// The shards are not those that the publisher has signed.
    Root,
}

impl From<Error> for ShardError {
    fn from(error: Error) -> Self {
        Self::Coding(error)
    }
}

/// All shards of a message, and their tree.
#[derive(Debug)]
pub(super) struct Shards {
    /// Shards by unit, the data shards first.
    pub(super) shards: Vec<Bytes>,
    /// Tree over the shards.
    pub(super) tree: Tree,
    /// The message itself.
    pub(super) message: Bytes,
}

/// A verified shard of a message.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    /// Index of its unit.
    pub(super) index: usize,
    /// Content of the shard.
    pub(super) shard: Bytes,
    /// Hash of its leaf.
    pub(super) leaf: Hash,
}

thread_local! {
    // The working memory of the code is several times the message, and a new one is filled with zeros. The threads that
    // work on large messages end after some seconds without work, and their memory with them.
    static ENCODER: Cell<Option<ReedSolomonEncoder>> = const { Cell::new(None) };
    static DECODER: Cell<Option<ReedSolomonDecoder>> = const { Cell::new(None) };
}

/// The encoder of this thread, or a new one.
fn encoder(shape: Shape, length: usize) -> Result<ReedSolomonEncoder, Error> {
    match ENCODER.take() {
        Some(mut encoder) => encoder.reset(shape.data, shape.coding, length).map(|()| encoder),
        None => ReedSolomonEncoder::new(shape.data, shape.coding, length),
    }
}

/// The decoder of this thread, or a new one.
fn decoder(shape: Shape, length: usize) -> Result<ReedSolomonDecoder, Error> {
    match DECODER.take() {
        Some(mut decoder) => decoder.reset(shape.data, shape.coding, length).map(|()| decoder),
        None => ReedSolomonDecoder::new(shape.data, shape.coding, length),
    }
}

/// Encodes a message.
///
/// # Errors
/// A shape that the code does not support.
pub(super) fn encode(message: &[u8], shape: Shape) -> Result<Shards, ShardError> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let prefix = unsigned_varint::encode::usize(message.len(), &mut buffer);
    let padded = (prefix.len() + message.len()).next_multiple_of(2 * shape.data);
    let mut joined = Vec::with_capacity(padded);
    joined.extend_from_slice(prefix);
    joined.extend_from_slice(message);
    joined.resize(padded, 0);
    complete(joined.into(), shape, &[])
}

/// Rebuilds a message from verified shards, as many as it has data shards or more, and checks all shards against the
/// signed root.
///
/// # Errors
/// Shards that do not go together, that contain no message, or that are not the signed ones.
pub(super) fn rebuild(known: &[Verified], shape: Shape, root: &Hash) -> Result<Shards, ShardError> {
    let length = known.first().map_or(0, |first| first.shard.len());
    let mut joined = vec![0; length * shape.data];
    let data = known.iter().filter(|known| known.index < shape.data);
    for known in data.clone() {
        if let Some(place) = joined.get_mut(known.index * length..(known.index + 1) * length)
            && known.shard.len() == length
        {
            place.copy_from_slice(&known.shard);
        }
    }
    if shape.data == 1 {
        // A polynomial without a variable has the same value everywhere: every shard is the data shard.
        known.iter().take(1).for_each(|any| joined.copy_from_slice(&any.shard));
    } else if data.count() < shape.data {
        let mut decoder = decoder(shape, length)?;
        for known in known {
            match known.index.checked_sub(shape.data) {
                None => decoder.add_original_shard(known.index, &known.shard)?,
                Some(coding) => decoder.add_recovery_shard(coding, &known.shard)?,
            }
        }
        for (index, restored) in decoder.decode()?.restored_original_iter() {
            if let Some(place) = joined.get_mut(index * length..(index + 1) * length) {
                place.copy_from_slice(restored);
            }
        }
        DECODER.set(Some(decoder));
    }
    let shards = complete(joined.into(), shape, known)?;
    if shards.tree.root() == *root { Ok(shards) } else { Err(ShardError::Root) }
}

/// Adds the coding shards and the tree to the data shards. The leaves of `known` shards are not hashed again.
fn complete(joined: Bytes, shape: Shape, known: &[Verified]) -> Result<Shards, ShardError> {
    let message = content(&joined, shape)?;
    let length = joined.len() / shape.data;
    let mut shards: Vec<Bytes> =
        (0..shape.data).map(|index| joined.slice(index * length..(index + 1) * length)).collect();
    if shape.data == 1 {
        shards.resize(shape.units(), joined);
    } else if shape.coding > 0 {
        let mut encoder = encoder(shape, length)?;
        for shard in &shards {
            encoder.add_original_shard(shard)?;
        }
        let mut coding = Vec::with_capacity(shape.coding * length);
        encoder.encode()?.recovery_iter().for_each(|shard| coding.extend_from_slice(shard));
        ENCODER.set(Some(encoder));
        let coding = Bytes::from(coding);
        shards.extend((0..shape.coding).map(|index| coding.slice(index * length..(index + 1) * length)));
    }
    let mut leaves: Vec<Option<Hash>> = vec![None; shards.len()];
    for known in known {
        // A leaf of another content than the rebuilt one belongs to a publisher that has signed no message.
        if shards.get(known.index) != Some(&known.shard) {
            return Err(ShardError::Root);
        }
        if let Some(leaf) = leaves.get_mut(known.index) {
            *leaf = Some(known.leaf);
        }
    }
    let leaves: Vec<Hash> =
        shards.iter().zip(leaves).map(|(shard, known)| known.unwrap_or_else(|| wire::leaf_of(shard))).collect();
    Ok(Shards { shards, tree: Tree::new(leaves), message })
}

/// Message in the data shards: its length, itself, and zeros up to the next multiple of twice the data shards.
fn content(joined: &Bytes, shape: Shape) -> Result<Bytes, ShardError> {
    let (length, rest) = unsigned_varint::decode::usize(joined).map_err(|_| ShardError::Content)?;
    let start = joined.len() - rest.len();
    let padding = rest.get(length..).ok_or(ShardError::Content)?;
    if length > MAX_MESSAGE_SIZE || padding.len() >= 2 * shape.data || padding.iter().any(|byte| *byte != 0) {
        return Err(ShardError::Content);
    }
    Ok(joined.slice(start..start + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::data_shards;

    fn shape(nodes: usize) -> Shape {
        let data = data_shards(nodes);
        Shape { data, coding: nodes - 1 - data }
    }

    fn verified(shards: &Shards, index: usize) -> Verified {
        let shard = shards.shards[index].clone();
        Verified { index, leaf: wire::leaf_of(&shard), shard }
    }

    #[test]
    fn any_units_as_many_as_data_shards_rebuild_the_message() {
        for nodes in 2..=7 {
            let shape = shape(nodes);
            let message: Vec<u8> = (0..1000_usize).map(|byte| (byte * 31 % 251) as u8).collect();
            let shards = encode(&message, shape).unwrap();
            let mut choices = 0;
            for choice in 0_u32..1 << shape.units() {
                if choice.count_ones() as usize != shape.data {
                    continue;
                }
                choices += 1;
                let chosen = (0..shape.units()).filter(|index| choice & (1 << index) != 0);
                let known: Vec<Verified> = chosen.map(|index| verified(&shards, index)).collect();
                let again = rebuild(&known, shape, &shards.tree.root()).unwrap();
                assert_eq!(again.message, message, "{nodes} nodes, units {choice:b}");
                assert_eq!(again.shards, shards.shards);
            }
            assert!(choices >= shape.units());
        }
    }

    #[test]
    fn shards_without_a_message_are_refused() {
        let shape = shape(7);
        for joined in [vec![0xff; 40], vec![41; 40], [vec![2, 7, 7, 1], vec![0; 4]].concat(), vec![0; 8]] {
            assert_eq!(content(&joined.into(), shape), Err(ShardError::Content));
        }
        assert_eq!(content(&vec![2, 7, 7, 0].into(), shape).unwrap(), [7, 7].as_slice());
    }

    #[test]
    fn shards_that_were_not_signed_are_refused() {
        let shape = shape(7);
        let shards = encode(b"signed", shape).unwrap();
        let known = [verified(&shards, 1), verified(&shards, 4)];
        assert_eq!(rebuild(&known, shape, &Hash::default()).unwrap_err(), ShardError::Root);
        let mut wrong = known.clone();
        wrong[1].shard = vec![9; wrong[1].shard.len()].into();
        assert!(rebuild(&wrong, shape, &shards.tree.root()).is_err());
    }

    proptest! {
        #[test]
        fn every_message_survives_the_loss_of_all_but_its_data_shards(
            nodes in 2_usize..24,
            message in proptest::collection::vec(any::<u8>(), 0..3000),
            order in any::<u64>(),
        ) {
            let shape = shape(nodes);
            let shards = encode(&message, shape).unwrap();
            prop_assert!(shards.shards.iter().all(|shard| shard.len() % 2 == 0));
            let mut indices: Vec<usize> = (0..shape.units()).collect();
            indices.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(order | 1));
            let known: Vec<Verified> = indices[..shape.data].iter().map(|index| verified(&shards, *index)).collect();
            let again = rebuild(&known, shape, &shards.tree.root()).unwrap();
            prop_assert_eq!(&again.message, &message);
            prop_assert_eq!(again.tree.root(), shards.tree.root());
        }
    }
}
