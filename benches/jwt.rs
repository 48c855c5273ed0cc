//! What a sign-in costs a shard: nanoseconds for one `Verifier::verify`, by algorithm, for a token of usual size.
//!
//! It bounds the rate of reconnects that a core can take: 1 s divided by the figure, were there nothing else to do. It
//! cannot tell what a handshake costs beyond the token, nor what other work on the core adds.
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use throng::auth::{Key, KeySet, Settings, Verifier};
use throng::config::Auth;
use throng::ids::Ulid;

const NOW_S: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn verification(c: &mut Criterion) {
    let rsa = include_bytes!("../tests/fixtures/keys/rsa2048.pem");
    let ec = include_bytes!("../tests/fixtures/keys/p256.pem");
    let ed = include_bytes!("../tests/fixtures/keys/ed25519.pem");
    let pem = |bytes: &[u8]| Key::pem(None, bytes).unwrap();
    let kinds = [
        (Algorithm::HS256, EncodingKey::from_secret(SECRET), Key::secret(None, SECRET).unwrap()),
        (
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(ed).unwrap(),
            pem(include_bytes!("../tests/fixtures/keys/ed25519.pub.pem")),
        ),
        (
            Algorithm::ES256,
            EncodingKey::from_ec_pem(ec).unwrap(),
            pem(include_bytes!("../tests/fixtures/keys/p256.pub.pem")),
        ),
        (
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(rsa).unwrap(),
            pem(include_bytes!("../tests/fixtures/keys/rsa2048.pub.pem")),
        ),
    ];
    let claims = json!({
        "userId": "user-000000000042", "email": "someone@example.com", "role": "moderator", "iss": "https://id.example",
        "aud": "chat", "iat": NOW_S, "exp": NOW_S + 3_600, "jti": "01J00000000000000000000000",
    });
    let mut group = c.benchmark_group("jwt_verify");
    for (algorithm, signer, key) in kinds {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &signer).unwrap();
        let keys = Arc::new(KeySet::new(vec![Arc::new(key)], 0));
        let verifier = Verifier::new(Settings::from(&Auth::default()), keys);
        group.bench_function(format!("{algorithm:?}"), |b| {
            b.iter(|| verifier.verify(black_box(&token), NOW_S * 1_000).unwrap());
        });
    }
    group.finish();
}

fn resume_tokens(c: &mut Criterion) {
    let key = throng::auth::ResumeKey::from_bytes(&[7; 32]);
    let (user, session) = ("user-000000000042", Ulid(42));
    let token = key.issue(user, session, u64::MAX);
    c.bench_function("resume_issue", |b| b.iter(|| key.issue(black_box(user), session, u64::MAX)));
    c.bench_function("resume_verify", |b| b.iter(|| assert!(key.verify(black_box(&token), user, session, 0))));
}

criterion_group!(benches, verification, resume_tokens);
criterion_main!(benches);
