//! Watches: past and present changes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{body::Body, http::Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Cluster,
    answer::{Answer, refused},
    fate::take,
    http::Target,
};

const FORGOTTEN: &str = "too old resource version";

pub fn answer(cluster: Arc<Cluster>, target: Target) -> Answer {
    cluster.faults.watches.fetch_add(1, Ordering::Relaxed);
    if take(&cluster.faults.gone_statuses) {
        return refused(410, "Expired", FORGOTTEN);
    }
    let from: u64 = target.asked("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let cut_after = cluster.faults.cut_watch_after.load(Ordering::Relaxed);
    let gone = take(&cluster.faults.gone_events);
    let changes = cluster.store.changes();
    let state = (cluster, target, changes, from, 0_usize);
    let lines = stream::unfold(state, move |(cluster, target, mut changes, from, mut told)| async move {
        if gone {
            if told > 0 {
                return None;
            }
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
                                 "reason": "Expired", "message": FORGOTTEN });
            let line = line("ERROR", &status);
            return Some((Ok(line), (cluster, target, changes, from, 1)));
        }
        loop {
            if cut_after > 0 && told >= cut_after {
                // Like a load balancer that loses patience: in the middle of the stream, but after everything written
                // before.
                sleep(Duration::from_millis(30)).await;
                return Some((Err(std::io::Error::other("cut")), (cluster, target, changes, from, told)));
            }
            changes.mark_unchanged();
            let happened = cluster.store.since(from, target.namespace.as_deref(), &target.plural);
            let next = happened.into_iter().find(|one| target.fits(&one.object));
            if let Some(next) = next {
                told += 1;
                let line = line(next.kind, &next.object);
                return Some((Ok(line), (cluster, target, changes, next.version, told)));
            }
            if changes.changed().await.is_err() {
                return None;
            }
        }
    });
    Response::builder().header("content-type", "application/json").body(Body::from_stream(lines)).unwrap()
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}
