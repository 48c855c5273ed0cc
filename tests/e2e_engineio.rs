//! Engine.IO 4 over real sockets, on three shards: the answers that clients rely on, whichever shard a request reaches.
mod support;

use serde_json::{Value, json};
use support::{EIO, Http, Packets, Server, Socket, polling, upgrade_request};

fn server(settings: &[&str]) -> Server {
    Server::with_shards(3, &[settings, &support::UNLIMITED].concat())
}

#[test]
fn a_handshake_says_what_clients_need() {
    let server = server(&["sio.ping_interval_ms=7000", "sio.ping_timeout_ms=3000", "sio.max_payload_bytes=50000"]);
    let mut http = Http::new(&server);
    let mut sids = Vec::new();
    for path in ["/socket.io/", "/engine.io/"] {
        let response = http.get(&format!("{path}?EIO=4&transport=polling&t=abc"));
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let mut open: Value = serde_json::from_str(response.body.strip_prefix('0').unwrap()).unwrap();
        sids.push(open["sid"].take());
        let expected = json!({"sid": null, "upgrades": ["websocket"], "pingInterval": 7000, "pingTimeout": 3000, "maxPayload": 50000});
        assert_eq!(open, expected);
        let mut socket = Socket::open_at(&server, &format!("{path}?EIO=4&transport=websocket")).unwrap();
        let open = socket.next().unwrap();
        let mut open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        sids.push(open["sid"].take());
        assert_eq!((&open["upgrades"], &open["maxPayload"]), (&json!([]), &json!(50000)));
    }
    sids.sort_by_key(|sid| sid.to_string());
    sids.dedup();
    assert_eq!(sids.len(), 4);
    assert_eq!(http.get("/socket.io?EIO=4&transport=polling").status, 404, "the slash belongs to the path");
}

