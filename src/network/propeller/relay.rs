//! Way of units and messages through a node: publishing, checking, forwarding, rebuilding, delivering.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use libp2p::{PeerId, identity::Keypair};
use tracing::debug;

use super::{
    committee::{Committee, Shape},
    counts::{Counters, Published},
    merkle::Hash,
    open::{Check, Delivered, Step, UnitName},
    refusal::Refusal,
    shards::{self, ShardError, Verified},
    table::{Bounds, Table},
    unit::{Unit, is_signed, sign},
    wire,
    workers::Workers,
};
use crate::{
    clock::{Instant, unix_nanos},
    metrics::Metrics,
    network::{
        Backlog, NetworkConfig, Traffic,
        backlog::Held,
        queue::{QueueSender, Refused},
    },
};

/// The part of a node that all its streams share.
pub(in crate::network) struct Relay {
    committee: Arc<Committee>,
    own: usize,
    key: Keypair,
    table: Mutex<Table>,
    /// Queues to the connected peers. Units are added under the lock, because a queue has one sender only.
    peers: Mutex<HashMap<PeerId, QueueSender>>,
    traffic: Arc<dyn Traffic>,
    counters: Counters,
    backlog: Backlog,
    workers: Workers,
    /// Nonce of the last published message.
    nonce: Mutex<u64>,
}

impl Relay {
    /// Makes the relay of a node; none if the node is no member of its own network.
    pub(in crate::network) fn new(
        config: &NetworkConfig,
        key: Keypair,
        traffic: Arc<dyn Traffic>,
        metrics: &Metrics,
    ) -> Option<Self> {
        Self::of(Committee::new(config.roster.peers()), config, key, traffic, metrics)
    }

