//! Users and rooms that live on different shards: the same behaviour, the same order, everything exactly once (R-CHAT-4, R-ENV-4).
mod support;

use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use support::{Client, Server};

const FREE: [&str; 4] =
    ["limits.messages=0", "limits.commands=0", "limits.connections_per_user=0", "limits.rooms_created=0"];

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// Every shard is home to some users and rooms. (Which connections it has is up to the kernel.)
fn assert_spread(server: &Server) {
    let stats = server.get("/stats", &[]).json();
    for shard in stats["shards"].as_array().unwrap() {
        for what in ["users", "rooms"] {
            assert!(shard[what].as_u64().unwrap() > 0, "a test of one shard: {stats}");
        }
    }
}

/// Everyone writes to every room at once. Each device hears each room's messages once, in one order, the same for all: that of the
/// offsets, which the acks and history tell too; and each writer's own order is kept.
#[test]
fn all_hear_the_same_in_the_same_order() {
    const MESSAGES: usize = 5;
    let server = Server::with_shards(3, &FREE);
    let (users, rooms) = (names("user", 10), names("room", 12));
    let mut devices: Vec<Client> = users.iter().flat_map(|user| [server.client(user), server.client(user)]).collect();
    for device in &mut devices {
        let joins: Vec<_> = rooms.iter().map(|room| ("join_room", json!({"roomId": room}))).collect();
        device.send_together(&joins);
        (0..rooms.len()).for_each(|index| drop(device.answer(&format!("p{index}")).unwrap()));
    }
    assert_spread(&server);
    let mut ids: Vec<HashMap<String, (String, String)>> = vec![HashMap::new(); devices.len()];
    for number in 0..MESSAGES {
        for (index, device) in devices.iter_mut().enumerate() {
            for room in &rooms {
                let text = format!("{index} {number}");
                let id = device.send("chat_message", json!({"roomId": room, "message": text}));
                ids[index].insert(id, (room.clone(), text));
            }
        }
    }
    let total = devices.len() * MESSAGES;
    let mut orders: HashMap<String, Vec<Value>> = HashMap::new();
    for (index, device) in devices.iter_mut().enumerate() {
        let mut heard: HashMap<String, Vec<Value>> = HashMap::new();
        let (mut acks, mut messages) = (HashMap::new(), 0);
        while messages < total * rooms.len() || acks.len() < ids[index].len() {
            let event = device.next();
            let data = event["data"].clone();
            match event["type"].as_str().unwrap() {
                "chat_message" => {
                    heard.entry(data["roomId"].as_str().unwrap().into()).or_default().push(data);
                    messages += 1;
                }
                "ack" => {
                    let (room, text) = &ids[index][data["requestId"].as_str().unwrap()];
                    acks.insert((room.clone(), text.clone()), data["result"]["offset"].as_u64().unwrap());
                }
                "error" => panic!("{event}"),
                _ => {}
            }
        }
        assert_eq!(device.so_far(), Vec::<Value>::new(), "nothing twice");
        for (room, messages) in heard {
            let offsets: Vec<u64> = messages.iter().map(|message| message["offset"].as_u64().unwrap()).collect();
            assert_eq!(offsets, (1..=total as u64).collect::<Vec<_>>(), "{room}");
            for message in &messages {
                let key = (room.clone(), message["message"].as_str().unwrap().to_string());
                if let Some(offset) = acks.get(&key) {
                    assert_eq!(message["offset"], *offset, "the ack and the event agree");
                }
            }
            let order = orders.entry(room).or_insert_with(|| messages.clone());
            assert_eq!(*order, messages);
        }
    }
    for (room, order) in &orders {
        for writer in 0..devices.len() {
            let own = |message: &&Value| message["message"].as_str().unwrap().starts_with(&format!("{writer} "));
            let numbers: Vec<&str> =
                order.iter().filter(own).map(|message| message["message"].as_str().unwrap()).collect();
            let expected: Vec<String> = (0..MESSAGES).map(|number| format!("{writer} {number}")).collect();
            assert_eq!(numbers, expected, "a writer's own order");
        }
        let history = devices[0].ok("get_history", json!({"roomId": room, "after": 0, "limit": 100}));
        assert_eq!(history["messages"], Value::from(order[..100].to_vec()), "history says the same");
    }
}

