//! Whose connection it is, for the limits per address (R-CONN-2).
use super::head::Head;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The client's address.
///
/// `X-Forwarded-For` counts only when the peer is a trusted proxy, and then from the right: each proxy appends whom it
/// saw, so the first address that is not itself a trusted proxy was seen by one; what stands left of it is hearsay.
/// If all are trusted, the leftmost. A malformed entry on the way: the peer.
pub fn client_address(peer: IpAddr, head: &Head<'_>, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut client = peer;
    let lines: Vec<&str> = head.headers("x-forwarded-for").collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        match parse_hop(hop.trim_matches([' ', '\t'])) {
            Some(address) => client = address,
            None => return peer,
        }
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// An address, as most proxies write it, or with a port, as some do.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let bracketed = || Some(IpAddr::V6(text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?));
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = bare().or_else(bracketed).or_else(with_port)?.to_canonical();
    // Nobody connects from these; see `address_key` for why it matters.
    (!address.is_multicast()).then_some(address)
}

/// Prefix of IPv6 networks that stand for IPv4 addresses in [`address_key`]: within ff00::/8, multicast, from which no
/// connection can come.
const V4_KEY: u64 = 0xff00_0000_0000_0000;

/// The key under which limits count an address: an IPv4 address (v4-mapped or not) by itself, an IPv6 address by its
/// /64, which is what one household or machine gets. Different for different ones of these, also between families.
pub fn address_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => V4_KEY | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::parse_head;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted = [ip("10.0.0.0"), ip("fd00::")].map(|address| match address {
            IpAddr::V4(_) => IpNet::new(address, 8).unwrap(),
            IpAddr::V6(_) => IpNet::new(address, 64).unwrap(),
        });
        let lines: String = lines.iter().map(|line| format!("X-Forwarded-For: {line}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        client_address(ip(peer), &parse_head(text.as_bytes()).unwrap().unwrap(), &trusted).to_string()
    }

    #[test]
    fn strangers_cannot_say_who_they_are() {
        assert_eq!(client("203.0.113.1", &["198.51.100.7"]), "203.0.113.1");
        assert_eq!(client("2001:db8::1", &["198.51.100.7"]), "2001:db8::1");
        assert_eq!(client("::ffff:203.0.113.1", &["198.51.100.7"]), "203.0.113.1");
    }

    #[test]
    fn the_rightmost_untrusted_hop_counts() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.2.3.4,10.2.3.5"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "198.51.100.7", "10.2.3.4"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["10.9.9.9, 10.2.3.4"]), "10.9.9.9");
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:10.0.0.2, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("fd00::1", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn ports_and_brackets_are_understood() {
        assert_eq!(client("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn malformed_entries_mean_the_peer() {
        for line in ["unknown", "198.51.100.7, unknown", "198.51.100.7,", "", "1.2.3", "ff02::1", "224.0.0.1", "[::1"] {
            assert_eq!(client("10.0.0.1", &[line]), "10.0.0.1", "{line}");
        }
        assert_eq!(client("10.0.0.1", &["garbage, 198.51.100.7"]), "198.51.100.7", "left of the client is hearsay");
    }

    #[test]
    fn keys_tell_addresses_apart_as_the_limits_count_them() {
        assert_eq!(address_key(ip("192.0.2.1")), address_key(ip("::ffff:192.0.2.1")));
        assert_ne!(address_key(ip("192.0.2.1")), address_key(ip("192.0.2.2")));
        assert_eq!(address_key(ip("2001:db8:0:1::1")), address_key(ip("2001:db8:0:1:ffff::2")));
        assert_ne!(address_key(ip("2001:db8:0:1::1")), address_key(ip("2001:db8:0:2::1")));
    }

    #[test]
    fn families_do_not_collide() {
        // Networks whose bits an IPv4 address could be mistaken for.
        for v6 in
            ["::", "::1", "::192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::", "0:0:c000:201::", "::c000:201:0:0"]
        {
            assert_ne!(address_key(ip(v6)), address_key(ip("192.0.2.1")), "{v6}");
            assert_ne!(address_key(ip(v6)), address_key(ip("0.0.0.0")), "{v6}");
        }
        // All keys of IPv4 are those of multicast networks.
        for v4 in ["0.0.0.0", "127.0.0.1", "255.255.255.255"] {
            let network = IpAddr::V6(Ipv6Addr::from_bits(u128::from(address_key(ip(v4))) << 64));
            assert!(network.is_multicast(), "{v4}");
        }
    }
}
