//! What clients should not send (R-ENV-1 to 3, R-SEC-13; RFC 6455 5): each has its answer, and nobody else notices.
mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{Read, Write};
use support::{Client, Server, frame, text_frame, upgrade_request};

/// Envelopes that are none, with the id that could be read (R-ENV-3).
#[test]
fn a_message_that_is_no_envelope_is_an_error_and_no_end() {
    let server = Server::start(&["limits.commands=0"]);
    let long = "x".repeat(65);
    for (text, id) in [
        ("", None),
        ("{", None),
        ("hello", None),
        ("null", None),
        ("7", None),
        ("[]", None),
        ("{}", None),
        (r#"[{"id":"1","type":"heartbeat"}]"#, None),
        (r#"{"id":"1","type":"heartbeat"}{}"#, None),
        (r#"{"id":"1","type":"heartbeat",}"#, None),
        (r#"{'id':'1','type':'heartbeat'}"#, None),
        (r#"{"id":1,"type":"heartbeat"}"#, None),
        (r#"{"id":"","type":"heartbeat"}"#, None),
        (r#"{"id":null,"type":"heartbeat"}"#, None),
        (&format!(r#"{{"id":"{long}","type":"heartbeat"}}"#), None),
        (r#"{"type":"heartbeat"}"#, None),
        (r#"{"id":"1"}"#, Some("1")),
        (r#"{"id":"1","type":7}"#, Some("1")),
        (r#"{"id":"1","type":""}"#, Some("1")),
        (&format!(r#"{{"id":"1","type":"{long}"}}"#), Some("1")),
        (r#"{"id":"1","type":"heartbeat","data":[]}"#, Some("1")),
        (r#"{"id":"1","type":"heartbeat","data":"x"}"#, Some("1")),
        (r#"{"id":"1","type":"heartbeat","data":7}"#, Some("1")),
    ] {
        let mut client = server.client("anna");
        client.send_text(text);
        let error = client.next();
        assert_eq!(error["type"], "error", "{text}");
        assert_eq!(
            (&error["data"]["code"], &error["data"]["requestId"]),
            (&"invalid_format".into(), &id.into()),
            "{text}"
        );
        assert_eq!(client.so_far(), Vec::<Value>::new(), "{text}: one answer, and it goes on");
        client.close(1000);
    }
}

#[test]
fn unknown_types_are_named_and_unknown_fields_ignored() {
    let server = Server::start(&[]);
    let mut client = server.client("anna");
    for kind in ["no_such_thing", "room_state", "ack", "connection_established", "JOIN_ROOM", " heartbeat", "ü😀\"\\"]
    {
        assert_eq!(client.refused("unknown_type", kind, json!({"roomId": "lobby"}))["type"], kind);
    }
    client.send_text(
        r#"{"extra":[{}],"timestamp":{"any":"thing"},"data":{"roomId":"lobby","more":null},"type":"join_room","id":"j","id2":1}"#,
    );
    client.answer("j").unwrap();
    client.send_text(r#"{"id":"h","type":"heartbeat"}"#);
    client.send_text(r#"{"id":"h","type":"heartbeat","data":null,"timestamp":null}"#);
    client.event("heartbeat_response");
    client.event("heartbeat_response");
}

/// R-ENV-3: 32 levels pass, 33 do not.
#[test]
fn json_is_nested_so_deep() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client("anna"), server.client("berta"));
    client.join("lobby");
    other.join("lobby");
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 2), "]".repeat(levels - 2));
        format!(r#"{{"id":"n","type":"broadcast","data":{{"roomId":"lobby","event":"deep","payload":{open}{close}}}}}"#)
    };
    client.send_text(&nested(32));
    assert_eq!(other.event("broadcast")["event"], "deep");
    client.send_text(&nested(33));
    client.send_text(&"[".repeat(60_000));
    client.send_text(&r#"{"a":"#.repeat(10_000));
    for _ in 0..3 {
        assert_eq!(client.event("error")["code"], "invalid_format");
    }
}

/// R-ENV-3: ten in a minute are forgiven, the eleventh is the end.
#[test]
fn too_many_malformed_messages_end_the_connection() {
    let server = Server::start(&[]);
    let mut client = server.client("anna");
    for index in 0..10 {
        client.send_text(if index % 2 == 0 { "{" } else { r#"{"id":"x"}"# });
        assert_eq!(client.event("error")["code"], "invalid_format");
        client.join("lobby");
    }
    client.send_text("{");
    assert_eq!(client.rest(), (vec![], Some(4007)));
    // Before sign-in too.
    let mut stranger = server.stranger();
    (0..11).for_each(|_| stranger.send_text("["));
    let (errors, code) = stranger.rest();
    assert_eq!((errors.len(), code), (10, Some(4007)));
}

/// RFC 6455 sections 5 and 7.4: what a frame must not be, and the code that says so.
#[test]
fn each_breach_of_the_websocket_protocol_has_its_close_code() {
    let server = Server::start(&["limits.connections_per_user=0"]);
    let mut other = server.client("other");
    other.join("lobby");
    let close = |payload: &[u8]| frame(true, 8, payload);
    let unmasked = vec![0x81, 2, b'h', b'i'];
    let with_first_byte = |byte: u8| {
        let mut bytes = text_frame("{}");
        bytes[0] = byte;
        bytes
    };
    for (what, bytes, code) in [
        ("binary", frame(true, 2, b"x"), 1003),
        ("binary in fragments", [frame(false, 2, b"x"), frame(true, 0, b"y")].concat(), 1003),
        ("bad UTF-8", frame(true, 1, b"\xff"), 1007),
        ("a surrogate in UTF-8", frame(true, 1, b"\xed\xa0\x80"), 1007),
        ("UTF-8 that is cut off", frame(true, 1, b"\"\xe2\x82"), 1007),
        ("bad UTF-8 over fragments", [frame(false, 1, b"\xe2"), frame(true, 0, b"\x28\xa1")].concat(), 1007),
        ("too big", frame(true, 1, &[b' '; 65_537]), 1009),
        ("too big over fragments", [frame(false, 1, &[b' '; 40_000]), frame(true, 0, &[b' '; 25_537])].concat(), 1009),
        ("too big, announced only", vec![0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
        ("a length of 64 bits", vec![0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 1002),
        ("unmasked", unmasked, 1002),
        ("RSV1", with_first_byte(0xc1), 1002),
        ("RSV2", with_first_byte(0xa1), 1002),
        ("RSV3", with_first_byte(0x91), 1002),
        ("opcode 3", with_first_byte(0x83), 1002),
        ("opcode 11", with_first_byte(0x8b), 1002),
        ("continuation of nothing", with_first_byte(0x80), 1002),
        ("a message within a message", [frame(false, 1, b"{"), frame(true, 1, b"}")].concat(), 1002),
        ("a fragmented ping", frame(false, 9, b""), 1002),
        ("a long ping", frame(true, 9, &[0; 126]), 1002),
        ("close with half a code", close(&[3]), 1002),
        ("close 1005", close(&1005_u16.to_be_bytes()), 1002),
        ("close 999", close(&999_u16.to_be_bytes()), 1002),
        ("close 5000", close(&5000_u16.to_be_bytes()), 1002),
        ("close with a bad reason", close(&[3, 232, 0xff]), 1007),
    ] {
        let mut client = server.client("anna");
        client.join("lobby");
        client.send_bytes(&bytes);
        // What still comes from the other side is ignored.
        let _ = client.stream().write_all(&text_frame(
            r#"{"id":"late","type":"chat_message","data":{"roomId":"lobby","message":"late"}}"#,
        ));
        assert_eq!(client.closed(), code, "{what}");
    }
    assert_eq!(other.join("lobby")["offset"], 0);
}

#[test]
fn what_is_unusual_but_allowed_works() {
    let server = Server::start(&["limits.commands=0"]);
    let mut client = server.client("anna");
    client.join("lobby");
    let text = r#"{"id":"u","type":"chat_message","data":{"roomId":"lobby","message":"ü€😀"}}"#;
    // In pieces of one byte, with empty fragments and pings in between: split code points and all.
    let mut bytes = Vec::new();
    for (index, byte) in text.bytes().enumerate() {
        bytes.extend(frame(false, if index == 0 { 1 } else { 0 }, &[byte]));
        bytes.extend(frame(false, 0, b""));
        bytes.extend(frame(true, 9, &[byte; 125]));
        bytes.extend(frame(true, 10, b"unasked"));
    }
    bytes.extend(frame(true, 0, b""));
    client.send_bytes(&bytes);
    client.answer("u").unwrap();
    assert_eq!(client.event("chat_message")["message"], "ü€😀");
    // The largest message, and the same in two halves.
    let largest = format!("{}{}", r#"{"id":"h","type":"heartbeat"}"#, " ".repeat(65_536 - 29));
    client.send_text(&largest);
    client.event("heartbeat_response");
    let (one, two) = largest.as_bytes().split_at(30_000);
    client.send_bytes(&[frame(false, 1, one), frame(true, 0, two)].concat());
    client.event("heartbeat_response");
    // A length written longer than it needs to be is refused or understood, but not misread.
    client.send_bytes(&[0x89, 0xfe, 0, 1, 0, 0, 0, 0, b'x']);
    assert_eq!(client.closed(), 1002);
}

#[test]
fn a_ping_is_answered_by_its_own_payload() {
    let server = Server::start(&[]);
    let mut stream = server.tcp();
    let bearer = format!("Bearer {}", server.token("anna"));
    let mut bytes = upgrade_request("/ws", server.port, &[("Authorization", &bearer)]).into_bytes();
    bytes.extend(frame(true, 9, b"are you there?"));
    bytes.extend(frame(true, 8, &[3, 232]));
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let pong = [&[0x8a, 14][..], b"are you there?"].concat();
    let at = answer.windows(pong.len()).position(|window| window == pong).expect("a pong");
    assert_eq!(answer[at + pong.len()..], [0x88, 2, 3, 232], "then the close, echoed, then the end");
}

/// Any JSON in any field: always one answer, never the end (R-SEC-13).
#[test]
fn any_field_may_hold_any_json() {
    let server =
        Server::with_shards(3, &["limits.commands=0", "limits.messages=0", "limits.live=0", "limits.rooms_created=0"]);
    let client = RefCell::new(server.client("anna"));
    let room = json!("lobby");
    let good = [
        ("auth", json!({"token": "x"})),
        ("refresh_token", json!({"token": "x"})),
        ("resume", json!({"sessionId": "x", "resumeToken": "x", "rooms": {"lobby": {"epoch": "x", "offset": 0}}})),
        (
            "join_room",
            json!({"roomId": room, "roomType": "public", "roomToken": null, "recover": {"epoch": "x", "offset": 1}}),
        ),
        ("leave_room", json!({"roomId": room, "permanent": false})),
        (
            "chat_message",
            json!({"roomId": room, "message": "x", "messageType": "text", "metadata": {}, "clientId": null}),
        ),
        ("broadcast", json!({"roomId": room, "event": "x", "payload": 1, "includeSelf": true})),
        ("typing_start", json!({"roomId": room})),
        ("heartbeat", json!({"timestamp": 1})),
        ("activity", json!({})),
        ("get_history", json!({"roomId": room, "before": 5, "after": null, "limit": 5})),
        ("get_online_users", json!({"roomId": room, "cursor": null, "limit": 5})),
        ("get_presence", json!({"userIds": ["anna"]})),
        ("create_room", json!({"roomId": null, "name": "x", "description": "x", "type": "public", "recipientId": "x"})),
        ("invite_member", json!({"roomId": room, "userId": "x"})),
        ("remove_member", json!({"roomId": room, "userId": "x"})),
        ("set_role", json!({"roomId": room, "userId": "x", "role": "member"})),
        ("update_room", json!({"roomId": room, "name": "x", "description": "x", "slowModeSeconds": 0})),
        ("delete_room", json!({"roomId": room})),
    ];
    let fields = good.iter().map(|(_, data)| data.as_object().unwrap().len()).max().unwrap();
    let strategy = (0..good.len(), 0..fields, any_json(), proptest::bool::weighted(0.9));
    runner(400)
        .run(&strategy, |(command, field, value, is_joined)| {
            let mut client = client.borrow_mut();
            if is_joined {
                client.join("lobby");
            }
            client.so_far();
            let (kind, data) = &good[command];
            let mut data = data.clone();
            if let Some((_, slot)) = data.as_object_mut().unwrap().iter_mut().nth(field) {
                *slot = value;
            }
            let id = client.send(kind, data.clone());
            let answers: Vec<Value> = client.so_far();
            // An answer may need the disk or another shard; those that come at once are at most one.
            let own: Vec<_> = answers.iter().filter(|answer| answer["data"]["requestId"] == *id).collect();
            let is_silent = ["heartbeat", "broadcast", "typing_start", "activity"].contains(kind);
            match is_silent {
                true => prop_assert!(own.iter().all(|answer| answer["type"] == "error"), "{kind} {data}: {own:?}"),
                false if own.is_empty() => drop(client.answer(&id)),
                false => prop_assert_eq!(own.len(), 1, "{} {}: {:?}", kind, data, own),
            }
            Ok(())
        })
        .unwrap();
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number).map(Value::from)),
        ".{0,40}".prop_map(Value::from),
        prop_oneof!["lobby", "public", "private", "direct", "owner", "member", "text", "anna"].prop_map(Value::from),
        Just(Value::from("x".repeat(1_000))),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[a-zA-Z_]{0,8}|epoch|offset|roomId", inner, 0..6)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 50, ..Config::default() })
}

/// What a hostile connection does before it goes.
#[derive(Clone, Debug)]
enum Attack {
    /// Instead of a request.
    Bytes(Vec<u8>),
    /// A request that is cut off, or damaged at one place.
    Request { len: usize, damage: Option<(usize, u8)> },
    /// Raw bytes on an open WebSocket, signed in or not.
    Frames { is_signed_in: bool, bytes: Vec<u8> },
    /// A good frame that is cut off or damaged.
    Frame { command: Command, len: usize, damage: Option<(usize, u8)> },
    /// Whole frames of text.
    Texts(Vec<String>),
    /// Commands with anything in them.
    Commands(Vec<Command>),
}

type Command = (String, Value);

fn attack() -> impl Strategy<Value = Attack> {
    let bytes = |max: usize| proptest::collection::vec(any::<u8>(), 0..max);
    let damage = || proptest::option::of((0..300_usize, any::<u8>()));
    let command = || {
        let kinds = prop_oneof![
            "join_room|leave_room|chat_message|broadcast|typing_start|get_history|create_room|update_room|delete_room",
            "invite_member|remove_member|set_role|resume|auth|refresh_token|get_presence|get_online_users|heartbeat",
            ".{1,20}",
        ];
        let names = "roomId|roomType|recover|message|metadata|clientId|event|payload|name|type|userId|role|rooms|userIds|token|limit";
        (kinds, proptest::collection::btree_map(names, any_json(), 0..6))
            .prop_map(|(kind, data)| (kind, Value::from(data.into_iter().collect::<serde_json::Map<_, _>>())))
    };
    let text = prop_oneof![".{0,200}", r#"\{("id"|"type"|"data"|[\{\}\[\]:,"\\ueE0-9.tfn \-]){0,60}\}"#];
    prop_oneof![
        bytes(400).prop_map(Attack::Bytes),
        (0..400_usize, damage()).prop_map(|(len, damage)| Attack::Request { len, damage }),
        (any::<bool>(), bytes(400)).prop_map(|(is_signed_in, bytes)| Attack::Frames { is_signed_in, bytes }),
        (command(), 0..300_usize, damage()).prop_map(|(command, len, damage)| Attack::Frame { command, len, damage }),
        proptest::collection::vec(text, 1..15).prop_map(Attack::Texts),
        proptest::collection::vec(command(), 1..15).prop_map(Attack::Commands),
    ]
}

fn damaged(mut bytes: Vec<u8>, len: usize, damage: Option<(usize, u8)>) -> Vec<u8> {
    bytes.truncate(len);
    if let Some((at, byte)) = damage
        && let Some(place) = bytes.get_mut(at)
    {
        *place = byte;
    }
    bytes
}

fn carry_out(server: &Server, attack: &Attack) {
    let envelope = |(kind, data): &Command| json!({"id": "attack", "type": kind, "data": data}).to_string();
    let write = |bytes: &[u8]| drop(server.tcp().write_all(bytes));
    match attack {
        Attack::Bytes(bytes) => write(bytes),
        Attack::Request { len, damage } => {
            write(&damaged(upgrade_request("/ws", server.port, &[]).into_bytes(), *len, *damage))
        }
        Attack::Frames { is_signed_in: false, bytes } => server.stranger().send_bytes(bytes),
        Attack::Frames { is_signed_in: true, bytes } => server.client("mallory").send_bytes(bytes),
        Attack::Frame { command, len, damage } => {
            server.client("mallory").send_bytes(&damaged(text_frame(&envelope(command)), *len, *damage))
        }
        Attack::Texts(texts) => {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| text_frame(text)).collect();
            server.client("mallory").send_bytes(&bytes);
        }
        Attack::Commands(commands) => {
            let bytes: Vec<u8> = commands.iter().flat_map(|command| text_frame(&envelope(command))).collect();
            server.client("mallory").send_bytes(&bytes);
        }
    }
}

/// The whole barrage at once, while others chat: they notice nothing, and what is stored is what they said.
#[test]
fn a_barrage_touches_nobody_else() {
    let settings = [
        "limits.commands=0",
        "limits.messages=0",
        "limits.rooms_created=0",
        "limits.connections_per_user=0",
        "http.head_timeout_ms=1000",
        "presence.leave_grace_ms=300",
    ];
    let server = Server::with_shards(3, &settings);
    let mut owner = server.client("owner");
    owner.ok("create_room", json!({"roomId": "club", "name": "Club", "type": "private", "description": "ours"}));
    let mut chatters: Vec<Client> = (0..3).map(|n| server.client(&format!("chatter-{n}"))).collect();
    for chatter in &mut chatters {
        let user = chatter.ready["userId"].clone();
        owner.ok("invite_member", json!({"roomId": "club", "userId": user}));
        chatter.join("club");
    }
    let before = owner.join("club");
    const ROUNDS: u64 = 150;
    let barrage_is_over = std::sync::atomic::AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let chat = scope.spawn(|| {
            let mut said = Vec::new();
            let mut round = 0;
            while round < ROUNDS || !barrage_is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let speaker = round as usize % 3;
                let text = format!("message {round}");
                let sent = chatters[speaker].say("club", &text);
                for chatter in &mut chatters {
                    let heard = chatter.event("chat_message");
                    assert_eq!((&heard["message"], &heard["offset"]), (&text.clone().into(), &sent["offset"]));
                }
                said.push((sent["offset"].as_u64().unwrap(), text));
                round += 1;
            }
            said
        });
        let barrage = || {
            runner(300).run(&attack(), |attack| {
                carry_out(&server, &attack);
                Ok(())
            })
        };
        let attacks = scope.spawn(barrage);
        attacks.join().unwrap().unwrap();
        barrage_is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        chat.join().unwrap()
    });
    let first = before["offset"].as_u64().unwrap() + 1;
    assert!(said.iter().map(|(offset, _)| *offset).eq(first..first + said.len() as u64), "no offset is missing");
    let mut stored = Vec::new();
    let mut after = first - 1;
    loop {
        let page = owner.ok("get_history", json!({"roomId": "club", "after": after, "limit": 100}));
        for message in page["messages"].as_array().unwrap() {
            after = message["offset"].as_u64().unwrap();
            stored.push((after, message["message"].as_str().unwrap().to_string()));
        }
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(stored, said);
    let now = owner.join("club");
    assert_eq!((&now["roomInfo"], &now["epoch"]), (&before["roomInfo"], &before["epoch"]));
    assert_eq!((&now["onlineCount"], &now["role"]), (&4.into(), &"owner".into()));
    // The attacks did arrive, at every depth.
    for (name, least) in [
        ("throng_messages_invalid_total", 50.0),
        ("throng_commands_refused_total{code=\"unknown_type\"}", 20.0),
        ("throng_commands_refused_total{code=\"invalid_argument\"}", 20.0),
        ("throng_handshakes_refused_total{reason=\"bad_request\"}", 5.0),
        ("throng_connections_closed_total{code=\"1002\"}", 5.0),
    ] {
        assert!(server.metric(name) >= least, "{name} {}", server.metric(name));
    }
    // Nothing of the attackers stays.
    let all_gone = |_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let stats = server.get("/stats", &[]).json();
        (stats["totalConnections"] == 4 && stats["connectedUsers"] == 4).then_some(())
    };
    assert!((0..200).find_map(all_gone).is_some(), "{}", server.get("/stats", &[]).body);
}