#[test]
fn every_refusal_of_a_polling_request() {
    let server = server(&[]);
    let sid = Http::new(&server).handshake();
    let error = |code: u8, message: &str| format!(r#"{{"code":{code},"message":"{message}"}}"#);
    let session = polling(&sid);
    for (method, path, expected) in [
        ("GET", EIO.into(), error(0, "Transport unknown")),
        ("GET", format!("{EIO}&transport=carrier-pigeon"), error(0, "Transport unknown")),
        ("GET", polling("nobody"), error(1, "Session ID unknown")),
        ("GET", polling(&"A".repeat(27)), error(1, "Session ID unknown")),
        ("GET", polling(&sid.replace(&sid[20..], &sid[20..].to_lowercase())), error(1, "Session ID unknown")),
        ("POST", format!("{EIO}&transport=polling"), error(2, "Bad handshake method")),
        ("GET", format!("{EIO}&transport=websocket"), error(3, "Bad request")),
        ("DELETE", session.clone(), error(3, "Bad request")),
        ("GET", "/socket.io/?transport=polling".into(), error(5, "Unsupported protocol version")),
        ("GET", "/socket.io/?EIO=3&transport=polling".into(), error(5, "Unsupported protocol version")),
    ] {
        let mut http = Http::new(&server);
        http.send(method, &path, &[], b"");
        let response = http.answer();
        assert_eq!((response.status, &response.body), (400, &expected), "{method} {path}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(http.get(&format!("{EIO}&transport=polling")).status, 200, "the connection goes on after {path}");
    }
    let mut http = Http::new(&server);
    http.send("GET", &format!("{EIO}&transport=polling"), &[("Origin", "https://evil.example")], b"");
    let response = http.answer();
    assert_eq!((response.status, &*response.body), (403, r#"{"code":4,"message":"Forbidden"}"#));
    assert_eq!(response.header("access-control-allow-origin"), None);
    assert!(server.metric("throng_engine_requests_refused_total{what=\"unknown_sid\"}") >= 3.0);
}

#[test]
fn every_refusal_of_an_upgrade_is_plain_text_and_the_end() {
    let server = server(&[]);
    for (query, text) in [
        ("", "Transport unknown"),
        ("&transport=websocket&sid=nobody", "Session ID unknown"),
        (&format!("&transport=websocket&sid={}", "A".repeat(27)), "Session ID unknown"),
        ("&transport=polling", "Bad request"),
    ] {
        let response = server.exchange(upgrade_request(&format!("{EIO}{query}"), server.port, &[]).as_bytes());
        assert_eq!((response.status, &*response.body), (400, text), "{query}");
        assert_eq!(response.header("connection"), Some("close"));
    }
    let response = server.exchange(upgrade_request("/socket.io/?transport=websocket", server.port, &[]).as_bytes());
    assert_eq!((response.status, &*response.body), (400, "Unsupported protocol version"));
    let origin = [("Origin", "https://evil.example")];
    let request = upgrade_request(&format!("{EIO}&transport=websocket"), server.port, &origin);
    assert_eq!(server.exchange(request.as_bytes()).body, "Forbidden");
}

#[test]
fn a_poll_on_any_shard_finds_its_session() {
    let server = server(&[]);
    let mut client = Packets::polling(&server);
    client.sign_in(&server, "anna");
    client.join("lobby");
    let mut other = server.client("bob");
    other.join("lobby");
    for round in 0..24 {
        // Another pair of connections: two times out of three another shard.
        client.reconnect(&server);
        other.say("lobby", &format!("message {round}"));
        assert_eq!(client.event("new_message")[1]["message"], format!("message {round}"));
        client.ok(json!(["send_message", {"roomId": "lobby", "message": format!("answer {round}")}]));
        assert_eq!(other.event("chat_message")["message"], format!("message {round}"));
        assert_eq!(other.event("chat_message")["message"], format!("answer {round}"));
        assert_eq!(client.event("new_message")[1]["message"], format!("answer {round}"));
    }
}

#[test]
fn a_second_get_ends_the_session() {
    let server = server(&[]);
    let (mut first, mut second) = (Http::new(&server), Http::new(&server));
    let sid = first.handshake();
    first.send("GET", &polling(&sid), &[], b"");
    // Until the first has arrived the second may be the one that waits.
    while server.metric("throng_engine_sessions_ended_total{reason=\"overlap\"}") == 0.0 {
        second.send("GET", &polling(&sid), &[], b"");
        let response = second.answer();
        if response.status == 200 {
            assert_eq!(response.body, "1");
            break;
        }
        assert_eq!((response.status, &*response.body), (400, ""), "{response:?}");
    }
    let response = first.answer();
    assert!((response.status, &*response.body) == (200, "1") || response.status == 400, "{response:?}");
    assert_eq!(Http::new(&server).get(&polling(&sid)).body, r#"{"code":1,"message":"Session ID unknown"}"#);
}

#[test]
fn a_second_post_ends_the_session() {
    let server = server(&[]);
    let (mut get, mut first, mut second) = (Http::new(&server), Http::new(&server), Http::new(&server));
    let sid = get.handshake();
    get.send("GET", &polling(&sid), &[], b"");
    use std::io::Write;
    let head =
        format!("POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", polling(&sid));
    first.stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(first.answer().status, 100, "the first POST is open");
    let response = second.post(&polling(&sid), b"3");
    assert_eq!((response.status, &*response.body), (400, ""));
    // The poll may have come after the end.
    let ended = get.answer();
    assert!(ended.body == "1" || ended.status == 400, "{ended:?}");
    assert_eq!(second.get(&polling(&sid)).status, 400);
    assert_eq!(server.metric("throng_engine_sessions_ended_total{reason=\"overlap\"}"), 1.0);
}

#[test]
fn what_a_post_must_not_be() {
    let server = server(&["sio.max_payload_bytes=2000"]);
    let mut http = Http::new(&server);
    let sid = http.handshake();
    let long = vec![b'4'; 2001];
    let response = Http::new(&server).post(&polling(&sid), &long);
    assert_eq!((response.status, &*response.body, response.header("connection")), (413, "", Some("close")));
    assert_eq!(Http::new(&server).post(&polling(&"A".repeat(27)), &long).status, 400);

    // The session lives on, and ends by binary, which revision 4 does not have.
    assert_eq!(http.post(&polling(&sid), b"3").body, "ok");
    use std::io::Write;
    let mut coded = Http::new(&server);
    let head = |sid: &str, coding: &str| {
        format!("POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {coding}\r\n\r\n", polling(sid))
    };
    coded.stream.write_all(head(&sid, "gzip, chunked").as_bytes()).unwrap();
    assert_eq!(coded.answer().status, 501);
    // In chunks of a byte, each in a packet of its own.
    let mut chunked = Http::new(&server);
    for piece in [&*head(&sid, "Chunked"), "1", "\r\n3\r", "\n0\r\nX: y\r\n", "\r\n"] {
        chunked.stream.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(chunked.answer().body, "ok");
    assert_eq!(chunked.post(&polling(&sid), b"3").body, "ok", "the connection goes on");
    http.send("POST", &polling(&sid), &[("Content-Type", "application/octet-stream")], b"\x04x");
    let response = http.answer();
    assert_eq!((response.status, &*response.body), (400, ""));
    assert_eq!(http.get(&polling(&sid)).body, r#"{"code":1,"message":"Session ID unknown"}"#);

    for bad in [&b""[..], b"9", b"4\x1e", b"bad!", &[0xff]] {
        let sid = http.handshake();
        assert_eq!(http.post(&polling(&sid), bad).status, 400, "{bad:?}");
        assert_eq!(http.get(&polling(&sid)).body, "1", "{bad:?}");
    }
    // The session has missed something.
    for (bad, status) in [("zz\r\n", 400), ("7d1\r\n", 413)] {
        let sid = http.handshake();
        let mut chunked = Http::new(&server);
        chunked.stream.write_all((head(&sid, "chunked") + bad).as_bytes()).unwrap();
        let response = chunked.answer();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")));
        // It is gone, or, on another shard, about to go.
        let poll = http.get(&polling(&sid));
        assert!(poll.status == 400 || poll.body == "1", "{bad:?}: {} {}", poll.status, poll.body);
    }
    // A ping of a client outside the probe goes the wrong way.
    let sid = http.handshake();
    assert_eq!(http.post(&polling(&sid), b"2").body, "ok");
    assert_eq!(http.get(&polling(&sid)).body, "1");
}

#[test]
fn a_poll_that_is_let_go_ends_the_session() {
    let server = server(&[]);
    let mut http = Http::new(&server);
    let sid = http.handshake();
    let mut poll = Http::new(&server);
    poll.send("GET", &polling(&sid), &[], b"");
    drop(poll);
    while server.metric("throng_engine_sessions_ended_total{reason=\"transport_error\"}") == 0.0 {}
    assert_eq!(http.get(&polling(&sid)).body, r#"{"code":1,"message":"Session ID unknown"}"#);
}

#[test]
fn a_client_that_says_close_has_its_poll_ended() {
    let server = server(&[]);
    let (mut get, mut post) = (Http::new(&server), Http::new(&server));
    let sid = get.handshake();
    get.send("GET", &polling(&sid), &[], b"");
    assert_eq!(post.post(&polling(&sid), b"1").body, "ok");
    let response = get.answer();
    // The poll may have come after the end.
    assert!(response.body == "6" || response.status == 400, "{response:?}");
    assert_eq!(post.get(&polling(&sid)).status, 400);
}

/// Nothing buffered is lost or reordered, on whichever transport it goes out.
#[test]
fn an_upgrade_under_traffic_loses_and_reorders_nothing() {
    let server = server(&[]);
    const MESSAGES: usize = 300;
    let mut client = Packets::polling(&server);
    client.sign_in(&server, "anna");
    client.join("lobby");
    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = server.client("bob");
            sender.join("lobby");
            for number in 0..MESSAGES {
                sender.send("chat_message", json!({"roomId": "lobby", "message": number.to_string()}));
            }
            sender.so_far();
        });
        while heard.len() < MESSAGES {
            if heard.len() == 20 {
                client.upgrade(&server);
            }
            let message = client.event("new_message");
            heard.push(message[1]["message"].as_str().unwrap().parse::<usize>().unwrap());
        }
    });
    assert_eq!(heard, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(server.metric("throng_engine_upgrades_total"), 1.0);
    let response = Http::new(&server).get(&polling(&client.sid));
    assert_eq!(response.body, r#"{"code":3,"message":"Bad request"}"#, "polls of an upgraded session are wrong");
    client.ok(json!(["send_message", {"roomId": "lobby", "message": "on a websocket"}]));
}

#[test]
fn a_newcomer_that_is_no_upgrade_leaves_polling_alone() {
    let server = server(&["sio.upgrade_timeout_ms=400"]);
    let mut client = Packets::polling(&server);
    client.sign_in(&server, "anna");
    let query = format!("&sid={}", client.sid);
    for packet in ["2", "3probe", "4hello", "2probes"] {
        let mut newcomer = Socket::open(&server, &query).unwrap();
        newcomer.send(packet);
        assert_eq!(newcomer.next(), None, "{packet}");
    }
    let mut slow = Socket::open(&server, &query).unwrap();
    slow.send("2probe");
    assert_eq!(slow.next().as_deref(), Some("3probe"));
    let mut second = Socket::open(&server, &query).unwrap();
    assert_eq!(second.next(), None, "a second attempt closes the newcomer only");
    assert_eq!(slow.next(), None, "an upgrade has its time");
    client.join("lobby");
    client.upgrade(&server);
    let mut late = Socket::open(&server, &query).unwrap();
    assert_eq!(late.next(), None, "it has its websocket");
    client.ok(json!(["send_message", {"roomId": "lobby", "message": "still here"}]));
}

#[test]
fn the_server_pings_and_does_not_wait_for_ever() {
    let server = server(&["sio.ping_interval_ms=300", "sio.ping_timeout_ms=400"]);
    let mut http = Http::new(&server);
    let sid = http.handshake();
    for _ in 0..2 {
        assert_eq!(http.get(&polling(&sid)).body, "2");
        assert_eq!(http.post(&polling(&sid), b"3").body, "ok");
    }
    assert_eq!(http.get(&polling(&sid)).body, "2");
    assert_eq!(http.get(&polling(&sid)).body, "1", "no pong");
    assert_eq!(http.get(&polling(&sid)).status, 400);
    let mut socket = Socket::open(&server, "").unwrap();
    socket.next();
    assert_eq!(socket.next().as_deref(), Some("2"));
    socket.send("3");
    assert_eq!(socket.next().as_deref(), Some("2"));
    assert_eq!(socket.next(), None);
    // Nobody polls.
    http.handshake();
    while server.metric("throng_engine_sessions_ended_total{reason=\"ping_timeout\"}") < 3.0 {}
}

#[test]
fn who_joins_nothing_is_closed() {
    let server = server(&["sio.connect_timeout_ms=300"]);
    let mut http = Http::new(&server);
    let sid = http.handshake();
    assert_eq!(http.get(&polling(&sid)).body, "1");
    assert_eq!(server.metric("throng_engine_sessions_ended_total{reason=\"no_namespace\"}"), 1.0);
}

#[test]
fn pages_of_allowed_origins_may_poll() {
    let server = server(&["http.allowed_origins=https://app.example"]);
    let mut http = Http::new(&server);
    let wanted = [
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    http.send("OPTIONS", &format!("{EIO}&transport=polling"), &wanted, b"");
    let response = http.answer();
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(response.header("access-control-allow-headers"), Some("content-type"));
    assert!(response.header("access-control-allow-methods").unwrap().contains("POST"));
    http.send("GET", &format!("{EIO}&transport=polling"), &wanted[..1], b"");
    let response = http.answer();
    assert_eq!((response.status, response.header("access-control-allow-origin")), (200, Some("https://app.example")));
    http.send("OPTIONS", &format!("{EIO}&transport=polling"), &[("Origin", "https://evil.example")], b"");
    assert_eq!(http.answer().status, 403);
}

#[test]
fn sessions_count_as_connections() {
    let server = server(&["limits.connections_per_ip=4"]);
    let mut http = Http::new(&server);
    let sids: Vec<String> = (0..3).map(|_| http.handshake()).collect();
    http.send("GET", &format!("{EIO}&transport=polling"), &[], b"");
    let response = http.answer();
    assert_eq!((response.status, response.error_code()), (429, "rate_limited".into()));
    drop(http);
    // What ends makes room; so does the connection that was refused.
    let mut http = loop {
        let mut http = Http::new(&server);
        let response = http.post(&polling(&sids[0]), b"1");
        if response.status == 200 {
            break http;
        }
        assert_eq!(response.status, 429);
    };
    http.handshake();
    drop(server);

    let server = support::Server::with_shards(3, &["limits.handshakes_per_ip=1", "limits.handshakes_burst=5"]);
    let mut http = Http::new(&server);
    let statuses: Vec<u16> = (0..5).map(|_| http.get(&format!("{EIO}&transport=polling")).status).collect();
    assert_eq!(statuses[..4], [200; 4]);
    assert_eq!(statuses[4], 429, "a session is a handshake too");
}
