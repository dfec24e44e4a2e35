//! Configuration of one interface.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::handles::peer_handles;
use crate::scenario::{Shape, ShapeError};

/// Maximum number of peers with a rule of their own: a table of u32 filters holds 2047 of a family.
pub(super) const MOST_PEERS: usize = 2000;

/// Maximum length of a congestion control's name, as in the kernel.
const LONGEST_NAME: usize = 15;

/// Shape of the outgoing traffic to some addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRule {
    /// Addresses of the peer, IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
    /// Shape of the traffic; the throughput is this peer's share, within that of the interface.
    pub shape: Shape,
}

/// Configuration of one interface. The default shapes nothing.
///
/// A part that may be changed later needs its devices from the start, even if nothing is shaped yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InterfacePlan {
    /// Shape of outgoing traffic. With `peers`, latency, jitter, loss, duplication and reordering apply to all other
    /// peers; the throughput applies to all together.
    pub egress: Shape,
    /// Peers with shapes of their own.
    pub peers: Vec<PeerRule>,
    /// Shape of incoming traffic.
    pub ingress: Shape,
    /// Addresses whose packets are dropped on arrival.
    pub blocked: Vec<IpAddr>,
    /// True if the blocked addresses may be changed while traffic flows.
    pub blockable: bool,
    /// True if latency, jitter, loss, duplication and reordering of each peer may be changed while traffic flows.
    pub adjustable_delay: bool,
    /// True if the throughput of each peer may be changed while traffic flows.
    pub adjustable_rate: bool,
    /// Congestion control of TCP connections over this interface; none for the kernel's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<String>,
}

impl InterfacePlan {
    /// A plan that shapes every direction of a link once: `shape` for outgoing traffic, its throughput for incoming
    /// traffic too.
    pub fn symmetric(shape: Shape) -> Self {
        let rate_only =
            Shape { throughput_kilobytes_per_second: shape.throughput_kilobytes_per_second, ..Shape::default() };
        Self { egress: shape, ingress: rate_only, ..Self::default() }
    }

    /// True if the plan shapes nothing.
    pub fn is_unshaped(&self) -> bool {
        self.egress.is_unshaped()
            && self.ingress.is_unshaped()
            && self.blocked.is_empty()
            && self.congestion_control.is_none()
            && !(self.blockable || self.adjustable_delay || self.adjustable_rate)
            && self.peers.iter().all(|peer| peer.shape.is_unshaped())
    }

    /// True if the plan needs the kernel's netem, now or after a change.
    pub fn needs_netem(&self) -> bool {
        let shapes = [self.egress, self.ingress];
        let own = self.peers.iter().map(|peer| peer.shape);
        self.adjustable_delay || shapes.into_iter().chain(own).any(|shape| shape.needs_netem())
    }

    /// Returns the plan if its values are valid.
    ///
    /// # Errors
    /// One line that names the value.
    pub fn validated(self) -> Result<Self, ShapeError> {
        self.egress.validated()?;
        self.ingress.validated()?;
        for peer in &self.peers {
            peer.shape.validated()?;
        }
        let name = self.congestion_control.as_deref().unwrap_or("none");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            return Err(ShapeError(format!("congestion control '{name}': give a name such as cubic or bbr")));
        }
        if self.peers.len() > MOST_PEERS {
            return Err(ShapeError(format!(
                "{} peers have shapes of their own; at most {MOST_PEERS} can",
                self.peers.len()
            )));
        }
        Ok(self)
    }

    /// Handles of the qdiscs that shape the traffic to `address`, as `tc` writes them; none for a peer without a rule.
    pub fn handles_to(&self, address: IpAddr) -> Option<[String; 2]> {
        self.peers.iter().position(|peer| peer.addresses.contains(&address)).map(peer_handles)
    }

    /// Shape of the traffic to `address`, the throughput of the whole interface included.
    pub fn egress_to(&self, address: IpAddr) -> Shape {
        match self.peers.iter().find(|peer| peer.addresses.contains(&address)) {
            None => self.egress,
            Some(peer) => {
                let rates = [peer.shape.throughput_kilobytes_per_second, self.egress.throughput_kilobytes_per_second];
                Shape { throughput_kilobytes_per_second: rates.into_iter().flatten().min(), ..peer.shape }
            }
        }
    }
}
