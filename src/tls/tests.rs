//! Sessions against rustls' own client, in memory.
use super::*;
use crate::telemetry::{TlsFailure, TlsHandshake};
use proptest::prelude::*;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};
use std::io::{Cursor, Read, Write};
use std::sync::Arc;

/// A certificate for `localhost` that signs itself, and its key.
pub struct Pair {
    pub chain: String,
    pub key: String,
    pub certificate: rustls::pki_types::CertificateDer<'static>,
}

pub fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> Pair {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    Pair { chain: certificate.pem(), key: key.serialize_pem(), certificate: certificate.der().clone() }
}

/// A server and what its clients need.
pub struct World {
    pub acceptor: Acceptor,
    pub client: Arc<ClientConfig>,
}

/// All versions and suites that there are.
fn worlds() -> Vec<World> {
    let suites = ring::default_provider().cipher_suites;
    assert!(suites.len() >= 9, "three of TLS 1.3, six of TLS 1.2");
    suites.into_iter().map(world).collect()
}

fn world(suite: SupportedCipherSuite) -> World {
    let is_rsa = format!("{:?}", suite.suite()).contains("RSA_WITH");
    let Pair { chain, key, certificate } = match is_rsa {
        true => rsa(),
        false => pair(&rcgen::PKCS_ECDSA_P256_SHA256),
    };
    let acceptor = Acceptor::new(chain.as_bytes(), key.as_bytes(), &Tickets::new().unwrap()).ok().unwrap();
    let version: &SupportedProtocolVersion = if suite.tls13().is_some() { &TLS13 } else { &TLS12 };
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![suite];
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[version]).unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.resumption = Resumption::in_memory_sessions(8);
    World { acceptor, client: Arc::new(client) }
}

/// Made once by `openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost
/// -addext basicConstraints=critical,CA:FALSE`: ring
/// makes no RSA keys.
fn rsa() -> Pair {
    use rustls::pki_types::pem::PemObject;
    let chain = include_str!("../../tests/fixtures/tls/rsa.pem");
    let key = include_str!("../../tests/fixtures/tls/rsa.key").to_owned();
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    Pair { chain: chain.into(), key, certificate }
}

/// With the first suite of this version.
pub fn world_of(version: &SupportedProtocolVersion) -> World {
    let suites = ring::default_provider().cipher_suites;
    world(suites.into_iter().find(|suite| suite.version() == version).unwrap())
}

pub fn client_of(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

pub fn written(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What the client makes of these bytes.
pub fn understood(client: &mut ClientConnection, bytes: &[u8]) -> Vec<u8> {
    let (mut cursor, mut plain) = (Cursor::new(bytes), Vec::new());
    while (cursor.position() as usize) < bytes.len() {
        client.read_tls(&mut cursor).unwrap();
        let state = client.process_new_packets().unwrap();
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        client.reader().read_exact(&mut plain[start..]).unwrap();
    }
    plain
}

/// Shakes hands, `step` bytes of the client at a time.
pub fn shake_hands(world: &World, client: &mut ClientConnection, step: usize) -> Established {
    let mut handshake = Handshake::new(&world.acceptor).unwrap();
    let (mut received, mut wire) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        wire.extend(written(client));
        let taken: Vec<u8> = wire.drain(..step.min(wire.len())).collect();
        received.extend(taken);
        let mut out = Vec::new();
        let progress = handshake.advance(&mut received, &mut out).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(understood(client, &out), b"");
        match progress {
            Progress::Waiting(on) => handshake = on,
            Progress::Done(established) => {
                assert!(received.is_empty() && wire.is_empty() && !client.is_handshaking());
                return established;
            }
        }
    }
    panic!("no end");
}

fn connected(world: &World) -> (ClientConnection, Box<Session>) {
    let mut client = client_of(&world.client);
    let session = shake_hands(world, &mut client, usize::MAX).session;
    (client, session)
}

/// Opens everything in `pieces`, each in a buffer of its own as a plane gives it; the plaintext, and whether the end came.
fn opened<'a>(
    session: &mut Session,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, bool), RecordFault> {
    let (mut plain, mut has_ended) = (Vec::new(), false);
    for piece in pieces {
        let mut input = [piece, &[0xee; ASSEMBLED_SLACK_BYTES]].concat();
        let (mut cursor, end) = (0, piece.len());
        while let Some(opened) = session.open(&mut input, &mut cursor, end)? {
            assert!(!has_ended, "something behind the end");
            match opened {
                Opened::Input(range) => {
                    assert!(input.len() - range.end >= ASSEMBLED_SLACK_BYTES);
                    plain.extend_from_slice(&input[range]);
                }
                Opened::Assembled(len) => {
                    assert!(session.assembled().len() >= len + ASSEMBLED_SLACK_BYTES);
                    plain.extend_from_slice(&session.assembled()[..len]);
                }
                Opened::End => has_ended = true,
            }
        }
        assert_eq!(cursor, end);
    }
    Ok((plain, has_ended))
}

