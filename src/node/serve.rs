//! Server of the node's HTTP endpoint. Its connections are bounded, and those of strangers never keep the runner out.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tracing::debug;

use crate::clock::{Instant, sleep};

/// Maximum number of open connections: runner, Prometheus and probes need a handful; beyond that the oldest idle one is
/// closed.
const MOST_CONNECTIONS: usize = 256;

/// Part of the open files that connections of the endpoint may take; the rest is for the p2p network.
const SHARE_OF_FILES: usize = 4;

/// Maximum time for the head of a request, and between two requests. A runner asks each second.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a request's head, in bytes: a token, and the headers that browsers and proxies add.
const HEAD_LIMIT: usize = 16 << 10;

/// Pause after a connection could not be accepted, so that a full table of files makes no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// State of one connection, which decides if it is closed when others need its place.
pub(super) struct Visit {
    /// True after a request on it had the token.
    trusted: AtomicBool,
    /// Number of requests whose handler runs.
    busy: AtomicUsize,
    since: Mutex<Instant>,
}

impl Visit {
    fn new() -> Self {
        Self { trusted: AtomicBool::new(false), busy: AtomicUsize::new(0), since: Mutex::new(Instant::now()) }
    }

    /// Records that a request on it had the token.
    pub(super) fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// Counts a request as running until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Busy(self.clone())
    }

    /// Order in which connections are closed: strangers before those that had the token, the oldest first.
    fn rank(&self) -> (bool, Instant) {
        (self.trusted.load(Ordering::Relaxed), *self.since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running request.
pub(super) struct Busy(Arc<Visit>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Open connections.
#[derive(Default)]
struct Visits(Mutex<HashMap<u64, (Arc<Visit>, AbortHandle)>>);

impl Visits {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Arc<Visit>, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for one more of at most `most` connections; `false` if every connection is busy.
    fn make_room(&self, most: usize) -> bool {
        let mut visits = self.lock();
        if visits.len() < most {
            return true;
        }
        let idle = visits.iter().filter(|(_, (visit, _))| visit.busy.load(Ordering::Relaxed) == 0);
        let Some(oldest) = idle.min_by_key(|(_, (visit, _))| visit.rank()).map(|(id, _)| *id) else { return false };
        if let Some((_, task)) = visits.remove(&oldest) {
            task.abort();
        }
        true
    }
}

/// Serves the routes to all clients, for ever.
pub(super) async fn serve(listener: TcpListener, router: Router, open_files: u64) {
    let share = usize::try_from(open_files).unwrap_or(usize::MAX) / SHARE_OF_FILES;
    let most = MOST_CONNECTIONS.min(share).max(1);
    let visits = Arc::new(Visits::default());
    for id in 0.. {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    debug!(%error, "a connection of the endpoint was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        if !visits.make_room(most) {
            continue;
        }
        let visit = Arc::new(Visit::new());
        let (router, inside, all) = (router.clone(), visit.clone(), visits.clone());
        // The task can't end before it is entered, because both need the lock.
        let mut open = visits.lock();
        let task = tokio::spawn(async move {
            serve_one(stream, router, inside).await;
            all.lock().remove(&id);
        });
        open.insert(id, (visit, task.abort_handle()));
    }
}

async fn serve_one(stream: TcpStream, router: Router, visit: Arc<Visit>) {
    let routes = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(visit.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "a connection of the endpoint has failed");
    }
}
