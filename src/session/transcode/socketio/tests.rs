use super::*;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::{User, UserRef};
use crate::ids::Ulid;
use crate::rooms::event::{Ack, Answer, Event, Snapshot};
use crate::session::encode::{Encoder, Ready, Stamp};
use crate::session::socketio::Offset;
use crate::store::port::{EventKind, EventRow, RoomRow, RoomType};
use crate::wire::tape::tests::any_json;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const STAMP: Stamp = Stamp { id: Ulid(9), unix_ms: 1_700_000_000_000 };
const NATIVE: Encoder<Native> = Encoder { vocabulary: Native, expose_email: false };

fn plain() -> SocketIo {
    SocketIo { namespace: "/".into(), revision: Revision::V4, has_recovery: false, app_events: false }
}

fn app() -> SocketIo {
    SocketIo { app_events: true, ..plain() }
}

fn recovering() -> SocketIo {
    SocketIo { has_recovery: true, ..app() }
}

/// The WebSocket messages that come of a native one: text as it is, binary in brackets.
fn sent(to: &SocketIo, class: Option<Class>, write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let (mut native, mut out) = (Vec::new(), b"before".to_vec());
    write(&mut native);
    to.transcode(&native, class, &mut Scratch::default(), &mut out);
    frames(out.strip_prefix(b"before").expect("appended"))
}

fn frames(mut out: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !out.is_empty() {
        let (frame, rest) = out.split_at(ws::frame_len(out).expect("whole frames"));
        messages.push(match frame[0] & 15 {
            1 => str::from_utf8(ws::payload(frame)).expect("UTF-8").to_owned(),
            _ => format!("{:?}", ws::payload(frame)),
        });
        out = rest;
    }
    messages
}

fn event(to: &SocketIo, class: Class, event: &Event<'_>) -> Vec<String> {
    sent(to, Some(class), |out| NATIVE.event(out, STAMP, "lobby", event))
}

/// The arguments of the one event in the one message.
fn arguments(messages: &[String]) -> Json {
    let [message] = messages else { panic!("{messages:?}") };
    serde_json::from_str(message.strip_prefix("42").expect("an event in /")).expect("JSON")
}

fn anna() -> UserRef {
    UserRef::new(User::new("anna", None))
}

