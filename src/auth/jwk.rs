//! JSON Web Key Sets (RFC 7517): which of their keys can verify tokens here, each bound to one algorithm.
use super::keys::{Algorithm, Key, KeyFault};
use crate::limits;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Where a set came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of the operator: may hold shared secrets.
    File,
    /// The network: a shared secret that is published is none.
    Network,
}

/// What a document gave. Keys that cannot be used are left out, not fatal: providers publish keys for other purposes too.
#[derive(Debug, Default)]
pub struct Parsed {
    pub keys: Vec<Arc<Key>>,
    /// One line for each key left out, for the log.
    pub left_out: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    /// The private part.
    d: Option<Value>,
}

/// Reads a document. Errors: it is no key set, holds more than `limits::JWKS_KEYS_MAX` keys, or none that can be used.
pub fn parse(document: &str, origin: Origin) -> Result<Parsed, String> {
    let document: Document = serde_json::from_str(document)
        .map_err(|error| format!("not a JSON Web Key Set (line {}, column {})", error.line(), error.column()))?;
    if document.keys.len() > limits::JWKS_KEYS_MAX {
        return Err(format!("{} keys; at most {} are read", document.keys.len(), limits::JWKS_KEYS_MAX));
    }
    let mut parsed = Parsed::default();
    for (index, value) in document.keys.into_iter().enumerate() {
        match read_key(value, origin) {
            Ok(key) => parsed.keys.push(Arc::new(key)),
            Err(fault) => parsed.left_out.push(format!("key {index}: {fault}")),
        }
    }
    if parsed.keys.is_empty() {
        return Err(format!(
            "no usable key ({})",
            if parsed.left_out.is_empty() { "it is empty".into() } else { parsed.left_out.join("; ") }
        ));
    }
    Ok(parsed)
}

fn read_key(value: Value, origin: Origin) -> Result<Key, KeyFault> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "not a JSON Web Key")?;
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err("not for signatures".into());
    }
    if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err("not for verification".into());
    }
    if jwk.d.is_some() {
        return Err("holds its private part; whoever can read the set can sign".into());
    }
    let kid = jwk.kid.as_deref();
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            require_algorithm(&jwk, Algorithm::Rs256)?;
            Key::rsa(kid, &bytes(&jwk.n)?, &bytes(&jwk.e)?)
        }
        ("EC", Some("P-256")) => {
            require_algorithm(&jwk, Algorithm::Es256)?;
            Key::p256(kid, &bytes(&jwk.x)?, &bytes(&jwk.y)?)
        }
        ("OKP", Some("Ed25519")) => {
            require_algorithm(&jwk, Algorithm::EdDsa)?;
            Key::ed25519(kid, &bytes(&jwk.x)?)
        }
        ("oct", _) if origin == Origin::File => {
            require_algorithm(&jwk, Algorithm::Hs256)?;
            Key::secret(kid, &bytes(&jwk.k)?)
        }
        ("oct", _) => Err("a shared secret in a published set".into()),
        _ => Err("neither RSA, EC P-256 nor Ed25519".into()),
    }
}

/// A key without `alg` gets the only algorithm of its type that is supported; one for another algorithm is not bent.
fn require_algorithm(jwk: &Jwk, algorithm: Algorithm) -> Result<(), KeyFault> {
    match jwk.alg.as_deref() {
        None => Ok(()),
        // RFC 9864 gives EdDSA on this curve the name Ed25519.
        Some("Ed25519") if algorithm == Algorithm::EdDsa => Ok(()),
        Some(name) if name == algorithm.as_str() => Ok(()),
        Some(_) => Err(format!("for another algorithm than {}", algorithm.as_str())),
    }
}

