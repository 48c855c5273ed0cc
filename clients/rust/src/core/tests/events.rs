//! R-SDK-1: every type of event has its record; unknown ones are told as such; nothing that a server sends does harm.
use super::super::*;
use super::world::World;
use crate::event::{Role, RoomType, Status};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn known_types_are_read_and_what_is_new_in_them_does_no_harm() {
    let mut world = World::new();
    world.connect();
    world.events.clear();
    let room = json!({"id": "lobby", "type": "private", "slowModeSeconds": 5, "new": 1});
    let user = json!({"userId": "bob", "status": "idle", "lastActivity": 9});
    world.says("room_state", json!({"roomId": "lobby", "roomInfo": room, "onlineUsers": [user], "role": "moderator"}));
    world.says(
        "member_added",
        json!({"roomId": "lobby", "userId": "eve", "role": "invited", "addedBy": "bob", "offset": 4}),
    );
    world.says("role_changed", json!({"roomId": "lobby", "userId": "eve", "role": "owner"}));
    world.says("typing_indicator", json!({"userId": "bob", "isTyping": true}));
    world.says("heartbeat_response", json!({"timestamp": 5, "clientTimestamp": 4}));
    let [
        Event::RoomState(state),
        Event::MemberAdded(added),
        Event::RoleChanged(changed),
        Event::TypingIndicator(typing),
        Event::HeartbeatResponse(response),
    ] = &world.events[..]
    else {
        panic!("{:?}", world.events);
    };
    assert_eq!((state.room_info.r#type, state.room_info.slow_mode_seconds), (RoomType::Private, 5));
    assert_eq!((state.online_users[0].status, state.role), (Status::Idle, Some(Role::Moderator)));
    assert_eq!((added.role, added.added_by.as_deref(), added.offset), (Some(Role::Other), Some("bob"), 4));
    assert_eq!((changed.role, typing.is_typing), (Some(Role::Owner), true));
    assert_eq!((response.timestamp, response.client_timestamp), (5, Some(4)));
}

#[test]
fn unknown_types_and_shapes_are_told_as_they_came() {
    let mut world = World::new();
    world.connect();
    world.says("poll_updated", json!({"pollId": "p"}));
    world.says("user_joined", json!({"userId": 7}));
    assert_eq!(world.unknown(), [("poll_updated", json!({"pollId": "p"})), ("user_joined", json!({"userId": 7}))]);
}

#[test]
fn a_servers_event_cannot_pass_for_one_of_the_clients_own() {
    let mut world = World::new();
    world.connect();
    world.events.clear();
    for kind in ["stopped", "state", "settled", "recovered", "error_", "unknown"] {
        world.says(kind, json!({"code": 1}));
    }
    assert_eq!(world.unknown().len(), 6);
}

#[test]
fn secrets_are_not_shown() {
    let mut world = World::new();
    world.connect();
    let shown = format!("{:?}", world.events);
    assert!(shown.contains("sess_1") && !shown.contains("resume_1") && !shown.contains("token-1"), "{shown}");
    assert_eq!(format!("{:?}", crate::Token::from("secret")), "Token(fixed)");
}

#[test]
fn what_the_server_must_not_send_is_told_and_passed_over() {
    let mut world = World::new();
    world.connect();
    let odd = ["", "{", "null", "[]", "\"text\"", "7", "{\"type\":7}", "{}"];
    for text in odd {
        world.says_text(0, text);
    }
    assert_eq!(world.errors(), ["invalid_format"; 8]);
    assert_eq!(world.core.state(), State::Connected);
}

#[test]
fn odd_answers_to_a_resume_are_survived() {
    let odd = json!([null, 7, {}, {"roomId": "lobby"}, {"roomId": "lobby", "recovered": true, "epoch": "E", "offset": 4, "events": 7}]);
    for rooms in [Value::Null, json!(7), odd] {
        let mut world = World::new();
        world.connect();
        world.join("lobby", 3);
        world.closes(1006);
        world.come_back(rooms);
        assert_eq!(world.core.state(), State::Connected);
    }
}

/// Any JSON, but with the protocol's own words in it more often than chance would have them.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..9).prop_map(Value::from),
        prop_oneof![Just("lobby"), Just("E"), Just("anna"), Just("chat_message"), Just("x"), Just("")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name = prop_oneof![
            Just("roomId"),
            Just("epoch"),
            Just("offset"),
            Just("events"),
            Just("recovered"),
            Just("requestId"),
            Just("result"),
            Just("rooms"),
            Just("data"),
            Just("type"),
            Just("recentMessages"),
            Just("retryMinMs"),
            Just("userId"),
            Just("code"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..6).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

fn any_kind() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("ack"),
        Just("error"),
        Just("connection_established"),
        Just("room_state"),
        Just("room_closed"),
        Just("server_closing"),
        Just("token_expiring"),
        Just("migrate"),
        Just("chat_message"),
        Just("role_changed"),
        Just("new"),
    ]
}

proptest! {
    /// R-SEC-13: any field may hold any JSON. The client lives, tells no message twice, and can be disconnected.
    #[test]
    fn nothing_that_a_server_says_does_harm(
        frames in proptest::collection::vec((any_kind(), any_json(), any::<prop::sample::Index>()), 1..40)
    ) {
        let mut world = World::new();
        world.connect();
        world.join("lobby", 3);
        world.say("lobby", "1");
        for (kind, mut data, index) in frames {
            // Answers to what is really asked, half of the time.
            let sent = &world.link().sent;
            if index.index(2) == 0 && data.is_object() {
                data["requestId"] = json!(sent[index.index(sent.len())].id);
            }
            world.says(kind, data);
            if world.core.state() == State::Connected && index.index(9) == 0 {
                world.closes(1006);
                world.sign_in_again();
            }
        }
        let mut last = 0;
        for event in &world.events {
            match event {
                Event::RoomState(_) | Event::Recovered { .. } => last = 0,
                Event::ChatMessage(message) if message.room_id == "lobby" && message.epoch == "E" => {
                    prop_assert!(message.offset > last || message.offset == 0);
                    last = message.offset;
                }
                _ => {}
            }
        }
        world.disconnect();
        prop_assert_eq!(world.core.deadline(), None);
    }
}
