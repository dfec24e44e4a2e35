//! Requests over HTTP, bounded in time and size.

use std::time::Duration;

use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    terminal::one_line,
};

/// Maximum time to wait for an answer: longer than a node may be paused before the next request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for which an unused connection is kept: shorter than a node keeps it, so that no request meets a closing
/// connection.
const KEEP_CONNECTIONS: Duration = Duration::from_secs(5);

/// Maximum size of an answer, in bytes: a summary of 10,000 senders and 208 trials is far below.
pub(crate) const ANSWER_LIMIT: usize = 64 << 20;
/// Maximum number of values in an answer, by separators. In memory, each may take ten times its bytes in the answer; a
/// summary of 10,000 senders in 65 phases has two million.
const MOST_VALUES: usize = 4 << 20;
/// Maximum size of a refusal, which is one line, in bytes.
const REFUSAL_LIMIT: usize = 4096;

/// Reason why a node does not answer a request.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// The node was started with another token, or the request had none.
    #[error(
        "does not accept this run's token: give the token that the nodes were started with, by --token-file FILE or \
         {TOKEN_VARIABLE}"
    )]
    Token,
    /// Any other reason, in one line.
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

pub(crate) async fn accepted(request: RequestBuilder) -> Result<Response, String> {
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

/// An error of the HTTP client with its causes, in one line.
fn whole(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(behind) = source {
        text.push_str(&format!(": {behind}"));
        source = behind.source();
    }
    text
}

/// Body of an answer, of a bounded size.
pub(crate) async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| whole(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(format!("{} answers with more than {limit} bytes", response.url()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Value in an answer, if it is not too large for the memory.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.iter().filter(|byte| b",[{".contains(byte)).count() > MOST_VALUES {
        return Err(format!("it has more than {MOST_VALUES} values"));
    }
    // The error may repeat text of the answer.
    serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))
}

/// Body of an answer, of a bounded size, and true if the node answered the request at all.
pub(crate) async fn ask(http: &Client, url: &str) -> Result<(StatusCode, Vec<u8>), AskError> {
    let response = http.get(url).send().await.map_err(|error| AskError::Other(whole(&error)))?;
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        return Err(AskError::Token);
    }
    Ok((status, body(response, ANSWER_LIMIT).await.map_err(AskError::Other)?))
}

/// Requests JSON of a bounded size.
pub(crate) async fn get_json<T: DeserializeOwned>(http: &Client, url: &str) -> Result<T, AskError> {
    let (status, body) = ask(http, url).await?;
    parse(&body).map_err(|error| {
        AskError::Other(match status.is_success() {
            true => format!("{url}: {error}"),
            false => format!("{url} answers with {status}"),
        })
    })
}

/// A client that sends the token, if there is one, with every request.
pub(crate) fn client(token: Option<&RunToken>) -> Result<Client, String> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&token.authorization()).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Client::builder()
        .no_proxy()
        // The token is for the nodes alone, so redirects are not followed.
        .redirect(Policy::none())
        .default_headers(headers)
        .pool_idle_timeout(KEEP_CONNECTIONS)
        .timeout(ANSWER_TIMEOUT)
        .build()
        .map_err(|error| format!("the HTTP client: {error}"))
}
