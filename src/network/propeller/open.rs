//! A message in progress, and the remains of a finished one.

use bytes::Bytes;

use super::{
    committee::{Committee, Shape},
    merkle::Hash,
    shards::{ShardError, Shards, Verified},
    unit::Unit,
};
use crate::clock::Instant;

/// Memory of one unit of a message beside its shard, in bytes: its place in the lists, and two levels of hashes.
const UNIT_OVERHEAD: usize = 192;

/// Work to be done on a unit before it counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Hash the shard and follow the proof; verify the signature too if it is another one than the message's.
    Proof {
        /// True if the signature was not verified yet.
        signature: bool,
    },
    /// Compare the unit with the rebuilt one.
    Same {
        /// Content of the rebuilt unit.
        shard: Bytes,
        /// Proof of the rebuilt unit.
        siblings: Vec<Hash>,
    },
    /// Nothing: the message needs no more units.
    Wasted,
    /// Verify the signature, because the message has another root than the first one of this nonce.
    OtherRoot,
}

/// Consequences of a unit, or of a rebuilt message.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Unit of this node, to be sent to all others but the publisher.
    pub(super) forward: Option<Unit>,
    /// Root of the message, and shards to rebuild it from.
    pub(super) rebuild: Option<(Hash, Vec<Verified>)>,
    /// The message counts as received.
    pub(super) delivered: Option<Delivered>,
    /// The message needed the unit no more.
    pub(super) wasted: bool,
}

/// A message that counts as received.
#[derive(Debug)]
pub(super) struct Delivered {
    /// The message.
    pub(super) message: Bytes,
    /// Units that were there, this node's own among them.
    pub(super) units: usize,
    /// Nanoseconds from the first unit to the one that made rebuilding possible.
    pub(super) to_data_nanos: u64,
    /// Nanoseconds from the first unit to the delivery.
    pub(super) to_enough_nanos: u64,
}

#[derive(Debug)]
enum Stage {
    /// Units come in.
    Collecting(Vec<Verified>),
    /// As many units as data shards were there; the message is being rebuilt.
    Rebuilding,
    /// The message exists.
    Rebuilt(Shards),
}

/// A message in progress.
#[derive(Debug)]
pub(super) struct Open {
    root: Hash,
    signature: Bytes,
    shard_len: usize,
    opened: Instant,
    last: Instant,
    /// Units that peers have sent.
    arrived: Box<[bool]>,
    /// True if this node has rebuilt its own unit, which has not arrived.
    own_rebuilt: bool,
    stage: Stage,
    to_data_nanos: u64,
    /// Measurement that the message belongs to.
    pub(super) epoch: u32,
}

/// A message that needs no more units: delivered, or given up.
#[derive(Debug)]
pub(super) struct Done {
    /// Root of its tree.
    pub(super) root: Hash,
    /// Time of its first unit.
    pub(super) opened: Instant,
    /// Units that peers have sent.
    pub(super) arrived: Box<[bool]>,
    /// Measurement that it belongs to.
    pub(super) epoch: u32,
}

impl Open {
    /// A message of which `first` is the first unit.
    pub(super) fn new(first: &Unit, shape: Shape, now: Instant, epoch: u32) -> Self {
        Self {
            root: first.root,
            signature: first.signature.clone(),
            shard_len: first.shard.len(),
            opened: now,
            last: now,
            arrived: vec![false; shape.units()].into(),
            own_rebuilt: false,
            stage: Stage::Collecting(Vec::with_capacity(shape.data)),
            to_data_nanos: 0,
            epoch,
        }
    }

    /// Memory that a message with shards of `shard_len` bytes may take, in bytes.
    pub(super) fn room(shard_len: usize, shape: Shape) -> usize {
        shape.units().saturating_mul(shard_len.saturating_add(UNIT_OVERHEAD))
    }

    /// Memory that this message may take, in bytes.
    pub(super) fn own_room(&self, shape: Shape) -> usize {
        Self::room(self.shard_len, shape)
    }

