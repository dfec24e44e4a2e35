//! Addresses of peers in the format of `--bootstrap`.

use std::{fmt, net::IpAddr, str::FromStr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Address and identity of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Identity of the peer.
    pub peer: PeerId,
    /// Address to dial, without the identity.
    pub address: Multiaddr,
}

/// Reason why a text is not the address of a peer.
#[derive(Debug, Error)]
pub enum PeerAddressError {
    /// The text is no multiaddress.
    #[error("'{0}' is not a multiaddress ({1}); write it like /ip4/127.0.0.1/tcp/10000/p2p/12D3Koo...")]
    Syntax(String, String),
    /// The end names no peer.
    #[error("'{0}' names no peer; end it with /p2p/ and the peer's id")]
    NoPeer(String),
    /// The transport is neither TCP nor QUIC.
    #[error("'{0}' is neither TCP nor QUIC; write /tcp/PORT or /udp/PORT/quic-v1 before /p2p/")]
    Transport(String),
}

impl PeerAddress {
    /// True if it is an address of QUIC; otherwise of TCP.
    pub fn is_quic(&self) -> bool {
        self.address.iter().any(|part| part == Protocol::QuicV1)
    }

    /// Address of the host; none for a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.iter().find_map(|part| match part {
            Protocol::Ip4(address) => Some(address.into()),
            Protocol::Ip6(address) => Some(address.into()),
            _ => None,
        })
    }

    /// Name of the host, if it has one that DNS resolves.
    pub fn name(&self) -> Option<String> {
        self.address.iter().find_map(|part| match part {
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
            _ => None,
        })
    }

    /// True if the host is a name that DNS resolves.
    pub fn is_name(&self) -> bool {
        use Protocol::{Dns, Dns4, Dns6, Dnsaddr};
        self.address.iter().any(|part| matches!(part, Dns(_) | Dns4(_) | Dns6(_) | Dnsaddr(_)))
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut address =
            Multiaddr::from_str(text).map_err(|error| PeerAddressError::Syntax(text.into(), error.to_string()))?;
        let Some(Protocol::P2p(peer)) = address.pop() else {
            return Err(PeerAddressError::NoPeer(text.into()));
        };
        let mut parts = address.iter().skip(1);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Protocol::Tcp(_)), None, None) | (Some(Protocol::Udp(_)), Some(Protocol::QuicV1), None) => {
                Ok(Self { peer, address })
            }
            _ => Err(PeerAddressError::Transport(text.into())),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/p2p/{}", self.address, self.peer)
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn tcp_quic_and_dns_are_understood() {
        for (text, quic) in [
            (format!("/ip4/127.0.0.1/tcp/10000/p2p/{PEER}"), false),
            (format!("/ip6/::1/udp/10000/quic-v1/p2p/{PEER}"), true),
            (format!("/dns/node-0.network/tcp/10000/p2p/{PEER}"), false),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.is_quic(), quic);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn an_address_that_can_not_be_dialled_is_refused_with_the_fix() {
        for (text, advice) in [
            ("127.0.0.1:10000".to_owned(), "write it like"),
            (String::new(), "names no peer"),
            ("/ip4/127.0.0.1/tcp/10000".to_owned(), "end it with /p2p/"),
            (format!("/ip4/127.0.0.1/p2p/{PEER}"), "neither TCP nor QUIC"),
            (format!("/ip4/127.0.0.1/udp/1/p2p/{PEER}"), "neither TCP nor QUIC"),
            (format!("/p2p/{PEER}"), "neither TCP nor QUIC"),
        ] {
            let error = PeerAddress::from_str(&text).unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
