//! The front door: heads, upgrades, origins, proxies, pages (R-CONN-1, R-CONN-2, R-OPS-1, R-OPS-2; RFC 6455 4, RFC 9112).
mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use support::{Client, Server, text_frame, upgrade_request};

/// Reads the 101 and nothing more.
fn read_switch(stream: &mut std::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn the_answer_to_an_upgrade_is_that_of_rfc_6455() {
    let server = Server::start(&[]);
    let mut stream = server.tcp();
    stream.write_all(upgrade_request("/ws", server.port, &[]).as_bytes()).unwrap();
    let answer = read_switch(&mut stream).to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(
        answer.contains("\r\nupgrade: websocket\r\n") && answer.contains("\r\nconnection: upgrade\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(!answer.contains("sec-websocket-extensions"), "ws.deflate is off: {answer}");
}

/// A hasty client's first frames, in the same segment as its request, are not lost, whole or in part.
#[test]
fn frames_behind_the_request_are_read() {
    let server = Server::with_shards(3, &["limits.commands=0"]);
    let join = json!({"id": "j", "type": "join_room", "data": {"roomId": "lobby"}}).to_string();
    let frames = [text_frame(&json!({"id": "h", "type": "heartbeat"}).to_string()), text_frame(&join)].concat();
    for cut in [0, 1, 2, 7, frames.len() / 2, frames.len() - 1, frames.len()] {
        for by_frame in [false, true] {
            let token = server.token(&format!("anna-{cut}-{by_frame}"));
            let bearer = format!("Bearer {token}");
            let headers: &[(&str, &str)] = if by_frame { &[] } else { &[("Authorization", &bearer)] };
            let mut bytes = upgrade_request("/ws", server.port, headers).into_bytes();
            if by_frame {
                bytes.extend(text_frame(&json!({"id": "a", "type": "auth", "data": {"token": token}}).to_string()));
            }
            bytes.extend(&frames[..cut]);
            let mut stream = server.tcp();
            stream.write_all(&bytes).unwrap();
            let answer = read_switch(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
            stream.write_all(&frames[cut..]).unwrap();
            let mut client = Client::on(stream);
            if by_frame {
                client.answer("a").unwrap();
            }
            client.greet();
            assert_eq!(client.next()["type"], "heartbeat_response");
            client.answer("j").unwrap();
            assert_eq!(client.event("room_state")["roomId"], "lobby");
        }
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let server = Server::start(&[]);
    let request =
        upgrade_request("/ws", server.port, &[("Authorization", &format!("Bearer {}", server.token("anna")))]);
    for size in [1, 3, 50] {
        let mut stream = server.tcp();
        for piece in request.as_bytes().chunks(size) {
            stream.write_all(piece).unwrap();
        }
        assert!(read_switch(&mut stream).starts_with("HTTP/1.1 101"));
        Client::on(stream).greet();
    }
}

/// R-CONN-2: 16,384 bytes pass, one more is too many, and so are 65 headers.
#[test]
fn a_head_has_a_limit() {
    let server = Server::start(&[]);
    let of_bytes = |bytes: usize| {
        let empty = upgrade_request("/ws", server.port, &[("X-Fill", "")]).len();
        upgrade_request("/ws", server.port, &[("X-Fill", &"x".repeat(bytes - empty))])
    };
    assert_eq!(of_bytes(16_384).len(), 16_384);
    let mut stream = server.tcp();
    stream.write_all(of_bytes(16_384).as_bytes()).unwrap();
    assert!(read_switch(&mut stream).starts_with("HTTP/1.1 101"));
    let many = "X-Header: 1\r\n".repeat(65);
    let endless = format!("GET /ws HTTP/1.1\r\nHost: h\r\nX-Fill: {}", "x".repeat(100_000));
    for request in [
        of_bytes(16_385),
        of_bytes(40_000),
        endless,
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(20_000)),
        format!("GET /ws HTTP/1.1\r\nHost: h\r\n{many}\r\n"),
    ] {
        let answer = server.exchange(request.as_bytes());
        assert_eq!(answer.status, 431, "{:.80}", request);
        answer.error_code();
    }
}

#[test]
fn a_head_has_a_time() {
    let server = Server::start(&["http.head_timeout_ms=300"]);
    let request = upgrade_request("/ws", server.port, &[]);
    for part in ["", "G", &request[..request.len() - 2]] {
        let answer = server.exchange(part.as_bytes());
        assert_eq!((answer.status, &*answer.error_code()), (408, "timeout"), "{part:?}");
    }
    // A trickle does not extend it.
    let mut stream = server.tcp();
    let mut writer = stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        let is_open = |byte: &&u8| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            writer.write_all(&[**byte]).is_ok()
        };
        request.as_bytes().iter().take_while(is_open).count()
    });
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    drop(stream);
    trickle.join().unwrap();
    server.client("anna").join("lobby");
}

#[test]
fn each_bad_upgrade_has_its_answer() {
    let server = Server::start(&[]);
    let good = upgrade_request("/ws", server.port, &[]);
    let host = format!("Host: 127.0.0.1:{}\r\n", server.port);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (from, to, status) in [
        ("GET", "POST", 405),
        ("GET", "HEAD", 405),
        ("GET", "CONNECT", 405),
        ("GET /ws", "GET ws", 400),
        ("GET /ws", "GET  /ws", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("HTTP/1.1", "HTTP/2.0", 400),
        ("HTTP/1.1", "", 400),
        (&*host, "", 400),
        (&host, "Host:\r\n", 400),
        (&host, "Host: a\r\nHost: b\r\n", 400),
        ("Upgrade: websocket\r\n", "", 426),
        ("Upgrade: websocket", "Upgrade: h2c", 426),
        ("Connection: Upgrade", "Connection: close", 426),
        ("Connection: Upgrade\r\n", "", 426),
        (version, "", 426),
        (version, "Sec-WebSocket-Version: 8\r\n", 426),
        (version, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n", 400),
        (key, "", 400),
        (key, "Sec-WebSocket-Key: c2hvcnQ=\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTransfer-Encoding: chunked\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: -1\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a b\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nbroken header\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n folded\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX: \u{0}\r\n", 400),
    ] {
        assert!(good.contains(from), "{from}");
        let answer = server.exchange(good.replacen(from, to, 1).as_bytes());
        assert_eq!(answer.status, status, "{from:?} → {to:?}: {answer:?}");
        if status == 426 {
            assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
        }
        if !to.contains("HEAD") {
            answer.error_code();
        }
        assert!(answer.header("Connection").unwrap().contains("close"));
    }
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\x00\x00", b"SSH-2.0-x\r\n\r\n"] {
        let answer = server.exchange(&[bytes, b"\r\n\r\n"].concat());
        assert_eq!(answer.status, 400, "{bytes:?}: {answer:?}");
    }
    // Proxies and old clients write these.
    for (from, to) in [
        ("Upgrade: websocket", "upgrade: WebSocket"),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        ("GET /ws HTTP", &format!("GET http://127.0.0.1:{}/ws HTTP", server.port)),
        ("GET /ws HTTP", "GET /ws?v=1&x=%zz HTTP"),
        (key, "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ==  \r\nContent-Length: 0\r\n"),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: \u{e9}\r\n"),
    ] {
        assert!(good.contains(from), "{from}");
        let mut stream = server.tcp();
        stream.write_all(good.replacen(from, to, 1).as_bytes()).unwrap();
        assert!(read_switch(&mut stream).starts_with("HTTP/1.1 101"), "{from:?} → {to:?}");
    }
}

/// R-CONN-1.
#[test]
fn only_known_origins_may_connect() {
    let own = |server: &Server| format!("http://127.0.0.1:{}", server.port);
    let status = |server: &Server, headers: &[(&str, &str)]| server.try_open("/ws", headers).err().map(|e| e.status);

    let server = Server::start(&["http.allowed_origins=https://app.example,http://dev.example:3000"]);
    for origin in [&*own(&server), "https://app.example", "https://APP.example:443", "http://dev.example:3000"] {
        assert_eq!(status(&server, &[("Origin", origin)]), None, "{origin}");
    }
    let other_port = format!("http://127.0.0.1:{}", server.port + 1);
    for origin in [
        "https://evil.example",
        "http://app.example",
        "https://app.example.evil",
        "https://app.example:8443",
        "http://dev.example",
        "null",
        "",
        &other_port,
        "http://localhost",
    ] {
        assert_eq!(status(&server, &[("Origin", origin)]), Some(403), "{origin}");
    }
    // The token does not help a foreign page, and is not looked at.
    let bearer = format!("Bearer {}", server.token("anna"));
    let refusal = server.try_open("/ws", &[("Origin", "https://evil.example"), ("Authorization", &bearer)]);
    assert_eq!(refusal.err().unwrap().error_code(), "forbidden");
    assert_eq!(status(&server, &[]), None, "no browser");

    let server = Server::start(&["http.allowed_origins=*"]);
    for origin in ["https://anything.example", "null"] {
        assert_eq!(status(&server, &[("Origin", origin)]), None, "{origin}");
    }
}

/// One list for WebSocket and pages (CORS).
#[test]
fn pages_follow_the_same_list_of_origins() {
    let server = Server::start(&["http.allowed_origins=https://app.example"]);
    let answer = server.get("/healthz", &[("Origin", "https://app.example")]);
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (200, Some("https://app.example")));
    let answer = server.get("/healthz", &[("Origin", "https://evil.example")]);
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (403, None));
}

