//! Who is here, who types, who is idle (R-PRES-1 to 5), with several devices per user and connections that end in every way.
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

fn told(kind: &str, user: &str) -> (String, String) {
    (kind.into(), user.into())
}

fn typing(events: &[Value]) -> Vec<(String, bool)> {
    let of = |event: &&Value| event["type"] == "typing_indicator";
    let read = |event: &Value| {
        (event["data"]["userId"].as_str().unwrap().to_string(), event["data"]["isTyping"].as_bool().unwrap())
    };
    events.iter().filter(of).map(read).collect()
}

/// R-PRES-1.
#[test]
fn all_devices_of_a_user_are_one_member() {
    let server = Server::with_shards(3, &[]);
    let (mut watcher, mut helper) = (server.client("watcher"), server.client("helper"));
    watcher.join("lobby");
    helper.join("lobby");
    assert_eq!(watcher.heard_types(&mut helper, "lobby"), [told("user_joined", "helper")]);
    let mut devices: Vec<Client> = (0..6).map(|_| server.client("anna")).collect();
    for device in &mut devices {
        assert_eq!(device.join("lobby")["onlineCount"], 3);
    }
    assert_eq!(watcher.heard_types(&mut helper, "lobby"), [told("user_joined", "anna")]);
    assert_eq!(devices[0].heard_types(&mut helper, "lobby"), [], "not to that user");
    for mut device in devices.drain(1..) {
        device.ok("leave_room", json!({"roomId": "lobby"}));
    }
    assert_eq!(watcher.heard_types(&mut helper, "lobby"), []);
    devices[0].ok("leave_room", json!({"roomId": "lobby"}));
    let left = watcher.event("user_left");
    assert_eq!(left, json!({"roomId": "lobby", "userId": "anna", "timestamp": left["timestamp"]}));
    assert_eq!(watcher.join("lobby")["onlineCount"], 2);
}

/// R-PRES-2: within the grace nobody hears of a lost connection.
#[test]
fn whoever_comes_back_in_time_was_never_gone() {
    let server = Server::start(&["presence.leave_grace_ms=60000"]);
    let (mut watcher, mut helper) = (server.client("watcher"), server.client("helper"));
    watcher.join("lobby");
    helper.join("lobby");
    watcher.heard(&mut helper, "lobby");
    for ending in ["cut", "going away", "protocol error"] {
        let mut anna = server.client("anna");
        assert_eq!(anna.join("lobby")["onlineCount"], 3);
        match ending {
            "cut" => anna.cut(),
            "going away" => anna.close(1001),
            _ => {
                anna.send_binary(b"\x00");
                assert_eq!(anna.closed(), 1003);
            }
        }
    }
    let heard = watcher.heard_types(&mut helper, "lobby");
    assert_eq!(heard, [told("user_joined", "anna")], "joined once, left never");
    let listed = watcher.join("lobby");
    assert_eq!((&listed["onlineCount"], listed["users"].as_array().unwrap().len()), (&3.into(), 3));
}

#[test]
fn after_the_grace_the_user_is_gone_once() {
    let server = Server::start(&["presence.leave_grace_ms=300"]);
    let (mut watcher, mut helper) = (server.client("watcher"), server.client("helper"));
    watcher.join("lobby");
    helper.join("lobby");
    let mut devices = [server.client("anna"), server.client("anna")];
    devices.iter_mut().for_each(|device| drop(device.join("lobby")));
    watcher.heard(&mut helper, "lobby");
    devices.into_iter().for_each(Client::cut);
    assert_eq!(watcher.event("user_left")["userId"], "anna");
    assert_eq!(watcher.join("lobby")["onlineCount"], 2);
    // Coming back is coming anew.
    server.client("anna").join("lobby");
    assert_eq!(watcher.event("user_joined")["userId"], "anna");
    assert_eq!(watcher.event("user_left")["userId"], "anna");
    assert_eq!(watcher.heard_types(&mut helper, "lobby"), []);
}

#[test]
fn a_goodbye_is_told_at_once() {
    let server = Server::start(&["presence.leave_grace_ms=3600000"]);
    let mut watcher = server.client("watcher");
    watcher.join("lobby");
    for ending in ["leave", "close 1000"] {
        let mut anna = server.client("anna");
        anna.join("lobby");
        assert_eq!(watcher.event("user_joined")["userId"], "anna");
        match ending {
            "leave" => drop(anna.ok("leave_room", json!({"roomId": "lobby"}))),
            _ => anna.close(1000),
        }
        assert_eq!(watcher.event("user_left")["userId"], "anna", "{ending}");
    }
}

