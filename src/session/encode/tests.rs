use super::*;
use crate::base::refusal::Code;
use crate::base::user::{User, UserRef};
use crate::rooms::event::{Ack, Answer, Event, OnlineUser, Snapshot, Status};
use crate::store::port::{EventKind, EventRow, Role, RoomRow, RoomType};
use crate::wire::tape::tests::any_json;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const ID: Ulid = Ulid(7);
const ID_TEXT: &str = "00000000000000000000000007";
const STAMP: Stamp = Stamp { id: Ulid(9), unix_ms: 1_700_000_000_000 };
const PRIVATE: Encoder<Native> = Encoder { vocabulary: Native, expose_email: false };
const OPEN: Encoder<Native> = Encoder { vocabulary: Native, expose_email: true };

/// The data of the one message that `write` appends, after a look at its envelope.
fn data_of(kind: &str, write: impl FnOnce(&mut Vec<u8>)) -> Json {
    let mut out = b"before".to_vec();
    write(&mut out);
    let message: Json = serde_json::from_slice(out.strip_prefix(b"before").expect("appended")).expect("valid JSON");
    let data = message["data"].clone();
    let expected =
        json!({"id": "evt_00000000000000000000000009", "type": kind, "data": data, "timestamp": STAMP.unix_ms});
    assert_eq!(message, expected);
    data
}

fn event(encoder: Encoder<Native>, kind: &str, event: &Event<'_>) -> Json {
    data_of(kind, |out| encoder.event(out, STAMP, "lobby", event))
}

fn result_of(write: impl FnOnce(&mut Vec<u8>)) -> Json {
    let data = data_of("ack", write);
    assert_eq!(data, json!({"requestId": "req \"1\"", "result": data["result"]}));
    data["result"].clone()
}

fn ack(encoder: Encoder<Native>, ack: &Ack<'_>) -> Json {
    result_of(|out| encoder.ack(out, STAMP, "req \"1\"", "lobby", ack))
}

fn anna() -> UserRef {
    UserRef::new(User::new("anna \"a\"", Some("anna@example.org")))
}

