//! Permissions of requests to a node, checked before any route sees a request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{serve::Visit, shared::Node};
use crate::access::{TOKEN_VARIABLE, host_and_port, is_address_or_named};

/// Paths that stay open on a controlled node, because monitoring programs have no token.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// Only value of a header; none if it is missing or given twice.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Host names that requests to a controlled node may use, besides addresses and localhost: the given names, the
/// machine's own, and the node's own in the list of peers.
pub(super) fn host_names(node: &Node) -> Vec<String> {
    let own = crate::network::peer_id(node.args.id);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let peers = node.args.bootstrap.iter().filter(|peer| peer.peer == own).filter_map(|peer| peer.name());
    let given = node.args.host_names.iter().cloned();
    let all = given.chain(hostname).chain(peers);
    all.map(|name| name.trim().trim_end_matches('.').to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// Reason why a request is refused, if it is. An uncontrolled node can't be steered, so everyone except a web page may
/// read it.
fn refuse(node: &Node, names: &[String], request: &Request) -> Option<Response> {
    let headers = request.headers();
    // Only browsers send it, and no page has a reason to call a node.
    if headers.contains_key(ORIGIN) {
        return Some((StatusCode::FORBIDDEN, "a node takes no requests of web pages\n").into_response());
    }
    let token = node.token.as_ref()?;
    if OPEN.contains(&request.uri().path()) {
        return None;
    }
    let host = only(headers, &HOST).and_then(|host| host.to_str().ok()).and_then(host_and_port);
    if !host.is_some_and(|(name, _)| is_address_or_named(name, names)) {
        let line = "this node has no such name: ask it by its address, or give it the name by --host-names\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, line).into_response());
    }
    if only(headers, &AUTHORIZATION).is_some_and(|value| token.authorizes(value.as_bytes())) {
        return None;
    }
    let line = format!("this needs the run's token: Authorization: Bearer (--token-file or {TOKEN_VARIABLE})\n");
    Some((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], line).into_response())
}

/// Guard before all routes.
pub(super) async fn guard(
    State((node, names)): State<(Arc<Node>, Arc<[String]>)>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(refused) = refuse(&node, &names, &request) {
        return refused;
    }
    let visit = request.extensions().get::<Arc<Visit>>().cloned();
    let _busy = visit.map(|visit| {
        // The endpoint requires a token, and the request had it.
        if node.token.is_some() && !OPEN.contains(&request.uri().path()) {
            visit.trust();
        }
        visit.begin()
    });
    next.run(request).await
}
