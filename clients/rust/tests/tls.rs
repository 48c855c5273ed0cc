//! `wss://` against the real server, with a certificate made for the test.
mod support;

use rustls::RootCertStore;
use rustls::client::ClientConfig;
use rustls::crypto::ring;
use std::sync::Arc;
use support::{Reader, Server, quick, until};
use throng_client::{Client, Event, Options};

/// Settings for the server, and what a client trusts it by.
fn certificate(folder: &std::path::Path) -> ([String; 2], Arc<ClientConfig>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, certificate.pem()).expect("a file");
    std::fs::write(&key_file, key.serialize_pem()).expect("a file");
    let settings = [format!("tls.cert_file={}", cert_file.display()), format!("tls.key_file={}", key_file.display())];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    (settings, Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[tokio::test]
async fn an_encrypted_connection_is_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (settings, trust) = certificate(folder.path());
    let server = Server::start(&settings.each_ref().map(String::as_str));
    let url = format!("wss://localhost:{}/ws", server.port());
    let anna = Reader::new("anna", &url, |options| {
        quick(options);
        options.tls = Some(trust);
    });
    let anna = anna.enter(server.token("anna"), &["lobby"]).await;
    anna.say("lobby", "1").await.expect("an ack");
    server.kill().await;
    until("she notices", || !anna.client.is_connected()).await;
    let waiting = anna.say("lobby", "2");
    server.start_again().await;
    waiting.await.expect("an ack, in the end");
    anna.shows("lobby", &["1", "2"]).await;
    anna.client.disconnect().await;

    // Who does not trust the certificate does not connect, and says why.
    let (_, other) = certificate(tempfile::tempdir().expect("a folder").path());
    let mut options = Options::new(url);
    options.tls = Some(other);
    options.max_reconnect_attempts = Some(0);
    let (client, mut events) = Client::new(options).expect("a client");
    client.connect("anna", "token").await.expect_err("no connection");
    let reason = loop {
        if let Event::Stopped { reason, .. } = events.next().await.expect("an event") {
            break reason;
        }
    };
    assert!(reason.contains("certificate"), "{reason}");
}
