//! Tokens of the development secret, which `throng serve --dev` writes into its data folder.
use crate::peers::{Peer, Server};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use std::time::{Duration, SystemTime};

/// Signs users' tokens for Throng; gives other peers nothing, for they check nothing.
pub struct Signer(Option<EncodingKey>);

impl Signer {
    pub fn for_peer(server: &Server) -> Result<Signer, String> {
        if server.peer != Peer::Throng {
            return Ok(Signer(None));
        }
        let path = server.data_dir().join("dev-secret.key");
        let secret = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Signer(Some(EncodingKey::from_secret(secret.trim_ascii()))))
    }

    /// The request header that signs a user in (R-AUTH-1), or nothing.
    pub fn header(&self, user: &str) -> String {
        let Some(key) = &self.0 else { return String::new() };
        let expires = SystemTime::now() + Duration::from_secs(3_600);
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let claims = serde_json::json!({ "sub": user, "exp": expires });
        let header = Header { kid: Some("dev".into()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, key).expect("plain claims and a plain key");
        format!("Authorization: Bearer {token}\r\n")
    }
}
