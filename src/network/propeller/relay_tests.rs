//! Networks of relays without streams: units go from queue to queue.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::io::Cursor;
use libp2p::PeerId;
use prost::Message as _;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    committee::Committee,
    counts::PropellerCounts,
    links::{read_frame, take_all},
    merkle::Tree,
    refusal::Refusal,
    relay::Relay,
    shards,
    unit::{Unit, sign},
    wire::{self, Hash256, PropellerUnit, PropellerUnitBatch, Shard},
};
use crate::{
    clock::Instant,
    metrics::{Metrics, REFUSED_UNITS},
    network::{
        Backlog, Broadcasters, Channel, Handover, NetworkConfig, Outgoing, Roster, Traffic, keypair, peer_id,
        queue::{Bounds, QueueReceiver, queue},
    },
    scenario::{GossipSettings, Protocol},
};

#[derive(Default)]
struct Delivered(Mutex<Vec<(Option<PeerId>, Vec<u8>)>>);

impl Traffic for Delivered {
    fn about_to_send(&self, _: &mut Outgoing) -> bool {
        true
    }

    fn handed_over(&self, _: &Outgoing, _: u64, _: Handover) {}

    fn not_sent_to(&self, _: &PeerId, _: u64) {}

    fn received(&self, source: Option<PeerId>, _: Option<PeerId>, _: Option<u16>, bytes: &[u8]) {
        self.0.lock().unwrap().push((source, bytes.to_vec()));
    }
}

struct Node {
    id: u64,
    relay: Relay,
    delivered: Arc<Delivered>,
    counts: PropellerCounts,
    metrics: Metrics,
    queues: BTreeMap<u64, QueueReceiver>,
}

impl Node {
    fn new(id: u64, nodes: u64, queue_bytes: usize) -> Self {
        let counts = PropellerCounts::default();
        let config = NetworkConfig {
            id,
            roster: Arc::new(Roster::new(nodes)),
            listen_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            bootstrap: vec![],
            quic: false,
            channels: vec![Channel::of_default_class(Protocol::Propeller, Broadcasters::All, 1000)],
            validation_delay: Duration::ZERO,
            propeller_stale: Duration::from_secs(120),
            propeller_counts: counts.clone(),
            gossip: GossipSettings::default(),
            queue_bytes,
            queue_messages: 1000,
            backlog: Backlog::default(),
        };
        let delivered = Arc::new(Delivered::default());
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let relay = Relay::new(&config, keypair(id), delivered.clone(), &metrics).unwrap();
        let mut queues = BTreeMap::new();
        for other in (0..nodes).filter(|other| *other != id) {
            let (sender, receiver) = queue(Bounds { messages: 10_000, bytes: 1 << 30 });
            relay.connected(peer_id(other), sender);
            queues.insert(other, receiver);
        }
        Self { id, relay, delivered, counts, metrics, queues }
    }

    async fn publish(&self, message: &[u8]) {
        self.relay.publish(Backlog::default().hold(Bytes::copy_from_slice(message))).await;
    }

    async fn take(&self, from: u64, body: Bytes) {
        let place = self.relay.place(&peer_id(from)).unwrap();
        take_all(&self.relay, peer_id(from), place, body).await;
    }

    fn delivered(&self) -> Vec<(Option<PeerId>, Vec<u8>)> {
        self.delivered.0.lock().unwrap().clone()
    }

    fn refused(&self) -> Vec<(&'static str, u64)> {
        self.counts.totals().refused.into_iter().collect()
    }
}

fn network(nodes: u64) -> Vec<Node> {
    (0..nodes).map(|id| Node::new(id, nodes, 64 << 20)).collect()
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte * 31 % 251) as u8).collect()
}

