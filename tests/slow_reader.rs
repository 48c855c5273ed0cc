//! A reader that stops reading harms nobody but itself (R-CONN-5): live events are skipped, a durable one that does not fit closes
//! it, so does silence of its socket; it recovers by position, and the memory it held is given back.
#[path = "reliability/support.rs"]
mod support;

use serde_json::{Value, json};
use std::thread::{self, JoinHandle};
use support::{Client, Got, PATIENCE, Server, connect_narrow, eventually, message, source_address};

const ROOM: &str = "lobby";

/// Far more than loopback sockets hold, so that a stalled reader is found out.
const PAYLOAD_CHARS: usize = 60_000;

/// Small queues: one large message fits and no more.
const SMALL: [&str; 3] = ["ws.max_message_bytes=65536", "conn.out_queue_bytes=65536", "chat.max_chars=100000"];

const SKIPPED: &str = r#"throng_drops_total{reason="live_lagging"}"#;
const TOO_SLOW: &str = r#"throng_drops_total{reason="slow_consumer_closed"}"#;
const STUCK: &str = r#"throng_drops_total{reason="write_timeout"}"#;
const CLOSED: &str = r#"throng_connections_closed_total{code="4101"}"#;

/// A large chat message that says which it is.
fn chat(number: usize) -> Value {
    json!({"roomId": ROOM, "message": format!("{number} {}", "y".repeat(PAYLOAD_CHARS))})
}

/// The room's position before anything was sent: what a reader that saw nothing recovers from.
struct Start {
    epoch: String,
    offset: u64,
}

/// A member that reads everything and keeps what came from others, until the message `last`.
fn read_until(mut client: Client, last: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        match client.next(PATIENCE) {
            Got::Message(message) if message["type"] == "broadcast" || message["type"] == "chat_message" => {
                let is_last = message["data"]["message"] == last;
                all.push(message);
                if is_last {
                    return all;
                }
            }
            Got::Message(_) => {}
            other => panic!("a good reader lost its connection: {other:?}"),
        }
    }
}

/// Joins with a small receive buffer and does not read on.
fn stalled(server: &Server, user: &str) -> (Client, Start) {
    let stream = connect_narrow(source_address(1), server.address, Some(4_096)).unwrap();
    let mut client = Client::begin(server, stream, Some(user));
    assert_eq!(client.status(), Some(101));
    client.wait_for("connection_established").unwrap();
    let snapshot = client.join(ROOM, None);
    let start =
        Start { epoch: snapshot["epoch"].as_str().unwrap().into(), offset: snapshot["offset"].as_u64().unwrap() };
    (client, start)
}

/// Reconnects and recovers: the ids of the durable events missed.
fn recover(server: &Server, user: &str, start: &Start) -> Vec<Value> {
    let snapshot = Client::connect(server, user).join(ROOM, Some((&start.epoch, start.offset)));
    assert_eq!(snapshot["recovered"], true);
    snapshot["events"].as_array().unwrap().iter().map(|event| event["data"]["id"].clone()).collect()
}

fn good_reader(server: &Server, number: usize, last: &'static str) -> JoinHandle<Vec<Value>> {
    let mut client = Client::connect(server, &format!("reader-{number}"));
    client.join(ROOM, None);
    thread::spawn(move || read_until(client, last))
}

fn of_kind<'a>(all: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(move |message| message["type"] == kind).map(|message| &message["data"])
}

/// Sends live events until the stalled reader's queue is full. The number sent.
fn fill(server: &Server, sender: &mut Client) -> usize {
    let text = "x".repeat(PAYLOAD_CHARS);
    let mut sent = 0;
    eventually("live events are skipped", || {
        for _ in 0..10 {
            sender.send(
                "broadcast",
                json!({"roomId": ROOM, "event": "state", "payload": {"number": sent, "text": text}}),
            );
            sent += 1;
        }
        sender.send("heartbeat", json!({}));
        sender.wait_for("heartbeat_response").unwrap();
        (server.metric(SKIPPED) > 0).then_some(sent)
    })
}

fn memory_returns(server: &Server) {
    eventually("queues are given back", || {
        (server.shard_sum("queueBytes") == 0 && server.shard_sum("logBytes") == 0).then_some(())
    });
}

#[test]
fn a_stalled_reader_skips_live_events_and_is_closed_by_a_durable_one() {
    let server = Server::start(&[&SMALL[..], &["conn.write_timeout_ms=600000", "ws.close_timeout_ms=600000"]].concat());
    let mut sender = Client::connect(&server, "sender");
    sender.join(ROOM, None);
    let readers = [0, 1].map(|number| good_reader(&server, number, "the end"));
    let (mut slow, start) = stalled(&server, "slow");

    let live = fill(&server, &mut sender);
    assert_eq!((server.metric(TOO_SLOW), server.metric(CLOSED)), (0, 0), "live events close nobody");
    let mut ids: Vec<Value> =
        (0..5).map(|number| sender.request("chat_message", chat(number))["messageId"].clone()).collect();
    ids.push(sender.request("chat_message", json!({"roomId": ROOM, "message": "the end"}))["messageId"].clone());
    eventually("the slow reader is closed", || (server.metric(CLOSED) == 1).then_some(()));
    assert_eq!(server.metric(TOO_SLOW), 1);

    for reader in readers {
        let all = reader.join().unwrap();
        let numbers = of_kind(&all, "broadcast").map(|data| data["payload"]["number"].as_u64().unwrap());
        assert!(numbers.eq(0..live as u64), "a good reader lost live events");
        assert!(of_kind(&all, "chat_message").map(|data| &data["id"]).eq(&ids), "a good reader lost messages");
    }
    // What was on its way arrives in order and whole, then the reason.
    assert_eq!(slow.ending(), Some(4101));
    let numbers = of_kind(&slow.stash, "broadcast").map(|data| data["payload"]["number"].as_u64().unwrap());
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "skipped in the middle of a backlog");
    assert!(numbers.len() < live);
    assert_eq!(recover(&server, "slow", &start), ids);
    memory_returns(&server);
}

