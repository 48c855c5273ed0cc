//! Who may do what in a room: roles, members, settings, its end (R-ROOM-3, R-ID-3).
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

/// A private room `club` with an owner, a moderator and a member, none of whom is in it yet.
fn club(server: &Server) -> [Client; 3] {
    let [mut owner, mut moderator, mut member] = ["owner", "moderator", "member"].map(|user| server.client(user));
    owner.create_room("club", "private");
    for client in [&mut moderator, &mut member] {
        let user = client.ready["userId"].clone();
        owner.ok("invite_member", json!({"roomId": "club", "userId": user}));
        client.join("club");
        client.ok("leave_room", json!({"roomId": "club"}));
    }
    owner.ok("set_role", json!({"roomId": "club", "userId": "moderator", "role": "moderator"}));
    [owner, moderator, member]
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
    owner.create_room("club", "public");
    for client in [&mut owner, &mut anna, &mut berta] {
        client.join("club");
    }
    let epoch = anna.say("club", "x")["epoch"].clone();
    owner.ok("delete_room", json!({"roomId": "club"}));
    for client in [&mut owner, &mut anna, &mut berta] {
        assert_eq!(client.event("room_closed"), json!({"roomId": "club", "reason": "deleted"}));
        client.refused("not_in_room", "get_history", json!({"roomId": "club"}));
    }
    berta.create_room("club", "private");
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
