//! Merkle tree over the shards of a message.
//!
//! The prefixes and suffixes around each hashed value are those of Apollo's propeller; they keep leaves and inner nodes
//! apart. An odd last node of a level is promoted to the next level as it is, and a proof has no sibling there.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// Hash of a leaf with the concatenation of these parts.
pub(super) fn leaf(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"<leaf>");
    parts.iter().for_each(|part| hash.update(part));
    hash.update(b"</leaf>");
    hash.finalize().into()
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"<node><left>");
    hash.update(left);
    hash.update(b"</left><right>");
    hash.update(right);
    hash.update(b"</right></node>");
    hash.finalize().into()
}

/// All levels of a tree, the leaves first.
#[derive(Debug)]
pub(super) struct Tree(Vec<Vec<Hash>>);

impl Tree {
    /// Makes the tree of at least one leaf.
    pub(super) fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(last) = levels.last().filter(|level| level.len() > 1) {
            let pair = |pair: &[Hash]| match pair {
                [left, right] => parent(left, right),
                [promoted] => *promoted,
                _ => Hash::default(),
            };
            let next = last.chunks(2).map(pair).collect();
            levels.push(next);
        }
        Self(levels)
    }

    /// Root of the tree; zeros for a tree without leaves.
    pub(super) fn root(&self) -> Hash {
        self.0.last().and_then(|level| level.first()).copied().unwrap_or_default()
    }

    /// Siblings on the way from leaf `index` to the root.
    pub(super) fn proof(&self, index: usize) -> Vec<Hash> {
        let levels = self.0.iter().enumerate();
        levels.filter_map(|(height, level)| level.get((index >> height) ^ 1).copied()).collect()
    }
}

/// Root that a proof gives for leaf `index` of `leaves`; none if it has another number of siblings than the tree asks
/// for.
pub(super) fn root_of(leaf: Hash, index: usize, leaves: usize, siblings: &[Hash]) -> Option<Hash> {
    let (mut hash, mut index, mut width) = (leaf, index, leaves);
    let mut siblings = siblings.iter();
    while width > 1 {
        if index ^ 1 < width {
            let sibling = siblings.next()?;
            hash = if index & 1 == 0 { parent(&hash, sibling) } else { parent(sibling, &hash) };
        }
        index /= 2;
        width = width.div_ceil(2);
    }
    siblings.next().is_none().then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|number| leaf(&[&number.to_be_bytes()])).collect()
    }

    #[test]
    fn an_odd_last_node_is_promoted_and_has_a_short_proof() {
        let all = leaves(3);
        let tree = Tree::new(all.clone());
        assert_eq!(tree.root(), parent(&parent(&all[0], &all[1]), &all[2]));
        assert_eq!(tree.proof(2), [parent(&all[0], &all[1])]);
        assert_eq!(tree.proof(0), [all[1], all[2]]);
        assert_eq!((Tree::new(leaves(1)).root(), Tree::new(leaves(1)).proof(0)), (all[0], vec![]));
    }

    proptest! {
        #[test]
        fn every_proof_holds_for_its_leaf_and_for_no_other(count in 1_usize..40, index: usize, other: usize, byte: usize) {
            let (index, other) = (index % count, other % count);
            let all = leaves(count);
            let tree = Tree::new(all.clone());
            let proof = tree.proof(index);
            prop_assert_eq!(root_of(all[index], index, count, &proof), Some(tree.root()));
            if other != index {
                prop_assert_ne!(root_of(all[other], index, count, &proof), Some(tree.root()));
                prop_assert_ne!(root_of(all[index], other, count, &proof), Some(tree.root()));
            }
            let mut longer = proof.clone();
            longer.push(all[0]);
            prop_assert_eq!(root_of(all[index], index, count, &longer), None);
            if !proof.is_empty() {
                prop_assert_eq!(root_of(all[index], index, count, &proof[1..]), None);
                let mut wrong = proof;
                let at = byte % wrong.len();
                wrong[at][byte % 32] ^= 1;
                prop_assert_ne!(root_of(all[index], index, count, &wrong), Some(tree.root()));
            }
        }
    }
}
