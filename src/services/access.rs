//! Who may read the operator's pages (R-OPS-1): whoever reaches `admin.listen`, or else direct loopback callers.
use super::conn::{Caller, Door};
use axum::http::HeaderMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Any of these says that a proxy stands between, so the loopback peer is not the caller.
const FORWARDING_HEADERS: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// What to do with a request for an operator's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    /// HTTP 403.
    Denied,
    /// HTTP 404: the pages are somewhere else.
    Absent,
}

/// `has_admin_door`: `admin.listen` is set.
pub fn operator_access(caller: Caller, headers: &HeaderMap, has_admin_door: bool) -> Access {
    match caller.door {
        Door::Admin => Access::Granted,
        Door::Main if has_admin_door => Access::Absent,
        Door::Main if is_direct_loopback(caller.peer.ip(), headers) => Access::Granted,
        Door::Main => Access::Denied,
    }
}

fn is_direct_loopback(peer: IpAddr, headers: &HeaderMap) -> bool {
    peer.to_canonical().is_loopback()
        && !FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
        && headers.get_all("host").iter().all(|host| host.to_str().is_ok_and(is_local_name))
}

/// A web page whose own name was made to resolve to 127.0.0.1 (DNS rebinding) reaches the loopback address from the
/// operator's browser, but cannot help saying its name in the Host header. Addresses are no names.
fn is_local_name(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let is_bracketed = without_port.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = match is_bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => without_port.parse::<Ipv4Addr>().is_ok(),
    };
    is_address || without_port.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn access(door: Door, peer: &str, headers: &[(&'static str, &'static str)], has_admin_door: bool) -> Access {
        let map = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        operator_access(
            Caller { door, peer: (peer.parse::<IpAddr>().unwrap(), 9).into() },
            &map.collect(),
            has_admin_door,
        )
    }

    #[test]
    fn loopback_callers_must_be_direct() {
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(access(Door::Main, peer, &[], false), Access::Granted, "{peer}");
            for header in FORWARDING_HEADERS {
                assert_eq!(access(Door::Main, peer, &[(header, "127.0.0.1")], false), Access::Denied, "{header}");
            }
        }
        for peer in ["10.0.0.1", "192.168.0.1", "::ffff:10.0.0.1", "fe80::1"] {
            assert_eq!(access(Door::Main, peer, &[], false), Access::Denied, "{peer}");
        }
    }

    #[test]
    fn names_other_than_localhost_are_refused_on_loopback() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"] {
            assert_eq!(access(Door::Main, "127.0.0.1", &[("host", host)], false), Access::Granted, "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil", "", "a b", "127.0.0.1.evil", "[::1].evil", "127.0.0.1:x"] {
            assert_eq!(access(Door::Main, "127.0.0.1", &[("host", host)], false), Access::Denied, "{host}");
        }
    }

    #[test]
    fn with_an_admin_listener_the_main_one_has_no_such_pages() {
        assert_eq!(access(Door::Main, "127.0.0.1", &[], true), Access::Absent);
        assert_eq!(access(Door::Admin, "10.0.0.1", &[("host", "metrics.internal")], true), Access::Granted);
    }
}
