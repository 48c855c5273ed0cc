//! From a token to an identity (R-AUTH-3, R-ID-3) or to a grant for a room (R-ROOM-2). Reads no clock.
use super::error::AuthError;
use super::keys::{Algorithm, KeySet};
use super::token::{self, Claims};
use crate::base::user::GlobalRole;
use crate::{config, ids};
use serde_json::Value;
use std::sync::Arc;

/// Who holds a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user_id: Box<str>,
    pub email: Option<Box<str>>,
    /// What `role` grants in all rooms.
    pub role: GlobalRole,
    /// The claim `exp`, Unix ms: what a client is told as `expiresAt`.
    pub expires_at_ms: u64,
    /// `exp` plus `auth.leeway_s`, Unix ms: when a live connection closes (R-AUTH-4). A token that was accepted thanks
    /// to the leeway is not closed at once.
    pub valid_until_ms: u64,
    /// The claim `iat`, Unix ms.
    pub issued_at_ms: Option<u64>,
    /// The claim `jti`: the token's own id.
    pub jti: Option<Box<str>>,
}

/// What a room token grants; it was checked that it is for this user and room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomGrant {
    /// `"member"`, `"moderator"` or `"owner"`; any other value in the token grants no more than entry.
    pub role: Option<&'static str>,
    /// Unix ms.
    pub expires_at_ms: u64,
}

/// What is required of tokens, from the section `auth` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub algorithms: Vec<Algorithm>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub leeway_ms: u64,
    /// Empty: no token gives owner rights.
    pub admin_role: String,
    /// Empty: no token gives moderator rights.
    pub moderator_role: String,
}

impl From<&config::Auth> for Settings {
    fn from(auth: &config::Auth) -> Settings {
        Settings {
            algorithms: auth.algorithms.iter().filter_map(|name| Algorithm::parse(name)).collect(),
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            leeway_ms: auth.leeway_s * 1_000,
            admin_role: auth.admin_role.clone(),
            moderator_role: auth.moderator_role.clone(),
        }
    }
}

/// Each shard has one. Cloning shares the keys.
#[derive(Clone, Debug)]
pub struct Verifier {
    settings: Arc<Settings>,
    keys: Arc<KeySet>,
}

/// E-mail addresses, bytes (RFC 5321 section 4.5.3.1.3).
const EMAIL_BYTES_MAX: usize = 254;

/// Latest time in a token: the end of the year 9999, Unix seconds. Above it stand milliseconds given for seconds, which
/// would make a token that never expires.
const NUMERIC_DATE_MAX: f64 = 253_402_300_799.0;

impl Verifier {
    pub fn new(settings: Settings, keys: Arc<KeySet>) -> Verifier {
        Verifier { settings: Arc::new(settings), keys }
    }

    /// Takes a newer set, as a whole.
    pub fn set_keys(&mut self, keys: Arc<KeySet>) {
        self.keys = keys;
    }

    pub fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    /// A sign-in token (R-AUTH-3). A room token is refused: its `role` is one in a room, not one in the server.
    pub fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Identity, AuthError> {
        let claims = token::open(token, &self.keys, &self.settings.algorithms)?;
        let expires_at_ms = self.check_time_and_parties(&claims, now_unix_ms)?;
        if claims.room_id.is_some() {
            return Err(AuthError::RoomToken);
        }
        Ok(Identity {
            user_id: user_id(&claims)?.into(),
            email: email(&claims)?,
            role: self.global_role(claims.role.as_ref()),
            expires_at_ms,
            valid_until_ms: expires_at_ms + self.settings.leeway_ms,
            issued_at_ms: numeric_date_ms(claims.iat.as_ref(), "iat")?,
            jti: text(claims.jti.as_ref(), "jti")?.map(Into::into),
        })
    }

