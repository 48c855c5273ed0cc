//! Ports to listen on, and pairs of addresses to connect over.
//!
//! A connection is told apart by source address and port, destination address and port. Between two addresses and to one port
//! there are only as many connections as ephemeral ports: 28,232 by default. All of 127.0.0.0/8 is this machine, so more sources
//! (127.0.1.1, 127.0.1.2, …) give more, and the server may stay bound to 127.0.0.1, where nobody else can reach it. A server
//! that listens on all addresses can be reached over several destinations instead.
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Connections of a pair of addresses. Well below the ephemeral range: the kernel looks for a free port step by step, and
/// ports of connections that just closed are still taken (TIME_WAIT) when all come back in a storm.
pub const CONNECTIONS_PER_PAIR: u32 = 10_000;

/// Below the ephemeral range, so that no client's own port is in the way.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Own addresses to connect from. Empty if one pair does.
pub fn sources(connections: u32, destinations: usize) -> Vec<Ipv4Addr> {
    let pairs = connections.div_ceil(CONNECTIONS_PER_PAIR) as usize;
    let count = pairs.div_ceil(destinations.max(1));
    if count <= 1 { Vec::new() } else { (0..count as u32).map(source).collect() }
}

/// 127.0.1.1 to 127.0.1.250, 127.0.2.1 and so on.
fn source(number: u32) -> Ipv4Addr {
    const ROW: u32 = 250;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + number / ROW * 256 + number % ROW)
}

/// `count` destinations from 127.0.0.1 on, all to the port of a server that listens on all of them.
pub fn destinations(address: SocketAddr, count: u32) -> Result<Vec<SocketAddr>, String> {
    if count <= 1 {
        return Ok(vec![address]);
    }
    let IpAddr::V4(first) = address.ip() else {
        return Err("several destinations are loopback addresses of IPv4".into());
    };
    if !first.is_loopback() || count > 65_536 {
        return Err(format!("{count} destinations need a server on 127.0.0.0/8 that listens on all of its addresses"));
    }
    Ok((0..count).map(|n| SocketAddr::from((Ipv4Addr::from(u32::from(first) + n), address.port()))).collect())
}

/// A port of 127.0.0.1 that nobody listens on now.
pub fn free_port() -> Result<u16, String> {
    // Another place each time and in each process: a port just left may still be closing.
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() as u16).wrapping_mul(7).wrapping_add(TAKEN.fetch_add(17, Ordering::Relaxed));
    let count = PORTS.len() as u16;
    let mut ports = (0..count).map(|n| PORTS.start + ((u32::from(offset) + u32::from(n)) % u32::from(count)) as u16);
    ports
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| format!("no port of {}..{} is free", PORTS.start, PORTS.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_grow_with_the_connections() {
        assert!(sources(10_000, 1).is_empty());
        assert_eq!(sources(10_001, 1), [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 2)]);
        assert!(sources(20_000, 2).is_empty());
        assert_eq!(sources(30_000, 2).len(), 2);
        let many = sources(10_000_000, 1);
        assert_eq!(many.len(), 1_000);
        assert_eq!(many[249], Ipv4Addr::new(127, 0, 1, 250));
        assert_eq!(many[250], Ipv4Addr::new(127, 0, 2, 1));
        assert!(many.iter().all(|address| address.octets()[3] != 0 && address.octets()[3] != 255));
    }

    #[test]
    fn destinations_are_loopback_addresses() {
        let address = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(destinations(address, 1), Ok(vec![address]));
        let two = vec![address, "127.0.0.2:8080".parse().unwrap()];
        assert_eq!(destinations(address, 2), Ok(two));
        assert!(destinations("192.0.2.1:80".parse().unwrap(), 2).is_err());
        assert!(destinations("[::1]:80".parse().unwrap(), 2).is_err());
    }

    #[test]
    fn free_ports_differ_and_can_be_listened_on() {
        let one = free_port().unwrap();
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
        let two = free_port().unwrap();
        assert_ne!(one, two);
        assert!(PORTS.contains(&one) && PORTS.contains(&two));
    }
}
