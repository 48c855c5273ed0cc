//! TLS (R-SEC-15): both versions, beside and instead of the plain listener; what goes wrong with it harms nobody else.
mod support;

use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{Certificate, Client, EIO, Http, PATIENCE, Server, Socket, Tls, frame, free_port, polling};

/// A server with TLS on a port of its own, beside the plain one.
struct World {
    certificate: Certificate,
    port: u16,
    server: Server,
}

fn world(settings: &[&str]) -> World {
    let (certificate, port) = (Certificate::new(), free_port());
    let listen = format!("http.tls_listen=127.0.0.1:{port}");
    let files = certificate.settings();
    let all = [&[&*listen, &files[0], &files[1]], settings].concat();
    World { server: Server::unlimited(&all), certificate, port }
}

impl World {
    fn client(&self, user: &str) -> Client<Tls> {
        self.server.tls_client(self.port, &self.certificate.config(&TLS13), user)
    }

    fn handshakes(&self, kind: &str) -> f64 {
        self.server.metric(&format!("throng_tls_handshakes_total{{kind=\"{kind}\"}}"))
    }

    fn failures(&self, reason: &str) -> f64 {
        self.server.metric(&format!("throng_tls_handshake_failures_total{{reason=\"{reason}\"}}"))
    }
}

/// Asks until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn both_versions_and_a_plain_client_chat() {
    let world = world(&[]);
    let mut old = world.server.tls_client(world.port, &world.certificate.config(&TLS12), "old");
    let mut new = world.client("new");
    let mut plain = world.server.client("plain");
    old.join("lobby");
    new.join("lobby");
    plain.join("lobby");
    for round in 0..20 {
        let text = format!("{round}{}", "x".repeat(round * 90));
        for sender in 0..3 {
            match sender {
                0 => old.say("lobby", &text),
                1 => new.say("lobby", &text),
                _ => plain.say("lobby", &text),
            };
            let heard = [old.event("chat_message"), new.event("chat_message"), plain.event("chat_message")];
            for event in heard {
                assert_eq!(
                    (&event["userId"], &event["message"]),
                    (&json!(["old", "new", "plain"][sender]), &json!(text))
                );
            }
        }
    }
    assert_eq!((world.handshakes("tls12_full"), world.handshakes("tls13_full")), (1.0, 1.0));
    let shards = [0, 1].map(|shard| world.server.metric(&format!("throng_tls_connections{{shard=\"{shard}\"}}")));
    assert_eq!(shards.iter().sum::<f64>(), 2.0);
    assert!(world.server.metric("throng_tls_certificate_ends_seconds") > 4e9);
    assert_eq!(new.stream().conn.alpn_protocol(), Some(&b"http/1.1"[..]));

    // Both directions end in order: a close frame, close_notify, the end of the stream.
    for (client, code) in [(&mut old, 1000), (&mut new, 4000)] {
        client.send_bytes(&frame(true, 8, &u16::to_be_bytes(code)));
        assert_eq!(client.closed(), code);
        assert_eq!(client.stream().read(&mut [0; 16]).unwrap(), 0, "close_notify");
    }
    eventually("sessions are gone with their connections", || {
        [0, 1].iter().all(|shard| world.server.metric(&format!("throng_tls_connections{{shard=\"{shard}\"}}")) == 0.0)
    });
}

/// Messages of any size, in records and segments of any size.
#[test]
fn messages_come_whole_whatever_the_cuts() {
    let world = world(&["chat.max_chars=60000"]);
    for version in [&TLS12, &TLS13] {
        let mut client = world.server.tls_client(world.port, &world.certificate.config(version), "anna");
        client.join("lobby");
        for len in [1, 100, 2_000, 4_096, 16_384, 50_000] {
            client.say("lobby", &"y".repeat(len));
            assert_eq!(client.event("chat_message")["message"].as_str().unwrap().len(), len);
        }
        // One frame in records of one byte each, all in one segment; then one record in many segments.
        let text = json!({"id": "cut", "type": "heartbeat", "data": {"timestamp": 7}}).to_string();
        let bytes = frame(true, 1, text.as_bytes());
        let stream = client.stream();
        for byte in &bytes {
            stream.conn.writer().write_all(&[*byte]).unwrap();
        }
        stream.conn.writer().write_all(&bytes).unwrap();
        let mut records = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut records).unwrap();
        }
        let (tiny, whole) = records.split_at(records.len() - bytes.len() - 22);
        stream.sock.write_all(tiny).unwrap();
        for byte in whole {
            stream.sock.write_all(&[*byte]).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(client.event("heartbeat_response")["clientTimestamp"], 7);
        }
        client.close(1000);
    }
}

