//! Every fault a token can have, for every kind of key (R-AUTH-2, R-AUTH-3, R-ID-3, R-ROOM-2, R-SEC-1, R-SEC-2; product
//! checklist "every token fault").
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, crypto};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use throng::auth::jwk::{self, Origin};
use throng::auth::{Algorithm, AuthError, Key, KeySet, Settings, Verifier};
use throng::base::user::GlobalRole;
use throng::config::Auth;

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/keys/", $name))
    };
}

/// One kind of key: who signs, who verifies, and a stranger of the same kind.
struct Kind {
    algorithm: Algorithm,
    signer: EncodingKey,
    stranger: EncodingKey,
    /// What an attacker can know of the verification key.
    public_text: &'static [u8],
}

/// Read once: private RSA keys are checked when they are read, which takes long in test builds.
fn kinds() -> &'static [Kind] {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    KINDS.get_or_init(make_kinds)
}

fn make_kinds() -> Vec<Kind> {
    let rsa = |pem: &[u8]| EncodingKey::from_rsa_pem(pem).unwrap();
    let ec = |pem: &[u8]| EncodingKey::from_ec_pem(pem).unwrap();
    let ed = |pem: &[u8]| EncodingKey::from_ed_pem(pem).unwrap();
    vec![
        Kind {
            algorithm: Algorithm::Hs256,
            signer: EncodingKey::from_secret(SECRET),
            stranger: EncodingKey::from_secret(OTHER_SECRET),
            public_text: b"",
        },
        Kind {
            algorithm: Algorithm::Rs256,
            signer: rsa(fixture!("rsa2048.pem")),
            stranger: rsa(fixture!("rsa2048.other.pem")),
            public_text: fixture!("rsa2048.pub.pem"),
        },
        Kind {
            algorithm: Algorithm::Es256,
            signer: ec(fixture!("p256.pem")),
            stranger: ec(fixture!("p256.other.pem")),
            public_text: fixture!("p256.pub.pem"),
        },
        Kind {
            algorithm: Algorithm::EdDsa,
            signer: ed(fixture!("ed25519.pem")),
            stranger: ed(fixture!("ed25519.other.pem")),
            public_text: fixture!("ed25519.pub.pem"),
        },
    ]
}

impl Kind {
    fn key(&self, kid: Option<&str>) -> Arc<Key> {
        let key = match self.algorithm {
            Algorithm::Hs256 => Key::secret(kid, SECRET),
            _ => Key::pem(kid, self.public_text),
        };
        Arc::new(key.unwrap())
    }

    fn provider(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.as_str().parse().unwrap()
    }

    fn sign(&self, claims: Value) -> String {
        self.sign_with(json!({"alg": self.algorithm.as_str(), "typ": "JWT"}), &claims.to_string())
    }

    fn sign_with(&self, header: Value, payload: &str) -> String {
        seal(&header.to_string(), payload, |message| crypto::sign(message, &self.signer, self.provider()).unwrap())
    }
}

fn seal(header: &str, payload: &str, sign: impl FnOnce(&[u8]) -> String) -> String {
    let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let signature = sign(message.as_bytes());
    format!("{message}.{signature}")
}

fn hmac(message: &[u8], secret: &[u8]) -> String {
    crypto::sign(message, &EncodingKey::from_secret(secret), jsonwebtoken::Algorithm::HS256).unwrap()
}

fn claims() -> Value {
    json!({"userId": "anna", "exp": NOW_S + 600})
}

/// The usual claims with some set; `null` takes one away.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn verifier(keys: Vec<Arc<Key>>, change: impl FnOnce(&mut Auth)) -> Verifier {
    let mut auth = Auth::default();
    change(&mut auth);
    Verifier::new(Settings::from(&auth), Arc::new(KeySet::new(keys, 0)))
}

fn plain(kind: &Kind) -> Verifier {
    verifier(vec![kind.key(None)], |_| {})
}

#[test]
fn a_valid_token_gives_its_identity() {
    for kind in kinds() {
        let token = kind.sign(with(json!({"email": "a@example.com", "role": "admin", "iat": NOW_S, "jti": "7"})));
        let identity = plain(kind).verify(&token, NOW_MS).unwrap();
        assert_eq!((&*identity.user_id, identity.email.as_deref()), ("anna", Some("a@example.com")));
        assert_eq!((identity.role, identity.jti.as_deref()), (GlobalRole::Admin, Some("7")));
        assert_eq!((identity.expires_at_ms, identity.issued_at_ms), (NOW_MS + 600_000, Some(NOW_MS)));
        assert_eq!(identity.valid_until_ms, NOW_MS + 630_000);
    }
}

