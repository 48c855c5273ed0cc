//! Event streams over real sockets (R-SSE-1; WHATWG HTML 9.2): names, ids, what a request may look like, how a stream ends.
#[path = "support/event_stream.rs"]
mod event_stream;
#[path = "support/stream.rs"]
mod stream;
mod support;

use serde_json::{Value, json};
use std::io::Write;
use stream::{Stream, request};
use support::{Response, Server, UNLIMITED, check_error, now_s};

fn open(server: &Server, user: &str, rooms: &str, last_id: &str) -> Stream {
    Stream::open(server.tcp(), &server.token(user), rooms, last_id)
}

#[test]
fn a_stream_brings_the_events_of_its_room_under_native_names() {
    let server = Server::with_shards(3, &["presence.leave_grace_ms=300"]);
    let mut bob = server.client("bob");
    bob.join("lobby");
    bob.say("lobby", "before");
    let mut anna = open(&server, "anna", "lobby", "");
    let head = anna.head.to_lowercase();
    for line in ["content-type: text/event-stream", "cache-control: no-store, no-transform", "x-accel-buffering: no"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");

    let (kind, ready, id) = anna.next().unwrap();
    assert_eq!((&*kind, &ready["userId"], &*id), ("connection_established", &json!("anna"), ""));
    assert_eq!(
        anna.next().unwrap(),
        ("ack".into(), json!({"requestId": "join-0", "result": {"role": null}}), "".into())
    );
    let (kind, state, id) = anna.next().unwrap();
    assert_eq!((&*kind, &state["offset"], &state["recovered"]), ("room_state", &json!(1), &Value::Null));
    assert_eq!(state["recentMessages"][0]["message"], "before");
    let epoch = state["epoch"].as_str().unwrap();
    assert_eq!(id, format!("{epoch}:1"));
    assert_eq!(bob.event("user_joined")["userId"], "anna");

    bob.say("lobby", "two\nlines: \r\n and \"quotes\"");
    let shown = bob.event("chat_message");
    assert_eq!(anna.next().unwrap(), ("chat_message".into(), shown, format!("{epoch}:2")));
    bob.send("broadcast", json!({"roomId": "lobby", "event": "e", "payload": {"offset": 9}, "includeSelf": true}));
    let shown = bob.event("broadcast");
    assert_eq!(anna.next().unwrap(), ("broadcast".into(), shown, format!("{epoch}:2")), "live events move no position");
    assert!((1_000..=5_000).contains(&anna.reader.retry_ms.unwrap()), "{:?}", anna.reader.retry_ms);
    assert_eq!(server.metric("throng_event_streams_opened_total"), 1.0);
    drop(anna);
    let left = bob.event("user_left");
    assert_eq!(left["userId"], "anna");
}

/// One shard's stream hears what is said on any other's, and each room's home orders it.
#[test]
fn a_stream_of_several_rooms_hears_them_all_and_its_ids_hold_all_positions() {
    let server = Server::with_shards(3, &UNLIMITED);
    let rooms = ["a", "b", "c", "d"];
    let mut bob = server.client("bob");
    rooms.iter().for_each(|room| _ = bob.join(room));
    let mut anna = open(&server, "anna", "a,b,c,d", "");
    let mut epochs = vec![None; rooms.len()];
    for _ in rooms {
        let (state, id) = anna.event("room_state");
        let place = rooms.iter().position(|room| state["roomId"] == *room).unwrap();
        epochs[place] = Some(state["epoch"].as_str().unwrap().to_owned());
        let expected = epochs.iter().map(|epoch| epoch.as_ref().map_or("-".into(), |epoch| format!("{epoch}:0")));
        assert_eq!(id, expected.collect::<Vec<_>>().join(","));
    }
    let mut offsets = [0; 4];
    for place in [2, 0, 0, 3, 1, 2] {
        bob.say(rooms[place], "hello");
        offsets[place] += 1;
        let (data, id) = anna.event("chat_message");
        assert_eq!(data["roomId"], rooms[place]);
        let expected =
            epochs.iter().zip(offsets).map(|(epoch, offset)| format!("{}:{offset}", epoch.as_ref().unwrap()));
        assert_eq!(id, expected.collect::<Vec<_>>().join(","));
    }
    bob.send("broadcast", json!({"roomId": "d", "event": "e", "payload": 1}));
    assert_eq!(anna.event("broadcast").0["roomId"], "d");
}

/// Who asks for what can never be is told so by a status, at which an EventSource stops.
#[test]
fn requests_that_are_none() {
    let server = Server::start(&[]);
    let bearer = format!("Bearer {}", server.token("anna"));
    let auth = ("Authorization", &*bearer);
    let ask = |query: &str, headers: &[(&str, &str)]| server.exchange(request(query, headers).as_bytes());
    let many = (0..33).map(|n| format!("r{n}")).collect::<Vec<_>>().join(",");
    let with = |first: &str| {
        let text = format!("{first} HTTP/1.1\r\nHost: chat.example\r\n{}: {}\r\n\r\n", auth.0, auth.1);
        server.exchange(text.as_bytes())
    };
    let cases: [(Response, u16, &str); 14] = [
        (ask("", &[auth]), 400, "invalid_argument"),
        (ask("rooms=", &[auth]), 400, "invalid_argument"),
        (ask("rooms=a%20b", &[auth]), 400, "invalid_argument"),
        (ask("rooms=conn_1", &[auth]), 400, "invalid_argument"),
        (ask(&format!("rooms={many}"), &[auth]), 400, "invalid_argument"),
        (ask("rooms=a", &[]), 401, "auth_required"),
        (ask("rooms=a", &[("Authorization", "Bearer x.y.z")]), 401, "auth_failed"),
        (ask("rooms=a", &[("Authorization", "Bearer ")]), 401, "auth_failed"),
        (ask(&format!("rooms=a&token={}", server.token("anna")), &[]), 400, "invalid_argument"),
        (ask("rooms=a", &[auth, ("Origin", "https://evil.example")]), 403, "forbidden"),
        (ask("rooms=a", &[auth, ("Content-Length", "5")]), 400, "invalid_format"),
        (with("POST /events?rooms=a"), 405, "method_not_allowed"),
        (with("HEAD /events?rooms=a"), 405, "method_not_allowed"),
        (with("GET /events/?rooms=a"), 404, "not_found"),
    ];
    for (index, (response, status, code)) in cases.iter().enumerate() {
        assert_eq!(response.status, *status, "{index}: {response:?}");
        if *status != 404 {
            assert_eq!(response.error_code(), *code, "{index}: {response:?}");
        }
    }
    let malformed: [&[u8]; 4] = [
        b"GET /events?rooms=a\r\n\r\n",
        b"GET /events?rooms=a HTTP/1.1\r\n\r\n",
        b"GET /events?rooms=a HTTP/1.1\r\nHost: h\r\nLast-Event-ID: \xff\r\n\r\n",
        b"GET /events?rooms=a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    for bytes in malformed {
        assert_eq!(server.exchange(bytes).status, 400, "{:?}", String::from_utf8_lossy(bytes));
    }
    // None of them left anything behind: a good one is served.
    open(&server, "anna", "a", "").event("room_state");
}

#[test]
fn a_token_in_the_address_is_taken_if_that_is_allowed() {
    let server = Server::start(&["auth.allow_query_token=true"]);
    let mut socket = server.tcp();
    let query = format!("token={}&rooms=a&rooms=b", server.token("anna"));
    socket.write_all(request(&query, &[]).as_bytes()).unwrap();
    let mut stream = Stream::on(socket);
    assert_eq!(stream.event("connection_established").0["userId"], "anna");
    stream.event("room_state");
    stream.event("room_state");
}

/// R-CONN-1: one list for all.
#[test]
fn pages_of_other_origins_read_if_they_are_listed() {
    let server = Server::start(&["http.allowed_origins=[\"https://app.example\"]"]);
    let bearer = format!("Bearer {}", server.token("anna"));
    let mut socket = server.tcp();
    let headers = [("Authorization", &*bearer), ("Origin", "https://app.example")];
    socket.write_all(request("rooms=a", &headers).as_bytes()).unwrap();
    let head = Stream::on(socket).head;
    for line in
        ["Access-Control-Allow-Origin: https://app.example", "Access-Control-Allow-Credentials: true", "Vary: Origin"]
    {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    // A program in the page asks first, and can read why it was refused.
    let preflight = "OPTIONS /events?rooms=a HTTP/1.1\r\nHost: chat.example\r\nOrigin: https://app.example\r\n\
         Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization,last-event-id\r\n\r\n";
    let answer = server.exchange(preflight.as_bytes());
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, Some("GET")), "{answer:?}");
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("last-event-id"), "{allowed}");
    let headers = [("Authorization", "Bearer x.y.z"), ("Origin", "https://app.example")];
    let refused = server.exchange(request("rooms=a", &headers).as_bytes());
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://app.example")));
    let evil = server.exchange(preflight.replace("app.example", "evil.example").as_bytes());
    assert_eq!((evil.status, evil.header("access-control-allow-origin")), (403, None));
}