fn bytes(text: &Option<String>) -> Result<Vec<u8>, KeyFault> {
    let text = text.as_deref().ok_or("a part of the key is missing")?;
    Ok(URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of the key is not base64url")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037 appendix A.2
    const EC: [&str; 2] =
        ["MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"]; // RFC 7517 appendix A.1

    fn one(key: &str, origin: Origin) -> Result<Algorithm, String> {
        let mut parsed = parse(&format!(r#"{{"keys": [{key}]}}"#), origin)?;
        Ok(parsed.keys.remove(0).algorithm())
    }

    #[test]
    fn keys_get_the_algorithm_of_their_type() {
        let [x, y] = EC;
        let n = URL_SAFE_NO_PAD.encode([0xff; 256]);
        for (key, algorithm) in [
            (format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ED}"}}"#), Algorithm::EdDsa),
            (format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"Ed25519","x":"{ED}"}}"#), Algorithm::EdDsa),
            (format!(r#"{{"kty":"EC","crv":"P-256","use":"sig","x":"{x}","y":"{y}","kid":"1"}}"#), Algorithm::Es256),
            (format!(r#"{{"kty":"RSA","alg":"RS256","n":"{n}","e":"AQAB","x5t":7}}"#), Algorithm::Rs256),
        ] {
            assert_eq!(one(&key, Origin::Network), Ok(algorithm), "{key}");
        }
    }

    #[test]
    fn unfit_keys_are_left_out() {
        let [x, y] = EC;
        let n = URL_SAFE_NO_PAD.encode([0xff; 128]);
        for (key, reason) in [
            (format!(r#"{{"kty":"EC","crv":"P-256","use":"enc","x":"{x}","y":"{y}"}}"#), "not for signatures"),
            (format!(r#"{{"kty":"EC","crv":"P-256","key_ops":["sign"],"x":"{x}","y":"{y}"}}"#), "not for verification"),
            (format!(r#"{{"kty":"EC","crv":"P-256","alg":"ES384","x":"{x}","y":"{y}"}}"#), "another algorithm"),
            (format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#), "not a usable ES256 key"),
            (format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}"}}"#), "missing"),
            (format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}"#), "neither"),
            (format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","d":"{x}"}}"#), "private part"),
            (format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#), "1024 bits"),
            (format!(r#"{{"kty":"RSA","alg":"HS256","n":"{n}","e":"AQAB"}}"#), "another algorithm"),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.into(), "32 bytes"),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"+/+/"}"#.into(), "not base64url"),
            (r#"{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#.into(), "shared secret"),
            (r#"7"#.into(), "not a JSON Web Key"),
        ] {
            let fault = one(&key, Origin::Network).unwrap_err();
            assert!(fault.contains(reason), "{key}: {fault}");
        }
        let secret = r#"{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
        assert_eq!(one(secret, Origin::File), Ok(Algorithm::Hs256));
    }

    #[test]
    fn one_unfit_key_does_not_spoil_the_set() {
        let document = format!(r#"{{"keys": [{{"kty":"AKP"}}, {{"kty":"OKP","crv":"Ed25519","x":"{ED}"}}]}}"#);
        let parsed = parse(&document, Origin::Network).unwrap();
        assert_eq!((parsed.keys.len(), parsed.left_out.len()), (1, 1));
    }

    #[test]
    fn documents_are_bounded() {
        let keys = |count: usize| vec![format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ED}"}}"#); count].join(",");
        assert_eq!(parse(&format!(r#"{{"keys":[{}]}}"#, keys(100)), Origin::Network).unwrap().keys.len(), 100);
        assert!(parse(&format!(r#"{{"keys":[{}]}}"#, keys(101)), Origin::Network).is_err());
        for bad in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":{}}"#, "<html>"] {
            assert!(parse(bad, Origin::Network).is_err(), "{bad}");
        }
    }

    proptest! {
        /// The network may answer anything.
        #[test]
        fn any_document_is_read_or_refused(text in ".*", part in ".{0,20}", number in any::<u32>()) {
            let _ = parse(&text, Origin::Network);
            for kty in ["RSA", "EC", "OKP", "oct"] {
                let key = serde_json::json!({
                    "kty": kty, "crv": part, "n": part, "e": part, "x": part, "y": part, "k": part, "kid": number,
                });
                let _ = parse(&serde_json::json!({"keys": [key]}).to_string(), Origin::File);
                let key = serde_json::json!({
                    "kty": kty, "crv": if kty == "EC" { "P-256" } else { "Ed25519" }, "n": URL_SAFE_NO_PAD.encode(&part),
                    "e": URL_SAFE_NO_PAD.encode(number.to_be_bytes()), "x": URL_SAFE_NO_PAD.encode(&part), "y": "AA",
                    "k": URL_SAFE_NO_PAD.encode(&part),
                });
                let _ = parse(&serde_json::json!({"keys": [key]}).to_string(), Origin::File);
            }
        }
    }
}
