//! Which web pages may connect (R-CONN-1): the defence against cross-site WebSocket hijacking (RFC 6455 10.2).

/// Whether a request with this `Origin` header may pass.
///
/// Without one it does: it is not from a browser, and who can leave it out can forge it as well. Otherwise the origin
/// must have the host and port of the request (`host`: its `Host` header), or be in `allowed`: `scheme://host[:port]`,
/// or `*` for all. `null` (sandboxed pages, files) is an origin that anyone can have, so only `*` lets it pass.
pub fn origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if allowed.iter().any(|entry| entry == "*") {
        return true;
    }
    let Some(origin) = Origin::parse(origin) else { return false };
    let is_own = host.is_some_and(|host| origin.is_at(host));
    is_own || allowed.iter().filter_map(|entry| Origin::parse(entry)).any(|entry| entry.equals(&origin))
}

/// Whether an entry of `http.allowed_origins` can ever match.
pub fn is_valid_entry(entry: &str) -> bool {
    entry == "*" || Origin::parse(entry).is_some()
}

#[derive(Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// As written, or the default of the scheme, if it has one.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// `scheme://host[:port]` and nothing else (RFC 6454 6.2).
    fn parse(text: &'a str) -> Option<Origin<'a>> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let (host, port) = split_port(authority)?;
        is_scheme.then_some(Origin { scheme, host, port: port.or(default_port(scheme)) })
    }

    fn equals(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }

    /// Whether a page of this origin was served from where the request went. Behind a proxy that ends TLS we do not
    /// know the scheme of the request, so a `Host` without a port means the default port of the origin's scheme.
    fn is_at(&self, host: &str) -> bool {
        let Some(default) = default_port(self.scheme) else { return false };
        split_port(host).is_some_and(|(name, port)| {
            self.host.eq_ignore_ascii_case(name) && self.port == Some(port.unwrap_or(default))
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    }
}

/// Host and, if there is one, port; an IPv6 address is in brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = match authority.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    let is_host = !host.is_empty() && !host.contains(|c: char| "/?#@\\, ".contains(c) || c.is_control());
    let port = match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => Some(port.parse().ok()?),
        None if rest.is_empty() => None,
        _ => return None,
    };
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(origin: &str, host: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|entry| entry.to_string()).collect();
        origin_allowed(Some(origin), Some(host), &allowed)
    }

    #[test]
    fn no_origin_passes() {
        assert!(origin_allowed(None, Some("a.example"), &[]));
        assert!(origin_allowed(None, None, &[]));
        assert!(!origin_allowed(Some("http://a.example"), None, &[]));
    }

    #[test]
    fn the_own_host_and_port_pass() {
        for (origin, host) in [
            ("http://a.example", "a.example"),
            ("https://a.example", "a.example"),
            ("https://A.Example", "a.example"),
            ("http://a.example", "a.example:80"),
            ("https://a.example", "a.example:443"),
            ("https://a.example:443", "a.example"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
        ] {
            assert!(passes(origin, host, &[]), "{origin} at {host}");
        }
    }

    #[test]
    fn others_do_not() {
        for (origin, host) in [
            ("http://b.example", "a.example"),
            ("http://a.example.evil", "a.example"),
            ("http://a.example:8080", "a.example"),
            ("http://a.example", "a.example:8080"),
            ("https://a.example", "a.example:80"),
            ("http://a.example:8080", "a.example:8081"),
            ("http://evil@a.example", "evil@a.example"),
            ("http://a.example/", "a.example/"),
            ("http://a.example http://b.example", "a.example"),
            ("ftp://a.example", "a.example"),
            ("null", "null"),
            ("", ""),
            ("a.example", "a.example"),
            ("://a.example", "a.example"),
            ("http://", ""),
            ("http://:80", ":80"),
            ("http://a.example:", "a.example"),
            ("http://a.example:+80", "a.example"),
            ("http://a.example:99999", "a.example:99999"),
            ("http://[::1", "[::1"),
            ("http://[::1]x", "[::1]x"),
        ] {
            assert!(!passes(origin, host, &[]), "{origin} at {host}");
        }
    }

    #[test]
    fn the_list_is_exact_but_for_case_and_default_ports() {
        let allowed = ["https://app.example", "http://dev.example:3000", "capacitor://localhost"];
        for origin in [
            "https://app.example",
            "https://APP.example",
            "https://app.example:443",
            "http://dev.example:3000",
            "capacitor://localhost",
        ] {
            assert!(passes(origin, "chat.example", &allowed), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "https://sub.app.example",
            "http://dev.example",
            "capacitor://other",
            "null",
        ] {
            assert!(!passes(origin, "chat.example", &allowed), "{origin}");
        }
    }

    #[test]
    fn everything_must_be_written_as_a_star() {
        assert!(passes("null", "a.example", &["*"]));
        assert!(passes("whatever", "a.example", &["https://x.example", "*"]));
        assert!(!passes("null", "a.example", &["null"]));
        assert!(!passes("https://x.example", "a.example", &["https://*"]));
        assert!(!passes("https://x.example", "a.example", &["https://*.example"]));
    }

    #[test]
    fn entries_that_cannot_match_are_known() {
        assert!(is_valid_entry("*") && is_valid_entry("https://a.example") && is_valid_entry("http://[::1]:80"));
        assert!(!is_valid_entry("null") && !is_valid_entry("a.example") && !is_valid_entry("https://a.example/"));
    }
}
