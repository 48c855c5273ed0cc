//! kill -9 under load: what was acknowledged is there afterwards, once, in order, and nobody saw anything else
//! (R-CHAT-3, R-CHAT-4, R-CONN-6, R-SEC-14; product section 12).
#[path = "reliability/support.rs"]
mod support;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use support::{Client, Got, PATIENCE, Server, Settings, eventually, message, random};
use tempfile::TempDir;

const ROOMS: usize = 4;
const SENDERS: usize = 2;
const ROUNDS: usize = 5;
/// Messages sent and not yet answered, per sender.
const WINDOW: usize = 48;

fn settings() -> Settings {
    Settings::new(2, &["recovery.limit=10000"])
}

/// A durable event as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: u64,
    id: String,
    /// Sender and client id; none for an event that is no message.
    message: Option<(String, String)>,
}

fn seen(data: &Value) -> Option<Seen> {
    let offset = data["offset"].as_u64()?;
    let text = |key: &str| data[key].as_str().map(str::to_owned);
    let message = text("clientId").map(|client_id| (text("userId").unwrap(), client_id));
    Some(Seen { offset, id: text("id").unwrap_or_default(), message })
}

/// A room, its offset before, and what was seen after it.
type Recorded = (String, u64, Vec<Seen>);

/// What one sender did until its connection ended.
struct Sent {
    user: String,
    room: String,
    /// Client ids in the order sent.
    ids: Vec<String>,
    /// Offset and message id by client id.
    acked: HashMap<String, (u64, String)>,
    /// The acks' client ids in the order received.
    ack_order: Vec<String>,
}

/// Sends as fast as the window allows until the connection ends.
fn send_until_the_end(mut client: Client, user: String, room: String, round: usize, acks: Arc<AtomicU64>) -> Sent {
    let mut sent = Sent { user, room, ids: Vec::new(), acked: HashMap::new(), ack_order: Vec::new() };
    loop {
        while sent.ids.len() - sent.acked.len() < WINDOW {
            let id = format!("k{round}-{}", sent.ids.len());
            client.write(&message(
                &id,
                "chat_message",
                &json!({"roomId": sent.room, "message": format!("text of {id}")}),
            ));
            sent.ids.push(id);
        }
        match client.next(PATIENCE) {
            Got::Message(message) if message["type"] == "ack" => {
                let (id, result) = (message["data"]["requestId"].as_str().unwrap(), &message["data"]["result"]);
                assert_eq!(result["duplicate"], false, "{message}");
                let place = (result["offset"].as_u64().unwrap(), result["messageId"].as_str().unwrap().to_owned());
                assert!(sent.acked.insert(id.to_owned(), place).is_none(), "two acks for {id}");
                sent.ack_order.push(id.to_owned());
                acks.fetch_add(1, Relaxed);
            }
            Got::Message(message) if message["type"] == "error" => panic!("refused: {message}"),
            Got::Message(_) => {}
            Got::Closed(_) | Got::Lost => return sent,
            Got::Nothing => panic!("no answer"),
        }
    }
}

/// Records a room's durable events until the connection ends.
fn record_until_the_end(mut client: Client) -> Vec<Seen> {
    let mut record = Vec::new();
    loop {
        match client.next(PATIENCE) {
            Got::Message(message) => record.extend(seen(&message["data"])),
            Got::Closed(_) | Got::Lost => return record,
            Got::Nothing => panic!("the room is silent"),
        }
    }
}

/// A server under load: senders and one receiver in each room.
struct Load {
    senders: Vec<JoinHandle<Sent>>,
    /// The room, its offset before, and what was seen after it.
    receivers: Vec<(String, u64, JoinHandle<Vec<Seen>>)>,
    acks: Arc<AtomicU64>,
}

impl Load {
    fn start(server: &Server, round: usize) -> Load {
        let mut load = Load { senders: Vec::new(), receivers: Vec::new(), acks: Arc::default() };
        let start = Arc::new(Barrier::new(ROOMS * SENDERS));
        for room in (0..ROOMS).map(|number| format!("kill-{number}")) {
            let mut receiver = Client::connect(server, &format!("receiver-{room}"));
            let before = receiver.join(&room, None)["offset"].as_u64().unwrap();
            load.receivers.push((room.clone(), before, thread::spawn(move || record_until_the_end(receiver))));
            for user in (0..SENDERS).map(|number| format!("sender-{number}-{room}")) {
                let mut client = Client::connect(server, &user);
                client.join(&room, None);
                let (room, acks, start) = (room.clone(), load.acks.clone(), start.clone());
                load.senders.push(thread::spawn(move || {
                    start.wait();
                    send_until_the_end(client, user, room, round, acks)
                }));
            }
        }
        load
    }

    fn wait_for_acks(&self, count: u64) {
        eventually("acks", || (self.acks.load(Relaxed) >= count).then_some(()));
    }

