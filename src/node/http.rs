//! HTTP endpoint of the node.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::{
    guard::{guard, host_names},
    probe_gate::Refusal,
    shared::Node,
    state::{NodeState, StartOrder},
    workload::Load,
};
use crate::{
    clock::{self, ClockReading, unix_nanos},
    metrics,
    network::ReadinessReport,
    probe::{ProbeOrder, probe},
};

/// Maximum size of a request's body, in bytes: a start order with all its phases is below 2000.
const BODY_LIMIT: usize = 4096;

/// Routes of the endpoint. `/start` and the other routes that steer the node exist only on a controlled node.
pub(super) fn router(node: Arc<Node>) -> Router {
    let mut router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/summary", get(summary))
        .route("/arrivals", get(arrivals))
        .route("/clock", get(async || Json(ClockReading::now())));
    if node.args.controlled {
        router = router.route("/start", post(start)).route("/quiesce", post(quiesce)).route("/end", post(end));
    }
    // A probe sends packets to any requested address, so only a controlled node with a runner may make one.
    if node.args.controlled && node.args.probe_port.is_some() {
        router = router.route("/probe", post(measure));
    }
    let names: Arc<[String]> = host_names(&node).into();
    let guard = middleware::from_fn_with_state((node.clone(), names), guard);
    router.layer(DefaultBodyLimit::max(BODY_LIMIT)).layer(guard).with_state(node)
}

async fn metrics_text(State(node): State<Arc<Node>>) -> Response {
    node.refresh();
    let libp2p = node.libp2p_registry();
    match metrics::render(&node.registry, libp2p.as_ref()) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(node): State<Arc<Node>>) -> Response {
    let report = ReadinessReport { readiness: node.readiness(), unreached: node.unreached() };
    let status = if report.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn summary(State(node): State<Arc<Node>>) -> Response {
    Json(node.summary()).into_response()
}

async fn arrivals(State(node): State<Arc<Node>>) -> Response {
    Json(node.recorder.arrivals()).into_response()
}

/// Closes the network, so that the links are quiet; counts and probes stay available.
async fn quiesce(State(node): State<Arc<Node>>) -> StatusCode {
    node.quiesce.notify_one();
    StatusCode::ACCEPTED
}

/// Ends the node as SIGTERM does: with its summary written, and exit code 0.
async fn end(State(node): State<Arc<Node>>) -> StatusCode {
    node.end.notify_one();
    StatusCode::ACCEPTED
}

async fn measure(State(node): State<Arc<Node>>, Json(order): Json<ProbeOrder>) -> Response {
    let source = node.args.p2p_address;
    match node.probe_gate.admit(&order, &node.args.bootstrap).await {
        Ok(()) => {}
        Err(Refusal::Order(line)) => return (StatusCode::BAD_REQUEST, format!("{line}\n")).into_response(),
        Err(Refusal::TooMany(line)) => return (StatusCode::TOO_MANY_REQUESTS, format!("{line}\n")).into_response(),
    }
    let Ok(_permit) = node.probes.try_acquire() else {
        return (StatusCode::TOO_MANY_REQUESTS, "too many probes at once\n").into_response();
    };
    match tokio::task::spawn_blocking(move || probe(source, &order)).await {
        Ok(Ok(result)) => Json(result).into_response(),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn start(State(node): State<Arc<Node>>, Json(order): Json<StartOrder>) -> Response {
    clock::follow();
    let explore = matches!(node.workload.load, Load::Explore { .. });
    if let Err(line) = order.check(unix_nanos(), explore) {
        return (StatusCode::BAD_REQUEST, format!("{line}\n")).into_response();
    }
    let own = node.args.run_id;
    if own != 0 && order.run_id != 0 && order.run_id != own {
        let line = format!("run_id {} is not the run of this node, which has --run-id {own}\n", order.run_id);
        return (StatusCode::BAD_REQUEST, line).into_response();
    }
    if (node.phase() != NodeState::Connecting && !order.rejoining) || !node.order(order.clone()) {
        return (StatusCode::CONFLICT, "the node has its start already\n").into_response();
    }
    // The order is a time of the wall clock; from here on the node follows the monotonic one.
    node.settle_clock();
    (StatusCode::ACCEPTED, Json(order)).into_response()
}
