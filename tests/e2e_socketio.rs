//! Socket.IO 5 over real sockets, on three shards: namespaces are connections like native ones, on either transport.
mod support;

use serde_json::{Value, json};
use support::{Packets, Server, now_s};

fn server(settings: &[&str]) -> Server {
    Server::with_shards(3, &[settings, &support::UNLIMITED].concat())
}

/// A client on each transport.
fn both(server: &Server) -> [Packets; 2] {
    [Packets::polling(server), Packets::socket(server)]
}

#[test]
fn a_token_opens_a_namespace() {
    let server = server(&["sio.namespaces=/,/admin"]);
    for mut client in both(&server) {
        let refused = client.connect("/", json!({})).unwrap_err();
        assert_eq!(
            (&refused["message"], &refused["data"]["code"]),
            (&json!("Authentication token required"), &json!("auth_required"))
        );
        let refused = client.connect("/", json!({"token": "nonsense"})).unwrap_err();
        assert_eq!(
            (&refused["message"], &refused["data"]["retryable"]),
            (&json!("Authentication failed"), &json!(false))
        );
        assert_eq!(client.connect("/nowhere", json!({})).unwrap_err(), json!({"message": "Invalid namespace"}));
        let reply = client.connect("/admin", json!({"token": server.token("anna")})).unwrap();
        assert!(reply["sid"].as_str().unwrap().starts_with("sess_"), "{reply}");
        assert!(reply["pid"].is_string());
        assert_ne!(reply["sid"], client.sid, "the secret is not the public id");
        assert!(client.next().unwrap().starts_with("42/admin,[\"connection_established\",{"));
        // The other namespace is still closed; now it opens.
        client.sign_in(&server, "anna");
    }
    assert_eq!(server.metric("throng_unauthenticated_connections{shard=\"0\"}"), 0.0);
}

/// R-AUTH-1: a header of the handshake is as good as `auth.token`, and both must agree.
#[test]
fn a_token_may_come_with_the_handshake() {
    let server = server(&[]);
    let bearer = |token: &str| format!("Bearer {token}");
    let token = server.token("anna");
    let mut client = Packets::with_headers(&server, &[("Authorization", &bearer(&token))]);
    let refused = client.connect("/", json!({"token": server.token("bob")})).unwrap_err();
    assert_eq!(refused["data"]["code"], "auth_failed");
    client.connect("/", json!({})).unwrap();
    assert_eq!(client.event("connection_established")[1]["userId"], "anna");
    let mut client = Packets::with_headers(&server, &[("Authorization", &bearer(&token))]);
    client.connect("/", json!({"token": token})).unwrap();

    let path = format!("{}&transport=polling", support::EIO);
    for (path, headers, expected) in [
        (path.clone(), vec![("Authorization", bearer("nonsense"))], 401),
        (format!("{path}&token={token}"), vec![], 400),
    ] {
        let mut http = support::Http::new(&server);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        http.send("GET", &path, &headers, b"");
        assert_eq!(http.answer().status, expected);
    }
}

/// A client that makes the server talk and does not listen.
#[test]
fn answers_that_nobody_fetches_are_bounded() {
    let server = server(&["conn.out_queue_bytes=70000"]);
    let mut client = Packets::polling(&server);
    client.sign_in(&server, "anna");
    let mut payload = String::new();
    for ack in 0..1_000 {
        payload += &format!(
            "42{}[\"typing_start\",{{\"roomId\":\"{}\"}}]\u{1e}",
            9_007_199_254_000_000_u64 + ack,
            "x".repeat(128)
        );
    }
    payload.pop();
    while server.metric("throng_engine_sessions_ended_total{reason=\"server\"}") == 0.0 {
        client.send(&payload);
    }
    assert_eq!(server.metric("throng_drops_total{reason=\"slow_consumer_closed\"}"), 1.0);
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    let server = server(&["sio.namespaces=/,/admin"]);
    for packet in [
        "42[\"early\"]",
        "42/admin,[\"not connected\"]",
        "44{}",
        "4",
        "49",
        "42[]",
        "42[\"connect\"]",
        "451-[\"x\"]\u{1e}42[\"text\"]",
        "42[",
        "43[]x",
    ] {
        let mut client = Packets::polling(&server);
        if packet != "42[\"early\"]" {
            client.sign_in(&server, "anna");
        }
        client.send(packet);
        assert_eq!(client.next(), None, "{packet}");
    }
    let mut client = Packets::socket(&server);
    client.sign_in(&server, "anna");
    client.send("40");
    assert_eq!(client.next(), None, "a second CONNECT");
    assert_eq!(server.metric("throng_engine_sessions_ended_total{reason=\"parse_error\"}"), 11.0);
}

