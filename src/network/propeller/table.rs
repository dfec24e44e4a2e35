//! Messages of all publishers: those in progress, and the remains of finished ones, both bounded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    committee::{Committee, Shape},
    merkle::Hash,
    open::{Check, Done, Open, RebuiltMessage, Step, UnitName},
    refusal::Refusal,
    unit::Unit,
};
use crate::{clock::Instant, network::limits::PEERS_AT_ONCE};

/// Time without a unit after which a message makes room for a newer one of its publisher.
const STALLED: Duration = Duration::from_secs(5);

/// Number of finished messages that are remembered in all, and for each publisher at least and at most. Late units of a
/// remembered message are recognised; a new message that is older than a forgotten one is refused.
const FINISHED: usize = 1 << 16;
const LEAST_FINISHED: usize = 64;
const MOST_FINISHED: usize = 8192;

/// Bounds of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Time after which a message is given up or forgotten.
    pub(super) stale: Duration,
    /// Bytes of the messages in progress of one publisher. One message always fits.
    pub(super) publisher_bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Open(Box<Open>),
    Done(Done),
}

#[derive(Debug, Default)]
struct Publisher {
    messages: BTreeMap<u64, Entry>,
    /// Room of the messages in progress.
    bytes: usize,
    finished: usize,
    /// Largest nonce of a forgotten message; new messages have larger ones.
    floor: Option<u64>,
}

/// Messages of all publishers.
#[derive(Debug)]
pub(super) struct Table {
    shape: Shape,
    own: usize,
    bounds: Bounds,
    publishers: Vec<Publisher>,
    /// Room of the messages in progress of all publishers.
    bytes: usize,
    most_finished: usize,
    /// Epochs of the messages that were given up since the last call of [`Self::take_given_up`].
    given_up: Vec<u32>,
}

/// Message that a new unit has opened or that a unit belongs to, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Measurement that the message belongs to.
    pub(super) epoch: u32,
    /// True if the unit is the first one of its message.
    pub(super) first: bool,
}

impl Table {
    /// Makes the table of the member at place `own`.
    pub(super) fn new(committee: &Arc<Committee>, own: usize, bounds: Bounds) -> Self {
        let publishers = (0..committee.len()).map(|_| Publisher::default()).collect();
        let most_finished = (FINISHED / committee.len().max(1)).clamp(LEAST_FINISHED, MOST_FINISHED);
        Self { shape: committee.shape(), own, bounds, publishers, bytes: 0, most_finished, given_up: vec![] }
    }

    /// Check that a unit needs before it is added.
    ///
    /// # Errors
    /// The reason why it is not wanted.
    pub(super) fn check(&mut self, unit: &Unit, now: Instant) -> Result<Check, Refusal> {
        let (shape, bounds, all) = (self.shape, self.bounds, self.bytes);
        let publisher = self.publishers.get_mut(unit.publisher).ok_or(Refusal::WrongPublisher)?;
        match publisher.messages.get(&unit.nonce) {
            Some(Entry::Done(done)) if done.root != unit.root => Ok(Check::OtherRoot),
            Some(Entry::Done(done)) if done.arrived.get(unit.index).copied().unwrap_or(true) => Err(Refusal::Duplicate),
            Some(Entry::Done(_)) => Ok(Check::Wasted),
            Some(Entry::Open(open)) => match open.check(unit) {
                Check::OtherRoot => Ok(Check::OtherRoot),
                _ if open.has(unit.index) => Err(Refusal::Duplicate),
                _ if !open.fits(unit) => Err(Refusal::WrongLength),
                check => Ok(check),
            },
            None => {
                if publisher.floor.is_some_and(|floor| unit.nonce <= floor) {
                    return Err(Refusal::OldNonce);
                }
                let needed = Open::room(unit.shard.len(), shape);
                let full = |publisher: &Publisher, all: usize| {
                    publisher.bytes > 0
                        && (publisher.bytes.saturating_add(needed) > bounds.publisher_bytes
                            || all.saturating_add(needed) > bounds.publisher_bytes.saturating_mul(PEERS_AT_ONCE))
                };
                if full(publisher, all) {
                    let (freed, epoch) = publisher.give_up_stalled(shape, now);
                    self.bytes -= freed;
                    self.given_up.extend(epoch);
                    if full(publisher, self.bytes) {
                        return Err(Refusal::NoRoom);
                    }
                }
                Ok(Check::Proof { signature: true })
            }
        }
    }