/// Carries units between the nodes, in an order that `seed` decides, until all queues are empty. Units to and from the
/// `dead` nodes are lost.
async fn carry(nodes: &mut [Node], seed: u64, dead: &[u64]) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let mut waiting = vec![];
        for node in nodes.iter_mut() {
            for (to, queue) in &mut node.queues {
                if let Some(held) = queue.try_recv() {
                    waiting.push((node.id, *to, held.bytes.clone()));
                }
            }
        }
        if waiting.is_empty() {
            return;
        }
        while !waiting.is_empty() {
            let (from, to, body) = waiting.swap_remove(random.random_range(0..waiting.len()));
            if !dead.contains(&from) && !dead.contains(&to) {
                nodes[to as usize].take(from, body).await;
            }
        }
    }
}

#[tokio::test]
async fn every_message_is_delivered_once_by_every_other_node() {
    for nodes in [2, 3, 4, 5, 7, 10, 20] {
        for (seed, length) in [(1, 36), (2, 1000), (3, 100_000)] {
            let mut all = network(nodes);
            let publisher = seed % nodes;
            all[publisher as usize].publish(&message(length)).await;
            carry(&mut all, seed, &[]).await;
            for node in &all {
                let expected =
                    if node.id == publisher { vec![] } else { vec![(Some(peer_id(publisher)), message(length))] };
                assert_eq!(node.delivered(), expected, "node {} of {nodes}, {length} bytes", node.id);
                assert_eq!(node.refused(), [], "node {} of {nodes}", node.id);
            }
            let units = nodes - 1;
            let totals = all[publisher as usize].counts.totals();
            assert_eq!((totals.published, totals.units_sent), (1, units));
            let of_receivers = |count: fn(&super::counts::PropellerTotals) -> u64| -> u64 {
                all.iter().map(|node| count(&node.counts.totals())).sum()
            };
            assert_eq!(of_receivers(|totals| totals.units_forwarded), units * (units - 1));
            assert_eq!(of_receivers(|totals| totals.units_received + totals.units_wasted), units * units);
            assert_eq!(of_receivers(|totals| totals.delivered), units);
        }
    }
}

#[tokio::test]
async fn messages_survive_as_many_dead_nodes_as_leave_two_units_for_each_data_shard() {
    // Nodes, dead nodes, delivered.
    for (nodes, dead, arrives) in
        [(7, vec![3], true), (10, vec![2, 9], true), (10, vec![2, 5, 9], true), (10, vec![2, 5, 7, 9], false)]
    {
        let mut all = network(nodes);
        all[0].publish(&message(5000)).await;
        carry(&mut all, 11, &dead).await;
        for node in all.iter().filter(|node| node.id != 0 && !dead.contains(&node.id)) {
            assert_eq!(node.delivered().len(), usize::from(arrives), "{nodes} nodes without {dead:?}");
            let totals = node.counts.totals();
            let missing: u64 = totals.owners.iter().map(|owner| owner.messages - owner.arrived).sum();
            assert_eq!(missing, dead.len() as u64);
            node.relay.expire(Instant::now() + Duration::from_secs(121));
            assert_eq!(node.counts.totals().given_up, u64::from(!arrives));
            assert_eq!(node.metrics.propeller_messages_open.get(), 0);
        }
    }
}

/// A message of node `publisher` as its publisher would make it, with each unit open to changes.
struct Forge {
    committee: Committee,
    publisher: u64,
}

impl Forge {
    fn new(nodes: u64, publisher: u64) -> Self {
        Self { committee: Committee::new(&(0..nodes).map(peer_id).collect::<Vec<_>>()), publisher }
    }

    fn units(&self, content: &[u8], nonce: u64) -> Vec<Unit> {
        let shards = shards::encode(content, self.committee.shape()).unwrap();
        self.units_of(&shards.shards, nonce)
    }

