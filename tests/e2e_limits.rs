//! Limits in pairs: what passes, and one step beyond (R-CONN-2 to 4, R-ROOM-5, R-CHAT-1, R-CHAT-5, R-LIVE-1).
mod support;

use serde_json::{Value, json};
use support::{Client, Server, text_frame};

fn rooms_of(client: &mut Client, rooms: &[String]) -> usize {
    let is_in = |room: &&String| client.ask("leave_room", json!({"roomId": room})).is_ok();
    rooms.iter().filter(is_in).count()
}

#[test]
fn a_user_has_so_many_connections() {
    let server = Server::with_shards(3, &["limits.connections_per_user=3"]);
    for user in ["anna", "berta", "carla"] {
        let mut clients: Vec<Client> = (0..3).map(|_| server.client(user)).collect();
        let mut fourth = server.stranger_with(&[("Authorization", &format!("Bearer {}", server.token(user)))]);
        assert_eq!(fourth.rest(), (vec![], Some(4008)));
        let mut by_frame = server.stranger();
        by_frame.send("auth", json!({"token": server.token(user)}));
        assert_eq!(by_frame.closed(), 4008);
        clients.pop().unwrap().close(1000);
        clients.push(retry(|| server.stranger_with(&[("Authorization", &format!("Bearer {}", server.token(user)))])));
        clients.iter_mut().for_each(|client| drop(client.join("lobby")));
    }
}

/// A connection that is told 4008 is tried again: the end of another one may still be on its way.
fn retry(open: impl Fn() -> Client) -> Client {
    for _ in 0..200 {
        let mut client = open();
        if client.try_greet() {
            return client;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the place of a closed connection never became free");
}

#[test]
fn an_address_has_so_many_connections() {
    let server = Server::with_shards(3, &["limits.connections_per_ip=4"]);
    let mut open: Vec<Client> = (0..4).map(|_| server.try_open_from(2, &[]).ok().unwrap()).collect();
    let refusal = server.try_open_from(2, &[]).err().unwrap();
    assert_eq!((refusal.status, &*refusal.error_code()), (429, "rate_limited"));
    assert!(refusal.header("Retry-After").unwrap().parse::<u32>().unwrap() > 0);
    assert!(server.try_open_from(3, &[]).is_ok(), "another address has its own");
    open.pop().unwrap().cut();
    let again = (0..200).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.try_open_from(2, &[]).ok()
    });
    assert!(again.is_some(), "a closed connection frees its place");
}

#[test]
fn an_address_has_so_many_handshakes() {
    let server = Server::with_shards(3, &["limits.handshakes_per_ip=1", "limits.handshakes_burst=10"]);
    let answers: Vec<_> = (0..14).map(|_| server.try_open_from(2, &[]).err()).collect();
    let refused: Vec<_> = answers.into_iter().flatten().collect();
    // A place comes back each second: a slow run may let some more pass.
    assert!((1..=4).contains(&refused.len()), "{refused:?}");
    for refusal in refused {
        assert_eq!((refusal.status, refusal.header("Retry-After")), (429, Some("1")));
    }
    assert!(server.try_open_from(3, &[]).is_ok());
}

#[test]
fn so_many_may_be_there_without_a_token() {
    let server = Server::with_shards(3, &["limits.unauthenticated=3"]);
    let mut strangers: Vec<Client> = (0..3).map(|_| server.stranger()).collect();
    let with_token = format!("Bearer {}", server.token("anna"));
    for headers in [&[][..], &[("Authorization", &*with_token)]] {
        let refusal = server.try_open("/ws", headers).err().unwrap();
        assert_eq!((refusal.status, &*refusal.error_code()), (503, "overloaded"));
        assert!(refusal.header("Retry-After").is_some());
    }
    // Signing in makes room, and so does going.
    strangers[0].ok("auth", json!({"token": server.token("anna")}));
    strangers[0].greet();
    let mut more = server.stranger();
    assert_eq!(server.try_open("/ws", &[]).err().unwrap().status, 503);
    more.send("auth", json!({"token": "nonsense"}));
    assert_eq!(more.closed(), 4002);
    server.client("berta").join("lobby");
}