    /// What everybody saw, after the server is gone.
    fn finish(self) -> (Vec<Sent>, Vec<Recorded>) {
        let senders = self.senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        let receivers = self.receivers.into_iter().map(|(room, before, thread)| (room, before, thread.join().unwrap()));
        (senders, receivers.collect())
    }
}

/// All durable events of a room, by recovering from its very beginning; history must tell the same.
fn stored(client: &mut Client, room: &str) -> Vec<Seen> {
    let epoch = client.join(room, None)["epoch"].as_str().unwrap().to_owned();
    client.request("leave_room", json!({"roomId": room}));
    let snapshot = client.join(room, Some((&epoch, 0)));
    assert_eq!(snapshot["recovered"], true, "{room}");
    let events: Vec<Seen> =
        snapshot["events"].as_array().unwrap().iter().map(|event| seen(&event["data"]).unwrap()).collect();
    let last = snapshot["offset"].as_u64().unwrap();
    assert!(events.iter().map(|event| event.offset).eq(1..=last), "{room}: offsets have a hole or a double");
    let messages: Vec<Seen> = events.iter().filter(|event| event.message.is_some()).cloned().collect();
    let history: Vec<Seen> = client.history(room).iter().map(|message| seen(message).unwrap()).collect();
    assert_eq!(history, messages, "{room}: history and recovery tell different stories");
    events
}

/// The numbers of a sender's messages of a round, in the order of the room.
fn order_of(events: &[Seen], user: &str, round: usize) -> Vec<usize> {
    let prefix = format!("k{round}-");
    let own = events.iter().filter_map(|event| event.message.as_ref().filter(|(sender, _)| sender == user));
    own.filter_map(|(_, id)| id.strip_prefix(&prefix)?.parse().ok()).collect()
}

fn check(server: &Server, load: Load, round: usize) {
    let (senders, receivers) = load.finish();
    let mut auditor = Client::connect(server, "auditor");
    for (room, before, record) in &receivers {
        let events = stored(&mut auditor, room);
        let expected = &events[*before as usize..][..record.len()];
        assert_eq!(record, expected, "{room}: a receiver saw something else than what is stored");
    }
    for sent in senders {
        let before = stored(&mut auditor, &sent.room);
        for (id, (offset, message_id)) in &sent.acked {
            let event = &before[*offset as usize - 1];
            assert_eq!(event.id, *message_id, "{}: {id} was acknowledged at {offset}", sent.room);
            assert_eq!(event.message, Some((sent.user.clone(), id.clone())));
        }
        let acked: Vec<&String> = sent.ids.iter().take(sent.acked.len()).collect();
        assert!(sent.ack_order.iter().eq(acked), "acks in another order than the messages");
        let stored_count = order_of(&before, &sent.user, round).len();
        assert!(order_of(&before, &sent.user, round).into_iter().eq(0..stored_count), "a message overtook another");

        // What has no ack is sent again, and with it the last one that has.
        let mut client = Client::connect(server, &sent.user);
        client.join(&sent.room, None);
        for (number, id) in sent.ids.iter().enumerate().skip(sent.acked.len().saturating_sub(1)) {
            client.write(&message(
                id,
                "chat_message",
                &json!({"roomId": sent.room, "message": format!("text of {id}")}),
            ));
            let result = client.result(id).unwrap();
            assert_eq!(result["duplicate"], number < stored_count, "{id}");
            if let Some((offset, message_id)) = sent.acked.get(id) {
                assert_eq!(
                    (result["offset"].as_u64(), result["messageId"].as_str()),
                    (Some(*offset), Some(&**message_id))
                );
            }
        }
        let order = order_of(&stored(&mut auditor, &sent.room), &sent.user, round);
        assert!(order.into_iter().eq(0..sent.ids.len()), "not exactly once");
    }
}

#[test]
fn a_killed_server_has_lost_nothing_acknowledged() {
    let folder = Arc::new(TempDir::new().unwrap());
    let mut server = Server::start_in(folder.clone(), &settings());
    for round in 0..ROUNDS {
        let load = Load::start(&server, round);
        load.wait_for_acks(1 + random(200));
        thread::sleep(Duration::from_micros(random(150_000)));
        server.kill();
        server = Server::start_in(folder.clone(), &settings());
        check(&server, load, round);
    }
}

/// R-CONN-6: a second signal exits at once, losing nothing acknowledged.
#[test]
fn a_second_signal_exits_at_once() {
    let folder = Arc::new(TempDir::new().unwrap());
    let mut server = Server::start_in(folder.clone(), &settings());
    let load = Load::start(&server, 0);
    load.wait_for_acks(100);
    server.signal(&["TERM", "INT"]);
    assert_eq!(server.ended().code(), Some(130), "{}", server.log());
    drop(server);
    let server = Server::start_in(folder, &settings());
    check(&server, load, 0);
}
