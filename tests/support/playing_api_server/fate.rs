//! What is to go wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub enum Fate {
    /// No machine has room for it.
    Unschedulable,
    /// Its image can't be had.
    NoImage,
    /// Its container needs more memory than it may have.
    OutOfMemory,
    /// Its machine gets short of something.
    Evicted,
    /// Its first container fails, and says why.
    InitFails,
    /// A key of its configuration is missing.
    NoConfiguration,
    /// It never gets made: the namespace has no room.
    Forbidden,
    /// It stays at the beginning.
    Creating,
    /// Its container writes these lines and goes on.
    Says(Vec<String>),
}

/// Faults of the server itself.
#[derive(Default)]
pub struct Faults {
    fates: Mutex<BTreeMap<String, Fate>>,
    /// Answers to writes of an object, `Kind/name`, in place of doing them.
    refusals: Mutex<BTreeMap<String, Value>>,
    /// Nobody is known.
    pub unauthorized: AtomicBool,
    /// Each watch is cut after so many events; 0 for none.
    pub cut_watch_after: AtomicUsize,
    /// So many watches are told that the past is forgotten: by an event, and by the HTTP status.
    pub gone_events: AtomicUsize,
    pub gone_statuses: AtomicUsize,
    /// Each log is cut in the middle of the line after so many; 0 for none.
    pub cut_log_after: AtomicUsize,
    /// So many port-forwards are refused.
    pub refuse_forwards: AtomicUsize,
    /// The pod of this name can't be reached through the server.
    pub unreachable: Mutex<String>,
    /// Objects of this kind, and namespaces, do not go while this is set.
    pub held: AtomicBool,
    /// Counts of what was asked.
    pub watches: AtomicUsize,
    pub lists: AtomicUsize,
    pub logs: AtomicUsize,
    pub forwards: AtomicUsize,
}

impl Faults {
    /// Gives a pod a fate, by its label such as `node-1`.
    pub fn set(&self, label: &str, fate: Fate) {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).insert(label.into(), fate);
    }

    pub fn of(&self, label: &str) -> Option<Fate> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned()
    }

    /// Lets a write of an object, `Kind/name`, be refused.
    pub fn refuse(&self, object: &str, code: u16, reason: &str, message: &str, details: Value) {
        let answer = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message,
            "details": details,
        });
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).insert(object.into(), answer);
    }

    pub fn refusal(&self, object: &str) -> Option<Value> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned()
    }
}

/// Takes one of those that are left.
pub fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