#[test]
fn pages_are_served_over_tls() {
    let world = world(&[]);
    for version in [&TLS12, &TLS13] {
        let config = world.certificate.config(version);
        let get = |path| world.server.tls_get(world.port, &config, path);
        assert_eq!((get("/healthz").status, &*get("/healthz").body), (200, "ok"));
        let page = get("/");
        assert!(page.status == 200 && page.body.contains("/demo/app.js"), "{page:?}");
        // Longer than a record.
        let client = get("/demo/throng-client.js");
        assert!(
            client.status == 200 && client.body.len() > 40_000 && client.body.ends_with("\n"),
            "{}",
            client.body.len()
        );
        assert!(get("/demo/app.js").body.contains("\"wss:\""), "the page uses TLS where it came by TLS");
        assert!(get("/metrics").body.contains("throng_tls_handshakes_total"));
        let refusal = world.server.tls_get(world.port, &config, "/ws");
        assert_eq!(refusal.status, 426, "{refusal:?}");
    }
    assert!(world.handshakes("tls13_resumed") >= 5.0, "a client that comes back does not sign anew");
    assert!(world.handshakes("tls12_resumed") >= 5.0);
}

/// Without `http.tls_listen` the main listener speaks TLS, and says so to who does not.
#[test]
fn the_main_listener_speaks_tls_alone() {
    let certificate = Certificate::new();
    let files = certificate.settings();
    let server = Server::unlimited(&[&files[0], &files[1]]);
    let config = certificate.config(&TLS13);
    let mut client = server.tls_client(server.port, &config, "anna");
    client.join("lobby");
    client.say("lobby", "hello");
    let refusal = server.get("/healthz", &[]);
    assert_eq!((refusal.status, &*refusal.error_code()), (400, "tls_required"));
    assert!(refusal.body.contains("https://") && refusal.body.contains("wss://"), "{refusal:?}");
    let metrics = server.tls_get(server.port, &config, "/metrics").body;
    assert!(metrics.contains("\nthrong_tls_handshake_failures_total{reason=\"not_tls\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nthrong_handshakes_refused_total{reason=\"tls\"} 1\n"), "{metrics}");
}

#[test]
fn what_is_no_handshake_ends_and_is_counted() {
    let world = world(&["http.head_timeout_ms=400"]);
    let mut steady = world.client("steady");
    steady.join("lobby");
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", world.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let rest = |mut stream: TcpStream| {
        let mut bytes = Vec::new();
        // A reset is an end too: the server does not read what it has no use for.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    };
    for (first, reason, answer) in [
        (&b"\x00\x01\x02\x03 no protocol at all"[..], "not_tls", None),
        (b"SSH-2.0-scanner\r\n", "not_tls", None),
        (b"\x16\x03\x01\xff\xff\x01", "malformed", Some(21)),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "malformed", Some(21)),
    ] {
        let before = world.failures(reason);
        let mut stream = connect();
        stream.write_all(first).unwrap();
        assert_eq!(rest(stream).first().copied(), answer, "{first:?}");
        assert_eq!(world.failures(reason), before + 1.0, "{first:?}");
    }
    // Half a handshake, then nothing; nothing at all; gone in the middle.
    let mut half = connect();
    half.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    let silent = connect();
    assert_eq!((rest(half), rest(silent)), (vec![], vec![]));
    assert_eq!(world.failures("timeout"), 2.0);
    let mut gone = connect();
    gone.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    drop(gone);
    eventually("it is noticed", || world.failures("gone") == 1.0);
    // A client that trusts somebody else.
    let stranger = Certificate::new();
    let mut stream = world.server.tls(world.port, &stranger.config(&TLS13));
    assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err());
    eventually("it is counted", || world.failures("alert") == 1.0);
    assert!(world.server.metric("throng_handshakes_refused_total{reason=\"tls\"}") >= 5.0);
    // Nobody else has noticed.
    steady.say("lobby", "still here");
    assert_eq!(world.server.metric("throng_connections_closed_total{code=\"1006\"}"), 0.0);
}