/// Claim by claim; the second value of each pair is one step beyond what is allowed.
#[test]
fn claims_are_judged_one_by_one() {
    use AuthError::*;
    let long = "ü".repeat(128);
    let too_long = "ü".repeat(129);
    let cases: Vec<(Value, Option<AuthError>)> = vec![
        (json!({"exp": NOW_S - 29}), None),
        (json!({"exp": NOW_S - 30}), Some(Expired)),
        (json!({"exp": 0}), Some(Expired)),
        (json!({"exp": null}), Some(MissingClaim("exp"))),
        (json!({"exp": NOW_S as f64 + 0.5}), None),
        (json!({"exp": (NOW_S + 600).to_string()}), Some(BadClaim("exp"))),
        (json!({"exp": -1}), Some(BadClaim("exp"))),
        (json!({"exp": [NOW_S + 600]}), Some(BadClaim("exp"))),
        (json!({"exp": 253_402_300_799u64}), None),
        (json!({"exp": NOW_MS + 600_000}), Some(BadClaim("exp"))),
        (json!({"exp": 1e300}), Some(BadClaim("exp"))),
        (json!({"exp": u64::MAX}), Some(BadClaim("exp"))),
        (json!({"nbf": NOW_S + 30}), None),
        (json!({"nbf": NOW_S + 31}), Some(NotYetValid)),
        (json!({"nbf": "soon"}), Some(BadClaim("nbf"))),
        (json!({"iat": "now"}), Some(BadClaim("iat"))),
        (json!({"jti": 7}), Some(BadClaim("jti"))),
        (json!({"userId": null}), Some(MissingClaim("userId"))),
        (json!({"userId": null, "sub": "anna"}), None),
        (json!({"userId": null, "sub": 7}), Some(BadUser)),
        (json!({"userId": 7, "sub": "anna"}), Some(BadUser)),
        (json!({"userId": ["anna"]}), Some(BadUser)),
        (json!({"userId": {"id": "anna"}}), Some(BadUser)),
        (json!({"userId": true}), Some(BadUser)),
        (json!({"userId": ""}), Some(BadUser)),
        (json!({"userId": "a\nb"}), Some(BadUser)),
        (json!({"userId": long}), None),
        (json!({"userId": too_long}), Some(BadUser)),
        (json!({"email": ["a@example.com"]}), Some(BadClaim("email"))),
        (json!({"email": "a".repeat(254)}), None),
        (json!({"email": "a".repeat(255)}), Some(BadClaim("email"))),
        (json!({"email": ""}), None),
        (json!({"role": ["admin"]}), None),
        (json!({"iss": 7, "aud": 7, "anything": {"else": [1, 2]}}), None),
        (json!({"roomId": "lobby"}), Some(RoomToken)),
        (json!({"roomId": 7}), Some(RoomToken)),
    ];
    for kind in kinds() {
        let verifier = plain(kind);
        for (changes, fault) in &cases {
            let token = kind.sign(with(changes.clone()));
            assert_eq!(verifier.verify(&token, NOW_MS).err(), *fault, "{:?} {changes}", kind.algorithm);
        }
    }
}

#[test]
fn issuer_and_audience_hold_when_configured() {
    use AuthError::*;
    for kind in kinds() {
        let verifier = verifier(vec![kind.key(None)], |auth| {
            auth.issuer = Some("https://id.example".into());
            auth.audience = Some("chat".into());
        });
        let good = json!({"iss": "https://id.example", "aud": "chat"});
        for (changes, fault) in [
            (json!({}), None),
            (json!({"aud": ["other", "chat"]}), None),
            (json!({"iss": null}), Some(MissingClaim("iss"))),
            (json!({"iss": "https://id.example/"}), Some(WrongIssuer)),
            (json!({"iss": ["https://id.example"]}), Some(WrongIssuer)),
            (json!({"aud": null}), Some(MissingClaim("aud"))),
            (json!({"aud": "chats"}), Some(WrongAudience)),
            (json!({"aud": []}), Some(WrongAudience)),
            (json!({"aud": [["chat"]]}), Some(WrongAudience)),
            (json!({"aud": {"chat": 1}}), Some(WrongAudience)),
        ] {
            let mut all = good.clone();
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let result = verifier.verify(&kind.sign(with(all)), NOW_MS);
            assert_eq!(result.err(), fault, "{:?} {changes}", kind.algorithm);
        }
    }
}

