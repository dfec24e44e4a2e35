//! Valid keys and signatures of a simulating thread.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
};

use original::{Signature, SignatureError, Verifier, VerifyingKey};

/// Maximum bytes of messages that are remembered, and maximum number of signatures and of keys.
const MOST_BYTES: usize = 32 << 20;
const MOST_ENTRIES: usize = 16 << 10;

/// Bytes of a key and of a signature.
type Name = ([u8; 32], [u8; 64]);

#[derive(Default)]
struct Memory {
    /// Keys by their bytes.
    keys: BTreeMap<[u8; 32], VerifyingKey>,
    /// Messages by key and signature, which is valid.
    messages: BTreeMap<Name, Box<[u8]>>,
    /// In the order of their first check: the oldest is forgotten first.
    order: VecDeque<Name>,
    bytes: usize,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

impl Memory {
    fn add(&mut self, name: Name, message: &[u8]) {
        if message.len() > MOST_BYTES || self.messages.contains_key(&name) {
            return;
        }
        while self.bytes + message.len() > MOST_BYTES || self.order.len() >= MOST_ENTRIES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.messages.remove(&oldest).map_or(0, |message| message.len());
        }
        self.bytes += message.len();
        self.order.push_back(name);
        self.messages.insert(name, message.into());
    }
}

/// The key of these bytes.
pub(super) fn key(bytes: &[u8; 32]) -> Result<VerifyingKey, SignatureError> {
    if !virtual_clock::is_virtual() {
        return VerifyingKey::from_bytes(bytes);
    }
    MEMORY.with_borrow_mut(|memory| {
        if let Some(key) = memory.keys.get(bytes) {
            return Ok(*key);
        }
        let key = VerifyingKey::from_bytes(bytes)?;
        if memory.keys.len() >= MOST_ENTRIES {
            memory.keys.clear();
        }
        memory.keys.insert(*bytes, key);
        Ok(key)
    })
}

/// Checks a signature.
pub(super) fn verify(key: &VerifyingKey, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    if !virtual_clock::is_virtual() {
        return key.verify(message, signature);
    }
    MEMORY.with_borrow_mut(|memory| {
        let name = (key.to_bytes(), signature.to_bytes());
        if memory.messages.get(&name).is_some_and(|known| **known == *message) {
            return Ok(());
        }
        key.verify(message, signature)?;
        memory.add(name, message);
        Ok(())
    })
}

/// Number of signatures and bytes that this thread remembers.
#[cfg(test)]
pub(super) fn size() -> (usize, usize) {
    MEMORY.with_borrow(|memory| (memory.messages.len(), memory.bytes))
}
