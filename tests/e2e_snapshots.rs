//! What a room tells those who come and those who are there: snapshot, leaving, history, order (R-ROOM-4, R-ROOM-5, R-CHAT-6, R-ENV-4).
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
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
    anna.create_room("club", "private");
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
