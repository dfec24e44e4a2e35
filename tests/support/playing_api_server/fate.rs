//! Planned faults of pods and of the server.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Fate of a pod.
#[derive(Clone, Debug)]
pub enum Fate {
    /// No machine has room for it.
    Unschedulable,
    /// Its image can't be pulled.
    NoImage,
    /// Its container needs more memory than it may have.
    OutOfMemory,
    /// Its machine runs out of a resource.
    Evicted,
    /// Its first container fails, and writes the reason.
    InitFails,
    /// A key of its configuration is missing.
    NoConfiguration,
    /// It is never created: the namespace has no room.
    Forbidden,
    /// It stays in its first phase.
    Creating,
    /// A sandbox or a volume fails: it stays in its first phase, and events of this kind, name, reason and message state
    /// why.
    Event(&'static str, &'static str, &'static str, &'static str),
    /// Its container writes these lines and continues.
    Says(Vec<String>),
}

/// Faults of the server itself.
#[derive(Default)]
pub struct Faults {
    fates: Mutex<BTreeMap<String, Fate>>,
    /// Answers to writes of an object, `Kind/name`, instead of doing them.
    refusals: Mutex<BTreeMap<String, Value>>,
    /// All users are unknown.
    pub unauthorized: AtomicBool,
    /// Number of events after which each watch is cut; 0 for none.
    pub cut_watch_after: AtomicUsize,
    /// Number of watches that receive the error that their position is too old: by an event, and by the HTTP status.
    pub gone_events: AtomicUsize,
    pub gone_statuses: AtomicUsize,
    /// Number of lines after which each log is cut in the middle of the next one; 0 for none.
    pub cut_log_after: AtomicUsize,
    /// Number of port-forwards that are refused.
    pub refuse_forwards: AtomicUsize,
    /// Name of the pod that can't be reached through the server.
    pub unreachable: Mutex<String>,
    /// Objects of this kind, and namespaces, are not removed while this is set.
    pub held: AtomicBool,
    /// Role of the user; all rights without one.
    pub role: Mutex<Option<Value>>,
    /// Resource, such as `pods/portforward`, that the user may not use.
    pub forbidden: Mutex<String>,
    /// Warning of a policy about each template and pod.
    pub policy_warning: Mutex<String>,
    /// Pods may not select machines, as in GKE Autopilot.
    pub selector_is_refused: AtomicBool,
    /// Time until which the server only answers 500.
    pub away_until: Mutex<Option<Instant>>,
    /// Counts of requests.
    pub watches: AtomicUsize,
    pub lists: AtomicUsize,
    pub logs: AtomicUsize,
    pub forwards: AtomicUsize,
}

impl Faults {
    /// Sets the fate of a pod, by its label such as `node-1`.
    pub fn set(&self, label: &str, fate: Fate) {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).insert(label.into(), fate);
    }

    /// Ends the fate of a pod.
    pub fn clear(&self, label: &str) {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).remove(label);
    }

    pub fn of(&self, label: &str) -> Option<Fate> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned()
    }

    /// Refuses a write of an object, `Kind/name`.
    pub fn refuse(&self, object: &str, code: u16, reason: &str, message: &str, details: Value) {
        let answer = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message,
            "details": details,
        });
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).insert(object.into(), answer);
    }

    pub fn is_away(&self) -> bool {
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    /// Makes the server answer 500 for a while, as a real one without its store: clients do not repeat these requests by
    /// themselves.
    pub fn go_away(&self, time: Duration) {
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    pub fn refusal(&self, object: &str) -> Option<Value> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned()
    }
}

/// Takes one of the remaining ones; false if none remains.
pub fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