/// R-CONN-2: behind a trusted proxy the limits are those of its clients; elsewhere the header is hearsay.
#[test]
fn forwarding_headers_count_only_from_trusted_proxies() {
    let limits = ["limits.connections_per_ip=2", "http.trusted_proxies=127.0.0.1,10.0.0.0/8"];
    let server = Server::with_shards(3, &limits);
    let mut open = Vec::new();
    let mut from = |proxy: u8, forwarded: &str| match server.try_open_from(proxy, &[("X-Forwarded-For", forwarded)]) {
        Ok(client) => {
            open.push(client);
            101
        }
        Err(refusal) => refusal.status,
    };
    assert_eq!([(); 3].map(|()| from(1, "192.0.2.1")), [101, 101, 429]);
    assert_eq!([(); 3].map(|()| from(1, "192.0.2.2")), [101, 101, 429]);
    // The entry that a trusted proxy saw counts; what stands left of it could be anything.
    assert_eq!(from(1, "192.0.2.99, 192.0.2.2"), 429);
    assert_eq!(from(1, "192.0.2.2, 10.1.2.3"), 429);
    assert_eq!(from(1, "192.0.2.3, 10.1.2.3"), 101);
    assert_eq!([(); 3].map(|()| from(1, "2001:db8::1")), [101, 101, 429]);
    assert_eq!(from(1, "2001:db8::ffff"), 429, "the same /64");
    assert_eq!(from(1, "2001:db8:0:1::1"), 101);
    // From elsewhere the peer's own address counts, whatever it says.
    assert_eq!([from(2, "192.0.2.50"), from(2, "192.0.2.51"), from(2, "192.0.2.52")], [101, 101, 429]);
    assert_eq!([from(1, "nonsense"), from(1, "more nonsense"), from(1, "")], [101, 101, 429], "then the proxy's own");
}

