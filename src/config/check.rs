//! Checks beyond type and range: the form of texts, and relations between keys.
use super::table::{Config, Ws};
use crate::limits;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// What `auth.algorithms` may name (R-AUTH-2).
pub const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

/// What `ws.deflate` may say.
const DEFLATE: [&str; 3] = ["off", "ask", "on"];

impl Ws {
    /// Whether to compress with a client that offers it (R-ENV-3). `is_asked`: its address asks for it.
    pub fn deflates(&self, is_asked: bool) -> bool {
        match &*self.deflate {
            "on" => true,
            "ask" => is_asked,
            _ => false,
        }
    }
}

impl Config {
    /// Faults as (key, what is wrong). Empty: the configuration can be used.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut check = |key: &'static str, result: Result<(), String>| {
            if let Err(what) = result {
                faults.push((key, what));
            }
        };
        check("http.allowed_origins", self.http.allowed_origins.iter().try_for_each(|origin| check_origin(origin)));
        check(
            "http.trusted_proxies",
            self.http.trusted_proxies.iter().try_for_each(|text| parse_network(text).map(drop)),
        );
        check("ws.deflate", check_one_of(&self.ws.deflate, &DEFLATE));
        check("sio.namespaces", check_namespaces(&self.sio.namespaces));
        check("auth.algorithms", check_algorithms(&self.auth.algorithms));
        check("auth.jwks_url", self.auth.jwks_url.as_deref().map_or(Ok(()), check_jwks_url));
        check("auth.moderator_role", check_roles(&self.auth.admin_role, &self.auth.moderator_role));
        check("conn.out_queue_bytes", self.check_out_queue());
        check("store.batch_max", self.check_batch());
        check("plane.receive_buffers", self.check_receive_buffers());
        check("server.log", check_log(&self.server.log));
        check("admin.listen", self.check_admin_listen());
        check("http.tls_listen", self.check_tls_listen());
        check("tls.key_file", self.check_tls_files());
        let has_namespace = !self.sio.namespaces.is_empty();
        check(
            "sio.namespaces",
            require(has_namespace, || "names none, so that no Socket.IO client could connect".into()),
        );
        faults
    }

    /// `http.trusted_proxies`, parsed. Entries that do not parse are faults of `check` and are left out here.
    pub fn trusted_proxies(&self) -> Vec<IpNet> {
        self.http.trusted_proxies.iter().filter_map(|text| parse_network(text).ok()).collect()
    }

    fn check_out_queue(&self) -> Result<(), String> {
        let (queue, message) = (self.conn.out_queue_bytes, self.ws.max_message_bytes);
        require(queue >= message, || {
            format!("{queue} is less than ws.max_message_bytes ({message}): such a message could never be delivered")
        })
    }

    fn check_batch(&self) -> Result<(), String> {
        let (batch, queue) = (self.store.batch_max, self.store.queue);
        require(batch <= queue, || format!("{batch} is more than store.queue ({queue}) can hold"))
    }

    fn check_receive_buffers(&self) -> Result<(), String> {
        let count = self.plane.receive_buffers;
        require(count.is_power_of_two(), || {
            format!("{count} is not a power of two; the next one is {}", count.next_power_of_two())
        })
    }

    fn check_admin_listen(&self) -> Result<(), String> {
        let is_same = self.admin.listen.is_some_and(|listen| listen == self.http.listen && listen.port() != 0);
        require(!is_same, || "is the same as http.listen; leave it unset or take another port".into())
    }

    fn check_tls_listen(&self) -> Result<(), String> {
        let Some(address) = self.http.tls_listen else { return Ok(()) };
        require(self.tls.cert_file.is_some(), || {
            "is set, but tls.cert_file is not: without it there is no TLS".into()
        })?;
        let is_same = |other: SocketAddr| other == address && address.port() != 0;
        require(!is_same(self.http.listen), || {
            "is the same as http.listen; leave it unset for TLS there, or take another port".into()
        })?;
        require(!self.admin.listen.is_some_and(is_same), || "is the same as admin.listen; take another port".into())
    }

    fn check_tls_files(&self) -> Result<(), String> {
        match (&self.tls.cert_file, &self.tls.key_file) {
            (Some(_), None) => Err("is unset, but tls.cert_file is set: set both, or neither for no TLS".into()),
            (None, Some(_)) => Err("is set, but tls.cert_file is unset: set both, or neither for no TLS".into()),
            _ => Ok(()),
        }
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn check_one_of(text: &str, words: &[&str]) -> Result<(), String> {
    require(words.contains(&text), || format!("{text:?} is none of {}", words.join(", ")))
}

/// An address or a network in CIDR form.
fn parse_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is neither an address nor a network, for example 10.0.0.0/8 or 192.0.2.1"))
}

