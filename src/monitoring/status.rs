//! Endpoint of the runner for Prometheus: the phases, the window, the faults and the trials of the run.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HOST},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    access::{host_and_port, is_loopback_name},
    clock::unix_nanos,
    live::Bounded,
    metrics::{CONTENT_TYPE as METRICS_TYPE, RunnerMetrics},
    node::StartOrder,
    report::RunSummary,
};

/// Maximum number of open connections: more than Prometheus and a curious user need.
const MOST_CONNECTIONS: usize = 16;

/// State of a run as metrics. Clones share it. Without monitoring it is there too, and nobody reads it.
///
/// It has no metrics if their table is not consistent, which a test excludes.
#[derive(Clone, Debug)]
pub(crate) struct RunStatus(Option<Arc<RunnerMetrics>>);

impl Default for RunStatus {
    fn default() -> Self {
        Self(RunnerMetrics::new().ok().map(Arc::new))
    }
}

impl RunStatus {
    /// Begins a phase.
    pub(crate) fn phase(&self, phase: &str) {
        if let Some(metrics) = &self.0 {
            metrics.phase(phase, unix_nanos());
        }
    }

    /// Sets the measured window of a start; that of mode explore, which has a window for each trial, ends at `end`.
    pub(crate) fn window(&self, order: &StartOrder, end: Option<u64>) {
        if let Some(metrics) = &self.0 {
            metrics.window(order.from_unix_nanos(), order.to_unix_nanos().or(end));
        }
    }

    /// Sets the state of a fault; `began` is in nanoseconds since the Unix epoch.
    pub(crate) fn fault(&self, number: usize, text: &str, began: Option<u64>, active: bool) {
        if let Some(metrics) = &self.0 {
            metrics.fault(number, text, began, active);
        }
    }

    /// Sets the present trial.
    pub(crate) fn trial(&self, number: usize) {
        if let Some(metrics) = &self.0 {
            metrics.trial(number);
        }
    }

    /// Sets the times to reach, which the result has; false if it has none.
    pub(crate) fn reach(&self, run: &RunSummary) -> bool {
        let mut known = false;
        let Some(metrics) = &self.0 else { return known };
        for class in &run.classes {
            for (share, times) in [("1/3", &class.reach_1_3), ("2/3", &class.reach_2_3), ("all", &class.reach_all)] {
                for of in times.iter().flat_map(|times| &times.quantiles) {
                    metrics.reach(&class.name, share, of.quantile, of.value_micros);
                    known = true;
                }
            }
        }
        known
    }

    /// Sets the number of finished trials.
    pub(crate) fn trials_finished(&self, count: usize) {
        if let Some(metrics) = &self.0 {
            metrics.trials_finished(count);
        }
    }
}

/// The endpoint, served until this is dropped.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// Serves the state on a free port of 127.0.0.1.
    pub(super) async fn start(status: &RunStatus) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/metrics", get(metrics)).with_state((status.clone(), address.port()));
        let task = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(Bounded::new(listener, MOST_CONNECTIONS), router).await;
        });
        Ok(Self { address, task })
    }
}

async fn metrics(State((RunStatus(metrics), port)): State<(RunStatus, u16)>, request: Request) -> Response {
    // A page of another site whose name leads here must not read the run.
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if !host.and_then(host_and_port).is_some_and(|(name, given)| given == port && is_loopback_name(name)) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    match metrics.map(|metrics| metrics.render()) {
        Some(Ok(text)) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