    /// A `roomToken` (R-ROOM-2), signed under the same keys, for the user who shows it and the room that is joined.
    /// `auth.issuer` and `auth.audience` hold for it too.
    pub fn verify_room_token(
        &self,
        token: &str,
        user: &str,
        room_id: &str,
        now_unix_ms: u64,
    ) -> Result<RoomGrant, AuthError> {
        let claims = token::open(token, &self.keys, &self.settings.algorithms)?;
        let expires_at_ms = self.check_time_and_parties(&claims, now_unix_ms)?;
        if user_id(&claims)? != user {
            return Err(AuthError::OtherUser);
        }
        if text(claims.room_id.as_ref(), "roomId")?.ok_or(AuthError::MissingClaim("roomId"))? != room_id {
            return Err(AuthError::OtherRoom);
        }
        let role = claims.role.as_ref().and_then(Value::as_str);
        let role = role.and_then(|role| ["member", "moderator", "owner"].into_iter().find(|known| *known == role));
        Ok(RoomGrant { role, expires_at_ms })
    }

    /// `exp` in Unix ms, if the token may be used now and is from and for the right parties.
    fn check_time_and_parties(&self, claims: &Claims, now_ms: u64) -> Result<u64, AuthError> {
        let settings = &*self.settings;
        let expires_at_ms = numeric_date_ms(claims.exp.as_ref(), "exp")?.ok_or(AuthError::MissingClaim("exp"))?;
        // RFC 7519 section 4.1.4: "on or after which the JWT MUST NOT be accepted".
        if now_ms >= expires_at_ms + settings.leeway_ms {
            return Err(AuthError::Expired);
        }
        let not_before_ms = numeric_date_ms(claims.nbf.as_ref(), "nbf")?.unwrap_or(0);
        if now_ms + settings.leeway_ms < not_before_ms {
            return Err(AuthError::NotYetValid);
        }
        if let Some(issuer) = &settings.issuer {
            let found = claims.iss.as_ref().ok_or(AuthError::MissingClaim("iss"))?;
            if found.as_str() != Some(issuer) {
                return Err(AuthError::WrongIssuer);
            }
        }
        if let Some(audience) = &settings.audience {
            let holds = match claims.aud.as_ref().ok_or(AuthError::MissingClaim("aud"))? {
                Value::Array(items) => items.iter().any(|item| item.as_str() == Some(audience)),
                single => single.as_str() == Some(audience),
            };
            if !holds {
                return Err(AuthError::WrongAudience);
            }
        }
        Ok(expires_at_ms)
    }

    /// R-ID-3: other values, and values that are no text, give nothing.
    fn global_role(&self, role: Option<&Value>) -> GlobalRole {
        match role.and_then(Value::as_str) {
            None | Some("") => GlobalRole::None,
            Some(role) if role == self.settings.admin_role => GlobalRole::Admin,
            Some(role) if role == self.settings.moderator_role => GlobalRole::Moderator,
            Some(_) => GlobalRole::None,
        }
    }
}

/// `userId`, else `sub`. A `userId` of a wrong type is not passed over.
fn user_id(claims: &Claims) -> Result<&str, AuthError> {
    let claim = claims.user_id.as_ref().or(claims.sub.as_ref()).ok_or(AuthError::MissingClaim("userId"))?;
    claim.as_str().filter(|id| ids::is_user_id(id)).ok_or(AuthError::BadUser)
}

fn email(claims: &Claims) -> Result<Option<Box<str>>, AuthError> {
    let email = text(claims.email.as_ref(), "email")?.filter(|email| !email.is_empty());
    if email.is_some_and(|email| email.len() > EMAIL_BYTES_MAX || email.chars().any(char::is_control)) {
        return Err(AuthError::BadClaim("email"));
    }
    Ok(email.map(Into::into))
}

fn text<'a>(claim: Option<&'a Value>, name: &'static str) -> Result<Option<&'a str>, AuthError> {
    claim.map(|value| value.as_str().ok_or(AuthError::BadClaim(name))).transpose()
}

/// RFC 7519 section 2, NumericDate: seconds, fractions allowed.
fn numeric_date_ms(claim: Option<&Value>, name: &'static str) -> Result<Option<u64>, AuthError> {
    let Some(value) = claim else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|seconds| (0.0..=NUMERIC_DATE_MAX).contains(seconds));
    seconds.map(|seconds| Some((seconds * 1_000.0) as u64)).ok_or(AuthError::BadClaim(name))
}