#[test]
fn a_room_that_may_not_be_joined_is_an_error_event_and_others_go_on() {
    let server = Server::start(&[]);
    let mut bob = server.client("bob");
    bob.create_room("club", "private");
    bob.join("lobby");
    let mut anna = open(&server, "anna", "club,lobby", "");
    let (error, _) = anna.event("error");
    assert_eq!((check_error(&error), &error["requestId"]), ("access_denied", &json!("join-0")));
    bob.say("lobby", "hello");
    assert_eq!(anna.event("chat_message").0["message"], "hello");
}

/// A room that is missing only for now would stay missing: the stream ends, and comes back.
#[test]
fn a_join_that_failed_for_now_ends_the_stream() {
    let server = Server::start(&["limits.commands=2"]);
    let mut anna = open(&server, "anna", "a,b,c", "");
    let (error, _) = anna.event("error");
    assert_eq!(error["code"], "rate_limited");
    assert_eq!(anna.closed(), json!({"code": 4100, "reason": "Server busy", "reconnect": true}));
    assert!((5_000..=30_000).contains(&anna.reader.retry_ms.unwrap()));
}

/// R-CONN-3 turned round: the server speaks at each interval, and silence of the client means nothing.
#[test]
fn a_silent_client_is_pinged_by_comments_and_stays() {
    let server = Server::start(&["ws.ping_interval_ms=200", "ws.pong_timeout_ms=200", "conn.stale_ms=500"]);
    let mut anna = open(&server, "anna", "lobby", "");
    while anna.reader.comments < 8 {
        assert!(anna.read_some(1_000), "closed after {} comments", anna.reader.comments);
    }
    let mut bob = server.client("bob");
    bob.join("lobby");
    bob.say("lobby", "still there?");
    assert_eq!(anna.event("chat_message").0["message"], "still there?");
}