fn row(body: &str) -> EventRow {
    EventRow {
        offset: 17,
        kind: EventKind::Message,
        id: Ulid(7),
        user_id: "anna".into(),
        user_email: None,
        client_id: None,
        body: body.into(),
        detail: Some(r#"{"offset":1,"roomId":"x","epoch":"y"}"#.into()),
        at_ms: 5,
    }
}

fn room() -> RoomRow {
    RoomRow {
        pk: 1,
        id: "lobby".into(),
        kind: RoomType::Public,
        name: "Lobby".into(),
        description: r#","events":["#.into(),
        created_at_ms: 1,
        slow_mode_s: 0,
        epoch: "ep".into(),
        last_offset: 18,
        member_count: 0,
    }
}

#[test]
fn events_have_their_socket_io_names() {
    let (user, row) = (anna(), row("hi"));
    let message = arguments(&event(&plain(), Class::Durable, &Event::Durable { epoch: "ep", row: &row }));
    assert_eq!(
        (&message[0], &message[1]["message"], message.as_array().unwrap().len()),
        (&json!("new_message"), &json!("hi"), 2)
    );
    assert!(message[1].get("clientId").is_none());
    let typing = Event::Typing { user: &user, is_typing: true, timestamp_ms: 5 };
    let expected = json!(["user_typing", {"roomId": "lobby", "userId": "anna", "isTyping": true, "timestamp": 5}]);
    assert_eq!(arguments(&event(&plain(), Class::Live, &typing)), expected);
    let joined = Event::Joined { user: &user, timestamp_ms: 5 };
    assert_eq!(arguments(&event(&plain(), Class::Live, &joined))[0], "user_joined");
    let closing = sent(&plain(), None, |out| NATIVE.server_closing(out, STAMP, 0, 10_000));
    assert_eq!(arguments(&closing), json!(["server_closing", {"retryMinMs": 0, "retryMaxMs": 10_000}]));
    let named = SocketIo { namespace: "/admin".into(), ..plain() };
    let beat = sent(&named, None, |out| NATIVE.heartbeat(out, STAMP, Some(3)));
    assert_eq!(beat, [r#"42/admin,["heartbeat_response",{"timestamp":1700000000000,"clientTimestamp":3}]"#]);
}

#[test]
fn connection_established_answers_the_connect() {
    let ready = Ready {
        connection_id: Ulid(1),
        session_id: Ulid(2),
        resume_token: "tok-en_",
        user_id: "anna",
        expires_at_ms: 77,
        heartbeat_ms: 30_000,
    };
    for (to, head) in [
        (plain(), r#"40{"sid":"sess_00000000000000000000000002"}"#),
        (
            recovering(),
            r#"40{"sid":"sess_00000000000000000000000002","pid":"sess_00000000000000000000000002.tok-en_"}"#,
        ),
        (SocketIo { revision: Revision::V3, ..plain() }, "40"),
    ] {
        let messages = sent(&to, None, |out| NATIVE.ready(out, STAMP, &ready));
        assert_eq!((messages.len(), &*messages[0]), (2, head));
        let event = arguments(&messages[1..]);
        assert_eq!((&event[0], &event[1]["userId"]), (&json!("connection_established"), &json!("anna")));
    }
}

/// R-SIO-2.
#[test]
fn acks_go_to_who_waits_for_them() {
    let acked = |request: &str| {
        let ack = Ack::Sent { id: Ulid(7), offset: 3, epoch: "ep", timestamp_ms: 5, is_duplicate: false };
        sent(&plain(), None, |out| NATIVE.ack(out, STAMP, request, "lobby", &ack))
    };
    let result =
        r#"{"messageId":"msg_00000000000000000000000007","offset":3,"epoch":"ep","timestamp":5,"duplicate":false}"#;
    assert_eq!(acked("~12"), [format!(r#"4312[{{"ok":true,"result":{result}}}]"#)]);
    assert_eq!(acked("~"), [""; 0]);
    let named = SocketIo { namespace: "/admin".into(), ..plain() };
    let done = sent(&named, None, |out| NATIVE.ack(out, STAMP, "~0", "lobby", &Ack::Done));
    assert_eq!(done, [r#"43/admin,0[{"ok":true,"result":{}}]"#]);
}

#[test]
fn errors_go_to_the_ack_or_become_an_event() {
    let error = |request: Option<&str>, kind: Option<&str>, refusal: Refusal| {
        sent(&plain(), None, |out| NATIVE.error(out, STAMP, request, kind, &refusal))
    };
    let denied = r#"{"code":"access_denied","message":"Access denied to room","retryable":false}"#;
    assert_eq!(
        error(Some("~5"), None, Code::AccessDenied.into()),
        [format!(r#"435[{{"ok":false,"error":{denied}}}]"#)]
    );
    for request in [Some("~"), None] {
        assert_eq!(error(request, None, Code::AccessDenied.into()), [format!(r#"42["error",{denied}]"#)]);
    }
    // Whatever the client called it.
    let kind = r#"x","requestId":"~7"#;
    let unknown = arguments(&error(Some("~"), Some(kind), Code::UnknownType.into()));
    assert_eq!((&unknown[0], &unknown[1]["type"]), (&json!("error"), &json!(kind)));
    let limited = error(Some("~1"), None, Refusal::after_ms(Code::RateLimited, 250));
    assert!(limited[0].ends_with(r#""retryable":true,"retryAfterMs":250}}]"#), "{limited:?}");
}

fn live(to: &SocketIo, name: &str, payload: &str) -> Vec<String> {
    let user = anna();
    event(to, Class::Live, &Event::Broadcast { user: &user, event: name, payload, timestamp_ms: 5 })
}

#[test]
fn live_events_of_an_application_have_their_own_names_and_arguments() {
    for (name, payload, expected) in [
        ("moved", r#"[1,"two",{"x":[]}]"#, json!(["moved", 1, "two", {"x": []}])),
        ("moved", "[]", json!(["moved"])),
        ("moved", r#"{"x":1}"#, json!(["moved", {"x": 1}])),
        ("moved", "null", json!(["moved", null])),
        ("a\"\n", "[[]]", json!(["a\"\n", []])),
    ] {
        assert_eq!(arguments(&live(&app(), name, payload)), expected, "{name} {payload}");
        let wrapped = arguments(&live(&plain(), name, payload));
        let payload: Json = serde_json::from_str(payload).unwrap();
        let data = json!({"roomId": "lobby", "userId": "anna", "event": name, "payload": payload, "timestamp": 5});
        assert_eq!(wrapped, json!(["broadcast", data]));
    }
}

/// A client must not make others believe that the server, or their own library, says something.
#[test]
fn names_of_the_server_are_not_to_be_had() {
    let names = [
        "new_message",
        "chat_message",
        "room_joined",
        "room_state",
        "error",
        "connect",
        "disconnect",
        "user_left",
        "connection_established",
    ];
    for name in names {
        assert_eq!(arguments(&live(&app(), name, "[1]"))[0], "broadcast", "{name}");
    }
}

#[test]
fn binary_becomes_attachments() {
    let payload = r#"[{"a":{"$binary":"AQI="}},{"$binary":""}]"#;
    let head = r#"452-["shot",{"a":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":1}]"#;
    assert_eq!(live(&app(), "shot", payload), [head, "[1, 2]", "[]"]);
    let old = SocketIo { revision: Revision::V3, ..app() };
    assert_eq!(live(&old, "shot", payload), [head, "[4, 1, 2]", "[4]"]);
    let wrapped = live(&plain(), "shot", payload);
    assert!(wrapped[0].starts_with(r#"452-["broadcast",{"#) && wrapped.len() == 3);
}

fn question(to: &SocketIo, name: &str, payload: &str) -> Vec<String> {
    let user = anna();
    event(to, Class::Live, &Event::Question { user: &user, event: name, payload, ask_id: 259, timestamp_ms: 5 })
}

/// R-SIO-2: one packet for all that are asked, whose acks bring its id back.
#[test]
fn questions_have_an_ack_id() {
    assert_eq!(question(&app(), "vote", r#"[1,"x"]"#), [r#"42259["vote",1,"x"]"#]);
    assert_eq!(question(&recovering(), "vote", r#"["x"]"#), [r#"42259["vote","x"]"#], "no offset before the callback");
    let named = SocketIo { namespace: "/admin".into(), ..app() };
    assert_eq!(question(&named, "vote", "[]"), [r#"42/admin,259["vote"]"#]);
    let data = |event: &str| {
        format!(
            r#"{{"roomId":"lobby","userId":"anna","event":"{event}","payload":{{"askId":1}},"askId":259,"timestamp":5}}"#
        )
    };
    let payload = r#"{"askId":1}"#;
    assert_eq!(question(&plain(), "vote", payload), [format!(r#"42259["question",{}]"#, data("vote"))]);
    // Who defines events hears none of the name `question` from the server, so that it is free for them.
    assert_eq!(question(&app(), "error", payload), [format!(r#"42259["broadcast",{}]"#, data("error"))]);
    assert_eq!(arguments(&live(&app(), "question", "[1]")), json!(["question", 1]));
    let binary = question(&app(), "vote", r#"[{"$binary":"AQI="}]"#);
    assert_eq!(binary, [r#"451-259["vote",{"_placeholder":true,"num":0}]"#, "[1, 2]"]);
}

#[test]
fn answers_bring_binary_as_attachments() {
    let user = anna();
    let acked = |payloads: &[&str]| {
        let answers: Vec<Answer> =
            payloads.iter().map(|payload| Answer { user: user.clone(), payload: (*payload).into() }).collect();
        let asked = answers.len() as u64;
        let ack = Ack::Asked { ask_id: 259, asked, answers: &answers, dropped: 0, is_complete: true };
        sent(&plain(), None, |out| NATIVE.ack(out, STAMP, "~7", "lobby", &ack))
    };
    let packet = |head: &str, payload: &str| {
        let answers = format!(r#"[{{"userId":"anna","payload":{payload}}}]"#);
        let result = format!(r#"{{"askId":259,"asked":1,"answers":{answers},"dropped":0,"isComplete":true}}"#);
        format!(r#"{head}[{{"ok":true,"result":{result}}}]"#)
    };
    assert_eq!(acked(&["[1]"]), [packet("437", "[1]")]);
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    assert_eq!(acked(&[r#"{"$binary":"AQI="}"#]), [&*packet("461-7", placeholder), "[1, 2]"]);
    // More than receivers take stay what they are.
    let many = acked(&[r#"{"$binary":"AQI="}"#; ATTACHMENTS_MAX + 1]);
    assert!(many.len() == 1 && many[0].starts_with("437[") && many[0].contains("$binary"));
}

/// So that nothing goes between them when a send stops half-way.
#[test]
fn a_packet_and_its_attachments_are_one_piece() {
    let user = anna();
    let mut out = Vec::new();
    let mut lens = Vec::new();
    for payload in [r#"[{"$binary":"AQI="},{"$binary":""}]"#, "[45]"] {
        let (mut native, start) = (Vec::new(), out.len());
        let event = Event::Broadcast { user: &user, event: "45", payload, timestamp_ms: 5 };
        NATIVE.event(&mut native, STAMP, "lobby", &event);
        app().transcode(&native, Some(Class::Live), &mut Scratch::default(), &mut out);
        lens.push(out.len() - start);
    }
    assert_eq!(SocketIo::frame_len(&out), Some(lens[0]));
    assert_eq!(SocketIo::frame_len(&out[lens[0]..]), Some(lens[1]));
    assert_eq!(SocketIo::frame_len(&[0x89, 0]), Some(2));
    for cut in 0..lens[0] {
        assert!(SocketIo::frame_len(&out[..cut]).is_none_or(|len| len >= cut), "{cut}");
    }
}

/// The text of the offset at the end of an event.
fn offset_of(arguments: &Json) -> Option<Offset<'_>> {
    Offset::parse(arguments.as_array()?.last()?.as_str()?)
}

/// R-REC-3; points 2 and 3 of what clients of connection state recovery do.
#[test]
fn with_recovery_durable_events_have_an_offset_and_no_text_stands_last_without_one() {
    let row = row("hi");
    let durable = Event::Durable { epoch: "ep", row: &row };
    let message = arguments(&event(&recovering(), Class::Durable, &durable));
    assert_eq!(message[2], "1700000000000.17.ep.lobby");
    let (room, position) = offset_of(&message).unwrap().at.unwrap();
    assert_eq!((room, position.epoch, position.offset), ("lobby", "ep", 17));
    let added = EventRow { kind: EventKind::MemberAdded, detail: None, body: "".into(), ..row };
    let added = arguments(&event(&recovering(), Class::Durable, &Event::Durable { epoch: "ep", row: &added }));
    assert_eq!((&added[0], &added[2]), (&json!("member_added"), &message[2]));
    for (payload, is_text) in
        [("[1]", false), ("[]", false), (r#"["a","b"]"#, true), (r#""x""#, true), (r#"[{"a":"b"}]"#, false)]
    {
        let arguments = arguments(&live(&recovering(), "moved", payload));
        let expected = is_text.then_some(Offset { unix_ms: STAMP.unix_ms, at: None });
        assert_eq!(offset_of(&arguments), expected, "{payload}");
    }
    assert_eq!(arguments(&live(&app(), "moved", r#"["a"]"#)), json!(["moved", "a"]));
}

#[test]
fn snapshots_name_what_was_missed_as_clients_know_it() {
    let (room, missed, other) = (room(), row("hi"), row(""));
    let other = EventRow { kind: EventKind::RoomUpdated, detail: Some(r#"{"name":"n"}"#.into()), ..other };
    let snapshot = |recovered| Snapshot {
        row: &room,
        recent: vec![],
        recovered,
        events: vec![&missed, &other],
        online: vec![],
        online_count: 0,
        role: None,
        offset: 18,
        timestamp_ms: 5,
    };
    let messages = |recovered| event(&plain(), Class::Live, &Event::Snapshot(&snapshot(recovered)));
    let joined = arguments(&messages(Some(true)));
    assert_eq!(joined[0], "room_joined");
    assert_eq!(
        (&joined[1]["events"][0]["type"], &joined[1]["events"][1]["type"]),
        (&json!("new_message"), &json!("room_updated"))
    );
    assert_eq!(joined[1]["events"][0]["data"]["message"], "hi");
    assert_eq!(joined[1]["roomInfo"]["description"], r#","events":["#);
    // Where the room stands, as the offset of what is to be recovered from.
    let bearing = arguments(&event(&recovering(), Class::Live, &Event::Snapshot(&snapshot(None))));
    let at =
        offset_of(&bearing).and_then(|offset| offset.at.map(|(room, position)| (room.to_owned(), position.offset)));
    assert_eq!(at, Some((room.id.to_string(), 18)));
    let plain = arguments(&messages(None));
    assert_eq!((plain[1].get("events"), &plain[1]["recentMessages"]), (None, &json!([])));
}

/// With `sio.app_events` everyone is in the room of the namespace; only what somebody says there is told.
#[test]
fn the_room_of_a_namespace_is_not_seen() {
    let user = anna();
    let told = |to: &SocketIo, room: &str, event: &Event<'_>| {
        sent(to, Some(Class::Live), |out| NATIVE.event(out, STAMP, room, event)).len()
    };
    let joined = Event::Joined { user: &user, timestamp_ms: 5 };
    let row = row("hi");
    assert_eq!([told(&app(), "ns:", &joined), told(&app(), "ns:admin", &joined)], [0, 0]);
    assert_eq!([told(&app(), "lobby", &joined), told(&plain(), "ns:", &joined)], [1, 1]);
    let shout = Event::Broadcast { user: &user, event: "x", payload: "[]", timestamp_ms: 5 };
    assert_eq!(told(&app(), "ns:", &shout), 1);
    assert_eq!(told(&app(), "ns:", &Event::Durable { epoch: "ep", row: &row }), 1);
}

/// R-SIO-2.
#[test]
fn terminal_codes_disconnect_and_the_others_drop_the_transport() {
    for code in CloseCode::ALL {
        let mut out = Vec::new();
        let is_terminal = code.number() < 4_100 && code != CloseCode::Internal;
        assert_eq!(plain().part(code, &mut Scratch::default(), &mut out), is_terminal, "{code:?}");
        let messages = frames(&out);
        if !is_terminal {
            assert!(messages.is_empty());
        } else if code == CloseCode::Normal {
            assert_eq!(messages, ["41"]);
        } else {
            assert_eq!((messages.len(), &*messages[1]), (2, "41"));
            let error = arguments(&messages[..1]);
            assert_eq!((&error[0], &error[1]["closeCode"]), (&json!("error"), &json!(code.number())));
            assert_eq!(error[1]["retryable"], false);
        }
    }
    let mut out = Vec::new();
    plain().refuse(CloseCode::AuthFailed, &mut Scratch::default(), &mut out);
    let data = r#"{"code":"auth_failed","message":"Authentication failed","retryable":false,"closeCode":4002}"#;
    assert_eq!(frames(&out), [format!(r#"44{{"message":"Authentication failed","data":{data}}}"#)]);
}

/// A kind that is missing in `Kind::ALL` could be forged.
#[test]
fn all_kinds_are_listed() {
    let source = include_str!("../../encode.rs");
    let body = source.split("pub enum Kind {").nth(1).and_then(|rest| rest.split('}').next()).expect("the enum");
    let count = body.lines().filter(|line| line.trim().ends_with(',')).count();
    assert_eq!(Kind::ALL.len(), count);
}

proptest! {
    /// R-SEC-13: whatever texts and payloads there are, receivers get valid packets that say the same.
    #[test]
    fn any_live_event(name in ".{1,20}", payload in any_json(), has_recovery: bool) {
        let to = SocketIo { has_recovery, ..app() };
        let compact = payload.to_string();
        let messages = live(&to, &name, &compact);
        prop_assume!(messages.len() == 1);
        let arguments = arguments(&messages);
        if arguments[0] != "broadcast" {
            prop_assert_eq!(&arguments[0], &json!(name));
            let mut expected = match payload {
                Json::Array(items) => items,
                other => vec![other],
            };
            expected.insert(0, json!(name));
            if has_recovery && expected.len() > 1 && expected.last().unwrap().is_string() {
                expected.push(json!(STAMP.unix_ms.to_string()));
            }
            prop_assert_eq!(arguments, Json::Array(expected));
        }
    }

    /// R-SEC-13: a text of any user in any place.
    #[test]
    fn any_message(body: String, request in "~[0-9]{0,16}") {
        let row = row(&body);
        let message = arguments(&event(&recovering(), Class::Durable, &Event::Durable { epoch: "ep", row: &row }));
        prop_assert_eq!(&message[1]["message"], &json!(body));
        prop_assert_eq!(&message[2], "1700000000000.17.ep.lobby");
        let error = sent(&plain(), None, |out| NATIVE.error(out, STAMP, Some(&request), Some(&body), &Code::UnknownType.into()));
        prop_assert_eq!(error.len(), 1);
        prop_assert_eq!(error[0].starts_with("43"), request != "~");
    }
}