/// `none` in any spelling, with and without a signature; and algorithms of the same family that are not the key's.
#[test]
fn none_and_other_algorithms_are_refused() {
    for kind in kinds() {
        let verifier = plain(kind);
        let payload = claims().to_string();
        for name in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512", "PS256", "ES384", "hs256", "ES256K"]
        {
            let header = json!({"alg": name});
            let unsigned = seal(&header.to_string(), &payload, |_| String::new());
            for token in [kind.sign_with(header.clone(), &payload), unsigned] {
                let fault = verifier.verify(&token, NOW_MS).unwrap_err();
                assert_eq!(fault, AuthError::WrongAlgorithm, "{:?} {name}", kind.algorithm);
            }
        }
        for header in
            [json!({"typ": "JWT"}), json!({"alg": null}), json!({"alg": ["none"]}), json!([kind.algorithm.as_str()])]
        {
            assert_eq!(verifier.verify(&kind.sign_with(header, &payload), NOW_MS), Err(AuthError::Malformed));
        }
        let stripped = kind.sign(claims());
        let stripped = &stripped[..=stripped.rfind('.').unwrap()];
        assert_eq!(verifier.verify(stripped, NOW_MS), Err(AuthError::Malformed));
    }
}

/// The public key, in every form an attacker can have it, as the secret of an HS256 token.
#[test]
fn a_public_key_is_no_secret() {
    for kind in kinds().iter().filter(|kind| kind.algorithm != Algorithm::Hs256) {
        let text = kind.public_text;
        let lines: String = std::str::from_utf8(text).unwrap().lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(&lines).unwrap();
        for secret in [text, text.trim_ascii_end(), lines.as_bytes(), &der] {
            for header in [json!({"alg": "HS256"}), json!({"alg": "HS256", "kid": "main"})] {
                let token = seal(&header.to_string(), &claims().to_string(), |message| hmac(message, secret));
                for kid in [None, Some("main")] {
                    let fault = verifier(vec![kind.key(kid)], |_| {}).verify(&token, NOW_MS).unwrap_err();
                    let is_refused = matches!(fault, AuthError::WrongAlgorithm | AuthError::UnknownKey { .. });
                    assert!(is_refused, "{:?} {header} {kid:?}: {fault}", kind.algorithm);
                }
            }
        }
    }
}

/// A token of one kind, relabelled as each other kind, against keys of all kinds at once.
#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let keys: Vec<_> = kinds().iter().map(|kind| kind.key(Some(kind.algorithm.as_str()))).collect();
    let verifier = verifier(keys, |_| {});
    for signer in kinds() {
        for named in Algorithm::ALL.map(Algorithm::as_str) {
            for kid in Algorithm::ALL.map(Algorithm::as_str) {
                let token = signer.sign_with(json!({"alg": named, "kid": kid}), &claims().to_string());
                let is_honest = named == signer.algorithm.as_str() && kid == named;
                assert_eq!(
                    verifier.verify(&token, NOW_MS).is_ok(),
                    is_honest,
                    "{:?} as {named}, {kid}",
                    signer.algorithm
                );
            }
            let token = signer.sign_with(json!({"alg": named}), &claims().to_string());
            assert_eq!(verifier.verify(&token, NOW_MS).is_ok(), named == signer.algorithm.as_str());
        }
    }
}

#[test]
fn algorithms_that_are_not_allowed_are_refused_even_with_a_key() {
    for kind in kinds() {
        let token = kind.sign(claims());
        for allowed in Algorithm::ALL.map(Algorithm::as_str) {
            let verifier = verifier(vec![kind.key(None)], |auth| auth.algorithms = vec![allowed.into()]);
            let expected = if allowed == kind.algorithm.as_str() { None } else { Some(AuthError::WrongAlgorithm) };
            assert_eq!(verifier.verify(&token, NOW_MS).err(), expected);
        }
    }
}