fn sent(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    client.writer().write_all(plain).unwrap();
    written(client)
}

fn taken(session: &mut Session) -> Vec<u8> {
    let bytes = session.unsent().to_vec();
    session.took(bytes.len());
    bytes
}

#[test]
fn every_suite_carries_both_ways() {
    for world in worlds() {
        let (mut client, mut session) = connected(&world);
        for round in 0..3u8 {
            let message = vec![round; 40_000];
            for piece in message.chunks(20_000) {
                let wire = sent(&mut client, piece);
                assert_eq!(opened(&mut session, [&wire[..]]).unwrap(), (piece.to_vec(), false));
            }
            session.seal(&[&message[..10], &[], &message[10..]]).unwrap();
            let wire = taken(&mut session);
            assert!(wire.len() >= message.len() + 3 * 21 && session.unsent().is_empty());
            assert_eq!(understood(&mut client, &wire), message);
        }
        // The end, both ways.
        session.end();
        session.end();
        understood(&mut client, &taken(&mut session));
        assert_eq!(client.reader().read(&mut [0; 8]).unwrap(), 0, "close_notify was seen");
        assert_eq!(session.seal(&[b"late"]), Err(Exhausted));
        client.send_close_notify();
        let wire = written(&mut client);
        assert_eq!(opened(&mut session, [&wire[..], b"whatever"]).unwrap(), (vec![], true));
    }
}

/// A record that the network cuts, wherever that is.
#[test]
fn every_cut_of_a_stream_is_the_same_stream() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut session) = connected(&world_of(version));
        let mut cut = 0;
        loop {
            let mut wire = Vec::new();
            for message in [&b"first"[..], b"", &[7; 300], b"last"] {
                wire.extend(sent(&mut client, message));
            }
            let (left, right) = wire.split_at(cut.min(wire.len()));
            let expected = [&b"first"[..], &[7; 300], b"last"].concat();
            assert_eq!(opened(&mut session, [left, right]).unwrap(), (expected, false), "cut at {cut}");
            assert!(session.partial_is_empty(), "something is kept between records");
            if cut >= wire.len() {
                break;
            }
            cut += 1;
        }
        assert!(cut > 370);
    }
}

#[test]
fn handshakes_come_in_pieces_too() {
    for version in [&TLS12, &TLS13] {
        let world = world_of(version);
        for step in [1, 2, 5, 6, 100, 1_000] {
            let mut client = client_of(&world.client);
            let mut session = shake_hands(&world, &mut client, step).session;
            let wire = sent(&mut client, b"hello");
            assert_eq!(opened(&mut session, [&wire[..]]).unwrap().0, b"hello");
        }
    }
}