    /// Adds a unit whose checks have succeeded, and opens its message if it is the first one in `epoch`.
    ///
    /// # Errors
    /// The reason why it is not wanted any more: other tasks may have changed the message since its check.
    pub(super) fn add(
        &mut self,
        unit: &Unit,
        leaf: Hash,
        now: Instant,
        epoch: u32,
    ) -> Result<(Step, Counted), Refusal> {
        let (shape, own) = (self.shape, UnitName::of(unit).own_index(self.own));
        let publisher = self.publishers.get_mut(unit.publisher).ok_or(Refusal::WrongPublisher)?;
        let first = !publisher.messages.contains_key(&unit.nonce);
        if first {
            if publisher.floor.is_some_and(|floor| unit.nonce <= floor) {
                return Err(Refusal::OldNonce);
            }
            let room = Open::room(unit.shard.len(), shape);
            publisher.bytes += room;
            self.bytes += room;
        }
        let new = || Entry::Open(Box::new(Open::new(unit, shape, now, epoch)));
        match publisher.messages.entry(unit.nonce).or_insert_with(new) {
            Entry::Done(done) if done.root != unit.root => Err(Refusal::TwoMessages),
            Entry::Done(done) => {
                match done.arrived.get_mut(unit.index) {
                    Some(arrived) if !*arrived => *arrived = true,
                    _ => return Err(Refusal::Duplicate),
                }
                Ok((Step { wasted: true, ..Step::default() }, Counted { epoch: done.epoch, first: false }))
            }
            Entry::Open(open) => {
                if open.check(unit) == Check::OtherRoot {
                    return Err(Refusal::TwoMessages);
                }
                if open.has(unit.index) {
                    return Err(Refusal::Duplicate);
                }
                if !open.fits(unit) {
                    return Err(Refusal::WrongLength);
                }
                let counted = Counted { epoch: open.epoch, first };
                let step = open.add(unit, leaf, own == Some(unit.index), shape, now);
                if step.delivered.is_some() {
                    self.finish(UnitName::of(unit));
                }
                Ok((step, counted))
            }
        }
    }

    /// Takes note of a rebuilt message; one that was given up meanwhile needs nothing.
    ///
    /// # Errors
    /// The message is none, and is given up.
    pub(super) fn rebuilt(&mut self, name: UnitName, rebuilt: RebuiltMessage, now: Instant) -> Result<Step, Refusal> {
        let shape = self.shape;
        let Some(own) = name.own_index(self.own) else { return Ok(Step::default()) };
        let Some(publisher) = self.publishers.get_mut(name.publisher) else { return Ok(Step::default()) };
        let Some(Entry::Open(open)) = publisher.messages.get_mut(&name.nonce) else { return Ok(Step::default()) };
        let Ok(shards) = rebuilt else {
            self.finish(name);
            return Err(Refusal::WrongEncoding);
        };
        let step = open.rebuilt(shards, name, own, shape, now);
        if step.delivered.is_some() {
            self.finish(name);
        }
        Ok(step)
    }

    /// Gives up and forgets all messages that were opened too long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        let (stale, shape) = (self.bounds.stale, self.shape);
        let (all, given_up) = (&mut self.bytes, &mut self.given_up);
        for publisher in &mut self.publishers {
            let Publisher { messages, bytes, finished, floor } = publisher;
            messages.retain(|nonce, entry| {
                let opened = match entry {
                    Entry::Open(open) => open.opened(),
                    Entry::Done(done) => done.opened,
                };
                if now.duration_since(opened) < stale {
                    return true;
                }
                match entry {
                    Entry::Open(open) => {
                        *bytes -= open.own_room(shape);
                        *all -= open.own_room(shape);
                        given_up.push(open.epoch);
                    }
                    Entry::Done(_) => *finished -= 1,
                }
                *floor = (*floor).max(Some(*nonce));
                false
            });
        }
    }

    /// Epochs of the messages that were given up since the last call.
    pub(super) fn take_given_up(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.given_up)
    }

    /// Number of messages in progress.
    pub(super) fn open(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.messages.len() - publisher.finished).sum()
    }

    fn finish(&mut self, name: UnitName) {
        let shape = self.shape;
        let Some(publisher) = self.publishers.get_mut(name.publisher) else { return };
        self.bytes -= publisher.finish(name.nonce, shape);
        publisher.forget(self.most_finished);
    }
}

impl Publisher {
    /// Keeps the remains of a message only; returns the room that it had.
    fn finish(&mut self, nonce: u64, shape: Shape) -> usize {
        let Some(entry) = self.messages.get_mut(&nonce) else { return 0 };
        let Entry::Open(open) = entry else { return 0 };
        let room = open.own_room(shape);
        *entry = Entry::Done(open.done());
        self.bytes -= room;
        self.finished += 1;
        room
    }

    /// Forgets the oldest finished messages above the bound.
    fn forget(&mut self, most: usize) {
        while self.finished > most {
            let mut finished = self.messages.iter().filter(|(_, entry)| matches!(entry, Entry::Done(_)));
            let Some(oldest) = finished.next().map(|(nonce, _)| *nonce) else { return };
            self.messages.remove(&oldest);
            self.finished -= 1;
            self.floor = self.floor.max(Some(oldest));
        }
    }

    /// Gives up the oldest message in progress if it is stalled; returns the room that it had, and its epoch.
    fn give_up_stalled(&mut self, shape: Shape, now: Instant) -> (usize, Option<u32>) {
        let mut open = self.messages.iter().filter_map(|(nonce, entry)| match entry {
            Entry::Open(open) => Some((*nonce, now.duration_since(open.last()), open.epoch)),
            Entry::Done(_) => None,
        });
        match open.next() {
            Some((nonce, silent, epoch)) if silent >= STALLED => (self.finish(nonce, shape), Some(epoch)),
            _ => (0, None),
        }
    }
}
