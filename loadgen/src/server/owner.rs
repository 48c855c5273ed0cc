//! Which process listens on a port of this machine: /proc/net/tcp has the socket's inode, /proc/PID/fd who holds it.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The process behind an address of this machine. Of several that share the socket (a master and its workers) the one that is
/// child of none of the others. `None`: not here, or not ours to see.
pub fn of_port(address: SocketAddr) -> Option<u32> {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        inodes.extend(listening(&std::fs::read_to_string(table).unwrap_or_default(), address));
    }
    if inodes.is_empty() || !is_local(address.ip()) {
        return None;
    }
    let holders: BTreeMap<u32, Option<u32>> =
        processes().filter(|pid| holds(*pid, &inodes)).map(|pid| (pid, super::process::parent(pid))).collect();
    let root = holders.iter().find(|(_, parent)| !parent.is_some_and(|parent| holders.contains_key(&parent)));
    root.map(|(pid, _)| *pid)
}

/// Numbers of all processes.
pub(super) fn processes() -> impl Iterator<Item = u32> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok())
}

/// An address that this machine has: one can listen there.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn holds(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|to| {
        let inode = to.to_str().and_then(|to| to.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

/// Inodes of the sockets that listen on the address or on all addresses (proc_net_tcp: state 0A is LISTEN).
fn listening(table: &str, address: SocketAddr) -> Vec<u64> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let is_listening = *fields.get(3)? == "0A" && u16::from_str_radix(port, 16).ok()? == address.port();
        let ip = parse_ip(ip)?;
        let is_it = ip.is_unspecified() || ip.to_canonical() == address.ip().to_canonical();
        (is_listening && is_it).then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// The kernel prints words of four bytes, each as a number in the machine's own order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3307 1 0000000000000000 100 0 0 10 0
   1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3308 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 3309 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn listeners_are_told_from_connections() {
        assert_eq!(listening(TABLE, "127.0.0.1:8080".parse().unwrap()), [3307]);
        assert!(listening(TABLE, "127.0.0.2:8080".parse().unwrap()).is_empty());
        assert_eq!(listening(TABLE, "127.0.0.2:8081".parse().unwrap()), [3308]);
        assert!(listening("", "127.0.0.2:8081".parse().unwrap()).is_empty());
    }

    #[test]
    fn addresses_are_in_host_order() {
        assert_eq!(parse_ip("0100007F"), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(parse_ip("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
        assert_eq!(parse_ip("0000000000000000FFFF00000100007F").map(|ip| ip.to_canonical()), parse_ip("0100007F"));
        assert_eq!(parse_ip("01"), None);
    }

    #[test]
    fn a_listener_of_our_own_is_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(of_port(address), Some(std::process::id()));
        drop(listener);
        assert_eq!(of_port(address), None);
    }
}
