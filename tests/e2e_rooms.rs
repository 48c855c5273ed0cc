//! Making rooms and getting into them, as their users see it (R-ROOM-1, R-ROOM-2, R-ID-2, R-SEC-3).
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

// --- creating (R-ROOM-1)

#[test]
fn a_created_room_is_described_and_belongs_to_its_creator() {
    let server = Server::unlimited(&[]);
    let mut anna = server.client("anna");
    for kind in ["public", "private"] {
        let room = format!("my-{kind}");
        let data = json!({"roomId": room, "name": "Ein Raum ü", "description": "for \"us\"", "type": kind});
        let info = anna.ok("create_room", data);
        let expected = json!({
            "id": room, "name": "Ein Raum ü", "description": "for \"us\"", "createdAt": info["createdAt"], "memberCount": 1,
            "type": kind, "slowModeSeconds": 0
        });
        assert_eq!(info, expected);
        assert!(info["createdAt"].as_u64().unwrap() / 1_000 <= support::now_s());
        let snapshot = anna.join(&room);
        assert_eq!((&snapshot["roomInfo"], &snapshot["role"]), (&expected, &"owner".into()));
    }
    let info = anna.ok("create_room", json!({"name": "n", "type": "private"}));
    let id = info["id"].as_str().unwrap();
    assert!(id.starts_with("room_") && id.len() == 31, "{id}");
    assert_eq!(anna.join(id)["role"], "owner");
}

#[test]
fn a_taken_name_is_a_conflict_for_everyone() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.create_room("club", "private");
    for client in [&mut anna, &mut berta] {
        for kind in ["public", "private"] {
            client.refused("conflict", "create_room", json!({"roomId": "club", "name": "x", "type": kind}));
        }
    }
    let direct = json!({"roomId": "club", "name": "x", "type": "direct", "recipientId": "carla"});
    berta.refused("conflict", "create_room", direct);
}

#[test]
fn fields_of_a_new_room_are_checked_in_pairs() {
    let server = Server::unlimited(&["limits.rooms_created=0"]);
    let mut anna = server.client("anna");
    let good = json!({"name": "x", "type": "public"});
    let mut index = 0;
    for (field, passes, fails) in [
        ("name", json!("ü".repeat(100)), json!("ü".repeat(101))),
        ("name", json!("x"), json!("")),
        ("name", json!("x"), json!(7)),
        ("name", json!("x"), Value::Null),
        ("description", json!("ü".repeat(500)), json!("ü".repeat(501))),
        ("description", Value::Null, json!([])),
        ("type", json!("private"), json!("secret")),
        ("type", json!("public"), Value::Null),
        ("roomId", json!("r".repeat(128)), json!("r".repeat(129))),
        ("roomId", json!("A-Za_z0.9:"), json!("a b")),
        ("roomId", json!("rooms_1"), json!("room_1")),
        ("roomId", json!("x"), json!("")),
    ] {
        let mut data = good.clone();
        data[field] = passes;
        anna.ok("create_room", data.clone());
        data[field] = fails;
        let error = anna.refused("invalid_argument", "create_room", data);
        assert_eq!(error["field"], field);
        index += 1;
    }
    assert_eq!(index, 12);
    for recipient in [Value::Null, json!(""), json!("anna"), json!(7), json!("u".repeat(129))] {
        let data = json!({"name": "x", "type": "direct", "recipientId": recipient});
        assert_eq!(anna.refused("invalid_argument", "create_room", data)["field"], "recipientId");
    }
}

#[test]
fn one_direct_room_per_pair() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta, mut carla) = (server.client("anna"), server.client("berta"), server.client("carla"));
    let with = |user: &str| json!({"type": "direct", "recipientId": user});
    let room = anna.ok("create_room", with("berta"));
    assert_eq!((&room["type"], &room["memberCount"]), (&"direct".into(), &2.into()));
    assert_eq!(berta.ok("create_room", with("anna"))["id"], room["id"]);
    assert_eq!(anna.ok("create_room", with("berta"))["id"], room["id"]);
    assert_ne!(carla.ok("create_room", with("anna"))["id"], room["id"]);
    let id = room["id"].as_str().unwrap();
    anna.join(id);
    berta.join(id);
    anna.say(id, "between us");
    assert_eq!(berta.event("chat_message")["message"], "between us");
}

