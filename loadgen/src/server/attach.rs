//! A server that runs already: its address, its process if it is on this machine, its key.
use super::launch::named;
use super::{ServerError, Signer, Target, addresses, http_get, owner, witness};
use crate::wire::Dialect;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// What the user said about it.
#[derive(Clone, Debug, Default)]
pub struct Attach {
    /// `ws://host:port`, with the path `/ws` or none.
    pub url: String,
    /// What the load speaks to it.
    pub dialect: Dialect,
    /// Key that signs the users' tokens: see `Signer::from_key_file`.
    pub secret_file: Option<PathBuf>,
    /// Tokens from elsewhere: see `Signer::from_token_file`.
    pub token_file: Option<PathBuf>,
    /// Its process; `None`: the one that listens on the port, if it is on this machine.
    pub pid: Option<u32>,
    /// `http://host:port` of `admin.listen`; `None`: the address of the URL, if it answers there.
    pub admin: Option<String>,
    /// Loopback addresses to connect to, for a server that listens on all of them; 0 and 1: that of the URL alone.
    pub destinations: u32,
    /// Connections of the run, which decide how many sources it takes.
    pub connections: u32,
}

/// Finds out what there is.
pub fn attach(options: &Attach) -> Result<Target, ServerError> {
    let host = parse_url(&options.url).map_err(ServerError::Usage)?;
    let address = resolve(&host).map_err(ServerError::Usage)?;
    let signer = match (&options.secret_file, &options.token_file) {
        (Some(_), Some(_)) => Err("a key to sign with and ready tokens exclude each other".into()),
        (Some(path), None) => Signer::from_key_file(path),
        (None, Some(path)) => Signer::from_token_file(path),
        (None, None) => Ok(Signer::none()),
    };
    let signer = signer.map_err(ServerError::Usage)?;
    let destinations = addresses::destinations(address, options.destinations).map_err(ServerError::Usage)?;
    let (admin, snapshot) = match &options.admin {
        // Asked for, so it must be there.
        Some(admin) => {
            let admin = admin.trim_end_matches('/').to_string();
            let snapshot = witness::Snapshot::fetch(&admin).map_err(ServerError::Failed)?;
            (Some(admin), Some(snapshot))
        }
        None => {
            let admin = format!("http://{address}");
            let snapshot = witness::Snapshot::fetch(&admin).ok();
            (snapshot.is_some().then_some(admin), snapshot)
        }
    };
    if snapshot.is_none() && http_get(&format!("http://{address}/")).is_err_and(|error| is_unreachable(&error)) {
        return Err(ServerError::Failed(format!("nothing answers at {address}")));
    }
    let is_loopback = address.ip().is_loopback();
    Ok(Target {
        host,
        dialect: options.dialect,
        signer,
        pid: options.pid.or_else(|| owner::of_port(address)),
        admin,
        name: named(&snapshot.map_or_else(|| options.url.clone(), |snapshot| snapshot.name()), options.dialect),
        sources: match is_loopback && address.is_ipv4() {
            true => addresses::sources(options.connections, destinations.len()),
            false => Vec::new(),
        },
        addresses: destinations,
    })
}

/// The `host:port` of a URL.
fn parse_url(url: &str) -> Result<String, String> {
    let rest = match url.split_once("://") {
        Some(("ws" | "http", rest)) => rest,
        Some(("wss" | "https", _)) => {
            return Err(format!("{url}: TLS would be part of the figures; measure behind the proxy, with ws://"));
        }
        _ => return Err(format!("{url:?} is not an address of the form ws://host:port")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(path, "" | "ws") {
        return Err(format!("{url}: the path is that of the protocol, /ws; leave it away"));
    }
    if authority.is_empty() || authority.contains(['@', '?', '#', ' ']) {
        return Err(format!("{url:?} is not an address of the form ws://host:port"));
    }
    // A port ends the address, unless the colon is within [::1].
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    Ok(if has_port { authority.to_string() } else { format!("{authority}:80") })
}

/// IPv4 first: source addresses exist for it alone.
fn resolve(host: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    let mut address = *first.ok_or_else(|| format!("{host}: no address"))?;
    // 0.0.0.0 is where one listens, not where one connects.
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::from([127, 0, 0, 1]));
    }
    Ok(address)
}

/// Whether the error is that of a connection, not of a page: a peer need not have one.
fn is_unreachable(error: &str) -> bool {
    ["refused", "unreachable", "timed out", "timeout"].iter().any(|word| error.to_lowercase().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_and_port() {
        assert_eq!(parse_url("ws://127.0.0.1:8080").as_deref(), Ok("127.0.0.1:8080"));
        assert_eq!(parse_url("ws://localhost:8080/ws").as_deref(), Ok("localhost:8080"));
        assert_eq!(parse_url("http://example.com/").as_deref(), Ok("example.com:80"));
        assert_eq!(parse_url("ws://[::1]").as_deref(), Ok("[::1]:80"));
        assert_eq!(parse_url("ws://[::1]:9").as_deref(), Ok("[::1]:9"));
        for (url, word) in [
            ("wss://example.com", "TLS"),
            ("example.com:80", "ws://"),
            ("ws://", "ws://"),
            ("ws://a@b", "ws://"),
            ("ws://a/b", "/ws"),
        ] {
            assert!(parse_url(url).unwrap_err().contains(word), "{url}");
        }
    }

    #[test]
    fn hosts_become_addresses() {
        assert_eq!(resolve("127.0.0.1:80"), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(resolve("0.0.0.0:80"), Ok("127.0.0.1:80".parse().unwrap()));
        assert!(resolve("127.0.0.1:x").is_err());
    }

    #[test]
    fn a_silent_port_is_told() {
        let port = addresses::free_port().unwrap();
        let options = Attach { url: format!("ws://127.0.0.1:{port}"), ..Attach::default() };
        let error = attach(&options).unwrap_err().to_string();
        assert_eq!(error, format!("nothing answers at 127.0.0.1:{port}"));
    }

    #[test]
    fn a_server_without_pages_is_still_a_target() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Takes connections and hangs up, as something that is not HTTP would.
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let options = Attach { url: format!("ws://{address}/ws"), connections: 25_000, ..Attach::default() };
        let target = attach(&options).unwrap();
        assert_eq!((target.addresses, target.admin), (vec![address], None));
        assert_eq!(target.pid, Some(std::process::id()));
        assert_eq!(target.sources.len(), 3);
        assert_eq!(target.name, format!("ws://{address}/ws"));
        assert_eq!(target.signer.token("u0"), None);
    }
}