#[test]
fn so_many_connections_in_all() {
    let server = Server::with_shards(3, &["limits.connections=5"]);
    let mut clients: Vec<Client> = (0..5).map(|n| server.client(&format!("u{n}"))).collect();
    let refusal = server.try_open("/ws", &[]).err().unwrap();
    assert_eq!((refusal.status, &*refusal.error_code()), (503, "overloaded"));
    assert!(refusal.header("Retry-After").is_some());
    clients.iter_mut().for_each(|client| drop(client.join("lobby")));
    clients.pop().unwrap().close(1000);
    let again = (0..200).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.try_open("/ws", &[]).ok()
    });
    assert!(again.is_some(), "a closed connection frees its place");
}

#[test]
fn a_session_is_in_so_many_rooms() {
    let server = Server::with_shards(3, &["limits.rooms_per_session=4", "limits.commands=0"]);
    let (mut anna, mut tablet) = (server.client("anna"), server.client("anna"));
    (0..4).for_each(|n| drop(anna.join(&format!("room-{n}"))));
    anna.refused("limit_reached", "join_room", json!({"roomId": "room-4"}));
    anna.join("room-3");
    tablet.join("room-4");
    anna.ok("leave_room", json!({"roomId": "room-0"}));
    anna.join("room-4");
    anna.refused("limit_reached", "join_room", json!({"roomId": "room-0"}));
}

/// Joins that are sent together find no more room than joins one by one.
#[test]
fn joins_sent_together_keep_to_the_limit_too() {
    let server = Server::with_shards(3, &["limits.rooms_per_session=4", "limits.commands=0"]);
    let rooms: Vec<String> = (0..20).map(|n| format!("room-{n}")).collect();
    let mut watcher: Vec<Client> = (0..5).map(|n| server.client(&format!("watcher-{n}"))).collect();
    for (index, room) in rooms.iter().enumerate() {
        watcher[index / 4].join(room);
    }
    let mut anna = server.client("anna");
    let joins: Vec<_> = rooms.iter().map(|room| ("join_room", json!({"roomId": room}))).collect();
    anna.send_together(&joins);
    let (mut refused, mut joined, mut closed) = (0, 0, 0);
    while refused + joined < rooms.len() || closed + 4 < joined {
        let message = anna.next();
        match message["type"].as_str().unwrap() {
            "error" => refused += usize::from(message["data"]["code"] == "limit_reached"),
            "ack" => joined += 1,
            "room_closed" => {
                assert_eq!(message["data"]["reason"], "limit_reached");
                closed += 1;
            }
            _ => {}
        }
    }
    assert_eq!(rooms_of(&mut anna, &rooms), 4);
    for (index, room) in rooms.iter().enumerate() {
        assert_eq!(watcher[index / 4].join(room)["onlineCount"], 1, "{room}");
    }
}

/// R-CHAT-1: characters are code points, after trimming.
#[test]
fn messages_have_so_many_characters() {
    let server = Server::unlimited(&[]);
    let mut anna = server.client("anna");
    anna.join("lobby");
    for (text, code) in [
        ("x".repeat(2_000), None),
        ("x".repeat(2_001), Some("message_too_long")),
        ("😀".repeat(2_000), None),
        ("😀".repeat(2_001), Some("message_too_long")),
        (format!("  {}\n\t\u{a0}", "ü".repeat(2_000)), None),
        ("x".into(), None),
        (String::new(), Some("empty_message")),
        (" \n\t\u{2003}".into(), Some("empty_message")),
    ] {
        let data = json!({"roomId": "lobby", "message": text});
        match code {
            None => {
                anna.ok("chat_message", data);
                assert_eq!(anna.event("chat_message")["message"], text.trim(), "kept whole, as plain text");
            }
            Some(code) => drop(anna.refused(code, "chat_message", data)),
        }
    }
    let html = "<b>&amp;</b> 'quoted' \"too\" \\ {{x}}";
    anna.say("lobby", html);
    assert_eq!(anna.event("chat_message")["message"], html);
}

