//! Resume tokens (R-REC-2, R-SEC-9): they prove that a session is the caller's, across restarts.
//!
//! A token is the time of its end and a MAC over that time, the session and the user, 54 characters of base64url.
//! Nothing in it can be read or changed usefully without the key in `data_dir`.
use super::secret_file;
use crate::ids::Ulid;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io;
use std::path::Path;
use subtle::ConstantTimeEq;

/// The key under which this server's resume tokens are signed.
#[derive(Clone)]
pub struct ResumeKey {
    mac: Hmac<Sha256>,
}

const TIME_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
/// 40 bytes in base64url without padding.
const TOKEN_CHARS: usize = 54;

/// Keeps these MACs apart from any other use of the same key.
const PURPOSE: &[u8] = b"throng resume token 1\0";

impl ResumeKey {
    pub const FILE: &'static str = "resume.key";

    /// Reads `resume.key` in `data_dir`, or makes it (mode 0600). Losing it costs clients one join each, no more.
    ///
    /// Errors: the folder cannot be written, or the file does not hold 32 bytes.
    pub fn load_or_create(data_dir: &Path) -> io::Result<ResumeKey> {
        let bytes = secret_file::load_or_create(&data_dir.join(Self::FILE), || Ok(secret_file::random()?.to_vec()))?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "resume.key does not hold 32 bytes; delete it to get a new one")
        })?;
        Ok(ResumeKey::from_bytes(&bytes))
    }

    pub fn from_bytes(key: &[u8; 32]) -> ResumeKey {
        ResumeKey { mac: Hmac::new_from_slice(key).expect("HMAC takes keys of any length") }
    }

    /// `expires_at_ms`: Unix ms, now plus `session.token_s`.
    pub fn issue(&self, user_id: &str, session: Ulid, expires_at_ms: u64) -> String {
        let mut bytes = [0; TIME_BYTES + MAC_BYTES];
        bytes[..TIME_BYTES].copy_from_slice(&expires_at_ms.to_be_bytes());
        bytes[TIME_BYTES..].copy_from_slice(&self.sign(user_id, session, expires_at_ms));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether the token was issued for this user and session and has not ended. Takes equally long for every MAC.
    pub fn verify(&self, token: &str, user_id: &str, session: Ulid, now_unix_ms: u64) -> bool {
        if token.len() != TOKEN_CHARS {
            return false;
        }
        let mut bytes = [0; TIME_BYTES + MAC_BYTES];
        if URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(bytes.len()) {
            return false;
        }
        let Some((time, mac)) = bytes.split_first_chunk::<TIME_BYTES>() else {
            return false;
        };
        let expires_at_ms = u64::from_be_bytes(*time);
        let is_ours = bool::from(self.sign(user_id, session, expires_at_ms).ct_eq(mac));
        is_ours && now_unix_ms < expires_at_ms
    }

    /// Fixed lengths first, so that no two triples give the same message.
    fn sign(&self, user_id: &str, session: Ulid, expires_at_ms: u64) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(PURPOSE);
        mac.update(&expires_at_ms.to_be_bytes());
        mac.update(&session.0.to_be_bytes());
        mac.update(user_id.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: Ulid = Ulid(7);

    #[test]
    fn bound_to_user_session_time_and_key() {
        let key = ResumeKey::from_bytes(&[1; 32]);
        let token = key.issue("anna", SESSION, 1_000);
        assert_eq!(token.len(), TOKEN_CHARS);
        assert!(key.verify(&token, "anna", SESSION, 999));
        assert!(!key.verify(&token, "anna", SESSION, 1_000));
        assert!(!key.verify(&token, "ann", SESSION, 0));
        assert!(!key.verify(&token, "anna", Ulid(8), 0));
        assert!(!ResumeKey::from_bytes(&[2; 32]).verify(&token, "anna", SESSION, 0));
    }

    #[test]
    fn every_changed_character_is_seen() {
        let key = ResumeKey::from_bytes(&[1; 32]);
        let token = key.issue("anna", SESSION, u64::MAX);
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert!(!key.verify(std::str::from_utf8(&changed).unwrap(), "anna", SESSION, 0), "{index}");
        }
        assert!(!key.verify(&token[1..], "anna", SESSION, 0) && !key.verify("", "anna", SESSION, 0));
    }

    #[test]
    fn the_key_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let token = ResumeKey::load_or_create(folder.path()).unwrap().issue("anna", SESSION, 10);
        assert!(ResumeKey::load_or_create(folder.path()).unwrap().verify(&token, "anna", SESSION, 0));
        std::fs::write(folder.path().join(ResumeKey::FILE), b"short").unwrap();
        assert!(ResumeKey::load_or_create(folder.path()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused(token in ".{0,80}", user in ".*") {
            prop_assert!(!ResumeKey::from_bytes(&[3; 32]).verify(&token, &user, SESSION, 0));
        }

        #[test]
        fn what_is_issued_is_accepted(user in ".{1,128}", session: u128, expires in 1u64..) {
            let key = ResumeKey::from_bytes(&[4; 32]);
            prop_assert!(key.verify(&key.issue(&user, Ulid(session), expires), &user, Ulid(session), expires - 1));
        }
    }
}