#[test]
fn events_acks_and_errors_both_ways() {
    let server = server(&[]);
    let mut native = server.client("bob");
    for (mut client, user) in both(&server).into_iter().zip(["anna", "berta"]) {
        let room = format!("room-of-{user}");
        native.join(&room);
        client.sign_in(&server, user);
        let snapshot = client.join(&room);
        assert_eq!(snapshot["roomId"], *room);
        let sent = client.ok(json!(["send_message", {"roomId": room, "message": "hello", "clientId": "c1"}]));
        let heard = native.event("chat_message");
        assert_eq!(
            (&heard["id"], &heard["userId"], &heard["clientId"]),
            (&sent["messageId"], &json!(user), &json!("c1"))
        );
        let event = client.event("new_message");
        assert_eq!((&event[1], event.as_array().unwrap().len()), (&heard, 3), "the offset is the last argument");
        // The native names work as well.
        client.ok(json!(["chat_message", {"roomId": room, "message": "again"}]));
        native.say(&room, "native");
        while client.event("new_message")[1]["message"] != "native" {}
        let refused = client.ask(json!(["send_message", {"roomId": room, "message": ""}]));
        assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!("empty_message")));
        client.emit(json!(["send_message", {"roomId": "elsewhere", "message": "x"}]));
        assert_eq!(client.event("error")[1]["code"], "not_in_room");
        assert_eq!(client.ask(json!(["no_such_event", {}]))["error"]["code"], "unknown_type");
        client.emit(json!(["heartbeat", {"timestamp": 7}]));
        assert_eq!(client.event("heartbeat_response")[1]["clientTimestamp"], 7);
    }
}

#[test]
fn two_namespaces_are_two_connections() {
    let server = server(&["sio.namespaces=/,/admin"]);
    for mut client in both(&server) {
        client.sign_in(&server, "anna");
        client.connect("/admin", json!({"token": server.token("berta")})).unwrap();
        client.join("lobby");
        client.send("42/admin,1[\"join_room\",{\"roomId\":\"lobby\"}]");
        while !client.next().unwrap().starts_with("43/admin,1[{\"ok\":true") {}
        let mut native = server.client("bob");
        let online = native.join("lobby")["users"].as_array().unwrap().clone();
        assert!(online.contains(&json!("anna")) && online.contains(&json!("berta")), "{online:?}");
        native.say("lobby", "to both");
        let (mut plain, mut admin) = (false, false);
        while !(plain && admin) {
            let packet = client.next().unwrap();
            plain |= packet.starts_with("42[\"new_message\"") && packet.contains("to both");
            admin |= packet.starts_with("42/admin,[\"new_message\"") && packet.contains("to both");
        }
        // One leaves; the other goes on.
        client.send("41/admin,");
        client.ok(json!(["send_message", {"roomId": "lobby", "message": "still here"}]));
        while native.event("user_left")["userId"] != "berta" {}
        native.close(1000);
    }
}

#[test]
fn binary_travels_both_ways() {
    let server = server(&["sio.app_events=true"]);
    let mut sender = Packets::socket(&server);
    sender.sign_in(&server, "anna");
    let mut listeners = both(&server);
    for listener in &mut listeners {
        listener.sign_in(&server, "bob");
        listener.join("lobby");
    }
    sender.join("lobby");
    sender.send("451-[\"picture\",{\"roomId\":\"lobby\",\"data\":{\"_placeholder\":true,\"num\":0}}]");
    sender.send_binary(&[1, 2, 0xff]);
    for (listener, attachment) in listeners.iter_mut().zip(["bAQL/", "b0102ff"]) {
        let packet = loop {
            let packet = listener.next().unwrap();
            if packet.starts_with("451-") {
                break packet;
            }
        };
        assert_eq!(packet, "451-[\"picture\",{\"roomId\":\"lobby\",\"data\":{\"_placeholder\":true,\"num\":0}}]");
        assert_eq!(listener.next().unwrap(), attachment);
    }
}