#[test]
fn metadata_is_an_object_of_so_many_bytes() {
    let server = Server::unlimited(&[]);
    let mut anna = server.client("anna");
    anna.join("lobby");
    let of_bytes = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
    assert_eq!(of_bytes(4_096).to_string().len(), 4_096);
    for good in [of_bytes(4_096), json!({}), Value::Null, json!({"a": [1, {"b": null}], "ü": "😀"})] {
        anna.ok("chat_message", json!({"roomId": "lobby", "message": "x", "metadata": good}));
        let expected = if good.is_null() { json!({}) } else { good };
        assert_eq!(anna.event("chat_message")["metadata"], expected);
    }
    for bad in [of_bytes(4_097), json!([]), json!("x"), json!(7), json!(true)] {
        let data = json!({"roomId": "lobby", "message": "x", "metadata": bad});
        assert_eq!(anna.refused("invalid_argument", "chat_message", data)["field"], "metadata");
    }
    for kind in ["text", "image", "file", "voice", "system", "bot", "whatever", ""] {
        let data = json!({"roomId": "lobby", "message": "x", "messageType": kind});
        match kind {
            "text" => drop(anna.ok("chat_message", data)),
            _ => drop(anna.refused("type_not_allowed", "chat_message", data)),
        }
    }
    for (field, value) in [
        ("clientId", json!("c".repeat(65))),
        ("clientId", json!("")),
        ("clientId", json!(7)),
        ("message", Value::Null),
        ("message", json!(["x"])),
        ("messageType", json!(7)),
        ("roomId", json!(7)),
    ] {
        let mut data = json!({"roomId": "lobby", "message": "x"});
        data[field] = value;
        assert_eq!(anna.refused("invalid_argument", "chat_message", data)["field"], field);
    }
    // What only the server may say is ignored (R-SEC-5).
    let data = json!({"roomId": "lobby", "message": "x", "userId": "root", "timestamp": 1, "id": "msg_1", "offset": 9});
    let result = anna.ok("chat_message", data);
    let heard = loop {
        let event = anna.event("chat_message");
        if event["id"] == result["messageId"] {
            break event;
        }
    };
    assert_eq!((&heard["userId"], &heard["offset"]), (&"anna".into(), &result["offset"]));
    assert!(heard["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
}

/// R-CHAT-2: the first fault in the order of the checks is the answer.
#[test]
fn a_message_is_checked_in_the_promised_order() {
    let server = Server::start(&["limits.messages=1", "limits.messages_window_s=3600"]);
    let mut anna = server.client("anna");
    let all_wrong = |room: &str| json!({"roomId": room, "message": "", "messageType": "voice", "metadata": 7});
    anna.refused("not_in_room", "chat_message", all_wrong("lobby"));
    anna.join("lobby");
    anna.refused("invalid_argument", "chat_message", all_wrong("lobby"));
    anna.refused("type_not_allowed", "chat_message", json!({"roomId": "lobby", "message": "", "messageType": "voice"}));
    anna.refused("empty_message", "chat_message", json!({"roomId": "lobby", "message": " "}));
    anna.refused("message_too_long", "chat_message", json!({"roomId": "lobby", "message": "x".repeat(2_001)}));
    // None of these has cost the one message that there is.
    anna.ok("chat_message", json!({"roomId": "lobby", "message": "x", "clientId": "c"}));
    anna.refused("empty_message", "chat_message", json!({"roomId": "lobby", "message": "", "clientId": "c"}));
    anna.refused("conflict", "chat_message", json!({"roomId": "lobby", "message": "y", "clientId": "c"}));
    anna.refused("rate_limited", "chat_message", json!({"roomId": "lobby", "message": "y"}));
}

/// 10 in 60 s, over all devices of a user, whichever shards they are on.
#[test]
fn messages_are_limited_per_user() {
    let server = Server::with_shards(3, &["limits.messages_window_s=3600"]);
    let mut devices: Vec<Client> = (0..5).map(|_| server.client("anna")).collect();
    devices.iter_mut().for_each(|device| drop(device.join("lobby")));
    for index in 0..10 {
        devices[index % 5].say("lobby", "x");
    }
    for device in &mut devices {
        let error = device.refused("rate_limited", "chat_message", json!({"roomId": "lobby", "message": "x"}));
        assert!((1..=360_000).contains(&error["retryAfterMs"].as_u64().unwrap()), "{error}");
    }
    // A new connection is no new bucket.
    devices.into_iter().for_each(|device| device.close(1000));
    let mut again = server.client("anna");
    again.join("lobby");
    again.refused("rate_limited", "chat_message", json!({"roomId": "lobby", "message": "x"}));
    let mut berta = server.client("berta");
    berta.join("lobby");
    berta.say("lobby", "x");
}

/// R-CHAT-5: 100 in 10 s; beyond it `rate_limited`, and at ten times that the end.
#[test]
fn commands_are_limited_and_floods_end_the_connection() {
    let server = Server::with_shards(3, &["limits.commands=20"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    berta.join("lobby");
    let heartbeats = |count: usize| -> Vec<u8> {
        let text = |n: usize| text_frame(&json!({"id": format!("h{n}"), "type": "heartbeat"}).to_string());
        (0..count).flat_map(text).collect()
    };
    anna.send_bytes(&heartbeats(24));
    let answers: Vec<Value> = (0..24).map(|_| anna.next()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer["type"] == "error").collect();
    assert!((1..=4).contains(&refused.len()), "{refused:?}");
    for error in refused {
        assert_eq!(error["data"]["code"], "rate_limited");
        assert!(error["data"]["retryAfterMs"].as_u64().unwrap() <= 500);
    }
    let mut tablet = server.client("anna");
    tablet.send_bytes(&heartbeats(1));
    tablet.next();
    anna.send_bytes(&heartbeats(400));
    let (messages, code) = anna.rest();
    assert_eq!(code, Some(4104));
    assert!((170..=210).contains(&messages.len()), "{}", messages.len());
    berta.say("lobby", "unimpressed");
}

/// A refused command changes nothing and costs no token, wherever it is refused: on the connection's shard, on another one, or
/// after a room was looked for on disk.
#[test]
fn refused_commands_cost_nothing() {
    let server = Server::with_shards(3, &["limits.commands=4", "rooms.auto_create=false"]);
    let mut anna = server.client("anna");
    for n in 0..9 {
        anna.refused("not_in_room", "leave_room", json!({"roomId": format!("room-{n}")}));
        anna.refused("access_denied", "join_room", json!({"roomId": format!("room-{n}")}));
    }
    for _ in 0..5 {
        anna.refused("conflict", "auth", json!({"token": server.token("anna")}));
        anna.refused("auth_failed", "refresh_token", json!({"token": server.token("berta")}));
    }
    anna.send_together(&vec![("heartbeat", json!({})); 5]);
    let answered = (0..5).filter(|_| anna.next()["type"] == "heartbeat_response").count();
    assert!(answered >= 4, "{answered}");
}

#[test]
fn refused_live_events_cost_nothing() {
    let server = Server::with_shards(1, &["limits.live=1", "limits.live_burst=2"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    for _ in 0..10 {
        anna.refused("not_in_room", "broadcast", json!({"roomId": "lobby", "event": "x"}));
    }
    berta.join("lobby");
    anna.join("lobby");
    for event in ["one", "two"] {
        anna.send("broadcast", json!({"roomId": "lobby", "event": event}));
        assert_eq!(berta.event("broadcast")["event"], event);
    }
}

/// R-CHAT-5: whatever a message is, it counts against the flood.
#[test]
fn a_flood_of_anything_closes_4104() {
    let server = Server::with_shards(3, &["limits.commands=20", "limits.messages=0"]);
    let send = |data: Value| json!({"id": "x", "type": "chat_message", "data": data}).to_string();
    let mut floods = vec![
        json!({"id": "x", "type": "whatever"}).to_string(),
        json!({"id": "x", "type": "join_room", "data": {"roomId": 7}}).to_string(),
        json!({"id": "x", "type": "activity"}).to_string(),
        json!({"id": "x", "type": "broadcast", "data": {"roomId": "elsewhere", "event": "x"}}).to_string(),
        send(json!({"roomId": "lobby", "message": " "})),
    ];
    // Rooms on all shards.
    floods.extend((0..6).map(|n| send(json!({"roomId": format!("room-{n}"), "message": "x"}))));
    for (n, text) in floods.iter().enumerate() {
        let mut client = server.client(&format!("user-{n}"));
        client.join("lobby");
        client.send_bytes(&text_frame(text).repeat(400));
        let (messages, code) = client.rest();
        assert_eq!(code, Some(4104), "{text}");
        assert!(messages.len() <= 230, "{}: {text}", messages.len());
    }
    assert_eq!(server.metric("throng_connections_closed_total{code=\"4104\"}"), floods.len() as f64);
}

/// What has a limit of its own counts against the flood only when it is refused.
#[test]
fn accepted_messages_and_live_events_are_no_flood() {
    let server = Server::with_shards(3, &["limits.commands=4", "limits.messages=0", "limits.live=0"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    for room in ["lobby", "kitchen"] {
        anna.join(room);
        berta.join(room);
        for n in 0..60 {
            anna.say(room, "x");
            anna.send("broadcast", json!({"roomId": room, "event": format!("e{n}")}));
        }
        while berta.event("broadcast")["event"] != "e59" {}
    }
}

/// R-PRES-4: whoever only tries is not active.
#[test]
fn a_refused_message_is_no_activity() {
    let server = Server::with_shards(3, &[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    let rooms: Vec<String> = (0..3).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        anna.join(room);
        berta.join(room);
    }
    let mut seen = || berta.ok("get_presence", json!({"userIds": ["anna"]}))["users"][0]["lastActivity"].clone();
    let before = seen();
    assert!(before.is_u64(), "{before}");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    for room in &rooms {
        anna.refused("empty_message", "chat_message", json!({"roomId": room, "message": " "}));
        anna.refused("not_in_room", "chat_message", json!({"roomId": format!("not-{room}"), "message": "x"}));
    }
    assert_eq!(seen(), before);
    anna.say("room-0", "x");
    assert!(seen().as_u64() > before.as_u64());
}

/// R-CONN-4: answering pings is not enough.
#[test]
fn a_connection_that_only_sends_pongs_goes_stale() {
    let server = Server::start(&["conn.stale_ms=800", "ws.ping_interval_ms=150", "ws.pong_timeout_ms=3600000"]);
    let (mut silent, mut talking) = (server.client("silent"), server.client("talking"));
    // Reading answers pings; the one that talks while the other waits stays.
    let mut writer = talking.stream().try_clone().unwrap();
    let chatter = std::thread::spawn(move || {
        let frame = text_frame(&json!({"id": "h", "type": "heartbeat"}).to_string());
        for _ in 0..20 {
            std::io::Write::write_all(&mut writer, &frame).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    assert_eq!(silent.closed(), 4102);
    chatter.join().unwrap();
    for _ in 0..20 {
        assert_eq!(talking.next()["type"], "heartbeat_response");
    }
    assert_eq!(server.metric("throng_connections_closed_total{code=\"4102\"}"), 1.0);
}

/// R-CONN-3.
#[test]
fn a_connection_that_answers_no_ping_closes_4103() {
    let server = Server::start(&["ws.ping_interval_ms=200", "ws.pong_timeout_ms=300"]);
    let (mut dead, mut alive) = (server.client("dead"), server.client("alive"));
    alive.join("lobby");
    // Reading answers pings, and nothing else is sent.
    let alive = std::thread::spawn(move || alive.event("broadcast"));
    // A client that does not read answers nothing: the bytes are read here, below the library.
    let mut received = Vec::new();
    std::io::Read::read_to_end(dead.stream(), &mut received).ok();
    let ping = received.windows(2).any(|bytes| bytes == [0x89, 0x00]);
    let close = received.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..4] == 4103_u16.to_be_bytes());
    assert!(ping && close, "{received:?}");
    let mut helper = server.client("helper");
    helper.join("lobby");
    helper.send("broadcast", json!({"roomId": "lobby", "event": "done"}));
    assert_eq!(alive.join().unwrap()["event"], "done");
}
