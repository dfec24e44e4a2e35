//! Requests and orders to a node, over HTTP; in virtual time, by calls of the node.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    clock::ClockReading,
    http::{ANSWER_LIMIT, AskError, accepted, ask, body, get_json, parse},
    network::ReadinessReport,
    node::{
        ARRIVALS_SCHEMA_VERSION, ArrivalReport, NODE_SCHEMA_VERSION, NodeSummary, StartOrder, VirtualNode, VirtualNodes,
    },
    probe::{ProbeOrder, ProbeResult},
    terminal::one_line,
};

/// Part of a summary that is read before the whole, which may have another form.
#[derive(Deserialize)]
struct Versioned {
    schema_version: Option<Value>,
}

/// Counts of the node at this endpoint, whatever its id is.
pub(crate) async fn get_summary(http: &Client, base: &str) -> Result<NodeSummary, AskError> {
    let (_, body) = ask(http, &format!("{base}/summary")).await?;
    let stranger = || AskError::Other(format!("{base} is no node of a benchmark"));
    let versioned = parse::<Versioned>(&body).map_err(|_| stranger())?;
    let found = versioned.schema_version.ok_or_else(stranger)?;
    if found != NODE_SCHEMA_VERSION {
        let found: String = one_line(&found.to_string()).chars().take(20).collect();
        let line = format!("its summary has schema version {found}, this program reads {NODE_SCHEMA_VERSION}");
        return Err(AskError::Other(line));
    }
    parse(&body).map_err(|error| AskError::Other(format!("its summary can't be read: {error}")))
}

/// Endpoint of a node.
#[derive(Clone, Debug)]
pub(crate) struct NodeClient {
    pub(crate) id: u64,
    access: Access,
}

#[derive(Clone, Debug)]
enum Access {
    Http { base: String, http: Client },
    Here(VirtualNodes),
}

impl NodeClient {
    /// Client of node `id`, whose endpoint is at `base`: `http://` and host and port.
    pub(crate) fn new(id: u64, base: String, http: &Client) -> Self {
        Self { id, access: Access::Http { base, http: http.clone() } }
    }

    /// Client of node `id` of a simulation on this thread.
    pub(crate) fn in_virtual_time(id: u64, nodes: &VirtualNodes) -> Self {
        Self { id, access: Access::Here(nodes.clone()) }
    }

    /// Client and address of a node that has an endpoint.
    fn http(&self) -> Result<(&Client, &str), String> {
        match &self.access {
            Access::Http { base, http } => Ok((http, base)),
            Access::Here(_) => Err("a node of a simulation has no endpoint".into()),
        }
    }

    /// The node, if it is one of a simulation.
    fn here(&self) -> Option<Result<VirtualNode, String>> {
        match &self.access {
            Access::Http { .. } => None,
            Access::Here(nodes) => Some(nodes.get(self.id)),
        }
    }

    /// Client of node `id`.
    pub(crate) fn of(clients: &[Self], id: u64) -> Result<&Self, String> {
        clients.iter().find(|client| client.id == id).ok_or_else(|| format!("there is no node {id}"))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let (http, base) = self.http()?;
        Ok(get_json(http, &format!("{base}{path}")).await?)
    }

    /// Checks that the node accepts this run's token.
    ///
    /// # Errors
    /// One line that names the node.
    pub(crate) async fn check_token(&self) -> Result<(), String> {
        let Ok((http, base)) = self.http() else { return Ok(()) };
        let answer = http.get(format!("{base}/clock")).send().await;
        match answer {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                Err(format!("node {} {}", self.id, AskError::Token))
            }
            // Any other problem shows at the first real request.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Readiness of the node; an error while it does not answer.
    pub(crate) async fn readiness(&self) -> Result<ReadinessReport, String> {
        match self.here() {
            Some(node) => Ok(node?.readiness()),
            None => self.get("/readyz").await,
        }
    }

    /// Counts of the node.
    pub(crate) async fn summary(&self) -> Result<NodeSummary, String> {
        if let Some(node) = self.here() {
            return node?.summary();
        }
        let (http, base) = self.http()?;
        let summary = get_summary(http, base).await?;
        if summary.node != self.id {
            return Err(format!("node {} answers in its place", summary.node));
        }
        Ok(summary)
    }

    /// Arrivals that the node recorded one by one.
    pub(crate) async fn arrivals(&self) -> Result<ArrivalReport, String> {
        if let Some(node) = self.here() {
            return Ok(node?.arrivals());
        }
        let report: ArrivalReport = self.get("/arrivals").await?;
        if (report.schema_version, report.node) != (ARRIVALS_SCHEMA_VERSION, self.id) {
            return Err("its arrivals have another version".into());
        }
        Ok(report)
    }

    /// Sends the node its start.
    pub(crate) async fn start(&self, order: &StartOrder) -> Result<(), String> {
        if let Some(node) = self.here() {
            return node?.order(order);
        }
        let (http, base) = self.http()?;
        accepted(http.post(format!("{base}/start")).json(order)).await.map(drop)
    }

    /// Requests the node to close its network.
    pub(crate) async fn quiesce(&self) -> Result<(), String> {
        let (http, base) = self.http()?;
        accepted(http.post(format!("{base}/quiesce"))).await.map(drop)
    }

    /// Ends the node in order.
    pub(crate) async fn end(&self) -> Result<(), String> {
        let (http, base) = self.http()?;
        accepted(http.post(format!("{base}/end"))).await.map(drop)
    }

    /// Clock of the node.
    pub(crate) async fn clock(&self) -> Result<ClockReading, String> {
        self.get("/clock").await
    }

    /// Requests the node to measure a link.
    pub(crate) async fn probe(&self, order: &ProbeOrder, limit: Duration) -> Result<ProbeResult, String> {
        let (http, base) = self.http()?;
        let response = accepted(http.post(format!("{base}/probe")).json(order).timeout(limit)).await?;
        parse(&body(response, ANSWER_LIMIT).await?)
    }
}