/// An origin is compared as text with what browsers send (RFC 6454 section 6.2): scheme, host, port if not the scheme's.
fn check_origin(origin: &str) -> Result<(), String> {
    if origin == "*" {
        return Ok(());
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err(format!("{origin:?} is not an origin, for example https://app.example.com"));
    };
    if host.contains(['/', '?', '#', '@']) {
        return Err(format!("{origin:?} must end after host and port: browsers send no path"));
    }
    let is_plain =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !c.is_ascii_uppercase());
    require(is_plain(scheme) && is_plain(host) && !host.contains('*'), || {
        format!("{origin:?} is not an origin in lower case without wildcard, for example https://app.example.com")
    })
}

/// Namespaces as clients name them. Each has a wire format of its own on a shard, and those are numbered by few bits.
fn check_namespaces(names: &[String]) -> Result<(), String> {
    require(names.len() <= limits::NAMESPACES_MAX, || {
        format!("{} namespaces; at most {}", names.len(), limits::NAMESPACES_MAX)
    })?;
    for (index, name) in names.iter().enumerate() {
        let rest = name.strip_prefix('/').filter(|rest| rest.len() <= limits::NAMESPACE_NAME_BYTES_MAX);
        let is_plain = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
        require(rest.is_some_and(is_plain), || {
            format!("{name:?} is not a slash and up to {} of A-Za-z0-9_.:-", limits::NAMESPACE_NAME_BYTES_MAX)
        })?;
        require(!names[..index].contains(name), || format!("{name:?} stands there twice"))?;
    }
    Ok(())
}

fn check_algorithms(names: &[String]) -> Result<(), String> {
    require(!names.is_empty(), || "no algorithm is allowed, so no token could be valid".into())?;
    names.iter().try_for_each(|name| {
        require(ALGORITHMS.contains(&name.as_str()), || format!("{name:?} is none of {}", ALGORITHMS.join(", ")))
    })
}

fn check_jwks_url(url: &str) -> Result<(), String> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("must start with https://; whoever can change the answer can sign tokens".into());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    require(!authority.is_empty() && !authority.contains('@') && url.chars().all(|c| c.is_ascii_graphic()), || {
        "is not an address of the form https://host/path without user name and password".into()
    })
}

fn check_roles(admin: &str, moderator: &str) -> Result<(), String> {
    require(admin != moderator || admin.is_empty(), || {
        format!("{moderator:?} is also auth.admin_role; one value cannot give both")
    })
}

