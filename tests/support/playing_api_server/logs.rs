//! Logs of containers, as a kubelet sends them: from a full second on, with times, cut if a test wants it.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::{body::Body, http::Response};
use futures::stream;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Cluster,
    answer::{Answer, not_found, refused},
    http::Target,
};

/// Time of a line, with all nine digits.
fn stamped(time: Timestamp, text: &str) -> String {
    format!("{} {text}\n", time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"))
}

pub async fn answer(cluster: &std::sync::Arc<Cluster>, target: &Target) -> Answer {
    cluster.faults.logs.fetch_add(1, Ordering::Relaxed);
    let (namespace, pod) = (target.namespace.clone().unwrap(), target.name.clone().unwrap());
    if cluster.store.get(&namespace, "pods", &pod).is_none() {
        return not_found("pods", &pod);
    }
    let Some((log, _)) = cluster.kubelet.log(&namespace, &pod) else {
        return refused(400, "BadRequest", "container is waiting to start");
    };
    let since: Option<Timestamp> = target.asked("sinceTime").map(|time| time.parse().unwrap());
    let (times, follow) = (target.asked("timestamps") == Some("true"), target.asked("follow") == Some("true"));
    let tail: usize = target.asked("tailLines").map_or(usize::MAX, |lines| lines.parse().unwrap());
    let cut_after = cluster.faults.cut_log_after.load(Ordering::Relaxed);
    let all = log.lock().unwrap_or_else(PoisonError::into_inner).len();
    let (cluster, at) = (cluster.clone(), all.saturating_sub(tail).min(all));
    let lines = stream::unfold((cluster, at, 0_usize, false), move |(cluster, mut at, mut told, over)| {
        let (log, namespace, pod) = (log.clone(), namespace.clone(), pod.clone());
        async move {
            if over {
                // Earlier lines are sent first.
                sleep(Duration::from_millis(30)).await;
                return Some((Err(std::io::Error::other("cut")), (cluster, at, told, over)));
            }
            loop {
                let ended = cluster.kubelet.log(&namespace, &pod).is_none_or(|(_, more)| !more);
                let next = log.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned();
                match next {
                    Some((time, _)) if since.is_some_and(|since| time < since) => at += 1,
                    Some((time, text)) => {
                        at += 1;
                        told += 1;
                        let line = if times { stamped(time, &text) } else { format!("{text}\n") };
                        if cut_after > 0 && told > cut_after {
                            let half = line[..line.len() - 2].to_owned();
                            return Some((Ok(half), (cluster, at, told, true)));
                        }
                        return Some((Ok(line), (cluster, at, told, false)));
                    }
                    None if !follow || ended => return None,
                    None => sleep(Duration::from_millis(30)).await,
                }
            }
        }
    });
    Response::builder().header("content-type", "text/plain").body(Body::from_stream(lines)).unwrap()
}
