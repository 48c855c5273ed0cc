//! Rooms as their users see them: making, joining, members and roles, leaving, history (R-ROOM-1 to 5, R-ID-2, R-ID-3, R-SEC-3).
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

fn create(client: &mut Client, room: &str, kind: &str) -> Value {
    client.ok("create_room", json!({"roomId": room, "name": "A room", "type": kind}))
}

/// A private room `club` with an owner, a moderator and a member, none of whom is in it yet.
fn club(server: &Server) -> [Client; 3] {
    let [mut owner, mut moderator, mut member] = ["owner", "moderator", "member"].map(|user| server.client(user));
    create(&mut owner, "club", "private");
    for client in [&mut moderator, &mut member] {
        let user = client.ready["userId"].clone();
        owner.ok("invite_member", json!({"roomId": "club", "userId": user}));
        client.join("club");
        client.ok("leave_room", json!({"roomId": "club"}));
    }
    owner.ok("set_role", json!({"roomId": "club", "userId": "moderator", "role": "moderator"}));
    [owner, moderator, member]
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

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
    create(&mut anna, "club", "private");
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
    create(&mut anna, "r1", "public");
    anna.refused("conflict", "create_room", json!({"roomId": "r1", "name": "x", "type": "public"}));
    anna.refused("invalid_argument", "create_room", json!({"roomId": "r2", "type": "public"}));
    create(&mut anna, "r2", "public");
    let direct = json!({"name": "x", "type": "direct", "recipientId": "berta"});
    let id = anna.ok("create_room", direct.clone())["id"].clone();
    let error = anna.refused("rate_limited", "create_room", json!({"roomId": "r4", "name": "x", "type": "public"}));
    assert!((1..=3_600_000).contains(&error["retryAfterMs"].as_u64().unwrap()), "{error}");
    let mut other = server.client("anna");
    other.refused("rate_limited", "create_room", json!({"roomId": "r4", "name": "x", "type": "public"}));
    create(&mut server.client("berta"), "r4", "public");
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
    create(&mut owner, "hidden", "private");
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
    create(&mut anna, "open", "public");
    create(&mut anna, "closed", "private");
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
    create(&mut owner, "club", "private");
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
    create(&mut owner, "club", "private");
    create(&mut owner, "other", "private");
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

// --- rights (R-ROOM-3, R-ID-3; product section 12: every command × role without the right)

#[test]
fn every_command_needs_its_role() {
    let server = Server::unlimited(&[]);
    let [owner, moderator, member] = club(&server);
    let (invited, stranger) = (server.client("guest"), server.client("stranger"));
    let (admin, global_moderator) = (server.client_as("root", "admin"), server.client_as("helper", "moderator"));
    let other_role = server.client_as("poet", "poet");
    let mut owner = owner;
    owner.ok("invite_member", json!({"roomId": "club", "userId": "guest"}));
    let mut clients = [owner, moderator, member, invited, stranger, admin, global_moderator, other_role];
    let mut number = 0;
    // Who may: owner, moderator, member, invited, stranger, global admin, global moderator, another global role.
    const BY_MODERATORS: [bool; 8] = [true, true, false, false, false, true, true, false];
    const BY_OWNERS: [bool; 8] = [true, false, false, false, false, true, false, false];
    for (command, may) in [
        ("invite_member", BY_MODERATORS),
        ("remove_member", BY_MODERATORS),
        ("set_role", BY_OWNERS),
        ("update_room", BY_OWNERS),
    ] {
        for (index, may) in may.into_iter().enumerate() {
            number += 1;
            let target = format!("target-{number}");
            if command != "invite_member" {
                clients[0].ok("invite_member", json!({"roomId": "club", "userId": target}));
            }
            if command == "set_role" {
                server.client(&target).join("club");
            }
            let data = match command {
                "set_role" => json!({"roomId": "club", "userId": target, "role": "moderator"}),
                "update_room" => json!({"roomId": "club", "name": target}),
                _ => json!({"roomId": "club", "userId": target}),
            };
            let answer = clients[index].ask(command, data);
            let expected = match index {
                _ if may => None,
                // Whoever cannot see the room learns nothing about it.
                4 | 7 => Some("access_denied"),
                _ => Some("forbidden"),
            };
            let found = answer.as_ref().err().map(|error| error["code"].as_str().unwrap());
            assert_eq!(found, expected, "{command} by {index}: {answer:?}");
        }
    }
    for index in [1, 2, 3, 6] {
        clients[index].refused("forbidden", "delete_room", json!({"roomId": "club"}));
    }
    for index in [4, 7] {
        clients[index].refused("access_denied", "delete_room", json!({"roomId": "club"}));
    }
    clients[5].ok("delete_room", json!({"roomId": "club"}));
}

#[test]
fn in_a_room_one_has_not_joined_nothing_can_be_done() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    for room in ["lobby", "nowhere"] {
        for (command, extra) in [
            ("leave_room", json!({})),
            ("chat_message", json!({"message": "x"})),
            ("send_message", json!({"message": "x"})),
            ("broadcast", json!({"event": "x"})),
            ("typing_start", json!({})),
            ("typing_stop", json!({})),
            ("get_history", json!({})),
            ("get_online_users", json!({})),
        ] {
            let mut data = extra;
            data["roomId"] = room.into();
            berta.refused("not_in_room", command, data);
        }
    }
    assert_eq!(anna.so_far(), Vec::<Value>::new());
}

