//! Coming back without a gap: recovery by position on join (R-REC-1) and by resuming a session (R-REC-2).
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

fn position(ack: &Value) -> Value {
    json!({"epoch": ack["epoch"], "offset": ack["offset"]})
}

/// Offsets of a list of `{type, data}`.
fn offsets(events: &Value) -> Vec<u64> {
    events.as_array().unwrap().iter().map(|event| event["data"]["offset"].as_u64().unwrap()).collect()
}

/// What a client needs to come back.
fn resume_data(client: &Client, rooms: Value) -> Value {
    json!({"sessionId": client.ready["sessionId"], "resumeToken": client.ready["resumeToken"], "rooms": rooms})
}

/// R-REC-1, both sides of the limit of five.
#[test]
fn a_join_brings_all_that_was_missed_or_a_plain_no() {
    let server = Server::unlimited(&["recovery.limit=5", "rooms.recent=2"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    let last: Value = (1..=12).map(|number| anna.say("lobby", &number.to_string())).last().unwrap();
    let epoch = last["epoch"].clone();
    for (offset, expected) in [
        (12, Some(vec![])),
        (11, Some(vec![12])),
        (7, Some(vec![8, 9, 10, 11, 12])),
        (6, None),
        (0, None),
        (13, None),
        (9_007_199_254_740_991_u64, None),
    ] {
        let snapshot = berta.join_with(json!({"roomId": "lobby", "recover": {"epoch": epoch, "offset": offset}}));
        assert_eq!((&snapshot["recovered"], &snapshot["offset"]), (&expected.is_some().into(), &12.into()), "{offset}");
        match expected {
            Some(expected) => {
                assert_eq!(offsets(&snapshot["events"]), expected);
                assert!(snapshot.get("recentMessages").is_none());
            }
            None => {
                assert!(snapshot.get("events").is_none());
                let recent = snapshot["recentMessages"].as_array().unwrap();
                assert_eq!(recent.iter().map(|message| &message["offset"]).collect::<Vec<_>>(), [11, 12]);
            }
        }
        berta.ok("leave_room", json!({"roomId": "lobby"}));
    }
    let other = json!({"roomId": "lobby", "recover": {"epoch": "another", "offset": 12}});
    assert_eq!(berta.join_with(other)["recovered"], false);
    assert!(anna.join("lobby").get("recovered").is_none(), "not asked, not answered");
    for recover in [
        json!({}),
        json!({"epoch": epoch}),
        json!({"offset": 1}),
        json!({"epoch": epoch, "offset": -1}),
        json!({"epoch": epoch, "offset": 1.5}),
        json!({"epoch": 5, "offset": 1}),
        json!({"epoch": "x".repeat(17), "offset": 1}),
        json!([]),
        json!("x"),
    ] {
        let error = berta.refused("invalid_argument", "join_room", json!({"roomId": "lobby", "recover": recover}));
        assert_eq!(error["field"], "recover");
    }
}

/// Every durable event is brought back, each as it was told, in order.
#[test]
fn changes_of_members_and_room_are_recovered_too() {
    let server = Server::unlimited(&[]);
    let (mut owner, mut anna, mut berta) = (server.client("owner"), server.client("anna"), server.client("berta"));
    owner.ok("create_room", json!({"roomId": "club", "name": "Club", "type": "private"}));
    for user in ["anna", "berta"] {
        owner.ok("invite_member", json!({"roomId": "club", "userId": user}));
    }
    berta.join("club");
    let snapshot = anna.join("club");
    let start = position(&snapshot);
    berta.so_far();
    anna.ok("leave_room", json!({"roomId": "club"}));
    owner.join("club");
    owner.say("club", "while you were away");
    owner.ok("update_room", json!({"roomId": "club", "name": "New"}));
    owner.ok("invite_member", json!({"roomId": "club", "userId": "carla"}));
    owner.ok("set_role", json!({"roomId": "club", "userId": "anna", "role": "moderator"}));
    owner.ok("remove_member", json!({"roomId": "club", "userId": "carla"}));
    owner.say("club", "the last");
    let told: Vec<Value> = berta
        .heard(&mut owner, "club")
        .into_iter()
        .filter(|event| event["data"].get("offset").is_some())
        .map(|event| json!({"type": event["type"], "data": event["data"]}))
        .filter(|event| event["data"]["offset"].as_u64() > start["offset"].as_u64())
        .collect();
    let snapshot = anna.join_with(json!({"roomId": "club", "recover": start}));
    assert_eq!(snapshot["recovered"], true);
    assert_eq!(snapshot["events"], Value::from(told));
    let kinds: Vec<&str> =
        snapshot["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = ["chat_message", "room_updated", "member_added", "role_changed", "member_removed", "chat_message"];
    assert_eq!(kinds, expected);
}

#[test]
fn a_session_resumes_with_its_token() {
    let server = Server::with_shards(3, &["limits.messages=0"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    let rooms = ["one", "two", "three", "four", "five"];
    let mut positions = json!({});
    for room in rooms {
        anna.join(room);
        berta.join(room);
        positions[room] = position(&berta.say(room, "before"));
    }
    let data = resume_data(&anna, positions);
    anna.cut();
    let ids = rooms.map(|room| berta.say(room, "missed")["messageId"].clone());
    berta.say("five", "and another");

    let mut again = server.client("anna");
    let result = again.ok("resume", data.clone());
    assert_eq!(result["connectionId"], again.ready["connectionId"]);
    let resumed = result["rooms"].as_array().unwrap();
    assert_eq!(resumed.len(), 5);
    for (room, id) in rooms.iter().zip(&ids) {
        let part = resumed.iter().find(|part| part["roomId"] == *room).unwrap();
        assert_eq!(part["recovered"], true);
        assert_eq!(part["events"][0]["data"]["id"], *id);
        let count = if *room == "five" { 3 } else { 2 };
        assert_eq!((&part["offset"], offsets(&part["events"])), (&count.into(), (2..=count).collect::<Vec<u64>>()));
        assert_eq!(part.as_object().unwrap().len(), 5);
    }
    // The session goes on: live delivery, and the next resume by the token that came with the answer.
    for room in rooms {
        let sent = berta.say(room, "after");
        assert_eq!(again.event("chat_message")["offset"], sent["offset"]);
    }
    let mut third = server.client("anna");
    let mut data = data;
    data["resumeToken"] = result["resumeToken"].clone();
    data["rooms"] = json!({});
    let result = third.ok("resume", data);
    assert_eq!(result["rooms"], json!([]));
    assert_eq!(again.closed(), 4009);
}

#[test]
fn an_old_connection_that_is_still_open_closes_4009() {
    let server = Server::with_shards(3, &["presence.leave_grace_ms=3600000"]);
    let (mut watcher, mut helper) = (server.client("watcher"), server.client("helper"));
    watcher.join("lobby");
    helper.join("lobby");
    watcher.heard(&mut helper, "lobby");
    for round in 0..6 {
        let user = format!("anna-{round}");
        let (mut old, mut other_device) = (server.client(&user), server.client(&user));
        let start = position(&old.join("lobby"));
        other_device.join("lobby");
        let mut new = server.client(&user);
        new.ok("resume", resume_data(&old, json!({"lobby": start})));
        assert_eq!(old.closed(), 4009);
        new.so_far();
        other_device.so_far();
        let heard = watcher.heard_types(&mut helper, "lobby");
        assert_eq!(heard, [("user_joined".to_string(), user)], "nobody else notices");
    }
}

#[test]
fn a_session_resumes_after_the_server_was_killed() {
    let mut server = Server::unlimited(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    berta.join("lobby");
    let start = position(&berta.say("lobby", "1"));
    berta.say("lobby", "2");
    server.restart();
    let mut again = server.client("anna");
    let result = again.ok("resume", resume_data(&anna, json!({"lobby": start})));
    assert_eq!(offsets(&result["rooms"][0]["events"]), [2]);
    assert_eq!(result["rooms"][0]["epoch"], start["epoch"], "the log was not lost");
    let mut berta = server.client("berta");
    let snapshot = berta.join_with(json!({"roomId": "lobby", "recover": {"epoch": start["epoch"], "offset": 0}}));
    assert_eq!((&snapshot["recovered"], offsets(&snapshot["events"])), (&true.into(), vec![1, 2]));
    berta.say("lobby", "3");
    assert_eq!(again.event("chat_message")["offset"], 3);
}

#[test]
fn a_resume_token_is_bound_to_user_session_and_server() {
    let server = Server::start(&["limits.commands=0"]);
    let (anna, mut berta, other) = (server.client("anna"), server.client("berta"), server.client("anna"));
    let elsewhere = Server::start(&[]).client("anna");
    let mut again = server.client("anna");
    let good = resume_data(&anna, json!({}));
    berta.refused("not_found", "resume", good.clone());
    let token = good["resumeToken"].as_str().unwrap();
    let flipped = format!("{}{}", if token.starts_with('A') { "B" } else { "A" }, &token[1..]);
    let mut last = token.to_string();
    let tail = last.pop().unwrap();
    last.push(if tail == 'A' { 'Q' } else { 'A' });
    for (field, value) in [
        ("sessionId", other.ready["sessionId"].clone()),
        ("sessionId", again.ready["sessionId"].clone()),
        ("sessionId", anna.ready["connectionId"].clone()),
        ("sessionId", json!("")),
        ("resumeToken", other.ready["resumeToken"].clone()),
        ("resumeToken", elsewhere.ready["resumeToken"].clone()),
        ("resumeToken", json!(flipped)),
        ("resumeToken", json!(last)),
        ("resumeToken", json!(&token[..token.len() - 1])),
        ("resumeToken", json!(server.token("anna"))),
        ("resumeToken", json!("")),
    ] {
        let mut data = good.clone();
        data[field] = value;
        again.refused("not_found", "resume", data);
    }
    for field in ["sessionId", "resumeToken", "rooms"] {
        let mut data = good.clone();
        data.as_object_mut().unwrap().remove(field);
        assert_eq!(again.refused("invalid_argument", "resume", data)["field"], field);
    }
    let start = json!({"epoch": "x", "offset": 0});
    let many = |count: usize| (0..count).map(|n| (format!("r{n}"), start.clone())).collect::<serde_json::Map<_, _>>();
    for rooms in [json!([]), json!({"a b": start}), json!({"r": 7}), json!({"r": {"epoch": "x"}}), json!(many(129))] {
        let mut data = good.clone();
        data["rooms"] = rooms;
        assert_eq!(again.refused("invalid_argument", "resume", data)["field"], "rooms");
    }
    let mut data = good.clone();
    data["rooms"] = json!(many(128));
    let result = again.ok("resume", data);
    assert_eq!(result["rooms"].as_array().unwrap().len(), 128);
    assert!(anna.ready["sessionId"] != again.ready["sessionId"]);
}

/// R-REC-2: rights are checked anew, and a room that is closed to the user is no part of the session any more.
#[test]
fn a_resume_brings_no_room_that_the_user_may_not_read() {
    let server = Server::unlimited(&[]);
    let (mut owner, mut anna) = (server.client("owner"), server.client("anna"));
    for room in ["kept", "lost", "gone"] {
        owner.ok("create_room", json!({"roomId": room, "name": "x", "type": "private"}));
        owner.ok("invite_member", json!({"roomId": room, "userId": "anna"}));
    }
    let rooms: serde_json::Map<String, Value> =
        ["kept", "lost", "gone"].iter().map(|room| (room.to_string(), position(&anna.join(room)))).collect();
    let mut rooms = Value::from(rooms);
    rooms["missing"] = json!({"epoch": "x", "offset": 0});
    let data = resume_data(&anna, rooms);
    anna.cut();
    owner.ok("remove_member", json!({"roomId": "lost", "userId": "anna"}));
    owner.ok("delete_room", json!({"roomId": "gone"}));
    owner.ok("create_room", json!({"roomId": "gone", "name": "x", "type": "private"}));
    let mut again = server.client("anna");
    let result = again.ok("resume", data);
    for part in result["rooms"].as_array().unwrap() {
        match part["roomId"].as_str().unwrap() {
            "kept" => assert_eq!(part["recovered"], true),
            room => {
                let expected = json!({"roomId": room, "recovered": false, "epoch": null, "offset": null, "events": []});
                assert_eq!(*part, expected);
                again.refused("not_in_room", "chat_message", json!({"roomId": room, "message": "x"}));
            }
        }
    }
    assert_eq!(result["rooms"].as_array().unwrap().len(), 4);
    again.say("kept", "x");
}

/// Too much missed: subscribed from the head on, and told so.
#[test]
fn a_resume_that_missed_too_much_says_so_and_goes_on() {
    let server = Server::unlimited(&["recovery.limit=3"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    let start = position(&anna.join("lobby"));
    berta.join("lobby");
    (0..4).for_each(|_| drop(berta.say("lobby", "x")));
    let mut again = server.client("anna");
    let result = again.ok("resume", resume_data(&anna, json!({"lobby": start})));
    let part = &result["rooms"][0];
    assert_eq!((&part["recovered"], &part["offset"], &part["events"]), (&false.into(), &4.into(), &json!([])));
    berta.say("lobby", "y");
    assert_eq!(again.event("chat_message")["offset"], 5);
}

/// `limits.rooms_per_session` holds for a resume as for joins (R-ROOM-5), and resuming again is no way around it.
#[test]
fn a_resume_keeps_to_the_rooms_of_a_session() {
    let server = Server::with_shards(3, &["limits.rooms_per_session=4", "limits.commands=0"]);
    let mut owner = server.client("owner");
    let names: Vec<String> = (0..12).map(|n| format!("room-{n}")).collect();
    for room in &names {
        owner.ok("create_room", json!({"roomId": room, "name": "x", "type": "public"}));
    }
    let mut anna = server.client("anna");
    for chunk in names.chunks(4) {
        let rooms: serde_json::Map<String, Value> =
            chunk.iter().map(|room| (room.clone(), json!({"epoch": "x", "offset": 0}))).collect();
        let result = anna.ok("resume", resume_data(&anna, rooms.into()));
        assert_eq!(result["rooms"].as_array().unwrap().len(), 4, "each room has its answer");
    }
    let mut joined = 0;
    for room in &names {
        match anna.ask("leave_room", json!({"roomId": room})) {
            Ok(_) => joined += 1,
            Err(error) => assert_eq!(error["code"], "not_in_room"),
        }
    }
    assert_eq!(joined, 4);
}

/// Product section 12: acked messages are never lost, doubled, reordered. A reader that is cut again and again, and comes back in
/// either way, sees each message once and in order, while others write.
#[test]
fn a_reader_that_comes_and_goes_misses_nothing() {
    let server =
        Server::with_shards(3, &["limits.messages=0", "limits.commands=0", "rooms.recent=5", "recovery.limit=2000"]);
    const MESSAGES: u64 = 600;
    let mut reader = server.client("reader");
    let snapshot = reader.join("lobby");
    let (epoch, mut seen) = (snapshot["epoch"].clone(), 0);
    let mut writer = server.client("writer");
    writer.join("lobby");
    let writing = std::thread::spawn(move || {
        for number in 1..=MESSAGES {
            assert_eq!(writer.say("lobby", &number.to_string())["offset"], number);
        }
        writer
    });
    let mut take = |offset: u64| {
        assert_eq!(offset, seen + 1, "after {seen}");
        seen = offset;
        seen
    };
    let (mut returns, mut last) = (0, 0);
    while last < MESSAGES {
        for _ in 0..20 {
            if last < MESSAGES {
                last = take(reader.event("chat_message")["offset"].as_u64().unwrap());
            }
        }
        let position = json!({"epoch": epoch, "offset": last});
        let data = resume_data(&reader, json!({"lobby": position}));
        returns += 1;
        match returns % 3 {
            0 => reader.cut(),
            1 => reader.close(1000),
            _ => drop(std::mem::replace(&mut reader, server.client("reader"))),
        }
        reader = server.client("reader");
        let recovered = if returns % 2 == 0 {
            reader.ok("resume", data)["rooms"][0].clone()
        } else {
            reader.join_with(json!({"roomId": "lobby", "recover": position}))
        };
        assert_eq!(recovered["recovered"], true);
        let missed = offsets(&recovered["events"]);
        missed.iter().for_each(|offset| last = take(*offset));
        assert_eq!(recovered["offset"], last, "the events reach up to the offset from which delivery is live");
    }
    let mut writer = writing.join().unwrap();
    assert_eq!(reader.heard(&mut writer, "lobby").len(), 0);
    assert!(returns > 5, "{returns}");
}