/// R-OPS-1: to direct loopback callers only.
#[test]
fn every_connection_is_counted_and_every_upgrade() {
    let server = Server::start(&[]);
    let before = server.metric("throng_connections_accepted_total");
    let clients = [server.client("anna"), server.client("bob")];
    assert_eq!(server.metric("throng_websocket_upgrades_total"), 2.0);
    // The two, and each look at the page is a connection of its own.
    assert_eq!(server.metric("throng_connections_accepted_total"), before + 4.0);
    drop(clients);
}

#[test]
fn operators_pages_are_for_direct_local_callers() {
    let server = Server::start(&[]);
    server.client("anna").join("lobby");
    for path in ["/metrics", "/stats", "/histograms"] {
        assert_eq!(server.get(path, &[]).status, 200, "{path}");
        assert_eq!(server.get(path, &[("Host", &format!("localhost:{}", server.port))]).status, 200);
        for header in [
            ("X-Forwarded-For", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
            ("X-Real-IP", "127.0.0.1"),
            ("Via", "1.1 proxy"),
            ("Host", "evil.example"),
        ] {
            let answer = server.get(path, &[header]);
            assert_eq!((answer.status, &*answer.error_code()), (403, "forbidden"), "{path} {header:?}");
        }
    }
    let stats = server.get("/stats", &[]).json();
    assert_eq!(stats["shards"].as_array().unwrap().len(), 2);
    // Never a user or room label.
    let metrics = server.get("/metrics", &[]).body;
    assert!(metrics.contains("throng_") && !metrics.contains("lobby") && !metrics.contains("anna"));
}

#[test]
fn operators_pages_move_to_the_admin_address() {
    let port = 19_000 + (std::process::id() % 900) as u16;
    let server = Server::start(&[&format!("admin.listen=127.0.0.1:{port}")]);
    for path in ["/metrics", "/stats", "/histograms"] {
        assert_eq!(server.get(path, &[]).status, 404, "{path}");
    }
    assert_eq!(server.get("/readyz", &[]).status, 200);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("throng_"), "{:.200}", answer);
}