#[test]
fn a_terminal_close_says_error_then_disconnect() {
    let server = server(&["sio.namespaces=/,/admin", "auth.leeway_s=0"]);
    for mut client in both(&server) {
        client.connect("/admin", json!({"token": server.token("berta")})).unwrap();
        let token = server.sign_raw(&json!({"userId": "anna", "exp": now_s() + 2}));
        client.connect("/", json!({"token": token})).unwrap();
        let error = client.event("error");
        assert_eq!((&error[1]["closeCode"], &error[1]["code"]), (&json!(4003), &json!("auth_failed")));
        assert_eq!(client.next().as_deref(), Some("41"));
        // The session and its other namespace go on.
        client.send("42/admin,5[\"join_room\",{\"roomId\":\"lobby\"}]");
        while !client.next().unwrap().starts_with("43/admin,5[") {}
        client.sign_in(&server, "anna");
    }
}

#[test]
fn too_many_connections_of_a_user_are_refused_at_connect() {
    let server = server(&["limits.connections_per_user=2"]);
    let mut clients = [Packets::socket(&server), Packets::polling(&server), Packets::socket(&server)];
    clients[0].sign_in(&server, "anna");
    clients[1].sign_in(&server, "anna");
    let refused = clients[2].connect("/", json!({"token": server.token("anna")})).unwrap_err();
    assert_eq!((&refused["message"], &refused["data"]["closeCode"]), (&json!("Too many connections"), &json!(4008)));
    clients[2].sign_in(&server, "berta");
}

/// R-CONN-5 holds for a client that does not poll: it is closed, and nobody else notices.
#[test]
fn a_client_that_does_not_poll_is_a_slow_reader() {
    let server = server(&["conn.out_queue_bytes=70000", "chat.max_chars=20000"]);
    let mut slow = Packets::polling(&server);
    slow.sign_in(&server, "anna");
    slow.join("lobby");
    let mut other = server.client("bob");
    other.join("lobby");
    let text = "x".repeat(20_000);
    let mut sent = 0;
    while server.metric("throng_engine_sessions_ended_total{reason=\"server\"}") == 0.0 {
        other.say("lobby", &text);
        sent += 1;
        assert!(sent < 100, "never closed");
    }
    assert!(sent > 5, "closed after {sent} messages of 20 kB");
    assert_eq!(server.metric("throng_connections_closed_total{code=\"4101\"}"), 1.0);
    // What was in its buffer is still fetched, then the end; without a DISCONNECT, so that it comes back.
    let mut packets = Vec::new();
    while let Some(packet) = slow.next() {
        packets.push(packet);
    }
    assert!(packets.iter().all(|packet| !packet.starts_with("41")));
}

#[test]
fn a_large_snapshot_passes_a_full_transport() {
    let server = server(&["chat.max_chars=20000", "ws.max_message_bytes=100000", "conn.out_queue_bytes=100000"]);
    let mut other = server.client("bob");
    other.join("lobby");
    let text = "y".repeat(20_000);
    for _ in 0..20 {
        other.say("lobby", &text);
    }
    for mut client in both(&server) {
        client.sign_in(&server, "anna");
        assert!(client.join("lobby")["recentMessages"].as_array().unwrap().len() >= 20);
        other.say("lobby", "behind it");
        assert_eq!(client.event("new_message")[1]["message"], "behind it");
    }
}

#[test]
fn a_drain_tells_everyone_and_ends() {
    let server = server(&["drain.interval_ms=100"]);
    let mut clients = [Packets::polling(&server), Packets::socket(&server), Packets::polling(&server)];
    clients[0].sign_in(&server, "anna");
    clients[1].sign_in(&server, "berta");
    server.signal("-TERM");
    for (index, client) in clients.iter_mut().enumerate() {
        if index < 2 {
            assert_eq!(client.event("server_closing")[1]["retryMaxMs"], 10000);
        }
        while let Some(packet) = client.next() {
            assert!(!packet.starts_with("41"), "clients are to come back: {packet}");
        }
    }
    drop(clients);
    server.ended();
}