/// A room with durable events only: the reader is closed as soon as one does not fit, and nothing is skipped.
#[test]
fn durable_events_are_never_skipped() {
    let server = Server::start(&[&SMALL[..], &["conn.write_timeout_ms=600000", "ws.close_timeout_ms=600000"]].concat());
    let mut sender = Client::connect(&server, "sender");
    sender.join(ROOM, None);
    let reader = good_reader(&server, 0, "the end");
    let (mut slow, start) = stalled(&server, "slow");
    let mut ids = Vec::new();
    while server.metric(TOO_SLOW) == 0 {
        assert!(ids.len() < 250, "a queue without bound");
        for _ in 0..5 {
            ids.push(sender.request("chat_message", chat(ids.len()))["messageId"].clone());
        }
    }
    ids.push(sender.request("chat_message", json!({"roomId": ROOM, "message": "the end"}))["messageId"].clone());
    assert!(of_kind(&reader.join().unwrap(), "chat_message").map(|data| &data["id"]).eq(&ids));
    assert_eq!(slow.ending(), Some(4101));
    let got: Vec<&Value> = of_kind(&slow.stash, "chat_message").map(|data| &data["id"]).collect();
    assert!(got.iter().copied().eq(&ids[..got.len()]), "what came before the close has a hole");
    assert_eq!(server.metric(SKIPPED), 0);
    assert_eq!(recover(&server, "slow", &start), ids);
    memory_returns(&server);
}

#[test]
fn a_socket_that_takes_nothing_is_closed_in_time() {
    let server = Server::start(&[&SMALL[..], &["conn.write_timeout_ms=1500"]].concat());
    let mut sender = Client::connect(&server, "sender");
    sender.join(ROOM, None);
    let reader = good_reader(&server, 0, "the end");
    let (mut slow, start) = stalled(&server, "slow");
    let live = fill(&server, &mut sender);
    eventually("the write timeout", || (server.metric(STUCK) == 1).then_some(()));
    assert_eq!((server.metric(CLOSED), server.metric(TOO_SLOW)), (1, 0));
    // Although it has read nothing yet.
    memory_returns(&server);
    let id = sender.request("chat_message", json!({"roomId": ROOM, "message": "the end"}))["messageId"].clone();
    let all = reader.join().unwrap();
    assert_eq!(of_kind(&all, "broadcast").count(), live);
    // The close frame had no way through the full socket: the end of the stream must do.
    assert!(matches!(slow.ending(), None | Some(4101)));
    assert_eq!(recover(&server, "slow", &start), [id]);
}

/// Asking and not reading the answers is no way round the bound, however much is asked for in one packet, and wherever the room is.
#[test]
fn answers_that_nobody_reads_are_bounded() {
    const ROOMS: [&str; 4] = ["attic", "cellar", "kitchen", "stairs"];
    const QUESTIONS: usize = 400;
    let server = Server::start(&[&SMALL[..], &["conn.write_timeout_ms=600000", "ws.close_timeout_ms=600000"]].concat());
    let mut sender = Client::connect(&server, "sender");
    for room in ROOMS {
        sender.join(room, None);
        for number in 0..10 {
            let text = format!("{number} {}", "y".repeat(PAYLOAD_CHARS));
            sender.request("chat_message", json!({"roomId": room, "message": text}));
        }
    }
    let mut greedy = Vec::new();
    for (number, room) in ROOMS.into_iter().enumerate() {
        let mut client = Client::connect(&server, &format!("greedy-{number}"));
        client.join(room, None);
        greedy.push(client);
    }
    let before = server.peak_bytes();
    for (client, room) in greedy.iter_mut().zip(ROOMS) {
        let questions: Vec<u8> =
            (0..QUESTIONS).flat_map(|id| message(&format!("q{id}"), "get_history", &json!({"roomId": room}))).collect();
        client.write(&questions);
    }
    eventually("the greedy readers are closed", || (server.metric(TOO_SLOW) == ROOMS.len() as u64).then_some(()));
    for room in ROOMS {
        sender.request("chat_message", json!({"roomId": room, "message": "still here"}));
    }
    // They may still hold the frame that was cut.
    drop(greedy);
    memory_returns(&server);
    // All answers together are 960 MB.
    let grown = server.peak_bytes() - before;
    assert!(grown < 96 << 20, "grew by {} MiB", grown >> 20);
}