#[test]
fn nobody_acts_on_an_equal_or_higher_role() {
    let server = Server::unlimited(&[]);
    let [mut owner, mut moderator, mut member] = club(&server);
    let target = |user: &str| json!({"roomId": "club", "userId": user});
    moderator.refused("forbidden", "remove_member", target("owner"));
    moderator.refused("forbidden", "remove_member", target("moderator"));
    member.refused("forbidden", "remove_member", target("member"));
    moderator.refused("not_found", "remove_member", target("nobody"));
    moderator.ok("remove_member", target("member"));
    member.refused("access_denied", "join_room", json!({"roomId": "club"}));
    owner.refused("not_found", "set_role", json!({"roomId": "club", "userId": "nobody", "role": "member"}));
    for role in ["invited", "king", ""] {
        let data = json!({"roomId": "club", "userId": "moderator", "role": role});
        assert_eq!(owner.refused("invalid_argument", "set_role", data)["field"], "role");
    }
}

#[test]
fn the_last_owner_stays() {
    let server = Server::unlimited(&[]);
    let [mut owner, mut moderator, _] = club(&server);
    owner.join("club");
    let role = |user: &str, role: &str| json!({"roomId": "club", "userId": user, "role": role});
    owner.refused("forbidden", "set_role", role("owner", "member"));
    owner.refused("forbidden", "leave_room", json!({"roomId": "club", "permanent": true}));
    owner.ok("set_role", role("moderator", "owner"));
    let changed = owner.event("role_changed");
    assert_eq!((&changed["userId"], &changed["role"]), (&"moderator".into(), &"owner".into()));
    assert_eq!(changed["changedBy"], "owner");
    owner.ok("leave_room", json!({"roomId": "club", "permanent": true}));
    owner.refused("access_denied", "join_room", json!({"roomId": "club"}));
    moderator.join("club");
    moderator.refused("forbidden", "set_role", role("moderator", "moderator"));
}

#[test]
fn a_removed_user_is_out_at_once_on_all_devices() {
    let server = Server::unlimited(&[]);
    let [mut owner, mut moderator, mut member] = club(&server);
    let mut tablet = server.client("member");
    for client in [&mut owner, &mut moderator, &mut member, &mut tablet] {
        client.join("club");
    }
    owner.so_far();
    moderator.ok("remove_member", json!({"roomId": "club", "userId": "member"}));
    for client in [&mut member, &mut tablet] {
        assert_eq!(client.event("room_closed"), json!({"roomId": "club", "reason": "removed"}));
        client.refused("not_in_room", "chat_message", json!({"roomId": "club", "message": "still here?"}));
        client.refused("access_denied", "join_room", json!({"roomId": "club"}));
    }
    owner.say("club", "without them");
    let heard = owner.heard(&mut moderator, "club");
    let told: Vec<_> = heard.iter().filter(|event| event["type"] != "ack").collect();
    let removed = told.iter().find(|event| event["type"] == "member_removed").unwrap();
    assert_eq!((&removed["data"]["userId"], &removed["data"]["removedBy"]), (&"member".into(), &"moderator".into()));
    assert!(told.iter().any(|event| event["type"] == "user_left" && event["data"]["userId"] == "member"));
    assert_eq!(member.so_far(), Vec::<Value>::new());
}