    /// Time of the first unit.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Time of the last unit.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// True if unit `index` has arrived.
    pub(super) fn has(&self, index: usize) -> bool {
        self.arrived.get(index).copied().unwrap_or(true)
    }

    /// True if the unit's shard has the length of the others.
    pub(super) fn fits(&self, unit: &Unit) -> bool {
        unit.shard.len() == self.shard_len
    }

    /// Check that a unit needs.
    pub(super) fn check(&self, unit: &Unit) -> Check {
        if unit.root != self.root {
            return Check::OtherRoot;
        }
        match &self.stage {
            // A signature that was not verified is no reason to believe less: the root is what was signed.
            Stage::Rebuilt(shards) if unit.signature == self.signature => Check::Same {
                shard: shards.shards.get(unit.index).cloned().unwrap_or_default(),
                siblings: shards.tree.proof(unit.index),
            },
            _ => Check::Proof { signature: unit.signature != self.signature },
        }
    }

    /// Adds a checked unit, which has not arrived before.
    pub(super) fn add(&mut self, unit: &Unit, leaf: Hash, own: bool, shape: Shape, now: Instant) -> Step {
        self.last = now;
        if let Some(arrived) = self.arrived.get_mut(unit.index) {
            *arrived = true;
        }
        if own && std::mem::take(&mut self.own_rebuilt) {
            return Step { wasted: true, ..Step::default() };
        }
        let mut step = Step { forward: own.then(|| unit.clone()), ..Step::default() };
        if let Stage::Collecting(known) = &mut self.stage {
            known.push(Verified { index: unit.index, shard: unit.shard.clone(), leaf });
            if known.len() >= shape.data {
                step.rebuild = Some((self.root, std::mem::take(known)));
                self.stage = Stage::Rebuilding;
                self.to_data_nanos = nanos(self.opened, now);
            }
        }
        step.delivered = self.deliver(shape, now);
        step
    }

    /// Takes note of the rebuilt message. `own` is the index of this node's unit.
    pub(super) fn rebuilt(&mut self, shards: Shards, unit: UnitName, own: usize, shape: Shape, now: Instant) -> Step {
        let mut step = Step::default();
        if !self.has(own) {
            self.own_rebuilt = true;
            step.forward = Some(Unit {
                publisher: unit.publisher,
                nonce: unit.nonce,
                index: own,
                root: self.root,
                siblings: shards.tree.proof(own),
                shard: shards.shards.get(own).cloned().unwrap_or_default(),
                signature: self.signature.clone(),
            });
        }
        self.stage = Stage::Rebuilt(shards);
        step.delivered = self.deliver(shape, now);
        step
    }

    fn deliver(&mut self, shape: Shape, now: Instant) -> Option<Delivered> {
        let Stage::Rebuilt(shards) = &self.stage else { return None };
        let units = self.arrived.iter().filter(|arrived| **arrived).count() + usize::from(self.own_rebuilt);
        (units >= shape.enough()).then(|| Delivered {
            message: shards.message.clone(),
            units,
            to_data_nanos: self.to_data_nanos,
            to_enough_nanos: nanos(self.opened, now),
        })
    }

    /// Remains of the message.
    pub(super) fn done(&mut self) -> Done {
        let arrived = std::mem::take(&mut self.arrived);
        Done { root: self.root, opened: self.opened, arrived, epoch: self.epoch }
    }
}

/// Publisher and number of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitName {
    pub(super) publisher: usize,
    pub(super) nonce: u64,
}

impl UnitName {
    /// Message of a unit.
    pub(super) fn of(unit: &Unit) -> Self {
        Self { publisher: unit.publisher, nonce: unit.nonce }
    }

    /// Index of the unit of the member at place `own`.
    pub(super) fn own_index(self, own: usize) -> Option<usize> {
        Committee::index(self.publisher, own)
    }
}

/// Result of rebuilding.
pub(super) type RebuiltMessage = Result<Shards, ShardError>;

fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}
