//! TLS as a client speaks it: rustls, trusting one certificate that is made for the test.
use super::{Client, PATIENCE, Response, Server, http};
use rustls::client::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use tempfile::TempDir;

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A certificate in a folder of its own, which can be replaced.
pub struct Certificate {
    folder: TempDir,
    pub der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Certificate {
        let folder = TempDir::new().unwrap();
        let der = write(&folder, 4000);
        Certificate { folder, der }
    }

    /// Another one takes its place.
    pub fn renew(&mut self) {
        self.der = write(&self.folder, 4000);
    }

    /// One that ended in the year 2000.
    pub fn expire(&mut self) {
        self.der = write(&self.folder, 2000);
    }

    /// Puts another key beside it.
    pub fn break_apart(&self) {
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(self.folder.path().join("key.pem"), other.serialize_pem()).unwrap();
    }

    pub fn settings(&self) -> [String; 2] {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [format!("tls.cert_file={}", path("cert.pem")), format!("tls.key_file={}", path("key.pem"))]
    }

    /// What a client trusts this certificate by, and nothing else.
    pub fn config(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_protocol_versions(&[version]).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

fn write(folder: &TempDir, until: i32) -> CertificateDer<'static> {
    use std::os::unix::fs::PermissionsExt;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    certificate.der().clone()
}

/// Below the ephemeral ones, and apart from those that servers begin with.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 26_000 + (std::process::id() % 100) as u16 * 50;
    let mut ports = (0..5_000).map(|_| first + TAKEN.fetch_add(1, Relaxed) % 1_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

impl Server {
    /// A TLS connection on which nothing was said yet; the handshake is done with the first bytes.
    pub fn tls(&self, port: u16, config: &Arc<ClientConfig>) -> Tls {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        secure(stream, config)
    }

    /// A signed-in client that has read its `connection_established`.
    pub fn tls_client(&self, port: u16, config: &Arc<ClientConfig>, user: &str) -> Client<Tls> {
        let mut client = self.tls_client_on(self.tls(port, config), user);
        client.greet();
        client
    }

    /// An upgraded connection of which nothing was read.
    pub fn tls_client_on(&self, stream: Tls, user: &str) -> Client<Tls> {
        let authorization = format!("Bearer {}", self.token(user));
        match Client::open(stream, self.port, "/ws", &[("Authorization", &authorization)]) {
            Ok(client) => client,
            Err(response) => panic!("not upgraded: {response:?}"),
        }
    }

    pub fn tls_get(&self, port: u16, config: &Arc<ClientConfig>, path: &str) -> Response {
        http::exchange(self.tls(port, config), http::request(path, port, &[]).as_bytes())
    }
}

pub fn secure(stream: TcpStream, config: &Arc<ClientConfig>) -> Tls {
    let connection = ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}