#[test]
fn a_client_that_comes_back_resumes_on_any_shard() {
    for (version, full, resumed) in [
        (&TLS12, TlsHandshake::Full12, TlsHandshake::Resumed12),
        (&TLS13, TlsHandshake::Full13, TlsHandshake::Resumed13),
    ] {
        let tickets = Tickets::new().unwrap();
        let mut world = world_of(version);
        let Pair { chain, key, certificate } = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        world.acceptor = Acceptor::new(chain.as_bytes(), key.as_bytes(), &tickets).ok().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let client = client.with_protocol_versions(&[version]).unwrap();
        world.client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let mut kinds = Vec::new();
        for _ in 0..3 {
            // Another acceptor of the same certificate and tickets, as after a reload.
            world.acceptor = Acceptor::new(chain.as_bytes(), key.as_bytes(), &tickets).ok().unwrap();
            let mut client = client_of(&world.client);
            let Established { mut session, kind, .. } = shake_hands(&world, &mut client, usize::MAX);
            kinds.push(kind);
            let wire = sent(&mut client, b"hello");
            assert_eq!(opened(&mut session, [&wire[..]]).unwrap().0, b"hello");
        }
        assert_eq!(kinds, [full, resumed, resumed]);
        // Of other keys: from the beginning, without a fault.
        world.acceptor = Acceptor::new(chain.as_bytes(), key.as_bytes(), &Tickets::new().unwrap()).ok().unwrap();
        let mut client = client_of(&world.client);
        assert_eq!(shake_hands(&world, &mut client, usize::MAX).kind, full);
    }
}

/// The request often comes in one segment with the end of the handshake.
#[test]
fn what_comes_with_the_last_handshake_message_is_kept() {
    for world in worlds() {
        let mut client = client_of(&world.client);
        client.writer().write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let mut handshake = Handshake::new(&world.acceptor).unwrap();
        let (mut received, mut out) = (written(&mut client), Vec::new());
        let established = loop {
            match handshake.advance(&mut received, &mut out).unwrap_or_else(|failure| panic!("{failure:?}")) {
                Progress::Done(established) => break established,
                Progress::Waiting(on) => handshake = on,
            }
            understood(&mut client, &std::mem::take(&mut out));
            received.extend(written(&mut client));
        };
        understood(&mut client, &out);
        let late = written(&mut client);
        let Established { mut session, mut plaintext, .. } = established;
        plaintext.extend(opened(&mut session, [&received[..], &late]).unwrap().0);
        assert_eq!(plaintext, b"GET / HTTP/1.1\r\n");
    }
}

#[test]
fn keys_are_changed_when_the_client_asks() {
    let (mut client, mut session) = connected(&world_of(&TLS13));
    for round in 0..40u8 {
        client.refresh_traffic_keys().unwrap();
        let wire = sent(&mut client, &[round; 100]);
        assert_eq!(opened(&mut session, [&wire[..50], &wire[50..]]).unwrap().0, [round; 100]);
        // The answer goes first, and what follows is under the new key.
        session.seal(&[&[round; 200]]).unwrap();
        assert_eq!(understood(&mut client, &taken(&mut session)), [round; 200]);
    }
    // A client that asks again and again without listening gets one answer.
    let mut wire = Vec::new();
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
        wire.extend(sent(&mut client, b"x"));
    }
    opened(&mut session, [&wire[..]]).unwrap();
    let answer = taken(&mut session);
    assert!(!answer.is_empty() && answer.len() < 40, "{} bytes", answer.len());
    understood(&mut client, &answer);
}

#[test]
fn changes_of_keys_alone_are_a_bounded_pleasure() {
    let (mut client, mut session) = connected(&world_of(&TLS13));
    let mut wire = Vec::new();
    for _ in 0..33 {
        client.refresh_traffic_keys().unwrap();
        wire.extend(written(&mut client));
    }
    assert_eq!(opened(&mut session, [&wire[..]]), Err(RecordFault::Fruitless));
}