fn message() -> EventRow {
    EventRow {
        offset: 42,
        kind: EventKind::Message,
        id: ID,
        user_id: "anna \"a\"".into(),
        user_email: Some("anna@example.org".into()),
        client_id: Some("c\n1".into()),
        body: "hi \\ there\u{1}".into(),
        detail: Some(r#"{"x":[1]}"#.into()),
        at_ms: 1234,
    }
}

fn message_json() -> Json {
    json!({"id": format!("msg_{ID_TEXT}"), "roomId": "lobby", "userId": "anna \"a\"", "message": "hi \\ there\u{1}",
        "messageType": "text", "metadata": {"x": [1]}, "timestamp": 1234, "edited": false, "reactions": {},
        "reactionCounts": {}, "offset": 42, "epoch": "ep", "clientId": "c\n1", "deleted": false})
}

fn change(kind: EventKind, detail: Option<&str>) -> EventRow {
    EventRow { kind, user_email: None, client_id: None, body: "".into(), detail: detail.map(Into::into), ..message() }
}

fn room() -> RoomRow {
    RoomRow {
        pk: 1,
        id: "lobby".into(),
        kind: RoomType::Private,
        name: "The \"Lobby\"".into(),
        description: "".into(),
        created_at_ms: 99,
        slow_mode_s: 5,
        epoch: "ep".into(),
        last_offset: 43,
        member_count: 2,
    }
}

fn room_json() -> Json {
    json!({"id": "lobby", "name": "The \"Lobby\"", "description": "", "createdAt": 99, "memberCount": 2,
        "type": "private", "slowModeSeconds": 5})
}

fn with(mut object: Json, key: &str, value: Json) -> Json {
    object[key] = value;
    object
}

#[test]
fn chat_messages() {
    let row = message();
    let durable = Event::Durable { epoch: "ep", row: &row };
    assert_eq!(event(PRIVATE, "chat_message", &durable), message_json());
    let shown = with(message_json(), "userEmail", json!("anna@example.org"));
    assert_eq!(event(OPEN, "chat_message", &durable), shown);

    let row = EventRow { client_id: None, detail: None, user_email: None, ..message() };
    let mut bare = with(message_json(), "metadata", json!({}));
    bare.as_object_mut().unwrap().remove("clientId");
    assert_eq!(event(OPEN, "chat_message", &Event::Durable { epoch: "ep", row: &row }), bare);
}

#[test]
fn changes_of_members_and_room() {
    let head = json!({"roomId": "lobby", "offset": 42, "epoch": "ep", "userId": "anna \"a\"", "timestamp": 1234});
    for (kind, name) in [
        (EventKind::MemberAdded, "member_added"),
        (EventKind::MemberRemoved, "member_removed"),
        (EventKind::RoleChanged, "role_changed"),
        (EventKind::RoomUpdated, "room_updated"),
    ] {
        for (detail, expected) in [
            (None, head.clone()),
            (Some("{}"), head.clone()),
            (Some(r#"{"role":"owner","room":{"userId":1}}"#), {
                with(with(head.clone(), "role", json!("owner")), "room", json!({"userId": 1}))
            }),
            // The detail's word stands, and no key comes twice.
            (Some(r#"{"userId":"bob","timestamp":7}"#), {
                with(with(head.clone(), "userId", json!("bob")), "timestamp", json!(7))
            }),
            (Some("no JSON"), head.clone()),
            (Some("[1]"), head.clone()),
        ] {
            let row = change(kind, detail);
            let durable = Event::Durable { epoch: "ep", row: &row };
            assert_eq!(event(OPEN, name, &durable), expected, "{detail:?}");
            let mut out = Vec::new();
            OPEN.event(&mut out, STAMP, "lobby", &durable);
            let nested = usize::from(detail.is_some_and(|detail| detail.contains("room")));
            assert_eq!(String::from_utf8(out).unwrap().matches("\"userId\":").count(), 1 + nested);
        }
    }
}

#[test]
fn live_events() {
    let user = anna();
    let came = json!({"roomId": "lobby", "userId": "anna \"a\"", "timestamp": 5});
    let email = json!("anna@example.org");
    let joined = Event::Joined { user: &user, timestamp_ms: 5 };
    assert_eq!(event(PRIVATE, "user_joined", &joined), came);
    assert_eq!(event(OPEN, "user_joined", &joined), with(came.clone(), "userEmail", email.clone()));
    let left = Event::Left { user: &user, timestamp_ms: 5 };
    assert_eq!(event(PRIVATE, "user_left", &left), came);
    assert_eq!(event(OPEN, "user_left", &left), with(came.clone(), "userEmail", email.clone()));
    let nameless = User::new("bob", None);
    let joined = Event::Joined { user: &nameless, timestamp_ms: 5 };
    assert_eq!(event(OPEN, "user_joined", &joined), with(came.clone(), "userId", json!("bob")));

    for is_typing in [true, false] {
        let typing = Event::Typing { user: &user, is_typing, timestamp_ms: 5 };
        let expected = with(came.clone(), "isTyping", json!(is_typing));
        assert_eq!(event(PRIVATE, "typing_indicator", &typing), expected);
        assert_eq!(event(OPEN, "typing_indicator", &typing), with(expected, "userEmail", email.clone()));
    }

    let live = Event::Broadcast { user: &user, event: "move\t", payload: r#"{"x":[1,null]}"#, timestamp_ms: 5 };
    let expected = with(with(came, "event", json!("move\t")), "payload", json!({"x": [1, null]}));
    assert_eq!(event(OPEN, "broadcast", &live), expected);
    let question =
        Event::Question { user: &user, event: "move\t", payload: r#"{"x":[1,null]}"#, ask_id: 259, timestamp_ms: 5 };
    assert_eq!(event(OPEN, "question", &question), with(expected, "askId", json!(259)));

    let occupancy = Event::Occupancy { online: 2000, members: 3 };
    assert_eq!(event(OPEN, "room_occupancy", &occupancy), json!({"roomId": "lobby", "online": 2000, "members": 3}));
    let closed = Event::Closed { reason: "removed" };
    assert_eq!(event(OPEN, "room_closed", &closed), json!({"roomId": "lobby", "reason": "removed"}));
}

#[test]
fn snapshots() {
    let (row, user, chat, added) = (room(), anna(), message(), change(EventKind::MemberAdded, None));
    let mut snapshot = Snapshot {
        row: &row,
        recent: vec![&chat],
        recovered: None,
        events: vec![],
        online: vec![OnlineUser { user: &user, status: Status::Idle, last_activity_ms: 8 }],
        online_count: 300,
        role: Some(Role::Moderator),
        offset: 43,
        timestamp_ms: 17,
    };
    let online = json!({"userId": "anna \"a\"", "status": "idle", "lastActivity": 8});
    let plain = json!({"roomId": "lobby", "roomInfo": room_json(), "recentMessages": [message_json()],
        "users": ["anna \"a\""], "onlineUsers": [online], "onlineCount": 300, "role": "moderator",
        "epoch": "ep", "offset": 43, "timestamp": 17});
    assert_eq!(event(PRIVATE, "room_state", &Event::Snapshot(&snapshot)), plain);
    let email = json!("anna@example.org");
    let shown = event(OPEN, "room_state", &Event::Snapshot(&snapshot));
    assert_eq!(shown["onlineUsers"], json!([with(online, "userEmail", email.clone())]));
    assert_eq!(shown["recentMessages"], json!([with(message_json(), "userEmail", email)]));

    // R-REC-1: asked for recovery, and it could not be had.
    snapshot.recovered = Some(false);
    assert_eq!(
        event(PRIVATE, "room_state", &Event::Snapshot(&snapshot)),
        with(plain.clone(), "recovered", json!(false))
    );

    // R-REC-1: recovered; the events stand instead of the messages, and each says what it is.
    (snapshot.recovered, snapshot.recent, snapshot.events, snapshot.role) =
        (Some(true), vec![], vec![&chat, &added], None);
    let head = json!({"roomId": "lobby", "offset": 42, "epoch": "ep", "userId": "anna \"a\"", "timestamp": 1234});
    let events = json!([{"type": "chat_message", "data": message_json()}, {"type": "member_added", "data": head}]);
    let mut expected = with(with(with(plain, "recovered", json!(true)), "events", events.clone()), "role", json!(null));
    expected.as_object_mut().unwrap().remove("recentMessages");
    assert_eq!(event(PRIVATE, "room_state", &Event::Snapshot(&snapshot)), expected);

    // R-REC-2: the same, as part of a resume.
    let part = |part: Option<&Snapshot<'_>>| {
        let mut out = Vec::new();
        PRIVATE.resume_part(&mut out, "lobby", part);
        out
    };
    let read = |bytes: &[u8]| serde_json::from_slice::<Json>(bytes).expect("valid JSON");
    let recovered = part(Some(&snapshot));
    let expected = json!({"roomId": "lobby", "recovered": true, "epoch": "ep", "offset": 43, "events": events});
    assert_eq!(read(&recovered), expected);
    snapshot.recovered = Some(false);
    snapshot.events.clear();
    let expected = json!({"roomId": "lobby", "recovered": false, "epoch": "ep", "offset": 43, "events": []});
    assert_eq!(read(&part(Some(&snapshot))), expected);
    let refused = part(None);
    let expected = json!({"roomId": "lobby", "recovered": false, "epoch": null, "offset": null, "events": []});
    assert_eq!(read(&refused), expected);

    let resumed = Resumed { connection_id: ID, resume_token: "to/ken" };
    for parts in [vec![], vec![&recovered], vec![&recovered, &refused]] {
        let rooms: Vec<Json> = parts.iter().map(|part| read(part)).collect();
        let result = result_of(|out| PRIVATE.resumed(out, STAMP, "req \"1\"", &resumed, parts));
        let connection = format!("conn_{ID_TEXT}");
        assert_eq!(result, json!({"connectionId": connection, "resumeToken": "to/ken", "rooms": rooms}));
    }
}

#[test]
fn acks_of_room_commands() {
    let (row, user) = (room(), anna());
    assert_eq!(ack(OPEN, &Ack::Done), json!({}));
    assert_eq!(ack(OPEN, &Ack::Joined { role: Some(Role::Owner) }), json!({"role": "owner"}));
    assert_eq!(ack(OPEN, &Ack::Joined { role: None }), json!({"role": null}));
    assert_eq!(ack(OPEN, &Ack::Room(&row)), room_json());
    let sent = Ack::Sent { id: ID, offset: 42, epoch: "ep", timestamp_ms: 5, is_duplicate: true };
    let message_id = format!("msg_{ID_TEXT}");
    let expected = json!({"messageId": message_id, "offset": 42, "epoch": "ep", "timestamp": 5, "duplicate": true});
    assert_eq!(ack(OPEN, &sent), expected);

    let answers = [("anna", "[1]"), ("b\"b", "null")]
        .map(|(user, payload)| Answer { user: UserRef::new(User::new(user, None)), payload: payload.into() });
    let asked = Ack::Asked { ask_id: 259, asked: 4, answers: &answers, dropped: 1, is_complete: false };
    let expected = json!({"askId": 259, "asked": 4, "dropped": 1, "isComplete": false,
        "answers": [{"userId": "anna", "payload": [1]}, {"userId": "b\"b", "payload": null}]});
    assert_eq!(ack(OPEN, &asked), expected);

    let rows = [message(), EventRow { offset: 43, ..message() }];
    let history = Ack::History { epoch: "ep", rows: &rows, has_more: true };
    let messages = json!([message_json(), with(message_json(), "offset", json!(43))]);
    assert_eq!(ack(PRIVATE, &history), json!({"messages": messages, "hasMore": true, "epoch": "ep"}));
    assert_eq!(ack(OPEN, &history)["messages"][1]["userEmail"], "anna@example.org");
    let history = Ack::History { epoch: "ep", rows: &[], has_more: false };
    assert_eq!(ack(PRIVATE, &history), json!({"messages": [], "hasMore": false, "epoch": "ep"}));

    let users = [OnlineUser { user: &user, status: Status::Online, last_activity_ms: 8 }];
    let page = Ack::OnlineUsers { users: &users, next_cursor: Some("anna"), online_count: 2 };
    let online = json!([{"userId": "anna \"a\"", "status": "online", "lastActivity": 8}]);
    let expected = json!({"onlineUsers": online, "nextCursor": "anna", "onlineCount": 2});
    assert_eq!(ack(PRIVATE, &page), expected);
    let page = Ack::OnlineUsers { users: &[], next_cursor: None, online_count: 0 };
    assert_eq!(ack(PRIVATE, &page), json!({"onlineUsers": [], "onlineCount": 0}));
}

#[test]
fn acks_of_the_connection() {
    let request = "req \"1\"";
    let signed_in = result_of(|out| OPEN.signed_in(out, STAMP, request, "anna", 77));
    assert_eq!(signed_in, json!({"userId": "anna", "expiresAt": 77}));
    assert_eq!(result_of(|out| OPEN.refreshed(out, STAMP, request, 78)), json!({"expiresAt": 78}));
    let users = [
        PresenceEntry { user_id: "anna", status: Status::Idle, last_activity_ms: Some(5) },
        PresenceEntry { user_id: "b\"b", status: Status::Offline, last_activity_ms: None },
    ];
    let expected = json!({"users": [{"userId": "anna", "status": "idle", "lastActivity": 5},
        {"userId": "b\"b", "status": "offline"}]});
    assert_eq!(result_of(|out| OPEN.presence(out, STAMP, request, users)), expected);
}

#[test]
fn messages_about_the_connection() {
    let ready = Ready {
        connection_id: ID,
        session_id: Ulid(8),
        resume_token: "t",
        user_id: "anna",
        expires_at_ms: 77,
        heartbeat_ms: 30_000,
    };
    let expected = json!({"connectionId": format!("conn_{ID_TEXT}"), "sessionId": "sess_00000000000000000000000008",
        "resumeToken": "t", "userId": "anna", "expiresAt": 77, "heartbeatMs": 30_000, "timestamp": STAMP.unix_ms});
    assert_eq!(data_of("connection_established", |out| OPEN.ready(out, STAMP, &ready)), expected);
    let beat = |client| data_of("heartbeat_response", |out| OPEN.heartbeat(out, STAMP, client));
    assert_eq!(beat(None), json!({"timestamp": STAMP.unix_ms}));
    assert_eq!(beat(Some(3)), json!({"timestamp": STAMP.unix_ms, "clientTimestamp": 3}));
    let expiring = data_of("token_expiring", |out| OPEN.token_expiring(out, STAMP, 77));
    assert_eq!(expiring, json!({"expiresAt": 77}));
    let closing = data_of("server_closing", |out| OPEN.server_closing(out, STAMP, 0, 10_000));
    assert_eq!(closing, json!({"retryMinMs": 0, "retryMaxMs": 10_000}));
}

#[test]
fn errors_carry_what_is_known() {
    let error = |request, kind, refusal| data_of("error", |out| OPEN.error(out, STAMP, request, kind, &refusal));
    assert_eq!(
        error(Some("1"), None, Refusal::field("roomId")),
        json!({"code": "invalid_argument", "message": "Invalid field", "retryable": false, "requestId": "1",
            "field": "roomId"})
    );
    assert_eq!(
        error(Some("1"), Some("da\"nce"), Code::UnknownType.into()),
        json!({"code": "unknown_type", "message": "Unknown message type", "retryable": false, "requestId": "1",
            "type": "da\"nce"})
    );
    assert_eq!(
        error(Some("1"), None, Refusal::after_ms(Code::RateLimited, 250)),
        json!({"code": "rate_limited", "message": "Rate limit exceeded. Please slow down.", "retryable": true,
            "requestId": "1", "retryAfterMs": 250})
    );
    assert_eq!(
        error(None, None, Code::InvalidFormat.into()),
        json!({"code": "invalid_format", "message": "Invalid message format", "retryable": false, "requestId": null})
    );
    for code in Code::ALL {
        let data = error(Some("1"), None, (*code).into());
        assert_eq!((&data["code"], &data["message"]), (&json!(code.as_str()), &json!(code.text())));
    }
}

proptest! {
    /// R-SEC-13: whatever texts a message has, it is JSON and says the same.
    #[test]
    fn any_texts_stay_what_they_are(texts: [String; 4], payload in any_json()) {
        let [id, email, body, name] = texts;
        let row = EventRow { user_id: (*id).into(), body: (*body).into(), client_id: Some((*name).into()), ..message() };
        let data = event(PRIVATE, "chat_message", &Event::Durable { epoch: "ep", row: &row });
        prop_assert_eq!((&data["userId"], &data["message"], &data["clientId"]), (&json!(id), &json!(body), &json!(name)));
        let (user, payload_text) = (User::new(&id, Some(&email)), payload.to_string());
        let live = Event::Broadcast { user: &user, event: &name, payload: &payload_text, timestamp_ms: 5 };
        let data = event(OPEN, "broadcast", &live);
        prop_assert_eq!((&data["userId"], &data["event"], &data["payload"]), (&json!(id), &json!(name), &payload));
    }
}