    /// Signed units with these shards, whatever they are.
    fn units_of(&self, shards: &[Bytes], nonce: u64) -> Vec<Unit> {
        let tree = Tree::new(shards.iter().map(|shard| wire::leaf_of(shard)).collect());
        let root = tree.root();
        let signature = sign(&keypair(self.publisher), &root, self.committee.id(), nonce).unwrap();
        let unit = |(index, shard): (usize, &Bytes)| Unit {
            publisher: self.committee.place(&peer_id(self.publisher)).unwrap(),
            nonce,
            index,
            root,
            siblings: tree.proof(index),
            shard: shard.clone(),
            signature: signature.clone(),
        };
        shards.iter().enumerate().map(unit).collect()
    }

    /// The node that may send this unit to `to`.
    fn sender(&self, unit: &Unit, to: u64) -> u64 {
        let publisher = self.committee.place(&peer_id(self.publisher)).unwrap();
        let owner = self.committee.member(Committee::owner(publisher, unit.index)).unwrap();
        if owner == peer_id(to) { self.publisher } else { (0..).find(|id| peer_id(*id) == owner).unwrap() }
    }

    async fn give(&self, node: &Node, unit: &Unit) {
        node.take(self.sender(unit, node.id), unit.to_body(&self.committee)).await;
    }
}

#[tokio::test]
async fn every_kind_of_wrong_input_is_refused_and_counted() {
    type Change = fn(&mut PropellerUnit);
    let changes: Vec<(Refusal, Change)> = vec![
        (Refusal::OtherCommittee, |unit| unit.committee_id = Some(Hash256 { elements: vec![1; 32].into() })),
        (Refusal::Malformed, |unit| unit.committee_id = None),
        (Refusal::Malformed, |unit| unit.merkle_root = Some(Hash256 { elements: vec![1; 31].into() })),
        (Refusal::Malformed, |unit| unit.publisher.as_mut().unwrap().id = vec![1, 2].into()),
        (Refusal::WrongPublisher, |unit| unit.publisher.as_mut().unwrap().id = peer_id(99).to_bytes().into()),
        (Refusal::WrongPublisher, |unit| unit.publisher.as_mut().unwrap().id = peer_id(1).to_bytes().into()),
        (Refusal::WrongIndex, |unit| unit.index = 6),
        (Refusal::WrongIndex, |unit| unit.index = u64::MAX),
        (Refusal::WrongSender, |unit| unit.index = (unit.index + 1) % 6),
        (Refusal::WrongShards, |unit| unit.shards = None),
        (Refusal::WrongShards, |unit| unit.shards.as_mut().unwrap().shards.clear()),
        (Refusal::WrongShards, |unit| unit.shards.as_mut().unwrap().shards.push(Shard { data: vec![0; 2].into() })),
        (Refusal::WrongLength, |unit| unit.shards.as_mut().unwrap().shards[0].data = vec![0; 3].into()),
        (Refusal::WrongLength, |unit| unit.shards.as_mut().unwrap().shards[0].data = Bytes::new()),
        (Refusal::WrongProof, |unit| unit.shards.as_mut().unwrap().shards[0].data = vec![0; 4].into()),
        (Refusal::WrongProof, |unit| drop(unit.merkle_proof.as_mut().unwrap().siblings.pop())),
        (Refusal::WrongProof, |unit| {
            let siblings = &mut unit.merkle_proof.as_mut().unwrap().siblings;
            siblings.resize(1000, siblings[0].clone());
        }),
        (Refusal::WrongSignature, |unit| unit.signature = vec![0; 64].into()),
        (Refusal::WrongSignature, |unit| unit.signature = vec![0; 600].into()),
        (Refusal::WrongSignature, |unit| unit.nonce += 1),
    ];
    let forge = Forge::new(7, 0);
    let units = forge.units(&message(100), 5);
    for (number, (refusal, change)) in changes.into_iter().enumerate() {
        let node = Node::new(1, 7, 64 << 20);
        let unit = &units[0];
        let sender = forge.sender(unit, 1);
        let mut batch = PropellerUnitBatch::decode(unit.to_body(&forge.committee)).unwrap();
        change(&mut batch.batch[0]);
        node.take(sender, batch.encode_to_vec().into()).await;
        assert_eq!(node.refused(), [(refusal.name(), 1)], "change {number}");
        assert_eq!(node.metrics.propeller_units_refused_total.of(refusal.name()).get(), 1);
        assert!(node.delivered().is_empty());
        // The true unit is still welcome.
        forge.give(&node, unit).await;
        assert_eq!(node.counts.totals().units_received, 1, "change {number}");
    }
}