/// R-ROOM-1: 20 in an hour; what made no room costs nothing.
#[test]
fn rooms_created_are_limited() {
    let server = Server::start(&["limits.rooms_created=3", "limits.commands=0"]);
    let mut anna = server.client("anna");
    anna.create_room("r1", "public");
    anna.refused("conflict", "create_room", json!({"roomId": "r1", "name": "x", "type": "public"}));
    anna.refused("invalid_argument", "create_room", json!({"roomId": "r2", "type": "public"}));
    anna.create_room("r2", "public");
    let direct = json!({"name": "x", "type": "direct", "recipientId": "berta"});
    let id = anna.ok("create_room", direct.clone())["id"].clone();
    let error = anna.refused("rate_limited", "create_room", json!({"roomId": "r4", "name": "x", "type": "public"}));
    assert!((1..=3_600_000).contains(&error["retryAfterMs"].as_u64().unwrap()), "{error}");
    let mut other = server.client("anna");
    other.refused("rate_limited", "create_room", json!({"roomId": "r4", "name": "x", "type": "public"}));
    server.client("berta").create_room("r4", "public");
    assert!(id.is_string());
}

// --- joining (R-ROOM-2)

#[test]
fn an_unknown_name_becomes_a_public_room_without_owner() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    let snapshot = anna.join("lobby");
    assert_eq!((&snapshot["role"], &snapshot["roomInfo"]["type"]), (&Value::Null, &"public".into()));
    assert_eq!(snapshot["roomInfo"]["memberCount"], 0);
    anna.refused("forbidden", "update_room", json!({"roomId": "lobby", "name": "Mine"}));
    assert_eq!(berta.join_with(json!({"roomId": "lobby", "roomType": "public"}))["onlineCount"], 2);
    let refuse = |client: &mut Client, room: &str, kind: Value| {
        client.refused("access_denied", "join_room", json!({"roomId": room, "roomType": kind}));
    };
    refuse(&mut anna, "new-one", "private".into());
    refuse(&mut anna, "new-one", "direct".into());
    refuse(&mut anna, "room_01ARZ3NDEKTSV4RRFFQ69G5FAV", Value::Null);
    for room in ["sess_1", "conn_x", "a b", "", &"r".repeat(129)] {
        assert_eq!(anna.refused("invalid_argument", "join_room", json!({"roomId": room}))["field"], "roomId");
    }
}