/// A client that goes on where it was: its id, its rooms, what it missed.
mod recovery {
    use super::*;

    struct Lost {
        reply: Value,
        /// The last offset that it saw.
        offset: Value,
    }

    /// Joins two rooms, hears one message, and is lost; then more is said.
    fn lost(server: &Server, mut client: Packets, user: &str, others: &mut support::Client, disconnect: bool) -> Lost {
        let reply = client.sign_in(server, user);
        client.join("lobby");
        client.join("attic");
        others.say("lobby", "heard");
        let offset = client.event("new_message")[2].clone();
        if disconnect {
            client.send("41");
            client.send("1");
        }
        client.cut();
        others.say("lobby", "missed 1");
        others.say("attic", "missed 2");
        others.say("lobby", "missed 3");
        Lost { reply, offset }
    }

    fn back(server: &Server, client: &mut Packets, user: &str, lost: &Lost) -> Value {
        let auth = json!({"token": server.token(user), "pid": lost.reply["pid"], "offset": lost.offset});
        client.connect("/", auth).unwrap()
    }

    fn messages(client: &mut Packets, count: usize) -> Vec<(String, String)> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let event = client.event("new_message");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            heard.push((text(&event[1]["roomId"]), text(&event[1]["message"])));
        }
        heard
    }

    #[test]
    fn all_that_was_missed_comes_once_on_any_shard() {
        let server = server(&[]);
        let mut other = server.client("bob");
        other.join("lobby");
        other.join("attic");
        for round in 0..6 {
            let user = format!("user{round}");
            let client = if round % 2 == 0 { Packets::socket(&server) } else { Packets::polling(&server) };
            let mut was = lost(&server, client, &user, &mut other, false);
            // Again and again: the pid stays the same as long as recovery succeeds.
            for again in 0..3 {
                let mut client = if again % 2 == 0 { Packets::polling(&server) } else { Packets::socket(&server) };
                let reply = back(&server, &mut client, &user, &was);
                assert_eq!(reply, was.reply, "round {round}.{again}");
                let mut heard = messages(&mut client, if again == 0 { 3 } else { 1 });
                heard.sort();
                let of = |room: &str, text: &str| (room.to_owned(), text.to_owned());
                match again {
                    0 => assert_eq!(heard, [of("attic", "missed 2"), of("lobby", "missed 1"), of("lobby", "missed 3")]),
                    _ => assert_eq!(heard, [of("attic", &format!("more {}", again - 1))]),
                }
                other.say("lobby", "now");
                let event = client.event("new_message");
                assert_eq!(event[1]["message"], "now", "nothing twice");
                was.offset = event[2].clone();
                client.cut();
                other.say("attic", &format!("more {again}"));
            }
        }
        assert!(server.metric("throng_engine_recoveries_total") >= 18.0);
    }

    #[test]
    fn what_cannot_be_recovered_starts_afresh() {
        let server = server(&["sio.recovery_ms=1500"]);
        let mut other = server.client("bob");
        other.join("lobby");
        other.join("attic");
        let fresh = |client: &mut Packets, user: &str, lost: &Lost, why: &str| {
            let reply = back(&server, client, user, lost);
            assert!(reply["pid"] != lost.reply["pid"] && reply["sid"] != lost.reply["sid"], "{why}: {reply}");
            // It is in no room.
            let refused = client.ask(json!(["send_message", {"roomId": "lobby", "message": "x"}]));
            assert_eq!(refused["error"]["code"], "not_in_room", "{why}");
        };
        let was = lost(&server, Packets::socket(&server), "anna", &mut other, true);
        fresh(&mut Packets::socket(&server), "anna", &was, "it said goodbye");
        let was = lost(&server, Packets::socket(&server), "anna", &mut other, false);
        fresh(&mut Packets::socket(&server), "mallory", &was, "another user");
        for offset in ["nonsense", "1.999999.x.lobby", "", "17"] {
            let unknown = Lost { reply: was.reply.clone(), offset: json!(offset) };
            fresh(&mut Packets::polling(&server), "anna", &unknown, offset);
        }
        let mut client = Packets::polling(&server);
        assert_eq!(back(&server, &mut client, "anna", &was), was.reply, "none of that has spoilt it");
        client.send("1");
        let was = lost(&server, Packets::socket(&server), "anna", &mut other, false);
        std::thread::sleep(std::time::Duration::from_millis(4_000));
        fresh(&mut Packets::socket(&server), "anna", &was, "too late");
    }

    /// Rooms and messages are on disk; what a client was in is kept by a server that ends in order.
    #[test]
    fn a_restart_in_order_is_recovered_from() {
        let mut server = server(&["drain.interval_ms=100"]);
        let mut other = server.client("bob");
        other.join("lobby");
        other.join("attic");
        let was: Vec<Lost> =
            (0..4).map(|n| lost(&server, Packets::socket(&server), &format!("user{n}"), &mut other, false)).collect();
        // One more is connected until the end, on polling.
        let mut last = Packets::polling(&server);
        let reply = last.sign_in(&server, "carla");
        last.join("lobby");
        other.say("lobby", "heard");
        let offset = last.event("new_message")[2].clone();
        other.close(1000);
        let reader = std::thread::spawn(move || while last.next().is_some() {});
        server.restart_in_order();
        reader.join().unwrap();
        let mut other = server.client("bob");
        other.join("attic");
        other.say("attic", "after the restart");
        other.join("lobby");
        other.say("lobby", "after the restart");
        for (n, was) in was.iter().enumerate() {
            let mut client = Packets::polling(&server);
            let reply = back(&server, &mut client, &format!("user{n}"), was);
            assert_eq!(reply, was.reply, "user{n}");
            // Those of the clients that were lost later, too.
            let count = 3 + 4 * (3 - n) + 1 + 2;
            let heard = messages(&mut client, count);
            let of =
                |room: &str| heard.iter().filter(|(name, _)| name == room).map(|(_, text)| &**text).collect::<Vec<_>>();
            assert_eq!(of("attic").last(), Some(&"after the restart"));
            assert_eq!((of("lobby")[0], of("lobby").last()), ("missed 1", Some(&"after the restart")));
        }
        let mut client = Packets::socket(&server);
        assert_eq!(back(&server, &mut client, "carla", &Lost { reply: reply.clone(), offset }), reply);
        assert_eq!(messages(&mut client, 1)[0].1, "after the restart");
        // It is read once: a pid is no use after the next, disorderly end.
        let offset = json!("1.1.x.lobby");
        server.restart();
        let mut client = Packets::socket(&server);
        assert_ne!(back(&server, &mut client, "user0", &Lost { reply: was[0].reply.clone(), offset }), was[0].reply);
    }

    /// The network has gone and the server has not noticed: the old connection makes way.
    #[test]
    fn a_client_is_taken_over_from_a_connection_that_seems_alive() {
        let server = server(&[]);
        let mut other = server.client("bob");
        other.join("lobby");
        for _ in 0..4 {
            let mut first = Packets::socket(&server);
            let reply = first.sign_in(&server, "anna");
            first.join("lobby");
            other.say("lobby", "heard");
            let offset = first.event("new_message")[2].clone();
            other.say("lobby", "not read yet");
            let mut second = Packets::socket(&server);
            let was = Lost { reply, offset };
            assert_eq!(back(&server, &mut second, "anna", &was), was.reply);
            assert_eq!(messages(&mut second, 1)[0].1, "not read yet");
            while first.next().is_some() {}
            second.ok(json!(["send_message", {"roomId": "lobby", "message": "x"}]));
            assert_eq!(messages(&mut second, 1)[0].1, "x");
        }
    }

    #[test]
    fn without_it_there_is_no_pid() {
        let server = server(&["sio.recovery_ms=0"]);
        let mut client = Packets::socket(&server);
        assert_eq!(client.sign_in(&server, "anna").as_object().unwrap().len(), 1);
        client.join("lobby");
        client.ok(json!(["send_message", {"roomId": "lobby", "message": "x"}]));
        assert_eq!(client.event("new_message").as_array().unwrap().len(), 2, "no offset");
    }
}
