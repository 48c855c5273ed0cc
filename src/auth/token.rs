//! The compact form of a signed token (RFC 7515 section 7.1) and its claims (RFC 7519), without judgement of them.
use super::error::AuthError;
use super::keys::{Algorithm, KeySet};
use crate::limits;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// The claims that Throng reads. Types are judged one by one, so that the fault can be named; a claim that appears twice
/// makes the token malformed (RFC 7519 section 4).
#[derive(Deserialize)]
pub struct Claims {
    #[serde(rename = "userId")]
    pub user_id: Option<Value>,
    pub sub: Option<Value>,
    #[serde(rename = "roomId")]
    pub room_id: Option<Value>,
    pub email: Option<Value>,
    pub role: Option<Value>,
    pub exp: Option<Value>,
    pub nbf: Option<Value>,
    pub iat: Option<Value>,
    pub iss: Option<Value>,
    pub aud: Option<Value>,
    pub jti: Option<Value>,
}

/// Checks the signature and gives the claims; nothing of the payload is looked at before the signature holds.
pub fn open(token: &str, keys: &KeySet, allowed: &[Algorithm]) -> Result<Claims, AuthError> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(AuthError::TooLong);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(AuthError::Malformed)?;
    if signature.is_empty() || payload.is_empty() || payload.contains('.') {
        // An empty signature is how unsigned tokens are written; five parts are an encrypted one.
        return Err(unsigned_or_malformed(header));
    }
    let (algorithm, kid) = read_header(header)?;
    if !allowed.contains(&algorithm) {
        return Err(AuthError::WrongAlgorithm);
    }
    keys.verify(algorithm, kid.as_deref(), message.as_bytes(), signature)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| AuthError::Malformed)?;
    // The typed parse would take an array for the struct's fields in order.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(AuthError::Malformed);
    }
    serde_json::from_slice(&payload).map_err(|_| AuthError::Malformed)
}

fn read_header(header: &str) -> Result<(Algorithm, Option<String>), AuthError> {
    let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Malformed)?;
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(AuthError::Malformed);
    }
    let header: Header = serde_json::from_slice(&json).map_err(|_| AuthError::Malformed)?;
    // Extensions that must be understood (RFC 7515 section 4.1.11), and none is.
    if header.crit.is_some() {
        return Err(AuthError::Malformed);
    }
    let algorithm = Algorithm::parse(&header.alg).ok_or(AuthError::WrongAlgorithm)?;
    Ok((algorithm, header.kid.map(Cow::into_owned)))
}

fn unsigned_or_malformed(header: &str) -> AuthError {
    match read_header(header) {
        Err(AuthError::WrongAlgorithm) => AuthError::WrongAlgorithm,
        _ => AuthError::Malformed,
    }
}