#[test]
fn an_update_is_told_to_the_room_and_checked() {
    let server = Server::unlimited(&[]);
    let [mut owner, _, mut member] = club(&server);
    let before = member.join("club");
    let info = owner.ok("update_room", json!({"roomId": "club", "name": "New", "slowModeSeconds": 7}));
    assert_eq!((&info["name"], &info["slowModeSeconds"], &info["id"]), (&"New".into(), &7.into(), &"club".into()));
    let told = member.event("room_updated");
    assert_eq!((&told["name"], &told["slowModeSeconds"]), (&"New".into(), &7.into()));
    assert_eq!((&told["updatedBy"], told.get("description")), (&"owner".into(), None));
    assert_eq!(told["offset"].as_u64().unwrap(), before["offset"].as_u64().unwrap() + 1);
    owner.ok("update_room", json!({"roomId": "club", "slowModeSeconds": 21_600}));
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("x".repeat(101))),
        ("description", json!("x".repeat(501))),
        ("slowModeSeconds", json!(21_601)),
        ("slowModeSeconds", json!(-1)),
        ("slowModeSeconds", json!(1.5)),
    ] {
        let mut data = json!({"roomId": "club"});
        data[field] = value;
        assert_eq!(owner.refused("invalid_argument", "update_room", data)["field"], field);
    }
    owner.refused("invalid_argument", "update_room", json!({"roomId": "club"}));
}

/// R-MOD-2's slow mode is part of `update_room`: members wait, moderators and owners do not.
#[test]
fn slow_mode_slows_members_only() {
    let server = Server::unlimited(&[]);
    let [mut owner, mut moderator, mut member] = club(&server);
    owner.ok("update_room", json!({"roomId": "club", "slowModeSeconds": 3_600}));
    for client in [&mut owner, &mut moderator] {
        client.join("club");
        client.say("club", "one");
        client.say("club", "two");
    }
    member.join("club");
    let first = member.ok("chat_message", json!({"roomId": "club", "message": "one", "clientId": "c1"}));
    let error = member.refused("slow_mode", "chat_message", json!({"roomId": "club", "message": "two"}));
    assert!((3_500_000..=3_600_000).contains(&error["retryAfterMs"].as_u64().unwrap()), "{error}");
    // Idempotency comes before slow mode (R-CHAT-2).
    let again = member.ok("chat_message", json!({"roomId": "club", "message": "one", "clientId": "c1"}));
    assert_eq!((&again["messageId"], &again["duplicate"]), (&first["messageId"], &true.into()));
}

#[test]
fn a_deleted_room_closes_for_all_and_its_name_is_free() {
    let server = Server::unlimited(&[]);
    let (mut owner, mut anna, mut berta) = (server.client("owner"), server.client("anna"), server.client("berta"));
    create(&mut owner, "club", "public");
    for client in [&mut owner, &mut anna, &mut berta] {
        client.join("club");
    }
    let epoch = anna.say("club", "x")["epoch"].clone();
    owner.ok("delete_room", json!({"roomId": "club"}));
    for client in [&mut owner, &mut anna, &mut berta] {
        assert_eq!(client.event("room_closed"), json!({"roomId": "club", "reason": "deleted"}));
        client.refused("not_in_room", "get_history", json!({"roomId": "club"}));
    }
    create(&mut berta, "club", "private");
    let snapshot = berta.join("club");
    assert_eq!((&snapshot["offset"], &snapshot["role"]), (&0.into(), &"owner".into()));
    assert_ne!(snapshot["epoch"], epoch, "another life, another epoch");
    anna.refused("access_denied", "join_room", json!({"roomId": "club"}));
}

#[test]
fn in_public_rooms_membership_begins_with_the_first_message() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    let count = |client: &mut Client| client.join("lobby")["roomInfo"]["memberCount"].clone();
    assert_eq!((count(&mut anna), count(&mut berta)), (0.into(), 0.into()));
    anna.say("lobby", "hello");
    assert_eq!(count(&mut berta), 1);
    anna.say("lobby", "again");
    assert_eq!(count(&mut berta), 1);
    anna.ok("leave_room", json!({"roomId": "lobby"}));
    assert_eq!(count(&mut berta), 1, "membership outlives the subscription");
    anna.join("lobby");
    anna.ok("leave_room", json!({"roomId": "lobby", "permanent": true}));
    assert_eq!(count(&mut berta), 0);
}

// --- snapshot (R-ROOM-4), leaving (R-ROOM-5), history (R-CHAT-6)

