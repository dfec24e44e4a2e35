//! A unit: its checks, its form on the wire, and the signature of its message.

use bytes::Bytes;
use libp2p::identity::{Keypair, PublicKey, SigningError};
use prost::Message as _;

use super::{
    committee::Committee,
    merkle::{Hash, root_of},
    refusal::Refusal,
    wire::{Hash256, MerkleProof, PeerIdBytes, PropellerUnit, PropellerUnitBatch, Shard, ShardsOfPeer},
};

/// Maximum length of a signature, in bytes: that of RSA with 4096 bits. It stays in memory with its message.
const MAX_SIGNATURE: usize = 512;

/// A unit whose place in the committee is right; its proof and its signature are checked later.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Place of the publisher.
    pub(super) publisher: usize,
    /// Number of the message.
    pub(super) nonce: u64,
    /// Number of the unit.
    pub(super) index: usize,
    /// Root of the tree over all units.
    pub(super) root: Hash,
    /// Siblings of the unit on the way to the root.
    pub(super) siblings: Vec<Hash>,
    /// Content.
    pub(super) shard: Bytes,
    /// Signature of the publisher.
    pub(super) signature: Bytes,
}

impl Unit {
    /// Reads a unit that the member at place `from` has sent to the one at place `own`.
    ///
    /// # Errors
    /// The reason why it can be no unit that this member may send.
    pub(super) fn read(bytes: Bytes, committee: &Committee, from: usize, own: usize) -> Result<Self, Refusal> {
        let whole = bytes.len();
        let wire = PropellerUnit::decode(bytes).map_err(|_| Refusal::Malformed)?;
        if hash(wire.committee_id.as_ref())? != *committee.id() {
            return Err(Refusal::OtherCommittee);
        }
        let id = wire.publisher.ok_or(Refusal::Malformed)?.id;
        let publisher = libp2p::PeerId::from_bytes(&id).map_err(|_| Refusal::Malformed)?;
        let publisher = committee.place(&publisher).filter(|place| *place != own).ok_or(Refusal::WrongPublisher)?;
        let units = committee.shape().units();
        let index = usize::try_from(wire.index).ok().filter(|index| *index < units).ok_or(Refusal::WrongIndex)?;
        let owner = Committee::owner(publisher, index);
        // The own unit comes from the publisher alone, and every other one from its owner alone.
        if from != if owner == own { publisher } else { owner } {
            return Err(Refusal::WrongSender);
        }
        let mut shards = wire.shards.ok_or(Refusal::WrongShards)?.shards;
        let shard = match (shards.pop(), shards.len()) {
            (Some(only), 0) => only.data,
            _ => return Err(Refusal::WrongShards),
        };
        if shard.is_empty() || shard.len() % 2 != 0 {
            return Err(Refusal::WrongLength);
        }
        let siblings = wire.merkle_proof.unwrap_or_default().siblings;
        if siblings.len() > units.ilog2() as usize + 1 {
            return Err(Refusal::WrongProof);
        }
        let siblings = siblings.iter().map(|sibling| hash(Some(sibling))).collect::<Result<_, _>>()?;
        if wire.signature.len() > MAX_SIGNATURE {
            return Err(Refusal::WrongSignature);
        }
        let root = hash(wire.merkle_root.as_ref())?;
        // Copies, because slices would keep the whole unit in memory, unknown fields included.
        let shard = if shard.len() < whole / 2 { Bytes::copy_from_slice(&shard) } else { shard };
        let signature = Bytes::copy_from_slice(&wire.signature);
        Ok(Self { publisher, nonce: wire.nonce, index, root, siblings, shard, signature })
    }

    /// True if the proof leads from this leaf to the root of the unit.
    pub(super) fn is_proven(&self, leaf: Hash, units: usize) -> bool {
        root_of(leaf, self.index, units, &self.siblings) == Some(self.root)
    }

    /// The unit as the body of a frame: a batch of its own. Bodies one after the other are the body of a longer batch.
    pub(super) fn to_body(&self, committee: &Committee) -> Bytes {
        let id = committee.member(self.publisher).map(|peer| Bytes::from(peer.to_bytes())).unwrap_or_default();
        let hash = |hash: &Hash| Hash256 { elements: Bytes::copy_from_slice(hash) };
        let unit = PropellerUnit {
            shards: Some(ShardsOfPeer { shards: vec![Shard { data: self.shard.clone() }] }),
            index: self.index as u64,
            merkle_root: Some(hash(&self.root)),
            merkle_proof: Some(MerkleProof { siblings: self.siblings.iter().map(hash).collect() }),
            publisher: Some(PeerIdBytes { id }),
            signature: self.signature.clone(),
            committee_id: Some(hash(committee.id())),
            nonce: self.nonce,
        };
        PropellerUnitBatch { batch: vec![unit] }.encode_to_vec().into()
    }
}

fn hash(wire: Option<&Hash256>) -> Result<Hash, Refusal> {
    wire.and_then(|hash| hash.elements.as_ref().try_into().ok()).ok_or(Refusal::Malformed)
}

/// Bytes that a publisher signs.
fn signed(root: &Hash, committee: &Hash, nonce: u64) -> Vec<u8> {
    [b"<propeller>".as_slice(), root, committee, &nonce.to_be_bytes(), b"</propeller>"].concat()
}

/// Signs a message.
///
/// # Errors
/// A key that can't sign.
pub(super) fn sign(key: &Keypair, root: &Hash, committee: &Hash, nonce: u64) -> Result<Bytes, SigningError> {
    key.sign(&signed(root, committee, nonce)).map(Bytes::from)
}

/// True if the owner of `key` has signed the message of this root and nonce.
pub(super) fn is_signed(key: Option<&PublicKey>, unit: &Unit, committee: &Hash) -> bool {
    key.is_some_and(|key| key.verify(&signed(&unit.root, committee, unit.nonce), &unit.signature))
}
