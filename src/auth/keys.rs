//! Verification keys. Each is bound to exactly one algorithm when it is made, so a token cannot choose how it is checked
//! (R-AUTH-2, R-SEC-2; RFC 8725 section 3.1).
use super::error::AuthError;
use crate::limits;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER as CRYPTO;
use jsonwebtoken::errors::ErrorKind;
use std::fmt;
use std::sync::Arc;

/// All that are supported. `none` is not among them and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// The name in tokens (RFC 7518 section 3.1, RFC 8037). Case matters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    fn provider(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A key that verifies tokens of one algorithm.
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// Why a key cannot be used, for the operator. Holds nothing of the key.
pub type KeyFault = String;

impl Key {
    /// A shared secret. A PEM text is refused: whoever takes a public key for a secret lets everybody sign.
    pub fn secret(kid: Option<&str>, secret: &[u8]) -> Result<Key, KeyFault> {
        if secret.len() < limits::SECRET_BYTES_MIN {
            let (length, least) = (secret.len(), limits::SECRET_BYTES_MIN);
            return Err(format!("the secret has {length} bytes; HS256 needs at least {least}"));
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err("this is a PEM file, not a shared secret; use auth.public_key_file".into());
        }
        Key::checked(kid, Algorithm::Hs256, DecodingKey::from_secret(secret))
    }

    /// A public key in PEM form: `PUBLIC KEY`, or `RSA PUBLIC KEY`. Its type decides the algorithm.
    pub fn pem(kid: Option<&str>, pem: &[u8]) -> Result<Key, KeyFault> {
        let text = String::from_utf8_lossy(pem);
        if text.contains("PRIVATE KEY-----") {
            return Err(
                "this is a private key; the server needs only the public one (openssl pkey -in key.pem -pubout)".into(),
            );
        }
        if text.contains("BEGIN CERTIFICATE-----") {
            return Err("this is a certificate; take its public key (openssl x509 -in cert.pem -pubkey -noout)".into());
        }
        if text.matches("-----BEGIN ").count() > 1 {
            return Err("the file holds more than one PEM block; for several keys use auth.jwks_file".into());
        }
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            let der = key.try_get_as_bytes().map_err(|_| "not an RSA public key")?;
            let parts = (CRYPTO.key_utils.rsa_pub_components_from_public_key)(der);
            let (modulus, exponent) = parts.map_err(|_| "not an RSA public key")?;
            return Key::rsa(kid, &modulus, &exponent);
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            return Key::checked(kid, Algorithm::Es256, key)
                .map_err(|_| "an elliptic curve key that is not on P-256; ES256 needs P-256".into());
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Key::ed25519(kid, key.try_get_as_bytes().unwrap_or_default());
        }
        Err("not a PEM public key of type RSA, EC P-256 or Ed25519".into())
    }

    /// Big-endian numbers.
    pub(crate) fn rsa(kid: Option<&str>, modulus: &[u8], exponent: &[u8]) -> Result<Key, KeyFault> {
        let bits = bit_length(modulus);
        let range = limits::RSA_BITS_MIN..=limits::RSA_BITS_MAX;
        if !range.contains(&bits) {
            return Err(format!("an RSA key of {bits} bits; allowed are {} to {}", range.start(), range.end()));
        }
        // The verifier takes exponents up to 2^33 - 1; every key in use has 65537.
        let is_sound = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if !is_sound(modulus) || !is_sound(exponent) || !(2..=33).contains(&bit_length(exponent)) {
            return Err("an RSA key with an impossible modulus or exponent".into());
        }
        Key::checked(kid, Algorithm::Rs256, DecodingKey::from_rsa_raw_components(modulus, exponent))
    }

    /// Coordinates of a point on P-256, 32 bytes each.
    pub(crate) fn p256(kid: Option<&str>, x: &[u8], y: &[u8]) -> Result<Key, KeyFault> {
        if x.len() != 32 || y.len() != 32 {
            return Err("P-256 coordinates have 32 bytes each".into());
        }
        let point = [&[4], x, y].concat();
        Key::checked(kid, Algorithm::Es256, DecodingKey::from_ec_der(&point))
    }

    pub(crate) fn ed25519(kid: Option<&str>, x: &[u8]) -> Result<Key, KeyFault> {
        if x.len() != 32 {
            return Err("an Ed25519 public key has 32 bytes".into());
        }
        Key::checked(kid, Algorithm::EdDsa, DecodingKey::from_ed_der(x))
    }

    /// Tries the key once, so that an unusable one is found at start and not by the first user.
    fn checked(kid: Option<&str>, algorithm: Algorithm, decoding: DecodingKey) -> Result<Key, KeyFault> {
        let kid = kid.filter(|kid| !kid.is_empty()).map(Into::into);
        match jsonwebtoken::crypto::verify("AA", b"", &decoding, algorithm.provider()) {
            Ok(_) => Ok(Key { kid, algorithm, decoding }),
            Err(_) => Err(format!("not a usable {} key", algorithm.as_str())),
        }
    }

    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `signature` is base64url without padding.
    fn verify(&self, message: &[u8], signature: &str) -> Result<bool, AuthError> {
        jsonwebtoken::crypto::verify(signature, message, &self.decoding, self.algorithm.provider()).map_err(|error| {
            match error.kind() {
                ErrorKind::Base64(_) => AuthError::Malformed,
                _ => AuthError::BadSignature,
            }
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.algorithm.as_str(), self.kid)
    }
}

fn bit_length(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = &number[first..];
    digits.first().map_or(0, |byte| digits.len() * 8 - byte.leading_zeros() as usize)
}

