//! Why a token was refused: for metrics and logs. A client learns only that it failed (4002, `auth_failed`).
use std::fmt;

/// Never holds the token or a part of it, except the names that its sender chose for the key (R-SEC-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Not a compact signed JWT: parts, base64url, JSON, or a `crit` header (RFC 7515 section 4.1.11).
    Malformed,
    /// Longer than `limits::TOKEN_BYTES_MAX`.
    TooLong,
    /// `alg` is not allowed, or not that of the key. `none` is never allowed.
    WrongAlgorithm,
    /// No key of this name; or without a name, none or too many keys to try. The key sources are to be asked.
    UnknownKey {
        /// At most `KID_CHARS_MAX` characters of it.
        kid: Option<Box<str>>,
    },
    BadSignature,
    /// A required claim is absent.
    MissingClaim(&'static str),
    /// A claim has a wrong type or is out of range.
    BadClaim(&'static str),
    /// The user id breaks the rules of `ids::is_user_id`.
    BadUser,
    Expired,
    NotYetValid,
    WrongIssuer,
    WrongAudience,
    /// A room token where a sign-in token belongs: its `role` means something else.
    RoomToken,
    /// The room token is for another user.
    OtherUser,
    /// The room token is for another room.
    OtherRoom,
}

impl AuthError {
    /// Label values of the metric, one for each variant.
    pub const LABELS: [&'static str; 15] = [
        "malformed",
        "too_long",
        "wrong_algorithm",
        "unknown_key",
        "bad_signature",
        "missing_claim",
        "bad_claim",
        "bad_user",
        "expired",
        "not_yet_valid",
        "wrong_issuer",
        "wrong_audience",
        "room_token",
        "other_user",
        "other_room",
    ];

    /// Position in `LABELS`: counters are an array.
    pub const fn index(&self) -> usize {
        match self {
            AuthError::Malformed => 0,
            AuthError::TooLong => 1,
            AuthError::WrongAlgorithm => 2,
            AuthError::UnknownKey { .. } => 3,
            AuthError::BadSignature => 4,
            AuthError::MissingClaim(_) => 5,
            AuthError::BadClaim(_) => 6,
            AuthError::BadUser => 7,
            AuthError::Expired => 8,
            AuthError::NotYetValid => 9,
            AuthError::WrongIssuer => 10,
            AuthError::WrongAudience => 11,
            AuthError::RoomToken => 12,
            AuthError::OtherUser => 13,
            AuthError::OtherRoom => 14,
        }
    }

    pub const fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Characters of a `kid` that are kept: the sender chose them.
    pub const KID_CHARS_MAX: usize = 64;

    pub(crate) fn unknown_key(kid: Option<&str>) -> AuthError {
        AuthError::UnknownKey { kid: kid.map(|kid| kid.chars().take(Self::KID_CHARS_MAX).collect()) }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthError::Malformed => f.write_str("not a signed JWT"),
            AuthError::TooLong => f.write_str("token too long"),
            AuthError::WrongAlgorithm => f.write_str("algorithm not allowed for this key"),
            AuthError::UnknownKey { kid: Some(kid) } => write!(f, "no key has kid {kid:?}"),
            AuthError::UnknownKey { kid: None } => f.write_str("no kid, and no key or too many keys to try"),
            AuthError::BadSignature => f.write_str("signature does not match"),
            AuthError::MissingClaim(name) => write!(f, "claim {name} is missing"),
            AuthError::BadClaim(name) => write!(f, "claim {name} has a wrong type or range"),
            AuthError::BadUser => f.write_str("user id is not 1 to 128 characters without control characters"),
            AuthError::Expired => f.write_str("expired"),
            AuthError::NotYetValid => f.write_str("not yet valid"),
            AuthError::WrongIssuer => f.write_str("iss is not auth.issuer"),
            AuthError::WrongAudience => f.write_str("aud does not hold auth.audience"),
            AuthError::RoomToken => f.write_str("a room token is no sign-in token"),
            AuthError::OtherUser => f.write_str("room token of another user"),
            AuthError::OtherRoom => f.write_str("room token of another room"),
        }
    }
}

impl std::error::Error for AuthError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kids_are_cut_and_escaped() {
        let error = AuthError::unknown_key(Some(&"\n".repeat(1000)));
        assert_eq!(error.to_string().matches("\\n").count(), 64);
        assert!(!error.to_string().contains('\n'));
        assert_eq!(error.label(), "unknown_key");
    }
}
