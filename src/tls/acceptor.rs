//! What every handshake is made with: the certificate, its key, and the keys of session tickets.
//!
//! One acceptor is shared by all shards and never changes; another certificate is another acceptor. The ticket keys outlive it, so
//! that a renewed certificate does not make every client start from nothing.
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;
use x509_cert::der::Decode;

/// Keys that session tickets are sealed with (RFC 8446 section 4.6.1, RFC 5077): made at random, changed every six hours, the former
/// one still opened for six more. They live in memory only, so tickets end with the process.
///
/// Shared by all shards: a client that comes back reaches any of them. Reading them takes a lock within rustls, once for a handshake,
/// that is held for writing four times a day.
#[derive(Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// Fails if the operating system gives no random bytes.
    pub fn new() -> Result<Tickets, String> {
        ring::Ticketer::new().map(Tickets).map_err(|error| error.to_string())
    }
}

/// When a certificate is valid, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before_s: u64,
    pub not_after_s: u64,
}

/// Which of the two files is at fault, and a text for the operator: cause and remedy, nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Certificate(String),
    Key(String),
}

/// See the module.
pub struct Acceptor {
    pub(super) config: Arc<ServerConfig>,
    pub validity: Validity,
}

impl Acceptor {
    /// `chain`: PEM, the server's own certificate first, then those that lead to a root. `key`: PEM, its private key. Whether the time
    /// of the certificate has come is the caller's to judge: it knows the time.
    pub fn new(chain: &[u8], key: &[u8], tickets: &Tickets) -> Result<Acceptor, Fault> {
        let chain = certificates(chain).map_err(Fault::Certificate)?;
        let validity = validity(&chain[0]).map_err(Fault::Certificate)?;
        let key = private_key(key).map_err(Fault::Key)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            // R-SEC-15: nothing older exists in rustls.
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| Fault::Certificate(error.to_string()))?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(fault)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = tickets.0.clone();
        // Sessions are kept by clients, in tickets. A table here would be a lock that shards share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A request that is sent early can be sent again by whoever saw it (RFC 8446 section 8).
        config.max_early_data_size = 0;
        // For `session`.
        config.enable_secret_extraction = true;
        Ok(Acceptor { config: Arc::new(config), validity })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err("holds no certificate; it must be PEM (\"-----BEGIN CERTIFICATE-----\"), the \
             server's certificate first, the intermediate ones behind it"
                .into())
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
    let parsed = x509_cert::Certificate::from_der(certificate)
        .map_err(|error| format!("its first certificate is not X.509: {error}"))?;
    let validity = parsed.tbs_certificate().validity();
    Ok(Validity {
        not_before_s: validity.not_before.to_unix_duration().as_secs(),
        not_after_s: validity.not_after.to_unix_duration().as_secs(),
    })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound if contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
            "the key is encrypted, and there is nobody to ask for its passphrase; write it without one: \
             openssl pkey -in KEY -out NEW_KEY"
                .into()
        }
        rustls::pki_types::pem::Error::NoItemsFound => {
            "holds no private key; it must be PEM (\"-----BEGIN PRIVATE KEY-----\", or EC or RSA)".into()
        }
        // Not the error's own text: it may quote a line of the file.
        _ => "is not PEM".into(),
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn fault(error: rustls::Error) -> Fault {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            Fault::Key("does not belong to the certificate; the two must come as a pair".into())
        }
        rustls::Error::InvalidCertificate(error) => Fault::Certificate(format!("cannot be used: {error}")),
        error => Fault::Key(format!(
            "cannot be used ({error}); keys are RSA of 2048 bits or more, EC P-256 or P-384, or Ed25519"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{Pair, pair};

    fn refused(chain: &str, key: &str) -> Fault {
        match Acceptor::new(chain.as_bytes(), key.as_bytes(), &Tickets::new().unwrap()) {
            Ok(_) => panic!("accepted"),
            Err(fault) => fault,
        }
    }

    #[test]
    fn a_pair_is_taken_and_its_time_is_known() {
        let Pair { chain, key, .. } = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        let acceptor = Acceptor::new(chain.as_bytes(), key.as_bytes(), &Tickets::new().unwrap()).ok().unwrap();
        // As rcgen has it: from 1975 to 4096.
        assert_eq!(acceptor.validity, Validity { not_before_s: 157_766_400, not_after_s: 67_090_118_400 });
        assert_eq!(acceptor.config.max_early_data_size, 0);
    }

    /// A key of another kind, and one of the same kind.
    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (pair(&rcgen::PKCS_ECDSA_P256_SHA256), pair(&rcgen::PKCS_ECDSA_P256_SHA256));
        for key in [other.key, pair(&rcgen::PKCS_ED25519).key] {
            let Fault::Key(text) = refused(&one.chain, &key) else { panic!("the key is at fault") };
            assert!(text.contains("does not belong") && text.contains("pair"), "{text}");
        }
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let Pair { chain, key, .. } = pair(&rcgen::PKCS_ED25519);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for chain in ["", "no certificate", &key, "-----BEGIN CERTIFICATE-----\nAAAA\n", broken] {
            assert!(matches!(refused(chain, &key), Fault::Certificate(_)), "{chain:?}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (key, part) in
            [("", "no private key"), (&*chain, "no private key"), (encrypted, "openssl pkey"), (empty, "P-256")]
        {
            let Fault::Key(text) = refused(&chain, key) else { panic!("the key is at fault: {key:?}") };
            assert!(text.contains(part), "{text}");
        }
    }
}
