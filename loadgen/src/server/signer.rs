//! Tokens of the simulated users (R-AUTH-1), signed with the key that the server checks with, or given by the user.
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longer than any run.
const VALIDITY: Duration = Duration::from_secs(24 * 3_600);

/// The key's name in development mode. A server that has no key of this name tries its nameless ones (PEM file, shared secret).
const KID: &str = "dev";

/// Signs users in. Cheap to clone and to share between threads.
#[derive(Clone, Default)]
pub struct Signer(Means);

#[derive(Clone, Default)]
enum Means {
    /// Users come without a token: for servers that check none.
    #[default]
    None,
    Key {
        key: Arc<EncodingKey>,
        header: Arc<Header>,
        expires_s: u64,
    },
    Tokens(Arc<Vec<String>>),
}

impl Signer {
    /// Nobody gets a token.
    pub fn none() -> Signer {
        Signer::default()
    }

    /// With the key in a file: a shared secret (as `dev-secret.key`), or a private key in PEM form (PKCS#8) of Ed25519, P-256
    /// or RSA.
    pub fn from_key_file(path: &Path) -> Result<Signer, String> {
        let content = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (key, algorithm) = parse_key(content.trim_ascii()).map_err(|what| format!("{}: {what}", path.display()))?;
        let expires = SystemTime::now() + VALIDITY;
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let header = Header { kid: Some(KID.into()), ..Header::new(algorithm) };
        Ok(Signer(Means::Key { key: Arc::new(key), header: Arc::new(header), expires_s: expires.as_secs() }))
    }

    /// With tokens from elsewhere, one a line. The digits at the end of a user's name choose the line, round and round.
    pub fn from_token_file(path: &Path) -> Result<Signer, String> {
        let content = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let tokens: Vec<String> =
            content.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
        if tokens.is_empty() {
            return Err(format!("{}: no token in it; one a line", path.display()));
        }
        Ok(Signer(Means::Tokens(Arc::new(tokens))))
    }

    /// What signs this user in; `None`: nothing is needed.
    pub fn token(&self, user: &str) -> Option<String> {
        match &self.0 {
            Means::None => None,
            Means::Key { key, header, expires_s } => {
                let claims = serde_json::json!({ "sub": user, "exp": expires_s });
                encode(header, &claims, key).ok()
            }
            Means::Tokens(tokens) => Some(tokens[(number(user) % tokens.len() as u64) as usize].clone()),
        }
    }

    /// The first word of what it does, for logs.
    fn name(&self) -> &'static str {
        match &self.0 {
            Means::None => "none",
            Means::Key { .. } => "key",
            Means::Tokens(_) => "tokens",
        }
    }
}

/// Never shows the key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.name()).finish()
    }
}

fn parse_key(content: &[u8]) -> Result<(EncodingKey, Algorithm), &'static str> {
    if content.starts_with(b"-----BEGIN") {
        // A PEM file of PKCS#8 names its kind inside; each reader takes its own alone.
        return (EncodingKey::from_ed_pem(content).map(|key| (key, Algorithm::EdDSA)))
            .or_else(|_| EncodingKey::from_ec_pem(content).map(|key| (key, Algorithm::ES256)))
            .or_else(|_| EncodingKey::from_rsa_pem(content).map(|key| (key, Algorithm::RS256)))
            .map_err(|_| "a PEM file, but no private key of Ed25519, P-256 or RSA");
    }
    if content.is_empty() {
        return Err("empty; a shared secret or a private key belongs there");
    }
    Ok((EncodingKey::from_secret(content), Algorithm::HS256))
}

/// The number that ends a name; 0 without one.
fn number(user: &str) -> u64 {
    let digits = user.len() - user.bytes().rev().take(18).take_while(u8::is_ascii_digit).count();
    user[digits..].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_secret_signs_a_token_for_each_user() {
        let secret = "0123456789012345678901234567890123456789";
        let signer = Signer::from_key_file(file(&format!("{secret}\n")).path()).unwrap();
        let token = signer.token("u17").unwrap();
        assert_eq!(decode_header(&token).unwrap().kid.as_deref(), Some("dev"));
        let claims = decode::<serde_json::Value>(
            &token,
            &DecodingKey::from_secret(secret.as_bytes()),
            &Validation::new(Algorithm::HS256),
        );
        assert_eq!(claims.unwrap().claims["sub"], "u17");
        assert!(!format!("{signer:?}").contains("0123"));
    }

    #[test]
    fn a_private_key_tells_its_algorithm() {
        // RFC 8410, section 10.3.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let signer = Signer::from_key_file(file(pem).path()).unwrap();
        assert_eq!(decode_header(signer.token("a").unwrap()).unwrap().alg, Algorithm::EdDSA);
        let wrong = Signer::from_key_file(file("-----BEGIN CERTIFICATE-----\n").path());
        assert!(wrong.unwrap_err().contains("no private key"));
        assert!(Signer::from_key_file(file("\n").path()).is_err());
    }

    #[test]
    fn given_tokens_go_round() {
        let signer = Signer::from_token_file(file("a\n\n b \nc").path()).unwrap();
        let tokens: Vec<_> = ["u0", "u1", "u2", "u3", "x"].map(|user| signer.token(user).unwrap()).into();
        assert_eq!(tokens, ["a", "b", "c", "a", "a"]);
        assert!(Signer::from_token_file(file("\n").path()).is_err());
        assert_eq!(Signer::none().token("u0"), None);
    }

    #[test]
    fn the_number_ends_the_name() {
        assert_eq!((number("u12"), number("12"), number("a1b"), number("")), (12, 12, 0, 0));
        assert_eq!(number("u99999999999999999999"), 999_999_999_999_999_999);
    }
}
