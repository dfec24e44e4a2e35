//! The page and its events over HTTP, for browsers on this machine only.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State as Shared},
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, RETRY_AFTER,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::state::{Message, Seen, State};
use crate::access::{host_and_port, is_loopback_name};

/// Maximum number of browsers that follow a run at once.
const MOST_STREAMS: usize = 64;

/// Time after which a browser connects again.
const RETRY: Duration = Duration::from_secs(1);

/// Nothing is loaded from elsewhere, and no script in the text of the page is ever run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// State of the routes.
#[derive(Clone)]
struct Page {
    states: watch::Receiver<Arc<State>>,
    streams: Arc<Semaphore>,
    port: u16,
}

/// The routes of a page that is served on `address`.
pub(super) fn router(states: watch::Receiver<Arc<State>>, address: SocketAddr) -> Router {
    let page = Page { states, streams: Arc::new(Semaphore::new(MOST_STREAMS)), port: address.port() };
    let asset = |kind: &'static str, text: &'static str| get(async move || ([(CONTENT_TYPE, kind)], text));
    Router::new()
        .route("/", asset("text/html; charset=utf-8", include_str!("page.html")))
        .route("/page.css", asset("text/css; charset=utf-8", include_str!("page.css")))
        .route("/chart.css", asset("text/css; charset=utf-8", include_str!("chart.css")))
        .route("/page.js", asset("text/javascript; charset=utf-8", include_str!("page.js")))
        .route("/format.js", asset("text/javascript; charset=utf-8", include_str!("format.js")))
        .route("/chart.js", asset("text/javascript; charset=utf-8", include_str!("chart.js")))
        .route("/icon.svg", asset("image/svg+xml", include_str!("icon.svg")))
        .route("/events", get(events))
        .layer(middleware::from_fn_with_state(page.clone(), guard))
        .with_state(page)
}

/// True if a request is for this page, by a name of this machine.
fn is_own(host: &str, port: u16) -> bool {
    host_and_port(host).is_some_and(|(name, given)| given == port && is_loopback_name(name))
}

async fn guard(Shared(page): Shared<Page>, request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let mut response = if hosts.next().is_some() || !host.is_some_and(|host| is_own(host, page.port)) {
        let line = format!("this page is at http://127.0.0.1:{}/ and has no other name\n", page.port);
        (StatusCode::MISDIRECTED_REQUEST, line).into_response()
    } else if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")], "this page can only be read\n").into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A browser that follows the run.
struct Browser {
    states: watch::Receiver<Arc<State>>,
    seen: Seen,
    /// True if it has the result.
    done: bool,
    _stream: OwnedSemaphorePermit,
}

impl Browser {
    /// Waits for a new state. A slow browser misses the states in between, and nobody waits for it.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.done || self.states.changed().await.is_err() {
            return None;
        }
        let state = Arc::clone(&self.states.borrow_and_update());
        self.done = state.result.is_some();
        let message = serde_json::to_string(&Message::new(&state, &mut self.seen)).ok()?;
        Some((Ok(Event::default().retry(RETRY).data(message)), self))
    }
}

async fn events(Shared(page): Shared<Page>) -> Response {
    let Ok(permit) = page.streams.try_acquire_owned() else {
        let line = format!("{MOST_STREAMS} browsers follow this run already: close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], line).into_response();
    };
    let mut states = page.states;
    // Any state is new to this browser.
    states.mark_changed();
    let browser = Browser { states, seen: Seen::default(), done: false, _stream: permit };
    Sse::new(stream::unfold(browser, Browser::next)).keep_alive(KeepAlive::default()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080"] {
            assert!(is_own(own, 8080), "{own}");
        }
        for other in
            ["evil.example:8080", "127.0.0.1:8081", "127.0.0.1", "localhost", "[::1]", "", ":8080", "[::1:8080"]
        {
            assert!(!is_own(other, 8080), "{other}");
        }
        assert!(is_own("localhost", 80) && is_own("[::1]", 80) && is_own("127.0.0.1:80", 80));
    }
}
