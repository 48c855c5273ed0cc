//! Tokens: good ones, and one for each fault that a token can have (product section 12: "every token fault").
use super::Server;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn header(algorithm: &str, kid: Option<&str>) -> Value {
    let mut header = json!({"typ": "JWT", "alg": algorithm});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    header
}

/// HMAC-SHA-256 whatever the header claims.
pub(super) fn sign(secret: &[u8], header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// What can be wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    Expired,
    NotYetValid,
    WrongAlgorithm,
    NoAlgorithm,
    TamperedClaims,
    TamperedSignature,
    NoSignature,
    OtherSecret,
    MissingExp,
    TextExp,
    UnknownKid,
    NoUser,
    NumberUser,
    EmptyUser,
    LongUser,
    RoomToken,
    NotAToken,
}

impl TokenFault {
    pub const ALL: [TokenFault; 17] = [
        TokenFault::Expired,
        TokenFault::NotYetValid,
        TokenFault::WrongAlgorithm,
        TokenFault::NoAlgorithm,
        TokenFault::TamperedClaims,
        TokenFault::TamperedSignature,
        TokenFault::NoSignature,
        TokenFault::OtherSecret,
        TokenFault::MissingExp,
        TokenFault::TextExp,
        TokenFault::UnknownKid,
        TokenFault::NoUser,
        TokenFault::NumberUser,
        TokenFault::EmptyUser,
        TokenFault::LongUser,
        TokenFault::RoomToken,
        TokenFault::NotAToken,
    ];

    /// A token that is good but for this.
    pub fn token(self, server: &Server) -> String {
        let now_s = now_s();
        let good = json!({"userId": "mallory", "exp": now_s + 600});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            server.sign_raw(&claims)
        };
        let without = |name: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(name);
            server.sign_raw(&claims)
        };
        let secret = server.secret();
        match self {
            TokenFault::Expired => with("exp", (now_s - 60).into()),
            TokenFault::NotYetValid => with("nbf", (now_s + 60).into()),
            TokenFault::WrongAlgorithm => sign(&secret, &header("HS512", Some("dev")), &good),
            TokenFault::NoAlgorithm => {
                let token = sign(&secret, &header("none", Some("dev")), &good);
                token[..=token.rfind('.').unwrap()].to_string()
            }
            TokenFault::TamperedClaims => {
                let token = server.sign_raw(&good);
                let parts: Vec<&str> = token.split('.').collect();
                let claims = URL_SAFE_NO_PAD.encode(json!({"userId": "root", "exp": now_s + 600}).to_string());
                [parts[0], &claims, parts[2]].join(".")
            }
            TokenFault::TamperedSignature => {
                let token = server.sign_raw(&good);
                let at = token.rfind('.').unwrap() + 1;
                let other = if token[at..].starts_with('A') { "B" } else { "A" };
                format!("{}{other}{}", &token[..at], &token[at + 1..])
            }
            TokenFault::NoSignature => {
                let token = server.sign_raw(&good);
                token[..=token.rfind('.').unwrap()].to_string()
            }
            TokenFault::OtherSecret => sign(&[b'x'; 43], &header("HS256", Some("dev")), &good),
            TokenFault::MissingExp => without("exp"),
            TokenFault::TextExp => with("exp", (now_s + 600).to_string().into()),
            TokenFault::UnknownKid => sign(&secret, &header("HS256", Some("other")), &good),
            TokenFault::NoUser => without("userId"),
            TokenFault::NumberUser => with("userId", 7.into()),
            TokenFault::EmptyUser => with("userId", "".into()),
            TokenFault::LongUser => with("userId", "u".repeat(129).into()),
            TokenFault::RoomToken => with("roomId", "lobby".into()),
            TokenFault::NotAToken => "hello".into(),
        }
    }
}
