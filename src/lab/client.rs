//! What the lab asks of a node, over HTTP.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use crate::{
    network::Readiness,
    node::{NODE_SCHEMA_VERSION, NodeArgs, NodeSummary, StartOrder},
    probe::{ProbeOrder, ProbeResult},
};

/// Longest wait for an answer: longer than a node may be paused for before the next question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer that is read, in bytes: a summary of 10,000 senders and 208 trials is far below.
const ANSWER_LIMIT: usize = 64 << 20;

async fn accepted(request: RequestBuilder) -> Result<Response, String> {
    let response = request.send().await.map_err(|error| whole(&error))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(format!("{status}: {}", response.text().await.unwrap_or_default().trim())),
    }
}

/// An error of the HTTP client with what lies behind it, in one line.
fn whole(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(behind) = source {
        text.push_str(&format!(": {behind}"));
        source = behind.source();
    }
    text
}

/// Asks for JSON of a bounded size.
pub(super) async fn get_json<T: DeserializeOwned>(http: &Client, url: &str) -> Result<T, String> {
    let mut response = http.get(url).send().await.map_err(|error| whole(&error))?;
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| whole(&error))? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(format!("{url} answers with more than {ANSWER_LIMIT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))
}

/// A node's endpoint.
#[derive(Clone, Debug)]
pub(super) struct NodeClient {
    pub(super) id: u64,
    base: String,
    http: Client,
}

impl NodeClient {
    pub(super) fn new(node: &NodeArgs, http: &Client) -> Self {
        // Wherever the node lives, its endpoint is to be had here.
        let base = format!("http://127.0.0.1:{}", node.metric_port);
        Self { id: node.id, base, http: http.clone() }
    }

    /// That of node `id`.
    pub(super) fn of(clients: &[Self], id: u64) -> Result<&Self, String> {
        clients.iter().find(|client| client.id == id).ok_or_else(|| format!("there is no node {id}"))
    }

    /// The HTTP client that all of them share.
    pub(super) fn http() -> Result<Client, String> {
        Client::builder()
            .no_proxy()
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| format!("the HTTP client: {error}"))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        get_json(&self.http, &format!("{}{path}", self.base)).await
    }

    /// How ready the node is; an error while it does not answer.
    pub(super) async fn readiness(&self) -> Result<Readiness, String> {
        self.get("/readyz").await
    }

    /// What the node has counted.
    pub(super) async fn summary(&self) -> Result<NodeSummary, String> {
        let summary: NodeSummary = self.get("/summary").await?;
        if summary.schema_version != NODE_SCHEMA_VERSION {
            let found = summary.schema_version;
            return Err(format!("its summary has schema version {found}, this program reads {NODE_SCHEMA_VERSION}"));
        }
        if summary.node != self.id {
            return Err(format!("node {} answers in its place", summary.node));
        }
        Ok(summary)
    }

    /// Gives the node its start.
    pub(super) async fn start(&self, order: &StartOrder) -> Result<(), String> {
        accepted(self.http.post(format!("{}/start", self.base)).json(order)).await.map(drop)
    }

    /// Lets the node close its network.
    pub(super) async fn quiesce(&self) -> Result<(), String> {
        accepted(self.http.post(format!("{}/quiesce", self.base))).await.map(drop)
    }

    /// Lets the node measure a link.
    pub(super) async fn probe(&self, order: &ProbeOrder, limit: Duration) -> Result<ProbeResult, String> {
        let response = accepted(self.http.post(format!("{}/probe", self.base)).json(order).timeout(limit)).await?;
        response.json().await.map_err(|error| error.to_string())
    }
}