#[test]
fn tampered_tokens_are_refused() {
    for kind in kinds() {
        let verifier = plain(kind);
        let token = kind.sign(claims());
        let parts: Vec<&str> = token.split('.').collect();
        let forged = BASE64URL.encode(with(json!({"role": "admin"})).to_string());
        let swapped = format!("{}.{forged}.{}", parts[0], parts[2]);
        assert_eq!(verifier.verify(&swapped, NOW_MS), Err(AuthError::BadSignature));
        let foreign = seal(&json!({"alg": kind.algorithm.as_str()}).to_string(), &claims().to_string(), |message| {
            crypto::sign(message, &kind.stranger, kind.provider()).unwrap()
        });
        assert_eq!(verifier.verify(&foreign, NOW_MS), Err(AuthError::BadSignature));
        let cut = verifier.verify(&token[..token.len() - 4], NOW_MS);
        assert!(
            matches!(cut, Err(AuthError::BadSignature | AuthError::Malformed)),
            "the last letter may be impossible"
        );
        let zeros = format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len()));
        assert_eq!(verifier.verify(&zeros, NOW_MS), Err(AuthError::BadSignature));
    }
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    for kind in kinds() {
        let verifier = plain(kind);
        let token = kind.sign(claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        for bad in [
            "",
            ".",
            "..",
            "...",
            "a.b",
            "a.b.c",
            "Bearer x.y.z",
            message,
            &format!("{token}."),
            &format!(".{token}"),
            &format!("{token}.a.b"),
            &format!("{message}.{signature}="),
            &format!("{message}.+/+/"),
            &format!(" {token}"),
            &format!("{token}\n"),
            &token.replace('.', ".."),
            &"é".repeat(100),
        ] {
            assert_eq!(verifier.verify(bad, NOW_MS), Err(AuthError::Malformed), "{:?} {bad:?}", kind.algorithm);
        }
    }
}

/// Signed by the right key, and yet not claims.
#[test]
fn signed_payloads_that_are_no_claims_are_refused() {
    for kind in kinds() {
        let verifier = plain(kind);
        let header = json!({"alg": kind.algorithm.as_str()});
        let deep = format!("{{\"aud\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        for payload in [
            "7",
            "null",
            "[]",
            "\"anna\"",
            "{",
            "{\"exp\":1,\"exp\":2}",
            "[\"anna\",null,null,null]",
            "\u{feff}{}",
            &deep,
        ] {
            let token = kind.sign_with(header.clone(), payload);
            assert_eq!(verifier.verify(&token, NOW_MS), Err(AuthError::Malformed), "{payload}");
        }
        let doubled = format!("{{\"userId\":\"anna\",\"userId\":\"root\",\"exp\":{}}}", NOW_S + 600);
        assert_eq!(verifier.verify(&kind.sign_with(header, &doubled), NOW_MS), Err(AuthError::Malformed));
        // RFC 7515 section 4.1.11: an extension that must be understood, and is not.
        let critical = json!({"alg": kind.algorithm.as_str(), "crit": ["b64"], "b64": false});
        assert_eq!(
            verifier.verify(&kind.sign_with(critical, &claims().to_string()), NOW_MS),
            Err(AuthError::Malformed)
        );
    }
}

#[test]
fn the_largest_token_passes_and_a_larger_one_is_not_read() {
    for kind in kinds() {
        let verifier = plain(kind);
        let of_size = |padding: usize| kind.sign(with(json!({"padding": "x".repeat(padding)})));
        let padding = (1..8_192).rev().find(|padding| of_length(kind, *padding) <= 8_192).unwrap();
        assert!(verifier.verify(&of_size(padding), NOW_MS).is_ok());
        assert_eq!(verifier.verify(&of_size(padding + 3), NOW_MS), Err(AuthError::TooLong));
        assert_eq!(verifier.verify(&"a".repeat(10_000_000), NOW_MS), Err(AuthError::TooLong));
    }
}

/// Length of the token without signing it: RSA signatures are slow in test builds.
fn of_length(kind: &Kind, padding: usize) -> usize {
    let payload = with(json!({"padding": "x".repeat(padding)})).to_string();
    let header = json!({"alg": kind.algorithm.as_str(), "typ": "JWT"}).to_string();
    let signature = match kind.algorithm {
        Algorithm::Hs256 => 32,
        Algorithm::Rs256 => 256,
        Algorithm::Es256 | Algorithm::EdDsa => 64,
    };
    let chars = |bytes: usize| (bytes * 4).div_ceil(3);
    chars(header.len()) + chars(payload.len()) + chars(signature) + 2
}

