//! Addresses for the networks of a run.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;

use crate::deploy::netns;

/// Ranges of the networks: the range reserved for benchmarks of networks (RFC 2544), then a private one.
const RANGES: [Ipv4Net; 2] =
    [Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15), Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16)];

/// Prefix lengths of both networks of a run together, and of one; each has room for more nodes than a run may have.
const BOTH: u8 = 21;
const ONE: u8 = 22;

/// Routes of the host.
const ROUTES: &str = "/proc/net/route";

/// Addresses of a node. The first address of the subnet belongs to Docker's bridge. The IPv6 address is free, because
/// Docker assigns none.
pub(super) fn addresses(subnet: Ipv4Net, id: u64) -> [IpAddr; 2] {
    let host = u32::try_from(id).unwrap_or(u32::MAX).saturating_add(2);
    let v4 = Ipv4Addr::from_bits(subnet.network().to_bits().saturating_add(host));
    let [_, v6] = netns::addresses(id);
    [v4.into(), v6]
}

/// Pairs of subnets that nobody is known to use: for the data and for the control network.
pub(super) fn candidates(taken: &[Ipv4Net]) -> impl Iterator<Item = [Ipv4Net; 2]> {
    let overlaps = |one: &Ipv4Net, other: &Ipv4Net| one.contains(other) || other.contains(one);
    let all = RANGES.iter().flat_map(|range| range.subnets(BOTH).into_iter().flatten());
    let free = all.filter(move |both| !taken.iter().any(|taken| overlaps(taken, both)));
    free.filter_map(|both| {
        let mut halves = both.subnets(ONE).ok()?;
        Some([halves.next()?, halves.next()?])
    })
}

/// Subnets in a text, as Docker lists them, without those that are not IPv4.
pub(super) fn listed(text: &str) -> Vec<Ipv4Net> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Destinations of the host's routes, except the default route.
pub(super) fn routed() -> Vec<Ipv4Net> {
    routes(&fs::read_to_string(ROUTES).unwrap_or_default())
}

fn routes(text: &str) -> Vec<Ipv4Net> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The kernel writes the four bytes as a number in its own byte order.
        let address = |at: usize| {
            u32::from_str_radix(words.get(at)?, 16).ok().map(|number| Ipv4Addr::from_bits(u32::from_be(number)))
        };
        let (first, mask) = (address(1)?, address(7)?);
        Ipv4Net::with_netmask(first, mask).ok().filter(|route| route.prefix_len() > 0).map(|route| route.trunc())
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_subnets_are_skipped() {
        let pair = |taken: &[Ipv4Net]| candidates(taken).next().map(|pair| pair.map(|subnet| subnet.to_string()));
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
        assert_eq!(addresses(data, 0)[0], IpAddr::from([198, 18, 0, 2]));
        assert_eq!(addresses(data, 999)[0], IpAddr::from([198, 18, 3, 233]));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read_without_the_default_one() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routes(text), ["172.17.0.0/16".parse::<Ipv4Net>().unwrap()]);
    }
}