/// A key is not used more often than is safe: TLS 1.3 takes the next, TLS 1.2 ends.
#[test]
fn a_key_is_used_so_often_and_no_more() {
    let (mut client, mut session) = connected(&world_of(&TLS13));
    session.set_sealed_max(4);
    for round in 0..50u8 {
        session.seal(&[&[round; 20_000]]).unwrap();
        assert_eq!(understood(&mut client, &taken(&mut session)), [round; 20_000]);
    }
    let (mut client, mut session) = connected(&world_of(&TLS12));
    session.set_sealed_max(4);
    session.seal(&[b"one"]).unwrap();
    session.seal(&[b"two"]).unwrap();
    assert_eq!(session.seal(&[b"three"]), Err(Exhausted));
    session.end();
    assert_eq!(understood(&mut client, &taken(&mut session)), b"onetwo");
    assert_eq!(client.reader().read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn what_does_not_belong_ends_the_session_with_an_alert() {
    for version in [&TLS12, &TLS13] {
        let world = world_of(version);
        type Damage = fn(&mut Vec<u8>);
        let damages: [(Damage, RecordFault); 6] = [
            (|wire| *wire.last_mut().unwrap() ^= 1, RecordFault::Forged),
            (|wire| wire[0] = 20, RecordFault::Malformed),
            (|wire| wire[0] = 99, RecordFault::Malformed),
            (|wire| wire[1] = 2, RecordFault::Malformed),
            (|wire| wire[3] = 0xff, RecordFault::TooLong),
            (|wire| (wire[3], wire[4]) = (0, 3), RecordFault::Forged),
        ];
        for (damage, fault) in damages {
            let (mut client, mut session) = connected(&world);
            let mut wire = sent(&mut client, b"good");
            assert_eq!(opened(&mut session, [&wire[..]]).unwrap().0, b"good");
            wire = sent(&mut client, b"damaged on the way");
            damage(&mut wire);
            assert_eq!(opened(&mut session, [&wire[..]]), Err(fault));
            // The peer is told, nothing else is said, and nothing else is heard.
            let alert = taken(&mut session);
            assert!(client.read_tls(&mut Cursor::new(&alert)).is_ok() && client.process_new_packets().is_err());
            assert!(session.is_silent() && session.seal(&[b"more"]).is_err());
            let wire = sent(&mut connected(&world).0, b"more");
            assert_eq!(opened(&mut session, [&wire[..]]), Ok((vec![], false)));
        }
    }
}

/// A second time, as whoever listens could try.
#[test]
fn a_record_that_is_sent_again_is_forged() {
    for world in worlds() {
        let (mut client, mut session) = connected(&world);
        let wire = sent(&mut client, b"pay 5");
        assert_eq!(opened(&mut session, [&wire[..], &wire]), Err(RecordFault::Forged));
    }
}

#[test]
fn what_is_no_handshake_is_told_apart() {
    let world = world_of(&TLS13);
    let failure = |bytes: &[u8]| {
        let (mut received, mut out) = (bytes.to_vec(), Vec::new());
        match Handshake::new(&world.acceptor).unwrap().advance(&mut received, &mut out) {
            Ok(_) => None,
            Err(failure) => Some((failure, out)),
        }
    };
    assert!(looks_like_http(b"GET / HTTP/1.1\r\n") && looks_like_http(b"OPTIONS *"));
    assert!(!looks_like_http(b"\x16\x03\x01") && !looks_like_http(b"SSH-2.0") && !looks_like_http(b"GE"));
    assert_eq!(failure(b"GET / HTTP/1.1\r\n\r\n"), Some((TlsFailure::NotTls, vec![])));
    assert_eq!(failure(&[0x80, 0x2e, 1, 3, 1]), Some((TlsFailure::NotTls, vec![])), "an SSL 2 hello");
    assert!(failure(b"\x16\x03\x01").is_none(), "it may become one");
    // A record that promises much, and one of 4 bytes that is no ClientHello.
    let (reason, alert) = failure(b"\x16\x03\x01\xff\xff").unwrap();
    assert_eq!((reason, alert[0]), (TlsFailure::Malformed, 21));
    let (reason, alert) = failure(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00").unwrap();
    assert_eq!((reason, alert[0]), (TlsFailure::Malformed, 21));
    // A handshake message that never ends.
    let endless: Vec<u8> = b"\x16\x03\x01\x40\x00".iter().copied().chain(std::iter::repeat_n(1, 1 << 14)).collect();
    assert_eq!(failure(&endless.repeat(5)).unwrap().0, TlsFailure::Malformed);
}

/// ALPN of another protocol only; a client that does not trust the certificate.
#[test]
fn refusals_have_their_reason() {
    let world = world_of(&TLS13);
    let mut config = (*world.client).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut received = written(&mut client_of(&Arc::new(config)));
    let mut out = Vec::new();
    let failure = Handshake::new(&world.acceptor).unwrap().advance(&mut received, &mut out).err();
    assert_eq!(failure, Some(TlsFailure::Alpn));
    assert!(!out.is_empty(), "the client is told");

    let mut stranger = client_of(&world_of(&TLS13).client);
    let mut received = written(&mut stranger);
    let mut out = Vec::new();
    let handshake = Handshake::new(&world.acceptor).unwrap().advance(&mut received, &mut out);
    let Ok(Progress::Waiting(handshake)) = handshake else { panic!("the client's turn") };
    stranger.read_tls(&mut Cursor::new(&out)).unwrap();
    assert!(stranger.process_new_packets().is_err());
    let mut received = written(&mut stranger);
    assert_eq!(handshake.advance(&mut received, &mut Vec::new()).err(), Some(TlsFailure::Alert));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the sizes of messages and of the pieces in which they come, and however much the network takes of an answer.
    #[test]
    fn streams_come_whole(
        is_tls13: bool,
        messages in proptest::collection::vec(0..40_000usize, 1..8),
        steps in proptest::collection::vec(1..9_000usize, 1..20),
    ) {
        let (mut client, mut session) = connected(&world_of(if is_tls13 { &TLS13 } else { &TLS12 }));
        client.set_buffer_limit(None);
        let messages: Vec<Vec<u8>> = messages.iter().map(|len| (0..*len).map(|i| (i * 31 + len) as u8).collect()).collect();
        let mut wire = Vec::new();
        for message in &messages {
            wire.extend(sent(&mut client, message));
        }
        let mut steps = steps.into_iter().cycle();
        let (mut plain, mut rest) = (Vec::new(), &wire[..]);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(steps.next().unwrap().min(rest.len()));
            plain.extend(opened(&mut session, [piece]).unwrap().0);
            rest = behind;
        }
        prop_assert_eq!(&plain, &messages.concat());
        let mut back = Vec::new();
        for message in &messages {
            session.seal(&[message]).unwrap();
            let count = steps.next().unwrap().min(session.unsent().len());
            back.extend_from_slice(&session.unsent()[..count]);
            session.took(count);
        }
        back.extend(taken(&mut session));
        prop_assert_eq!(understood(&mut client, &back), messages.concat());
    }

    /// R-SEC-13: no input ends the process.
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), cut in 0..2_000usize) {
        let world = world_of(&TLS13);
        let (left, right) = bytes.split_at(cut.min(bytes.len()));
        let mut handshake = Handshake::new(&world.acceptor).ok();
        let (mut received, mut out) = (Vec::new(), Vec::new());
        for piece in [&[22, 3, 1][..], left, right] {
            received.extend_from_slice(piece);
            if let Some(on) = handshake.take()
                && let Ok(Progress::Waiting(on)) = on.advance(&mut received, &mut out)
            {
                handshake = Some(on);
            }
        }
        for version in [&TLS12, &TLS13] {
            let mut session = connected(&world_of(version)).1;
            let _ = opened(&mut session, [&[23, 3, 3][..], left, right]);
        }
    }
}