#[test]
fn kids_select_keys() {
    for kind in kinds() {
        let verifier = verifier(vec![kind.key(Some("old")), kind.key(Some("new"))], |_| {});
        let token =
            |kid: Value| kind.sign_with(json!({"alg": kind.algorithm.as_str(), "kid": kid}), &claims().to_string());
        assert!(verifier.verify(&token(json!("new")), NOW_MS).is_ok());
        assert!(verifier.verify(&kind.sign(claims()), NOW_MS).is_ok(), "two keys may be tried");
        let unknown = AuthError::UnknownKey { kid: Some("newer".into()) };
        assert_eq!(verifier.verify(&token(json!("newer")), NOW_MS), Err(unknown));
        assert_eq!(verifier.verify(&token(json!(7)), NOW_MS), Err(AuthError::Malformed));
        let huge = verifier.verify(&token(json!("k".repeat(5_000))), NOW_MS).unwrap_err();
        assert_eq!(huge, AuthError::UnknownKey { kid: Some("k".repeat(64).into()) });
    }
}

/// A PEM file has no kid, and its issuer may send one.
#[test]
fn a_nameless_key_takes_tokens_with_a_kid() {
    for kind in kinds() {
        let header = json!({"alg": kind.algorithm.as_str(), "kid": "2026-01"});
        let token = kind.sign_with(header, &claims().to_string());
        assert!(plain(kind).verify(&token, NOW_MS).is_ok());
        let empty = verifier(vec![], |_| {}).verify(&token, NOW_MS);
        assert_eq!(empty.unwrap_err().label(), "unknown_key");
    }
}

#[test]
fn without_a_kid_at_most_four_keys_are_tried() {
    for kind in kinds() {
        let keys = |count: usize| (0..count).map(|index| kind.key(Some(&index.to_string()))).collect::<Vec<_>>();
        let token = kind.sign(claims());
        assert!(verifier(keys(4), |_| {}).verify(&token, NOW_MS).is_ok());
        let fault = verifier(keys(5), |_| {}).verify(&token, NOW_MS).unwrap_err();
        assert_eq!(fault, AuthError::UnknownKey { kid: None });
    }
}

#[test]
fn keys_of_a_key_set_verify() {
    for kind in kinds() {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&kind.signer, kind.provider()).unwrap()).unwrap();
        jwk["kid"] = json!("one");
        let document = json!({"keys": [jwk]}).to_string();
        let keys = jwk::parse(&document, Origin::File).unwrap().keys;
        assert_eq!(keys[0].algorithm(), kind.algorithm);
        let header = json!({"alg": kind.algorithm.as_str(), "kid": "one"});
        let token = kind.sign_with(header, &claims().to_string());
        assert!(verifier(keys, |_| {}).verify(&token, NOW_MS).is_ok(), "{:?}", kind.algorithm);
    }
}

#[test]
fn newer_keys_take_the_place_of_older_ones() {
    let kind = &kinds()[3];
    let mut verifier = verifier(vec![kind.key(Some("a"))], |_| {});
    let token = kind.sign_with(json!({"alg": "EdDSA", "kid": "b"}), &claims().to_string());
    assert!(verifier.verify(&token, NOW_MS).is_err());
    verifier.set_keys(Arc::new(KeySet::new(vec![kind.key(Some("b"))], 1)));
    assert!(verifier.verify(&token, NOW_MS).is_ok());
}

/// R-ID-3.
#[test]
fn roles_are_named_by_the_configuration() {
    let kind = &kinds()[0];
    let role = |verifier: &Verifier, role: Value| {
        verifier.verify(&kind.sign(with(json!({"role": role}))), NOW_MS).unwrap().role
    };
    let usual = plain(kind);
    for (value, granted) in [
        (json!("admin"), GlobalRole::Admin),
        (json!("moderator"), GlobalRole::Moderator),
        (json!("Admin"), GlobalRole::None),
        (json!("owner"), GlobalRole::None),
        (json!(""), GlobalRole::None),
        (json!(["admin"]), GlobalRole::None),
        (json!({"admin": true}), GlobalRole::None),
    ] {
        assert_eq!(role(&usual, value.clone()), granted, "{value}");
    }
    let renamed = verifier(vec![kind.key(None)], |auth| {
        auth.admin_role = "boss".into();
        auth.moderator_role = String::new();
    });
    assert_eq!(role(&renamed, json!("boss")), GlobalRole::Admin);
    assert_eq!(role(&renamed, json!("admin")), GlobalRole::None);
    assert_eq!(role(&renamed, json!("")), GlobalRole::None, "an empty setting grants nobody");
}

