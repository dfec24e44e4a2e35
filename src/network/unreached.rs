//! Causes why a peer is not reached.

use std::{error::Error, io};

use libp2p::{core::transport::TransportError, swarm::DialError};
use serde::{Deserialize, Serialize};

/// Text of libp2p's error for a connection that took too long; its type can't be named behind the boxed transport.
const TIMEOUT_TEXT: &str = "Timeout has been reached";

/// Maximum length of a cause, in characters: it may contain text of a peer.
const LONGEST_CAUSE: usize = 200;

/// A peer that is not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachedPeer {
    /// Node id, if it is one of the network's own.
    pub node: Option<u64>,
    /// Its peer id.
    pub peer: String,
    /// Address that was dialled.
    pub address: String,
    /// Cause of the last failed dial: name unknown, connection refused, timed out, wrong peer id, or a protocol's
    /// error.
    pub cause: String,
}

impl std::fmt::Display for UnreachedPeer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.node {
            Some(node) => write!(formatter, "node {node}")?,
            None => write!(formatter, "peer {}", self.peer)?,
        }
        write!(formatter, " at {}: {}", self.address, self.cause)
    }
}

/// Last dialled address, and the cause of the failure; none if the peer was not dialled at all, for example because it
/// is connected already.
pub(super) fn cause(error: &DialError) -> Option<(String, String)> {
    let (address, cause) = match error {
        DialError::WrongPeerId { obtained, address } => {
            (address.to_string(), format!("wrong peer id: {obtained} answers there"))
        }
        DialError::Transport(errors) => {
            let (address, error) = errors.last()?;
            let cause = match error {
                TransportError::MultiaddrNotSupported(_) => "the address is not supported".to_owned(),
                TransportError::Other(error) => in_words(error),
            };
            (address.to_string(), cause)
        }
        _ => return None,
    };
    let address = address.split("/p2p/").next().unwrap_or_default().to_owned();
    let clean = cause.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_CAUSE).collect();
    Some((address, clean))
}

/// Cause in a word if it is a usual one; otherwise the text of the innermost error.
fn in_words(error: &io::Error) -> String {
    let mut innermost = error.to_string();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text == TIMEOUT_TEXT {
            return "timed out".into();
        }
        next = error.source();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(word) = usual(error.kind()) {
                return word.into();
            }
            // The text is our own.
            if error.kind() == io::ErrorKind::NotFound {
                return text;
            }
            // The error inside of an I/O error is not its source.
            if let Some(inner) = error.get_ref() {
                next = Some(inner);
            }
        }
        innermost = text;
    }
    // Transports wrap errors so that only the text of the system's error is left, which ends with its number.
    let number = innermost.rsplit_once("(os error ").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    match number.map(io::Error::from_raw_os_error) {
        Some(error) => usual(error.kind()).map_or(innermost, str::to_owned),
        None => format!("protocol: {innermost}"),
    }
}

fn usual(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::TimedOut => Some("timed out"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_however_deep_it_lies() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let nested = io::Error::other(io::Error::other(refused));
        assert_eq!(in_words(&nested), "connection refused");
        assert_eq!(in_words(&io::Error::other("Connection refused (os error 111)")), "connection refused");
        assert_eq!(
            in_words(&io::Error::other("Network is unreachable (os error 101)")),
            "Network is unreachable (os error 101)"
        );
        assert_eq!(in_words(&io::Error::other(TIMEOUT_TEXT)), "timed out");
        assert_eq!(in_words(&io::Error::new(io::ErrorKind::NotFound, "name unknown: x")), "name unknown: x");
        assert_eq!(in_words(&io::Error::other(io::Error::other("no such cipher"))), "protocol: no such cipher");
    }
}