#[test]
fn what_the_client_sends_is_ignored_up_to_a_bound() {
    let server = Server::start(&[]);
    let mut anna = open(&server, "anna", "lobby", "");
    anna.event("room_state");
    anna.socket().write_all(b"\r\n{\"type\":\"leave_room\"}").unwrap();
    let mut bob = server.client("bob");
    bob.join("lobby");
    bob.say("lobby", "hello");
    anna.event("chat_message");
    while server.metric(r#"throng_drops_total{reason="stream_input"}"#) == 0.0 {}
    anna.socket().write_all(&[b'x'; 1_100]).unwrap();
    assert_eq!(anna.closed(), json!({"code": 1002, "reason": "Protocol error", "reconnect": false}));
}

/// R-AUTH-4: `exp` holds; a stream cannot refresh, so the next request must bring a new token.
#[test]
fn a_stream_ends_with_its_token() {
    let server = Server::start(&["auth.leeway_s=0"]);
    let token = server.sign_raw(&json!({"userId": "anna", "exp": now_s() + 2}));
    let bearer = format!("Bearer {token}");
    let text = request("rooms=lobby", &[("Authorization", &bearer)]);
    let mut socket = server.tcp();
    socket.write_all(text.as_bytes()).unwrap();
    let mut anna = Stream::on(socket);
    assert!(anna.event("token_expiring").0["expiresAt"].is_u64());
    assert_eq!(anna.closed(), json!({"code": 4003, "reason": "Token expired", "reconnect": false}));
    assert!(anna.reader.retry_ms.unwrap() >= 60_000, "who does not stop must not hammer");
    assert_eq!(server.exchange(text.as_bytes()).status, 401);
}

/// `limits.connections_per_user` holds over all protocols.
#[test]
fn too_many_connections_of_a_user_end_the_newest() {
    let server = Server::start(&["limits.connections_per_user=1"]);
    let _first = server.client("anna");
    let mut second = open(&server, "anna", "lobby", "");
    assert_eq!(second.closed(), json!({"code": 4008, "reason": "Too many connections", "reconnect": false}));
}