#[test]
fn the_snapshot_tells_all_and_no_more() {
    let server = Server::unlimited(&["rooms.recent=3"]);
    let email = throng::boot::dev::Claims { user_id: "anna", email: Some("anna@example.com"), ..Default::default() };
    let mut anna = server.client_by(&server.sign(&email));
    let mut berta = server.client("berta");
    anna.join("lobby");
    for text in ["1", "2", "3", "4"] {
        anna.ok("chat_message", json!({"roomId": "lobby", "message": text, "metadata": {"n": text}, "clientId": text}));
    }
    let snapshot = berta.join("lobby");
    let mut keys: Vec<&str> = snapshot.as_object().unwrap().keys().map(|key| &**key).collect();
    keys.sort_unstable();
    let expected = [
        "epoch",
        "offset",
        "onlineCount",
        "onlineUsers",
        "recentMessages",
        "role",
        "roomId",
        "roomInfo",
        "timestamp",
        "users",
    ];
    assert_eq!(keys, expected);
    let recent: Vec<&str> =
        snapshot["recentMessages"].as_array().unwrap().iter().map(|m| m["message"].as_str().unwrap()).collect();
    assert_eq!(recent, ["2", "3", "4"]);
    assert_eq!((&snapshot["offset"], &snapshot["onlineCount"]), (&4.into(), &2.into()));
    let mut users: Vec<&str> =
        snapshot["users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["anna", "berta"]);
    for user in snapshot["onlineUsers"].as_array().unwrap() {
        assert_eq!(user.as_object().unwrap().len(), 3, "{user}");
        assert_eq!(user["status"], "online");
        assert!(user["lastActivity"].as_u64().unwrap() > 1_700_000_000_000);
    }
    let message = &snapshot["recentMessages"][2];
    let expected = json!({
        "id": message["id"], "roomId": "lobby", "userId": "anna", "message": "4", "messageType": "text",
        "metadata": {"n": "4"}, "timestamp": message["timestamp"], "edited": false, "reactions": {},
        "reactionCounts": {}, "offset": 4, "epoch": snapshot["epoch"], "clientId": "4", "deleted": false
    });
    assert_eq!(*message, expected);
    // R-SEC-4, R-SEC-6.
    let text = snapshot.to_string();
    for private in ["conn_", "sess_", "anna@example.com"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

#[test]
fn e_mail_addresses_are_shown_only_if_that_is_configured() {
    let server = Server::unlimited(&["privacy.expose_email=true"]);
    let email = throng::boot::dev::Claims { user_id: "anna", email: Some("anna@example.com"), ..Default::default() };
    let mut berta = server.client("berta");
    berta.join("lobby");
    let mut anna = server.client_by(&server.sign(&email));
    anna.join("lobby");
    assert_eq!(berta.event("user_joined")["userEmail"], "anna@example.com");
    anna.say("lobby", "x");
    assert_eq!(berta.event("chat_message")["userEmail"], "anna@example.com");
}

#[test]
fn a_join_is_answered_before_its_snapshot_and_events_follow_without_gap() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    let id = berta.send("join_room", json!({"roomId": "lobby"}));
    let (ack, snapshot) = (berta.next(), berta.next());
    assert_eq!((&ack["type"], &ack["data"]["requestId"]), (&"ack".into(), &id.into()));
    assert_eq!(ack["data"]["result"], json!({"role": null}));
    assert_eq!((&snapshot["type"], &snapshot["data"]["offset"]), (&"room_state".into(), &0.into()));
    anna.say("lobby", "1");
    assert_eq!(berta.next()["data"]["offset"], 1);
}

/// A second join of a joined room is answered like the first and changes nothing for others.
#[test]
fn joining_twice_is_joining_once() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    berta.join("lobby");
    assert_eq!(berta.join("lobby")["onlineCount"], 2);
    assert_eq!(anna.heard_types(&mut berta, "lobby"), [("user_joined".to_string(), "berta".to_string())]);
    anna.say("lobby", "x");
    assert_eq!(kinds(&berta.heard(&mut anna, "lobby")), ["chat_message"], "once, not twice");
    berta.ok("leave_room", json!({"roomId": "lobby"}));
    berta.refused("not_in_room", "leave_room", json!({"roomId": "lobby"}));
    anna.say("lobby", "y");
    assert_eq!(berta.so_far(), Vec::<Value>::new());
}

/// R-ROOM-4: live delivery goes on at offset + 1 after every snapshot, also for those who were in the room already.
#[test]
fn a_snapshot_in_the_middle_of_a_room_doubles_nothing() {
    for shards in [1, 3] {
        let server = Server::with_shards(shards, &["limits.messages=0", "limits.commands=0", "rooms.recent=1000"]);
        let (mut reader, mut writer) = (server.client("reader"), server.client("writer"));
        reader.join("lobby");
        writer.join("lobby");
        let writing = std::thread::spawn(move || {
            for _ in 0..60 {
                let burst: Vec<String> =
                    (0..5).map(|_| writer.send("chat_message", json!({"roomId": "lobby", "message": "x"}))).collect();
                burst.iter().for_each(|id| drop(writer.answer(id).unwrap()));
            }
            writer.say("lobby", "the end");
        });
        let (mut seen, mut asked) = (0, 0);
        loop {
            // Always one join under way.
            if asked == 0 {
                reader.send("join_room", json!({"roomId": "lobby"}));
                asked = 2;
            }
            let event = reader.next();
            match event["type"].as_str().unwrap() {
                "chat_message" => {
                    let offset = event["data"]["offset"].as_u64().unwrap();
                    assert_eq!(offset, seen + 1, "{shards} shards");
                    seen = offset;
                    if event["data"]["message"] == "the end" {
                        break;
                    }
                }
                "room_state" => {
                    let offset = event["data"]["offset"].as_u64().unwrap();
                    assert!(offset >= seen, "a snapshot is never older than what was told");
                    let recent = event["data"]["recentMessages"].as_array().unwrap();
                    assert_eq!(recent.len() as u64, offset, "and complete");
                    seen = offset;
                    asked -= 1;
                    if seen == 301 {
                        break;
                    }
                }
                "ack" => asked -= 1,
                _ => {}
            }
        }
        writing.join().unwrap();
    }
}

#[test]
fn all_online_users_can_be_paged_through() {
    let server = Server::unlimited(&["limits.connections_per_user=0"]);
    let mut clients: Vec<Client> = (0..25).map(|n| server.client(&format!("user-{n:02}"))).collect();
    clients.iter_mut().for_each(|client| drop(client.join("lobby")));
    let (mut found, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let page = clients[0].ok("get_online_users", json!({"roomId": "lobby", "cursor": cursor, "limit": 10}));
        assert_eq!(page["onlineCount"], 25);
        let users = page["onlineUsers"].as_array().unwrap();
        assert!(users.len() <= 10);
        found.extend(users.iter().map(|user| user["userId"].as_str().unwrap().to_string()));
        pages += 1;
        match page.get("nextCursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    found.sort();
    assert_eq!(found, (0..25).map(|n| format!("user-{n:02}")).collect::<Vec<_>>());
    assert_eq!(pages, 3);
    for (field, value) in [("limit", json!(0)), ("limit", json!(201)), ("cursor", json!("x")), ("cursor", json!(7))] {
        let mut data = json!({"roomId": "lobby"});
        data[field] = value;
        assert_eq!(clients[0].refused("invalid_argument", "get_online_users", data)["field"], field);
    }
}

#[test]
fn history_is_paged_in_both_directions() {
    let server = Server::unlimited(&["rooms.recent=5", "recovery.limit=10"]);
    let mut anna = server.client("anna");
    create(&mut anna, "club", "private");
    anna.join("club");
    for number in 1..=120 {
        anna.send("chat_message", json!({"roomId": "club", "message": number.to_string()}));
    }
    // Another durable event leaves a gap in the offsets of messages.
    anna.ok("update_room", json!({"roomId": "club", "name": "New"}));
    anna.say("club", "122");
    let mut page = |extra: Value| {
        let mut data = extra;
        data["roomId"] = "club".into();
        let page = anna.ok("get_history", data);
        assert!(page["epoch"].is_string());
        let messages = page["messages"].as_array().unwrap();
        for message in messages {
            assert_eq!(message["message"], message["offset"].to_string());
        }
        let offsets: Vec<u64> = messages.iter().map(|message| message["offset"].as_u64().unwrap()).collect();
        (offsets, page["hasMore"].as_bool().unwrap())
    };
    let all = |range: std::ops::RangeInclusive<u64>| range.filter(|offset| *offset != 121).collect::<Vec<_>>();
    assert_eq!(page(json!({})), (all(72..=122), true), "the newest 50, oldest first");
    assert_eq!(page(json!({"limit": 2})), (vec![120, 122], true));
    assert_eq!(page(json!({"before": 4})), (all(1..=3), false));
    assert_eq!(page(json!({"before": 1})), (vec![], false));
    assert_eq!(page(json!({"before": 51, "limit": 50})), (all(1..=50), false));
    assert_eq!(page(json!({"before": 52, "limit": 50})), (all(2..=51), true));
    assert_eq!(page(json!({"after": 0, "limit": 100})), (all(1..=100), true));
    assert_eq!(page(json!({"after": 119})), (vec![120, 122], false));
    assert_eq!(page(json!({"after": 122})), (vec![], false));
    assert_eq!(page(json!({"after": 1_000_000})), (vec![], false));
    assert_eq!(page(json!({"before": 9_007_199_254_740_991_u64, "limit": 1})), (vec![122], true));
    for (field, data) in [
        ("limit", json!({"limit": 0})),
        ("limit", json!({"limit": 101})),
        ("limit", json!({"limit": "5"})),
        ("before", json!({"before": -1})),
        ("after", json!({"after": 1.5})),
        ("after", json!({"after": 1, "before": 5})),
    ] {
        let mut data = data;
        data["roomId"] = "club".into();
        assert_eq!(anna.refused("invalid_argument", "get_history", data)["field"], field);
    }
}

/// A chatter's whole first visit in one segment: each step sees the one before it (R-ENV-4).
#[test]
fn commands_take_effect_in_the_order_in_which_they_came() {
    let server = Server::with_shards(3, &["limits.messages=0", "limits.commands=0"]);
    for round in 0..8 {
        let room = format!("room-{round}");
        let mut watcher = server.client("watcher");
        watcher.join(&room);
        let mut anna = server.client(&format!("anna-{round}"));
        anna.send_together(&[
            ("join_room", json!({"roomId": room})),
            ("chat_message", json!({"roomId": room, "message": "one"})),
            ("chat_message", json!({"roomId": room, "message": "two"})),
            ("get_history", json!({"roomId": room})),
            ("leave_room", json!({"roomId": room})),
            ("chat_message", json!({"roomId": room, "message": "three"})),
            ("join_room", json!({"roomId": room})),
        ]);
        let code = |answer: Result<Value, Value>| answer.err().map(|error| error["code"].clone());
        let answers: Vec<_> = (0..7).map(|index| anna.answer(&format!("p{index}"))).collect();
        assert_eq!(answers[1].as_ref().unwrap()["offset"], 1);
        assert_eq!(answers[2].as_ref().unwrap()["offset"], 2);
        assert!(answers[0].is_ok() && answers[3].is_ok() && answers[4].is_ok() && answers[6].is_ok());
        assert_eq!(code(answers[5].clone()), Some("not_in_room".into()));
        let heard = watcher.heard(&mut anna, &room);
        let texts: Vec<_> = heard.iter().filter(|event| event["type"] == "chat_message").collect();
        assert_eq!(texts.iter().map(|event| &event["data"]["message"]).collect::<Vec<_>>(), ["one", "two"]);
    }
}

/// R-ENV-4: for every message the sender hears the ack, then the event; the others hear the event as it is in history.
#[test]
fn the_ack_precedes_the_event() {
    let server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    berta.join("lobby");
    anna.heard(&mut berta, "lobby");
    for number in 1..=20_u64 {
        let id = anna.send("chat_message", json!({"roomId": "lobby", "message": format!("  {number}\n")}));
        let (ack, event) = (anna.next(), anna.next());
        assert_eq!((&ack["type"], &ack["data"]["requestId"]), (&"ack".into(), &id.into()));
        let result = &ack["data"]["result"];
        assert_eq!(result.as_object().unwrap().len(), 5, "{result}");
        assert_eq!((&result["offset"], &result["duplicate"]), (&number.into(), &false.into()));
        let message = &event["data"];
        assert_eq!((&event["type"], &message["id"]), (&"chat_message".into(), &result["messageId"]));
        assert_eq!((&message["timestamp"], &message["epoch"]), (&result["timestamp"], &result["epoch"]));
        assert_eq!(message["message"], number.to_string(), "trimmed");
        assert_eq!(berta.event("chat_message"), *message, "the same for all");
    }
    let history = berta.ok("get_history", json!({"roomId": "lobby"}));
    assert_eq!(history["messages"].as_array().unwrap().len(), 20);
}
