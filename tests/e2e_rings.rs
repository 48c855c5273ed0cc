//! A server whose shards have several rings behaves like one with a larger table: rooms span rings, all hear everything, a slow
//! reader stops nobody, places are found again, and a drain reaches everybody.
#[path = "reliability/support.rs"]
mod support;

use serde_json::json;
use std::collections::BTreeSet;
use support::{Client, Got, PATIENCE, Server, Settings, connect_from, connect_narrow, eventually, source_address};

/// 32 places in four rings of one shard.
const ROWS: usize = 8;
const RINGS: usize = 4;
const ALL: usize = ROWS * RINGS;
const ROOM: &str = "lobby";
const SHAPE: [&str; 2] = ["plane.connections_per_shard=8", "plane.rings_per_shard=4"];

/// Rings are filled in order, so that member n is in ring n / 8.
fn members(server: &Server, count: usize) -> Vec<Client> {
    let connect = |number: usize| {
        let mut client = Client::connect(server, &format!("user-{number}"));
        client.join(ROOM, None);
        client
    };
    (0..count).map(connect).collect()
}

/// Reads until this chat message; its offset.
fn hear(client: &mut Client, text: &str) -> u64 {
    loop {
        match client.next(PATIENCE) {
            Got::Message(event) if event["type"] == "chat_message" && event["data"]["message"] == text => {
                return event["data"]["offset"].as_u64().expect("an offset");
            }
            Got::Message(_) => {}
            other => panic!("{other:?} instead of {text}"),
        }
    }
}

#[test]
fn a_room_spans_rings_and_all_hear_all() {
    let server = Server::start_with(&Settings::new(1, &SHAPE));
    let mut members = members(&server, ALL);
    for sender in 0..ALL {
        let text = format!("from {sender}");
        members[sender].request("chat_message", json!({"roomId": ROOM, "message": text}));
        let offsets: BTreeSet<u64> = members.iter_mut().map(|member| hear(member, &text)).collect();
        assert_eq!(offsets, BTreeSet::from([sender as u64 + 1]), "one order for all");
    }
    assert_eq!(server.stats()["totalConnections"], json!(ALL));
}

#[test]
fn a_full_server_refuses_and_a_place_in_any_ring_is_found_again() {
    let server = Server::start_with(&Settings::new(1, &SHAPE));
    let mut members = members(&server, ALL);
    for left in [30, 17, 9, 0] {
        let stream = connect_from(source_address(0), server.address).expect("accepted, if only to be refused");
        let head = Client::begin(&server, stream, Some("late")).head().expect("an answer");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        drop(members.remove(left));
        let mut next = eventually("a free place", || Client::try_connect(&server, &format!("next-{left}")));
        next.join(ROOM, None);
        let text = format!("instead of {left}");
        next.request("chat_message", json!({"roomId": ROOM, "message": text}));
        members.push(next);
        members.iter_mut().for_each(|member| _ = hear(member, &text));
    }
}

/// Its sends fall short in the third ring, in the midst of a batch over all rings.
#[test]
fn a_slow_reader_in_one_ring_gets_the_rest_and_holds_up_nobody() {
    const MESSAGES: usize = 60;
    let large = ["chat.max_chars=100000", "ws.max_message_bytes=262144", "conn.out_queue_bytes=67108864"];
    let server = Server::start_with(&Settings::new(1, &[&SHAPE[..], &large].concat()));
    let mut before = members(&server, 2 * ROWS);
    let stream = connect_narrow(source_address(1), server.address, Some(4_096)).expect("a connection");
    let mut slow = Client::begin(&server, stream, Some("slow"));
    assert_eq!(slow.status(), Some(101));
    slow.wait_for("connection_established").expect("signed in");
    slow.join(ROOM, None);
    let mut after = Client::connect(&server, "last");
    after.join(ROOM, None);
    let text = |number: usize| format!("{number} {}", "y".repeat(90_000));
    for number in 0..MESSAGES {
        after.request("chat_message", json!({"roomId": ROOM, "message": text(number)}));
        hear(&mut before[0], &text(number));
        hear(&mut before[ROWS], &text(number));
    }
    assert!(server.metric("throng_plane_short_sends_total") > 0, "the slow one was never behind");
    for number in 0..MESSAGES {
        assert_eq!(hear(&mut slow, &text(number)), number as u64 + 1);
    }
}

#[test]
fn a_drain_reaches_all_rings() {
    let drain = ["drain.interval_ms=100", "drain.batch=10"];
    let mut server = Server::start_with(&Settings::new(1, &[&SHAPE[..], &drain].concat()));
    let members = members(&server, ALL);
    server.signal(&["TERM"]);
    for mut member in members {
        loop {
            match member.next(PATIENCE) {
                Got::Message(_) => {}
                Got::Closed(code) => break assert_eq!(code, 4200),
                other => panic!("{other:?} before the close"),
            }
        }
    }
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[test]
fn rings_follow_the_limit_on_connections() {
    let settings = ["plane.connections_per_shard=8", "limits.connections=20", "server.log=info"];
    let server = Server::start_with(&Settings::new(1, &settings));
    eventually("it says how many fit", || {
        let log = server.log();
        (log.contains("rings=3") && log.contains("connections_max=24")).then_some(())
    });
    let held = members(&server, 20);
    assert!(Client::try_connect(&server, "late").is_none(), "the limit itself holds");
    drop(held);
}
