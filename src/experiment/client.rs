//! What the lab asks of a node, over HTTP.

use std::time::Duration;

use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    clock::ClockReading,
    network::ReadinessReport,
    node::{NODE_SCHEMA_VERSION, NodeSummary, StartOrder},
    probe::{ProbeOrder, ProbeResult},
    terminal::one_line,
};

/// Longest wait for an answer: longer than a node may be paused for before the next question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for which an unused connection is kept: less than a node keeps it, so that no request meets one that closes.
const KEEP_CONNECTIONS: Duration = Duration::from_secs(5);

/// Largest answer that is read, in bytes: a summary of 10,000 senders and 208 trials is far below.
const ANSWER_LIMIT: usize = 64 << 20;
/// Maximum number of values in an answer, by separators. In memory each may take ten times the bytes that it has in the answer; a
/// summary of 10,000 senders in 65 phases has two millions.
const MOST_VALUES: usize = 4 << 20;
/// Most bytes of a refusal: it is one line.
const REFUSAL_LIMIT: usize = 4096;

/// Why a node does not answer what it is asked.
#[derive(Debug, Error)]
pub(super) enum AskError {
    /// It was started with another token, or the request had none.
    #[error(
        "does not accept this run's token: give the token that the nodes were started with, by --token-file FILE or \
         {TOKEN_VARIABLE}"
    )]
    Token,
    /// Anything else, in one line.
    #[error("{0}")]
    Other(String),
}

impl From<AskError> for String {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Token => format!("it {error}"),
            AskError::Other(line) => line,
        }
    }
}

async fn accepted(request: RequestBuilder) -> Result<Response, String> {
    let response = request.send().await.map_err(|error| whole(&error))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::UNAUTHORIZED => Err(AskError::Token.into()),
        status => {
            let words = body(response, REFUSAL_LIMIT).await.unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            Err(format!("{status}: {}", one_line(words.trim().lines().next().unwrap_or_default())))
        }
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

/// The body of an answer, of a bounded size.
async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| whole(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(format!("{} answers with more than {limit} bytes", response.url()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The value in an answer, if it is not too large for the memory.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.iter().filter(|byte| b",[{".contains(byte)).count() > MOST_VALUES {
        return Err(format!("it has more than {MOST_VALUES} values"));
    }
    // The error may repeat what the answer says.
    serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))
}

/// The body of the answer to a question, of a bounded size, and whether it is an answer at all.
async fn ask(http: &Client, url: &str) -> Result<(StatusCode, Vec<u8>), AskError> {
    let response = http.get(url).send().await.map_err(|error| AskError::Other(whole(&error)))?;
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        return Err(AskError::Token);
    }
    Ok((status, body(response, ANSWER_LIMIT).await.map_err(AskError::Other)?))
}

/// Asks for JSON of a bounded size.
pub(super) async fn get_json<T: DeserializeOwned>(http: &Client, url: &str) -> Result<T, AskError> {
    let (status, body) = ask(http, url).await?;
    parse(&body).map_err(|error| {
        AskError::Other(match status.is_success() {
            true => format!("{url}: {error}"),
            false => format!("{url} answers with {status}"),
        })
    })
}

/// The part of a summary that is read before all of it, which may be of another form.
#[derive(Deserialize)]
struct Versioned {
    schema_version: Option<Value>,
}

/// What a node has counted, whichever it is.
pub(super) async fn get_summary(http: &Client, base: &str) -> Result<NodeSummary, AskError> {
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

/// A node's endpoint.
#[derive(Clone, Debug)]
pub(super) struct NodeClient {
    pub(super) id: u64,
    base: String,
    http: Client,
}

impl NodeClient {
    /// The node `id`, whose endpoint is at `base`: `http://` and host and port.
    pub(super) fn new(id: u64, base: String, http: &Client) -> Self {
        Self { id, base, http: http.clone() }
    }

    /// That of node `id`.
    pub(super) fn of(clients: &[Self], id: u64) -> Result<&Self, String> {
        clients.iter().find(|client| client.id == id).ok_or_else(|| format!("there is no node {id}"))
    }

    /// The HTTP client that all of them share; each of its requests carries the token, if there is one.
    pub(super) fn http(token: Option<&RunToken>) -> Result<Client, String> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&token.authorization()).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Client::builder()
            .no_proxy()
            // The token is for the nodes alone.
            .redirect(Policy::none())
            .default_headers(headers)
            .pool_idle_timeout(KEEP_CONNECTIONS)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| format!("the HTTP client: {error}"))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        Ok(get_json(&self.http, &format!("{}{path}", self.base)).await?)
    }

    /// Checks that the node takes this run's token.
    ///
    /// # Errors
    /// One line that names the node.
    pub(super) async fn check_token(&self) -> Result<(), String> {
        let answer = self.http.get(format!("{}/clock", self.base)).send().await;
        match answer {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                Err(format!("node {} {}", self.id, AskError::Token))
            }
            // Whatever else is wrong shows when there is something to ask.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// How ready the node is; an error while it does not answer.
    pub(super) async fn readiness(&self) -> Result<ReadinessReport, String> {
        self.get("/readyz").await
    }

    /// What the node has counted.
    pub(super) async fn summary(&self) -> Result<NodeSummary, String> {
        let summary = get_summary(&self.http, &self.base).await?;
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

    /// Ends the node in order.
    pub(super) async fn end(&self) -> Result<(), String> {
        accepted(self.http.post(format!("{}/end", self.base))).await.map(drop)
    }

    /// What the node's clock shows.
    pub(super) async fn clock(&self) -> Result<ClockReading, String> {
        self.get("/clock").await
    }

    /// Lets the node measure a link.
    pub(super) async fn probe(&self, order: &ProbeOrder, limit: Duration) -> Result<ProbeResult, String> {
        let response = accepted(self.http.post(format!("{}/probe", self.base)).json(order).timeout(limit)).await?;
        parse(&body(response, ANSWER_LIMIT).await?)
    }
}