#[test]
fn a_broken_record_ends_its_connection_alone() {
    let world = world(&[]);
    let (mut anna, mut bob) = (world.client("anna"), world.client("bob"));
    anna.join("lobby");
    bob.join("lobby");
    bob.stream().sock.write_all(b"\x17\x03\x03\x00\x20 not sealed by anybody's key........").unwrap();
    let (_, code) = bob.rest();
    assert_eq!(code, None);
    assert_eq!(anna.event("user_left")["userId"], "bob");
    assert_eq!(world.server.metric("throng_tls_record_faults_total"), 1.0);
    anna.say("lobby", "still here");
}

/// The peer's keys change while messages flow, and ours with them.
#[test]
fn keys_change_on_a_live_connection() {
    let world = world(&[]);
    let (mut anna, mut bob) = (world.client("anna"), world.server.client("bob"));
    anna.join("lobby");
    bob.join("lobby");
    for round in 0..40 {
        anna.stream().conn.refresh_traffic_keys().unwrap();
        anna.say("lobby", &format!("{round} anna"));
        let heard = bob.event("chat_message");
        assert_eq!((&heard["userId"], number_of(&heard)), (&json!("anna"), round));
    }
    assert_eq!(world.server.metric("throng_tls_record_faults_total"), 0.0);
}

/// A reader that stops reading gets every durable message once it reads again, however the kernel cut the sends; live it may miss.
#[test]
fn a_slow_reader_gets_everything_in_order() {
    let world = world(&["conn.out_queue_bytes=1000000000", "conn.write_timeout_ms=60000", "chat.max_chars=60000"]);
    for version in [&TLS12, &TLS13] {
        let config = world.certificate.config(version);
        let mut slow = world.server.tls_client_on(narrow(&world, &config), "slow");
        slow.greet();
        slow.join("lobby");
        let mut sender = world.client("sender");
        sender.join("lobby");
        let short_sends = world.server.metric("throng_plane_short_sends_total");
        const COUNT: u64 = 200;
        for number in 0..COUNT {
            let len = [10, 500, 3_000, 20_000, 59_000][number as usize % 5];
            sender.say("lobby", &format!("{number} {}", "z".repeat(len)));
        }
        assert!(world.server.metric("throng_plane_short_sends_total") > short_sends, "the reader was not slow enough");
        // The answer goes between whole frames.
        slow.send("heartbeat", json!({"timestamp": 5}));
        let (mut seen, mut answers) = (Vec::new(), 0);
        while seen.last() != Some(&(COUNT - 1)) || answers == 0 {
            let message = slow.next();
            match message["type"].as_str() {
                Some("chat_message") => seen.push(number_of(&message["data"])),
                Some("heartbeat_response") => answers += 1,
                _ => {}
            }
        }
        assert_eq!((seen, answers), ((0..COUNT).collect(), 1));
        slow.close(1000);
        sender.close(1000);
    }
}

/// R-CONN-5: a reader that does not read is closed, and nobody waits for it.
#[test]
fn a_stalled_reader_is_closed() {
    let world = world(&["conn.out_queue_bytes=65536", "ws.max_message_bytes=65536", "chat.max_chars=60000"]);
    let mut slow = world.server.tls_client_on(narrow(&world, &world.certificate.config(&TLS13)), "slow");
    slow.greet();
    slow.join("lobby");
    let mut sender = world.client("sender");
    sender.join("lobby");
    let dropped = "throng_drops_total{reason=\"slow_consumer_closed\"}";
    let mut number = 0u64;
    eventually("it is closed", || {
        sender.say("lobby", &format!("{number} {}", "z".repeat(50_000)));
        number += 1;
        world.server.metric(dropped) == 1.0
    });
    // What it had got is whole and in order, and the close tells why.
    let (messages, code) = slow.rest();
    assert_eq!(code, Some(4101));
    let texts = messages.iter().filter(|message| message["type"] == "chat_message");
    let seen: Vec<u64> = texts.map(|message| number_of(&message["data"])).collect();
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
    sender.say("lobby", "on we go");
}