    pub(super) fn of(
        committee: Committee,
        config: &NetworkConfig,
        key: Keypair,
        traffic: Arc<dyn Traffic>,
        metrics: &Metrics,
    ) -> Option<Self> {
        let committee = Arc::new(committee);
        let own = committee.place(&key.public().to_peer_id())?;
        let publisher_bytes = config.limits().unit_bytes(committee.len());
        let bounds = Bounds { stale: config.propeller_stale, publisher_bytes };
        Some(Self {
            own,
            key,
            table: Mutex::new(Table::new(&committee, own, bounds)),
            committee,
            peers: Mutex::default(),
            traffic,
            counters: Counters { counts: config.propeller_counts.clone(), metrics: metrics.clone() },
            backlog: config.backlog.clone(),
            workers: Workers::default(),
            nonce: Mutex::new(0),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, QueueSender>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of other members.
    pub(in crate::network) fn others(&self) -> usize {
        self.committee.len() - 1
    }

    /// Place of a member; none for a peer outside of the committee.
    pub(super) fn place(&self, peer: &PeerId) -> Option<usize> {
        self.committee.place(peer)
    }

    /// Adds a connected peer with its queue.
    pub(in crate::network) fn connected(&self, peer: PeerId, queue: QueueSender) {
        self.peers().insert(peer, queue);
    }

    /// Removes a peer with its queue, which ends the task that empties it.
    pub(in crate::network) fn disconnected(&self, peer: &PeerId) {
        self.peers().remove(peer);
    }

    /// Removes all peers, which ends the tasks that empty their queues.
    pub(in crate::network) fn end(&self) {
        self.peers().clear();
    }

    /// Gives up messages that were opened too long ago.
    pub(in crate::network) fn expire(&self, now: Instant) {
        let mut table = self.table();
        table.expire(now);
        let given_up = table.take_given_up();
        self.counters.metrics.propeller_messages_open.set(i64::try_from(table.open()).unwrap_or(i64::MAX));
        drop(table);
        self.counters.given_up(&given_up);
    }

    /// Counts input that was refused.
    pub(super) fn refuse(&self, peer: &PeerId, refusal: Refusal) {
        debug!(%peer, reason = refusal.name(), "refused a unit");
        self.counters.refused(refusal);
    }

    /// Encodes a message, and queues each unit for its owner.
    pub(in crate::network) async fn publish(&self, message: Held) {
        let epoch = self.counters.counts.epoch();
        let nonce = {
            let mut last = self.nonce.lock().unwrap_or_else(PoisonError::into_inner);
            *last = unix_nanos().max(*last + 1);
            *last
        };
        let (committee, key, publisher) = (self.committee.clone(), self.key.clone(), self.own);
        let size = message.bytes.len();
        let bytes = message.bytes.clone();
        let encode = move || {
            let started = Instant::now();
            let bodies = bodies(&bytes, &committee, &key, publisher, nonce);
            (bodies, started.elapsed())
        };
        let Some((bodies, elapsed)) = self.workers.run(size, encode).await else { return };
        let Some(bodies) = bodies else {
            self.counters.metrics.network_dropped_broadcast_messages.of("signing_error").inc();
            return;
        };
        let encode_nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let mut published = Published { message_bytes: size as u64, encode_nanos, ..Published::default() };
        {
            let peers = self.peers();
            for (index, body) in bodies.into_iter().enumerate() {
                let owner = self.committee.member(Committee::owner(publisher, index));
                let size = body.len() as u64;
                published.unit_bytes += size;
                if owner.is_some_and(|owner| self.queue(&owner, peers.get(&owner), body)) {
                    published.sent += 1;
                    published.sent_bytes += size;
                }
            }
        }
        self.counters.published(epoch, &published);
    }

    /// Takes the body of one unit from the member at place `from`, and does everything that follows from it.
    ///
    /// # Errors
    /// The reason why it was refused.
    pub(super) async fn take(&self, from: usize, bytes: Bytes) -> Result<(), Refusal> {
        let unit = Unit::read(bytes, &self.committee, from, self.own)?;
        let checked = {
            let mut table = self.table();
            let checked = table.check(&unit, Instant::now());
            let given_up = table.take_given_up();
            drop(table);
            self.counters.given_up(&given_up);
            checked?
        };
        let leaf = self.leaf(&unit, checked).await?;
        let name = UnitName::of(&unit);
        let (step, counted) = self.table().add(&unit, leaf, Instant::now(), self.counters.counts.epoch())?;
        let owner = Committee::owner(unit.publisher, unit.index);
        let opened = (0..if counted.first { self.committee.len() } else { 0 }).filter(|place| *place != unit.publisher);
        self.counters.arrived(counted.epoch, owner, step.wasted, opened);
        self.follow(name, step, counted.epoch).await
    }

    /// Does a check, and returns the hash of the unit's leaf if the message needs it.
    async fn leaf(&self, unit: &Unit, check: Check) -> Result<Hash, Refusal> {
        let key = self.committee.key(unit.publisher);
        match check {
            Check::Wasted => Ok(Hash::default()),
            Check::Same { shard, siblings } if shard == unit.shard && siblings == unit.siblings => Ok(Hash::default()),
            Check::Same { .. } => Err(Refusal::WrongProof),
            Check::OtherRoot if is_signed(key, unit, self.committee.id()) => Err(Refusal::TwoMessages),
            Check::OtherRoot => Err(Refusal::WrongSignature),
            Check::Proof { signature } => {
                if signature && !is_signed(key, unit, self.committee.id()) {
                    return Err(Refusal::WrongSignature);
                }
                let shard = unit.shard.clone();
                let leaf = self.workers.run(shard.len(), move || wire::leaf_of(&shard)).await;
                leaf.filter(|leaf| unit.is_proven(*leaf, self.committee.shape().units())).ok_or(Refusal::WrongProof)
            }
        }
    }

    async fn follow(&self, name: UnitName, mut step: Step, epoch: u32) -> Result<(), Refusal> {
        loop {
            if let Some(unit) = &step.forward {
                self.forward(unit, epoch);
            }
            if let Some(delivered) = &step.delivered {
                self.deliver(name, delivered, epoch);
            }
            let Some((root, known)) = step.rebuild.take() else { return Ok(()) };
            let shape = self.committee.shape();
            // With one data shard every shard is equal to it.
            let systematic = shape.data == 1 || known.iter().all(|known| known.index < shape.data);
            let size = known.iter().map(|known| known.shard.len()).sum();
            let rebuilt = self.workers.run(size, move || timed_rebuild(&known, shape, &root)).await;
            let (rebuilt, nanos) = rebuilt.unwrap_or((Err(ShardError::Content), 0));
            if rebuilt.is_ok() {
                self.counters.rebuilt(epoch, systematic, nanos);
            }
            step = self.table().rebuilt(name, rebuilt, Instant::now())?;
        }
    }

    /// Sends this node's unit to everyone but its publisher.
    fn forward(&self, unit: &Unit, epoch: u32) {
        let body = unit.to_body(&self.committee);
        let publisher = self.committee.member(unit.publisher);
        let peers = self.peers();
        let others = peers.iter().filter(|(peer, _)| Some(**peer) != publisher);
        let sent = others.filter(|(peer, queue)| self.queue(peer, Some(queue), body.clone())).count() as u64;
        drop(peers);
        self.counters.forwarded(epoch, sent, sent * body.len() as u64);
    }

    fn deliver(&self, name: UnitName, delivered: &Delivered, epoch: u32) {
        self.counters.delivered(epoch, delivered);
        self.traffic.received(self.committee.member(name.publisher), None, None, &delivered.message);
    }

    /// Queues a unit for a peer; false if there was no room.
    fn queue(&self, peer: &PeerId, queue: Option<&QueueSender>, body: Bytes) -> bool {
        let size = body.len();
        let refused = match queue.map(|queue| queue.try_send(self.backlog.hold(body), size)) {
            Some(Ok(())) => return true,
            Some(Err(Refused::Full)) => "peer_queue_full",
            Some(Err(Refused::Closed)) | None => "no_peers_connected",
        };
        self.counters.metrics.network_dropped_broadcast_messages.of(refused).inc();
        self.traffic.not_sent_to(peer, 1);
        false
    }
}

/// Units of a message as bodies of frames; none if they can't be made.
fn bodies(message: &[u8], committee: &Committee, key: &Keypair, publisher: usize, nonce: u64) -> Option<Vec<Bytes>> {
    let shards = shards::encode(message, committee.shape()).ok()?;
    let root = shards.tree.root();
    let signature = sign(key, &root, committee.id(), nonce).ok()?;
    let units = shards.shards.iter().enumerate().map(|(index, shard)| Unit {
        publisher,
        nonce,
        index,
        root,
        siblings: shards.tree.proof(index),
        shard: shard.clone(),
        signature: signature.clone(),
    });
    Some(units.map(|unit| unit.to_body(committee)).collect())
}

fn timed_rebuild(known: &[Verified], shape: Shape, root: &Hash) -> (super::open::RebuiltMessage, u64) {
    let started = Instant::now();
    let rebuilt = shards::rebuild(known, shape, root);
    (rebuilt, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