fn check_log(filter: &str) -> Result<(), String> {
    filter
        .parse::<tracing_subscriber::EnvFilter>()
        .map(drop)
        .map_err(|error| format!("{filter:?} is not a log filter ({error}); for example info or warn,throng=debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(settings: &[(&str, &str)]) -> Vec<&'static str> {
        let mut config = Config::default();
        for (key, text) in settings {
            config.set(key, text).unwrap();
        }
        config.check().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn defaults_hold() {
        assert_eq!(Config::default().check(), []);
    }

    #[test]
    fn compression_is_off_unless_configured_or_asked_for() {
        let deflates = |text: &str| {
            let mut config = Config::default();
            config.set("ws.deflate", text).unwrap();
            (config.ws.deflates(false), config.ws.deflates(true))
        };
        assert!(!Config::default().ws.deflates(true));
        assert_eq!(["off", "ask", "on"].map(deflates), [(false, false), (false, true), (true, true)]);
    }

    /// The passing value and the one beyond.
    #[test]
    fn pairs() {
        for (key, good, bad) in [
            ("http.trusted_proxies", "10.0.0.0/8,::1,fd00::/8", "10.0.0.0/33"),
            ("http.trusted_proxies", "192.0.2.1", "proxy.local"),
            ("http.allowed_origins", "https://a.example:8443,*", "https://a.example/"),
            ("http.allowed_origins", "http://localhost:3000", "a.example"),
            ("sio.namespaces", "/,/admin,/a.b:c-d_e", "admin"),
            ("sio.namespaces", "/admin", "/a,/b,/a"),
            ("sio.namespaces", "/", "/a b"),
            ("http.allowed_origins", "capacitor://localhost", "https://*.example"),
            ("ws.deflate", "off", "yes"),
            ("ws.deflate", "ask", ""),
            ("ws.deflate", "on", "ON"),
            ("auth.algorithms", "EdDSA", "HS512"),
            ("auth.algorithms", "HS256,RS256", "none"),
            ("auth.algorithms", "ES256", ""),
            ("auth.jwks_url", "https://id.example/jwks.json", "http://id.example/jwks.json"),
            ("auth.jwks_url", "https://id.example:8443/", "https://user:word@id.example/"),
            ("auth.moderator_role", "", "admin"),
            ("conn.out_queue_bytes", "65536", "65535"),
            ("store.batch_max", "16384", "16385"),
            ("plane.receive_buffers", "32768", "1000"),
            ("admin.listen", "127.0.0.1:8080", "0.0.0.0:8080"),
            ("tls.key_file", "", "key.pem"),
            ("server.log", "warn,throng::shard=debug", "throng=loud"),
        ] {
            assert!(faults(&[(key, good)]).is_empty(), "{key} = {good}");
            assert_eq!(faults(&[(key, bad)]), [key], "{key} = {bad}");
        }
    }

    #[test]
    fn tls_needs_both_files_and_an_address_of_its_own() {
        let files = [("tls.cert_file", "cert.pem"), ("tls.key_file", "key.pem")];
        let with = |more: &[(&str, &str)]| faults(&[&files[..], more].concat());
        assert!(with(&[]).is_empty() && with(&[("http.tls_listen", "0.0.0.0:8443")]).is_empty());
        assert_eq!(faults(&files[..1]), ["tls.key_file"]);
        assert_eq!(faults(&[("http.tls_listen", "0.0.0.0:8443")]), ["http.tls_listen"]);
        assert_eq!(with(&[("http.tls_listen", "0.0.0.0:8080")]), ["http.tls_listen"]);
        let admin = [("http.tls_listen", "127.0.0.1:9090"), ("admin.listen", "127.0.0.1:9090")];
        assert_eq!(with(&admin), ["http.tls_listen"]);
    }

    #[test]
    fn namespaces_are_few_and_short() {
        let numbered = |count| (0..count).map(|number| format!("/{number}")).collect::<Vec<_>>().join(",");
        let long = |bytes| format!("/{}", "x".repeat(bytes));
        for (good, bad) in [
            (numbered(limits::NAMESPACES_MAX), numbered(limits::NAMESPACES_MAX + 1)),
            (long(limits::NAMESPACE_NAME_BYTES_MAX), long(limits::NAMESPACE_NAME_BYTES_MAX + 1)),
            ("/".into(), String::new()),
            ("/a".into(), "/a/b".into()),
        ] {
            assert!(faults(&[("sio.namespaces", &good)]).is_empty(), "{good}");
            assert_eq!(faults(&[("sio.namespaces", &bad)]), ["sio.namespaces"], "{bad}");
        }
    }
}