/// An unchanging set of keys. A newer set takes its place as a whole, so verification needs no lock.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
    /// Grows by one with every published change.
    pub version: u64,
}

impl KeySet {
    pub fn new(keys: Vec<Arc<Key>>, version: u64) -> KeySet {
        KeySet { keys, version }
    }

    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Finds the key and checks the signature.
    ///
    /// * A `kid` selects the keys of that name; one of another algorithm is `WrongAlgorithm`, not a second chance.
    /// * A `kid` that no key has: keys without a name are tried (a PEM file has none, and its issuer may send one).
    /// * No `kid`: all keys of the algorithm are tried, if there are at most `limits::KEYS_TRIED_MAX`.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &str,
    ) -> Result<(), AuthError> {
        let of_algorithm = || self.keys.iter().filter(move |key| key.algorithm == algorithm);
        let Some(kid) = kid else {
            return match of_algorithm().count() {
                0 if self.keys.is_empty() => Err(AuthError::unknown_key(None)),
                0 => Err(AuthError::WrongAlgorithm),
                1..=limits::KEYS_TRIED_MAX => try_keys(of_algorithm(), message, signature, AuthError::BadSignature),
                _ => Err(AuthError::unknown_key(None)),
            };
        };
        if self.keys.iter().any(|key| key.kid() == Some(kid)) {
            let named = of_algorithm().filter(|key| key.kid() == Some(kid));
            if named.clone().next().is_none() {
                return Err(AuthError::WrongAlgorithm);
            }
            return try_keys(named.take(limits::KEYS_TRIED_MAX), message, signature, AuthError::BadSignature);
        }
        let nameless = of_algorithm().filter(|key| key.kid.is_none()).take(limits::KEYS_TRIED_MAX);
        try_keys(nameless, message, signature, AuthError::unknown_key(Some(kid)))
    }
}

fn try_keys<'a>(
    keys: impl Iterator<Item = &'a Arc<Key>>,
    message: &[u8],
    signature: &str,
    otherwise: AuthError,
) -> Result<(), AuthError> {
    for key in keys {
        if key.verify(message, signature)? {
            return Ok(());
        }
    }
    Err(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &[u8] = include_bytes!("../../tests/fixtures/keys/rsa2048.pub.pem");

    #[test]
    fn configuration_knows_the_same_algorithms() {
        assert_eq!(Algorithm::ALL.map(Algorithm::as_str), crate::config::ALGORITHMS);
        for bad in ["none", "None", "hs256", "HS512", "RS512", "PS256", "ES384", ""] {
            assert_eq!(Algorithm::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_have_a_least_length_and_are_no_pem() {
        assert!(Key::secret(None, &[7; 32]).is_ok());
        assert!(Key::secret(None, &[7; 31]).unwrap_err().contains("31 bytes"));
        assert!(Key::secret(None, RSA).unwrap_err().contains("auth.public_key_file"));
    }

    #[test]
    fn the_type_of_a_pem_decides_the_algorithm() {
        let algorithm = |pem: &[u8]| Key::pem(None, pem).map(|key| key.algorithm());
        assert_eq!(algorithm(RSA), Ok(Algorithm::Rs256));
        assert_eq!(algorithm(include_bytes!("../../tests/fixtures/keys/rsa2048.pkcs1.pub.pem")), Ok(Algorithm::Rs256));
        assert_eq!(algorithm(include_bytes!("../../tests/fixtures/keys/p256.pub.pem")), Ok(Algorithm::Es256));
        assert_eq!(algorithm(include_bytes!("../../tests/fixtures/keys/ed25519.pub.pem")), Ok(Algorithm::EdDsa));
    }

    #[test]
    fn unfit_pems_say_why() {
        let fault = |pem: &[u8]| Key::pem(None, pem).unwrap_err();
        assert!(fault(include_bytes!("../../tests/fixtures/keys/rsa1024.pub.pem")).contains("1024 bits"));
        assert!(fault(include_bytes!("../../tests/fixtures/keys/p384.pub.pem")).contains("P-256"));
        assert!(fault(include_bytes!("../../tests/fixtures/keys/rsa2048.pem")).contains("private key"));
        assert!(fault(include_bytes!("../../tests/fixtures/keys/ed448.pub.pem")).contains("not a PEM public key"));
        assert!(fault(&[RSA, RSA].concat()).contains("more than one"));
        assert!(fault(b"hello").contains("not a PEM public key"));
        assert!(
            fault(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").contains("not a PEM public key")
        );
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert!(Key::rsa(None, &[0xff; 256], &[1, 0, 1]).is_ok());
        assert!(Key::rsa(None, &[0xff; 255], &[1, 0, 1]).unwrap_err().contains("2040 bits"));
        assert!(Key::rsa(None, &[0xff; 513], &[1, 0, 1]).is_err());
        assert!(Key::rsa(None, &[0xff; 256], &[1]).is_err() && Key::rsa(None, &[0xff; 256], &[]).is_err());
        assert!(Key::rsa(None, &[0xff; 256], &[1; 9]).is_err());
        assert!(Key::p256(None, &[1; 32], &[1; 32]).is_err(), "not on the curve");
        assert!(Key::p256(None, &[1; 31], &[1; 32]).is_err());
        assert!(Key::ed25519(None, &[1; 31]).is_err() && Key::ed25519(None, &[]).is_err());
    }

    #[test]
    fn bits() {
        assert_eq!([&[][..], &[0, 0], &[0, 1], &[1, 0]].map(bit_length), [0, 0, 1, 9]);
    }
}