/// R-ROOM-2, R-SEC-3: a missing and a hidden room answer alike, with and without automatic creation.
#[test]
fn hidden_and_missing_rooms_answer_alike() {
    let server = Server::unlimited(&["rooms.auto_create=false"]);
    let (mut owner, mut eve) = (server.client("owner"), server.client("eve"));
    owner.create_room("hidden", "private");
    let direct = owner.ok("create_room", json!({"name": "x", "type": "direct", "recipientId": "berta"}));
    let direct = direct["id"].as_str().unwrap();
    let strip = |error: Value| {
        let mut error = error;
        error.as_object_mut().unwrap().remove("requestId");
        error
    };
    for (command, extra) in [
        ("join_room", json!({})),
        ("join_room", json!({"roomType": "private"})),
        ("join_room", json!({"roomType": "public"})),
        ("join_room", json!({"roomToken": "nonsense"})),
        ("join_room", json!({"recover": {"epoch": "x", "offset": 0}})),
        ("leave_room", json!({})),
        ("chat_message", json!({"message": "x"})),
        ("broadcast", json!({"event": "x"})),
        ("typing_start", json!({})),
        ("get_history", json!({})),
        ("get_online_users", json!({})),
        ("invite_member", json!({"userId": "eve"})),
        ("remove_member", json!({"userId": "owner"})),
        ("set_role", json!({"userId": "eve", "role": "owner"})),
        ("update_room", json!({"name": "x"})),
        ("delete_room", json!({})),
    ] {
        let answers = [direct, "hidden", "missing", "room_01ARZ3NDEKTSV4RRFFQ69G5FAV"].map(|room| {
            let mut data = extra.clone();
            data["roomId"] = room.into();
            strip(eve.ask(command, data).expect_err(command))
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{command}: {answers:?}");
        let code = answers[0]["code"].as_str().unwrap();
        assert!(["access_denied", "not_in_room"].contains(&code), "{command}: {code}");
    }
    owner.join("hidden");
}

#[test]
fn the_stored_type_counts() {
    let server = Server::unlimited(&[]);
    let mut anna = server.client("anna");
    anna.create_room("open", "public");
    anna.create_room("closed", "private");
    for (room, wrong) in [("open", ["private", "direct"]), ("closed", ["public", "direct"])] {
        for kind in wrong {
            anna.refused("access_denied", "join_room", json!({"roomId": room, "roomType": kind}));
        }
    }
    anna.join_with(json!({"roomId": "open", "roomType": "public"}));
    anna.join_with(json!({"roomId": "closed", "roomType": "private"}));
    let error = anna.refused("invalid_argument", "join_room", json!({"roomId": "open", "roomType": "secret"}));
    assert_eq!(error["field"], "roomType");
}

#[test]
fn a_private_room_is_for_members_and_invited_users() {
    let server = Server::unlimited(&[]);
    let (mut owner, mut anna, mut eve) = (server.client("owner"), server.client("anna"), server.client("eve"));
    owner.create_room("club", "private");
    owner.join("club");
    anna.refused("access_denied", "join_room", json!({"roomId": "club"}));
    owner.ok("invite_member", json!({"roomId": "club", "userId": "anna"}));
    let added = owner.event("member_added");
    assert_eq!((&added["userId"], &added["roomId"]), (&"anna".into(), &"club".into()));
    assert_eq!((&added["role"], &added["addedBy"], &added["offset"]), (&"invited".into(), &"owner".into(), &1.into()));
    let snapshot = anna.join("club");
    assert_eq!((&snapshot["role"], &snapshot["roomInfo"]["memberCount"]), (&"member".into(), &2.into()));
    let added = owner.event("member_added");
    assert_eq!((&added["userId"], &added["role"], &added["offset"]), (&"anna".into(), &"member".into(), &2.into()));
    eve.refused("access_denied", "join_room", json!({"roomId": "club"}));
    anna.ok("leave_room", json!({"roomId": "club"}));
    assert_eq!(anna.join("club")["role"], "member", "a member stays one");
}

#[test]
fn a_room_token_opens_its_room_for_its_user() {
    let server = Server::unlimited(&[]);
    let (mut owner, mut anna) = (server.client("owner"), server.client("anna"));
    owner.create_room("club", "private");
    owner.create_room("other", "private");
    let join = |token: String| json!({"roomId": "club", "roomToken": token});
    let expired = json!({"userId": "anna", "roomId": "club", "exp": support::now_s() - 60});
    for token in [
        server.room_token("berta", "club", None),
        server.room_token("anna", "other", None),
        server.token("anna"),
        server.sign_raw(&expired),
        support::TokenFault::TamperedSignature.token(&server),
        String::new(),
    ] {
        anna.refused("access_denied", "join_room", join(token));
    }
    assert_eq!(anna.join_with(join(server.room_token("anna", "club", None)))["role"], "member");
    anna.say("club", "in");
    anna.ok("leave_room", json!({"roomId": "club"}));
    let snapshot = anna.join_with(join(server.room_token("anna", "club", Some("moderator"))));
    assert_eq!(snapshot["role"], "moderator");
    anna.ok("invite_member", json!({"roomId": "club", "userId": "carla"}));
    anna.refused("forbidden", "delete_room", json!({"roomId": "club"}));
    // The token of one room says nothing about another, and nothing about the server.
    anna.refused("access_denied", "join_room", json!({"roomId": "other"}));
    let refusal =
        server.try_open("/ws", &[("Authorization", &format!("Bearer {}", server.room_token("a", "b", None)))]);
    assert_eq!(refusal.err().unwrap().status, 401);
}

#[test]
fn a_direct_room_is_closed_to_all_others_whatever_their_role() {
    let server = Server::unlimited(&[]);
    let mut anna = server.client("anna");
    let room = anna.ok("create_room", json!({"name": "x", "type": "direct", "recipientId": "berta"}))["id"].clone();
    let room = room.as_str().unwrap();
    for (user, role) in [("eve", ""), ("root", "admin"), ("mod", "moderator")] {
        let mut client = server.client_as(user, role);
        client.refused("access_denied", "join_room", json!({"roomId": room}));
        let token = server.room_token(user, room, Some("owner"));
        client.refused("access_denied", "join_room", json!({"roomId": room, "roomToken": token}));
        for (command, data) in [
            ("invite_member", json!({"roomId": room, "userId": "eve"})),
            ("remove_member", json!({"roomId": room, "userId": "anna"})),
            ("update_room", json!({"roomId": room, "name": "x"})),
            ("delete_room", json!({"roomId": room})),
        ] {
            client.refused("access_denied", command, data);
        }
    }
    anna.join(room);
    anna.refused("forbidden", "invite_member", json!({"roomId": room, "userId": "eve"}));
    anna.refused("forbidden", "remove_member", json!({"roomId": room, "userId": "berta"}));
    server.client("berta").join(room);
}
