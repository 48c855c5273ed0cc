//! Development keys: made at random on the first `throng serve --dev`, kept in the data folder, never built in (R-AUTH-2).
use crate::auth::keys::KeyFault;
use crate::auth::{Key, secret_file};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};

/// The `kid` of the development key, so that it never stands in the way of other keys.
pub const KID: &str = "dev";

/// Signs and verifies HS256 tokens of one data folder.
pub struct DevKey {
    secret: Vec<u8>,
    path: PathBuf,
}

/// Claims of a token to be signed. With `room_id` it is a room token (R-ROOM-2), without it a sign-in token (R-AUTH-3).
#[derive(Clone, Debug, Default)]
pub struct Claims<'a> {
    pub user_id: &'a str,
    pub room_id: Option<&'a str>,
    pub role: Option<&'a str>,
    pub email: Option<&'a str>,
    pub issuer: Option<&'a str>,
    pub audience: Option<&'a str>,
}

impl DevKey {
    pub const FILE: &'static str = "dev-secret.key";

    /// Reads the key, or makes one (mode 0600): 43 characters of base64url, used as they stand.
    pub fn load_or_create(data_dir: &Path) -> io::Result<DevKey> {
        let path = data_dir.join(Self::FILE);
        let make = || Ok(URL_SAFE_NO_PAD.encode(secret_file::random()?).into_bytes());
        let secret = secret_file::load_or_create(&path, make)?;
        Ok(DevKey { secret: secret.trim_ascii().to_vec(), path })
    }

    /// Reads the key of a server that was started before. A key made here would open no server.
    pub fn load(data_dir: &Path) -> io::Result<DevKey> {
        let path = data_dir.join(Self::FILE);
        let secret = std::fs::read(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(DevKey { secret: secret.trim_ascii().to_vec(), path })
    }

    /// The key for the verifying side. Errors: somebody put a short secret into the file.
    pub fn verification_key(&self) -> Result<Key, KeyFault> {
        Key::secret(Some(KID), &self.secret).map_err(|fault| format!("{}: {fault}", self.path.display()))
    }

    /// Signs `claims`, valid from `now_s` (Unix seconds) for `ttl_s`.
    pub fn sign(&self, claims: &Claims, now_s: u64, ttl_s: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let mut payload = Map::new();
        payload.insert("userId".into(), claims.user_id.into());
        let texts = [
            ("roomId", claims.room_id),
            ("role", claims.role),
            ("email", claims.email),
            ("iss", claims.issuer),
            ("aud", claims.audience),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                payload.insert(name.into(), text.into());
            }
        }
        payload.insert("iat".into(), now_s.into());
        payload.insert("exp".into(), now_s.saturating_add(ttl_s).into());
        let header = Header { kid: Some(KID.into()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &Value::Object(payload), &EncodingKey::from_secret(&self.secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{KeySet, Settings, Verifier};
    use crate::base::user::GlobalRole;
    use crate::config::Auth;
    use std::sync::Arc;

    #[test]
    fn tokens_of_the_development_key_open_its_server() {
        let folder = tempfile::tempdir().unwrap();
        assert!(DevKey::load(folder.path()).is_err());
        let key = DevKey::load_or_create(folder.path()).unwrap().verification_key().unwrap();
        let verifier = Verifier::new(Settings::from(&Auth::default()), Arc::new(KeySet::new(vec![Arc::new(key)], 0)));
        let signer = DevKey::load(folder.path()).unwrap();
        let claims = Claims { user_id: "anna", role: Some("admin"), email: Some("a@example.com"), ..Claims::default() };
        let token = signer.sign(&claims, 1_000, 60).unwrap();
        let identity = verifier.verify(&token, 1_000_000).unwrap();
        assert_eq!((&*identity.user_id, identity.role, identity.expires_at_ms), ("anna", GlobalRole::Admin, 1_060_000));
        let room = Claims { user_id: "anna", room_id: Some("lobby"), role: Some("owner"), ..Claims::default() };
        let token = signer.sign(&room, 1_000, 60).unwrap();
        assert_eq!(verifier.verify_room_token(&token, "anna", "lobby", 1_000_000).unwrap().role, Some("owner"));
    }

    #[test]
    fn two_folders_have_two_keys() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secrets = [&one, &other].map(|folder| DevKey::load_or_create(folder.path()).unwrap().secret);
        assert_ne!(secrets[0], secrets[1]);
    }
}