fn number_of(data: &Value) -> u64 {
    data["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// A TLS connection with a small receive buffer.
fn narrow(world: &World, config: &std::sync::Arc<rustls::ClientConfig>) -> Tls {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], world.port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    support::secure(stream, config)
}

/// The certificate that a new connection is shown.
fn shown(world: &World) -> Option<Vec<u8>> {
    let mut stream = world.server.tls(world.port, &world.certificate.config(&TLS13));
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    Some(stream.conn.peer_certificates()?[0].to_vec())
}

/// R-SEC-15: reloadable. Nobody loses a connection by it, and no message is lost or doubled meanwhile.
#[test]
fn another_certificate_while_messages_flow() {
    let mut world = world(&[]);
    let (mut anna, mut bob) = (world.client("anna"), world.client("bob"));
    anna.join("lobby");
    bob.join("lobby");
    let mut number = 0u64;
    let mut chat = |rounds: u64| {
        for _ in 0..rounds {
            anna.say("lobby", &format!("{number} x"));
            assert_eq!(number_of(&bob.event("chat_message")), number);
            number += 1;
        }
    };
    chat(5);
    // By signal.
    world.certificate.renew();
    world.server.signal("-HUP");
    eventually("new connections get it", || {
        chat(3);
        shown(&world) == Some(world.certificate.der.to_vec())
    });
    // By itself, within seconds of the change.
    world.certificate.renew();
    eventually("new connections get it", || {
        chat(3);
        shown(&world) == Some(world.certificate.der.to_vec())
    });
    // Files that cannot be used change nothing.
    world.certificate.break_apart();
    world.server.signal("-HUP");
    eventually("it is said", || world.server.log().contains("does not belong to the certificate"));
    chat(5);
    assert_eq!(shown(&world), Some(world.certificate.der.to_vec()));
    // One that has ended is used, since it was put there, and warned about.
    world.certificate.expire();
    world.server.signal("-HUP");
    eventually("it is said", || world.server.log().contains("the certificate expired"));
    chat(5);
    assert_eq!(world.server.metric("throng_connections_closed_total{code=\"1006\"}"), 0.0);
}

/// A drain says goodbye in order to who came by TLS too (R-CONN-6).
#[test]
fn a_drain_closes_in_order() {
    let world = world(&["drain.interval_ms=50", "drain.deadline_ms=2000"]);
    let mut anna = world.client("anna");
    anna.join("lobby");
    world.server.signal("-TERM");
    anna.event("server_closing");
    assert_eq!(anna.closed(), 4200);
    assert_eq!(anna.stream().read(&mut [0; 16]).unwrap(), 0, "close_notify");
    world.server.ended();
}

/// Polls, the upgrade and what comes behind it, each on a TLS connection of its own, whichever shard that reaches.
#[test]
fn socket_io_goes_over_tls() {
    let world = world(&["chat.max_chars=20000"]);
    let config = world.certificate.config(&TLS13);
    let tls = || world.server.tls(world.port, &config);
    let http = || Http::on(tls(), world.port);
    let mut plain = world.server.client("bob");
    plain.join("lobby");
    for round in 0..6 {
        let sid = http().handshake();
        let path = polling(&sid);
        let (mut get, mut post) = (http(), http());
        let connect = json!({"token": world.server.token("anna")});
        assert_eq!(post.post(&path, format!("40{connect}").as_bytes()).body, "ok");
        let mut heard = String::new();
        while !heard.contains("connection_established") {
            heard += &get.get(&path).body;
        }
        assert_eq!(post.post(&path, br#"421["join_room",{"roomId":"lobby"}]"#).body, "ok");
        while !heard.contains("room_joined") {
            heard += &get.get(&path).body;
        }
        let mut socket = Socket::on(tls(), world.port, &format!("{EIO}&transport=websocket&sid={sid}")).unwrap();
        socket.send("2probe");
        assert_eq!(socket.next().as_deref(), Some("3probe"));
        assert_eq!(get.get(&path).body, "6");
        // What is said while no poll waits goes over with the session.
        let texts: Vec<String> = (0..40).map(|n| format!("{round}.{n} {}", "x".repeat(1 + n * 400))).collect();
        for (n, text) in texts.iter().enumerate() {
            plain.say("lobby", text);
            if n == 10 {
                socket.send("5");
            }
        }
        for text in &texts {
            let event = loop {
                let packet = socket.next().expect("a packet");
                if packet.starts_with("42[\"new_message\"") {
                    break packet;
                }
            };
            assert!(event.contains(&format!("\"message\":\"{text}\"")), "round {round}: {event:.300}");
        }
        socket.send("422[\"send_message\",{\"roomId\":\"lobby\",\"message\":\"back\"}]");
        while !socket.next().expect("a packet").starts_with("432[{\"ok\":true") {}
    }
}