#[tokio::test]
async fn frames_that_are_none_are_refused() {
    let node = Node::new(1, 3, 64 << 20);
    node.take(0, vec![0xff; 30].into()).await;
    assert_eq!(node.refused(), [("malformed", 1)]);
    for bytes in [vec![0xff; 30], vec![0x81, 0x80, 0x40, 1], vec![0x80, 0x00]] {
        let error = read_frame(&mut Cursor::new(bytes)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
    assert!(read_frame(&mut Cursor::new(vec![5, 1, 2])).await.is_err());
    assert_eq!(read_frame(&mut Cursor::new(vec![])).await.unwrap(), None);
    assert_eq!(read_frame(&mut Cursor::new(vec![2, 8, 9])).await.unwrap(), Some(vec![8, 9].into()));
}

#[tokio::test]
async fn a_second_copy_and_a_second_message_of_one_nonce_are_refused() {
    let forge = Forge::new(7, 0);
    let node = Node::new(1, 7, 64 << 20);
    let units = forge.units(&message(100), 5);
    for _ in 0..2 {
        forge.give(&node, &units[0]).await;
    }
    assert_eq!(node.refused(), [("duplicate", 1)]);
    let others = forge.units(&message(101), 5);
    forge.give(&node, &others[1]).await;
    assert_eq!(node.refused(), [("duplicate", 1), ("two_messages", 1)]);
    let mut unsigned = others[2].clone();
    unsigned.signature = vec![1; 64].into();
    forge.give(&node, &unsigned).await;
    assert_eq!(node.refused(), [("duplicate", 1), ("two_messages", 1), ("wrong_signature", 1)]);
    for unit in &units[1..] {
        forge.give(&node, unit).await;
    }
    assert_eq!(node.delivered(), [(Some(peer_id(0)), message(100))]);
    let after = node.counts.totals();
    assert_eq!((after.units_received, after.units_wasted), (3, 3), "this node rebuilt its own unit");
    // After the delivery too.
    forge.give(&node, &others[3]).await;
    forge.give(&node, &units[3]).await;
    assert_eq!(node.refused(), [("duplicate", 2), ("two_messages", 2), ("wrong_signature", 1)]);
}

#[tokio::test]
async fn a_node_that_rebuilds_its_own_unit_sends_it_on_and_does_not_need_it_again() {
    let forge = Forge::new(10, 0);
    let mut node = Node::new(4, 10, 64 << 20);
    let units = forge.units(&message(900), 5);
    let own = units.iter().find(|unit| forge.sender(unit, 4) == 0).unwrap();
    for unit in units.iter().filter(|unit| unit.index != own.index).take(3) {
        forge.give(&node, unit).await;
    }
    assert_eq!(node.counts.totals().units_forwarded, 8, "to everyone but the publisher and itself");
    let sent = node.queues.get_mut(&7).unwrap().try_recv().unwrap();
    assert_eq!(sent.bytes, own.to_body(&forge.committee));
    assert!(node.queues.get_mut(&0).unwrap().try_recv().is_none());
    forge.give(&node, own).await;
    let totals = node.counts.totals();
    assert_eq!((totals.units_received, totals.units_wasted), (3, 1));
    assert_eq!((totals.delivered, node.refused()), (0, vec![]), "four units with its own, of six");
    for unit in units.iter().filter(|unit| unit.index != own.index).skip(3).take(2) {
        forge.give(&node, unit).await;
    }
    assert_eq!(node.delivered().len(), 1);
    assert_eq!(node.counts.totals().units_at_delivery, BTreeMap::from([(6, 1)]));
}

#[tokio::test]
async fn signed_shards_that_are_no_message_are_given_up() {
    let forge = Forge::new(7, 0);
    let wrong_length: Vec<Bytes> = vec![Bytes::from(vec![0xff; 8]); 6];
    let other_code: Vec<Bytes> = (0..6).map(|shard| Bytes::from(vec![shard * 2, 0, 0, 0])).collect();
    let unequal: Vec<Bytes> = (0..6).map(|shard| Bytes::from(vec![1; 2 + 2 * shard])).collect();
    for (shards, refusal) in
        [(wrong_length, "wrong_encoding"), (other_code, "wrong_encoding"), (unequal, "wrong_length")]
    {
        let node = Node::new(1, 7, 64 << 20);
        for unit in forge.units_of(&shards, 5) {
            forge.give(&node, &unit).await;
        }
        assert!(node.delivered().is_empty());
        assert!(node.refused().iter().any(|(kind, _)| *kind == refusal), "{:?}", node.refused());
    }
}

#[tokio::test]
async fn old_messages_are_refused_after_newer_ones_were_forgotten() {
    let forge = Forge::new(7, 0);
    let node = Node::new(1, 7, 64 << 20);
    forge.give(&node, &forge.units(&message(10), 50)[0]).await;
    node.relay.expire(Instant::now() + Duration::from_secs(119));
    assert_eq!(node.counts.totals().given_up, 0);
    node.relay.expire(Instant::now() + Duration::from_secs(121));
    assert_eq!(node.counts.totals().given_up, 1);
    for nonce in [49, 50] {
        forge.give(&node, &forge.units(&message(10), nonce)[1]).await;
    }
    assert_eq!(node.refused(), [("old_nonce", 2)]);
    forge.give(&node, &forge.units(&message(10), 51)[1]).await;
    assert_eq!(node.metrics.propeller_units_received_total.get(), 2);
}

#[tokio::test]
async fn a_publisher_that_starts_messages_without_end_gets_its_room_and_no_more() {
    let (greedy, modest) = (Forge::new(7, 0), Forge::new(7, 2));
    let node = Node::new(1, 7, 64 << 10);
    let size = 60_000;
    for nonce in 1..100 {
        greedy.give(&node, &greedy.units(&message(size), nonce)[0]).await;
    }
    node.relay.expire(Instant::now());
    let open = node.metrics.propeller_messages_open.get();
    assert!((1..20).contains(&open), "{open}");
    assert_eq!(node.refused(), [("no_room", 99 - open as u64)]);
    // The others have theirs, and the first messages can still be completed.
    for unit in modest.units(&message(size), 7) {
        modest.give(&node, &unit).await;
    }
    for unit in greedy.units(&message(size), 1).iter().skip(1) {
        greedy.give(&node, unit).await;
    }
    assert_eq!(node.delivered(), [(Some(peer_id(2)), message(size)), (Some(peer_id(0)), message(size))]);
}

#[tokio::test]
async fn finished_messages_are_remembered_up_to_a_bound() {
    let forge = Forge::new(2, 0);
    let node = Node::new(1, 2, 64 << 20);
    for nonce in 1..=8300 {
        forge.give(&node, &forge.units(b"x", nonce)[0]).await;
    }
    assert_eq!(node.delivered().len(), 8300);
    forge.give(&node, &forge.units(b"x", 1)[0]).await;
    forge.give(&node, &forge.units(b"x", 8300)[0]).await;
    assert_eq!(node.refused(), [("duplicate", 1), ("old_nonce", 1)]);
}

/// Gives `rounds` mutated frames and units to a node, and checks that it stays within its bounds and useful.
async fn fuzz(rounds: usize, seed: u64) {
    let forge = Forge::new(7, 0);
    let node = Node::new(1, 7, 64 << 10);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut known = [0; REFUSED_UNITS.len()];
    for round in 0..rounds {
        let nonce = random.random_range(1..50);
        let units = forge.units(&message(random.random_range(0..300)), nonce);
        let unit = &units[random.random_range(0..6)];
        let mut batch = PropellerUnitBatch::decode(unit.to_body(&forge.committee)).unwrap();
        let wire = &mut batch.batch[0];
        let flip = |bytes: &mut Bytes, random: &mut ChaCha8Rng| {
            let mut changed = bytes.to_vec();
            if changed.is_empty() || random.random_bool(0.2) {
                changed.push(random.random());
            } else {
                let at = random.random_range(0..changed.len());
                changed[at] ^= 1 << random.random_range(0..8);
            }
            *bytes = changed.into();
        };
        match random.random_range(0..12) {
            0 => wire.index = random.random_range(0..8),
            1 => wire.nonce = random.random(),
            2 => flip(&mut wire.signature, &mut random),
            3 => flip(&mut wire.merkle_root.as_mut().unwrap().elements, &mut random),
            4 => flip(&mut wire.committee_id.as_mut().unwrap().elements, &mut random),
            5 => flip(&mut wire.publisher.as_mut().unwrap().id, &mut random),
            6 => flip(&mut wire.shards.as_mut().unwrap().shards[0].data, &mut random),
            7 => {
                let siblings = &mut wire.merkle_proof.as_mut().unwrap().siblings;
                let at = random.random_range(0..siblings.len());
                flip(&mut siblings[at].elements, &mut random);
            }
            8 => drop(wire.merkle_proof.as_mut().unwrap().siblings.pop()),
            9 => wire.shards.as_mut().unwrap().shards.clear(),
            _ => {}
        }
        let mut body = batch.encode_to_vec();
        for _ in 0..random.random_range(0..3) {
            match random.random_range(0..3) {
                0 => {
                    let at = random.random_range(0..body.len());
                    body[at] ^= 1 << random.random_range(0..8);
                }
                1 => body.truncate(random.random_range(1..=body.len())),
                _ => body.push(random.random()),
            }
        }
        let sender = if random.random_bool(0.9) { forge.sender(unit, 1) } else { random.random_range(2..7) };
        let mut length = unsigned_varint::encode::usize_buffer();
        let length = unsigned_varint::encode::usize(body.len(), &mut length);
        let mut stream = [length, &body].concat();
        if random.random_bool(0.05) {
            let at = random.random_range(0..stream.len().min(3));
            stream[at] ^= 1 << random.random_range(0..8);
        }
        let mut stream = Cursor::new(stream);
        while let Ok(Some(frame)) = read_frame(&mut stream).await {
            node.take(sender, frame).await;
        }
        if round % 1000 == 0 {
            node.relay.expire(Instant::now());
            // Room for one publisher's small messages, 64 KiB, is that for some hundred.
            assert!(node.metrics.propeller_messages_open.get() < 300);
        }
    }
    for (count, name) in known.iter_mut().zip(REFUSED_UNITS) {
        *count = node.metrics.propeller_units_refused_total.of(name).get();
    }
    assert!(known.iter().filter(|count| **count > 0).count() >= 9, "{known:?}");
    // It is as useful as before.
    let honest = Forge::new(7, 3);
    for unit in honest.units(b"honest", 1) {
        honest.give(&node, &unit).await;
    }
    assert!(node.delivered().contains(&(Some(peer_id(3)), b"honest".to_vec())));
}

#[tokio::test]
async fn mutated_frames_and_units_do_no_harm() {
    fuzz(10_000, 1).await;
}

#[tokio::test]
#[ignore = "takes minutes: a million frames and units"]
async fn a_million_mutated_frames_and_units_do_no_harm() {
    fuzz(1_000_000, 2).await;
}
