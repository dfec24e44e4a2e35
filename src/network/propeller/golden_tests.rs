//! Units of committees of two to ten nodes, byte for byte as Apollo's implementation makes them
//! (`tests/propeller-golden.json`).

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    committee::Committee,
    merkle::Hash,
    shards::{self, Shards, Verified},
    unit::{Unit, is_signed, sign},
    wire::{self, PropellerUnitBatch, Units},
};
use crate::{
    network::{keypair, peer_id},
    scenario::unit_bytes,
};

#[derive(Deserialize)]
struct Golden {
    nodes: u64,
    length: usize,
    data: usize,
    coding: usize,
    nonce: u64,
    root: String,
    signature: String,
    shard_len: usize,
    units: Vec<GoldenUnit>,
}

#[derive(Deserialize)]
struct GoldenUnit {
    unit: usize,
    shard_sha: String,
    siblings: Vec<String>,
    unit_len: usize,
    unit_head: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden() -> Vec<Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/propeller-golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

const COMMITTEE_ID: Hash = [7; 32];

impl Golden {
    fn committee(&self) -> Committee {
        Committee::new(&(0..self.nodes).map(peer_id).collect::<Vec<_>>()).with_id(COMMITTEE_ID)
    }

    fn message(&self) -> Vec<u8> {
        (0..self.length).map(|byte| (byte * 31 % 251) as u8).collect()
    }

    fn units(&self, committee: &Committee, shards: &Shards) -> Vec<Unit> {
        let root = shards.tree.root();
        let signature = sign(&keypair(0), &root, &COMMITTEE_ID, self.nonce).unwrap();
        let unit = |(index, shard): (usize, &Bytes)| Unit {
            publisher: committee.place(&peer_id(0)).unwrap(),
            nonce: self.nonce,
            index,
            root,
            siblings: shards.tree.proof(index),
            shard: shard.clone(),
            signature: signature.clone(),
        };
        shards.shards.iter().enumerate().map(unit).collect()
    }
}

#[test]
fn every_unit_is_that_of_apollos_implementation() {
    let all = golden();
    assert_eq!(all.iter().map(|golden| golden.nodes).collect::<Vec<_>>(), [2, 3, 4, 5, 7, 10]);
    for golden in all {
        let committee = golden.committee();
        let shape = committee.shape();
        assert_eq!((shape.data, shape.coding, shape.units()), (golden.data, golden.coding, golden.units.len()));
        let shards = shards::encode(&golden.message(), shape).unwrap();
        assert_eq!(hex(&shards.tree.root()), golden.root, "{} nodes", golden.nodes);
        for (unit, expected) in golden.units(&committee, &shards).iter().zip(&golden.units) {
            let name = format!("{} nodes, unit {}", golden.nodes, unit.index);
            assert_eq!(unit.index, expected.unit);
            assert_eq!(unit.shard.len(), golden.shard_len, "{name}");
            assert_eq!(hex(&Sha256::digest(&unit.shard)), expected.shard_sha, "{name}");
            assert_eq!(unit.siblings.iter().map(|hash| hex(hash)).collect::<Vec<_>>(), expected.siblings, "{name}");
            assert_eq!(hex(&unit.signature), golden.signature, "{name}");
            let body = unit.to_body(&committee);
            let encoded = Units::of(body.clone()).next_unit().unwrap().unwrap();
            assert_eq!(encoded.len(), expected.unit_len, "{name}");
            assert!(hex(&encoded).starts_with(&expected.unit_head), "{name}");
            assert!(body.len() <= unit_bytes(golden.nodes as usize, golden.shard_len), "{name}");
            assert_eq!(PropellerUnitBatch::decode(body).unwrap().batch.len(), 1);
        }
    }
}

#[test]
fn the_longest_unit_is_as_long_as_the_scenario_computes() {
    for golden in golden() {
        let longest = golden.units.iter().map(|unit| unit.unit_len).max().unwrap();
        let batch = 1 + unsigned_varint::encode::usize(longest, &mut unsigned_varint::encode::usize_buffer()).len();
        assert_eq!(unit_bytes(golden.nodes as usize, golden.shard_len), batch + longest, "{} nodes", golden.nodes);
    }
}

#[test]
fn every_unit_is_accepted_from_its_sender_and_proves_itself() {
    for golden in golden() {
        let committee = golden.committee();
        let shards = shards::encode(&golden.message(), committee.shape()).unwrap();
        let publisher = committee.place(&peer_id(0)).unwrap();
        for unit in golden.units(&committee, &shards) {
            let body = Units::of(unit.to_body(&committee)).next_unit().unwrap().unwrap();
            let owner = Committee::owner(publisher, unit.index);
            for own in (0..committee.len()).filter(|own| *own != publisher) {
                let sender = if own == owner { publisher } else { owner };
                let read = Unit::read(body.clone(), &committee, sender, own).unwrap();
                assert!(read.is_proven(wire::leaf_of(&read.shard), committee.shape().units()));
                assert!(is_signed(committee.key(publisher), &read, &COMMITTEE_ID));
                assert_eq!(read.to_body(&committee), unit.to_body(&committee));
            }
        }
    }
}

#[test]
fn the_message_comes_back_from_the_last_units() {
    for golden in golden() {
        let shape = golden.committee().shape();
        let shards = shards::encode(&golden.message(), shape).unwrap();
        let last = shape.units() - shape.data..shape.units();
        let known = last.map(|index| {
            let shard = shards.shards[index].clone();
            Verified { index, leaf: wire::leaf_of(&shard), shard }
        });
        let again = shards::rebuild(&known.collect::<Vec<_>>(), shape, &shards.tree.root()).unwrap();
        assert_eq!(again.message, golden.message());
    }
}