/// R-PRES-2, R-CONN-4: no ghosts, whatever happens to connections. In the end exactly those are online who are.
#[test]
fn churn_leaves_no_ghosts() {
    let server = Server::with_shards(3, &["presence.leave_grace_ms=200", "limits.commands=0"]);
    let rooms = ["r-one", "r-two", "r-three", "r-four"];
    let mut watcher = server.client("watcher");
    rooms.iter().for_each(|room| drop(watcher.join(room)));
    let mut staying = Vec::new();
    for round in 0..60 {
        let mut client = server.client(&format!("user-{}", round % 7));
        // Some connections end while their joins are on the way.
        let commands: Vec<_> = rooms.iter().map(|room| ("join_room", json!({"roomId": room}))).collect();
        client.send_together(&commands);
        if round % 3 == 0 {
            client.answer("p3").unwrap();
        }
        match round % 5 {
            0 => client.close(1000),
            1 => client.cut(),
            2 => client.close(1001),
            3 => client.send_bytes(&[0xff, 0xff]),
            _ if round >= 50 => staying.push(client),
            _ => client.cut(),
        }
    }
    let mut expected: Vec<String> =
        staying.iter().map(|client| client.ready["userId"].as_str().unwrap().into()).collect();
    expected.push("watcher".into());
    expected.sort();
    for room in rooms {
        let online = loop {
            let snapshot = watcher.join(room);
            let mut users: Vec<String> =
                snapshot["users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap().to_string()).collect();
            users.sort();
            assert_eq!(snapshot["onlineCount"], users.len());
            if users.len() <= expected.len() {
                break users;
            }
        };
        assert_eq!(online, expected, "{room}");
    }
    drop(staying);
}

/// R-PRES-3 with a threshold of 3.
#[test]
fn a_crowd_hears_numbers_instead_of_names() {
    let server = Server::start(&["presence.events_max_users=3", "limits.commands=0"]);
    let mut clients: Vec<Client> = (0..6).map(|n| server.client(&format!("u{n}"))).collect();
    clients[0].join("lobby");
    for client in &mut clients[1..3] {
        client.join("lobby");
    }
    let (first, others) = clients.split_at_mut(1);
    let (first, others) = (&mut first[0], others);
    assert_eq!(first.heard_types(&mut others[0], "lobby"), [told("user_joined", "u1"), told("user_joined", "u2")]);
    for client in &mut others[2..] {
        client.join("lobby");
    }
    others[3].send("typing_start", json!({"roomId": "lobby"}));
    // At most one a second, so the last number may come later than the joins.
    let mut seen = Vec::new();
    while seen.last() != Some(&6) {
        let event = first.next();
        assert_eq!(event["type"], "room_occupancy", "{event}");
        assert_eq!(event["data"].as_object().unwrap().len(), 3, "{event}");
        assert_eq!((&event["data"]["roomId"], &event["data"]["members"]), (&"lobby".into(), &0.into()));
        seen.push(event["data"]["online"].as_u64().unwrap());
    }
    assert!(seen.is_sorted() && seen.len() <= 3, "{seen:?}");
    for client in &mut others[1..] {
        client.ok("leave_room", json!({"roomId": "lobby"}));
    }
    let heard = loop {
        let event = first.next();
        if event["type"] == "user_left" {
            break event;
        }
        assert_eq!(event["type"], "room_occupancy", "{event}");
    };
    assert!(["u2", "u3", "u4", "u5"].contains(&heard["data"]["userId"].as_str().unwrap()));
    assert_eq!(first.join("lobby")["onlineCount"], 2);
}

/// R-PRES-4.
#[test]
fn presence_is_shown_to_those_who_share_a_room() {
    let server = Server::with_shards(3, &[]);
    let mut anna = server.client("anna");
    let mut others = ["berta", "carla", "dora"].map(|user| server.client(user));
    anna.join("one");
    anna.join("two");
    others[0].join("one");
    others[1].join("two");
    others[2].join("three");
    let result = anna.ok("get_presence", json!({"userIds": ["dora", "carla", "berta", "anna", "nobody"]}));
    let users = result["users"].as_array().unwrap();
    let shown: Vec<_> = users.iter().map(|user| (user["userId"].as_str().unwrap(), &user["status"])).collect();
    let (online, offline) = (&Value::from("online"), &Value::from("offline"));
    let expected = [("dora", offline), ("carla", online), ("berta", online), ("anna", online), ("nobody", offline)];
    assert_eq!(shown, expected);
    for user in users {
        assert_eq!(user.get("lastActivity").is_some(), user["status"] == "online", "{user}");
    }
    others[1].ok("leave_room", json!({"roomId": "two"}));
    let result = anna.ok("get_presence", json!({"userIds": ["carla"]}));
    assert_eq!(result, json!({"users": [{"userId": "carla", "status": "offline"}]}));
    let many = |count: usize| json!({"userIds": (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>()});
    assert_eq!(anna.ok("get_presence", many(100))["users"].as_array().unwrap().len(), 100);
    assert_eq!(anna.ok("get_presence", many(0))["users"], json!([]));
    for data in [many(101), json!({}), json!({"userIds": "anna"}), json!({"userIds": [7]}), json!({"userIds": [""]})] {
        assert_eq!(anna.refused("invalid_argument", "get_presence", data)["field"], "userIds");
    }
}

/// R-PRES-4: messages, typing and `activity` count, a heartbeat does not.
#[test]
fn activity_is_noted_and_heartbeats_are_not() {
    let server = Server::start(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    berta.join("lobby");
    let mut seen =
        || anna.ok("get_presence", json!({"userIds": ["berta"]}))["users"][0]["lastActivity"].as_u64().unwrap();
    let joined = seen();
    // The clock of activity ticks in seconds.
    let next_second = || std::thread::sleep(std::time::Duration::from_millis(1_100));
    next_second();
    berta.so_far();
    assert_eq!(seen(), joined, "a heartbeat is no activity");
    berta.send("activity", json!({}));
    assert_eq!(berta.so_far(), Vec::<Value>::new(), "no answer");
    let active = seen();
    assert!(active > joined);
    next_second();
    berta.send("typing_start", json!({"roomId": "lobby"}));
    // Typing counts where the room lives, which may be another shard: wait for an answer from there.
    berta.ok("get_history", json!({"roomId": "lobby"}));
    assert!(seen() > active);
}

/// R-PRES-5.
#[test]
fn typing_is_relayed_to_others_and_ends_by_itself() {
    let server = Server::start(&["typing.ttl_ms=400"]);
    let (mut watcher, mut anna, mut tablet) = (server.client("watcher"), server.client("anna"), server.client("anna"));
    for client in [&mut watcher, &mut anna, &mut tablet] {
        client.join("lobby");
    }
    anna.send("typing_start", json!({"roomId": "lobby"}));
    let event = watcher.event("typing_indicator");
    let expected = json!({"roomId": "lobby", "userId": "anna", "isTyping": true, "timestamp": event["timestamp"]});
    assert_eq!(event, expected);
    assert_eq!(watcher.event("typing_indicator")["isTyping"], false, "it expires");
    anna.send("typing_start", json!({"roomId": "lobby"}));
    assert_eq!(watcher.event("typing_indicator")["isTyping"], true);
    anna.send("typing_stop", json!({"roomId": "lobby"}));
    anna.send("typing_stop", json!({"roomId": "lobby"}));
    assert_eq!(typing(&watcher.heard(&mut anna, "lobby")), [("anna".into(), false)], "one end");
    assert_eq!(typing(&tablet.heard(&mut anna, "lobby")), [], "not to the user's own devices");
    assert_eq!(anna.so_far(), Vec::<Value>::new(), "and no ack");
}

#[test]
fn typing_ends_with_what_ends_it() {
    let server = Server::start(&["typing.ttl_ms=3600000", "presence.leave_grace_ms=3600000", "limits.messages=0"]);
    let (mut watcher, mut helper) = (server.client("watcher"), server.client("helper"));
    watcher.join("lobby");
    helper.join("lobby");
    for ending in ["send", "leave", "cut", "close"] {
        let user = format!("anna-{ending}");
        let mut anna = server.client(&user);
        anna.join("lobby");
        anna.send("typing_start", json!({"roomId": "lobby"}));
        assert_eq!(watcher.event("typing_indicator")["isTyping"], true);
        match ending {
            "send" => drop(anna.say("lobby", "done")),
            "leave" => drop(anna.ok("leave_room", json!({"roomId": "lobby"}))),
            "cut" => anna.cut(),
            _ => anna.close(1000),
        }
        let event = watcher.event("typing_indicator");
        assert_eq!((&event["userId"], &event["isTyping"]), (&user.into(), &false.into()), "{ending}");
    }
    assert_eq!(typing(&watcher.heard(&mut helper, "lobby")), []);
}

/// R-PRES-5: repeats are relayed at most each 3 s.
#[test]
fn repeated_typing_is_not_repeated_to_others() {
    let server = Server::start(&[]);
    let (mut watcher, mut anna) = (server.client("watcher"), server.client("anna"));
    watcher.join("lobby");
    anna.join("lobby");
    for _ in 0..20 {
        anna.send("typing_start", json!({"roomId": "lobby"}));
    }
    assert_eq!(typing(&watcher.heard(&mut anna, "lobby")), [("anna".into(), true)]);
}