/// Rights follow the user to rooms on every shard, at once and in the order of the commands.
#[test]
fn rights_hold_wherever_a_room_lives() {
    let server = Server::with_shards(3, &FREE);
    let rooms = names("club", 9);
    let (mut owner, mut anna, mut eve) = (server.client("owner"), server.client("anna"), server.client("eve"));
    for room in &rooms {
        owner.send_together(&[
            ("create_room", json!({"roomId": room, "name": "x", "type": "private"})),
            ("invite_member", json!({"roomId": room, "userId": "anna"})),
            ("join_room", json!({"roomId": room})),
            ("chat_message", json!({"roomId": room, "message": "welcome", "clientId": room})),
        ]);
        (0..4).for_each(|index| drop(owner.answer(&format!("p{index}")).unwrap()));
        eve.refused("access_denied", "join_room", json!({"roomId": room}));
        let snapshot = anna.join(room);
        assert_eq!(snapshot["recentMessages"][0]["message"], "welcome");
    }
    // A refresh in front of a command counts for it, wherever it is executed.
    for room in &rooms {
        anna.send_together(&[
            ("update_room", json!({"roomId": room, "name": "before"})),
            ("refresh_token", json!({"token": server.token_as("anna", "admin")})),
            ("update_room", json!({"roomId": room, "name": "during"})),
            ("refresh_token", json!({"token": server.token("anna")})),
            ("update_room", json!({"roomId": room, "name": "after"})),
        ]);
        let allowed: Vec<bool> = (0..5).map(|index| anna.answer(&format!("p{index}")).is_ok()).collect();
        assert_eq!(allowed, [false, true, true, true, false], "{room}");
    }
    for (index, room) in rooms.iter().enumerate() {
        match index % 2 {
            0 => drop(owner.ok("remove_member", json!({"roomId": room, "userId": "anna"}))),
            _ => drop(owner.ok("delete_room", json!({"roomId": room}))),
        }
        assert_eq!(anna.event("room_closed")["roomId"], *room);
        anna.refused("not_in_room", "chat_message", json!({"roomId": room, "message": "x"}));
    }
}

#[test]
fn pairs_find_each_other_on_any_shard() {
    let server = Server::with_shards(3, &FREE);
    let users = names("user", 7);
    let mut clients: Vec<Client> = users.iter().map(|user| server.client(user)).collect();
    for one in 0..users.len() {
        for two in one + 1..users.len() {
            let make = |client: &mut Client, with: &str| {
                client.ok("create_room", json!({"name": "x", "type": "direct", "recipientId": with}))["id"].clone()
            };
            let room = make(&mut clients[one], &users[two]);
            assert_eq!(make(&mut clients[two], &users[one]), room);
            let room = room.as_str().unwrap();
            clients[one].join(room);
            clients[two].join(room);
            clients[one].say(room, "you there?");
            let heard = clients[two].event("chat_message");
            assert_eq!((&heard["roomId"], &heard["userId"]), (&room.into(), &users[one].clone().into()));
            let third = (0..users.len()).find(|index| *index != one && *index != two).unwrap();
            clients[third].refused("access_denied", "join_room", json!({"roomId": room}));
        }
    }
}

/// Presence adds up over shards: who shares a room on whatever shard is seen, and counts are exact.
#[test]
fn presence_adds_up_over_shards() {
    let server = Server::with_shards(3, &FREE);
    let (users, rooms) = (names("user", 9), names("room", 9));
    let mut watcher = server.client("watcher");
    rooms.iter().for_each(|room| drop(watcher.join(room)));
    // User n is in rooms 0 to n, with one device for each.
    let mut devices = Vec::new();
    for (index, user) in users.iter().enumerate() {
        for room in &rooms[..=index] {
            let mut device = server.client(user);
            device.join(room);
            devices.push(device);
        }
    }
    assert_spread(&server);
    let told = |watcher: &mut Client, kind: &str| {
        let mut told: HashSet<(String, String)> = HashSet::new();
        for _ in 0..45 {
            let event = watcher.next();
            assert_eq!(event["type"], kind);
            let text = |name: &str| event["data"][name].as_str().unwrap().to_string();
            assert!(told.insert((text("roomId"), text("userId"))), "once for each user and room: {event}");
        }
    };
    told(&mut watcher, "user_joined");
    for (index, room) in rooms.iter().enumerate() {
        assert_eq!(watcher.join(room)["onlineCount"], users.len() - index + 1);
    }
    let result = watcher.ok("get_presence", json!({"userIds": users}));
    assert!(result["users"].as_array().unwrap().iter().all(|user| user["status"] == "online"), "{result}");
    devices.into_iter().for_each(|device| device.close(1000));
    told(&mut watcher, "user_left");
    for room in &rooms {
        assert_eq!(watcher.join(room)["onlineCount"], 1);
    }
}

/// One user's first sign-ins, all at once on all shards, are one user.
#[test]
fn a_user_is_one_user_however_it_comes() {
    let server = Server::with_shards(
        3,
        &["limits.messages=5", "limits.messages_window_s=3600", "limits.connections_per_user=8"],
    );
    for user in names("user", 6) {
        let token = server.token(&user);
        let opened: Vec<Client> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..12)
                .map(|_| scope.spawn(|| server.stranger_with(&[("Authorization", &format!("Bearer {token}"))])))
                .collect();
            opening.into_iter().map(|opening| opening.join().unwrap()).collect()
        });
        let mut devices: Vec<Client> =
            opened.into_iter().filter_map(|mut client| client.try_greet().then_some(client)).collect();
        assert_eq!(devices.len(), 8, "{user}");
        devices.iter_mut().for_each(|device| drop(device.join("lobby")));
        let ids: Vec<String> = devices
            .iter_mut()
            .map(|device| device.send("chat_message", json!({"roomId": "lobby", "message": "x"})))
            .collect();
        let passed = devices.iter_mut().zip(&ids).filter_map(|(device, id)| device.answer(id).ok()).count();
        assert_eq!(passed, 5, "{user}");
    }
}