/// R-ROOM-2.
#[test]
fn room_tokens_are_bound_to_user_and_room() {
    use AuthError::*;
    for kind in kinds() {
        let verifier = plain(kind);
        let check = |changes: Value| {
            let mut all = json!({"roomId": "staff"});
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            verifier.verify_room_token(&kind.sign(with(all)), "anna", "staff", NOW_MS)
        };
        assert_eq!(check(json!({"role": "moderator"})).unwrap().role, Some("moderator"));
        assert_eq!(check(json!({})).unwrap().expires_at_ms, NOW_MS + 600_000);
        assert_eq!(check(json!({"userId": null, "sub": "anna"})).unwrap().role, None);
        for role in [json!("admin"), json!("invited"), json!(["owner"]), json!("")] {
            assert_eq!(check(json!({"role": role})).unwrap().role, None);
        }
        assert_eq!(check(json!({"userId": "bert"})), Err(OtherUser));
        assert_eq!(check(json!({"userId": null})), Err(MissingClaim("userId")));
        assert_eq!(check(json!({"roomId": "lobby"})), Err(OtherRoom));
        assert_eq!(check(json!({"roomId": null})), Err(MissingClaim("roomId")));
        assert_eq!(check(json!({"roomId": ["staff"]})), Err(BadClaim("roomId")));
        assert_eq!(check(json!({"exp": NOW_S - 30})), Err(Expired));
        assert_eq!(check(json!({"exp": null})), Err(MissingClaim("exp")));
        let sign_in = kind.sign(claims());
        let result = verifier.verify_room_token(&sign_in, "anna", "staff", NOW_MS);
        assert_eq!(result, Err(MissingClaim("roomId")), "a sign-in token opens no room");
    }
}

/// R-SEC-1: neither the error nor its debug form gives the token away.
#[test]
fn errors_do_not_hold_the_token() {
    let kind = &kinds()[0];
    let verifier = plain(kind);
    let mut tokens = vec![kind.sign(with(json!({"userId": 7}))), kind.sign(with(json!({"exp": 1})))];
    tokens.push(tokens[0].replace('.', "-"));
    tokens.push(format!("{}x", tokens[1]));
    for token in tokens {
        let error = verifier.verify(&token, NOW_MS).unwrap_err();
        let shown = format!("{error} {error:?} {} {verifier:?}", error.label());
        assert!(token.split('.').all(|part| !shown.contains(part)), "{shown}");
        assert!(!shown.contains("0123456789abcdef"));
        assert!(AuthError::LABELS.contains(&error.label()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_refused(text in ".*", dotted in "[A-Za-z0-9_=-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}") {
        static OF_ALL_KINDS: OnceLock<Verifier> = OnceLock::new();
        let verifier = OF_ALL_KINDS.get_or_init(|| verifier(kinds().iter().map(|kind| kind.key(None)).collect(), |_| {}));
        for token in [&text, &dotted] {
            prop_assert!(verifier.verify(token, NOW_MS).is_err());
            prop_assert!(verifier.verify_room_token(token, "anna", "staff", NOW_MS).is_err());
        }
    }

    /// Whatever a signed header and payload say, the answer is a value, never a panic.
    #[test]
    fn any_signed_bytes_are_judged(header in ".{0,60}", payload in ".{0,200}", now in any::<u64>()) {
        let verifier = plain(&kinds()[0]);
        let odd = seal(&header, &payload, |message| hmac(message, SECRET));
        prop_assert!(verifier.verify(&odd, now % (1 << 53)).is_err());
        let honest = seal("{\"alg\":\"HS256\"}", &payload, |message| hmac(message, SECRET));
        prop_assert!(verifier.verify(&honest, now % (1 << 53)).is_err());
    }

    #[test]
    fn one_changed_character_is_enough(index in 0usize..1_000, letter in "[A-Za-z0-9_-]") {
        static TOKEN: OnceLock<(Verifier, String)> = OnceLock::new();
        let (verifier, token) = TOKEN.get_or_init(|| (plain(&kinds()[3]), kinds()[3].sign(claims())));
        let index = index % token.len();
        let mut changed = token.clone();
        changed.replace_range(index..=index, &letter);
        if changed != *token {
            prop_assert!(verifier.verify(&changed, NOW_MS).is_err());
        }
    }
}