#[test]
fn pages_for_everyone_and_none_at_other_paths() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/healthz", &[]).body, "ok");
    assert_eq!(server.get("/readyz", &[]).json(), json!({"status": "ready"}));
    for path in ["/nothing", "/ws/", "/WS", "/ws/x", "/../ws", "/metrics/"] {
        let answer = server.get(path, &[]);
        assert_eq!((answer.status, &*answer.error_code()), (404, "not_found"), "{path}");
    }
    let post = format!("POST /healthz HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\n\r\n", server.port);
    assert_eq!(server.exchange(post.as_bytes()).status, 405);
    for headers in [&[][..], &[("Accept-Encoding", "gzip")], &[("Connection", "keep-alive")]] {
        let answer = server.get("/healthz", headers);
        assert_eq!((answer.status, answer.header("X-Content-Type-Options")), (200, Some("nosniff")));
    }
}

/// What was counted for a request that went nowhere is given back.
#[test]
fn refused_and_broken_handshakes_leave_nothing_behind() {
    let server = Server::with_shards(
        3,
        &[
            "limits.connections_per_ip=4",
            "limits.connections=6",
            "limits.unauthenticated=5",
            "http.head_timeout_ms=300",
        ],
    );
    for round in 0..40 {
        match round % 5 {
            0 => drop(server.exchange(b"nonsense\r\n\r\n")),
            1 => drop(server.get("/healthz", &[])),
            2 => drop(server.try_open("/ws", &[("Authorization", "Bearer nonsense")]).err().unwrap()),
            3 => drop(server.tcp()),
            _ => drop(server.try_open("/ws", &[("Origin", "https://evil.example")])),
        }
    }
    let all_free = |_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let clients: Vec<Client> = (0..4).filter_map(|_| server.try_open("/ws", &[]).ok()).collect();
        (clients.len() == 4).then_some(clients)
    };
    let clients = (0..200).find_map(all_free).expect("all four places are free");
    assert_eq!(server.try_open("/ws", &[]).err().unwrap().status, 429);
    drop(clients);
    let counted = |_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let stats: Value = server.get("/stats", &[]).json();
        (stats["totalConnections"] == 0).then_some(())
    };
    assert!((0..200).find_map(counted).is_some());
}
