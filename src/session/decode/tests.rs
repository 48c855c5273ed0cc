use super::*;
use crate::session::command::{ResumeRoom, answers_itself};
use crate::wire::envelope::{PADDING_BYTES, Parser};
use crate::wire::tape::tests::any_json;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// Every command there is, with data that holds all its fields.
fn all_commands() -> Vec<(&'static str, Json)> {
    let message = json!({"roomId": "r", "message": "hi", "messageType": "text", "metadata": {"a": 1}, "clientId": "c"});
    vec![
        ("auth", json!({"token": "t"})),
        ("refresh_token", json!({"token": "t"})),
        ("resume", json!({"sessionId": "s", "resumeToken": "t", "rooms": {"r": {"epoch": "e", "offset": 3}}})),
        ("heartbeat", json!({"timestamp": 5})),
        ("activity", json!({})),
        ("get_presence", json!({"userIds": ["anna", "bob"]})),
        (
            "join_room",
            json!({"roomId": "r", "roomType": "private", "roomToken": "t", "recover": {"epoch": "e", "offset": 0}}),
        ),
        ("leave_room", json!({"roomId": "r", "permanent": true})),
        ("chat_message", message.clone()),
        ("send_message", message),
        (
            "broadcast",
            json!({"roomId": "r", "event": "e", "payload": [1, {"x": null}], "includeSelf": true, "ack": true}),
        ),
        ("ask", json!({"roomId": "r", "event": "e", "payload": [1], "timeoutMs": 9})),
        ("answer", json!({"roomId": "r", "askId": 256, "payload": {"x": null}})),
        ("typing_start", json!({"roomId": "r"})),
        ("typing_stop", json!({"roomId": "r"})),
        (
            "create_room",
            json!({"roomId": "r", "name": "n", "description": "d", "type": "direct", "recipientId": "bob"}),
        ),
        ("invite_member", json!({"roomId": "r", "userId": "bob"})),
        ("remove_member", json!({"roomId": "r", "userId": "bob"})),
        ("set_role", json!({"roomId": "r", "userId": "bob", "role": "moderator"})),
        ("update_room", json!({"roomId": "r", "name": "n", "description": "", "slowModeSeconds": 21_600})),
        ("delete_room", json!({"roomId": "r"})),
        ("get_online_users", json!({"roomId": "r", "cursor": "c", "limit": 200})),
        ("get_history", json!({"roomId": "r", "before": 9, "limit": 100})),
    ]
}

fn decoded<R>(kind: &str, data: &Json, check: impl FnOnce(Result<Command<'_>, Refusal>) -> R) -> R {
    let text = json!({"id": "1", "type": kind, "data": data}).to_string();
    let mut bytes = text.clone().into_bytes();
    bytes.resize(text.len() + PADDING_BYTES, 0);
    let mut parser = Parser::new();
    let envelope = parser.parse(&mut bytes, text.len()).expect("an envelope");
    check(decode(&envelope, &mut Scratch::default()))
}

fn expect(kind: &str, data: Json, expected: Command<'_>) {
    decoded(kind, &data, |command| assert_eq!(command, Ok(expected), "{kind} {data}"));
}

fn in_room(room: &'static str, command: RoomCommand<'static>) -> Command<'static> {
    Command::Room { room, command, room_token: None }
}

