//! Addresses for the networks of a run.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use crate::lab::netns;

/// Where networks are put: the range set aside for benchmarks of networks (RFC 2544), then a private one.
const RANGES: [Subnet; 2] = [Subnet::new([198, 18, 0, 0], 15), Subnet::new([10, 77, 0, 0], 16)];

/// Both networks of a run together; each has room for more nodes than a run may have.
const BOTH: u8 = 21;
const ONE: u8 = 22;

/// The host's routes.
const ROUTES: &str = "/proc/net/route";

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    first: u32,
    bits: u8,
}

impl Subnet {
    const fn new(first: [u8; 4], bits: u8) -> Self {
        Self { first: u32::from_be_bytes(first), bits }
    }

    fn last(self) -> u32 {
        self.first | u32::MAX.checked_shr(self.bits.into()).unwrap_or(0)
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// Reads `198.18.0.0/22`.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
        Some(Self { first: address.parse::<Ipv4Addr>().ok()?.to_bits(), bits })
    }

    /// A node's addresses. The first one of the subnet is that of Docker's bridge. The IPv6 address is nobody's, as Docker
    /// gives none.
    pub(super) fn addresses(self, id: u64) -> [IpAddr; 2] {
        let v4 = self.first.saturating_add(2).saturating_add(u32::try_from(id).unwrap_or(u32::MAX));
        let [_, v6] = netns::addresses(id);
        [Ipv4Addr::from_bits(v4).into(), v6]
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.bits)
    }
}

/// Pairs of subnets that nobody has, as far as is known: for the data and for the control.
pub(super) fn candidates(taken: &[Subnet]) -> impl Iterator<Item = [Subnet; 2]> {
    let all = RANGES.iter().flat_map(|range| (range.first..=range.last()).step_by(1 << (32 - BOTH)));
    let free = all.map(|first| Subnet { first, bits: BOTH }).filter(|pair| !taken.iter().any(|t| t.overlaps(*pair)));
    free.map(|pair| [pair.first, pair.first + (1 << (32 - ONE))].map(|first| Subnet { first, bits: ONE }))
}

/// Subnets in a text, as Docker lists them; others than IPv4 are left out.
pub(super) fn listed(text: &str) -> Vec<Subnet> {
    text.split_whitespace().filter_map(Subnet::parse).collect()
}

/// Where the host has routes to, apart from the one to everywhere.
pub(super) fn routed() -> Vec<Subnet> {
    routes(&fs::read_to_string(ROUTES).unwrap_or_default())
}

fn routes(text: &str) -> Vec<Subnet> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The kernel writes the four bytes as a number of its own order.
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok().map(u32::from_be);
        let (first, mask) = (number(1)?, number(7)?);
        (mask != 0).then_some(Subnet { first: first & mask, bits: u8::try_from(mask.leading_ones()).ok()? })
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_passed_over() {
        let pair = |taken: &[Subnet]| candidates(taken).next().map(|pair| pair.map(|subnet| subnet.to_string()));
        assert_eq!(pair(&[]).unwrap(), ["198.18.0.0/22", "198.18.4.0/22"]);
        let taken = listed("172.17.0.0/16 fd00::/64 198.18.6.0/24\n\n198.18.8.0/21");
        assert_eq!(taken.len(), 3);
        assert_eq!(pair(&taken).unwrap(), ["198.18.16.0/22", "198.18.20.0/22"]);
        assert_eq!(pair(&listed("198.18.0.0/15")).unwrap(), ["10.77.0.0/22", "10.77.4.0/22"]);
        assert_eq!(candidates(&[]).count(), 64 + 32);
        assert!(candidates(&listed("0.0.0.0/0")).next().is_none());
    }

    #[test]
    fn nodes_come_after_the_bridge() {
        let [data, _] = candidates(&[]).next().unwrap();
        assert_eq!(data.addresses(0)[0], IpAddr::from([198, 18, 0, 2]));
        assert_eq!(data.addresses(999)[0], IpAddr::from([198, 18, 3, 233]));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read_without_the_default_one() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routes(text), [Subnet::new([172, 17, 0, 0], 16)]);
    }
}