#[test]
fn commands_with_all_their_fields() {
    let send = in_room(
        "r",
        RoomCommand::Send {
            message: "hi",
            message_type: Some("text"),
            metadata: Some(Metadata { is_object: true, json: r#"{"a":1}"# }),
            client_id: Some("c"),
        },
    );
    let recover = Some(Position { epoch: "e", offset: 0 });
    let join = RoomCommand::Join { room_type: Some(RoomType::Private), grant: None, recover };
    let create = RoomCommand::Create { name: "n", description: "d", kind: RoomType::Direct, recipient_id: Some("bob") };
    let update = RoomCommand::Update { name: Some("n"), description: Some(""), slow_mode_s: Some(21_600) };
    let live = RoomCommand::Broadcast { event: "e", payload: r#"[1,{"x":null}]"#, include_self: true, wants_ack: true };
    let expected = [
        ("auth", Command::Auth { token: "t" }),
        ("refresh_token", Command::RefreshToken { token: "t" }),
        ("heartbeat", Command::Heartbeat { timestamp: Some(5) }),
        ("activity", Command::Activity),
        ("join_room", Command::Room { room: "r", command: join, room_token: Some("t") }),
        ("leave_room", in_room("r", RoomCommand::Leave { permanent: true })),
        ("chat_message", send),
        ("send_message", send),
        ("broadcast", in_room("r", live)),
        ("ask", in_room("r", RoomCommand::Ask { event: "e", payload: "[1]", timeout_ms: Some(9) })),
        ("answer", in_room("r", RoomCommand::Answer { ask_id: 256, payload: r#"{"x":null}"# })),
        ("typing_start", in_room("r", RoomCommand::Typing { is_typing: true })),
        ("typing_stop", in_room("r", RoomCommand::Typing { is_typing: false })),
        ("create_room", Command::Create { room_id: Some("r"), command: create }),
        ("invite_member", in_room("r", RoomCommand::Invite { user_id: "bob" })),
        ("remove_member", in_room("r", RoomCommand::Remove { user_id: "bob" })),
        ("set_role", in_room("r", RoomCommand::SetRole { user_id: "bob", role: Role::Moderator })),
        ("update_room", in_room("r", update)),
        ("delete_room", in_room("r", RoomCommand::Delete)),
        ("get_online_users", in_room("r", RoomCommand::OnlineUsers { cursor: Some("c"), limit: 200 })),
        ("get_history", in_room("r", RoomCommand::History { from: HistoryFrom::Before(9), limit: 100 })),
    ];
    let commands = all_commands();
    for (kind, expected) in expected {
        let (_, data) = commands.iter().find(|(name, _)| *name == kind).expect("in the table");
        expect(kind, data.clone(), expected);
    }
    // Those two hold iterators and are tested below.
    assert_eq!(commands.len(), expected.len() + 2);
}

#[test]
fn commands_with_only_what_they_need() {
    let join = RoomCommand::Join { room_type: None, grant: None, recover: None };
    let send = RoomCommand::Send { message: "", message_type: None, metadata: None, client_id: None };
    let create = RoomCommand::Create { name: "n", description: "", kind: RoomType::Public, recipient_id: None };
    let direct = RoomCommand::Create { name: "", description: "", kind: RoomType::Direct, recipient_id: Some("bob") };
    for (kind, data, expected) in [
        ("join_room", json!({"roomId": "r", "recover": null, "roomType": null, "unknown": [1]}), in_room("r", join)),
        ("leave_room", json!({"roomId": "r"}), in_room("r", RoomCommand::Leave { permanent: false })),
        ("chat_message", json!({"roomId": "r", "message": "", "metadata": null}), in_room("r", send)),
        (
            "broadcast",
            json!({"roomId": "r", "event": "e"}),
            in_room("r", RoomCommand::Broadcast { event: "e", payload: "null", include_self: false, wants_ack: false }),
        ),
        (
            "ask",
            json!({"roomId": "r", "event": "e", "timeoutMs": null}),
            in_room("r", RoomCommand::Ask { event: "e", payload: "null", timeout_ms: None }),
        ),
        ("answer", json!({"askId": 0}), Command::Answer { ask_id: 0, payload: "null" }),
        ("heartbeat", json!({}), Command::Heartbeat { timestamp: None }),
        (
            "create_room",
            json!({"name": "n", "type": "public", "recipientId": 7}),
            Command::Create { room_id: None, command: create },
        ),
        (
            "create_room",
            json!({"type": "direct", "recipientId": "bob", "name": null}),
            Command::Create { room_id: None, command: direct },
        ),
        (
            "get_history",
            json!({"roomId": "r"}),
            in_room("r", RoomCommand::History { from: HistoryFrom::End, limit: 50 }),
        ),
        (
            "get_history",
            json!({"roomId": "r", "after": 0, "limit": 1}),
            in_room("r", RoomCommand::History { from: HistoryFrom::After(0), limit: 1 }),
        ),
        (
            "get_online_users",
            json!({"roomId": "room_01ARZ3NDEKTSV4RRFFQ69G5FAV"}),
            in_room("room_01ARZ3NDEKTSV4RRFFQ69G5FAV", RoomCommand::OnlineUsers { cursor: None, limit: 200 }),
        ),
        (
            "update_room",
            json!({"roomId": "r", "slowModeSeconds": 0.0}),
            in_room("r", RoomCommand::Update { name: None, description: None, slow_mode_s: Some(0) }),
        ),
    ] {
        expect(kind, data, expected);
    }
}

#[test]
fn metadata_of_any_type_is_passed_on() {
    for (metadata, is_object, text) in
        [(json!([1]), false, "[1]"), (json!("x\n"), false, r#""x\n""#), (json!({}), true, "{}")]
    {
        decoded("chat_message", &json!({"roomId": "r", "message": "m", "metadata": metadata}), |command| {
            let Ok(Command::Room { command: RoomCommand::Send { metadata, .. }, .. }) = command else {
                panic!("{command:?}")
            };
            assert_eq!(metadata, Some(Metadata { is_object, json: text }));
        });
    }
}

/// A missing field is named, and so is one of the wrong type or range.
#[test]
fn bad_fields_are_named() {
    let (long, too_long) = ("ü".repeat(64), "ü".repeat(65));
    let many = |count: usize| vec!["u"; count];
    let bad: &[(&str, &str, Vec<Json>)] = &[
        ("auth", "token", vec![json!(null), json!(1), json!({})]),
        ("refresh_token", "token", vec![json!(null), json!([])]),
        ("heartbeat", "timestamp", vec![json!("1"), json!(-1), json!(1.5), json!(1_u64 << 53)]),
        ("resume", "sessionId", vec![json!(null), json!(1)]),
        ("resume", "resumeToken", vec![json!(null), json!({})]),
        (
            "resume",
            "rooms",
            vec![
                json!(null),
                json!([]),
                json!({"r": null}),
                json!({"r": {"epoch": "e"}}),
                json!({"r": {"epoch": "e", "offset": -1}}),
                json!({"r": {"epoch": "12345678901234567", "offset": 1}}),
                json!({"no room": {"epoch": "e", "offset": 1}}),
            ],
        ),
        (
            "get_presence",
            "userIds",
            vec![json!(null), json!("anna"), json!([1]), json!([""]), json!(["a\u{0}"]), json!(many(101))],
        ),
        ("join_room", "roomType", vec![json!("secret"), json!(1)]),
        ("join_room", "roomToken", vec![json!(1)]),
        ("join_room", "recover", vec![json!("e"), json!({}), json!({"epoch": "e"}), json!({"epoch": 1, "offset": 1})]),
        ("leave_room", "permanent", vec![json!("true"), json!(1)]),
        ("chat_message", "message", vec![json!(null), json!(1), json!(["x"])]),
        ("chat_message", "messageType", vec![json!(1), json!({})]),
        ("send_message", "clientId", vec![json!(""), json!(too_long), json!(7)]),
        ("broadcast", "event", vec![json!(null), json!(""), json!(too_long), json!(1)]),
        ("broadcast", "includeSelf", vec![json!(1)]),
        ("ask", "event", vec![json!(null), json!(""), json!(too_long), json!(1)]),
        ("ask", "timeoutMs", vec![json!(-1), json!("1"), json!(1.5)]),
        ("answer", "askId", vec![json!(null), json!(-1), json!("1")]),
        ("answer", "roomId", vec![json!(""), json!("a/b"), json!(1)]),
        ("create_room", "roomId", vec![json!(""), json!("room_01ARZ3NDEKTSV4RRFFQ69G5FAV"), json!("a b"), json!(1)]),
        ("create_room", "name", vec![json!(""), json!("n".repeat(101)), json!(1)]),
        ("create_room", "description", vec![json!("d".repeat(501)), json!({})]),
        ("create_room", "type", vec![json!(null), json!("open"), json!(1)]),
        ("create_room", "recipientId", vec![json!(null), json!(""), json!(1)]),
        ("invite_member", "userId", vec![json!(null), json!(""), json!("u".repeat(129)), json!(1)]),
        ("remove_member", "userId", vec![json!(null), json!([])]),
        ("set_role", "userId", vec![json!(null), json!("")]),
        ("set_role", "role", vec![json!(null), json!("invited"), json!("king"), json!(1)]),
        ("update_room", "name", vec![json!(""), json!("n".repeat(101)), json!(1)]),
        ("update_room", "description", vec![json!("d".repeat(501)), json!(1)]),
        ("update_room", "slowModeSeconds", vec![json!(21_601), json!(-1), json!("1"), json!(1.5)]),
        ("get_online_users", "cursor", vec![json!(1)]),
        ("get_online_users", "limit", vec![json!(0), json!(201), json!("1")]),
        ("get_history", "before", vec![json!(-1), json!("1")]),
        ("get_history", "after", vec![json!(3), json!([])]),
        ("get_history", "limit", vec![json!(0), json!(101), json!(true)]),
    ];
    // Those two can do without.
    let needs_room = |kind: &str| !matches!(kind, "create_room" | "answer");
    let in_a_room = all_commands().into_iter().filter(|(kind, data)| needs_room(kind) && data["roomId"] == "r");
    let room_ids = || vec![json!(null), json!(""), json!("a/b"), json!("r".repeat(129)), json!(1), json!("sess_x")];
    let rooms: Vec<_> = in_a_room.map(|(kind, _)| (kind, "roomId", room_ids())).collect();
    assert_eq!(rooms.len(), 15);
    for (kind, field, values) in bad.iter().chain(&rooms) {
        let (_, good) = all_commands().into_iter().find(|(name, _)| name == kind).expect("in the table");
        for value in values {
            let mut data = good.clone();
            data[*field] = value.clone();
            decoded(kind, &data, |command| assert_eq!(command, Err(Refusal::field(field)), "{kind} {data}"));
            if value.is_null() {
                data.as_object_mut().unwrap().remove(*field);
                decoded(kind, &data, |command| assert_eq!(command, Err(Refusal::field(field)), "{kind} {data}"));
            }
        }
    }
    for nameless in [json!({"type": "public"}), json!({"type": "private", "name": null})] {
        decoded("create_room", &nameless, |command| assert_eq!(command, Err(Refusal::field("name"))));
    }
    let nothing = json!({"roomId": "r", "name": null});
    decoded("update_room", &nothing, |command| assert_eq!(command, Err(Refusal::field("name"))));
    let edges = json!({"roomId": "r", "event": long});
    decoded("broadcast", &edges, |command| assert!(command.is_ok()));
    decoded("get_presence", &json!({"userIds": many(100)}), |command| assert!(command.is_ok()));
}

#[test]
fn resume_rooms_come_once_each() {
    let position = |offset| json!({"epoch": "e", "offset": offset});
    let mut rooms = json!({});
    for number in 0..limits::RESUME_ROOMS_MAX {
        rooms[format!("r{number}")] = position(number);
    }
    let data = |rooms: &Json| json!({"sessionId": "s", "resumeToken": "t", "rooms": rooms});
    decoded("resume", &data(&rooms), |command| {
        let Ok(Command::Resume { session_id: "s", resume_token: "t", rooms }) = command else { panic!("{command:?}") };
        assert_eq!(rooms.count(), limits::RESUME_ROOMS_MAX);
    });
    rooms["one more"] = position(1);
    decoded("resume", &data(&rooms), |command| assert_eq!(command, Err(Refusal::field("rooms"))));

    // A client can write a key twice; serde_json cannot.
    let text = br#"{"id":"1","type":"resume","data":{"sessionId":"s","resumeToken":"t","rooms":
        {"a":{"epoch":"x","offset":1},"b":{"epoch":"y","offset":2},"a":{"epoch":"z","offset":3}}}}"#;
    let mut bytes = [&text[..], &[0; PADDING_BYTES]].concat();
    let (mut parser, mut scratch) = (Parser::new(), Scratch::default());
    let envelope = parser.parse(&mut bytes, text.len()).unwrap();
    let Ok(Command::Resume { rooms, .. }) = decode(&envelope, &mut scratch) else { panic!("a resume") };
    let room = |room, epoch, offset| ResumeRoom { room, recover: Position { epoch, offset } };
    assert_eq!(rooms.collect::<Vec<_>>(), [room("b", "y", 2), room("a", "z", 3)]);
}

#[test]
fn presence_names_its_users() {
    decoded("get_presence", &json!({"userIds": ["anna", "ü b", "anna"]}), |command| {
        let Ok(Command::GetPresence { user_ids }) = command else { panic!("{command:?}") };
        assert_eq!(user_ids.collect::<Vec<_>>(), ["anna", "ü b", "anna"]);
    });
}

/// The list is kept beside the `match` by hand.
#[test]
fn every_command_is_in_the_list() {
    let code = include_str!("../decode.rs");
    let start = code.find("match envelope.kind()").expect("the match");
    let arms = &code[start..start + code[start..].find("_ => Err(").expect("its end")];
    let mut names: Vec<_> = arms
        .lines()
        .filter_map(|line| line.split_once("=>"))
        .flat_map(|(patterns, _)| patterns.split('"').skip(1).step_by(2))
        .collect();
    let mut listed = super::COMMANDS.to_vec();
    names.sort_unstable();
    listed.sort_unstable();
    assert_eq!(names, listed);
    assert!(all_commands().iter().all(|(kind, _)| is_command(kind)) && !is_command("ack") && !is_command(""));
}

#[test]
fn other_types_are_unknown() {
    for kind in ["", "Auth", "chat_messages", "mark_read", "ack", "connection_established"] {
        if !kind.is_empty() {
            decoded(kind, &json!({}), |command| assert_eq!(command, Err(Code::UnknownType.into())));
        }
        assert!(!answers_itself(kind));
    }
}

/// R-ENV-2.
#[test]
fn some_commands_get_no_ack() {
    let silent: Vec<_> = all_commands().into_iter().map(|(kind, _)| kind).filter(|kind| answers_itself(kind)).collect();
    assert_eq!(silent, ["heartbeat", "activity", "broadcast", "answer", "typing_start", "typing_stop"]);
}

#[test]
fn a_warm_scratch_is_reused() {
    let text =
        json!({"id": "1", "type": "broadcast", "data": {"roomId": "r", "event": "e", "payload": "p".repeat(500)}});
    let text = text.to_string();
    let (mut parser, mut scratch) = (Parser::new(), Scratch::default());
    let mut once = || {
        let mut bytes = text.clone().into_bytes();
        bytes.resize(text.len() + PADDING_BYTES, 0);
        let envelope = parser.parse(&mut bytes, text.len()).unwrap();
        assert!(decode(&envelope, &mut scratch).is_ok());
        (scratch.payload.as_ptr(), scratch.payload.capacity())
    };
    assert_eq!(once(), once());
}

proptest! {
    /// R-SEC-13: any JSON in any field of any command.
    #[test]
    fn any_json_in_any_field(command in 0_usize..23, field in 0_usize..5, value in any_json()) {
        let (kind, mut data) = all_commands().swap_remove(command);
        let fields: Vec<String> = data.as_object().unwrap().keys().cloned().collect();
        if !fields.is_empty() {
            data[&fields[field % fields.len()]] = value;
        }
        decoded(kind, &data, |command| {
            // Reading it to the end must not panic either.
            match command {
                Ok(Command::Resume { rooms, .. }) => _ = rooms.count(),
                Ok(Command::GetPresence { user_ids }) => _ = user_ids.count(),
                Ok(_) => {}
                Err(refusal) => assert_eq!(refusal.code, Code::InvalidArgument),
            }
        });
    }

    /// R-LIVE-1: what goes in as payload comes out as the same JSON.
    #[test]
    fn payloads_keep_their_meaning(value in any_json()) {
        decoded("broadcast", &json!({"roomId": "r", "event": "e", "payload": value}), |command| {
            let Ok(Command::Room { command: RoomCommand::Broadcast { payload, .. }, .. }) = command else {
                panic!("{command:?}")
            };
            assert_eq!(serde_json::from_str::<Json>(payload).unwrap(), value);
        });
    }
}
